//! Whether a node may be started now, and as what: decided from its own file and what its peers say, without a
//! leader. The rule is asked before every start, because the wrong start destroys data: a master that comes back
//! empty, or from an old dump, makes its replicas as empty or as old as itself, long before they may be promoted.
//!
//! Whom to ask is a decision too ([`StartRule::proceed`]), since all views of a large cluster are megabytes: a replica
//! that holds the data settles it alone.

mod told;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use overlord_api::Address;

use self::told::{Told, may_hold};
use super::{Claim, NodeId, NodesConf, NodesConfError, Replication, Role, View, demote, refresh};

/// How often a node that lost its file, and whom nobody answers, waits before it takes its seed for the truth.
const PATIENCE: u32 = 6;

/// How often in a row a replica must be silent, and held for failed by a majority, until it is given up. With the
/// second that an answer may take and the pause after it about a minute.
const SILENT_PATIENCE: u32 = 30;

/// Rounds of questions; each asks only those of whom the one before it told.
const ROUNDS: u8 = 4;

/// So many masters are asked each time.
const FEW: usize = 32;

/// With more of them, every so many asks in a row is one of all, whatever the replicas say.
const FULL_EVERY: u32 = 4;

/// Where the file comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// redis left it in the directory.
    Redis,
    /// It is the seed of an incarnation that was never launched before.
    FirstSeed,
    /// It is a seed in place of a file that was lost, or is of no use. The cluster may have changed since.
    LaterSeed,
}

/// What became of a question.
#[derive(Debug)]
pub enum Answer {
    /// No answer: nobody knows.
    Silent,
    /// Nobody listens at its port: it is not there, or starts again.
    Refused,
    /// It loads its data.
    Loading,
    /// Its answer.
    Told(Box<(View, Replication)>),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Ask these, [`StartRule::hear`] what each says, and come again.
    Ask(Vec<(NodeId, Address)>),
    /// It is decided.
    Done(Verdict),
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may start.
    Start {
        /// With this file; none: with the one that is there.
        conf: Option<Box<NodesConf>>,
        /// The master whose replica it becomes, having been the master itself.
        successor: Option<NodeId>,
        /// It is a master, and starts without its keys.
        emptied: bool,
    },
    /// It must not start yet; ask again in a while.
    Wait(String),
}

/// The decision in the making.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct StartRule {
    conf: NodesConf,
    origin: Origin,
    own_data: bool,
    /// For how many seconds the node has been dead at most, if that is known.
    dead_for: Option<u64>,
    /// A person gave up who does not answer.
    given_up: bool,
    asks: u32,
    /// Whether the file is not the one in the directory.
    changed: bool,
    /// Nobody who answered has met the node of this seed.
    unmet: bool,
    asked: BTreeSet<(NodeId, Address)>,
    /// Those asked for the sake of a seed; the file made of it may not know them all.
    before: BTreeSet<(NodeId, Address)>,
    heard: BTreeMap<NodeId, Heard>,
    /// The latest view, kept while the seed is to be refreshed.
    latest: Option<View>,
    round: u8,
}

#[derive(Debug)]
enum Heard {
    /// Nothing yet, or nobody knows where it is.
    Nothing,
    Refused,
    Silent,
    Loading,
    Told(Told),
}

impl StartRule {
    /// For a node with this file. `own_data`: its directory has a dump or an append-only file. `asks`: how often in
    /// a row the rule said to wait. `patched`: the file is not as it lies in the directory.
    pub const fn new(conf: NodesConf, origin: Origin, patched: bool, own_data: bool, asks: u32) -> Self {
        Self {
            conf,
            origin,
            own_data,
            dead_for: None,
            given_up: false,
            asks,
            changed: patched || !matches!(origin, Origin::Redis),
            unmet: false,
            asked: BTreeSet::new(),
            before: BTreeSet::new(),
            heard: BTreeMap::new(),
            latest: None,
            round: 0,
        }
    }

    /// The node died at most so many seconds ago. Then a replica that lost its link long before holds what there was
    /// at that time, and data on the node's own disk is the better one.
    #[must_use]
    pub const fn dead_for(mut self, seconds: u64) -> Self {
        self.dead_for = Some(seconds);
        self
    }

    /// By a person's word nobody is waited for who does not answer.
    #[must_use]
    pub const fn given_up(mut self) -> Self {
        self.given_up = true;
        self
    }

