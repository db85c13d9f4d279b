//! Client and book alone: what launching costs in calls, events and bytes, and what a consumer that does not
//! read costs.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use overlord_mesos::{
    OfferBook, OfferBookConfig, SchedulerConfig, SchedulerEvent, SchedulerHandle,
    resources::{self, Request},
    scheduler,
    v1::{
        AgentId, CommandInfo, ExecutorId, ExecutorInfo, ExecutorType, OfferId, Resource, TaskId, TaskInfo,
        TaskState,
        scheduler::{Launch, Operation, OperationType},
    },
};
use overlord_reconcile::{Clock as _, TokioClock};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    counting::{Counting, Counts},
    mesos, virtually,
};

/// Tasks on each agent.
const TASKS: u16 = 5;

/// What clients have by default.
const EVENT_BUFFER: usize = 16 * 1024;

/// A client and its book.
struct Client {
    handle: SchedulerHandle,
    events: mpsc::Receiver<SchedulerEvent>,
    book: OfferBook,
    clock: TokioClock,
    running: BTreeSet<TaskId>,
    _driver: JoinSet<()>,
}

impl Client {
    fn new(transport: &Counting, event_buffer: usize) -> Self {
        let week = Duration::from_secs(7 * 24 * 3600);
        let config = SchedulerConfig::new("root", "size", vec!["*".to_owned()], week);
        let config = SchedulerConfig { event_buffer, ..config };
        let (handle, driver, events) = scheduler(config, Arc::new(transport.clone()), 1);
        let mut book = OfferBook::new(OfferBookConfig { hold: week, ..OfferBookConfig::default() }, ["*"]);
        book.want("*");
        let mut running = JoinSet::new();
        running.spawn(driver.run(CancellationToken::new()));
        let clock = TokioClock::starting_at(jiff::Timestamp::UNIX_EPOCH);
        Self { handle, events, book, clock, running: BTreeSet::new(), _driver: running }
    }

    async fn take(&mut self) {
        match self.events.recv().await.expect("the client lives") {
            SchedulerEvent::Offers { offers, .. } => self.book.insert(offers, self.clock.monotonic()),
            SchedulerEvent::Update(status) => {
                assert!(
                    matches!(status.state, TaskState::Starting | TaskState::Running),
                    "{}: {} {:?}",
                    status.task_id,
                    status.state,
                    status.message
                );
                // One that came in a subscription that is over is sent again in the next one.
                if self.handle.acknowledge(&status).await.is_ok() && status.state == TaskState::Running {
                    self.running.insert(status.task_id);
                }
            }
            SchedulerEvent::Disconnected { .. } => self.book.clear(),
            _ => {}
        }
    }

    async fn booked(&mut self, offers: usize) {
        while self.book.len() < offers {
            self.take().await;
        }
    }

    /// One ACCEPT for each agent, with all its tasks.
    async fn launch_everywhere(&mut self) {
        let groups: Vec<Vec<OfferId>> = self
            .book
            .by_agent()
            .into_values()
            .map(|offers| offers.into_iter().map(|offer| offer.id.clone()).collect())
            .collect();
        for ids in groups {
            let offers = self.book.take(&ids).expect("held");
            let launch = launch(&offers[0].agent_id, &resources::combine(&offers).expect("one agent's"));
            self.handle.accept(ids, vec![launch], 3600.0).await.expect("taken");
        }
    }
}

fn launch(agent: &AgentId, offered: &[Resource]) -> Operation {
    let mut rest = offered.to_vec();
    let mut task_infos = Vec::new();
    for n in 0..TASKS {
        let own = Request { cpus: 0.1, mem: 64.0, disk: 64.0, ports: vec![20_000 + 2 * n] };
        let share = Request { cpus: 0.05, mem: 32.0, ..Request::default() };
        let carved = resources::carve(&rest, &own, &share).expect("it fits");
        rest = carved.remainder;
        let id = format!("{agent}.{n}");
        let command = CommandInfo { value: Some("/bin/true".to_owned()), ..CommandInfo::default() };
        let executor = ExecutorInfo {
            kind: Some(ExecutorType::Custom),
            executor_id: ExecutorId::new(&id),
            command: Some(command),
            resources: carved.executor,
            ..ExecutorInfo::default()
        };
        task_infos.push(TaskInfo {
            name: "size".to_owned(),
            task_id: TaskId::new(&id),
            agent_id: agent.clone(),
            resources: carved.task,
            executor: Some(executor),
            ..TaskInfo::default()
        });
    }
    Operation { kind: OperationType::Launch, launch: Some(Launch { task_infos }), ..Operation::default() }
}

