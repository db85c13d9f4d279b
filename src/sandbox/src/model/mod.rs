//! Master and agents of one Mesos as a single state machine: no I/O, no clock. Time comes with each input,
//! ids from a seeded generator, so that a run can be repeated. Behaviour follows Mesos 1.11.1 on the wire.

mod accept;
mod agents;
mod conversions;
mod drain;
mod executors;
mod faults;
mod framework_info;
mod frameworks;
mod groups;
mod inverse;
mod io;
mod kills;
mod launch;
mod link;
mod maintenance;
mod managed;
mod master;
mod offers;
mod operations;
pub(crate) mod operator;
pub(crate) mod pool;
mod probe;
mod removal;
pub(crate) mod report;
mod roles;
mod saved;
mod scheduler;
mod task_faults;
mod tasks;
#[cfg(test)]
mod tests;
mod types;
mod updates;
mod validate;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

pub use faults::AgentFault;
pub use io::{
    AgentState, AgentView, Answer, FrameworkView, Input, MasterFault, OperatorCall, Output, StartExecutor,
    StreamKey, TaskView,
};
pub(crate) use master::Standing;
use overlord_mesos::v1::{
    AgentId, Attribute, ContainerId, DomainInfo, DomainName, ExecutorId, FaultDomain, FrameworkId, OfferId,
    Scalar, TaskId, TaskState, TaskStatus, Text, ValueType, executor,
    scheduler::{Event, EventType},
};
pub use probe::{Probe, ProbeKind, ProbeOutcome, ProbeUse};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
pub(crate) use saved::Record;
pub use saved::Saved;
use types::{
    Agent, AgentProcess, ExecutorKey, Framework, OpenOffer, Registration, Task, TaskKey, Timer, Usage,
};

use crate::config::{AgentConfig, MesosConfig, Timings};

/// Ids of removed frameworks that are remembered, so that they are refused by name.
const REMOVED_KEPT: usize = 10_000;

/// Master and agents.
#[derive(Debug)]
pub struct Model {
    timings: Timings,
    ping_timeout: Duration,
    epoch: Duration,
    rng: SmallRng,
    master_id: String,
    /// Where the leading master listens.
    master: SocketAddr,
    masters: master::Masters,
    /// When the leading master started.
    started_at: Duration,
    maintenance: maintenance::Maintenance,
    operations: BTreeMap<types::OperationKey, operations::OperationRecord>,
    /// Frameworks that are over, for people to look at; the oldest first.
    completed: VecDeque<Framework>,
    tasks_by_agent: BTreeMap<AgentId, BTreeSet<TaskKey>>,
    inverse_offers: BTreeMap<OfferId, inverse::OpenInverseOffer>,
    /// Streams of operators.
    operators: BTreeSet<StreamKey>,
    offer_timeout: Option<Duration>,
    /// Whether frameworks need credentials.
    authenticates: bool,
    /// How many tasks ended in which way.
    ended: BTreeMap<TaskState, u64>,
    domain: Option<DomainInfo>,
    next: Counters,
    now: Duration,
    frameworks: BTreeMap<FrameworkId, Framework>,
    removed: BTreeSet<FrameworkId>,
    agents: BTreeMap<String, Agent>,
    agent_names: BTreeMap<AgentId, String>,
    tasks: BTreeMap<TaskKey, Task>,
    offers: BTreeMap<OfferId, OpenOffer>,
    usage: BTreeMap<String, Usage>,
    total: Usage,
    scheduler_streams: BTreeMap<StreamKey, FrameworkId>,
    executor_streams: BTreeMap<StreamKey, (String, ExecutorKey)>,
    containers: BTreeMap<ContainerId, (String, ExecutorKey)>,
    /// Of tasks of the agents' own executors.
    nested: BTreeMap<ContainerId, (String, ExecutorKey, TaskId)>,
    /// Agents that were marked gone.
    gone: BTreeSet<AgentId>,
    http_command_executor: bool,
    /// Agents with something to offer.
    allocatable: BTreeSet<String>,
    allocation_at: Option<Duration>,
    timers: BTreeMap<(Duration, u64), Timer>,
    out: Vec<Output>,
    /// Whether there is a place for what must not be forgotten.
    keeps: bool,
    /// Records whose value changed in this step.
    dirty: BTreeSet<saved::Key>,
}

/// What the next id of each kind gets.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
struct Counters {
    framework: u64,
    agent: u64,
    offer: u64,
    stream: u64,
    timer: u64,
    starts: u64,
}

