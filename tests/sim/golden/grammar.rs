//! How commands are written: one a line, read word by word, so that what is misspelt is named where it stands.

use overlord_api::TaskDesired;

use super::{
    command::{Agent, Command, Control, Etcd, EventLine, Expect, Mesos, Trouble},
    words::{Fault, Words},
};

/// Reads one line, and for some the indented ones below it.
#[expect(clippy::too_many_lines, reason = "one arm a command: read as a table")]
pub(crate) fn read(words: &mut Words, block: &mut Block<'_>) -> Result<Command, Fault> {
    let verbs = "a command: apply, edit, delete, write, remove, replace, request, tell, kill, hang, cut, fill, damage, \
                 fail, call, lose, return, restart, renew, drain, mark, etcd, mesos, controller, wait, remember, always or expect";
    let start = words.clone();
    let verb = words.word(verbs)?;
    let command = match verb.as_str() {
        "apply" => Command::Apply {
            kind: words.read("redis, rediscluster or memcache", kind)?,
            cluster: words.word("the cluster's name")?,
            settings: words.settings()?,
        },
        "edit" => Command::Edit { cluster: words.word("the cluster's name")?, settings: words.settings()? },
        "delete" => Command::Delete(words.word("the cluster's name")?),
        "write" => Command::Write(words.word("a key")?, block.text()),
        "remove" => Command::Remove(words.word("a key, or a prefix that ends with /")?),
        "replace" => {
            let from = words.word("what is replaced")?;
            words.these("with")?;
            let to = words.word("what comes in its place")?;
            words.these("in")?;
            // Values are JSON, and words cannot hold quotation marks.
            let quoted = |text: String| text.replace('\'', "\"");
            Command::Replace { from: quoted(from), to: quoted(to), key: words.word("a key")? }
        }
        "request" => {
            let kind = words.word("a kind of task, such as restart")?;
            words.these("of")?;
            let cluster = words.word("the cluster's name")?;
            words.these("as")?;
            let id = words.word("the task's id")?;
            Command::Request { kind, cluster, id, params: words.settings()? }
        }
        "tell" => {
            let id = words.word("the task's id")?;
            words.these("to")?;
            Command::Tell(id, words.read("run, pause or abort", desired)?)
        }
        "kill" if words.takes("-9") => {
            let (cluster, member) = words.member()?;
            Command::Kill(cluster, member)
        }
        "kill" => {
            words.these("executor of")?;
            let (cluster, member) = words.member()?;
            Command::KillExecutor(cluster, member)
        }
        "fail" => {
            words.these("next")?;
            let number = words.number()?;
            words.these("starts")?;
            Command::FailStarts(number)
        }
        "hang" => {
            let (cluster, member) = words.member()?;
            Command::Hang(cluster, member, words.lasting()?)
        }
        "cut" => {
            words.these("off the host of")?;
            let (cluster, member) = words.member()?;
            Command::CutHost(cluster, member, words.lasting()?)
        }
        "fill" => {
            words.these("the disk of")?;
            let (cluster, member) = words.member()?;
            Command::FillDisk(cluster, member, words.lasting()?)
        }
        "damage" => {
            words.these("nodes.conf of")?;
            let (cluster, member) = words.member()?;
            Command::DamageNodesConf(cluster, member, words.word("torn, empty, absent or nonsense")?)
        }
        "call" => {
            let name = words.word("a name")?;
            words.these("the agent of")?;
            let (cluster, member) = words.member()?;
            Command::Call(name, cluster, member)
        }
        "lose" if words.takes("machine") => {
            let agent = agent(words)?;
            Command::Agent(agent, Trouble::LoseMachine(words.lasting()?))
        }
        "lose" => {
            let agent = agent(words)?;
            let time = if words.is_empty() { None } else { Some(words.lasting()?) };
            Command::Agent(agent, Trouble::Lose(time))
        }
        "return" => Command::Agent(agent(words)?, Trouble::Return),
        "restart" => Command::Agent(agent(words)?, Trouble::Restart),
        "renew" => Command::Agent(agent(words)?, Trouble::Renew),
        "drain" => {
            let agent = agent(words)?;
            Command::Agent(agent, Trouble::Drain(words.lasting()?))
        }
        "mark" => {
            let agent = agent(words)?;
            words.these("gone")?;
            Command::Agent(agent, Trouble::MarkGone(words.lasting()?))
        }
        "etcd" => Command::Etcd(etcd(words)?),
        "mesos" => Command::Mesos(mesos(words)?),
        "controller" => Command::Controller(controller(words)?),
        "wait" => Command::Wait(words.time()?),
        "remember" => Command::Remember(words.word("the cluster's name")?),
        "always" if words.takes("hand") => {
            words.these("over in")?;
            Command::HandsOver(words.word("the cluster's name")?)
        }
        "always" => {
            let number = words.number()?;
            words.these("of")?;
            let cluster = words.word("the cluster's name")?;
            words.these("serve")?;
            Command::Always(number, cluster)
        }
        "expect" => expect(words, block)?,
        _ => return Err(start.expected(verbs)),
    };
    words.end()?;
    Ok(command)
}

