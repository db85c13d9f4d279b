//! The real engines, as the controllers ask them: one short connection a question.

use std::{io::ErrorKind, time::Duration};

use async_trait::async_trait;
use overlord_api::{Address, Kind};
use overlord_engines::{AdminError, ClusterAdmin, Dialler, fence};
use overlord_reconcile::Revision;

use crate::{
    Engines, Known,
    redis_cluster::observed::{Answer, Command, Commander, Look},
};

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A connection for orders.
struct Fenced(ClusterAdmin);

#[async_trait]
impl Commander for Fenced {
    async fn run(&mut self, command: &Command) -> Result<(), String> {
        let outcome = match command {
            Command::Failover { force } => self.0.failover(*force).await,
            Command::TakeOver => self.0.take_over().await,
            Command::BumpEpoch => self.0.bump_epoch().await,
            Command::Meet { address, bus_port } => self.0.meet(*address, *bus_port).await,
            Command::Replicate { master } => self.0.replicate(master).await,
            Command::Forget { id } => self.0.forget(id).await,
        };
        outcome.map_err(|error| error.to_string())
    }
}

/// Asks over the network: TCP, or one that is brought along.
#[derive(Debug, Clone, Default)]
pub struct NetworkEngines {
    /// Opens the connections.
    pub dialler: Dialler,
}

#[async_trait]
impl Engines for NetworkEngines {
    async fn keys(&self, kind: Kind, address: Address, epoch: Revision) -> Known<u64> {
        let name = fence::client_name(epoch);
        let asked = async {
            let mut admin = self.dialler.engine(kind, address, TIMEOUT, Some(&name)).await?;
            admin.keys().await
        };
        match asked.await {
            Ok(keys) => Known::Is(keys),
            Err(error) => {
                tracing::debug!(%address, %error, "keys not told");
                Known::Unknown
            }
        }
    }

    async fn look(&self, address: Address, patience: Duration) -> Look {
        let asked = async {
            let mut admin = self.dialler.node(address, patience, None).await?;
            admin.look().await
        };
        match asked.await {
            Ok((view, replication)) => Look::Answered(Box::new(Answer { view, replication })),
            Err(AdminError::Connect { source, .. }) if source.kind() == ErrorKind::ConnectionRefused => {
                Look::Refused
            }
            Err(AdminError::Loading { .. }) => Look::Loading,
            Err(error) => Look::Silent(error.to_string()),
        }
    }

    async fn open(&self, address: Address, epoch: Revision) -> Result<Box<dyn Commander>, String> {
        let name = fence::client_name(epoch);
        match self.dialler.node(address, TIMEOUT, Some(&name)).await {
            Ok(admin) => Ok(Box::new(Fenced(admin))),
            Err(error) => Err(error.to_string()),
        }
    }
}