impl Model {
    /// A Mesos whose agents are registered. `saved` is what an earlier one left behind.
    pub fn new(config: &MesosConfig, epoch: Duration, saved: Option<Saved>) -> Self {
        let starts = saved.as_ref().map_or(0, |saved| saved.counters().starts);
        let mut rng = SmallRng::seed_from_u64(config.seed ^ starts.rotate_left(32));
        let master_id = uuid(&mut rng);
        let mut model = Self {
            timings: config.timings,
            ping_timeout: config.ping_timeout,
            epoch,
            rng,
            master_id,
            master: config.master,
            masters: master::Masters::new(config),
            started_at: Duration::ZERO,
            maintenance: maintenance::Maintenance::default(),
            operations: BTreeMap::new(),
            completed: VecDeque::new(),
            tasks_by_agent: BTreeMap::new(),
            inverse_offers: BTreeMap::new(),
            operators: BTreeSet::new(),
            offer_timeout: config.offer_timeout,
            authenticates: !config.credentials.is_empty(),
            ended: BTreeMap::new(),
            domain: config.domain.as_ref().map(domain_info),
            next: Counters::default(),
            now: Duration::ZERO,
            frameworks: BTreeMap::new(),
            removed: BTreeSet::new(),
            agents: BTreeMap::new(),
            agent_names: BTreeMap::new(),
            tasks: BTreeMap::new(),
            offers: BTreeMap::new(),
            usage: BTreeMap::new(),
            total: Usage::default(),
            scheduler_streams: BTreeMap::new(),
            executor_streams: BTreeMap::new(),
            containers: BTreeMap::new(),
            nested: BTreeMap::new(),
            gone: BTreeSet::new(),
            http_command_executor: config.http_command_executor,
            allocatable: BTreeSet::new(),
            allocation_at: None,
            timers: BTreeMap::new(),
            out: Vec::new(),
            keeps: config.state_dir.is_some(),
            dirty: BTreeSet::new(),
        };
        let known = saved.as_ref().map(Saved::agent_ids).unwrap_or_default();
        if let Some(saved) = &saved {
            model.next = saved.counters();
        }
        model.next.starts = starts + 1;
        for agent in &config.agents {
            let id = known.get(&agent.name).cloned().unwrap_or_else(|| model.new_agent_id());
            model.add_agent(agent, id);
        }
        if let Some(saved) = saved {
            model.restore(saved);
        }
        model
    }

    /// Lets time go on to `now`, then takes the input. Outputs are to be carried out in order.
    pub fn step(&mut self, now: Duration, input: Input) -> (Answer, Vec<Output>) {
        self.run_timers(now);
        let answer = match input {
            Input::Tick => Answer::Accepted,
            Input::Scheduler { stream_id, call } => self.scheduler_call(stream_id.as_deref(), *call),
            Input::Operator(call) => self.operator_call(*call),
            Input::Master(fault) => self.master_fault(fault),
            Input::Executor { agent, call } => self.executor_call(&agent, *call),
            Input::StreamGone(stream) => {
                self.stream_gone(stream);
                Answer::Accepted
            }
            Input::Started { container, pid } => {
                self.executor_started(&container, pid);
                Answer::Accepted
            }
            Input::NotStarted { container, message } => {
                self.executor_not_started(&container, &message);
                Answer::Accepted
            }
            Input::Exited { container, status } => {
                self.executor_exited(&container, status);
                Answer::Accepted
            }
            Input::Probed { container, which, outcome } => {
                self.managed_probed(&container, which, outcome);
                Answer::Accepted
            }
            Input::Agent { name, fault } => self.agent_fault(&name, fault),
        };
        (answer, std::mem::take(&mut self.out))
    }

    /// When time alone changes something next.
    pub fn next_wakeup(&self) -> Option<Duration> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// The tasks that the master knows.
    pub fn tasks(&self) -> Vec<TaskView> {
        self.tasks
            .iter()
            .map(|((framework, id), task)| TaskView {
                framework_id: framework.clone(),
                task_id: id.clone(),
                name: task.info.name.clone(),
                agent_id: task.agent.clone(),
                agent: self.agent_names.get(&task.agent).cloned().unwrap_or_default(),
                executor_id: task.executor.clone(),
                state: if task.unreachable_since.is_some() {
                    overlord_mesos::v1::TaskState::Unreachable
                } else {
                    task.state
                },
            })
            .collect()
    }

    /// The agents, also the lost ones.
    pub fn agents(&self) -> Vec<AgentView> {
        self.agents
            .iter()
            .map(|(name, agent)| AgentView {
                name: name.clone(),
                id: agent.id.clone(),
                address: agent.address,
                state: match agent.registration {
                    Registration::Registered => AgentState::Registered,
                    Registration::Disconnected | Registration::Recovered => AgentState::Disconnected,
                    Registration::Unreachable { .. } => AgentState::Unreachable,
                    Registration::Removed => AgentState::Removed,
                },
                containers: agent
                    .executors
                    .values()
                    .filter(|e| e.exited.is_none())
                    .flat_map(containers_of)
                    .collect(),
                free_cpus: agent.free.scalar("cpus") as f64 / 1000.0,
                free_mem_mib: agent.free.scalar("mem") as f64 / 1000.0,
            })
            .collect()
    }

