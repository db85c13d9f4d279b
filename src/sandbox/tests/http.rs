//! The HTTP front with the real client, and its refusals with a plain one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use common::{Framework, agent, shell};
use futures::StreamExt as _;
use overlord_mesos::{
    ExecutorTransport as _, HttpConfig, HttpExecutor, HttpScheduler,
    v1::{TaskState, executor},
};
use overlord_sandbox::{Mesos, MesosConfig, Processes, RunningMesos, Session};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

struct Sandbox {
    running: RunningMesos,
    processes: Arc<Processes>,
    shutdown: CancellationToken,
    /// Removed with the sandbox.
    dir: Option<tempfile::TempDir>,
}

impl Sandbox {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut sandbox = Self::at(dir.path()).await;
        sandbox.dir = Some(dir);
        sandbox
    }

    async fn at(dir: &Path) -> Self {
        let agents = vec![agent("a", IpAddr::from([127, 0, 0, 1]), &dir.join("work"))];
        let mut config = MesosConfig::new(agents, 5);
        config.state_dir = Some(dir.to_owned());
        config.ping_timeout = Duration::from_millis(500);
        config.timings.reregistration = Duration::from_millis(500);
        let processes = Arc::new(Processes::new(None));
        let shutdown = CancellationToken::new();
        let launcher = Arc::clone(&processes);
        let running = Mesos::start_http(config, launcher, shutdown.clone()).await.unwrap();
        Self { running, processes, shutdown, dir: None }
    }

    fn scheduler(&self) -> HttpScheduler {
        HttpScheduler::new([self.running.master_addr.to_string()], HttpConfig::default()).unwrap()
    }

    fn executor(&self) -> HttpExecutor {
        HttpExecutor::new(&self.running.agents["a"].to_string(), HttpConfig::default()).unwrap()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.running.stopped().await;
        self.processes.shutdown(Duration::from_secs(5)).await;
        drop(self.dir);
    }
}

fn executor_call(framework: &str, mut body: Value) -> executor::Call {
    body["framework_id"] = json!({"value": framework});
    body["executor_id"] = json!({"value": "t-executor"});
    serde_json::from_value(body).unwrap()
}

const UUID: &str = "AAAAAAAAAAAAAAAAAAAAAA==";

#[tokio::test]
async fn a_task_runs_over_http_from_offer_to_the_end_of_its_executor() {
    let sandbox = Sandbox::start().await;
    let mut framework = Framework::subscribe(sandbox.scheduler(), None).await;
    let offer = framework.offers().await.remove(0);
    framework.launch(&offer, "t", shell("exec sleep 1000")).await;

    let executor = sandbox.executor();
    let id = framework.id.as_str().to_owned();
    let subscribe = executor_call(&id, json!({"type": "SUBSCRIBE", "subscribe": {}}));
    let mut events = executor.subscribe(&subscribe).await.unwrap();
    let mut next = async || tokio::time::timeout(Duration::from_secs(20), events.next()).await.unwrap();
    assert_eq!(next().await.unwrap().unwrap().kind, executor::EventType::Subscribed);
    let launched = next().await.unwrap().unwrap().launch.unwrap().task;
    let status = json!({"task_id": launched.task_id, "state": "TASK_RUNNING", "source": "SOURCE_EXECUTOR", "uuid": UUID});
    let update = executor_call(&id, json!({"type": "UPDATE", "update": {"status": status}}));
    executor.call(&update).await.unwrap();
    assert_eq!(next().await.unwrap().unwrap().kind, executor::EventType::Acknowledged);
    let status = framework.status().await;
    assert_eq!((status.state, status.uuid.as_deref()), (TaskState::Running, Some(UUID)));
    framework.acknowledge(&status).await;

    let pid = sandbox.running.mesos.agents()[0].containers[0].1.unwrap();
    Session::of_leader(pid).unwrap().signal(rustix::process::Signal::KILL);
    let failure = framework.find(overlord_mesos::v1::scheduler::EventType::Failure).await.failure.unwrap();
    assert_eq!(failure.status, Some(9));
    assert_eq!(framework.status().await.state, TaskState::Failed);
    assert!(next().await.is_none());
    sandbox.stop().await;
}