fn kind(word: &str) -> Option<String> {
    let kind = match word {
        "redis" => "Redis",
        "rediscluster" => "RedisCluster",
        "memcache" => "Memcache",
        _ => return None,
    };
    Some(kind.to_owned())
}

fn desired(word: &str) -> Option<TaskDesired> {
    match word {
        "run" => Some(TaskDesired::Run),
        "pause" => Some(TaskDesired::Pause),
        "abort" => Some(TaskDesired::Abort),
        _ => None,
    }
}

fn agent(words: &mut Words) -> Result<Agent, Fault> {
    let name = words.word("an agent, such as agent-2, or `agent of cart/1`")?;
    if name != "agent" {
        return Ok(Agent::Named(name));
    }
    words.these("of")?;
    let (cluster, member) = words.member()?;
    Ok(Agent::Of(cluster, member))
}

fn etcd(words: &mut Words) -> Result<Etcd, Fault> {
    let all = "down, slow, without, late, tells, compacted, loses, snapshot, restored, full or room";
    let start = words.clone();
    Ok(match words.word(all)?.as_str() {
        "down" => Etcd::Down(words.lasting()?),
        "slow" => Etcd::Slow(words.time()?, words.lasting()?),
        "without" => {
            words.these("quorum")?;
            Etcd::WithoutQuorum(words.lasting()?)
        }
        "late" => Etcd::LateWrites(words.time()?, words.lasting()?),
        "tells" => {
            words.these("late")?;
            Etcd::LateNews(words.time()?, words.lasting()?)
        }
        "compacted" => Etcd::Compacted,
        "loses" => {
            words.these("the lease")?;
            Etcd::LosesLease
        }
        "snapshot" => Etcd::Snapshot,
        "restored" => Etcd::Restored,
        "full" => Etcd::Full,
        "room" => Etcd::Room,
        _ => return Err(start.expected(all)),
    })
}

fn mesos(words: &mut Words) -> Result<Mesos, Fault> {
    let all = "breaks, fails, slow, takes, drops, loses, doubles, tells or delays";
    let start = words.clone();
    Ok(match words.word(all)?.as_str() {
        "breaks" => Mesos::Breaks,
        "fails" => {
            words.these("over after")?;
            let after = words.time()?;
            Mesos::FailsOver(after, !words.takes("forgetting"))
        }
        "slow" => Mesos::Slow(words.time()?, words.lasting()?),
        "takes" => {
            words.these("offers back")?;
            Mesos::TakesOffersBack
        }
        "drops" => {
            let number = words.number()?;
            words.these("kills")?;
            Mesos::DropsKills(number)
        }
        "loses" => {
            let number = words.number()?;
            words.these("updates")?;
            Mesos::LosesUpdates(number)
        }
        "doubles" => {
            let number = words.number()?;
            words.these("updates")?;
            Mesos::DoublesUpdates(number)
        }
        "tells" => {
            let number = words.number()?;
            words.these("false ends")?;
            Mesos::FalseEnds(number)
        }
        "delays" => {
            words.these("updates")?;
            Mesos::DelaysUpdates(words.time()?, words.lasting()?)
        }
        _ => return Err(start.expected(all)),
    })
}

