//! A controller's way to the engines: what it orders counts as an effect, and nothing passes while its process is
//! stopped.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use overlord_api::{Address, Kind};
use overlord_controllers::{Command, Commander, Engines, Known, Look};

use crate::{effects::Effects, gate::Gates, oracles::Oracles, store::Who, trace::Trace};

/// One controller's way to all engines.
#[derive(Debug)]
pub(crate) struct SimEngines {
    pub(crate) who: Who,
    pub(crate) inner: Arc<dyn Engines>,
    pub(crate) gates: Gates,
    pub(crate) effects: Effects,
    pub(crate) trace: Trace,
    pub(crate) oracles: Oracles,
}

#[async_trait]
impl Engines for SimEngines {
    async fn keys(&self, kind: Kind, address: Address, epoch: i64) -> Known<u64> {
        self.gates.pass(self.who).await;
        self.inner.keys(kind, address, epoch).await
    }

    async fn look(&self, address: Address, patience: Duration) -> Look {
        self.gates.pass(self.who).await;
        self.inner.look(address, patience).await
    }

    async fn open(&self, address: Address, epoch: i64) -> Result<Box<dyn Commander>, String> {
        self.gates.pass(self.who).await;
        let inner = self.inner.open(address, epoch).await?;
        Ok(Box::new(SimCommander {
            who: self.who,
            address,
            inner,
            gates: self.gates.clone(),
            effects: self.effects.clone(),
            trace: self.trace.clone(),
            oracles: self.oracles.clone(),
        }))
    }
}

/// One connection for orders.
struct SimCommander {
    who: Who,
    address: Address,
    inner: Box<dyn Commander>,
    gates: Gates,
    effects: Effects,
    trace: Trace,
    oracles: Oracles,
}

#[async_trait]
impl Commander for SimCommander {
    async fn run(&mut self, command: &Command) -> Result<(), String> {
        let (who, address) = (self.who, self.address);
        let effect = self.effects.begin(who, "an order to an engine").await;
        self.gates.pass(who).await;
        self.oracles.check_reign(who, "an order to an engine");
        let answer = self.inner.run(command).await;
        let told = answer.as_ref().err().map_or_else(String::new, |error| format!(": {error}"));
        self.trace.line(format!("{who} -> {address}: {command}{told}"));
        self.effects.end(effect, who, "an order to an engine").await;
        self.gates.pass(who).await;
        answer
    }
}
