//! What cases do between two calls, besides the control actions.

use std::{collections::BTreeSet, process::Stdio, sync::Arc, time::Duration};

use overlord_conformance::{case::Hook, cast::Cast, external::request, replay::Replay};
use tokio::process::Command;

/// How often something is looked at that tells nobody.
const POLL: Duration = Duration::from_millis(50);
/// For executors, agents and masters to get where a case wants them.
const LIMIT: Duration = Duration::from_secs(60);
/// Agents with a fixed master address miss its pings for 75 s before they look for it.
const FOR_AGENTS: Duration = Duration::from_secs(110);
/// Longer than filters of 5 s hold.
const FOR_AN_OFFER: Duration = Duration::from_secs(10);

/// Ends an executor's process, as `kill -9` does.
pub(crate) fn kill_executor(cast: &Cast, name: &'static str) -> Hook {
    let cast = cast.clone();
    Arc::new(move |_| {
        let pid = cast.pid(name);
        Box::pin(async move {
            let pid = pid.ok_or_else(|| format!("the executor {name} has not been started"))?.to_string();
            let ended = Command::new("kill").args(["-9", &pid]).stdin(Stdio::null()).status().await;
            match ended {
                Ok(status) if status.success() => Ok(()),
                Ok(status) => Err(format!("kill -9 {pid}: {status}")),
                Err(error) => Err(format!("kill -9 {pid}: {error}")),
            }
        })
    })
}

/// Waits until an executor has written this down.
pub(crate) fn until_written(cast: &Cast, name: &'static str, text: &'static str) -> Hook {
    let cast = cast.clone();
    Arc::new(move |replay| {
        let cast = cast.clone();
        Box::pin(async move {
            for _ in 0..LIMIT.as_millis() / POLL.as_millis() {
                if cast.written(name).contains(text) {
                    return Ok(());
                }
                replay.pass(POLL).await;
            }
            Err(format!("the executor {name} did not come to '{text}' in {LIMIT:?}"))
        })
    })
}

/// Waits until an offer of that agent lies at hand on that connection, so that there is one to rescind.
pub(crate) fn until_offered(connection: &'static str, agent: &'static str) -> Hook {
    Arc::new(move |replay| {
        Box::pin(async move {
            let known = replay.names.get(agent).map(str::to_owned);
            let agent = known.ok_or_else(|| format!("the agent {agent} has not offered anything"))?;
            let is_there = |replay: &Replay<'_>| {
                replay.offers.live.iter().any(|live| live.connection == connection && live.agent == agent)
            };
            if replay.until(FOR_AN_OFFER, is_there).await {
                return Ok(());
            }
            Err(format!("no offer lies at hand on {connection}"))
        })
    })
}

/// Waits until so many agents have offered something on that connection.
pub(crate) fn until_agents(connection: &'static str, count: usize) -> Hook {
    Arc::new(move |replay| {
        Box::pin(async move {
            let are_there = |replay: &Replay<'_>| {
                let all = replay.offers.known.iter().filter(|known| known.connection == connection);
                all.map(|known| &known.agent).collect::<BTreeSet<_>>().len() >= count
            };
            if replay.until(FOR_AGENTS, are_there).await {
                return Ok(());
            }
            Err(format!("{count} agents do not come back to {connection} in {FOR_AGENTS:?}"))
        })
    })
}

/// Lets time pass.
pub(crate) fn pass(time: Duration) -> Hook {
    Arc::new(move |replay| {
        Box::pin(async move {
            replay.pass(time).await;
            Ok(())
        })
    })
}

/// Waits until a restarted master takes calls. What it says before that is as recorded.
pub(crate) fn until_recovered() -> Hook {
    Arc::new(|replay| {
        Box::pin(async move {
            let master = replay.target.master("127.0.0.1:5250");
            let mut last = String::new();
            for _ in 0..LIMIT.as_millis() / POLL.as_millis() {
                last = request(master, "POST", "/api/v1/scheduler", "").await.unwrap_or_else(|error| error);
                match last.as_str() {
                    "Master has not finished recovery" | "No leader elected" | "" => {}
                    text if text.starts_with("cannot connect") => {}
                    text if text.starts_with("Expecting 'Content-Type'") => return Ok(()),
                    text => return Err(format!("a starting master says '{text}'")),
                }
                replay.pass(POLL).await;
            }
            Err(format!("the master does not come back; it said '{last}' last"))
        })
    })
}

/// The recorded machines were told apart by their names: here they are what the target's agents say.
pub(crate) fn machine_of(
    agent: &'static str,
    recorded_name: &'static str,
    recorded_ip: &'static str,
) -> Hook {
    Arc::new(move |replay: &mut Replay<'_>| {
        let bound = bind_machine(replay, agent, recorded_name, recorded_ip);
        Box::pin(std::future::ready(bound))
    })
}

fn bind_machine(replay: &mut Replay<'_>, agent: &str, name: &str, ip: &str) -> Result<(), String> {
    let id = replay.names.get(agent).ok_or("the agent is not known")?.to_owned();
    let offer = replay.offers.known.iter().find(|live| live.agent == id).ok_or("the agent made no offer")?;
    let text =
        |pointer: &str| offer.offer.pointer(pointer).and_then(|value| value.as_str()).map(str::to_owned);
    let hostname = text("/hostname").ok_or("the offer has no hostname")?;
    let address = text("/url/address/ip").ok_or("the offer has no address")?;
    replay.names.bind(name, &hostname);
    if address != ip {
        replay.names.bind(ip, &address);
    }
    Ok(())
}