    /// The frameworks that are not removed.
    pub fn frameworks(&self) -> Vec<FrameworkView> {
        self.frameworks
            .iter()
            .map(|(id, framework)| FrameworkView {
                id: id.clone(),
                name: framework.info.name.clone(),
                connected: framework.subscription.is_some(),
                offers: framework.offers.len(),
            })
            .collect()
    }

    /// Where the leading master listens.
    pub fn leader(&self) -> SocketAddr {
        self.master
    }

    /// The master's id.
    pub fn master_id(&self) -> &str {
        &self.master_id
    }

    fn run_timers(&mut self, now: Duration) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let ((at, _), timer) = entry.remove_entry();
            // Each at its own time: what it sets in motion is due in relation to that.
            self.now = self.now.max(at);
            self.fire(timer);
        }
        self.now = self.now.max(now);
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Allocate => self.allocation_due(),
            Timer::Heartbeat(stream) => {
                if self.scheduler_streams.contains_key(&stream) {
                    self.heartbeat(stream);
                } else if self.operators.contains(&stream) {
                    self.operator_heartbeat(stream);
                }
            }
            Timer::Failover { framework, generation } => self.failover_due(&framework, generation),
            Timer::Ping { agent, disconnect } => self.ping_timed_out(&agent, disconnect),
            Timer::Start { agent, generation } => self.agent_starts(&agent, generation),
            Timer::Recovered { agent, generation } => self.agent_recovered(&agent, generation),
            Timer::Registration(container) => self.registration_due(&container),
            Timer::Grace(container) => self.grace_over(&container),
            Timer::Retry { agent, task, serial } => self.retry_due(&agent, &task, serial),
            Timer::ExecutorHeartbeat(stream) => self.executor_heartbeat(stream),
            Timer::Begin(container) => self.managed_begins(&container),
            Timer::Leave(container) => self.managed_leaves(&container),
            Timer::GiveUp { agent, generation } => self.managed_give_up(&agent, generation),
            Timer::Escalate { container, serial } => self.managed_escalates(&container, serial),
            Timer::MaxCompletion(container) => self.managed_ran_too_long(&container),
            Timer::Look(container, which) => self.managed_look(&container, which),
            Timer::Deliver { framework, status } => self.deliver_update(&framework, *status),
            Timer::Offer(offer) => self.offer_timed_out(&offer),
            Timer::Operation { key, serial } => self.operation_retry_due(&key, serial),
            Timer::Drained(agent) => self.drained_is_gone(&agent),
            Timer::MasterStart { keep_registry } => self.master_starts(keep_registry),
            Timer::MasterRecovered { term } => self.master_recovered(term),
            Timer::Reregister { agent, term } => self.reregister_due(&agent, term),
            Timer::NotBack { agent, term } => self.not_back(&agent, term),
        }
    }

    fn after(&mut self, delay: Duration, timer: Timer) {
        self.at(self.now.saturating_add(delay), timer);
    }

    fn at(&mut self, at: Duration, timer: Timer) {
        self.next.timer += 1;
        self.timers.insert((at, self.next.timer), timer);
    }

    fn heartbeat(&mut self, stream: StreamKey) {
        self.send(stream, Event { kind: EventType::Heartbeat, ..Event::default() });
        self.after(self.timings.heartbeat, Timer::Heartbeat(stream));
    }

    fn send(&mut self, stream: StreamKey, event: Event) {
        self.out.push(Output::Scheduler(stream, Box::new(event)));
    }

    /// Sends to a framework if it is subscribed; what is sent otherwise is lost, as with a real master.
    fn send_to(&mut self, framework: &FrameworkId, event: Event) {
        if let Some((stream, _)) = self.frameworks.get(framework).and_then(|f| f.subscription.as_ref()) {
            let stream = *stream;
            self.send(stream, event);
        }
    }

    fn send_executor(&mut self, stream: StreamKey, event: executor::Event) {
        self.out.push(Output::Executor(stream, Box::new(event)));
    }

    fn send_status(&mut self, framework: &FrameworkId, status: TaskStatus) {
        // What reconciliation answers is no news.
        if status.state.is_terminal() && status.reason.as_deref() != Some("REASON_RECONCILIATION") {
            *self.ended.entry(status.state).or_default() += 1;
        }
        let update = overlord_mesos::v1::scheduler::Update { status };
        self.send_to(framework, Event { kind: EventType::Update, update: Some(update), ..Event::default() });
    }

    fn new_stream(&mut self) -> StreamKey {
        self.next.stream += 1;
        StreamKey(self.next.stream)
    }

    fn new_uuid(&mut self) -> String {
        uuid(&mut self.rng)
    }

    fn new_agent_id(&mut self) -> AgentId {
        let id = AgentId::new(format!("{}-S{}", self.master_id, self.next.agent));
        self.next.agent += 1;
        id
    }

    /// Seconds since 1970.
    fn timestamp(&self) -> f64 {
        (self.epoch + self.now).as_secs_f64()
    }

    /// A moment of the model, in seconds since 1970.
    fn seconds(&self, at: Duration) -> f64 {
        (self.epoch + at).as_secs_f64()
    }

    fn agent_by_id(&mut self, id: &AgentId) -> Option<&mut Agent> {
        self.agent_names.get(id).and_then(|name| self.agents.get_mut(name))
    }

    fn add_agent(&mut self, config: &AgentConfig, id: AgentId) {
        let total = configured(config);
        for (sum, name) in self.total.iter_mut().zip(offers::MEASURED) {
            *sum += total.scalar(name);
        }
        let attributes = config.attributes.iter().map(|(name, value)| attribute(name, value));
        self.agent_names.insert(id.clone(), config.name.clone());
        self.allocatable.insert(config.name.clone());
        let agent = Agent {
            id,
            address: SocketAddr::new(config.ip, config.port),
            work_dir: config.work_dir.clone(),
            attributes: attributes.collect(),
            hostname: config.hostname.clone().unwrap_or_else(|| config.ip.to_string()),
            domain: config.domain.as_ref().map(domain_info),
            registered_at: self.now,
            reregistered_at: None,
            deactivated: false,
            drain: None,
            configured: total.clone(),
            free: total.clone(),
            total,
            offers: BTreeSet::new(),
            process: AgentProcess::Up,
            registration: Registration::Registered,
            generation: 0,
            link: link::Link::default(),
            leaving: false,
            replaced: false,
            executors: BTreeMap::new(),
            updates: BTreeMap::new(),
        };
        self.agents.insert(config.name.clone(), agent);
    }
}

