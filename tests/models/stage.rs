//! Where a script is played: on redis-servers or on the model. Its steps are the same on both.

use std::{collections::BTreeSet, time::Duration};

use overlord_api::Address;
use overlord_engines::cluster::{NodeId, SeedNode, SlotSet, key_slot, seed_nodes_conf, slot_ranges};

use crate::{
    modelled::Modelled,
    real::Real,
    seen::{Seen, World, tell_file},
};

/// Below the ephemeral ports; every node has an address of its own.
pub(crate) const PORT: u16 = 20_000;
pub(crate) const BUS_PORT: u16 = 30_000;

/// How often a script looks.
const LOOK: Duration = Duration::from_millis(100);

/// Nothing here takes a third of it.
const LIMIT: Duration = Duration::from_secs(60);

enum Kind {
    Real(Real),
    Modelled(Box<Modelled>),
}

/// A place for a script, and what was seen there.
pub(crate) struct Stage {
    kind: Kind,
    config: String,
    members: Vec<SeedNode>,
    /// Nodes that look, in the order in which they came.
    nodes: BTreeSet<usize>,
    trace: Vec<String>,
}

impl Stage {
    pub(crate) fn real() -> Self {
        Self::of(Kind::Real(Real::new()))
    }

    pub(crate) fn modelled(name: &str) -> Self {
        Self::of(Kind::Modelled(Box::new(Modelled::new(name))))
    }

    fn of(kind: Kind) -> Self {
        let (config, members, nodes, trace) = (String::new(), Vec::new(), BTreeSet::new(), Vec::new());
        Self { kind, config, members, nodes, trace }
    }

    pub(crate) fn into_trace(self) -> Vec<String> {
        self.trace
    }

    /// How long it took on the model.
    pub(crate) fn time(&self) -> Duration {
        match &self.kind {
            Kind::Real(_) => Duration::ZERO,
            Kind::Modelled(modelled) => modelled.now,
        }
    }

    /// A line of the configuration of processes that are started from now on.
    pub(crate) fn config(&mut self, line: &str) {
        self.config.push_str(line);
        self.config.push('\n');
    }

    /// Writes down what nodes `0..masters` and then their replicas begin with. Epochs are 1, 2, ... unless given.
    pub(crate) fn seed(&mut self, masters: u16, replicas: u16) {
        let count = usize::from(masters * (1 + replicas));
        let shares = slot_ranges(masters);
        self.members = (0..count)
            .map(|n| SeedNode {
                id: Self::id(n),
                address: Address::new(self.ip(n), PORT),
                bus_port: Some(BUS_PORT),
                master: (n >= usize::from(masters))
                    .then(|| Self::id((n - usize::from(masters)) / usize::from(replicas))),
                slots: shares.get(n).cloned().map_or_else(SlotSet::new, Into::into),
                epoch: n as u64 + 1,
            })
            .collect();
        for n in 0..count {
            let text = self.seed_of(n);
            self.set_nodes_conf(n, Some(text));
        }
    }

    /// What a node began with.
    pub(crate) fn seed_of(&self, n: usize) -> String {
        seed_nodes_conf(&self.members, &Self::id(n)).unwrap()
    }

    pub(crate) fn id(n: usize) -> NodeId {
        NodeId::derive("script", n as u32, 0)
    }

    fn ip(&self, n: usize) -> std::net::IpAddr {
        match &self.kind {
            Kind::Real(real) => real.ip(n),
            Kind::Modelled(_) => Modelled::ip(n),
        }
    }

    /// The words that introduce a node.
    pub(crate) fn meet(&self, n: usize) -> String {
        format!("CLUSTER MEET {} {PORT} {BUS_PORT}", self.ip(n))
    }

    /// Seeds, starts all, and waits until all is well.
    pub(crate) async fn form(&mut self, masters: u16, replicas: u16) {
        self.seed(masters, replicas);
        for n in 0..usize::from(masters * (1 + replicas)) {
            self.start(n).await;
        }
        self.well().await;
    }

    pub(crate) async fn start(&mut self, n: usize) {
        self.try_start(n).await.unwrap_or_else(|error| panic!("node {n}: {error}"));
    }

