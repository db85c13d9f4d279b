//! What dies, and how it comes back.

use std::{collections::BTreeMap, time::Duration};

use overlord_tests::{Controller, Sandbox, eventually, signal};
use rand::{Rng as _, rngs::SmallRng, seq::IndexedRandom as _};
use rustix::process::Signal;

use super::oracle::Watch;

/// Agents of the sandbox.
const AGENTS: u8 = 6;

/// Milliseconds that a controller, a master or a way is away, at most: a leader's lease is a second, and so is
/// the time that a master waits for an agent.
const AWAY: u64 = 1500;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strike {
    /// `kill -9`; another one takes over.
    Controller,
    /// `kill -9` of one of them.
    Executor,
    /// The agent's process dies and starts again; executors come back to it.
    AgentRestart,
    /// Something keeps an agent away until another strike or the end of the round.
    Away(Away),
    /// The leading master dies, another one takes over.
    Master,
    /// Updates or orders get lost or doubled.
    Messages(&'static str),
    /// The master answers late, until the end of the round.
    Slow,
}

/// How an agent is kept away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Away {
    /// It cannot be reached, and reaches nobody.
    Lost,
    /// `kill -9`; its executors live on.
    Killed,
    /// The way to the master is cut.
    Partition,
    /// An operator drains it: its tasks are ended.
    Drained,
}

impl Away {
    /// The fault, and what mends it.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Lost => ("agent-lost", "agent-return"),
            Self::Killed => ("agent-kill", "agent-return"),
            Self::Partition => ("partition", "heal"),
            Self::Drained => ("drain", "reactivate"),
        }
    }
}

/// What the specification of this system names comes more often.
const STRIKES: [Strike; 17] = [
    Strike::Controller,
    Strike::Controller,
    Strike::Controller,
    Strike::Executor,
    Strike::Executor,
    Strike::Executor,
    Strike::AgentRestart,
    Strike::Away(Away::Lost),
    Strike::Away(Away::Killed),
    Strike::Away(Away::Partition),
    Strike::Away(Away::Drained),
    Strike::Master,
    Strike::Master,
    Strike::Messages("drop-updates"),
    Strike::Messages("duplicate-updates"),
    Strike::Messages("rescind"),
    Strike::Slow,
];

/// What was struck and is not whole yet.
pub(crate) struct Strikes {
    controller: Option<Controller>,
    /// Agents that are away.
    away: BTreeMap<u8, Away>,
    slow: bool,
}

impl Strikes {
    pub(crate) const fn new(controller: Controller) -> Self {
        Self { controller: Some(controller), away: BTreeMap::new(), slow: false }
    }

    /// One strike; what was done.
    pub(crate) async fn strike(
        &mut self,
        sandbox: &mut Sandbox,
        watch: &Watch,
        rng: &mut SmallRng,
    ) -> String {
        let strike = *STRIKES.choose(rng).unwrap();
        let agent = rng.random_range(1..=AGENTS);
        let pause = rng.random_range(0..AWAY);
        match strike {
            Strike::Controller => {
                if let Some(controller) = self.controller.take() {
                    controller.kill().await;
                }
                tokio::time::sleep(Duration::from_millis(pause)).await;
                self.controller = Some(sandbox.spawn_controller());
                format!("the controller is killed, the next one starts after {pause} ms")
            }
            Strike::Executor => {
                let executors = sandbox.executors();
                let Some(victim) = executors.choose(rng) else { return "no executor runs".to_owned() };
                signal(*victim, Signal::KILL);
                format!("executor {victim} is killed")
            }
            Strike::Master => {
                (1..=AGENTS).for_each(|agent| watch.shake(agent));
                order(sandbox, &["master-failover", &pause.to_string()]).await;
                format!("the master dies, the next one leads after {pause} ms")
            }
            Strike::Slow => {
                order(sandbox, &["slow", "200"]).await;
                self.slow = true;
                "the master answers late".to_owned()
            }
            Strike::Messages(word) => {
                order(sandbox, &[word, &name(agent)]).await;
                format!("{word} of agent-{agent}")
            }
            Strike::AgentRestart | Strike::Away(_) if self.away.contains_key(&agent) => {
                self.back(sandbox, agent).await;
                format!("agent-{agent} is back")
            }
            Strike::AgentRestart => {
                watch.shake(agent);
                order(sandbox, &["agent-restart", &name(agent)]).await;
                format!("agent-{agent} restarts")
            }
            Strike::Away(how) => {
                watch.shake(agent);
                order(sandbox, &[how.words().0, &name(agent)]).await;
                self.away.insert(agent, how);
                format!("agent-{agent} is away: {how:?}")
            }
        }
    }

    async fn back(&mut self, sandbox: &Sandbox, agent: u8) {
        let Some(how) = self.away.remove(&agent) else { return };
        let (name, mend) = (name(agent), how.words().1);
        // An agent that is being drained must have been before it is offered again.
        eventually(&format!("{mend} of {name}"), || async {
            let output = sandbox.run(&["sandbox", "fault", mend, &name]).await;
            if output.status.success() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&output.stderr).into_owned())
            }
        })
        .await;
    }

    /// Brings everything back.
    pub(crate) async fn mend(&mut self, sandbox: &mut Sandbox) {
        let away: Vec<u8> = self.away.keys().copied().collect();
        for agent in away {
            self.back(sandbox, agent).await;
        }
        if std::mem::take(&mut self.slow) {
            order(sandbox, &["slow", "0"]).await;
        }
        if self.controller.is_some() {
            sandbox.wait_leader().await;
        } else {
            self.controller = Some(sandbox.start_controller().await);
        }
    }

    /// Ends the controller in order.
    pub(crate) async fn end(self) {
        if let Some(controller) = self.controller {
            controller.stop().await;
        }
    }
}

fn name(agent: u8) -> String {
    format!("agent-{agent}")
}

/// `overlord sandbox fault`
async fn order(sandbox: &Sandbox, words: &[&str]) {
    sandbox.ok(&[&["sandbox", "fault"], words].concat()).await;
}
