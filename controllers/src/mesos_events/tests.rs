//! What Mesos says against a store that hangs, a master that answers when it likes, and agents that go away; in
//! virtual time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use overlord_api::{Address, Info, State};
use overlord_mesos::{
    SchedulerConfig, SchedulerTransport, Subscription, TransportError, scheduler,
    v1::{
        InverseOffer, OfferId, Source, TaskState,
        scheduler::{Call, CallType, Event, EventType, InverseOffers, Subscribed, Update as UpdateEvent},
    },
};
use overlord_reconcile::{Cache, Clock, Controller, Index, Tasks, TokioClock};
use overlord_store::{
    Changes, Committed, Fetch, LeaseId, Listing, MemoryStore, Revision, Store,
    election::{Candidate, Leadership},
};
use tokio::{sync::watch, time::sleep};

use super::*;
use crate::{
    NetworkEngines, Settings,
    events::Recorder,
    gate::Gate,
    launcher::Launcher,
    ledger::{Batch, Expect, Ledger, TaskValue, project_cluster, project_quarantine, project_task},
    maintenance::Maintenance,
    reconciliation::Reconciliation,
    samples,
    settings::Catalogue,
    shared::{Subject, seeded},
    standing::Post,
};

/// A store whose commits wait until it is told to go on.
#[derive(Debug)]
struct HangingStore {
    inner: MemoryStore,
    open: watch::Sender<bool>,
}

#[async_trait]
impl Store for HangingStore {
    async fn get(&self, key: &str) -> Result<Listing, StoreError> {
        self.inner.get(key).await
    }