    pub(crate) async fn try_start(&mut self, n: usize) -> Result<(), String> {
        let ip = self.ip(match &self.kind {
            Kind::Real(real) => real.place(n),
            Kind::Modelled(modelled) => modelled.place(n),
        });
        let persists = ["save ", "appendonly "].iter().any(|line| self.config.contains(line));
        let conf = format!(
            "bind {ip}\ncluster-announce-ip {ip}\nreplica-announce-ip {ip}\nport {PORT}\ncluster-port {BUS_PORT}\n\
             cluster-enabled yes\ncluster-config-file nodes.conf\nprotected-mode no\nrepl-diskless-sync-delay 0\n\
             cluster-node-timeout 2000\ncluster-migration-barrier 1000000\nrdb-del-sync-files yes\n{}{}",
            if persists { "" } else { "save \"\"\n" },
            self.config,
        );
        match &mut self.kind {
            Kind::Real(real) => real.start(n, &conf).await?,
            Kind::Modelled(modelled) => modelled.start(n, &conf)?,
        }
        self.nodes.insert(n);
        Ok(())
    }

    /// A node is at another node's place from its next start on.
    pub(crate) fn relocate(&mut self, n: usize, to: usize) {
        match &mut self.kind {
            Kind::Real(real) => real.relocate(n, to),
            Kind::Modelled(modelled) => modelled.relocate(n, to),
        }
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self, n: usize) {
        match &mut self.kind {
            Kind::Real(real) => real.kill(n, false).await,
            Kind::Modelled(modelled) => modelled.kill(n, false),
        }
    }

    /// SIGTERM, until it has ended.
    pub(crate) async fn terminate(&mut self, n: usize) {
        match &mut self.kind {
            Kind::Real(real) => real.kill(n, true).await,
            Kind::Modelled(modelled) => modelled.kill(n, true),
        }
    }

    /// SIGSTOP.
    pub(crate) fn pause(&mut self, n: usize) {
        match &mut self.kind {
            Kind::Real(real) => real.pause(n, true),
            Kind::Modelled(modelled) => modelled.pause(n, true),
        }
    }

    /// SIGCONT.
    pub(crate) fn resume(&mut self, n: usize) {
        match &mut self.kind {
            Kind::Real(real) => real.pause(n, false),
            Kind::Modelled(modelled) => modelled.pause(n, false),
        }
    }

    fn nodes_conf(&mut self, n: usize) -> Option<String> {
        match &mut self.kind {
            Kind::Real(real) => real.nodes_conf(n),
            Kind::Modelled(modelled) => modelled.nodes_conf(n).clone(),
        }
    }

    pub(crate) fn set_nodes_conf(&mut self, n: usize, text: Option<String>) {
        match &mut self.kind {
            Kind::Real(real) => real.set_nodes_conf(n, text),
            Kind::Modelled(modelled) => *modelled.nodes_conf(n) = text,
        }
    }

    /// Keeps a node's dump as it is now.
    pub(crate) fn keep_dump(&mut self, n: usize) {
        match &mut self.kind {
            Kind::Real(real) => real.keep_dump(n),
            Kind::Modelled(modelled) => modelled.keep_dump(n),
        }
    }

    /// Puts the kept dump back.
    pub(crate) fn put_dump(&mut self, n: usize) {
        match &mut self.kind {
            Kind::Real(real) => real.put_dump(n),
            Kind::Modelled(modelled) => modelled.put_dump(n),
        }
    }

    pub(crate) fn drop_dump(&mut self, n: usize) {
        match &mut self.kind {
            Kind::Real(real) => real.drop_dump(n),
            Kind::Modelled(modelled) => modelled.drop_dump(n),
        }
    }

    /// Lets time pass.
    pub(crate) async fn pass(&mut self, time: Duration) {
        match &mut self.kind {
            Kind::Real(_) => tokio::time::sleep(time).await,
            Kind::Modelled(modelled) => modelled.pass(time),
        }
    }

    /// Answers to commands on one connection, raw.
    pub(crate) async fn ask(&mut self, n: usize, commands: &[&str]) -> Vec<String> {
        let words = |command: &&str| command.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let commands: Vec<Vec<String>> = commands.iter().map(words).collect();
        match &mut self.kind {
            Kind::Real(real) => real.ask(n, &commands).await,
            Kind::Modelled(modelled) => modelled.ask(n, &commands),
        }
    }

