//! `/overlord/controllers/<id>`: each controller says that it is there, leader or not, under a lease of its own. For
//! people; nothing is decided by it, so that it needs no fence.

use std::{sync::Arc, time::Duration};

use overlord_api::{Registration, keys};
use overlord_store::{Error, LeaseId, Store, Txn};
use tokio_util::sync::CancellationToken;

/// First pause after a failure; doubled up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Every so many renewals it is looked whether the key is there still.
const LOOK_EVERY: u32 = 6;

/// Keeps the key until `shutdown`, and takes it away then. A controller that died is listed for `ttl` more.
pub(crate) async fn keep(
    store: &Arc<dyn Store>,
    registration: &Registration,
    ttl: Duration,
    shutdown: &CancellationToken,
) {
    let key = keys::controller(&registration.id);
    let mut pause = MIN_PAUSE;
    while !shutdown.is_cancelled() {
        let mut lease = None;
        let ended = tokio::select! {
            biased;
            () = shutdown.cancelled() => Ok(()),
            ended = hold(store, &key, registration, ttl, &mut lease, &mut pause) => ended,
        };
        if shutdown.is_cancelled() {
            if let Some(lease) = lease
                && let Err(error) = store.lease_revoke(lease).await
            {
                tracing::debug!(%error, "this controller is listed until its lease ends");
            }
            return;
        }
        if let Err(error) = ended {
            tracing::debug!(%error, ?pause, "this controller is not listed");
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Writes the key and renews its lease; ends when the key has to be written anew.
async fn hold(
    store: &Arc<dyn Store>,
    key: &str,
    registration: &Registration,
    ttl: Duration,
    lease: &mut Option<LeaseId>,
    pause: &mut Duration,
) -> Result<(), Error> {
    let id = store.lease_grant(ttl).await?;
    *lease = Some(id);
    let value = serde_json::to_vec(registration).unwrap_or_default();
    store.commit(Txn::unfenced().put_leased(key, value, id)).await?;
    *pause = MIN_PAUSE;
    for renewal in 1_u32.. {
        tokio::time::sleep(ttl / 3).await;
        match store.lease_keep_alive(id).await {
            Ok(Some(_)) => {}
            Ok(None) => break,
            // The next one may come in time; else it is gone then.
            Err(error) => tracing::debug!(%error, "the lease of this controller's entry is not renewed yet"),
        }
        if renewal % LOOK_EVERY == 0
            && let Ok(found) = store.get(key).await
            && found.entries.first().is_none_or(|entry| entry.lease != id)
        {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use overlord_reconcile::{Clock, Tasks, TokioClock};
    use overlord_store::MemoryStore;
    use tokio::time::sleep;

    use super::*;

    const TTL: Duration = Duration::from_secs(30);

    fn world() -> (MemoryStore, Tasks, CancellationToken) {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(Timestamp::UNIX_EPOCH));
        let store = MemoryStore::new(clock);
        let (tasks, shutdown) = (Tasks::new(), CancellationToken::new());
        let (kept, token) = (Arc::new(store.clone()) as Arc<dyn Store>, shutdown.clone());
        tasks.spawn("registration", async move {
            let registration = Registration {
                version: 1,
                id: String::from("h.1"),
                api: String::from("http://h:1"),
                program: String::from("0"),
                since: Timestamp::UNIX_EPOCH,
            };
            keep(&kept, &registration, TTL, &token).await;
        });
        (store, tasks, shutdown)
    }

    async fn is_listed(store: &MemoryStore) -> bool {
        !store.get("/overlord/controllers/h.1").await.unwrap().entries.is_empty()
    }

    #[tokio::test(start_paused = true)]
    async fn a_controller_is_listed_while_it_runs_and_writes_once() {
        let (store, tasks, shutdown) = world();
        sleep(TTL * 100).await;
        assert!(is_listed(&store).await);
        assert_eq!(store.writes(), 1);
        shutdown.cancel();
        tasks.wait_idle().await;
        assert!(!is_listed(&store).await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_that_was_lost_is_written_again() {
        let (store, _tasks, _shutdown) = world();
        sleep(TTL).await;
        store.commit(Txn::unfenced().delete("/overlord/controllers/h.1")).await.unwrap();
        sleep(TTL * 4).await;
        assert!(is_listed(&store).await);
        store.set_unavailable(true);
        sleep(TTL * 10).await;
        store.set_unavailable(false);
        sleep(TTL * 4).await;
        assert!(is_listed(&store).await);
    }
}
