//! The way between an agent and its master: whether anything gets through, and what is lost, late or doubled.

use std::time::Duration;

use overlord_mesos::v1::{FrameworkId, TaskStatus};

use super::{
    Model,
    agents::agent_registration,
    launch::Launch,
    types::{AgentProcess, Registration, TaskKey, Timer},
};

/// What an order or a message meets on its way.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// Nothing gets through; both ends are there.
    pub(crate) cut: bool,
    /// Counts how often the agent became silent, so that an old ping time-out is recognised.
    pub(crate) disconnects: u64,
    /// Updates still to lose.
    pub(crate) drop_updates: u32,
    /// Updates still to send twice.
    pub(crate) duplicate_updates: u32,
    /// How long updates take.
    pub(crate) delay: Duration,
    /// KILLs still to lose.
    pub(crate) drop_kills: u32,
    /// What the master sent while the way was cut.
    pub(crate) held: Vec<Launch>,
}

impl Model {
    /// The way is cut: nobody notices before pings stay out.
    pub(super) fn cut_link(&mut self, name: &str) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        if agent.link.cut {
            return;
        }
        agent.link.cut = true;
        if agent.is_registered() {
            self.expect_pings(name);
        }
    }

    /// The ping time-out of an agent that has just become silent.
    pub(super) fn expect_pings(&mut self, name: &str) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        agent.link.disconnects += 1;
        let disconnect = agent.link.disconnects;
        self.after(self.ping_timeout, Timer::Ping { agent: name.to_owned(), disconnect });
    }

    /// The way is open again. An agent that was given up registers again; to one that was not, everything comes
    /// late that was sent to it, as TCP repeats it.
    pub(super) fn heal_link(&mut self, name: &str) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        if !agent.link.cut {
            return;
        }
        agent.link.cut = false;
        agent.link.disconnects += 1;
        let held = std::mem::take(&mut agent.link.held);
        let registered = agent.is_registered();
        match agent.process {
            // Its end shows only now.
            AgentProcess::Down if registered => {
                self.lose_launches(name, held);
                agent_registration(self, name, Registration::Disconnected);
                self.rescind_all(name);
                self.drop_unchecked(name);
                self.expect_pings(name);
            }
            // It registers when it has recovered.
            AgentProcess::Down | AgentProcess::Recovering => self.lose_launches(name, held),
            AgentProcess::Up if registered => {
                for launch in held {
                    // Its framework may be over by now.
                    if launch.tasks.iter().any(|task| self.tasks.contains_key(task)) {
                        self.launch_on_agent(name, launch);
                    } else {
                        self.lose_launches(name, vec![launch]);
                    }
                }
                self.agent_catches_up(name, 1);
            }
            AgentProcess::Up => {
                self.lose_launches(name, held);
                self.agent_registers(name, 1);
            }
        }
    }

    /// Tasks that their agent never heard of: it says so when it registers.
    pub(super) fn lose_launches(&mut self, name: &str, held: Vec<Launch>) {
        for launch in held {
            let Some((framework, _)) = launch.tasks.first().cloned() else { continue };
            self.release(&framework, &launch.role, name, &launch.pool);
            for key in launch.tasks {
                self.release_task(&key);
                self.remove_task(&key);
            }
        }
    }

    /// An update on its way to the master: it may be lost, come late or twice.
    pub(super) fn carry_update(&mut self, name: &str, key: &TaskKey, status: TaskStatus) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        let link = &mut agent.link;
        if link.drop_updates > 0 {
            link.drop_updates -= 1;
            return;
        }
        let copies = if link.duplicate_updates > 0 {
            link.duplicate_updates -= 1;
            2
        } else {
            1
        };
        let delay = link.delay;
        for _ in 0..copies {
            if delay.is_zero() {
                self.deliver_update(&key.0, status.clone());
            } else {
                let (framework, status) = (key.0.clone(), Box::new(status.clone()));
                self.after(delay, Timer::Deliver { framework, status });
            }
        }
    }

    /// An update reaches the master, which passes it on.
    pub(super) fn deliver_update(&mut self, framework: &FrameworkId, status: TaskStatus) {
        let key: TaskKey = (framework.clone(), status.task_id.clone());
        if let Some(task) = self.tasks.get_mut(&key) {
            task.shown = status.state;
            task.container_status.clone_from(&status.container_status);
            task.healthy = status.healthy;
        }
        self.task_updated(&key, &status);
        self.note_state(&key);
        self.send_status(framework, status);
    }
}
