//! Digests of texts that are compared but not held.

use sha2::{Digest as _, Sha256};

/// SHA-256 of a text.
pub type Digest = [u8; 32];

/// The digest of `bytes`.
pub fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}
