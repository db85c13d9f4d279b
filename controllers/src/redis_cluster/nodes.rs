//! What the nodes of a cluster are told: who takes over, who copies whom, who is met and who forgotten. Pure:
//! a part of the planner.

use std::collections::BTreeSet;

use jiff::Timestamp;
use overlord_api::{ClusterName, ConditionType, State};
use overlord_engines::cluster::{NodeId, Role};
use overlord_placement::cluster::Shape;

use super::{
    IN_A_ROW, STRANGER,
    observed::{Command, Look},
    plan::{after, is_launched_again},
    seats::{Seat, Seats},
};
use crate::members::{
    observed::Instance,
    plan::{HandOver, Planner},
    step::{Order, Step, WORD_OF_FORMING},
};

/// A master that is down for this long although every replica of it answers waits for what will not come by
/// itself: its own disk is empty, and a replica has at least what a dump had.
const STUCK: std::time::Duration = std::time::Duration::from_secs(30);

/// A member that died while the cluster forms, and does not serve for this long, waits for what will not come by itself:
/// elections and the hearing of the others are over by then.
const FORMING_STUCK: std::time::Duration = std::time::Duration::from_secs(10);

/// While a shard has no master, its nodes are asked again after this long.
const LOOK_SOON: jiff::SignedDuration = jiff::SignedDuration::from_millis(250);

/// A takeover from a dead master that did not happen within this time is ordered again; each order starts anew.
const FORCE_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// A change of roles takes up to 5 s until the nodes give it up by themselves (redis 7.0).
const HAND_OVER_AGAIN: std::time::Duration = std::time::Duration::from_secs(6);

/// A takeover from a master whose death is certain needs no votes after this long without them: voters do not vote
/// twice within two node timeouts about one master, and a candidate that was refused does not ask again for four (redis
/// 7.0). The node that died does not start before a majority shows who has its slots.
const VOTES: std::time::Duration = std::time::Duration::from_secs(2);

/// An election is over after this long: a tick of the candidate to ask, and one of each voter to hear of it.
const TURN: std::time::Duration = std::time::Duration::from_millis(300);

/// Nodes that are told at once of one that joins; the others hear of it from them.
const INTRODUCED_TO: usize = 8;

/// How a replica takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takeover {
    /// Its master lives and hands over.
    InAgreement,
    /// Its master does not answer, and others miss it.
    FromDead,
    /// Its master's process is known not to run.
    FromCertainlyDead,
}

impl Takeover {
    /// From a dead master.
    pub(super) fn of(owner: &Seat<'_>, seats: &Seats<'_>) -> Self {
        if seats.is_certainly_dead(owner) { Self::FromCertainlyDead } else { Self::FromDead }
    }
}

impl<'a> Planner<'a> {
    /// What the nodes themselves must be told.
    pub(super) fn engines(&mut self, shape: Shape, seats: &Seats<'a>) {
        let Some(sight) = self.input.sight else { return };
        let topology = sight.topology();
        if !topology.majority_masters_reachable() {
            let message = no_majority(self.input.cluster, shape, seats);
            let again = Some(self.look_again());
            if self.input.record.formed {
                self.plan.conditions.push((ConditionType::QuorumLost, "NoMajority", message.clone()));
            }
            self.wait(0, message, again);
            if let Some(word) = self.input.recover.or_else(|| self.forming_is_stuck(seats)) {
                self.give_up(word, shape, seats);
            }
            return;
        }
        let before = self.plan.steps.len();
        let mut whole = true;
        for shard in 0..shape.masters {
            whole &= self.keep_master(shard, seats);
        }
        whole &= self.introduce(seats);
        whole &= self.expel(seats);
        for seat in seats.iter() {
            let well = seat.instance.info.observed.state == State::Running && seats.answer(seat).is_some();
            whole &= well;
        }
        whole &= topology.is_settled();
        self.tell_silent(seats);
        self.bring_back(seats);
        if whole {
            whole = self.balance(shape, seats);
        }
        self.plan.whole = whole && self.plan.steps.len() == before;
        if !self.plan.whole {
            let again = Some(self.look_again());
            self.wait(0, String::from("the nodes of the cluster are asked again"), again);
        }
    }

