//! Change notifications of a cache: which keys changed, coalesced and bounded. Level-triggered: a
//! notice says where to look, never what happened.

use std::{
    collections::BTreeSet,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures::task::AtomicWaker;

/// Keys a subscription holds at most before it says [`Changed::Everything`].
pub const SUBSCRIPTION_CAPACITY: usize = 4096;

/// What may have changed since the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// These keys, sorted: written, deleted, or both.
    Keys(Vec<Arc<str>>),
    /// More than can be told: look at all.
    Everything,
}

/// A subscriber's end.
#[derive(Debug)]
pub struct Subscription {
    inbox: Arc<Inbox>,
}

/// The place where notices wait for the subscriber.
#[derive(Debug)]
pub(crate) struct Inbox {
    notices: Mutex<Notices>,
    waker: AtomicWaker,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Notices {
    keys: BTreeSet<Arc<str>>,
    everything: bool,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Notices> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn keys_changed<'k>(&self, keys: impl IntoIterator<Item = &'k Arc<str>>) {
        let mut notices = self.lock();
        if notices.everything {
            return;
        }
        for key in keys {
            notices.keys.insert(Arc::clone(key));
            if notices.keys.len() > self.capacity {
                notices.keys.clear();
                notices.everything = true;
                break;
            }
        }
        drop(notices);
        self.waker.wake();
    }

    pub(crate) fn everything_changed(&self) {
        let mut notices = self.lock();
        notices.keys.clear();
        notices.everything = true;
        drop(notices);
        self.waker.wake();
    }
}

impl Subscription {
    pub(crate) fn new(capacity: usize) -> (Self, Arc<Inbox>) {
        let inbox = Arc::new(Inbox { notices: Mutex::default(), waker: AtomicWaker::new(), capacity });
        (Self { inbox: Arc::clone(&inbox) }, inbox)
    }

    /// What has changed since the last look, if anything.
    pub fn try_changed(&mut self) -> Option<Changed> {
        let mut notices = self.inbox.lock();
        if notices.everything {
            notices.everything = false;
            return Some(Changed::Everything);
        }
        if notices.keys.is_empty() {
            return None;
        }
        Some(Changed::Keys(std::mem::take(&mut notices.keys).into_iter().collect()))
    }

    /// Whether [`Subscription::try_changed`] has something; if not, wakes the caller when it does.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.inbox.waker.register(cx.waker());
        let notices = self.inbox.lock();
        if notices.everything || !notices.keys.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Waits until something has changed. Loses nothing when dropped half way.
    pub async fn changed(&mut self) -> Changed {
        loop {
            poll_fn(|cx| self.poll_ready(cx)).await;
            if let Some(changed) = self.try_changed() {
                return changed;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn many_changes_of_one_key_are_one_notice() {
        let (mut subscription, inbox) = Subscription::new(10);
        for _ in 0..1_000 {
            inbox.keys_changed(&keys(&["b", "a"]));
        }
        assert_eq!(subscription.try_changed(), Some(Changed::Keys(keys(&["a", "b"]))));
        assert_eq!(subscription.try_changed(), None);
    }

    #[test]
    fn an_overflow_becomes_everything_and_then_starts_anew() {
        let (mut subscription, inbox) = Subscription::new(2);
        inbox.keys_changed(&keys(&["a", "b", "c"]));
        inbox.keys_changed(&keys(&["d"]));
        assert_eq!(subscription.try_changed(), Some(Changed::Everything));
        assert_eq!(subscription.try_changed(), None);
        inbox.keys_changed(&keys(&["e"]));
        assert_eq!(subscription.try_changed(), Some(Changed::Keys(keys(&["e"]))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_subscriber_is_woken() {
        let (mut subscription, inbox) = Subscription::new(2);
        let (changed, ()) = tokio::join!(biased; subscription.changed(), async {
            inbox.keys_changed(&keys(&["a"]));
        });
        assert_eq!(changed, Changed::Keys(keys(&["a"])));
    }
}
