//! A redis cluster that is written to while things die, and is read back in the end.

use std::time::Duration;

use overlord_tests::{Controller, History, Options, Redis, Sandbox, Writer, condition, eventually, signal};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    manifest::{address, redis_cluster},
    shards::{Cluster, Shard, process_at, restarted},
};

pub(crate) const ORDERS: Cluster = Cluster { name: "orders", masters: 3 };

/// Rounds unless `OVERLORD_ROUNDS` says otherwise.
const ROUNDS: u64 = 2;

/// Writes that each connection of the writer gets confirmed before and after something dies.
pub(crate) const ENOUGH: u64 = 20;

/// So that redis' own election is not waited for long.
pub(crate) const QUICK: &str = "  config: {cluster-node-timeout: \"2000\"}\n";

/// What dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    Replica,
    Master,
    /// A replica that has just changed roles with its master, in agreement.
    Promoted,
    /// Master and replica of one shard.
    Both,
    ExecutorOfReplica,
    ExecutorOfMaster,
    /// A host of a master, with all that is on it; it comes back.
    Host,
}

/// A cluster that is written to while things die.
pub(crate) struct Arena {
    pub(crate) sandbox: Sandbox,
    /// `None` while nobody leads.
    pub(crate) controller: Option<Controller>,
    pub(crate) rng: SmallRng,
    pub(crate) rounds: u64,
    /// The first shard that is struck.
    first: u64,
    /// Writers that were started.
    writers: u64,
    /// What all rounds have written so far.
    pub(crate) history: History,
    /// How long killed masters' slots were away.
    pub(crate) away: Vec<Duration>,
}

impl Arena {
    pub(crate) async fn start(more: &str) -> Self {
        let number = |variable: &str, otherwise: u64| {
            std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
        };
        let seed = number("OVERLORD_TEST_SEED", uuid::Uuid::new_v4().as_u64_pair().0);
        let rounds = number("OVERLORD_ROUNDS", ROUNDS);
        println!("OVERLORD_TEST_SEED={seed} OVERLORD_ROUNDS={rounds}");
        let mut sandbox = Sandbox::start(Options { controller: false, lease: 1, ..Options::default() }).await;
        let controller = Some(sandbox.start_controller().await);
        // Members that die this often would move away.
        let more = format!("{more}  recovery: {{restartsBeforeReplace: 100}}\n");
        sandbox.apply(&redis_cluster("orders", 3, 1, &more)).await;
        ORDERS.well(&sandbox).await;
        let mut rng = SmallRng::seed_from_u64(seed);
        let first = rng.random_range(0..3);
        Self {
            sandbox,
            controller,
            rng,
            rounds,
            first,
            writers: 0,
            history: History::default(),
            away: Vec::new(),
        }
    }

    /// A master and its replica of a shard change roles, in agreement; all is well again.
    pub(crate) async fn change_roles(&self, shard: usize) {
        let shards = ORDERS.shards(&self.sandbox.infos("orders").await).await;
        promoted(&address(&shards[shard].replicas[0])).await;
        ORDERS.well(&self.sandbox).await;
    }

    pub(crate) async fn start_controller(&mut self) {
        if self.controller.is_none() {
            self.controller = Some(self.sandbox.start_controller().await);
        }
    }

    pub(crate) async fn stop_controller(&mut self) {
        if let Some(controller) = self.controller.take() {
            controller.kill().await;
        }
    }

    /// All rounds, on as many clusters as it takes: `most` on one. How long killed masters' slots were away.
    pub(crate) async fn batches(more: &str, controller: bool, victim: Victim, most: u64) -> Vec<Duration> {
        let mut away = Vec::new();
        let mut left = None;
        while left != Some(0) {
            let mut arena = Self::start(more).await;
            let rounds = left.unwrap_or(arena.rounds).min(most);
            left = Some(left.unwrap_or(arena.rounds) - rounds);
            arena.rounds = rounds;
            if !controller {
                arena.stop_controller().await;
            }
            arena.rounds(victim).await;
            away.append(&mut arena.away);
        }
        away
    }

    /// Kills, each time while the cluster is written to, waits until all is well, and reads everything back.
    pub(crate) async fn rounds(&mut self, victim: Victim) {
        for round in 0..self.rounds {
            let (shard, history) = self.round(round, victim).await;
            let addresses = self.addresses().await;
            let context = format!("round {round}, {victim:?} of shard {}", shard.number);
            history.assert_kept(&addresses, &context).await;
            self.history.extend(history);
        }
        self.end().await;
    }

    /// One round; what was written in it.
    pub(crate) async fn round(&mut self, round: u64, victim: Victim) -> (Shard, History) {
        // In turn, so that none of them dies much more often than the others.
        self.round_of(self.first + round, round, victim).await
    }

