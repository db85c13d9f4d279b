//! Bringing a running server from one configuration to another: what it takes live is set and read
//! back, then the file is written. When the server refuses a part, everything is as before.

use overlord_engines::{Change, ServerConf, diff};

use crate::{Instance, LiveError, Machine, keeper::Applied, machine::chain};

/// Applies `new` to a server that runs `old`, and was started with `started`.
pub(crate) async fn apply(
    machine: &dyn Machine,
    instance: &Instance,
    started: &str,
    old: &str,
    new: &str,
) -> Applied {
    let parsed = (ServerConf::parse(started), ServerConf::parse(old), ServerConf::parse(new));
    let (started, old, parsed) = match parsed {
        (Ok(started), Ok(old), Ok(new)) => (started, old, new),
        (_, _, Err(error)) => return Applied::Refused(chain(&error)),
        (Err(error), _, _) | (_, Err(error), _) => return Applied::Failed(chain(&error)),
    };
    let (kind, version) = (instance.kind, instance.engine_version.as_str());
    let live: Vec<Change> =
        diff(kind, version, &old, &parsed).into_iter().filter(|change| change.live).collect();
    if !live.is_empty() {
        match machine.set_live(instance, &live).await {
            Ok(()) => {}
            Err(LiveError::Refused(words)) => return Applied::Refused(words),
            Err(LiveError::NoAnswer(why)) => return Applied::Failed(why),
        }
    }
    if let Err(error) = machine.write_conf(instance, new).await {
        let back: Vec<Change> = live.into_iter().map(reversed).collect();
        let undone = match machine.set_live(instance, &back).await {
            Ok(()) => String::new(),
            Err(error) => format!("; and what was set could not be set back: {error}"),
        };
        return Applied::Failed(format!("{}{undone}", chain(&error)));
    }
    // What was live once is live now: only what the process was started with can still differ.
    Applied::Accepted {
        needs_restart: diff(kind, version, &started, &parsed).iter().any(|change| !change.live),
    }
}

fn reversed(change: Change) -> Change {
    let Change { directive, old, new, live } = change;
    Change { directive, old: new, new: old, live }
}
