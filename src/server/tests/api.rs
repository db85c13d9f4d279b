//! The API over real sockets, on the in-memory store.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use overlord_api::{
    Cluster, ClusterName, Condition, ConditionType, DeletionMark, Engine, InstalledRules, Kind, Phase,
    Record, Revision, RuleFault, Rules, Status, Task, TaskKind, TaskState, TaskStatus, Truth, keys,
    parse_key,
};
use overlord_reconcile::SystemClock;
use overlord_server::{
    ApiConfig, ApiState, router, serve,
    view::{
        Applied, ApplyView, ClusterView, DeleteView, ErrorBody, ErrorCode, ErrorView, InstanceView, ListView,
        ReadyView, TaskView, VersionView, WatchLine,
    },
};
use overlord_store::{MemoryStore, Store, Txn};
use prometheus_client::registry::Registry;
use reqwest::{Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Every directive is fine but one.
struct SomeRules;

impl Rules for SomeRules {
    fn version(&self, _: Engine, _: &str) -> Result<(), RuleFault> {
        Ok(())
    }

    fn directive(&self, _: Kind, _: &str, name: &str, _: &str) -> Result<(), RuleFault> {
        if name == "forbidden" {
            Err(RuleFault::new("forbidden is not allowed").hint("leave it out"))
        } else {
            Ok(())
        }
    }
}

struct World {
    store: Arc<MemoryStore>,
    base: String,
    http: reqwest::Client,
    shutdown: CancellationToken,
    serving: tokio::task::JoinSet<std::io::Result<()>>,
}

impl World {
    async fn new() -> Self {
        Self::with(ApiConfig::default()).await
    }

    async fn with(config: ApiConfig) -> Self {
        let store = Arc::new(MemoryStore::new(Arc::new(SystemClock::new())));
        let seconds = AtomicI64::new(0);
        let now = move || Timestamp::from_second(seconds.fetch_add(1, Ordering::Relaxed)).unwrap();
        let catalogue = BTreeMap::from([
            (Engine::Redis, ["7.0.15".to_owned()].into()),
            (Engine::Memcache, ["1.6.18".to_owned()].into()),
        ]);
        let shutdown = CancellationToken::new();
        let state = ApiState::new(
            store.clone(),
            Arc::new(InstalledRules::new(Arc::new(SomeRules), catalogue.clone(), Kind::ALL)),
            Arc::new(now),
            catalogue,
            Arc::new(Registry::default()),
            shutdown.clone(),
        )
        .with_config(config);
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(serve(listener, router(state), shutdown.clone()));
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        Self { store, base, http, shutdown, serving }
    }

    async fn ask(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> (StatusCode, Vec<u8>) {
        let request = self.http.request(method, format!("{}{path}", self.base)).body(body);
        let response = request.header("content-type", "application/json").send().await.unwrap();
        (response.status(), response.bytes().await.unwrap().to_vec())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let (status, body) = self.ask(Method::GET, path, "").await;
        assert_eq!(status, StatusCode::OK, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    async fn refused(
        &self,
        method: Method,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> (StatusCode, ErrorView) {
        let (status, body) = self.ask(method, path, body).await;
        assert!(!status.is_success(), "{status}");
        let body: ErrorBody = serde_json::from_slice(&body).unwrap();
        (status, body.error)
    }

    async fn apply(&self, name: &str, manifest: &str) -> ApplyView {
        let path = format!("/v1/clusters/{name}");
        let (status, body) = self.ask(Method::PUT, &path, manifest.to_owned()).await;
        assert!(status.is_success(), "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    async fn put(&self, key: &str, value: &impl Serialize) {
        self.put_text(key, serde_json::to_vec(value).unwrap()).await;
    }

    async fn put_text(&self, key: &str, value: impl Into<Vec<u8>>) {
        self.store.commit(Txn::unfenced().put(key, value.into())).await.unwrap();
    }

    async fn value<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let listing = self.store.get(key).await.unwrap();
        listing.entries.first().map(|entry| serde_json::from_slice(&entry.value).unwrap())
    }

    /// What a leader writes once it has accepted a spec.
    async fn accept(&self, name: &ClusterName, manifest: &str) -> Record {
        let cluster: Cluster = parse_key(name, manifest.as_bytes(), &SomeRules).unwrap();
        let record = record(cluster.spec.shape.kind());
        let revision = Revision {
            version: overlord_api::VALUES_VERSION,
            revision: 1,
            config_revision: 1,
            accepted_at: Timestamp::UNIX_EPOCH,
            manifest: cluster.to_yaml(),
        };
        self.put(&keys::revision(name, 1), &revision).await;
        self.put(&keys::record(name), &record).await;
        record
    }
}

fn record(kind: Kind) -> Record {
    Record {
        version: 1,
        uid: "0".repeat(32),
        kind,
        formed: true,
        next_member: 2,
        revision: 1,
        config_revision: 1,
        born: 1,
        attempts: 2,
        framework: None,
        hold: None,
        deletion: None,
        tombstones: BTreeMap::new(),
        losses: BTreeMap::new(),
        generation: 0,
        restored: None,
    }
}

fn status(phase: Phase) -> Status {
    let condition = Condition {
        kind: ConditionType::Ready,
        status: Truth::True,
        reason: "AllServe".into(),
        message: "all members serve".into(),
        last_transition: Timestamp::UNIX_EPOCH,
        observed_revision: 1,
    };
    Status {
        version: 1,
        kind: Some(Kind::Redis),
        phase,
        revision: 1,
        config_revision: 1,
        conditions: vec![condition],
        counts: BTreeMap::new(),
        wanted: 2,
        ready: 2,
        updated: 2,
        outdated: 0,
        template: None,
    }
}

fn manifest(name: &str, shards: u32, more: &str) -> String {
    format!(
        "apiVersion: overlord/v1\nkind: Redis\nmetadata:\n  name: {name}\nspec:\n  version: \"7.0.15\"\n  shards: {shards}\n  \
         resources: {{cpu: \"0.1\", memory: 64Mi, disk: 64Mi}}\n{more}"
    )
}

fn orders() -> ClusterName {
    ClusterName::new("orders").unwrap()
}

#[tokio::test]
async fn a_manifest_is_created_then_unchanged_then_configured() {
    let world = World::new().await;
    let first = world.apply("orders", &manifest("orders", 2, "")).await;
    assert_eq!((first.result, first.kind), (Applied::Created, Kind::Redis));
    let writes = world.store.writes();
    let same = world.apply("orders", &format!("# a comment\n{}", manifest("orders", 2, ""))).await;
    assert_eq!((same.result, same.config_revision), (Applied::Unchanged, first.config_revision));
    assert_eq!(world.store.writes(), writes);
    let other = world.apply("orders", &manifest("orders", 3, "")).await;
    assert_eq!(other.result, Applied::Configured);
    assert!(other.config_revision > first.config_revision);
    let view: ClusterView = world.get("/v1/clusters/orders").await;
    assert_eq!(view.spec.unwrap(), manifest("orders", 3, ""));
    assert_eq!(view.config_revision, Some(other.config_revision));
}

#[tokio::test]
async fn a_faulty_manifest_is_refused_with_every_fault_and_its_place() {
    let world = World::new().await;
    let bad = manifest("orders", 2, "  config:\n    forbidden: \"1\"\n  unheard: of\n");
    let (status, error) = world.refused(Method::PUT, "/v1/clusters/orders", bad.clone()).await;
    assert_eq!((status, error.code), (StatusCode::UNPROCESSABLE_ENTITY, ErrorCode::Invalid));
    assert!(error.details.len() >= 2, "{:?}", error.details);
    let forbidden = error.details.iter().find(|fault| fault.message.contains("forbidden")).unwrap();
    assert_eq!(forbidden.line, 10);
    assert!(bad[forbidden.start..forbidden.end].contains("forbidden"), "{forbidden:?}");
    assert_eq!(forbidden.hint, "leave it out");
    let (_, error) = world.refused(Method::PUT, "/v1/clusters/other", manifest("orders", 2, "")).await;
    assert_eq!(error.code, ErrorCode::Invalid, "the name in the path must be the manifest's");
    assert!(world.store.get("/overlord/config/orders").await.unwrap().entries.is_empty());
}

#[tokio::test]
async fn a_version_outside_the_catalogue_is_refused_with_those_there_are() {
    let world = World::new().await;
    let other = manifest("orders", 2, "").replace("7.0.15", "6.2.14");
    let (_, error) = world.refused(Method::PUT, "/v1/clusters/orders", other).await;
    assert_eq!((error.details[0].path.as_str(), error.details[0].line), ("spec.version", 6));
    assert!(error.details[0].hint.contains("7.0.15"), "{error:?}");
}

#[tokio::test]
async fn a_kind_never_changes_while_the_cluster_lives() {
    let world = World::new().await;
    let mut record = world.accept(&orders(), &manifest("orders", 2, "")).await;
    let memcache = manifest("orders", 2, "").replace("Redis", "Memcache").replace("7.0.15", "1.6.18");
    let memcache = memcache.replace("shards", "instances");
    let (_, error) = world.refused(Method::PUT, "/v1/clusters/orders", memcache.clone()).await;
    assert_eq!((error.details[0].path.as_str(), error.details[0].line), ("kind", 2), "{error:?}");
    record.deletion =
        Some(DeletionMark { at: Timestamp::UNIX_EPOCH, by: "x".into(), config_revision: 0, done: true });
    world.put(&keys::record(&orders()), &record).await;
    assert_eq!(world.apply("orders", &memcache).await.result, Applied::Created);
}

#[tokio::test]
async fn a_deleted_cluster_is_created_again_by_the_text_that_is_still_there() {
    let world = World::new().await;
    let first = world.apply("orders", &manifest("orders", 2, "")).await;
    let mut record = world.accept(&orders(), &manifest("orders", 2, "")).await;
    assert_eq!(world.apply("orders", &manifest("orders", 2, "")).await.result, Applied::Unchanged);
    record.deletion = Some(DeletionMark {
        at: Timestamp::UNIX_EPOCH,
        by: "task x".into(),
        config_revision: first.config_revision,
        done: true,
    });
    world.put(&keys::record(&orders()), &record).await;
    let again = world.apply("orders", &manifest("orders", 2, "")).await;
    assert_eq!(again.result, Applied::Created);
    assert!(again.config_revision > first.config_revision);
    let view: ClusterView = world.get("/v1/clusters/orders").await;
    assert_eq!(view.config_revision, Some(again.config_revision));
}

#[tokio::test]
async fn if_match_guards_a_write() {
    let world = World::new().await;
    let first = world.apply("orders", &manifest("orders", 2, "")).await;
    let put = |revision: i64| {
        let request = world.http.put(format!("{}/v1/clusters/orders", world.base));
        request.header("if-match", format!("\"{revision}\"")).body(manifest("orders", 3, "")).send()
    };
    assert_eq!(put(first.config_revision - 1).await.unwrap().status(), StatusCode::PRECONDITION_FAILED);
    assert_eq!(put(first.config_revision).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_delete_removes_the_spec_and_asks_for_a_task_in_one_transaction() {
    let world = World::new().await;
    world.apply("orders", &manifest("orders", 2, "")).await;
    world.accept(&orders(), &manifest("orders", 2, "")).await;
    let before = world.store.get(keys::LEADER).await.unwrap().revision;
    let (status, body) = world.ask(Method::DELETE, "/v1/clusters/orders", "").await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let deleted: DeleteView = serde_json::from_slice(&body).unwrap();
    let after = world.store.get("/overlord/config/orders").await.unwrap();
    assert!(after.entries.is_empty());
    assert_eq!(after.revision, before + 1);
    let task: Task = world.value(&keys::task(&deleted.task.unwrap())).await.unwrap();
    assert_eq!((task.kind, task.cluster), (TaskKind::Destroy, orders()));
    let (status, _) = world.refused(Method::DELETE, "/v1/clusters/nothing", "").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_protected_cluster_is_not_deleted() {
    let world = World::new().await;
    let protected = manifest("orders", 2, "  deletion: {protected: true}\n");
    world.apply("orders", &protected).await;
    let (status, error) = world.refused(Method::DELETE, "/v1/clusters/orders", "").await;
    assert_eq!((status, error.code), (StatusCode::CONFLICT, ErrorCode::Protected));
    assert!(error.hint.contains("protected to false"), "{error:?}");
    // The text says so no more, but what runs is still the protected revision.
    world.accept(&orders(), &protected).await;
    world.apply("orders", &manifest("orders", 2, "")).await;
    let (_, error) = world.refused(Method::DELETE, "/v1/clusters/orders", "").await;
    assert_eq!(error.code, ErrorCode::Protected);
    let destroy = json!({"kind": "destroy", "cluster": "orders"}).to_string();
    let (_, error) = world.refused(Method::POST, "/v1/tasks", destroy).await;
    assert_eq!(error.code, ErrorCode::Protected);
}

#[tokio::test]
async fn a_spec_nobody_has_looked_at_is_deleted_without_a_task() {
    let world = World::new().await;
    world.apply("orders", &manifest("orders", 2, "")).await;
    world.put_text("/overlord/config/Bad Name", "x").await;
    for name in ["orders", "Bad%20Name"] {
        let (status, body) = world.ask(Method::DELETE, &format!("/v1/clusters/{name}"), "").await;
        assert!(status.is_success());
        assert_eq!(serde_json::from_slice::<DeleteView>(&body).unwrap().task, None);
    }
    let clusters: ListView<ClusterView> = world.get("/v1/clusters").await;
    assert_eq!(clusters.items, Vec::new());
}

#[tokio::test]
async fn what_cannot_be_read_is_told_in_its_place() {
    let world = World::new().await;
    let address = "127.0.0.1:20000".parse().unwrap();
    world.accept(&orders(), &manifest("orders", 2, "")).await;
    world.put_text(&keys::status(&orders()), "{\"version\":").await;
    world.put_text(&keys::info(&orders(), address), "no json").await;
    world.put_text(&keys::server_conf(&orders(), address), "port 20000").await;
    world.put_text("/overlord/config/Bad Name", "x").await;
    world.put_text(&keys::task("t1"), "[]").await;
    let clusters: ListView<ClusterView> = world.get("/v1/clusters").await;
    let names: Vec<&str> = clusters.items.iter().map(|view| view.name.as_str()).collect();
    assert_eq!(names, ["Bad Name", "orders"]);
    assert!(clusters.items[0].errors[0].contains("Bad Name"), "{:?}", clusters.items[0]);
    assert!(
        clusters.items[1].errors[0].starts_with("/overlord/clusters/orders/status: "),
        "{:?}",
        clusters.items[1]
    );
    let instances: ListView<InstanceView> = world.get("/v1/clusters/orders/instances").await;
    assert!(instances.items[0].error.as_ref().unwrap().contains("/info"), "{instances:?}");
    let tasks: ListView<TaskView> = world.get("/v1/tasks").await;
    assert!(tasks.items[0].errors[0].starts_with("/overlord/task/t1: "), "{tasks:?}");
    let view: ClusterView = world.get("/v1/clusters/orders").await;
    assert!(view.manifest.unwrap().contains("orders"));
}

#[tokio::test]
async fn tasks_are_asked_for_and_steered() {
    let world = World::new().await;
    world.apply("orders", &manifest("orders", 2, "")).await;
    let restart = json!({"kind": "restart", "cluster": "orders"}).to_string();
    let (status, body) = world.ask(Method::POST, "/v1/tasks", restart.clone()).await;
    assert_eq!(status, StatusCode::CREATED);
    let task: TaskView = serde_json::from_slice(&body).unwrap();
    assert!(task.task.unwrap().requested_at.is_some());
    let path = format!("/v1/tasks/{}", task.id);
    let (status, _) = world.ask(Method::PATCH, &path, json!({"desired": "pause"}).to_string()).await;
    assert_eq!(status, StatusCode::OK);
    let view: TaskView = world.get(&path).await;
    assert_eq!(view.task.unwrap().desired, overlord_api::TaskDesired::Pause);
    let done = TaskStatus {
        version: 1,
        state: TaskState::Done,
        revision: 1,
        phases: Vec::new(),
        wanted: 2,
        running: 2,
        started_at: None,
        finished_at: None,
        error: String::new(),
    };
    world.put(&keys::task_status(&task.id), &done).await;
    let (status, error) = world.refused(Method::PATCH, &path, json!({"desired": "abort"}).to_string()).await;
    assert_eq!((status, error.code), (StatusCode::CONFLICT, ErrorCode::Conflict));
    let unknown = json!({"kind": "restart", "cluster": "nobody"}).to_string();
    assert_eq!(world.refused(Method::POST, "/v1/tasks", unknown).await.0, StatusCode::NOT_FOUND);
    let nonsense = json!({"kind": "explode", "cluster": "orders"}).to_string();
    assert_eq!(world.refused(Method::POST, "/v1/tasks", nonsense).await.0, StatusCode::BAD_REQUEST);
    let (status, _) = world.refused(Method::PATCH, "/v1/tasks/a%2Fstatus", "{\"desired\":\"run\"}").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let plain = world.http.post(format!("{}/v1/tasks", world.base)).header("content-type", "text/plain");
    assert_eq!(plain.body(restart).send().await.unwrap().status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_task_that_waits_at_its_canary_is_promoted() {
    let world = World::new().await;
    world.apply("orders", &manifest("orders", 2, "")).await;
    let update = json!({"kind": "update", "cluster": "orders", "params": {"revision": "2"}}).to_string();
    let (_, body) = world.ask(Method::POST, "/v1/tasks", update).await;
    let id = serde_json::from_slice::<TaskView>(&body).unwrap().id;
    let path = format!("/v1/tasks/{id}");
    let writes = world.store.writes();
    let promote = json!({"desired": "run", "promote": true});
    for nothing in [json!({"desired": "run"}), json!({"desired": "run", "promote": false}), promote] {
        let (status, _) = world.ask(Method::PATCH, &path, nothing.to_string()).await;
        assert_eq!((status, world.store.writes()), (StatusCode::OK, writes), "it runs already");
    }
    let waiting = TaskStatus {
        version: 1,
        state: TaskState::Paused,
        revision: 2,
        phases: Vec::new(),
        wanted: 2,
        running: 2,
        started_at: None,
        finished_at: None,
        error: "Canary: 1 members are changed".to_owned(),
    };
    let status = serde_json::to_vec(&waiting).unwrap();
    world.store.commit(Txn::unfenced().put(keys::task_status(&id), status)).await.unwrap();
    let writes = world.store.writes();
    for _ in 0..2 {
        let promotion = json!({"desired": "run", "promote": true}).to_string();
        let (status, body) = world.ask(Method::PATCH, &path, promotion).await;
        assert_eq!((status, world.store.writes()), (StatusCode::OK, writes + 1), "promoted once");
        let task = serde_json::from_slice::<TaskView>(&body).unwrap().task.unwrap();
        let stored: Task = world.value(&keys::task(&id)).await.unwrap();
        assert_eq!(stored, task);
        let expected = [("promote", "true"), ("revision", "2")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(stored.params, BTreeMap::from(expected));
    }
}

/// Reads lines of a watch until `enough`.
async fn lines<T: DeserializeOwned>(
    response: &mut reqwest::Response,
    buffer: &mut Vec<u8>,
    enough: impl Fn(&WatchLine<T>) -> bool,
) -> Vec<WatchLine<T>> {
    let mut lines = Vec::new();
    loop {
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            lines.push(serde_json::from_slice(&line).unwrap());
            if enough(lines.last().unwrap()) {
                return lines;
            }
        }
        buffer.extend_from_slice(&response.chunk().await.unwrap().expect("the watch ended"));
    }
}

#[tokio::test]
async fn a_watch_lists_then_tells_each_change_once() {
    let world = World::new().await;
    world.apply("orders", &manifest("orders", 2, "")).await;
    let mut response = world.http.get(format!("{}/v1/clusters?watch=true", world.base)).send().await.unwrap();
    let mut buffer = Vec::new();
    let first = lines::<ClusterView>(&mut response, &mut buffer, |line| *line == WatchLine::Synced).await;
    assert!(matches!(&first[0], WatchLine::Put { id, .. } if id == "orders"));
    // Neither another key of the cluster nor the same value again changes what is shown.
    let address = "127.0.0.1:20000".parse().unwrap();
    world.put_text(&keys::server_conf(&orders(), address), "port 20000").await;
    world.put(&keys::status(&orders()), &status(Phase::Creating)).await;
    world.put(&keys::status(&orders()), &status(Phase::Creating)).await;
    world.put(&keys::status(&orders()), &status(Phase::Ready)).await;
    let ready = |line: &WatchLine<ClusterView>| {
        matches!(line, WatchLine::Put { object, .. }
            if object.status.as_ref().is_some_and(|status| status.phase == Phase::Ready))
    };
    let changes = lines(&mut response, &mut buffer, ready).await;
    assert!(changes.len() <= 2, "{changes:?}");
    world.ask(Method::DELETE, "/v1/clusters/orders", "").await;
    world.store.commit(Txn::unfenced().delete_prefix("/overlord/clusters/")).await.unwrap();
    let gone = |line: &WatchLine<ClusterView>| matches!(line, WatchLine::Delete { id } if id == "orders");
    lines(&mut response, &mut buffer, gone).await;
}

#[tokio::test]
async fn watches_are_counted_and_end_with_the_server() {
    let mut world = World::with(ApiConfig { max_watches: 1, ..ApiConfig::default() }).await;
    let url = format!("{}/v1/tasks?watch=true", world.base);
    let mut first = world.http.get(&url).send().await.unwrap();
    assert_eq!(world.http.get(&url).send().await.unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
    world.shutdown.cancel();
    while first.chunk().await.unwrap().is_some() {}
    world.serving.join_next().await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn limits_and_borders_answer_in_json() {
    let world = World::with(ApiConfig { max_body: 1024, ..ApiConfig::default() }).await;
    let (status, error) = world.refused(Method::PUT, "/v1/clusters/orders", "x".repeat(2000)).await;
    assert_eq!((status, error.code), (StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge));
    assert_eq!(world.refused(Method::GET, "/nowhere", "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.refused(Method::GET, "/v1/nowhere", "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.refused(Method::POST, "/v1/clusters", "").await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(world.refused(Method::GET, "/v1/clusters?wotch=true", "").await.0, StatusCode::BAD_REQUEST);
    let foreign = world.http.get(format!("{}/v1/clusters", world.base)).header("host", "evil.example");
    assert_eq!(foreign.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    let ready = world.get::<ReadyView>("/readyz").await;
    assert_eq!((ready.ready, ready.leader), (true, None));
    assert_eq!(world.get::<VersionView>("/version").await.api, "v1");
    let (status, metrics) = world.ask(Method::GET, "/metrics", "").await;
    assert_eq!((status, metrics.as_slice()), (StatusCode::OK, b"# EOF\n".as_slice()));
    world.store.set_unavailable(true);
    assert_eq!(world.ask(Method::GET, "/readyz", "").await.0, StatusCode::SERVICE_UNAVAILABLE);
    let (status, _) = world.ask(Method::GET, "/healthz", "").await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn senders_that_do_not_finish_hold_up_nobody_else() {
    use tokio::io::AsyncWriteExt as _;
    let world = World::with(ApiConfig { max_requests: 2, ..ApiConfig::default() }).await;
    let address = world.base.strip_prefix("http://").unwrap().to_owned();
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut connection = tokio::net::TcpStream::connect(&address).await.unwrap();
        let head = "PUT /v1/clusters/c HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx";
        connection.write_all(head.as_bytes()).await.unwrap();
        slow.push(connection);
    }
    for path in ["/v1/clusters", "/healthz"] {
        // Far below the time that an unfinished body is waited for.
        let answer = tokio::time::timeout(Duration::from_secs(4), world.ask(Method::GET, path, "")).await;
        assert_eq!(answer.unwrap().0, StatusCode::OK, "{path}");
    }
    drop(slow);
}