fn configured(config: &AgentConfig) -> pool::Pool {
    let mut total = pool::Pool::default();
    total.add_scalar("cpus", config.cpus);
    total.add_scalar("mem", config.mem_mib);
    total.add_scalar("disk", config.disk_mib);
    for &(begin, end) in &config.ports {
        total.add_range("ports", u64::from(begin), u64::from(end));
    }
    for reserved in &config.reserved {
        let marks = pool::Marks::reserved(&reserved.role);
        total.add_marked_scalar(&marks, "cpus", reserved.cpus);
        total.add_marked_scalar(&marks, "mem", reserved.mem_mib);
        total.add_marked_scalar(&marks, "disk", reserved.disk_mib);
        for &(begin, end) in &reserved.ports {
            total.add_marked_range(&marks, "ports", u64::from(begin), u64::from(end));
        }
    }
    total
}

/// What runs for an executor, with pids: itself, or its tasks when it is a part of the agent.
fn containers_of(executor: &types::Executor) -> Vec<(ContainerId, Option<u32>)> {
    if executor.kind == managed::ExecutorKind::Custom {
        return vec![(executor.container.clone(), executor.pid)];
    }
    executor.managed.tasks.values().map(|task| (task.container.clone(), task.pid)).collect()
}

/// An attribute as agents read it from `--attributes`: what looks like a number is one.
fn attribute(name: &str, value: &str) -> Attribute {
    let mut attribute = Attribute { name: name.to_owned(), ..Attribute::default() };
    match value.parse::<f64>() {
        Ok(number) if number.is_finite() => {
            attribute.kind = ValueType::Scalar;
            attribute.scalar = Some(Scalar { value: number });
        }
        _ => {
            attribute.kind = ValueType::Text;
            attribute.text = Some(Text { value: value.to_owned() });
        }
    }
    attribute
}

fn domain_info(domain: &crate::config::Domain) -> DomainInfo {
    let name = |name: &str| DomainName { name: name.to_owned() };
    let fault_domain = FaultDomain { region: name(&domain.region), zone: name(&domain.zone) };
    DomainInfo { fault_domain: Some(fault_domain) }
}

fn uuid(rng: &mut SmallRng) -> String {
    uuid::Builder::from_random_bytes(rng.random()).into_uuid().to_string()
}

fn executor_key(framework: &FrameworkId, executor: &ExecutorId) -> ExecutorKey {
    (framework.clone(), executor.clone())
}
