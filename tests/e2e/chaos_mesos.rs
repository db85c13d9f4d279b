//! Rounds in which whatever stands between a spec and its processes dies at a random moment, while clusters of
//! all kinds are created, changed and deleted: controllers, executors, agents. After each round nothing was
//! launched twice, nothing is orphaned, nothing forgotten, and what runs is what the specs say.
//!
//! `OVERLORD_ROUNDS` says how many, `OVERLORD_TEST_SEED` which ones.

mod oracle;
mod strikes;
mod wanted;

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
use overlord_tests::{Options, Sandbox, eventually};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio_util::sync::CancellationToken;

use self::{
    oracle::{Watch, faults},
    strikes::Strikes,
    wanted::Wanted,
};
use crate::manifest::redis;

/// Rounds unless `OVERLORD_ROUNDS` says otherwise.
const ROUNDS: u64 = 4;

/// Milliseconds from the changes of a round to its first strike, at most: most of a create lies before.
const LONGEST: u64 = 2500;

/// Milliseconds between two strikes of a round, at most.
const BETWEEN: u64 = 1500;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[tokio::test]
async fn whatever_dies_at_any_moment_nothing_is_launched_twice_orphaned_or_forgotten() {
    let seed = number("OVERLORD_TEST_SEED", uuid::Uuid::new_v4().as_u64_pair().0);
    let rounds = number("OVERLORD_ROUNDS", ROUNDS);
    println!("OVERLORD_TEST_SEED={seed} OVERLORD_ROUNDS={rounds}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut sandbox = Sandbox::start(Options { controller: false, lease: 1, ..Options::default() }).await;
    let mut strikes = Strikes::new(sandbox.start_controller().await);
    let mut wanted = Wanted::default();
    let watch = Watch::start(&sandbox);
    for round in 0..rounds {
        for _ in 0..rng.random_range(1..=3) {
            println!("round {round}: {}", wanted.change(&sandbox, &mut rng).await);
        }
        let mut pause = rng.random_range(0..LONGEST);
        for _ in 0..rng.random_range(1..=3) {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let struck = strikes.strike(&mut sandbox, &watch, &mut rng).await;
            println!("round {round}: after {pause} ms {struck}");
            pause = rng.random_range(0..BETWEEN);
        }
        strikes.mend(&mut sandbox).await;
        wanted.reached(&sandbox, &format!("round {round}")).await;
        watch.assert_clean(&format!("round {round}"));
    }
    // And from whatever there is to nothing.
    wanted.delete_all(&sandbox).await;
    wanted.reached(&sandbox, "in the end").await;
    watch.assert_clean("in the end");
    drop(watch);
    strikes.end().await;
    sandbox.end().await;
}

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
    let watch = Watch::start(&sandbox);
    assert_eq!(faults(&sandbox, &infos).await, Vec::<String>::new());

    // A second process of a member: its folder says whose it is.
    let dir = sandbox.agent_data(6).join("redis/1");
    let member = sandbox.agent_data(sandbox.agent_at(&crate::manifest::address(&infos[0])));
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
