//! The real engines, as the controllers ask them: one short connection a question.

use std::time::Duration;

use async_trait::async_trait;
use overlord_api::{Address, Kind};
use overlord_engines::{connect, fence};
use overlord_reconcile::Revision;

use crate::{Engines, Known};

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks over the network.
#[derive(Debug, Clone, Copy, Default)]
pub struct NetworkEngines;

#[async_trait]
impl Engines for NetworkEngines {
    async fn keys(&self, kind: Kind, address: Address, epoch: Revision) -> Known<u64> {
        let name = fence::client_name(epoch);
        let asked = async {
            let mut admin = connect(kind, address, TIMEOUT, Some(&name)).await?;
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
}
