//! `overlord sandbox fault`: the words, and what each does to a Mesos.

use std::time::Duration;

use overlord_sandbox::{AgentFault, FaultError};
use serde::{Deserialize, Serialize};

use super::hands::{EtcdFault, Hands};

/// What can happen. Agents are agent-1, agent-2, ...; `overlord sandbox agents` lists them.
#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Fault {
    /// Mesos cannot reach an agent; its processes go on
    AgentLost(Agent),
    /// A lost agent is back, with everything it ran
    AgentReturn(Agent),
    /// The agent process restarts; executors come back to it
    AgentRestart(Agent),
    /// The agent process is killed (SIGKILL) and stays away; its processes go on
    AgentKill(Agent),
    /// The machine is lost with all that ran on it; what agent-return brings is a new agent
    AgentGone(Agent),
    /// An agent with an empty work directory takes this one's place at once
    AgentNewId(Agent),
    /// The agent ends its executors and unregisters (SIGUSR1)
    AgentUnregister(Agent),
    /// Nothing gets through between the agent and the master; both go on
    Partition(Agent),
    /// The way between the agent and the master is open again
    Heal(Agent),
    /// Executors of an agent are killed (SIGKILL)
    ExecutorKill(Executors),
    /// The next status updates of an agent are lost; it repeats them after 10, 20, 40 s ...
    DropUpdates(Count),
    /// Status updates of an agent come late, until the delay is 0
    DelayUpdates(Delay),
    /// The next status updates of an agent come twice
    DuplicateUpdates(Count),
    /// The next KILLs to an agent are lost
    DropKills(Count),
    /// The master takes an agent's offers back
    Rescind(Agent),
    /// The leading master dies and another one takes over
    MasterFailover(Failover),
    /// Each answer of the master comes late, until the delay is 0
    Slow(Slowness),
    /// An operator drains an agent: its tasks are killed, and it is not offered
    Drain(Drain),
    /// An operator lets a drained agent be offered again
    Reactivate(Agent),
    /// An operator announces maintenance of an agent's machine, takes it down, or brings it up
    Maintenance(Maintenance),
    /// An operator declares that an agent will not come back
    MarkGone(Agent),
    /// etcd is killed (SIGKILL), and starts again with what is on its disk
    EtcdKill(Away),
    /// etcd takes connections and answers nothing (SIGSTOP), until it goes on
    EtcdPause(Away),
}

#[derive(Debug, Clone, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
pub(crate) struct Agent {
    /// Which agent
    agent: String,
}

