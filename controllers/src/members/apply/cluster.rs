//! Places for the members of a `RedisCluster`: all at once when it is formed, one by one later, always by the
//! rules that keep shards and majorities apart.

use std::collections::{BTreeMap, BTreeSet};

use overlord_api::{Address, Info, State};
use overlord_placement::{
    Bus, HostOffer, Placed, Placement, Request, World, assign,
    cluster::{Lost, Need, Seated, Shape, form, reseat},
};

use super::{
    Apply,
    launch::{Seeds, request},
};
use crate::{
    at_hand::Wish,
    launcher::{Found, MIB, Wanted, refusal},
    ledger::LedgerError,
    members::{
        observed::Instance,
        step::{Form, Launch, Place},
    },
    redis_cluster::{
        seats::Seats,
        seed::{self, Joining},
        shard_of,
    },
    settings::{EXECUTOR_CPU_MILLIS, EXECUTOR_MEMORY},
};

impl Apply<'_> {
    /// Forms the cluster if every member finds a place; else says what stands in the way.
    pub(super) async fn form(&mut self, step: &Form) -> Result<(), LedgerError> {
        let shape = step.shape;
        let (need, rules) = (self.need(), &self.spec.placement);
        let wish = Wish {
            members: usize::try_from(shape.members()).unwrap_or(usize::MAX),
            only_hosts: false,
            ..self.wish(std::iter::empty(), BTreeSet::new())
        };
        let wanted = Wanted { cluster: self.cluster, wish, own: BTreeSet::new() };
        let granted = self.shared.launcher.place_by(&self.shared.ledger, wanted, |offers, taken| {
            let world = World {
                rules,
                members: self.spec.shape.members(),
                placed: &[],
                offers,
                taken,
                exclude_hosts: &BTreeSet::new(),
            };
            match form(shape, &need, &world) {
                Ok(formed) => {
                    for note in &formed.notes {
                        tracing::info!(cluster = %self.cluster, "{note}");
                    }
                    let placements = formed.seats.into_iter().map(|seat| seat.placement).collect();
                    Found { placements, refused: None }
                }
                Err(why) => Found { placements: Vec::new(), refused: Some(why.to_string()) },
            }
        });
        self.shared.memo(self.cluster, |memo| memo.unplaceable.clone_from(&granted.refused));
        let all: usize = granted.grants.iter().map(|grant| grant.placements.len()).sum();
        if all as u64 != shape.members() {
            return Ok(());
        }
        let mut record = self.record.value.clone();
        if step.anew {
            record.uid = self.shared.new_uid();
        }
        let drafts = self.draft(&mut record, granted.grants, &BTreeMap::new());
        let infos: Vec<&Info> =
            drafts.iter().flat_map(|(_, drafts)| drafts).map(|draft| &draft.info).collect();
        if infos.len() as u64 != shape.members() {
            return Ok(());
        }
        let seeds = match seed::forming(shape, &infos) {
            Ok(seed) => Seeds::Forming(seed),
            Err(error) => {
                // Placement gives no address twice, and the numbers are ours.
                tracing::error!(cluster = %self.cluster, %error, "no seed for the places that were found");
                return Ok(());
            }
        };
        self.record_and_accept(record, drafts, &seeds, true).await
    }

    /// Launches members of a formed cluster, as many as find a place.
    pub(super) async fn launch_members(
        &mut self,
        shape: Shape,
        launches: &[&Launch],
    ) -> Result<(), LedgerError> {
        let wishes: BTreeMap<u32, Place> =
            launches.iter().map(|launch| (launch.member, launch.place)).collect();
        let mut own: BTreeSet<Address> = BTreeSet::new();
        for place in wishes.values() {
            let (Place::Same(address) | Place::Rather(address) | Place::Any(address)) = place else {
                continue;
            };
            let old = self.by_address.get(address).map(|old| old.info.observed.state);
            // What was lost with its agent may still be there.
            if old != Some(State::Unreachable) {
                own.insert(*address);
            }
        }
        let kept: Vec<&Instance> = self
            .by_address
            .values()
            .filter(|instance| matches!(instance.info.desired.state, State::Running | State::Draining))
            .copied()
            .collect();
        let seated = self.seated(shape, &kept);
        let need = self.need();
        let chooser = Chooser { apply: self, shape, need: &need, seated: &seated };
        let occupied = kept.iter().map(|instance| instance.info.ip).collect();
        let wanted =
            Wanted { cluster: self.cluster, wish: self.wish(launches.iter().copied(), occupied), own };
        let granted = self
            .shared
            .launcher
            .place_by(&self.shared.ledger, wanted, |offers, taken| chooser.choose(launches, offers, taken));
        self.shared.memo(self.cluster, |memo| memo.unplaceable.clone_from(&granted.refused));
        let mut record = self.record.value.clone();
        let drafts = self.draft(&mut record, granted.grants, &wishes);
        let seeds =
            self.joining_seeds(shape, &kept, drafts.iter().flat_map(|(_, drafts)| drafts).map(|d| &d.info));
        self.record_and_accept(record, drafts, &seeds, false).await
    }

    /// The members in their roles of now, as far as anybody says.
    fn seated(&self, shape: Shape, kept: &[&Instance]) -> Vec<Seated> {
        match self.sight {
            Some(sight) => Seats::new(shape, kept.iter().copied(), sight).seated(),
            None => kept
                .iter()
                .map(|instance| {
                    let info = &instance.info;
                    Seated {
                        member: info.member,
                        shard: shard_of(shape, info.member),
                        master: info.member < shape.masters,
                        address: info.address(),
                        rack: info.rack.clone(),
                        zone: info.zone.clone(),
                    }
                })
                .collect(),
        }
    }

    /// The files of those that come to another address; who stays has its own.
    fn joining_seeds<'i>(
        &self,
        shape: Shape,
        kept: &[&Instance],
        launched: impl Iterator<Item = &'i Info>,
    ) -> Seeds {
        let mut texts = BTreeMap::new();
        for info in launched {
            let address = info.address();
            let others: Vec<&Info> = kept
                .iter()
                .map(|instance| &*instance.info)
                .filter(|other| other.member != info.member)
                .collect();
            if kept.iter().any(|instance| instance.info.address() == address) {
                continue;
            }
            let text = if self.record.value.formed {
                self.joining_seed(shape, kept, &others, info)
            } else {
                let all: Vec<&Info> = others.iter().copied().chain([info]).collect();
                seed::forming(shape, &all).and_then(|seed| seed.nodes_conf(&seed::node_id(info)))
            };
            match text {
                Ok(text) => {
                    texts.insert(address, text);
                }
                Err(error) => {
                    // It starts knowing itself only, and is introduced.
                    tracing::warn!(cluster = %self.cluster, member = info.member, %error, "no whole seed");
                    let alone = seed::alone(info);
                    texts.extend(alone.ok().map(|text| (address, text)));
                }
            }
        }
        Seeds::Joining(texts)
    }

    fn joining_seed(
        &self,
        shape: Shape,
        kept: &[&Instance],
        others: &[&Info],
        info: &Info,
    ) -> Result<String, overlord_engines::cluster::SeedError> {
        let Some(sight) = self.sight else { return seed::alone(info) };
        let seats = Seats::new(shape, kept.iter().copied(), sight);
        let joining = match seats.owner(shard_of(shape, info.member)) {
            Some(owner) if owner.member() != info.member => Joining::ReplicaOf(owner.id),
            Some(owner) => Joining::Master(seats.slots(owner).cloned().unwrap_or_default()),
            None => Joining::Master(seats.orphaned(shape, shard_of(shape, info.member))),
        };
        seed::joining(info, &joining, others, sight.topology())
    }

    /// What every member needs of an agent, the executor's share included.
    pub(super) fn need(&self) -> Need {
        let resources = self.spec.resources;
        Need {
            cpu_millis: u64::from(resources.cpu_millis + EXECUTOR_CPU_MILLIS),
            mem: resources.memory.next_multiple_of(MIB) + EXECUTOR_MEMORY,
            // What is kept on disk is counted by the spec.
            disk: resources.disk.next_multiple_of(MIB),
            bus: self.bus(),
        }
    }

    /// Since 7.0 the bus may have any port (`cluster-port`); before, it has that of the data plus 10000.
    fn bus(&self) -> Bus {
        let major = self.spec.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        match (major, self.shared.settings.unreserved_bus_port) {
            (Some(7..), _) => Bus::AnyPort,
            (_, true) => Bus::Unreserved,
            (_, false) => Bus::Plus10000,
        }
    }
}