    /// One round with that shard, counted on from the last one.
    pub(crate) async fn round_of(&mut self, shard: u64, round: u64, victim: Victim) -> (Shard, History) {
        let infos = self.sandbox.infos("orders").await;
        let shards = ORDERS.shards(&infos).await;
        let shard = shards[shard as usize % shards.len()].clone();
        let addresses = self.addresses().await;
        let writer = self.writer(&addresses).await;
        let moment = Duration::from_millis(self.rng.random_range(0..100));
        tokio::time::sleep(moment).await;
        let processes = self.kill(victim, &shard).await;
        if victim == Victim::Replica {
            restarted(&processes[0].0, processes[0].1).await;
        }
        let dead = address(&shard.master);
        if matches!(victim, Victim::Master | Victim::ExecutorOfMaster | Victim::Host) {
            let others: Vec<String> = addresses.iter().filter(|found| **found != dead).cloned().collect();
            self.away.push(ORDERS.takes_writes(&others, shard.number).await);
        }
        if victim == Victim::Host {
            self.sandbox.host_on(self.sandbox.agent_at(&dead)).await;
        }
        if self.controller.is_some() {
            ORDERS.well(&self.sandbox).await;
        } else {
            ORDERS.serves(&infos).await;
        }
        writer.confirm(ENOUGH).await;
        let history = writer.stop().await;
        println!(
            "round {round}: {victim:?} of shard {}; {} confirmed, {} not, {}",
            shard.number,
            history.confirmed.len(),
            history.unconfirmed,
            history.last_fault
        );
        (shard, history)
    }

    /// A new writer that has begun.
    pub(crate) async fn writer(&mut self, addresses: &[String]) -> Writer {
        self.writers += 1;
        let writer = Writer::start(&format!("w{}", self.writers), self.rng.random(), 3, addresses);
        writer.confirm(ENOUGH).await;
        writer
    }

    pub(crate) async fn addresses(&self) -> Vec<String> {
        self.sandbox.infos("orders").await.iter().map(address).collect()
    }

    /// Kills, and waits until it is dead: addresses and processes.
    pub(crate) async fn kill(&self, victim: Victim, shard: &Shard) -> Vec<(String, u32)> {
        let victims: Vec<&Value> = match victim {
            Victim::Replica | Victim::ExecutorOfReplica | Victim::Promoted => vec![&shard.replicas[0]],
            Victim::Master | Victim::ExecutorOfMaster | Victim::Host => vec![&shard.master],
            Victim::Both => shard.members().collect(),
        };
        let mut processes = Vec::new();
        for victim in victims {
            let address = address(victim);
            let pid = process_at(&address).await.unwrap();
            processes.push((address, pid));
        }
        if victim == Victim::Promoted {
            promoted(&processes[0].0).await;
        }
        match victim {
            Victim::Host => self.sandbox.host_off(self.sandbox.agent_at(&processes[0].0)).await,
            Victim::ExecutorOfReplica | Victim::ExecutorOfMaster => {
                signal(self.sandbox.executor_of(processes[0].1), Signal::KILL);
            }
            Victim::Replica | Victim::Master | Victim::Both | Victim::Promoted => {
                for (_, pid) in &processes {
                    signal(*pid, Signal::KILL);
                }
            }
        }
        // What has not been seen to be another process may not have died yet.
        if !matches!(victim, Victim::Host) {
            for (address, pid) in &processes {
                eventually(&format!("{pid} is gone"), || async {
                    match process_at(address).await {
                        Ok(now) if now == *pid => Err(()),
                        _ => Ok(()),
                    }
                })
                .await;
            }
        }
        processes
    }

    /// Whatever was confirmed at any time is still there, and a controller finds all well.
    pub(crate) async fn end(&mut self) {
        self.start_controller().await;
        let infos = ORDERS.well(&self.sandbox).await;
        assert!(infos.iter().all(|info| info["incarnation"] == 0), "nobody was replaced: {infos:?}");
        let addresses: Vec<String> = infos.iter().map(address).collect();
        self.history.assert_kept(&addresses, "in the end").await;
        let status = self.sandbox.status("orders").await;
        assert_ne!(condition(&status, "DataLost")["status"], "True", "{status}");
        if let Some(median) = median(&self.away) {
            println!("slots of killed masters were away for {median:.3?} (median), {:.3?}", self.away);
        }
    }
}

pub(crate) fn median(times: &[Duration]) -> Option<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

/// Has a replica change roles with its master. Voters refuse that for a while after the last time.
async fn promoted(replica: &str) {
    let replica = Redis::at(replica);
    let told = |error: std::io::Error| error.to_string();
    eventually("it is master", || async {
        replica.one(&["CLUSTER", "FAILOVER"]).await.map_err(told)?;
        // Given up by redis after 5 s.
        for _ in 0..600 {
            if replica.one(&["ROLE"]).await.map_err(told)? == "master" {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err("it is still a replica".to_owned())
    })
    .await;
}