    /// A command, whose answer goes into the trace: the first words of an error, all of a short answer.
    pub(crate) async fn tell(&mut self, n: usize, command: &str) -> String {
        let answer = self.ask(n, &[command]).await.remove(0);
        let answer = self.named(answer.trim_end());
        let words: Vec<&str> = answer.split_whitespace().take(6).collect();
        let answer = words.join(" ");
        let command = self.named(command);
        self.note(format!("n{n} {command}: {answer}"));
        answer
    }

    pub(crate) fn note(&mut self, line: String) {
        self.trace.push(line);
    }

    /// Addresses and ids under the names of nodes.
    fn named(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for n in (0..20).rev() {
            text = text.replace(&Self::id(n).to_string(), &format!("<n{n}>"));
            text = text.replace(&format!("{}:{PORT}", self.ip(n)), &format!("<n{n}>"));
            text = text.replace(&format!("{} {PORT} {BUS_PORT}", self.ip(n)), &format!("<n{n}>"));
        }
        text
    }

    /// A key of a shard.
    pub(crate) fn key(&self, shard: usize, name: &str) -> String {
        let slots = &self.members[shard].slots;
        let tag = (0..u32::MAX).find(|tag| slots.contains(key_slot(tag.to_string().as_bytes()))).unwrap();
        format!("{{{tag}}}{name}")
    }

    /// Writes a key of a shard through a node; whether so many replicas have it.
    pub(crate) async fn write(&mut self, n: usize, shard: usize, name: &str, replicas: usize) {
        let set = format!("SET {} {name}", self.key(shard, name));
        let wait = format!("WAIT {replicas} 5000");
        let answers = self.ask(n, &[&set, &wait]).await;
        let answers: Vec<String> = answers.iter().map(|answer| self.named(answer.trim_end())).collect();
        self.note(format!("n{n} {name}: {}", answers.join(", ")));
    }

    /// What all nodes say.
    pub(crate) async fn look(&mut self) -> World {
        let mut world = World::default();
        for n in self.nodes.clone() {
            let commands = [
                "CLUSTER NODES",
                "CLUSTER INFO",
                "INFO replication",
                "INFO server",
                "INFO stats",
                "INFO persistence",
                "INFO keyspace",
                "KEYS *",
            ];
            let answers = self.ask(n, &commands).await;
            world.0.insert(n, Seen::read(&answers));
        }
        world
    }

    /// Waits until the world is as wanted.
    pub(crate) async fn until(&mut self, what: &str, mut is: impl FnMut(&World) -> bool) -> World {
        let mut left = LIMIT;
        loop {
            let world = self.look().await;
            if is(&world) {
                return world;
            }
            assert!(left > Duration::ZERO, "{} {what}: not so:\n{}", self.which(), world.tell().join("\n"));
            left = left.saturating_sub(LOOK);
            self.pass(LOOK).await;
        }
    }

    const fn which(&self) -> &'static str {
        match self.kind {
            Kind::Real(_) => "on redis",
            Kind::Modelled(_) => "on the model",
        }
    }

    /// Waits, and puts the world into the trace.
    pub(crate) async fn see(&mut self, what: &str, is: impl FnMut(&World) -> bool) {
        let world = self.until(what, is).await;
        self.note(format!("-- {what}"));
        self.trace.extend(world.tell());
    }

    /// All that run are ok, know the same, and follow their masters.
    pub(crate) async fn well(&mut self) {
        self.until("all is well", World::is_well).await;
    }

    /// The same, put into the trace.
    pub(crate) async fn see_well(&mut self) {
        self.see("all is well", World::is_well).await;
    }

    /// Puts what a node has written down into the trace.
    pub(crate) fn see_file(&mut self, n: usize) {
        let text = self.nodes_conf(n).unwrap_or_default();
        self.note(format!("n{n} wrote {}", tell_file(&text)));
    }

    /// On the model: nothing happens by itself once all has settled.
    pub(crate) fn quiet(&mut self) {
        let Kind::Modelled(modelled) = &mut self.kind else { return };
        modelled.pass(Duration::from_secs(200));
        assert!(modelled.is_quiet(), "a quiet world has events to come");
    }
}
