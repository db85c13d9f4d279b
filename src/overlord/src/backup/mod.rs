//! Copies of what is kept in etcd: their file, and what of them goes into a store that may know better.

pub(crate) mod decide;
pub(crate) mod file;

use overlord_api::keys::{self, Key};

/// Whether a key is copied: not what is bound to a lease (leader, controllers, events), nor what speaks of this very
/// store.
pub(crate) fn is_copied(key: &str) -> bool {
    !key.starts_with(keys::EVENTS)
        && !key.starts_with(keys::CONTROLLERS)
        && key != keys::GENERATION
        && key != keys::HISTORY
        && Key::parse(key) != Key::Leader
}