    /// Members that are reported as running and do not answer, or not as themselves.
    fn tell_silent(&mut self, seats: &Seats<'a>) {
        let running = seats.iter().filter(|seat| seat.instance.info.observed.state == State::Running);
        let silent: Vec<String> = running
            .filter_map(|seat| {
                let (member, address) = (seat.member(), seat.address());
                match seats.look(seat)? {
                    Look::Answered(_) => None,
                    Look::Loading => Some(format!("member {member} at {address} reads its data")),
                    Look::Refused => Some(format!("member {member} at {address} takes no connections")),
                    Look::Silent(why) => Some(format!("member {member} at {address} does not answer: {why}")),
                    Look::Other(id) => {
                        Some(format!("at {address} answers node {id}, not member {member} ({})", seat.id))
                    }
                }
            })
            .collect();
        if let Some(first) = silent.first() {
            let more =
                if silent.len() > 1 { format!(" (and {} more)", silent.len() - 1) } else { String::new() };
            self.plan.conditions.push((ConditionType::Degraded, "MembersSilent", format!("{first}{more}")));
        }
    }

    /// A process that took another identity (`CLUSTER RESET HARD` by hand) comes back as the node it was by a restart,
    /// once nobody waits for what it has.
    fn bring_back(&mut self, seats: &Seats<'a>) {
        for seat in seats.iter() {
            let info = &seat.instance.info;
            let is_owner = seats.owner(seat.shard).is_some_and(|owner| owner.member() == seat.member());
            let heir = is_owner && seats.heir(seat, self.dead_for(seat)).is_some();
            let ordered =
                info.desired.restart > info.observed.restart || info.desired.state != State::Running;
            if matches!(seats.look(seat), Some(Look::Other(_))) && !heir && !ordered {
                self.plan.steps.push(Step::Restart {
                    address: info.address(),
                    member: info.member,
                    restart: info.desired.restart.saturating_add(1),
                    loses: 0,
                });
            }
        }
    }

    /// A living master for a shard, and its replicas on it; true when that is so.
    fn keep_master(&mut self, shard: u32, seats: &Seats<'a>) -> bool {
        let Some(owner) = seats.owner(shard) else {
            self.wait(shard, format!("no node has the slots of shard {shard}"), None);
            return false;
        };
        if seats.is_dead(owner) {
            let heir = seats.heir(owner, self.dead_for(owner));
            match (heir, seats.unheard(owner, heir)) {
                (_, Some(successor)) => {
                    let why = format!(
                        "it has taken over from the dead member {} under an older epoch, and nobody believes it",
                        owner.member()
                    );
                    self.order(successor, Command::BumpEpoch, why);
                }
                (Some(heir), None) => {
                    let why = format!("the master of shard {shard}, member {}, is dead", owner.member());
                    self.fail_over(heir, Takeover::of(owner, seats), why);
                }
                (None, None) => self.outwait(shard, owner, seats),
            }
            let soon = self.input.now.saturating_add(LOOK_SOON).unwrap_or(Timestamp::MAX);
            self.wait(owner.member(), format!("shard {shard} has no master"), Some(soon));
            return false;
        }
        let mut well =
            seats.answer(owner).is_some_and(|answer| answer.view.myself().role() == Some(Role::Master));
        for replica in seats.replicas(shard, Some(owner)) {
            let Some(answer) = seats.answer(replica) else {
                well = false;
                continue;
            };
            if seats.copies(replica, &owner.id) {
                well &= answer.replication.link_up;
                continue;
            }
            well = false;
            // It must know its master to copy it, and give up slots by itself first.
            let knows = answer.view.nodes().iter().any(|node| node.id == owner.id);
            let has_slots = !answer.view.myself().slots.is_empty();
            if knows && !has_slots {
                self.order(
                    replica,
                    Command::Replicate { master: owner.id },
                    format!("shard {shard} has its master in member {}", owner.member()),
                );
            }
        }
        well
    }

