//! `/readyz`, `/v1/controllers`, `/v1/leader` and the warning while nobody leads, over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use overlord_api::{
    Leader, MesosStanding, MesosState, Registration, Role, Standing, StoreMark, StoreWentBack, keys,
};
use overlord_reconcile::SystemClock;
use overlord_server::{
    WARNING, router, serve,
    view::{ControllerView, ErrorBody, ErrorCode, ListView, ReadyView, StoreAccept, StoreView},
};
use overlord_store::{MemoryStore, Store, Txn};
use reqwest::{Response, StatusCode};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

mod common;

/// One etcd, and controllers that say of themselves what the test wants.
struct World {
    store: Arc<MemoryStore>,
    http: reqwest::Client,
    shutdown: CancellationToken,
    serving: tokio::task::JoinSet<std::io::Result<()>>,
}

struct Controller {
    base: String,
    standing: Arc<Mutex<Standing>>,
}

impl Controller {
    fn change(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.standing.lock().unwrap());
    }
}

impl World {
    fn new() -> Self {
        Self {
            store: Arc::new(MemoryStore::new(Arc::new(SystemClock::new()))),
            http: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap(),
            shutdown: CancellationToken::new(),
            serving: tokio::task::JoinSet::new(),
        }
    }

    async fn controller(&mut self, id: &str) -> Controller {
        let standing = Arc::new(Mutex::new(Standing {
            id: id.to_owned(),
            role: Role::Standby,
            since: Timestamp::UNIX_EPOCH,
            epoch: None,
            synced: true,
            stale_since: None,
            leader: None,
            no_leader_since: None,
            mesos: None,
            store_went_back: None,
        }));
        let told = Arc::clone(&standing);
        let state = common::state(self.store.clone(), self.shutdown.clone())
            .with_standing(Arc::new(move || told.lock().unwrap().clone()));
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        self.serving.spawn(serve(listener, router(state), self.shutdown.clone()));
        let registration = Registration {
            version: 1,
            id: id.to_owned(),
            api: base.clone(),
            program: "1.0".to_owned(),
            since: Timestamp::UNIX_EPOCH,
        };
        self.put(&keys::controller(id), serde_json::to_vec(&registration).unwrap()).await;
        Controller { base, standing }
    }

    async fn put(&self, key: &str, value: Vec<u8>) {
        self.store.commit(Txn::unfenced().put(key, value)).await.unwrap();
    }

    /// The key says so, and the controller too.
    async fn leads(&self, leader: &Controller) {
        let id = leader.standing.lock().unwrap().id.clone();
        self.put(keys::LEADER, serde_json::to_vec(&Leader::new(id, leader.base.clone())).unwrap()).await;
        leader.change(|standing| {
            standing.role = Role::Leader;
            standing.epoch = Some(7);
            standing.mesos =
                Some(MesosStanding { state: MesosState::Subscribed, since: None, message: String::new() });
        });
    }

    async fn get(&self, of: &Controller, path: &str) -> Response {
        self.http.get(format!("{}{path}", of.base)).send().await.unwrap()
    }

    async fn ready(&self, of: &Controller) -> (StatusCode, ReadyView) {
        let response = self.get(of, "/readyz").await;
        (response.status(), response.json().await.unwrap())
    }
}

fn failing(view: &ReadyView) -> Vec<&str> {
    view.checks.iter().filter(|check| !check.ok).map(|check| check.name.as_str()).collect()
}

#[tokio::test]
async fn controllers_are_listed_the_leader_first() {
    let mut world = World::new();
    let a = world.controller("a").await;
    let b = world.controller("b").await;
    world.put(&keys::controller("c"), b"nonsense".to_vec()).await;
    world.leads(&b).await;
    let list: ListView<ControllerView> = world.get(&a, "/v1/controllers").await.json().await.unwrap();
    let rows: Vec<_> =
        list.items.iter().map(|view| (view.id.as_str(), view.role, view.api.clone())).collect();
    assert_eq!(
        rows,
        [
            ("b", Role::Leader, Some(b.base.clone())),
            ("a", Role::Standby, Some(a.base.clone())),
            ("c", Role::Standby, None)
        ]
    );
    assert!(list.items[0].epoch.is_some() && list.items[1].epoch.is_none());
    assert!(list.items[2].error.as_ref().unwrap().contains("/overlord/controllers/c"));
}

#[tokio::test]
async fn a_follower_passes_on_what_only_the_leader_knows_and_only_once() {
    let mut world = World::new();
    let leader = world.controller("leader").await;
    let follower = world.controller("follower").await;
    world.leads(&leader).await;
    for asked in [&leader, &follower] {
        let standing: Standing = world.get(asked, "/v1/leader").await.json().await.unwrap();
        assert_eq!((standing.id.as_str(), standing.epoch), ("leader", Some(7)));
    }
    // The key names one that does not lead (any more): the two would ask each other for ever.
    leader.change(|standing| standing.role = Role::Standby);
    let response = world.get(&leader, "/v1/leader").await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    let body: ErrorBody = response.json().await.unwrap();
    assert_eq!(body.error.code, ErrorCode::LeaderUnreachable);
}