fn controller(words: &mut Words) -> Result<Control, Fault> {
    let all = "starts, stands, crashes, stops, cut, paused or suspended";
    let start = words.clone();
    Ok(match words.word(all)?.as_str() {
        "starts" => Control::Start,
        "stands" => {
            words.these("by")?;
            Control::Standby
        }
        "crashes" => Control::Crash,
        "stops" => Control::Stop,
        "cut" => {
            words.these("off")?;
            Control::CutOff(words.lasting()?)
        }
        "paused" => Control::Pause(words.lasting()?, false),
        "suspended" => Control::Pause(words.lasting()?, true),
        _ => return Err(start.expected(all)),
    })
}

#[expect(clippy::too_many_lines, reason = "one arm an expectation: read as a table")]
fn expect(words: &mut Words, block: &mut Block<'_>) -> Result<Command, Fault> {
    let all =
        "phase, condition, leader, nothing, no, at, task, event, events, key, config, a number or a member";
    let start = words.clone();
    let word = words.word(all)?;
    let expect = match word.as_str() {
        "events" => {
            words.these("of")?;
            let cluster = words.word("the cluster's name")?;
            return Ok(Command::Events(cluster, block.events()?));
        }
        "no" if words.takes("offers") => {
            words.these("held")?;
            Expect::NoOffers
        }
        "no" => {
            let quiet = words.takes("writes");
            if !quiet {
                words.these("launch")?;
            }
            let time = words.lasting()?;
            return Ok(if quiet { Command::NoWrites(time) } else { Command::NoLaunch(time) });
        }
        "at" => {
            words.these("most")?;
            let number = words.number()?;
            words.these("launches in")?;
            return Ok(Command::AtMost(number, words.time()?));
        }
        "phase" => {
            words.these("of")?;
            let cluster = words.word("the cluster's name")?;
            words.these("is")?;
            Expect::Phase(cluster, words.read("a phase, such as Ready", phase)?)
        }
        "condition" => {
            let name = words.read("a condition, such as Ready", condition)?;
            words.these("of")?;
            let cluster = words.word("the cluster's name")?;
            words.these("is")?;
            let truth = words.read("True, False, Unknown or absent", truth)?;
            let reason = if words.takes("because") { Some(words.word("a reason")?) } else { None };
            Expect::Condition { name, cluster, truth, reason, message: words.quoted() }
        }
        "leader" => Expect::Leader(words.word("a controller, such as controller-2")?),
        "nothing" => {
            words.these("of")?;
            Expect::Nothing(words.word("the cluster's name")?)
        }
        "task" => {
            let id = words.word("the task's id")?;
            words.these("is")?;
            let state = words.word("a state, such as done")?;
            Expect::Task(id, state, words.quoted())
        }
        "event" => {
            let reason = words.word("a reason")?;
            words.these("of")?;
            let cluster = words.word("the cluster's name")?;
            let next = words.peek().is_some_and(|word| word == "cluster" || word.starts_with("member/"));
            let object = if next { Some(words.word("an object")?) } else { None };
            Expect::Event { reason, cluster, object, message: words.quoted() }
        }
        "key" => {
            let key = words.word("a key")?;
            if words.takes("absent") {
                Expect::Key(key, None)
            } else {
                words.these("like")?;
                Expect::Key(key, Some(words.word("a pattern")?))
            }
        }
        "config" => {
            words.these("of")?;
            let (cluster, member) = words.member()?;
            let mut settings = Vec::new();
            while words.peek().is_some_and(|word| word.contains('=')) {
                settings.push(words.read("a directive", |word| {
                    let (name, value) = word.split_once('=')?;
                    Some((name.to_owned(), value.to_owned()))
                })?);
            }
            Expect::Setting(cluster, member, settings)
        }
        other => {
            *words = start.clone();
            match other.parse::<u32>() {
                Ok(_) => {
                    let number = words.number()?;
                    let what = words.clone();
                    match words.word("processes, endpoints or hosts")?.as_str() {
                        "process" | "processes" => {
                            words.these("of")?;
                            Expect::Processes(number, words.word("the cluster's name")?)
                        }
                        "endpoint" | "endpoints" => {
                            words.these("of")?;
                            Expect::Endpoints(number, words.word("the cluster's name")?)
                        }
                        "host" | "hosts" => {
                            words.these("of")?;
                            Expect::Hosts(number, words.word("the cluster's name")?)
                        }
                        _ => return Err(what.expected("processes, endpoints or hosts")),
                    }
                }
                Err(_) => whom(words, &start, all)?,
            }
        }
    };
    Ok(Command::Expect(expect, words.within()?))
}

