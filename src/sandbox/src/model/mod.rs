//! Master and agents of one Mesos as a single state machine: no I/O, no clock. Time comes with each input,
//! ids from a seeded generator, so that a run can be repeated. Behaviour follows Mesos 1.11.1 on the wire.

mod accept;
mod agents;
mod executors;
mod frameworks;
mod io;
mod launch;
mod offers;
mod pool;
mod saved;
mod scheduler;
mod tasks;
#[cfg(test)]
mod tests;
mod types;
mod updates;
mod validate;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

pub use io::{
    AgentFault, AgentState, AgentView, Answer, FrameworkView, Input, Output, StartExecutor, StreamKey,
    TaskView,
};
use overlord_mesos::v1::{
    AgentId, Attribute, ContainerId, ExecutorId, FrameworkId, OfferId, TaskStatus, Text, ValueType, executor,
    scheduler::{Event, EventType},
};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
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
    master: SocketAddr,
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
    /// Agents with something to offer.
    allocatable: BTreeSet<String>,
    allocation_at: Option<Duration>,
    timers: BTreeMap<(Duration, u64), Timer>,
    out: Vec<Output>,
    changes: u64,
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
        let starts = saved.as_ref().map_or(0, Saved::starts);
        let mut rng = SmallRng::seed_from_u64(config.seed ^ starts.rotate_left(32));
        let master_id = uuid(&mut rng);
        let mut model = Self {
            timings: config.timings,
            ping_timeout: config.ping_timeout,
            epoch,
            rng,
            master_id,
            master: config.master,
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
            allocatable: BTreeSet::new(),
            allocation_at: None,
            timers: BTreeMap::new(),
            out: Vec::new(),
            changes: 0,
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
            Input::SchedulerOther { stream_id, framework_id } => {
                match self.subscribed_framework(stream_id.as_deref(), framework_id) {
                    Ok(_) => Answer::Accepted,
                    Err(refusal) => refusal,
                }
            }
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
            Input::Agent { name, fault } => self.agent_fault(&name, fault),
        };
        (answer, std::mem::take(&mut self.out))
    }

    /// When time alone changes something next.
    pub fn next_wakeup(&self) -> Option<Duration> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Counts what changed in that part of the state which a restart must not forget.
    pub fn changes(&self) -> u64 {
        self.changes
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
                    Registration::Disconnected => AgentState::Disconnected,
                    Registration::Unreachable { .. } => AgentState::Unreachable,
                },
                containers: agent
                    .executors
                    .values()
                    .filter(|e| e.exited.is_none())
                    .map(|e| (e.container.clone(), e.pid))
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
            })
            .collect()
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
                }
            }
            Timer::Failover { framework, generation } => self.failover_due(&framework, generation),
            Timer::Ping { agent, generation } => self.ping_timed_out(&agent, generation),
            Timer::Start { agent, generation } => self.agent_starts(&agent, generation),
            Timer::Recovered { agent, generation } => self.agent_recovered(&agent, generation),
            Timer::Registration(container) => self.registration_due(&container),
            Timer::Grace(container) => self.grace_over(&container),
            Timer::Retry { agent, task, serial } => self.retry_due(&agent, &task, serial),
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
        self.changes += 1;
        id
    }

    /// Seconds since 1970.
    fn timestamp(&self) -> f64 {
        (self.epoch + self.now).as_secs_f64()
    }

    fn agent_by_id(&mut self, id: &AgentId) -> Option<&mut Agent> {
        self.agent_names.get(id).and_then(|name| self.agents.get_mut(name))
    }

    fn add_agent(&mut self, config: &AgentConfig, id: AgentId) {
        let mut total = pool::Pool::default();
        total.add_scalar("cpus", config.cpus);
        total.add_scalar("mem", config.mem_mib);
        total.add_scalar("disk", config.disk_mib);
        for &(begin, end) in &config.ports {
            total.add_range("ports", u64::from(begin), u64::from(end));
        }
        for (sum, name) in self.total.iter_mut().zip(offers::MEASURED) {
            *sum += total.scalar(name);
        }
        let attributes = config.attributes.iter().map(|(name, value)| Attribute {
            name: name.clone(),
            kind: ValueType::Text,
            text: Some(Text { value: value.clone() }),
            ..Attribute::default()
        });
        self.agent_names.insert(id.clone(), config.name.clone());
        self.allocatable.insert(config.name.clone());
        let agent = Agent {
            id,
            address: SocketAddr::new(config.ip, config.port),
            work_dir: config.work_dir.clone(),
            attributes: attributes.collect(),
            free: total.clone(),
            total,
            offers: BTreeSet::new(),
            process: AgentProcess::Up,
            registration: Registration::Registered,
            generation: 0,
            executors: BTreeMap::new(),
            updates: BTreeMap::new(),
        };
        self.agents.insert(config.name.clone(), agent);
    }
}

fn uuid(rng: &mut SmallRng) -> String {
    uuid::Builder::from_random_bytes(rng.random()).into_uuid().to_string()
}

fn executor_key(framework: &FrameworkId, executor: &ExecutorId) -> ExecutorKey {
    (framework.clone(), executor.clone())
}