    async fn list(&self, prefix: &str, fetch: Fetch) -> Result<Listing, StoreError> {
        self.inner.list(prefix, fetch).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Changes, StoreError> {
        self.inner.watch(prefix, after).await
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, StoreError> {
        let _ = self.open.subscribe().wait_for(|open| *open).await;
        self.inner.commit(txn).await
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.inner.lease_grant(ttl).await
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<Option<Duration>, StoreError> {
        self.inner.lease_keep_alive(lease).await
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.lease_revoke(lease).await
    }
}

/// A master that says what the test says, and a HEARTBEAT every 15 s.
#[derive(Debug, Default)]
struct Master {
    calls: Mutex<Vec<Call>>,
    says: Mutex<Option<mpsc::UnboundedSender<Event>>>,
}

#[async_trait]
impl SchedulerTransport for Master {
    async fn subscribe(&self, call: &Call) -> Result<Subscription, TransportError> {
        lock(&self.calls).push(call.clone());
        let (sender, receiver) = mpsc::unbounded_channel();
        let subscribed = Subscribed {
            framework_id: FrameworkId::new("f"),
            heartbeat_interval_seconds: Some(15.0),
            ..Subscribed::default()
        };
        let first = Event { kind: EventType::Subscribed, subscribed: Some(subscribed), ..Event::default() };
        sender.send(first).unwrap();
        *lock(&self.says) = Some(sender);
        let said =
            stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
        let beats = stream::unfold((), |()| async {
            sleep(Duration::from_secs(15)).await;
            Some((Event { kind: EventType::Heartbeat, ..Event::default() }, ()))
        });
        let events = stream::select(said, beats).map(Ok).boxed();
        Ok(Subscription { stream_id: String::from("s"), events })
    }

    async fn call(&self, _: &str, call: &Call) -> Result<(), TransportError> {
        lock(&self.calls).push(call.clone());
        Ok(())
    }
}

impl Master {
    fn say(&self, event: Event) {
        lock(&self.says).as_ref().unwrap().send(event).unwrap();
    }

    fn update(&self, status: TaskStatus) {
        let update = Some(UpdateEvent { status });
        self.say(Event { kind: EventType::Update, update, ..Event::default() });
    }

    fn calls(&self, kind: CallType) -> Vec<Call> {
        lock(&self.calls).iter().filter(|call| call.kind == kind).cloned().collect()
    }
}

struct World {
    shared: Arc<Shared>,
    master: Arc<Master>,
    store: Arc<HangingStore>,
    tasks: Tasks,
    _leadership: Leadership,
}

/// A leader that listens to Mesos, with these members recorded.
async fn world(infos: &[Info]) -> World {
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(samples::at(0)));
    let open = watch::Sender::new(true);
    let store = Arc::new(HangingStore { inner: MemoryStore::new(Arc::clone(&clock)), open });
    let dyn_store = || Arc::clone(&store) as Arc<dyn Store>;
    let candidate =
        Candidate::new(dyn_store(), Arc::clone(&clock), keys::LEADER, "me", Duration::from_secs(10));
    let leadership = candidate.campaign(&CancellationToken::new()).await.unwrap();
    let fence = leadership.fence().clone();
    let ledger = Ledger {
        store: dyn_store(),
        fence: fence.clone(),
        config: Cache::new(|_| ()),
        clusters: Cache::new(project_cluster),
        tasks: Cache::new(project_task),
        quarantine: Cache::new(project_quarantine),
        index: Arc::default(),
        requests: Arc::default(),
        memory: Arc::default(),
    };
    ledger.clusters.index(Arc::clone(&ledger.index) as Arc<dyn Index<Value>>);
    ledger.tasks.index(Arc::clone(&ledger.requests) as Arc<dyn Index<TaskValue>>);
    for info in infos {
        let mut batch = Batch::default();
        batch.put_json(keys::info(&samples::cluster(), info.address()), info, Expect::Absent);
        ledger.commit(batch).await.unwrap();
    }
    let master = Arc::new(Master::default());
    let config = SchedulerConfig::new("root", "overlord", vec!["*".to_owned()], Duration::from_secs(600));
    let (mesos, driver, events) = scheduler(config, Arc::clone(&master) as Arc<dyn SchedulerTransport>, 1);
    let trigger = Controller::<Subject>::new("clusters", Arc::clone(&clock)).trigger();
    let roles = vec!["*".to_owned()];
    let program = crate::Program::Installed(String::from("/usr/bin/overlord"));
    let executor =
        crate::Executor { program, etcd: Vec::new(), etcd_credentials: None, environment: BTreeMap::new() };
    let settings = Settings::new("test", executor, Catalogue::default());
    let shared = Arc::new(Shared {
        ledger,
        gate: Gate::new(leadership.license()),
        post: Post::new("test", &clock, &crate::high_water::HighWater::new(None)),
        events: Recorder::new(dyn_store(), fence, Arc::clone(&clock)),
        launcher: Launcher::new(roles, mesos.clone(), Arc::clone(&clock), trigger.clone()),
        mesos,
        sync: Reconciliation::default(),
        deaths: crate::deaths::Deaths::default(),
        maintenance: Maintenance::default(),
        told: Mutex::default(),
        engines: Arc::new(NetworkEngines::default()),
        rules: settings.catalogue.rules(),
        trigger,
        link: Mutex::new(MesosLink::Up),
        high_water: crate::high_water::HighWater::new(None),
        witnesses: Arc::default(),
        homeless: Mutex::default(),
        went_back: None,
        memos: Mutex::default(),
        rng: Mutex::new(seeded(1)),
        clock,
        settings,
    });
    let tasks = Tasks::new();
    tasks.spawn("mesos", driver.run(tasks.token()));
    let (s, t) = (Arc::clone(&shared), tasks.token());
    tasks.spawn("events", async move { listen(&s, events, t).await.unwrap() });
    let (s, t) = (Arc::clone(&shared), tasks.token());
    tasks.spawn("reconciliation", async move { s.sync.run(&s.mesos, &*s.clock, t).await });
    let (s, t) = (Arc::clone(&shared), tasks.token());
    tasks.spawn("maintenance", async move { s.maintenance.run(&s, t).await });
    sleep(Duration::from_millis(100)).await;
    World { shared, master, store, tasks, _leadership: leadership }
}

impl World {
    fn info(&self, address: Address) -> Info {
        let seen = self.shared.ledger.clusters.get(&keys::info(&samples::cluster(), address)).unwrap();
        match &*seen.value {
            Value::Info(info) => (**info).clone(),
            other => panic!("{other:?}"),
        }
    }

    /// A word of the master itself on the task of `info`.
    fn master_says(&self, info: &Info, state: TaskState, reason: &str) {
        self.master.update(TaskStatus {
            task_id: TaskId::new(&info.mesos_task_id),
            agent_id: Some(AgentId::new(&info.agent_id)),
            source: Some(Source::Master),
            reason: Some(reason.to_owned()),
            state,
            ..TaskStatus::default()
        });
    }
}

fn second() -> Duration {
    Duration::from_secs(1)
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_delays_no_heartbeat_and_nothing_is_acknowledged_before_it_is_stored() {
    let infos: Vec<Info> = (0..100).map(|member| samples::info(member, State::Pending)).collect();
    let world = world(&infos).await;
    world.store.open.send_replace(false);
    for info in &infos {
        world.master.update(TaskStatus {
            task_id: TaskId::new(&info.mesos_task_id),
            agent_id: Some(AgentId::new(&info.agent_id)),
            source: Some(Source::Executor),
            uuid: Some(format!("{}==", info.mesos_task_id)),
            state: TaskState::Starting,
            ..TaskStatus::default()
        });
    }
    // Many times as long as a master that says nothing is waited for.
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(world.master.calls(CallType::Subscribe).len(), 1);
    assert_eq!(world.master.calls(CallType::Acknowledge), []);
    assert_eq!(world.info(infos[0].address()).observed.state, State::Pending);

    world.store.open.send_replace(true);
    sleep(second()).await;
    for info in &infos {
        assert_eq!(world.info(info.address()).observed.state, State::Staging);
    }
    let acknowledged = world.master.calls(CallType::Acknowledge);
    assert_eq!(acknowledged.len(), infos.len());
    assert_eq!(world.master.calls(CallType::Subscribe).len(), 1);
    world.tasks.shutdown(second()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_unregistered_took_its_tasks_with_it_once_nobody_knows_them() {
    let info = samples::info(0, State::Running);
    let world = world(std::slice::from_ref(&info)).await;
    let asked = || world.master.calls(CallType::Reconcile).len();
    let before = asked();
    world.master_says(&info, TaskState::Lost, "REASON_AGENT_REMOVED");
    sleep(second() / 2).await;
    assert_eq!(asked(), before + 1);
    assert_eq!(world.info(info.address()).observed.state, State::Running);
    assert!(!world.shared.sync.is_confirmed(&info.mesos_task_id));
    // Silence is no answer, however long.
    sleep(second() * 3600).await;
    assert_eq!(world.info(info.address()).observed.state, State::Running);
    assert!(asked() > before + 10);
    world.master_says(&info, TaskState::NotKnown, "REASON_RECONCILIATION");
    sleep(second()).await;
    let ended = world.info(info.address());
    assert_eq!((ended.observed.state, ended.observed.failures), (State::Failed, 1));
    assert!(ended.observed.message.contains("REASON_AGENT_REMOVED"), "{}", ended.observed.message);
    world.tasks.shutdown(second()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_error_for_the_id_of_a_task_that_runs_ends_nothing() {
    let info = samples::info(0, State::Running);
    let world = world(std::slice::from_ref(&info)).await;
    world.master_says(&info, TaskState::Error, "REASON_TASK_INVALID");
    sleep(second()).await;
    world.master_says(&info, TaskState::Running, "REASON_RECONCILIATION");
    sleep(second()).await;
    assert_eq!(world.info(info.address()), info);
    assert!(world.shared.sync.is_confirmed(&info.mesos_task_id));
    world.tasks.shutdown(second()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_instance_is_back_when_its_agent_is_and_is_gone_with_it_by_an_operators_word() {
    let info = samples::info(0, State::Running);
    let world = world(std::slice::from_ref(&info)).await;
    world.master_says(&info, TaskState::Unreachable, "REASON_AGENT_REMOVED");
    sleep(second()).await;
    assert_eq!(world.info(info.address()).observed.state, State::Unreachable);
    world.master_says(&info, TaskState::Running, "REASON_AGENT_REREGISTERED");
    sleep(second()).await;
    assert_eq!(world.info(info.address()).observed.state, State::Running);
    world.master_says(&info, TaskState::GoneByOperator, "REASON_AGENT_REMOVED_BY_OPERATOR");
    sleep(second()).await;
    assert_eq!(world.info(info.address()).observed.state, State::Running);
    world.master_says(&info, TaskState::GoneByOperator, "REASON_RECONCILIATION");
    sleep(second()).await;
    assert_eq!(world.info(info.address()).observed.state, State::Failed);
    world.tasks.shutdown(second()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_instance_whose_return_nobody_told_is_asked_for_until_it_is_back() {
    let info = samples::info(0, State::Running);
    let world = world(std::slice::from_ref(&info)).await;
    let asked = || world.master.calls(CallType::Reconcile).len();
    let revision = || {
        let key = keys::info(&samples::cluster(), info.address());
        world.shared.ledger.clusters.get(&key).unwrap().mod_revision
    };
    world.master_says(&info, TaskState::Unreachable, "REASON_AGENT_REMOVED");
    sleep(second()).await;
    let (first, stored) = (asked(), revision());
    assert_eq!(world.info(info.address()).observed.state, State::Unreachable);
    // Each answer is the same, in other words than at first: it costs no write, and is an answer.
    let mut answered = first;
    for _ in 0..600 {
        sleep(second()).await;
        if asked() > answered {
            answered = asked();
            world.master_says(&info, TaskState::Unreachable, "REASON_RECONCILIATION");
        }
        assert!(world.shared.sync.is_confirmed(&info.mesos_task_id));
    }
    assert!((12..=16).contains(&(answered - first)), "{}", answered - first);
    assert_eq!(revision(), stored);
    // That its agent was back was told, and got lost.
    sleep(second() * 61).await;
    assert!(asked() > answered);
    world.master_says(&info, TaskState::Running, "REASON_RECONCILIATION");
    sleep(second()).await;
    assert_eq!(world.info(info.address()).observed.state, State::Running);
    let last = asked();
    sleep(second() * 300).await;
    assert_eq!(asked(), last);
    world.tasks.shutdown(second()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_master_may_have_an_agent_back_once_nothing_of_ours_is_there() {
    let info = samples::info(0, State::Running);
    let world = world(std::slice::from_ref(&info)).await;
    let inverse = |id: &str, agent: &str| {
        let inverse_offers = vec![InverseOffer {
            id: OfferId::new(id),
            agent_id: Some(AgentId::new(agent)),
            ..InverseOffer::default()
        }];
        let inverse_offers = Some(InverseOffers { inverse_offers });
        world.master.say(Event { kind: EventType::InverseOffers, inverse_offers, ..Event::default() });
    };
    inverse("i1", &info.agent_id);
    inverse("i2", "another");
    sleep(second()).await;
    let held = world.master.calls(CallType::DeclineInverseOffers);
    let free = world.master.calls(CallType::AcceptInverseOffers);
    let ids = |calls: &[Call]| -> Vec<String> {
        let bodies = calls.iter().map(|call| {
            call.accept_inverse_offers.clone().or_else(|| call.decline_inverse_offers.clone()).unwrap()
        });
        bodies.flat_map(|body| body.inverse_offer_ids).map(|id| id.value).collect()
    };
    assert_eq!((ids(&held), ids(&free)), (vec!["i1".to_owned()], vec!["i2".to_owned()]));
    world.master_says(&info, TaskState::Lost, "REASON_RECONCILIATION");
    sleep(second()).await;
    inverse("i3", &info.agent_id);
    sleep(second()).await;
    assert_eq!(ids(&world.master.calls(CallType::AcceptInverseOffers)), ["i2", "i3"]);
    world.tasks.shutdown(second()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_older_attempt_that_turns_up_is_killed_again_and_again_but_ever_later() {
    let mut info = samples::info(0, State::Running);
    let older = info.mesos_task_id.clone();
    info.mesos_task_id = crate::identity::mesos_task_id(&info.uid, 0, 0, 7);
    let world = world(std::slice::from_ref(&info)).await;
    let older = Info { mesos_task_id: older, ..info };
    world.master_says(&older, TaskState::Running, "REASON_RECONCILIATION");
    let questions = || {
        let calls = world.master.calls(CallType::Reconcile).into_iter();
        let tasks = calls.flat_map(|call| call.reconcile.unwrap().tasks);
        tasks.filter(|task| task.task_id.as_str() == older.mesos_task_id).count()
    };
    let mut asked = questions();
    for _ in 0..300 {
        sleep(second()).await;
        let now = questions();
        if now > asked {
            asked = now;
            world.master_says(&older, TaskState::Running, "REASON_RECONCILIATION");
        }
    }
    let kills = world.master.calls(CallType::Kill);
    assert!((6..=9).contains(&kills.len()), "{}", kills.len());
    assert!(kills.iter().all(|call| call.kill.as_ref().unwrap().task_id.as_str() == older.mesos_task_id));
    world.tasks.shutdown(second()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_task_with_a_number_that_the_record_never_gave_tells_that_the_store_is_older() {
    let world = world(&[samples::info(0, State::Running)]).await;
    let mut batch = Batch::default();
    batch.put_json(keys::record(&samples::cluster()), &samples::record(2), Expect::Absent);
    world.shared.ledger.commit(batch).await.unwrap();
    let back = async || world.shared.high_water.check(&*world.store).await.unwrap();
    // Its info was removed by somebody.
    let counted = samples::info(1, State::Running);
    world.master_says(&counted, TaskState::Running, "REASON_RECONCILIATION");
    sleep(second()).await;
    assert_eq!(back().await, None);
    let mesos_task_id = crate::identity::mesos_task_id(&counted.uid, 1, 0, 3);
    let beyond = Info { mesos_task_id, ..counted };
    world.master_says(&beyond, TaskState::Running, "REASON_RECONCILIATION");
    sleep(second()).await;
    assert!(back().await.is_some());
}
