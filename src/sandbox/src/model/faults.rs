//! What can be done to an agent, to see what comes of it.

use std::time::Duration;

use overlord_mesos::v1::{ContainerId, DurationInfo, Unavailability};
use serde_json::json;

use super::{
    Answer, Model, OperatorCall, Output,
    maintenance::Window,
    removal::Removal,
    types::{AgentProcess, Registration, Timer},
};

/// What can happen to an agent. Its executors live on unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentFault {
    /// Its process dies, by whatever signal.
    Lost,
    /// It starts again, with its work directory if that is still of use.
    Return,
    /// It dies and starts again.
    Restart,
    /// It starts with an empty work directory: a new agent at the same address. What it ran is gone.
    NewId,
    /// The machine is lost for good with all that ran on it. What returns is a new agent.
    Gone,
    /// It is told to leave in order (SIGUSR1): it ends its executors and unregisters.
    Unregister,
    /// Nothing gets through between it and the master; it goes on.
    Partition,
    /// The way to the master is open again.
    Heal,
    /// Executors are killed (SIGKILL): the named one, or all.
    KillExecutors(Option<String>),
    /// So many of its next updates are lost on the way.
    DropUpdates(u32),
    /// So many of its next updates come twice.
    DuplicateUpdates(u32),
    /// Its updates take so long on the way; zero ends it.
    DelayUpdates(Duration),
    /// So many of the next KILLs to it are lost.
    DropKills(u32),
    /// Its offers are taken back.
    Rescind,
    /// An operator drains it: its tasks are killed, each with at most this much time, and it is not offered.
    Drain(Option<Duration>),
    /// An operator lets it be offered again.
    Reactivate,
    /// An operator declares it gone.
    MarkGone,
    /// Its machine will be unavailable: offers say so, and frameworks get inverse offers.
    Announce {
        /// From when on.
        after: Duration,
        /// For how long.
        lasts: Duration,
    },
    /// Its machine, for which maintenance was announced, goes down.
    MachineDown,
    /// Its machine is up again; nothing is planned for it any more.
    MachineUp,
}

impl Model {
    pub(super) fn agent_fault(&mut self, name: &str, fault: AgentFault) -> Answer {
        let Some(agent) = self.agents.get_mut(name) else {
            return Answer::refused(404, format!("no agent is named '{name}'"));
        };
        match fault {
            AgentFault::Lost => self.agent_down(name),
            AgentFault::Return => {
                let generation = agent.generation;
                self.agent_starts(name, generation);
            }
            AgentFault::Restart => {
                self.agent_down(name);
                let generation = self.agents.get(name).map_or(0, |agent| agent.generation);
                self.after(self.timings.restart, Timer::Start { agent: name.to_owned(), generation });
            }
            AgentFault::NewId => {
                self.agent_down(name);
                self.agent_replaced(name);
            }
            AgentFault::Gone => {
                agent.replaced = true;
                self.agent_down(name);
                self.end_executors(name);
            }
            AgentFault::Unregister => {
                if agent.process != AgentProcess::Up || !agent.is_reached() {
                    return Answer::refused(409, format!("{name} is away: it cannot unregister"));
                }
                self.remove_agent(name, Removal::Unregistered);
            }
            AgentFault::Partition => self.cut_link(name),
            AgentFault::Heal => self.heal_link(name),
            AgentFault::KillExecutors(executor) => return self.kill_executors(name, executor.as_deref()),
            AgentFault::DropUpdates(count) => agent.link.drop_updates = count,
            AgentFault::DuplicateUpdates(count) => agent.link.duplicate_updates = count,
            AgentFault::DelayUpdates(delay) => agent.link.delay = delay,
            AgentFault::DropKills(count) => agent.link.drop_kills = count,
            AgentFault::Rescind => {
                self.rescind_all(name);
                self.allocate_by(self.now);
            }
            AgentFault::Drain(max_grace) => {
                let agent = agent.id.clone();
                return self.operator_call(OperatorCall::Drain { agent, max_grace, mark_gone: false });
            }
            AgentFault::Reactivate => {
                let id = agent.id.clone();
                return self.operator_call(OperatorCall::Reactivate(id));
            }
            AgentFault::MarkGone => {
                let id = agent.id.clone();
                return self.operator_call(OperatorCall::MarkGone(id));
            }
            AgentFault::Announce { after, lasts } => return self.announce_maintenance(name, after, lasts),
            AgentFault::MachineDown => {
                let machines = json!([agent.machine()]);
                return self.operator_call(OperatorCall::StartMaintenance(machines));
            }
            AgentFault::MachineUp => {
                let machines = json!([agent.machine()]);
                return self.operator_call(OperatorCall::StopMaintenance(machines));
            }
        }
        Answer::Accepted
    }

    /// Adds the agent's machine to the schedule of maintenance.
    fn announce_maintenance(&mut self, name: &str, after: Duration, lasts: Duration) -> Answer {
        let Some(machine) = self.agents.get(name).map(super::Agent::machine) else {
            return Answer::Unavailable;
        };
        let mut schedule = self.maintenance.schedule.clone();
        for window in &mut schedule.windows {
            window.machine_ids.retain(|planned| *planned != machine);
        }
        schedule.windows.retain(|window| !window.machine_ids.is_empty());
        let unavailability = Unavailability {
            start: self.time_info(self.now.saturating_add(after)),
            duration: Some(DurationInfo { nanoseconds: i64::try_from(lasts.as_nanos()).unwrap_or(i64::MAX) }),
        };
        schedule.windows.push(Window { machine_ids: vec![machine], unavailability });
        self.operator_call(OperatorCall::UpdateMaintenanceSchedule(json!(schedule)))
    }

    /// SIGKILL from outside: the agent sees them end as it sees every end.
    fn kill_executors(&mut self, name: &str, wanted: Option<&str>) -> Answer {
        let Some(agent) = self.agents.get(name) else { return Answer::Unavailable };
        let living = || agent.executors.iter().filter(|(_, executor)| executor.exited.is_none());
        let meant: Vec<ContainerId> = living()
            .filter(|((_, id), _)| wanted.is_none_or(|wanted| wanted == id.as_str()))
            .map(|(_, executor)| executor.container.clone())
            .collect();
        if meant.is_empty() {
            let known: Vec<&str> = living().map(|((_, id), _)| id.as_str()).collect();
            let there = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let which = wanted.map_or_else(String::new, |wanted| format!(" named '{wanted}'"));
            return Answer::refused(404, format!("no executor{which} runs on {name}; there are: {there}"));
        }
        for container in meant {
            if !self.managed_destroy(&container) {
                self.out.push(Output::Kill(container));
            }
        }
        Answer::Accepted
    }

    /// The machine is off: nothing on it lives.
    pub(super) fn end_executors(&mut self, name: &str) {
        let Some(agent) = self.agents.get(name) else { return };
        let containers: Vec<ContainerId> =
            agent.executors.values().map(|executor| executor.container.clone()).collect();
        for container in containers {
            self.kill_container(&container);
        }
    }

    /// Whether the master still expects something of an agent that is away.
    pub(super) fn is_expected(registration: Registration) -> bool {
        matches!(registration, Registration::Registered | Registration::Disconnected)
    }
}
