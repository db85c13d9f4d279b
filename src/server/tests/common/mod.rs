//! A server that knows no engine and whose clock stands still.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use overlord_api::{Engine, InstalledRules, Kind, RuleFault, Rules};
use overlord_server::ApiState;
use overlord_store::Store;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

/// Everything is fine.
struct NoRules;

impl Rules for NoRules {
    fn version(&self, _: Engine, _: &str) -> Result<(), RuleFault> {
        Ok(())
    }

    fn directive(&self, _: Kind, _: &str, _: &str, _: &str) -> Result<(), RuleFault> {
        Ok(())
    }
}

/// Its state.
pub(crate) fn state(store: Arc<dyn Store>, shutdown: CancellationToken) -> ApiState {
    ApiState::new(
        store,
        Arc::new(InstalledRules::new(Arc::new(NoRules), BTreeMap::new(), Kind::ALL)),
        Arc::new(|| Timestamp::UNIX_EPOCH),
        BTreeMap::new(),
        Arc::new(Registry::default()),
        shutdown,
    )
}
