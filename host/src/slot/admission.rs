//! How many requests may be in a service: so many at once, so many waiting for a
//! place, and not for long. The rest is refused at once, which costs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Longest wait for a place.
const PATIENCE: Duration = Duration::from_millis(1000);

pub(super) struct Admission {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    in_flight: usize,
    queue: usize,
    patience: Duration,
}

impl Admission {
    pub(super) fn new(in_flight: usize, queue: usize) -> Admission {
        Admission {
            places: Arc::new(Semaphore::new(in_flight)),
            waiting: AtomicUsize::new(0),
            in_flight,
            queue,
            patience: PATIENCE,
        }
    }

    /// Requests that have a place.
    pub(super) fn inside(&self) -> usize {
        self.in_flight
            .saturating_sub(self.places.available_permits())
    }

    /// Requests that wait for one.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// A place, which is free again when dropped. None: the service is busy.
    pub(super) async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Some(place);
        }
        let _waiting = Waiting::new(&self.waiting, self.queue)?;
        let place = tokio::time::timeout(self.patience, self.places.clone().acquire_owned());
        place.await.ok()?.ok()
    }
}

/// One of those that wait; leaves the queue when dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize, most: usize) -> Option<Waiting<'a>> {
        if count.fetch_add(1, Ordering::Relaxed) >= most {
            count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Waiting(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn full_then_queued_then_refused() {
        let mut admission = Admission::new(1, 1);
        admission.patience = Duration::from_secs(60);
        let admission = Arc::new(admission);
        let first = admission.enter().await.unwrap();
        let second = tokio::spawn({
            let admission = admission.clone();
            async move { admission.enter().await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(admission.enter().await.is_none(), "the queue holds one");
        drop(first);
        assert!(second.await.unwrap());
        assert_eq!(admission.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let mut admission = Admission::new(1, 1);
        admission.patience = Duration::from_millis(1);
        let _first = admission.enter().await.unwrap();
        assert!(admission.enter().await.is_none());
        assert_eq!(admission.waiting.load(Ordering::Relaxed), 0);
    }
}
