//! What the loss of a rack or zone costs, where the rules do not prevent it.

use std::{collections::BTreeMap, fmt};

use overlord_api::Domain;

use super::{Seated, Shape, rule_of};

/// What a rack or zone holds too much of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Note {
    /// So many masters that the others are no majority.
    Majority {
        /// Rack or zone.
        domain: Domain,
        /// Its name.
        name: String,
        /// Masters in it.
        masters: u32,
        /// Masters of the cluster.
        of: u32,
    },
    /// Every copy of these shards.
    WholeShards {
        /// Rack or zone.
        domain: Domain,
        /// Its name.
        name: String,
        /// The shards, in order.
        shards: Vec<u32>,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Majority { domain, name, masters, of } => write!(
                f,
                "{} {name} holds {masters} of {of} masters: its loss stops the cluster",
                domain.as_str()
            ),
            Self::WholeShards { domain, name, shards } => {
                write!(f, "{} {name} holds every copy of ", domain.as_str())?;
                match shards.as_slice() {
                    [one] => write!(f, "shard {one}")?,
                    [first, second] => write!(f, "shards {first} and {second}")?,
                    [first, .., last] => {
                        write!(f, "{} shards from {first} to {last}", shards.len())?;
                    }
                    [] => f.write_str("no shard")?,
                }
                f.write_str(": its loss takes their keys")
            }
        }
    }
}

/// What the loss of each rack, and of each zone if the rules say anything of zones, costs with the roles of
/// now. Domains that are not told are left out, and so are single copies: without replicas any loss takes keys.
pub fn notes(shape: Shape, seats: &[Seated], rules: &overlord_api::Placement) -> Vec<Note> {
    let mut notes = Vec::new();
    for domain in [Domain::Rack, Domain::Zone] {
        if rule_of(rules, domain).is_none() {
            continue;
        }
        let mut masters: BTreeMap<Name<'_>, u32> = BTreeMap::new();
        let mut shards: BTreeMap<u32, Option<Name<'_>>> = BTreeMap::new();
        let mut copies: BTreeMap<u32, u32> = BTreeMap::new();
        for seat in seats {
            let name = name(domain, seat);
            if let Some(name) = name.filter(|_| seat.master) {
                *masters.entry(name).or_default() += 1;
            }
            let only = shards.entry(seat.shard).or_insert(name);
            *only = only.filter(|only| Some(*only) == name);
            *copies.entry(seat.shard).or_default() += 1;
        }
        for ((_, name), masters) in masters {
            if masters > shape.most_masters() {
                let (name, of) = (name.to_owned(), shape.masters);
                notes.push(Note::Majority { domain, name, masters, of });
            }
        }
        let mut whole: BTreeMap<Name<'_>, Vec<u32>> = BTreeMap::new();
        for (shard, name) in shards {
            if let Some(name) = name.filter(|_| copies.get(&shard).is_some_and(|copies| *copies > 1)) {
                whole.entry(name).or_default().push(shard);
            }
        }
        for ((_, name), shards) in whole {
            notes.push(Note::WholeShards { domain, name: name.to_owned(), shards });
        }
    }
    notes
}

/// A zone, for racks only, and a name.
type Name<'s> = (Option<&'s str>, &'s str);

fn name(domain: Domain, seat: &Seated) -> Option<Name<'_>> {
    match domain {
        Domain::Host => None,
        Domain::Rack => seat.rack.as_deref().map(|rack| (seat.zone.as_deref(), rack)),
        Domain::Zone => seat.zone.as_deref().map(|zone| (None, zone)),
    }
}
