//! Room for members that are to be launched anew with more than they have: it is looked for before anybody is
//! stopped, in what is offered and in what the member itself gives back.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use overlord_api::{Address, Info, Kind, Persistence, Resources, Spec, State};
use overlord_placement::{Bus, HostOffer, Request, World, assign};

use super::Pass;
use crate::{
    at_hand::{Least, Wish},
    launcher::{Found, MIB, Wanted, refusal},
    members::{apply::placed, observed::Instance},
    settings::{EXECUTOR_CPU_MILLIS, EXECUTOR_MEMORY},
};

impl Pass<'_> {
    /// For each of `members`, why it has no place as the spec wants it, if it has none. Whoever has none is
    /// remembered as demand: the cluster looks again when offers come.
    pub(super) fn room(
        &self,
        spec: &Spec,
        instances: &[Instance],
        members: &BTreeSet<Address>,
    ) -> BTreeMap<Address, Option<String>> {
        let of = |info: &Info| members.contains(&info.address());
        let growing: Vec<&Info> = instances.iter().map(|i| &*i.info).filter(|info| of(info)).collect();
        let own_host = stays(spec);
        let missing = growing.iter().map(|info| lacking(info.resources, spec.resources));
        let least = missing.reduce(|a, b| Least {
            cpu_millis: a.cpu_millis.min(b.cpu_millis),
            mem: a.mem.min(b.mem),
            disk: a.disk.min(b.disk),
        });
        let Some(least) = least else { return BTreeMap::new() };
        let wish = Wish {
            rules: &spec.placement,
            members: growing.len(),
            least,
            hosts: growing.iter().map(|info| info.ip).collect(),
            only_hosts: own_host,
            occupied: BTreeSet::new(),
        };
        let wanted = Wanted { cluster: self.cluster, wish, own: BTreeSet::new() };
        let answers: RefCell<BTreeMap<Address, Option<String>>> = RefCell::default();
        self.shared.launcher.place_by(&self.shared.ledger, wanted, |offers, taken| {
            let mut answers = answers.borrow_mut();
            // Those of an attempt with fewer offers do not count.
            answers.clear();
            let mut found = Found::default();
            for info in &growing {
                let refused = no_place(spec, info, instances, offers, taken);
                found.refused = found.refused.or_else(|| refused.clone());
                answers.insert(info.address(), refused);
            }
            found
        });
        answers.into_inner()
    }
}

/// Whether a member that is launched anew comes back where it was: what it holds is there, or its shard's rules
/// were kept by its host.
fn stays(spec: &Spec) -> bool {
    spec.persistence != Persistence::None || spec.shape.kind() == Kind::RedisCluster
}

/// What somebody needs beyond what it has.
fn lacking(has: Resources, needs: Resources) -> Least {
    Least {
        cpu_millis: u64::from(needs.cpu_millis.saturating_sub(has.cpu_millis)),
        mem: needs.memory.saturating_sub(has.memory),
        disk: needs.disk.saturating_sub(has.disk),
    }
}

/// Why there is no place for a member as the spec wants it, were it stopped now.
fn no_place(
    spec: &Spec,
    info: &Info,
    instances: &[Instance],
    offers: &[HostOffer],
    taken: &BTreeSet<Address>,
) -> Option<String> {
    let resources = spec.resources;
    let own_host = stays(spec);
    let request = Request {
        member: info.member,
        cpu_millis: u64::from(resources.cpu_millis + EXECUTOR_CPU_MILLIS),
        mem: resources.memory.next_multiple_of(MIB) + EXECUTOR_MEMORY,
        disk: resources.disk.next_multiple_of(MIB),
        // It has its second port.
        bus: Bus::None,
        prefer: None,
        only: own_host.then(|| info.address()),
    };
    let others = instances.iter().map(|instance| &*instance.info).filter(|other| {
        // On its own host nothing changes for the others.
        !own_host && other.member != info.member && other.desired.state == State::Running
    });
    let others: Vec<_> = others.map(placed).collect();
    let mut taken = taken.clone();
    taken.remove(&info.address());
    let outcome = assign(
        &[request],
        &World {
            rules: &spec.placement,
            members: spec.shape.members(),
            placed: &others,
            offers: &with_back(spec, info, offers),
            taken: &taken,
            exclude_hosts: &BTreeSet::new(),
        },
    );
    (!outcome.refusals.is_empty()).then(|| refusal(&outcome, offers))
}

/// The offers as they would be if the member were stopped.
fn with_back(spec: &Spec, info: &Info, offers: &[HostOffer]) -> Vec<HostOffer> {
    let mut offers = offers.to_vec();
    let roles = &spec.placement.roles;
    let own = offers.iter_mut().find(|offer| offer.agent_id == info.agent_id && roles.contains(&offer.role));
    if let Some(own) = own {
        own.cpu_millis += u64::from(info.resources.cpu_millis + EXECUTOR_CPU_MILLIS);
        own.mem += info.resources.memory.next_multiple_of(MIB) + EXECUTOR_MEMORY;
        own.disk += info.resources.disk.next_multiple_of(MIB);
        own.ports.push((info.port, info.port));
    }
    offers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    const GIB: u64 = 1024 * MIB;

    fn world() -> (Spec, Vec<Instance>) {
        let spec = samples::spec(2);
        let instance = |member| Instance {
            info: std::sync::Arc::new(samples::info(member, State::Running)),
            revision: 1,
            conf: None,
        };
        (spec, vec![instance(0), instance(1)])
    }

    fn offer(info: &Info, mem: u64) -> HostOffer {
        HostOffer {
            agent_id: info.agent_id.clone(),
            offer_ids: vec![String::from("o")],
            host: info.ip,
            hostname: String::new(),
            rack: info.rack.clone(),
            zone: None,
            attributes: BTreeMap::new(),
            cpu_millis: 4000,
            mem,
            disk: 64 * GIB,
            ports: Vec::new(),
            role: String::from("*"),
        }
    }

    #[test]
    fn what_a_member_gives_back_counts_and_no_more() {
        let (mut spec, instances) = world();
        let info = &instances[0].info;
        let taken = BTreeSet::from([info.address(), instances[1].info.address()]);
        spec.resources.memory = info.resources.memory + GIB;
        let refused = |mem| no_place(&spec, info, &instances, &[offer(info, mem)], &taken);
        assert_eq!(refused(GIB), None);
        let why = refused(GIB - MIB).unwrap();
        assert!(why.starts_with("1 member has no place: "), "{why}");
        assert!(no_place(&spec, info, &instances, &[], &taken).is_some());
    }

    #[test]
    fn what_is_kept_on_disk_is_not_moved_for_room() {
        let (mut spec, instances) = world();
        let info = &instances[0].info;
        spec.resources.memory = info.resources.memory + GIB;
        let mut other = offer(info, 64 * GIB);
        other.agent_id = String::from("another");
        other.host = std::net::IpAddr::from([10, 9, 9, 9]);
        other.ports = vec![(20_000, 20_100)];
        let offers = [offer(info, MIB), other];
        assert_eq!(no_place(&spec, info, &instances, &offers, &BTreeSet::new()), None);
        spec.persistence = Persistence::Rdb;
        assert!(no_place(&spec, info, &instances, &offers, &BTreeSet::new()).is_some());
    }
}
