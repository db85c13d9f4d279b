//! Breaking things on purpose: what the handle of a Mesos can do to its agents and its network.

use std::time::Duration;

use crate::{
    Mesos,
    model::{AgentFault, Answer, Input},
};

/// Why a fault could not be made. The text says what there is instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// No agent has that name.
    #[error("there is no agent {name:?}; there are {}", known.join(", "))]
    NoAgent {
        /// The name.
        name: String,
        /// Those that exist.
        known: Vec<String>,
    },
    /// It cannot be done now.
    #[error("{0}")]
    Refused(String),
}

impl Mesos {
    /// Does something to an agent.
    pub fn agent_fault(&self, name: &str, fault: AgentFault) -> Result<(), FaultError> {
        self.check_agent(name)?;
        accepted(self.step(Input::Agent { name: name.to_owned(), fault }))
    }

    /// An agent's process dies. Its executors run on.
    pub fn agent_lost(&self, name: &str) -> bool {
        self.agent_fault(name, AgentFault::Lost).is_ok()
    }

    /// An agent's process is killed. Its executors run on.
    pub fn agent_kill(&self, name: &str) -> bool {
        self.agent_lost(name)
    }

    /// A lost agent starts again, with its work directory if that is of use.
    pub fn agent_return(&self, name: &str) -> bool {
        self.agent_fault(name, AgentFault::Return).is_ok()
    }

    /// An agent's process dies and starts again.
    pub fn agent_restart(&self, name: &str) -> bool {
        self.agent_fault(name, AgentFault::Restart).is_ok()
    }

    /// An agent with an empty work directory takes the place of this one.
    pub fn agent_new_id(&self, name: &str) -> bool {
        self.agent_fault(name, AgentFault::NewId).is_ok()
    }

    /// An agent's machine is lost for good with all that runs on it; what returns is a new agent.
    pub fn agent_gone(&self, name: &str) -> bool {
        self.agent_fault(name, AgentFault::Gone).is_ok()
    }

    /// An agent ends its executors and unregisters (SIGUSR1).
    pub fn agent_unregister(&self, name: &str) -> bool {
        self.agent_fault(name, AgentFault::Unregister).is_ok()
    }

    /// Nothing gets through between an agent and the master.
    pub fn partition(&self, name: &str) -> bool {
        self.agent_fault(name, AgentFault::Partition).is_ok()
    }

    /// The way between an agent and the master is open again.
    pub fn heal(&self, name: &str) -> bool {
        self.agent_fault(name, AgentFault::Heal).is_ok()
    }

    /// Executors of an agent are killed: the named one, or all. `false`: there is none.
    pub fn executor_kill(&self, name: &str, executor: Option<&str>) -> bool {
        self.agent_fault(name, AgentFault::KillExecutors(executor.map(str::to_owned))).is_ok()
    }

    /// So many of an agent's next updates are lost on the way.
    pub fn drop_updates(&self, name: &str, count: u32) -> bool {
        self.agent_fault(name, AgentFault::DropUpdates(count)).is_ok()
    }

    /// So many of an agent's next updates come twice.
    pub fn duplicate_updates(&self, name: &str, count: u32) -> bool {
        self.agent_fault(name, AgentFault::DuplicateUpdates(count)).is_ok()
    }

    /// An agent's updates take so long on the way; zero ends it.
    pub fn delay_updates(&self, name: &str, delay: Duration) -> bool {
        self.agent_fault(name, AgentFault::DelayUpdates(delay)).is_ok()
    }

    /// So many of the next KILLs to an agent are lost.
    pub fn drop_kills(&self, name: &str, count: u32) -> bool {
        self.agent_fault(name, AgentFault::DropKills(count)).is_ok()
    }

    /// The offers of an agent are taken back.
    pub fn rescind(&self, name: &str) -> bool {
        self.agent_fault(name, AgentFault::Rescind).is_ok()
    }

    /// An operator drains an agent: its tasks are killed, each with at most this much time.
    pub fn drain(&self, name: &str, max_grace: Option<Duration>) -> bool {
        self.agent_fault(name, AgentFault::Drain(max_grace)).is_ok()
    }

    /// An operator lets a drained agent be offered again.
    pub fn reactivate(&self, name: &str) -> bool {
        self.agent_fault(name, AgentFault::Reactivate).is_ok()
    }

    /// An operator declares an agent gone.
    pub fn mark_gone(&self, name: &str) -> bool {
        self.agent_fault(name, AgentFault::MarkGone).is_ok()
    }

    /// Each answer of the master takes so long; zero ends it.
    pub fn slow(&self, delay: Duration) {
        self.set_slowness(delay);
    }

    fn check_agent(&self, name: &str) -> Result<(), FaultError> {
        let known: Vec<String> = self.agents().into_iter().map(|agent| agent.name).collect();
        if known.iter().any(|known| known == name) {
            return Ok(());
        }
        Err(FaultError::NoAgent { name: name.to_owned(), known })
    }
}

fn accepted(answer: Answer) -> Result<(), FaultError> {
    match answer {
        Answer::Refused { text, .. } => Err(FaultError::Refused(text)),
        // What an operator asks for, a master must be there to take.
        Answer::Unavailable => Err(FaultError::Refused(String::from("no master is there to be asked"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        config::{AgentConfig, MesosConfig},
        model::{Input, MasterFault, Model},
    };

    #[test]
    fn what_no_master_has_taken_is_not_done() {
        let config = MesosConfig::new(vec![AgentConfig::new("agent1", Path::new("/w"))], 1);
        let mut model = Model::new(&config, Duration::ZERO, None);
        let drain = || Input::Agent { name: String::from("agent1"), fault: AgentFault::Drain(None) };
        model.step(Duration::ZERO, Input::Master(MasterFault::Kill));
        let refused = accepted(model.step(Duration::ZERO, drain()).0);
        assert_eq!(refused, Err(FaultError::Refused(String::from("no master is there to be asked"))));
        // What befalls the agent itself needs nobody.
        let lost = Input::Agent { name: String::from("agent1"), fault: AgentFault::Lost };
        assert_eq!(accepted(model.step(Duration::ZERO, lost).0), Ok(()));
    }
}