/// `cart/1 is running`, `cart/1 restarted`, `cart as remembered` ...
fn whom(words: &mut Words, start: &Words, all: &str) -> Result<Expect, Fault> {
    let name = words.word(all)?;
    let (cluster, member) = match name.split_once('/') {
        Some((cluster, member)) => match member.parse::<u32>() {
            Ok(member) => (cluster.to_owned(), Some(member)),
            Err(_) => return Err(start.expected("a member such as cart/1")),
        },
        None => (name, None),
    };
    let what = words.clone();
    match (words.word("is, restarted, moved, whole, knows or as")?.as_str(), member) {
        ("as", member) => {
            words.these("remembered")?;
            Ok(Expect::Same(cluster, member))
        }
        ("whole", None) => Ok(Expect::Whole(cluster)),
        ("knows", None) => words.these("its own only").map(|()| Expect::Knows(cluster)),
        ("is", Some(member)) if words.takes("a") => {
            let master = words.read("master or replica", |word| match word {
                "master" => Some(true),
                "replica" => Some(false),
                _ => None,
            })?;
            Ok(Expect::Role(cluster, member, master))
        }
        ("is", Some(member)) => {
            Ok(Expect::State(cluster, member, words.read("a state, such as running", state)?))
        }
        ("restarted", Some(member)) => Ok(Expect::Restarted(cluster, member)),
        ("moved", Some(member)) => Ok(Expect::Moved(cluster, member)),
        (_, None) => Err(start.expected(all)),
        (_, Some(_)) => Err(what.expected("is, restarted, moved, whole or as")),
    }
}

fn phase(word: &str) -> Option<String> {
    let all = ["Pending", "Creating", "Ready", "Updating", "Degraded", "Paused", "Deleting", "Deleted"];
    all.contains(&word).then(|| word.to_owned())
}

fn condition(word: &str) -> Option<String> {
    let all = [
        "Accepted",
        "Ready",
        "Progressing",
        "Degraded",
        "Unplaceable",
        "QuorumLost",
        "DataLost",
        "SpecMissing",
        "Stale",
    ];
    all.contains(&word).then(|| word.to_owned())
}

fn truth(word: &str) -> Option<String> {
    ["True", "False", "Unknown", "absent"].contains(&word).then(|| word.to_owned())
}

fn state(word: &str) -> Option<String> {
    let all = [
        "pending",
        "staging",
        "running",
        "restarting",
        "unreachable",
        "draining",
        "failed",
        "gone",
        "absent",
    ];
    all.contains(&word).then(|| word.to_owned())
}

/// The indented lines below a command.
pub(crate) struct Block<'a> {
    pub(crate) lines: Vec<(usize, &'a str)>,
}

impl Block<'_> {
    /// As one text, without the indentation of its first line.
    fn text(&mut self) -> String {
        let indentation = self.lines.first().map_or(0, |(_, line)| line.len() - line.trim_start().len());
        let lines = std::mem::take(&mut self.lines);
        let lines =
            lines.iter().map(|(_, line)| line.get(indentation..).unwrap_or_else(|| line.trim_start()));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// As events: `Warning Failed member/1 x2 "message"`.
    fn events(&mut self) -> Result<Vec<EventLine>, Fault> {
        let mut events = Vec::new();
        for (line, text) in std::mem::take(&mut self.lines) {
            let mut words = Words::of(line, text)?;
            let level = words.read("Normal or Warning", |word| {
                ["Normal", "Warning"].contains(&word).then(|| word.to_owned())
            })?;
            let reason = words.word("a reason")?;
            let object = words.word("an object: cluster or member/1")?;
            let count = words.peek().and_then(|word| word.strip_prefix('x')?.parse().ok());
            if count.is_some() {
                words.word("a count")?;
            }
            let message =
                words.quoted().ok_or_else(|| words.expected("a message in quotes, * stands for anything"))?;
            words.end()?;
            events.push(EventLine { level, reason, object, count: count.unwrap_or(1), message });
        }
        Ok(events)
    }
}