/// Launches on all agents and follows every task until it runs; then nobody wants offers any more.
fn launched(agents: u32) -> Counts {
    virtually(async {
        let (mesos, stubs, _driving) = mesos(agents);
        let transport = Counting::new(mesos.scheduler_transport());
        let mut client = Client::new(&transport, EVENT_BUFFER);
        client.booked(agents as usize).await;
        let cycle = transport.counts();
        assert_eq!((cycle.event("OFFERS"), cycle.offers), (1, agents as usize), "one event a cycle");
        client.launch_everywhere().await;
        let wanted = agents as usize * usize::from(TASKS);
        while client.running.len() < wanted {
            client.take().await;
        }
        assert_eq!(stubs.running(), wanted);

        // What is left over comes back, and goes back in one DECLINE.
        client.handle.revive(vec!["*".to_owned()]).await.expect("taken");
        client.booked(agents as usize).await;
        client.book.unwant("*");
        for command in client.book.poll(client.clock.monotonic()) {
            client.handle.carry_out(command).await.expect("taken");
        }
        transport.counts()
    })
}

#[test]
fn ten_thousand_tasks_on_two_thousand_agents_take_as_many_calls_and_bytes_as_their_number_says() {
    let [few, many] = [500, 2000].map(|agents| (agents as usize, launched(agents)));
    for (agents, counts) in [&few, &many] {
        let tasks = agents * usize::from(TASKS);
        assert_eq!(counts.call("ACCEPT"), *agents, "one for each agent: {counts:?}");
        assert_eq!(counts.call("ACKNOWLEDGE"), 2 * tasks, "{counts:?}");
        assert_eq!(counts.event("UPDATE"), 2 * tasks, "{counts:?}");
        assert_eq!((counts.call("DECLINE"), counts.declined), (1, *agents), "{counts:?}");
        assert_eq!((counts.call("REVIVE"), counts.call("SUPPRESS")), (1, 1), "{counts:?}");
        assert!(counts.event("OFFERS") <= 3, "{counts:?}");
    }
    // Ids of more tasks have more digits, nothing else grows.
    let (few, many) = (few.1.bytes as f64, many.1.bytes as f64);
    assert!(many < few * 4.0 * 1.05, "{few} bytes have become {many}");
}

#[test]
fn a_consumer_that_does_not_read_costs_a_bounded_buffer_and_hears_of_everything_in_the_end() {
    const AGENTS: u32 = 300;
    /// Fewer than there will be updates.
    const BUFFER: usize = 256;
    virtually(async {
        let (mesos, _stubs, _driving) = mesos(AGENTS);
        let transport = Counting::new(mesos.scheduler_transport());
        let mut client = Client::new(&transport, BUFFER);
        client.booked(AGENTS as usize).await;
        client.launch_everywhere().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(client.events.len() <= BUFFER, "{} events wait", client.events.len());
        let subscribed = transport.counts().event("SUBSCRIBED");
        let wanted = AGENTS as usize * usize::from(TASKS);
        while client.running.len() < wanted {
            client.take().await;
        }
        let counts = transport.counts();
        assert_eq!(subscribed, 1, "while nobody reads there is no sense in subscribing again");
        // A buffer of them gets through each time.
        let rounds = 2 * wanted / (BUFFER / 2) + 2;
        assert!(counts.event("SUBSCRIBED") <= rounds, "{counts:?}");
    });
}