#[tokio::test]
async fn a_leader_that_accepts_and_never_answers_is_not_waited_for() {
    let mut world = World::new();
    let follower = world.controller("follower").await;
    let deaf = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let leader = Leader::new("deaf", format!("http://{}", deaf.local_addr().unwrap()));
    world.put(keys::LEADER, serde_json::to_vec(&leader).unwrap()).await;
    let response = world.get(&follower, "/v1/leader").await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    let body: ErrorBody = response.json().await.unwrap();
    assert!(body.error.message.contains("deaf is asked at"), "{}", body.error.message);
    let (status, view) = world.ready(&follower).await;
    assert_eq!((status, failing(&view)), (StatusCode::OK, vec!["mesos"]));
}

#[tokio::test]
async fn readiness_tells_of_each_part_and_asks_for_etcd_alone() {
    let mut world = World::new();
    let leader = world.controller("leader").await;
    let follower = world.controller("follower").await;
    let (status, view) = world.ready(&follower).await;
    assert_eq!((status, view.ready, failing(&view)), (StatusCode::OK, true, vec!["leader"]));

    world.leads(&leader).await;
    for (controller, role) in [(&leader, Role::Leader), (&follower, Role::Standby)] {
        let (status, view) = world.ready(controller).await;
        assert_eq!((status, failing(&view)), (StatusCode::OK, vec![]));
        assert_eq!((view.role, view.leader.as_deref()), (Some(role), Some("leader")));
        let names: Vec<&str> = view.checks.iter().map(|check| check.name.as_str()).collect();
        assert_eq!(names, ["etcd", "view", "leader", "mesos"]);
    }

    leader.change(|standing| {
        standing.stale_since = Some(Timestamp::UNIX_EPOCH);
        standing.mesos = Some(MesosStanding {
            state: MesosState::Unreachable,
            since: Some(Timestamp::UNIX_EPOCH),
            message: "connection refused".to_owned(),
        });
    });
    let (status, view) = world.ready(&follower).await;
    assert_eq!((status, failing(&view)), (StatusCode::OK, vec!["mesos"]));
    assert_eq!(view.checks[3].message, "unreachable since 1970-01-01T00:00:00Z: connection refused");
    assert_eq!(failing(&world.ready(&leader).await.1), ["view", "mesos"]);

    world.store.set_unavailable(true);
    let (status, view) = world.ready(&follower).await;
    assert_eq!((status, view.ready, failing(&view)), (StatusCode::SERVICE_UNAVAILABLE, false, vec!["etcd"]));
}

#[tokio::test]
async fn answers_carry_a_warning_while_nobody_leads() {
    let mut world = World::new();
    let follower = world.controller("follower").await;
    let warned =
        |response: &Response| response.headers().get(WARNING).map(|text| text.to_str().unwrap().to_owned());
    assert_eq!(warned(&world.get(&follower, "/v1/clusters").await), None);
    follower.change(|standing| standing.no_leader_since = Some(Timestamp::UNIX_EPOCH));
    let warning = warned(&world.get(&follower, "/v1/clusters").await).unwrap();
    assert!(warning.starts_with("no controller leads since 1970-01-01T00:00:00Z"), "{warning}");
}

async fn accept(world: &World, of: &Controller, generation: u64) -> Result<StoreView, ErrorBody> {
    let request = world.http.post(format!("{}/v1/store/accept", of.base));
    let response = request.json(&StoreAccept { generation }).send().await.unwrap();
    if response.status().is_success() {
        Ok(response.json().await.unwrap())
    } else {
        Err(response.json().await.unwrap())
    }
}

#[tokio::test]
async fn a_store_that_went_back_is_shown_by_every_controller_and_accepted_once() {
    let mut world = World::new();
    let (leader, follower) = (world.controller("leader").await, world.controller("follower").await);
    world.leads(&leader).await;
    for key in
        ["/overlord/config/orders", "/overlord/clusters/orders/record", "/overlord/clusters/late/record"]
    {
        world.put(key, b"{}".to_vec()).await;
    }
    let view = async |of| world.get(of, "/v1/store").await.json::<StoreView>().await.unwrap();
    assert_eq!(view(&leader).await.went_back, None);
    let refused = accept(&world, &leader, 1).await.unwrap_err().error;
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.message.contains("nothing to accept"), "{refused:?}");

    let mark = |revision| StoreMark { generation: 0, revision };
    let back = StoreWentBack { known: mark(900), found: mark(9) };
    leader.change(|standing| standing.store_went_back = Some(back));
    for of in [&leader, &follower] {
        let seen = view(of).await;
        assert_eq!((seen.went_back, seen.next_generation), (Some(back), Some(1)));
        assert_eq!((seen.declared, seen.undeclared), (vec!["orders".to_owned()], vec!["late".to_owned()]));
    }
    let refused = accept(&world, &follower, 2).await.unwrap_err().error;
    assert_eq!(refused.code, ErrorCode::Conflict);
    let accepted = accept(&world, &follower, 1).await.unwrap();
    assert_eq!(accepted.generation, 1);
    let value = world.store.get(keys::GENERATION).await.unwrap();
    assert_eq!(&*value.entries[0].value, b"1");
    // The controllers look in a moment.
    let refused = accept(&world, &leader, 1).await.unwrap_err().error;
    assert!(refused.message.contains("already"), "{refused:?}");
}
