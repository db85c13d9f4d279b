//! `CLUSTER`.

use overlord_engines::cluster::{SLOTS, SlotSet, key_slot};

use super::unknown;
use crate::model::redis::{Pid, Redises, cluster::peer::Place, resp};

impl Redises {
    pub(super) fn cluster(&mut self, pid: Pid, words: &[&str]) -> Vec<u8> {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&pid) else { return resp::error("ERR") };
        let keys = process.keys.len();
        let Some(cluster) = &mut process.cluster else {
            return resp::error("ERR This instance has cluster support disabled");
        };
        let word = words.first().map(|word| word.to_ascii_uppercase()).unwrap_or_default();
        let done = match (word.as_str(), words.get(1..).unwrap_or_default()) {
            ("NODES", []) => return resp::bulk(cluster.nodes().as_bytes()),
            ("INFO", []) => return resp::bulk(cluster.info().as_bytes()),
            ("MYID", []) => return resp::bulk(cluster.me.id.to_string().as_bytes()),
            ("KEYSLOT", [key]) => return resp::number(key_slot(key.as_bytes()).into()),
            ("BUMPEPOCH", []) => {
                let word = if cluster.bump_epoch() { "BUMPED" } else { "STILL" };
                return resp::status(&format!("{word} {}", cluster.me.config_epoch));
            }
            ("COUNT-FAILURE-REPORTS", [id]) => {
                let peer = id.parse().ok().and_then(|id| cluster.peer(&id));
                return match peer {
                    Some(peer) => resp::number(peer.reports.len() as u64),
                    None => resp::error(&format!("ERR Unknown node {id}")),
                };
            }
            ("SAVECONFIG", []) => {
                cluster.todo.save = true;
                Ok(())
            }
            ("FAILOVER", []) => cluster.order_failover(now, false, false),
            ("FAILOVER", [how]) if how.eq_ignore_ascii_case("FORCE") => {
                cluster.order_failover(now, true, false)
            }
            ("FAILOVER", [how]) if how.eq_ignore_ascii_case("TAKEOVER") => {
                cluster.order_failover(now, true, true)
            }
            ("FAILOVER", _) => Err("ERR syntax error".to_owned()),
            ("MEET", [ip, port, bus @ ..]) if bus.len() < 2 => {
                let parsed = ip.parse().ok().zip(port.parse::<u16>().ok().filter(|port| *port > 0));
                let bus_port = match bus.first() {
                    Some(bus) => bus.parse().ok(),
                    None => parsed.and_then(|(_, port)| port.checked_add(10_000)),
                };
                match parsed.zip(bus_port) {
                    Some(((ip, port), bus_port)) => {
                        cluster.order_meet(now, Place { ip: Some(ip), port, bus_port });
                        Ok(())
                    }
                    None => Err(format!("ERR Invalid node address specified: {ip}:{port}")),
                }
            }
            ("REPLICATE", [id]) => cluster.order_replicate(id, keys > 0),
            ("FORGET", [id]) => cluster.order_forget(now, id),
            ("SET-CONFIG-EPOCH", [epoch]) => match epoch.parse() {
                Ok(epoch) => cluster.order_epoch(epoch),
                Err(_) => Err("ERR value is not an integer or out of range".to_owned()),
            },
            ("ADDSLOTS" | "DELSLOTS", slots) if !slots.is_empty() => {
                let each: Option<Vec<u16>> = slots.iter().map(|slot| slot.parse().ok()).collect();
                let slots = each.map(|each| each.into_iter().map(|slot| slot..=slot).collect());
                change_slots(cluster, word == "ADDSLOTS", slots)
            }
            ("ADDSLOTSRANGE" | "DELSLOTSRANGE", ends) if !ends.is_empty() && ends.len().is_multiple_of(2) => {
                let each: Option<Vec<u16>> = ends.iter().map(|slot| slot.parse().ok()).collect();
                let slots = each.map(|each| each.chunks_exact(2).map(|ends| ends[0]..=ends[1]).collect());
                change_slots(cluster, word == "ADDSLOTSRANGE", slots)
            }
            _ => return unknown("CLUSTER", words.first().copied().unwrap_or_default()),
        };
        match done {
            Ok(()) => resp::ok(),
            Err(why) => resp::error(&why),
        }
    }
}

fn change_slots(
    cluster: &mut crate::model::redis::cluster::Cluster,
    adds: bool,
    slots: Option<SlotSet>,
) -> Result<(), String> {
    let slots = slots.filter(|slots| !slots.is_empty());
    let Some(slots) = slots else { return Err(format!("ERR Invalid or out of range slot, of {SLOTS}")) };
    if adds { cluster.order_add_slots(&slots) } else { cluster.order_delete_slots(&slots) }
}
