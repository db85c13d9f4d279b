//! The leader's fence on the engine's side: a leader names its connections by its epoch, and before its
//! first command ends those of earlier leaders. A paused leader that wakes up finds its connection gone,
//! and is refused a new one while its successor is there.

use crate::{AdminError, resp::Resp};

/// Before the epoch in a connection's name.
const PREFIX: &str = "overlord:";

/// The name of a leader's connections.
pub fn client_name(epoch: i64) -> String {
    format!("{PREFIX}{epoch}")
}

/// The epoch in a connection's name, if a leader gave it.
pub fn epoch_of(client_name: &str) -> Option<i64> {
    client_name.strip_prefix(PREFIX)?.parse().ok()
}

/// Gives a fresh connection its name, if it is to have one: a leader's raises the fence.
pub(crate) async fn introduce(resp: &mut Resp, client_name: Option<&str>) -> Result<(), AdminError> {
    match client_name.map(|name| (name, epoch_of(name))) {
        None => Ok(()),
        Some((_, Some(epoch))) => raise(resp, epoch).await,
        Some((name, None)) => resp.call("CLIENT SETNAME", &["CLIENT", "SETNAME", name]).await.map(|_| ()),
    }
}

/// Names a fresh connection and ends those of lower epochs. Doing it again changes nothing.
async fn raise(resp: &mut Resp, epoch: i64) -> Result<(), AdminError> {
    // Named first: of two leaders that do this at once, at least one sees the other.
    resp.call("CLIENT SETNAME", &["CLIENT", "SETNAME", &client_name(epoch)]).await?;
    let mut stale: Vec<String> = Vec::new();
    let mut later = epoch;
    resp.lines("CLIENT LIST", &["CLIENT", "LIST"], |line| {
        let Some((id, found)) = named(line) else { return };
        later = later.max(found);
        if found < epoch {
            stale.push(id.to_owned());
        }
    })
    .await?;
    if later > epoch {
        return Err(AdminError::Fenced { address: resp.wire.address, ours: epoch, theirs: later });
    }
    for id in stale {
        // 0 when the connection ended by itself meanwhile.
        resp.call("CLIENT KILL", &["CLIENT", "KILL", "ID", &id]).await?;
    }
    Ok(())
}

/// Id and epoch of a line of CLIENT LIST that is a leader's connection. Names hold no spaces.
fn named(line: &str) -> Option<(&str, i64)> {
    let field = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let epoch = epoch_of(field("name")?)?;
    let id = field("id").filter(|id| id.bytes().all(|b| b.is_ascii_digit()))?;
    Some((id, epoch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_connections_of_leaders_are_told_apart() {
        assert_eq!(epoch_of(&client_name(42)), Some(42));
        let line = |name: &str| {
            format!("id=6 addr=127.0.0.1:4 laddr=127.0.0.1:2 fd=12 name={name} age=0 cmd=client|list")
        };
        assert_eq!(named(&line("overlord:7")), Some(("6", 7)));
        for other in ["", "overlord:", "overlord:x", "app", "my-overlord:7"] {
            assert_eq!(named(&line(other)), None, "{other}");
        }
        assert_eq!(named("name=overlord:7"), None);
    }
}
