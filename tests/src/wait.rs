//! Waiting for the real world: bounded, and with the last answer in the message.

use std::{fmt::Debug, future::Future, time::Duration};

/// How often the world is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How long tests wait for something that should come at once: long, so that a busy machine does not
/// make a test fail that would pass.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `look` gives `Ok`.
///
/// # Panics
/// After a minute, with the last `Err`.
pub async fn eventually<T, E: Debug, F: Future<Output = Result<T, E>>>(
    what: &str,
    look: impl FnMut() -> F,
) -> T {
    eventually_within(PATIENCE, what, look).await
}

/// Waits until `look` gives `Ok`.
///
/// # Panics
/// After `limit`, with the last `Err`.
#[expect(clippy::panic, reason = "the tests' own way to fail")]
pub async fn eventually_within<T, E: Debug, F: Future<Output = Result<T, E>>>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let mut last = None;
    let waited = tokio::time::timeout(limit, async {
        loop {
            match look().await {
                Ok(value) => return value,
                Err(error) => last = Some(error),
            }
            // The processes looked at offer no event to wait for.
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
    let Ok(value) = waited else { panic!("{what}: not within {limit:?}; last: {last:?}") };
    value
}
