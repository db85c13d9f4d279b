//! `nodes.conf`, read as redis reads it: more is taken than is good, and some of it ends the process.

use std::{fmt::Write as _, time::Duration};

use overlord_engines::cluster::{Flag, Flags, NodeId, SLOTS, SlotSet};

use super::{
    Cluster, Settings,
    peer::{self, Peer, Place},
};

const CORRUPT: &str = "Unrecoverable error: corrupted cluster config file";
const UNKNOWN_FLAG: &str = "Guru Meditation: Unknown flag in redis cluster config file #cluster.c:289";
const TWO_MYSELVES: &str = "=== ASSERTION FAILED === server.cluster->myself == NULL is not true";

impl Cluster {
    /// What the node writes down.
    pub(crate) fn save(&self) -> String {
        let mut text = peer::lines(self.all(), &self.epochs(), |peer| !peer.has(Flag::Handshake));
        let (current, vote) = (self.current_epoch, self.last_vote_epoch);
        let _ = writeln!(text, "vars currentEpoch {current} lastVoteEpoch {vote}");
        text
    }

    /// The node of a file, at the place where it is now; or with what words it ends.
    pub(crate) fn load(text: &str, place: Place, settings: Settings, now: Duration) -> Result<Self, String> {
        let mut peers: Vec<Peer> = Vec::new();
        let mut epochs = (0, 0);
        let corrupt = |line: &str| format!("{CORRUPT} \"{line}\"");
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.first().is_some_and(|word| word.eq_ignore_ascii_case("vars")) {
                if words.len().is_multiple_of(2) {
                    return Err(corrupt(line));
                }
                for pair in words[1..].chunks_exact(2) {
                    let value = pair[1].parse().unwrap_or(0);
                    if pair[0].eq_ignore_ascii_case("currentEpoch") {
                        epochs.0 = value;
                    } else if pair[0].eq_ignore_ascii_case("lastVoteEpoch") {
                        epochs.1 = value;
                    }
                }
                continue;
            }
            read_line(&mut peers, &words, now).map_err(|fault| fault.unwrap_or_else(|| corrupt(line)))?;
        }
        let Some(own) = peers.iter().position(|peer| peer.has(Flag::Myself)) else {
            return Err(corrupt("no myself"));
        };
        let me = peers.swap_remove(own);
        let mut cluster = Self::new(me.id, place, settings);
        cluster.me = Peer { place, ..me };
        cluster.others = peers.into_iter().map(|peer| (peer.id, peer)).collect();
        let highest = cluster.all().map(|peer| peer.config_epoch).max().unwrap_or(0);
        cluster.current_epoch = epochs.0.max(highest);
        cluster.last_vote_epoch = epochs.1;
        cluster.size = cluster.all().filter(|peer| peer.serves()).count();
        Ok(cluster)
    }
}

/// One node; none is a line that makes no sense, some are the words of a crash.
fn read_line(peers: &mut Vec<Peer>, words: &[&str], now: Duration) -> Result<(), Option<String>> {
    let [id, address, flags, master, _, pong, epoch, _, slots @ ..] = words else { return Err(None) };
    let id: NodeId = id.parse().map_err(|_| None)?;
    let place = place(address).ok_or(None)?;
    let parsed = parse_flags(flags).map_err(|()| Some(UNKNOWN_FLAG.to_owned()))?;
    if parsed.has(Flag::Myself) && peers.iter().any(|peer| peer.has(Flag::Myself)) {
        return Err(Some(TWO_MYSELVES.to_owned()));
    }
    let master = match *master {
        "-" => None,
        master => Some(master.parse::<NodeId>().map_err(|_| None)?),
    };
    let mut owned = SlotSet::new();
    peers.iter().filter(|peer| peer.id != id).for_each(|peer| owned.extend(&peer.slots));
    let mut mine = SlotSet::new();
    for word in slots.iter().filter(|word| !word.starts_with('[')) {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let number = |text: &str| text.parse::<u16>().ok().filter(|slot| *slot < SLOTS).ok_or(None);
        mine.insert(number(first)?..=number(last)?);
    }
    // An owner before it in the file keeps its slot.
    let mine = &mine - &owned;
    if let Some(master) =
        master.filter(|master| *master != id && !peers.iter().any(|peer| peer.id == *master))
    {
        peers.push(Peer::new(master, Place::default(), Flags::default()));
    }
    if !peers.iter().any(|peer| peer.id == id) {
        peers.push(Peer::new(id, place, Flags::default()));
    }
    let Some(peer) = peers.iter_mut().find(|peer| peer.id == id) else { return Err(None) };
    peer.place = place;
    peer.flags = parsed;
    peer.master = master;
    peer.pong_ms = if *pong == "0" { 0 } else { now.as_millis() as u64 };
    peer.failed_at = now;
    peer.config_epoch = if master.is_some() && peer.is_replica() { 0 } else { epoch.parse().unwrap_or(0) };
    peer.slots = mine;
    Ok(())
}

fn place(column: &str) -> Option<Place> {
    let column = column.split(',').next()?;
    let (host, ports) = column.rsplit_once(':')?;
    let (port, bus_port) = ports.split_once('@').unwrap_or((ports, ""));
    let port: u16 = port.parse().unwrap_or(0);
    let bus_port = bus_port.parse().unwrap_or_else(|_| port.saturating_add(10_000));
    Some(Place { ip: host.parse().ok(), port, bus_port })
}

fn parse_flags(column: &str) -> Result<Flags, ()> {
    let mut flags = Flags::default();
    for word in column.split(',') {
        let flag = match word.to_ascii_lowercase().as_str() {
            "myself" => Flag::Myself,
            "master" => Flag::Master,
            "slave" => Flag::Slave,
            "fail?" => Flag::SuspectedFail,
            "fail" => Flag::Fail,
            "handshake" => Flag::Handshake,
            "noaddr" => Flag::NoAddress,
            "nofailover" => Flag::NoFailover,
            "noflags" => continue,
            _ => return Err(()),
        };
        flags = flags.with(flag);
    }
    Ok(flags)
}