    /// Whom to ask, or the decision.
    pub fn proceed(&mut self) -> Next {
        if self.origin == Origin::FirstSeed {
            return Next::Done(self.start(false));
        }
        if self.origin == Origin::LaterSeed {
            match self.renew() {
                Some(next) => return next,
                // Whatever it is now, it is judged as if redis had left it there.
                None => self.origin = Origin::Redis,
            }
        }
        let me = self.conf.myself();
        if me.role() != Some(Role::Master) || me.slots.is_empty() {
            return Next::Done(self.start(false));
        }
        while self.round < ROUNDS {
            // Of a large cluster not all are asked each time: a replica that holds the data settles it, unless
            // another took over, or it is alone with what it says.
            if self.round == 1
                && self.masters().len() > FEW
                && self.asks % FULL_EVERY != FULL_EVERY - 1
                && self.told().all(|(_, told)| told.claims.is_empty())
                && let Some(why) = self.held(false)
            {
                return Next::Done(Verdict::Wait(why));
            }
            let who = match self.round {
                0 => self.candidates().into_iter().collect(),
                1 => self.masters().into_iter().chain(self.before.iter().map(|(id, _)| *id)).collect(),
                _ => self.named(),
            };
            self.round += 1;
            let who = self.new_ones(who);
            if !who.is_empty() {
                return Next::Ask(who);
            }
        }
        Next::Done(self.decide())
    }

    /// What became of a question.
    pub fn hear(&mut self, id: NodeId, answer: Answer) {
        let heard = match answer {
            Answer::Silent => Heard::Silent,
            Answer::Refused => Heard::Refused,
            Answer::Loading => Heard::Loading,
            // The address may be somebody else's by now, of another cluster even.
            Answer::Told(told) if told.0.myself().id != id => Heard::Refused,
            Answer::Told(told) => {
                let (view, replication) = *told;
                let heard = Heard::Told(Told::of(&view, replication, &self.conf));
                if self.origin == Origin::LaterSeed {
                    self.keep(view);
                }
                heard
            }
        };
        // Of several addresses the one that tells most counts; one that is silent may be the right one.
        let rank = |heard: &Heard| match heard {
            Heard::Nothing => 0,
            Heard::Refused => 1,
            Heard::Silent => 2,
            Heard::Loading => 3,
            Heard::Told(_) => 4,
        };
        if self.heard.get(&id).is_none_or(|before| rank(before) <= rank(&heard)) {
            self.heard.insert(id, heard);
        }
    }

    /// Brings a seed up to date with what the peers know. None: that is done.
    fn renew(&mut self) -> Option<Next> {
        if self.round == 0 {
            self.round = 1;
            let who = self.candidates().into_iter().chain(self.masters()).collect();
            let who = self.new_ones(who);
            if !who.is_empty() {
                return Some(Next::Ask(who));
            }
        }
        let told = self.told().count();
        let loading = self.heard.values().any(|heard| matches!(heard, Heard::Loading));
        if told == 0 && !self.heard.is_empty() && (loading || self.asks < PATIENCE) {
            let all = self.heard.len();
            return Some(Next::Done(Verdict::Wait(format!(
                "nodes.conf is lost, and of {all} nodes none says how the cluster is now"
            ))));
        }
        match self.latest.take().map(|view| refresh(&self.conf, &view)) {
            Some(Some(Ok(conf))) => match rejoin(&self.conf, conf) {
                Ok(conf) => self.conf = conf,
                Err(fault) => return Some(Next::Done(Verdict::Wait(fault.to_string()))),
            },
            Some(Some(Err(fault))) => {
                return Some(Next::Done(Verdict::Wait(format!(
                    "what the peers know makes no file: {fault}"
                ))));
            }
            Some(None) => self.unmet = true,
            None => {}
        }
        // What was heard was heard for the seed.
        self.before = std::mem::take(&mut self.asked);
        self.heard.clear();
        self.round = 0;
        None
    }

    /// Keeps the later of two views, and one that knows this node rather than one that does not.
    fn keep(&mut self, view: View) {
        let me = self.conf.myself().id;
        let rank = |view: &View| {
            let knows = view.nodes().iter().any(|node| node.id == me);
            (knows, view.info().current_epoch, view.info().my_epoch)
        };
        if self.latest.as_ref().is_none_or(|latest| rank(latest) < rank(&view)) {
            self.latest = Some(view);
        }
    }

    /// Those with an address that was not asked yet.
    fn new_ones(&mut self, who: Vec<NodeId>) -> Vec<(NodeId, Address)> {
        let me = self.conf.myself().id;
        let mut new = Vec::new();
        for id in
            who.into_iter().filter(|id| *id != me && !matches!(self.heard.get(id), Some(Heard::Told(_))))
        {
            let own = self.conf.node(&id).and_then(|node| node.address.address());
            let told = self.told().flat_map(|(_, told)| told.addresses(id));
            let before = self.before.iter().filter(|(known, _)| *known == id).map(|(_, address)| *address);
            let addresses: BTreeSet<Address> = own.into_iter().chain(told).chain(before).collect();
            new.extend(
                addresses
                    .into_iter()
                    .filter(|address| self.asked.insert((id, *address)))
                    .map(|address| (id, address)),
            );
        }
        // Nobody knows where they are.
        for id in self.candidates() {
            self.heard.entry(id).or_insert(Heard::Nothing);
        }
        new
    }