#[derive(Debug, Clone, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
pub(crate) struct Executors {
    /// Which agent
    agent: String,
    /// The executor's id; all of the agent's unless given
    #[serde(default, skip_serializing_if = "Option::is_none")]
    executor: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
pub(crate) struct Count {
    /// Which agent
    agent: String,
    /// How many
    #[arg(default_value_t = 1)]
    #[serde(default = "one")]
    count: u32,
}

fn one() -> u32 {
    1
}

#[derive(Debug, Clone, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
pub(crate) struct Delay {
    /// Which agent
    agent: String,
    /// How late
    milliseconds: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
pub(crate) struct Failover {
    /// How long nobody leads
    #[arg(default_value_t = 1000)]
    #[serde(default = "a_second")]
    milliseconds: u64,
}

fn a_second() -> u64 {
    1000
}

#[derive(Debug, Clone, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
pub(crate) struct Away {
    /// How long it is away
    #[arg(default_value_t = 1000)]
    #[serde(default = "a_second")]
    milliseconds: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
pub(crate) struct Slowness {
    /// How late
    milliseconds: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
pub(crate) struct Drain {
    /// Which agent
    agent: String,
    /// The most time a task gets to end, in seconds; as long as its own kill policy says unless given
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seconds: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
pub(crate) struct Maintenance {
    /// Which agent
    agent: String,
    /// What to do
    #[arg(default_value = "announce")]
    #[serde(default)]
    step: Step,
    /// When announced maintenance begins, in seconds from now
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    #[serde(default = "a_minute")]
    after: u64,
    /// How long announced maintenance lasts, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    #[serde(default = "an_hour")]
    lasts: u64,
}

fn a_minute() -> u64 {
    60
}

fn an_hour() -> u64 {
    3600
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Step {
    /// Offers say so, and frameworks get inverse offers
    #[default]
    Announce,
    /// The machine goes down: its tasks are lost
    Down,
    /// The machine is up again
    Up,
}

/// Every word there is.
pub(crate) fn words() -> Vec<String> {
    let words = <Fault as clap::Subcommand>::augment_subcommands(clap::Command::new("fault"));
    words.get_subcommands().map(|word| word.get_name().to_owned()).collect()
}

impl Fault {
    /// Whether it is etcd's.
    pub(crate) const fn is_etcd(&self) -> bool {
        matches!(self, Self::EtcdKill(_) | Self::EtcdPause(_))
    }

    /// The word, and the agent it is for.
    pub(crate) fn address(&self) -> (String, Option<String>) {
        let value = serde_json::to_value(self).unwrap_or_default();
        let text = |name: &str| value.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
        (text("fault").unwrap_or_default(), text("agent"))
    }

    /// Makes it happen; what to tell.
    pub(crate) fn strike(self, hands: &Hands) -> Result<String, FaultError> {
        let mesos = &hands.mesos;
        let on = |agent: String, fault: AgentFault, what: &str| {
            mesos.agent_fault(&agent, fault).map(|()| format!("{agent} {what}"))
        };
        let milliseconds = Duration::from_millis;
        match self {
            Self::AgentLost(Agent { agent }) => on(agent, AgentFault::Lost, "is lost"),
            Self::AgentReturn(Agent { agent }) => on(agent, AgentFault::Return, "is back"),
            Self::AgentRestart(Agent { agent }) => on(agent, AgentFault::Restart, "restarts"),
            Self::AgentKill(Agent { agent }) => on(agent, AgentFault::Lost, "is killed"),
            Self::AgentGone(Agent { agent }) => on(agent, AgentFault::Gone, "is gone for good"),
            Self::AgentNewId(Agent { agent }) => on(agent, AgentFault::NewId, "is another agent now"),
            Self::AgentUnregister(Agent { agent }) => on(agent, AgentFault::Unregister, "unregisters"),
            Self::Partition(Agent { agent }) => {
                on(agent, AgentFault::Partition, "is cut off from the master")
            }
            Self::Heal(Agent { agent }) => on(agent, AgentFault::Heal, "reaches the master again"),
            Self::ExecutorKill(Executors { agent, executor }) => {
                on(agent, AgentFault::KillExecutors(executor), "loses its executors")
            }
            Self::DropUpdates(Count { agent, count }) => {
                on(agent, AgentFault::DropUpdates(count), &format!("loses its next updates ({count})"))
            }
            Self::DelayUpdates(Delay { agent, milliseconds: delay }) => {
                let what = format!("sends its updates {delay} ms late");
                on(agent, AgentFault::DelayUpdates(milliseconds(delay)), &what)
            }
            Self::DuplicateUpdates(Count { agent, count }) => on(
                agent,
                AgentFault::DuplicateUpdates(count),
                &format!("sends its next updates twice ({count})"),
            ),
            Self::DropKills(Count { agent, count }) => {
                on(agent, AgentFault::DropKills(count), &format!("does not hear the next KILLs ({count})"))
            }
            Self::Rescind(Agent { agent }) => on(agent, AgentFault::Rescind, "has its offers rescinded"),
            Self::MasterFailover(Failover { milliseconds: after }) => {
                mesos.master_failover(milliseconds(after));
                Ok(format!("the master is dead; another one leads in {after} ms"))
            }
            Self::Slow(Slowness { milliseconds: delay }) => {
                mesos.slow(milliseconds(delay));
                Ok(format!("the master answers {delay} ms late"))
            }
            Self::Drain(Drain { agent, seconds }) => {
                on(agent, AgentFault::Drain(seconds.map(Duration::from_secs)), "is drained")
            }
            Self::Reactivate(Agent { agent }) => on(agent, AgentFault::Reactivate, "is offered again"),
            Self::Maintenance(Maintenance { agent, step, after, lasts }) => match step {
                Step::Announce => {
                    let (after, lasts) = (Duration::from_secs(after), Duration::from_secs(lasts));
                    on(agent, AgentFault::Announce { after, lasts }, "has maintenance announced")
                }
                Step::Down => on(agent, AgentFault::MachineDown, "is down for maintenance"),
                Step::Up => {
                    on(agent, AgentFault::MachineUp, "may register again: bring it with agent-return")
                }
            },
            Self::MarkGone(Agent { agent }) => on(agent, AgentFault::MarkGone, "is marked gone"),
            Self::EtcdKill(Away { milliseconds: after }) => hands
                .etcd(EtcdFault::Kill(milliseconds(after)))
                .map(|()| format!("etcd is killed; it starts again in {after} ms")),
            Self::EtcdPause(Away { milliseconds: after }) => hands
                .etcd(EtcdFault::Pause(milliseconds(after)))
                .map(|()| format!("etcd answers nothing for {after} ms")),
        }
    }
}

/// A fault by its word, its agent, and what else is said of it.
pub(crate) fn read(word: &str, agent: Option<&str>, more: serde_json::Value) -> Result<Fault, String> {
    if !words().iter().any(|known| known == word) {
        return Err(format!("there is no fault {word:?}; there are {}", words().join(", ")));
    }
    let mut fields = match more {
        serde_json::Value::Object(fields) => fields,
        serde_json::Value::Null => serde_json::Map::new(),
        _ => return Err("the body is no JSON object".to_owned()),
    };
    fields.insert("fault".to_owned(), word.into());
    if let Some(agent) = agent {
        fields.insert("agent".to_owned(), agent.into());
    }
    serde_json::from_value(fields.into()).map_err(|error| format!("{word}: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;

    fn parse(words: &[&str]) -> Result<Fault, clap::Error> {
        let command = <Fault as clap::Subcommand>::augment_subcommands(clap::Command::new("fault"));
        let words = std::iter::once("fault").chain(words.iter().copied());
        Fault::from_arg_matches(&command.try_get_matches_from(words)?)
    }

    #[test]
    fn every_word_means_the_same_on_the_command_line_and_in_the_admin_api() {
        for word in words() {
            let line: &[&str] = match word.as_str() {
                "master-failover" => &["master-failover", "200"],
                "slow" => &["slow", "200"],
                "etcd-kill" => &["etcd-kill", "200"],
                "etcd-pause" => &["etcd-pause", "200"],
                "delay-updates" => &["delay-updates", "agent-1", "200"],
                "drop-updates" | "duplicate-updates" | "drop-kills" => &[word.as_str(), "agent-1", "3"],
                other => &[other, "agent-1"],
            };
            let fault = parse(line).unwrap_or_else(|error| panic!("{word}: {error}"));
            let (sent, agent) = fault.address();
            assert_eq!(sent, word);
            let body = serde_json::to_value(&fault).unwrap();
            let more: serde_json::Map<_, _> = body
                .as_object()
                .unwrap()
                .iter()
                .filter(|(name, _)| !["fault", "agent"].contains(&name.as_str()))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            assert_eq!(read(&sent, agent.as_deref(), more.into()), Ok(fault), "{word}");
        }
    }

    #[test]
    fn an_unknown_word_is_answered_with_those_that_exist() {
        let error = read("agent-lots", Some("agent-1"), serde_json::Value::Null).unwrap_err();
        assert!(
            error.contains("there is no fault \"agent-lots\"") && error.contains("agent-lost"),
            "{error}"
        );
    }

    #[test]
    fn what_a_fault_needs_and_is_not_given_is_named() {
        let error = read("delay-updates", Some("agent-1"), serde_json::Value::Null).unwrap_err();
        assert!(error.contains("milliseconds"), "{error}");
    }
}