#[tokio::test]
async fn a_lost_agent_refuses_connections_until_it_returns() {
    let sandbox = Sandbox::start().await;
    let mut framework = Framework::subscribe(sandbox.scheduler(), None).await;
    let offer = framework.offers().await.remove(0);
    framework.launch(&offer, "t", shell("exec sleep 1000")).await;
    let executor = sandbox.executor();
    let id = framework.id.as_str().to_owned();
    let subscribe = executor_call(&id, json!({"type": "SUBSCRIBE", "subscribe": {}}));
    let mut events = executor.subscribe(&subscribe).await.unwrap();
    let _subscribed = events.next().await.unwrap().unwrap();
    let launched = events.next().await.unwrap().unwrap().launch.unwrap().task;
    let again = json!({"type": "SUBSCRIBE", "subscribe": {"unacknowledged_tasks": [launched]}});
    let subscribe = executor_call(&id, again);

    sandbox.running.mesos.agent_lost("a");
    let ended = async { while let Some(Ok(_)) = events.next().await {} };
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
    assert!(matches!(
        executor.subscribe(&subscribe).await,
        Err(overlord_mesos::TransportError::Unavailable { .. })
    ));
    assert_eq!(framework.status().await.state, TaskState::Unreachable);

    sandbox.running.mesos.agent_return("a");
    let back = async {
        loop {
            match executor.subscribe(&subscribe).await {
                Ok(events) => break events,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let _events = tokio::time::timeout(Duration::from_secs(10), back).await.unwrap();
    let status = framework.status().await;
    assert_eq!(status.reason.as_deref(), Some("REASON_AGENT_REREGISTERED"));
    sandbox.stop().await;
}

#[tokio::test]
async fn a_scheduler_that_closes_its_connection_is_disconnected() {
    let sandbox = Sandbox::start().await;
    let framework = Framework::subscribe(sandbox.scheduler(), None).await;
    assert!(sandbox.running.mesos.frameworks()[0].connected);
    drop(framework);
    let noticed = async {
        while sandbox.running.mesos.frameworks()[0].connected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), noticed).await.unwrap();
    sandbox.stop().await;
}

#[tokio::test]
async fn a_restarted_sandbox_knows_its_framework_and_fails_what_ran() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::at(dir.path()).await;
    let mut framework = Framework::subscribe(sandbox.scheduler(), None).await;
    let offer = framework.offers().await.remove(0);
    framework.launch(&offer, "t", shell("exec sleep 1000")).await;
    let id = framework.id.clone();
    sandbox.stop().await;

    let sandbox = Sandbox::at(dir.path()).await;
    let mut framework = Framework::subscribe(sandbox.scheduler(), Some(&id)).await;
    assert_eq!(framework.id, id);
    assert_eq!(framework.offers().await[0].agent_id, offer.agent_id);
    let status = framework.status().await;
    assert_eq!((status.state, status.message.as_deref()), (TaskState::Failed, Some("Executor terminated")));
    sandbox.stop().await;
}

#[tokio::test]
async fn broken_requests_are_answered_as_by_a_real_master() {
    let sandbox = Sandbox::start().await;
    let client = reqwest::Client::new();
    let base = format!("http://{}", sandbox.running.master_addr);
    let url = format!("{base}/api/v1/scheduler");
    let json = "application/json";
    let missing = "Failed to convert JSON into Call protobuf: Missing required fields: subscribe.framework_info.user, \
                   subscribe.framework_info.name";
    let cases = [
        (
            Some("application/json; charset=utf-8"),
            "{}",
            415,
            "Expecting 'Content-Type' of application/json or application/x-protobuf",
        ),
        (None, "{}", 400, "Expecting 'Content-Type' to be present"),
        (Some("application/x-protobuf"), "{}", 400, "Failed to parse body into Call protobuf"),
        (Some(json), r#"{"type": "#, 400, "Failed to parse body into JSON: syntax error at line 1 near: "),
        (Some(json), "", 400, "Failed to parse body into JSON: syntax error at line 1 near: "),
        (Some(json), "[]", 400, "Failed to convert JSON into Call protobuf: Expecting a JSON object"),
        (Some(json), "{}", 400, "Failed to validate scheduler::Call: Expecting 'type' to be present"),
        (Some(json), r#"{"type": "SUBSCRIBE", "subscribe": {"framework_info": {}}}"#, 400, missing),
        (
            Some(json),
            r#"{"type": "REVIVE", "bogus": 1, "framework_id": {"value": "x"}}"#,
            400,
            "Framework cannot be found",
        ),
        (
            Some(json),
            r#"{"type": "REQUEST", "request": {}, "framework_id": {"value": "x"}}"#,
            400,
            "Framework cannot be found",
        ),
    ];
    for (content_type, body, status, text) in cases {
        let mut request = client.post(&url).body(body);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
        assert_eq!(
            (answer.status().as_u16(), answer.text().await.unwrap().as_str()),
            (status, text),
            "{body}"
        );
    }
    let answer = client.get(&url).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["allow"]), (405, &"POST".parse().unwrap()));
    let text = "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'.";
    assert_eq!(answer.text().await.unwrap(), text);
    let subscribe =
        json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "", "name": "x"}}}).to_string();
    let request =
        client.post(&url).header("content-type", json).header("accept", "text/html").body(subscribe);
    assert_eq!(request.send().await.unwrap().status().as_u16(), 406);
    for (path, status) in
        [("/health", 200), ("/master/health", 200), ("/version", 200), ("/state", 200), ("/state.json", 404)]
    {
        assert_eq!(
            client.get(format!("{base}{path}")).send().await.unwrap().status().as_u16(),
            status,
            "{path}"
        );
    }
    sandbox.stop().await;
}

#[tokio::test]
async fn the_stream_is_chunked_recordio_with_a_stream_id_and_works_with_aliases() {
    let sandbox = Sandbox::start().await;
    let url = format!("http://{}/master/api/v1/scheduler/", sandbox.running.master_addr);
    let body = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "root", "name": "x"}}})
        .to_string();
    let request = reqwest::Client::new().post(url).header("content-type", "application/json").body(body);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["transfer-encoding"], "chunked");
    assert_eq!(answer.headers()["mesos-stream-id"].len(), 36);
    let first = answer.bytes_stream().next().await.unwrap().unwrap();
    let text = String::from_utf8(first.to_vec()).unwrap();
    let (length, record) = text.split_once('\n').unwrap();
    let record = &record[..length.parse().unwrap()];
    assert_eq!(serde_json::from_str::<Value>(record).unwrap()["type"], "SUBSCRIBED");
    sandbox.stop().await;
}