    fn told(&self) -> impl Iterator<Item = (&NodeId, &Told)> {
        self.heard.iter().filter_map(|(id, heard)| match heard {
            Heard::Told(told) => Some((id, told)),
            Heard::Nothing | Heard::Refused | Heard::Silent | Heard::Loading => None,
        })
    }

    /// Those that may hold the data of this node, by its own file and by all that was heard.
    fn candidates(&self) -> BTreeSet<NodeId> {
        let me = self.conf.myself();
        let own = self.conf.nodes().iter().filter(|node| may_hold(node, me)).map(|node| node.id);
        own.chain(self.told().flat_map(|(_, told)| told.candidates(me))).collect()
    }

    /// Masters with slots, by the file.
    fn masters(&self) -> Vec<NodeId> {
        let nodes = self.conf.nodes().iter();
        nodes.filter(|node| !node.is_myself() && !node.slots.is_empty()).map(|node| node.id).collect()
    }

    /// Those of whom the answers told: who has slots of this node, masters that it does not know, its replicas.
    fn named(&self) -> Vec<NodeId> {
        let named: BTreeSet<NodeId> = self.told().flat_map(|(_, told)| told.named()).collect();
        named.into_iter().chain(self.candidates()).collect()
    }

    fn start(&self, emptied: bool) -> Verdict {
        let conf = self.changed.then(|| Box::new(self.conf.clone()));
        Verdict::Start { conf, successor: None, emptied }
    }

    /// All questions are answered, or not.
    fn decide(&self) -> Verdict {
        if let Some(why) = self.forgotten() {
            return Verdict::Wait(why);
        }
        match self.succeeded() {
            Some(Ok(verdict)) => return verdict,
            Some(Err(why)) => return Verdict::Wait(why),
            None => {}
        }
        match self.held(!self.given_up) {
            Some(why) => Verdict::Wait(why),
            None => self.start(!self.own_data),
        }
    }

    /// Masters with slots that answered, and how many there are of them in all.
    fn voters(&self) -> (Vec<(&NodeId, &Told)>, usize) {
        let latest = self.told().map(|(_, told)| (told.current_epoch, told.size)).max();
        let own = self.masters().len() + 1;
        let all =
            latest.filter(|(epoch, _)| *epoch >= self.conf.current_epoch()).map_or(own, |(_, size)| size);
        (self.told().filter(|(_, told)| told.is_owner).collect(), all)
    }

    /// Whether the others have forgotten this node, as they do when it is replaced.
    fn forgotten(&self) -> Option<String> {
        let (voters, all) = self.voters();
        let knowing = voters.iter().filter(|(_, told)| told.knows_me).count();
        let not = voters.len() - knowing;
        // A seed that nobody has met yet takes the slots by its epoch, or not at all.
        if not == 0 || not < knowing || (self.unmet && voters.iter().all(|(_, told)| told.claims.is_empty()))
        {
            return None;
        }
        Some(format!("replaced: {not} of {all} masters do not know this node any more, {knowing} do"))
    }

    /// Whether somebody took over: the verdict once a majority of the masters says so, else why to wait for that.
    fn succeeded(&self) -> Option<Result<Verdict, String>> {
        let mine = &self.conf.myself().slots;
        let (voters, all) = self.voters();
        let moved: Vec<&Told> =
            voters.iter().map(|(_, told)| *told).filter(|told| told.claimed(mine)).collect();
        if moved.len() * 2 > all {
            let claims = settled(moved.iter().flat_map(|told| &told.claims));
            let successor = claims.first()?.id;
            let epoch = moved.iter().map(|told| told.current_epoch).max().unwrap_or_default();
            let conf = demote(&self.conf, &claims, epoch).map_err(|fault| fault.to_string());
            return Some(conf.map(|conf| Verdict::Start {
                conf: Some(Box::new(conf)),
                successor: Some(successor),
                emptied: false,
            }));
        }
        // Slots that an operator moved to another master are that one's; the rest is still decided here.
        let is_master = |id: &NodeId| self.conf.node(id).is_some_and(|node| !node.slots.is_empty());
        let taken = self.told().flat_map(|(_, told)| &told.claims).filter(|claim| !is_master(&claim.id));
        let first = taken.max_by_key(|claim| (claim.epoch, claim.id))?;
        let agree = moved.len();
        Some(Err(format!("{} took over, and {agree} of {all} masters know it yet", first.id)))
    }