    /// Before a cluster was complete once, and while nobody holds a key, there is nothing that a person would have to
    /// give up: masters that died while it formed, and wait for each other's replicas, need not wait any more.
    fn forming_is_stuck(&self, seats: &Seats<'a>) -> Option<i64> {
        let stuck = |seat: &Seat<'_>| {
            let info = &seat.instance.info;
            let waits = matches!(info.observed.state, State::Restarting | State::Staging);
            waits && is_launched_again(info) && after(info.observed.since, FORMING_STUCK) <= self.input.now
        };
        let has_keys = |seat: &Seat<'_>| seats.answer(seat).is_some_and(|answer| answer.replication.keys > 0);
        let is_stuck = !self.input.record.formed && seats.iter().any(stuck) && !seats.iter().any(has_keys);
        is_stuck.then_some(WORD_OF_FORMING)
    }

    /// By a person's word: without a majority nobody can be elected, and replicas that have the data take over all
    /// the same, one by one. Then masters that wait for copies which do not answer start with what they have.
    fn give_up(&mut self, word: i64, shape: Shape, seats: &Seats<'a>) {
        for shard in 0..shape.masters {
            let Some(owner) = seats.owner(shard).filter(|owner| seats.is_dead(owner)) else { continue };
            if let Some(heir) = seats.heir_without_votes(owner, self.dead_for(owner)) {
                let by = if word == WORD_OF_FORMING { "forming" } else { "a person" };
                let why = format!("{by} gave up the master of shard {shard}, member {}", owner.member());
                return self.order(heir, Command::TakeOver, why);
            }
        }
        for owner in (0..shape.masters).filter_map(|shard| seats.owner(shard)) {
            let info = &owner.instance.info;
            let waits = matches!(info.observed.state, State::Restarting | State::Staging);
            if waits && seats.is_dead(owner) && info.desired.recover < word {
                let (address, member) = (info.address(), info.member);
                self.plan.steps.push(Step::StartAlone { address, member, word });
            }
        }
    }

    /// For how long a dead master has been dead at most; none when that is not known: a launch since then has
    /// moved the time of its last state.
    pub(super) fn dead_for(&self, owner: &Seat<'_>) -> Option<std::time::Duration> {
        let observed = &owner.instance.info.observed;
        let since = || std::time::Duration::try_from(self.input.now.duration_since(observed.since));
        match observed.state {
            State::Running => Some(std::time::Duration::ZERO),
            State::Restarting | State::Unreachable => Some(since().unwrap_or_default()),
            State::Failed if observed.failures <= 1 => Some(since().unwrap_or_default()),
            State::Failed | State::Gone | State::Pending | State::Staging | State::Draining => None,
        }
    }

    /// A dead master of which no replica is known to hold the data: it comes back with its own, or, when it has
    /// none, the replica with the most keys goes on with what it has.
    fn outwait(&mut self, shard: u32, owner: &Seat<'a>, seats: &Seats<'a>) {
        let (member, address) = (owner.member(), owner.address());
        let info = &owner.instance.info;
        let all_answer = seats.replicas(shard, Some(owner)).all(|replica| seats.answer(replica).is_some());
        let due = after(info.observed.since, STUCK);
        let heir = seats.remnant(owner).filter(|heir| {
            all_answer
                && info.observed.state == State::Restarting
                && seats.answer(heir).is_some_and(|answer| answer.replication.keys > 0)
        });
        match heir {
            Some(heir) if due <= self.input.now => {
                let message = format!(
                    "shard {shard} goes on with what member {} at {} had on disk: its master, member {member} at {address}, has nothing",
                    heir.member(),
                    heir.address()
                );
                self.lose(shard, &format!("{}~{}", info.mesos_task_id, info.observed.restarts), message);
                let why = format!("the master of shard {shard} has no data to start with");
                self.fail_over(heir, Takeover::of(owner, seats), why);
            }
            Some(_) | None => self.wait(
                member,
                format!(
                    "shard {shard} has no master: member {member} at {address} is down, and no replica has its data"
                ),
                heir.map(|_| due),
            ),
        }
    }

    /// Members that nobody knows are introduced; true when everybody knows everybody.
    fn introduce(&mut self, seats: &Seats<'a>) -> bool {
        let Some(sight) = self.input.sight else { return false };
        let mut all = true;
        let answered = sight.topology().answered();
        for seat in seats.iter().filter(|seat| seats.answer(seat).is_some()) {
            let known_by = sight.topology().members().get(&seat.id).map_or(0, |node| node.known_by);
            if known_by >= answered {
                continue;
            }
            all = false;
            let info = &seat.instance.info;
            let bus_port = info.bus_port.unwrap_or_else(|| info.port.saturating_add(10_000));
            let strangers_to = seats.iter().filter(|other| {
                other.id != seat.id
                    && seats.answer(other).is_some_and(|answer| {
                        answer.view.myself().role() == Some(Role::Master)
                            && !answer.view.nodes().iter().any(|node| node.id == seat.id)
                    })
            });
            for other in strangers_to.take(INTRODUCED_TO) {
                self.order(
                    other,
                    Command::Meet { address: seat.address(), bus_port },
                    format!("member {} joins the cluster", info.member),
                );
            }
        }
        all
    }

    /// Nodes that are no members are forgotten by everyone; true when nobody knows any.
    fn expel(&mut self, seats: &Seats<'a>) -> bool {
        let Some(sight) = self.input.sight else { return false };
        let ids: BTreeSet<NodeId> = seats.ids();
        let strangers = sight.topology().strangers(&ids);
        // A member whose record cannot be read, or is missing, is no stranger; nobody knows which one it is.
        let missing = u32::try_from(ids.len()).is_ok_and(|known| known < self.plan.progress.wanted);
        if !strangers.is_empty() && (missing || !self.input.damaged.is_empty()) {
            return false;
        }
        let all_run = seats.iter().all(|seat| seat.instance.info.observed.state == State::Running);
        for id in &strangers {
            // What it has is nowhere else: a person must decide, unless a member is about to take its place.
            if let Some(owner) = sight.topology().owners().get(id) {
                let slots = owner.slots.len();
                if !all_run {
                    continue;
                }
                self.block(
                    STRANGER,
                    format!("node {id}, which is no member of this cluster, has {slots} slots: move them, or forget it by hand"),
                );
                continue;
            }
            if seats.is_spare(id) {
                continue;
            }
            for seat in seats.iter() {
                let Some(answer) = seats.answer(seat) else { continue };
                let own = answer.view.myself();
                let knows = answer.view.nodes().iter().any(|node| node.id == *id);
                // A replica does not forget its master; it is given another one first.
                if knows && own.master != Some(*id) {
                    let why = String::from("it is none of the cluster any more");
                    self.order(seat, Command::Forget { id: *id }, why);
                }
            }
        }
        strangers.is_empty()
    }

    /// Hands roles back where failovers put so many masters on one host that its loss would take the majority;
    /// true when there is nothing to hand back.
    fn balance(&mut self, shape: Shape, seats: &Seats<'a>) -> bool {
        let most = shape.most_masters();
        let seated = seats.seated();
        let masters_on = |ip| {
            let on = seated.iter().filter(|seat| seat.master && seat.address.ip == ip).count();
            u32::try_from(on).unwrap_or(u32::MAX)
        };
        for shard in 0..shape.masters {
            let Some(owner) = seats.owner(shard) else { continue };
            if masters_on(owner.address().ip) <= most {
                continue;
            }
            let lighter = seats.replicas(shard, Some(owner)).find(|replica| {
                let up = seats.answer(replica).is_some_and(|answer| answer.replication.link_up);
                // One that handed over to be restarted is restarted first: it would hand over again.
                let leaves = self.is_to_be_restarted(replica.instance);
                up && masters_on(replica.address().ip) < most && !leaves
            });
            if let Some(replica) = lighter {
                let why = format!("the host {} has too many masters", owner.address().ip);
                self.fail_over(replica, Takeover::InAgreement, why);
                return false;
            }
        }
        true
    }

    /// Whether the member may be restarted now: replicas at once; a master hands over first.
    pub(crate) fn may_restart(&mut self, shape: Shape, instance: &'a Instance) -> bool {
        let Some(sight) = self.input.sight else { return false };
        let seats = Seats::new(shape, self.kept.values().copied(), sight);
        let Some(seat) = seats.get(instance.info.member) else { return false };
        let is_owner = seats.owner(seat.shard).is_some_and(|owner| owner.member() == seat.member());
        if !is_owner || shape.replicas_per_master == 0 {
            return true;
        }
        match seats.successor(seat) {
            Some(successor) => {
                let why = format!("member {} is to be restarted", seat.member());
                self.fail_over(successor, Takeover::InAgreement, why);
            }
            None => self.wait(
                seat.member(),
                format!("member {} waits for a replica that can take over", seat.member()),
                None,
            ),
        }
        false
    }

    pub(super) fn fail_over(&mut self, to: &Seat<'a>, takeover: Takeover, why: String) {
        let force = takeover != Takeover::InAgreement;
        let pause = if force { FORCE_AGAIN } else { HAND_OVER_AGAIN };
        let now = self.input.now;
        let until = |at: Timestamp, pause| at.saturating_add(pause).unwrap_or(Timestamp::MAX);
        let task = &to.instance.info.mesos_task_id;
        let sent = &self.input.sent.failovers;
        let own = sent.get(task).filter(|order| order.force == force).map(|order| until(order.at, pause));
        // Two that ask for votes at once ask for the same epoch, in which each master votes once, and the one that
        // loses may not ask again for four node timeouts (redis 7.0): one after the other.
        let others = sent.iter().filter(|(other, _)| *other != task).map(|(_, order)| until(order.at, TURN));
        let other = others.filter(|until| *until > now).max();
        let ordered = self.plan.steps.iter().any(|step| {
            matches!(step, Step::Order(Order { command: Command::Failover { .. } | Command::TakeOver, .. }))
        });
        let next = match own.filter(|again| *again > now).or(other) {
            Some(next) => next,
            None if ordered => until(now, TURN),
            None => {
                let lately = |order: &&HandOver| order.force && now.duration_since(order.at) < IN_A_ROW;
                let first = sent.get(task).filter(lately).map(|order| order.first);
                let refused = takeover == Takeover::FromCertainlyDead
                    && first.is_some_and(|first| until(first, VOTES) <= now);
                let command = if refused { Command::TakeOver } else { Command::Failover { force } };
                self.order(to, command, why);
                until(now, pause)
            }
        };
        self.wait(to.member(), format!("member {} takes over", to.member()), Some(next));
    }

    fn order(&mut self, to: &Seat<'_>, command: Command, why: String) {
        let info = &to.instance.info;
        let (address, member) = (info.address(), info.member);
        let mesos_task_id = info.mesos_task_id.clone();
        self.plan.steps.push(Step::Order(Order { address, member, mesos_task_id, command, why }));
    }
}

/// Who answers, and what is missing for a majority.
fn no_majority(cluster: &ClusterName, shape: Shape, seats: &Seats<'_>) -> String {
    let mut reached = 0;
    let mut missing: Vec<String> = Vec::new();
    for shard in 0..shape.masters {
        match seats.owner(shard) {
            Some(owner) if seats.answer(owner).is_some() => reached += 1,
            Some(owner) => {
                missing.push(format!("shard {shard} (member {} at {})", owner.member(), owner.address()));
            }
            None => missing.push(format!("shard {shard}")),
        }
    }
    let needed = shape.masters / 2 + 1;
    missing.truncate(5);
    format!(
        "{reached} of {} masters answer, {needed} are needed to elect; missing: {}; nothing is changed until they are back; \
         overlord task recover {cluster} gives them up: replicas that have their data take over, masters start with what they have",
        shape.masters,
        missing.join(", ")
    )
}
