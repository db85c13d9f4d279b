//! The oracles themselves: fed with what must not be, they say so.

use std::{path::Path, process::Stdio, time::Duration};

use overlord_mesos::{
    HttpConfig, HttpScheduler, SchedulerConfig, SchedulerEvent,
    resources::{self, Request},
    scheduler,
    v1::{
        CommandInfo, ExecutorId, ExecutorInfo, ExecutorType, TaskId, TaskInfo,
        scheduler::{Launch, Operation, OperationType},
    },
};
use overlord_tests::{
    Authors, Options, Sandbox, Watch, eventually, faults,
    manifest::{address, redis},
    tap::Tape,
};
use tokio_util::sync::CancellationToken;

use crate::run::written_since;

/// A server that nobody launched, in the folder of an agent, beside one that is recorded.
fn stray_server(dir: &Path) -> tokio::process::Child {
    std::fs::create_dir_all(dir).unwrap();
    let socket = dir.join("s").display().to_string();
    tokio::process::Command::new("redis-server")
        .args(["--port", "0", "--unixsocket", &socket, "--save", ""])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Subscribes as somebody else and launches a task that never comes to life.
async fn stray_task(sandbox: &Sandbox, id: &str) {
    let transport = HttpScheduler::new([sandbox.master()], HttpConfig::default()).unwrap();
    let config = SchedulerConfig::new("root", "stray", vec!["*".to_owned()], Duration::from_secs(3600));
    let (handle, driver, mut events) = scheduler(config, std::sync::Arc::new(transport), 1);
    let shutdown = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(driver.run(shutdown.clone()));
    while let Some(event) = events.recv().await {
        let SchedulerEvent::Offers { offers, .. } = event else { continue };
        let own = Request { cpus: 0.1, mem: 32.0, ..Request::default() };
        let carved = resources::carve(&offers[0].resources, &own, &own).unwrap();
        let command = CommandInfo {
            shell: Some(false),
            value: Some("/bin/sleep".to_owned()),
            arguments: vec!["sleep".to_owned(), "60".to_owned()],
            ..CommandInfo::default()
        };
        let executor = ExecutorInfo {
            kind: Some(ExecutorType::Custom),
            executor_id: ExecutorId::new(id),
            command: Some(command),
            resources: carved.executor,
            ..ExecutorInfo::default()
        };
        let task = TaskInfo {
            name: "stray".to_owned(),
            task_id: TaskId::new(id),
            agent_id: offers[0].agent_id.clone(),
            resources: carved.task,
            executor: Some(executor),
            ..TaskInfo::default()
        };
        let launch = Operation {
            kind: OperationType::Launch,
            launch: Some(Launch { task_infos: vec![task] }),
            ..Operation::default()
        };
        handle.accept(vec![offers[0].id.clone()], vec![launch], 0.0).await.unwrap();
        shutdown.cancel();
        while tasks.join_next().await.is_some() {}
        return;
    }
    panic!("the stray framework got no offer");
}

#[tokio::test]
async fn the_oracle_reports_a_process_and_a_task_that_nobody_recorded() {
    let mut sandbox = Sandbox::start(Options { controller: false, lease: 1, ..Options::default() }).await;
    let controller = sandbox.start_controller().await;
    sandbox.apply(&redis("orders", 2, "")).await;
    sandbox.settled(&["orders"]).await;
    let infos = sandbox.infos("orders").await;
    let watch = Watch::start(&sandbox, &[]);
    assert_eq!(faults(&sandbox, &infos).await, Vec::<String>::new());

    // A second process of a member: its folder says whose it is.
    let dir = sandbox.agent_data(6).join("redis/1");
    let member = sandbox.agent_data(sandbox.agent_at(&address(&infos[0])));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::copy(member.join(format!("redis/{}/meta.toml", infos[0]["port"])), dir.join("meta.toml"))
        .unwrap();
    let stray = stray_server(&dir);
    eventually("two processes of one member are reported", || async {
        let twins = watch.violations();
        if twins.iter().any(|twin| twin.contains("two processes")) { Ok(()) } else { Err(twins) }
    })
    .await;
    let told = faults(&sandbox, &infos).await;
    assert!(told.iter().any(|fault| fault.contains("in no record")), "{told:?}");
    drop(stray);

    // A second task of a member, and one of nobody.
    let uid = &infos[0]["uid"].as_str().unwrap()[..8];
    for id in [format!("{uid}.0.7.7"), "nobody".to_owned()] {
        stray_task(&sandbox, &id).await;
        let told = faults(&sandbox, &infos).await;
        assert!(told.iter().any(|fault| fault.contains(&id)), "{id}: {told:?}");
    }
    eventually("two tasks of one member are reported", || async {
        let twins = watch.violations();
        if twins.iter().any(|twin| twin.contains("two tasks")) { Ok(()) } else { Err(twins) }
    })
    .await;
    // And one that is missing.
    let recorded = infos[1]["mesosTaskId"].as_str().unwrap();
    let mut more = infos.clone();
    more[1]["mesosTaskId"] = "never-launched".into();
    let told = faults(&sandbox, &more).await;
    assert!(told.iter().any(|fault| fault.contains("never-launched")), "{told:?}");
    assert!(told.iter().any(|fault| fault.contains(recorded)), "{told:?}");
    drop(watch);
    controller.stop().await;
    sandbox.end().await;
}

#[tokio::test]
async fn a_write_by_somebody_else_than_the_leader_is_reported() {
    let mut sandbox = Sandbox::start(Options { controller: false, lease: 2, ..Options::default() }).await;
    let tape = Tape::default();
    let authors = Authors::start(&sandbox, &tape).await;
    let tapped = sandbox.spawn_tapped(&tape).await;
    sandbox.wait_leader().await;
    sandbox.declare(&redis("orders", 1, "")).await;
    sandbox.settled(&["orders"]).await;
    let verdict = authors.verdict(&sandbox).await;
    assert_eq!(verdict.violations, Vec::<String>::new());
    assert!(verdict.counts.writes > 0 && verdict.counts.launched == 1, "{:?}", verdict.counts);

    // While it leads, and when nobody does.
    let before = sandbox.etcd_revision().await;
    sandbox.etcdctl(&["put", "/overlord/quarantine/10.0.0.1:1", "{}"]).await;
    let told = authors.verdict(&sandbox).await.violations;
    assert!(told.len() == 1 && told[0].ends_with("by nobody"), "{told:?}");
    // What keeps the world from being quiet is told by its key.
    assert!(written_since(&authors, before).contains(&"/overlord/quarantine/10.0.0.1:1".to_owned()));
    tapped.controller.stop().await;
    sandbox.etcdctl(&["put", "/overlord/framework", "x"]).await;
    let told = authors.verdict(&sandbox).await.violations;
    assert!(told.iter().any(|told| told.contains("/overlord/framework changes at")), "{told:?}");
    assert!(told.iter().any(|told| told.contains("while nobody leads")), "{told:?}");
    sandbox.end().await;
}