    /// Why to wait for a replica that holds the data, or may hold it; `silent`: also for one that does not answer.
    fn held(&self, silent: bool) -> Option<String> {
        self.candidates().iter().find_map(|id| match self.heard.get(id) {
            Some(Heard::Told(told)) => self.holds(id, told),
            Some(Heard::Loading) => Some(format!("replica {id} loads its data")),
            Some(Heard::Refused) => silent.then(|| self.may_live(id, true)).flatten(),
            Some(Heard::Silent | Heard::Nothing) | None => silent.then(|| self.may_live(id, false)).flatten(),
        })
    }

    fn holds(&self, id: &NodeId, told: &Told) -> Option<String> {
        let me = self.conf.myself().id;
        let Replication { keys, syncing, loading, .. } = told.replication;
        match told.role {
            None => Some(format!("replica {id} does not know its role")),
            Some(Role::Master) if told.has_mine => Some(format!("{id}, a replica before, serves the slots")),
            // Another shard's, by now.
            Some(Role::Master) => None,
            Some(Role::Replica) if told.master != Some(me) => None,
            Some(Role::Replica) if syncing || loading => Some(format!("replica {id} is being filled")),
            Some(Role::Replica) if told.replication.holds_data() && !self.is_stale(&told.replication) => {
                Some(format!("replica {id} holds the data and has to take over"))
            }
            // Restarted since: it has what its own disk had. Ours is the better one, if there is one.
            Some(Role::Replica) if self.own_data || keys == 0 => None,
            Some(Role::Replica) => Some(format!("replica {id} has keys, this node has nothing")),
        }
    }

    /// Whether a replica was without this node for so long that the data on disk is the better one.
    fn is_stale(&self, replication: &Replication) -> bool {
        let long_without = |dead_for| !replication.followed_until(dead_for);
        self.own_data && self.dead_for.is_some_and(long_without)
    }

    /// Whether a silent replica may live where this node does not reach it.
    fn may_live(&self, id: &NodeId, refuses: bool) -> Option<String> {
        let (voters, all) = self.voters();
        let own = self.conf.node(id).is_some();
        let gone = voters.iter().filter(|(_, told)| told.holds_for_gone(id, own)).count();
        let answered = voters.len();
        if gone * 2 <= all {
            return Some(format!(
                "replica {id} does not answer, and {gone} of {all} masters hold it for failed ({answered} answer)"
            ));
        }
        // Those that know it no more have forgotten it: it was replaced.
        let forgotten = voters.iter().filter(|(_, told)| own && !told.shows(id)).count();
        // Failed means that nobody reaches it: its process may live, stopped or cut off, with all the data.
        (!refuses && forgotten * 2 <= all && self.asks < SILENT_PATIENCE)
            .then(|| format!("replica {id} is silent, and may have the data: it is waited for a while"))
    }
}

/// A file made of a view in which the node is a master without slots, as a failed one is after its failover: it joins
/// whoever has its shard's slots, since redis would leave it alone for ever.
fn rejoin(seed: &NodesConf, conf: NodesConf) -> Result<NodesConf, NodesConfError> {
    let (me, before) = (conf.myself(), seed.myself());
    if me.role() != Some(Role::Master) || !me.slots.is_empty() {
        return Ok(conf);
    }
    let shard = before.master.and_then(|master| seed.node(&master)).unwrap_or(before);
    let others = conf.nodes().iter().filter(|node| node.id != me.id && !node.slots.is_empty());
    let claims = others.map(|node| Claim {
        id: node.id,
        address: node.address.clone(),
        epoch: node.config_epoch,
        slots: &node.slots & &shard.slots,
    });
    let claims = settled(claims.filter(|claim| !claim.slots.is_empty()).collect::<Vec<_>>().iter());
    demote(&conf, &claims, conf.current_epoch())
}

/// Claims without overlaps: of the highest epoch first, then the one with most slots to the front, as whose replica
/// redis would follow.
fn settled<'t>(claims: impl Iterator<Item = &'t Claim>) -> Vec<Claim> {
    let mut merged: BTreeMap<(u64, NodeId), Claim> = BTreeMap::new();
    for claim in claims {
        let entry = merged.entry((claim.epoch, claim.id)).or_insert_with(|| claim.clone());
        entry.slots.extend(&claim.slots);
        if entry.address.address().is_none() {
            entry.address.clone_from(&claim.address);
        }
    }
    let mut taken = super::SlotSet::new();
    let mut settled: BTreeMap<NodeId, Claim> = BTreeMap::new();
    for (_, mut claim) in merged.into_iter().rev() {
        claim.slots = &claim.slots - &taken;
        taken.extend(&claim.slots);
        if !claim.slots.is_empty() {
            match settled.get_mut(&claim.id) {
                Some(known) => known.slots.extend(&claim.slots),
                None => drop(settled.insert(claim.id, claim)),
            }
        }
    }
    let mut settled: Vec<Claim> = settled.into_values().collect();
    settled.sort_by_key(|claim| (std::cmp::Reverse(claim.slots.len()), claim.id));
    settled
}