/// Choosing places for members of a formed cluster.
struct Chooser<'a> {
    apply: &'a Apply<'a>,
    shape: Shape,
    need: &'a Need,
    seated: &'a [Seated],
}

impl Chooser<'_> {
    fn choose(&self, launches: &[&Launch], offers: &[HostOffer], taken: &BTreeSet<Address>) -> Found {
        let mut found = Found::default();
        self.where_they_were(launches, offers, taken, &mut found);
        self.elsewhere(launches, offers, taken, &mut found);
        found
    }

    /// Those whose node is where it was: the rules were kept when it was placed, and its ports are its own.
    fn where_they_were(
        &self,
        launches: &[&Launch],
        offers: &[HostOffer],
        taken: &BTreeSet<Address>,
        found: &mut Found,
    ) {
        let mut rules = self.apply.spec.placement.clone();
        rules.spread.clear();
        let requests: Vec<Request> = launches
            .iter()
            .filter(|launch| matches!(launch.place, Place::Same(_)))
            .map(|launch| request(self.apply.spec, launch))
            .collect();
        if requests.is_empty() {
            return;
        }
        let nobody = BTreeSet::new();
        let world = World {
            rules: &rules,
            members: self.apply.spec.shape.members(),
            placed: &[],
            offers,
            taken,
            exclude_hosts: &nobody,
        };
        let outcome = assign(&requests, &world);
        if !outcome.refusals.is_empty() {
            found.refused = Some(refusal(&outcome, offers));
        }
        for mut placement in outcome.placements {
            let old = self.apply.by_address.get(&placement.address);
            placement.bus_port = old.and_then(|old| old.info.bus_port);
            let offered = |port: u16| {
                let of_agent =
                    offers.iter().filter(|o| o.agent_id == placement.agent_id && o.role == placement.role);
                of_agent.flat_map(|offer| &offer.ports).any(|(low, high)| (*low..=*high).contains(&port))
            };
            let unreserved = self.need.bus == Bus::Unreserved;
            match placement.bus_port {
                Some(port) if !unreserved && !offered(port) => {
                    found.refused.get_or_insert_with(|| {
                        format!(
                            "member {} has no place: {} is offered without port {port} of its bus",
                            placement.member, placement.address
                        )
                    });
                }
                Some(_) | None => found.placements.push(placement),
            }
        }
    }

    fn elsewhere(
        &self,
        launches: &[&Launch],
        offers: &[HostOffer],
        taken: &BTreeSet<Address>,
        found: &mut Found,
    ) {
        let mut exclude_hosts = BTreeSet::new();
        let mut lost: Vec<Lost> = Vec::new();
        for launch in launches {
            match launch.place {
                Place::Same(_) => continue,
                Place::Elsewhere(address) => {
                    exclude_hosts.insert(address.ip);
                }
                Place::Anywhere | Place::Rather(_) | Place::Any(_) => {}
            }
            let seat = self.seated.iter().find(|seat| seat.member == launch.member);
            lost.push(Lost {
                member: launch.member,
                shard: shard_of(self.shape, launch.member),
                master: seat.is_some_and(|seat| seat.master),
            });
        }
        if lost.is_empty() {
            return;
        }
        let left = found.unused(offers);
        let placed: Vec<Placed> = self
            .apply
            .by_address
            .values()
            .filter(|instance| !lost.iter().any(|lost| lost.member == instance.info.member))
            .map(|instance| super::launch::placed(&instance.info))
            .collect();
        let world = World {
            rules: &self.apply.spec.placement,
            members: self.apply.spec.shape.members(),
            placed: &placed,
            offers: &left,
            taken,
            exclude_hosts: &exclude_hosts,
        };
        let outcome = reseat(&lost, self.need, self.seated, self.shape, &world);
        if !outcome.refusals.is_empty() {
            found.refused.get_or_insert_with(|| refusal(&outcome, &left));
        }
        found.placements.extend::<Vec<Placement>>(outcome.placements);
    }
}
