//! The two pointers of a slot: what serves now and what served before. Everything that
//! changes them stands here, one writer at a time; readers never wait.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use super::probation::Verdict;
use super::{Loaded, Slot};

impl Slot {
    /// New requests see the new revision at once; started ones end on the old one,
    /// which they hold. The old one stays as the last good one if it ever answered.
    pub(super) fn swap(&self, new: Arc<Loaded>) {
        let _one_writer = self.writer();
        if let Some(old) = self.current.swap(Some(new)) {
            old.pool.retire();
            if old.good.load(Ordering::Relaxed) || self.previous.load().is_none() {
                self.previous.store(Some(old));
            }
        }
    }

    /// Counts a request of a revision on trial; too many failures bring back the
    /// revision before it, if there is one.
    pub(super) fn judge(&self, loaded: &Arc<Loaded>, failed: bool) {
        let Verdict::Failed { failures, requests } = loaded.trial.note(failed, Instant::now())
        else {
            return;
        };
        let why = format!("it failed {failures} of its first {requests} requests");
        self.roll_back(loaded, &why);
    }

    /// Brings back the revision before the one that serves, by an operator's word. Its
    /// digest then counts as failed. False: there is none before it.
    pub fn roll_back_by_hand(&self) -> bool {
        self.current
            .load_full()
            .is_some_and(|serving| self.roll_back(&serving, "an operator asked for it"))
    }

    /// Brings back the previous revision in place of `failed`, unless that serves no
    /// longer or there is none. Says whether it did.
    fn roll_back(&self, failed: &Arc<Loaded>, why: &str) -> bool {
        let one_writer = self.writer();
        let serves = self.current.load_full();
        if !serves.is_some_and(|serving| Arc::ptr_eq(&serving, failed)) {
            return false;
        }
        let Some(previous) = self.previous.swap(None) else {
            return false;
        };
        previous.pool.revive();
        let (number, kept) = (previous.number, previous.revision().digest().to_owned());
        self.current.store(Some(previous));
        failed.pool.retire();
        let digest = failed.revision().digest();
        drop(one_writer);
        self.shelf.note_failed(digest, why);
        let shelf = self.shelf.clone();
        tokio::task::spawn_blocking(move || shelf.save());
        let message = format!("rolled back to revision {number}: {why}");
        self.record.rolled_back(number, digest, &message);
        self.count_swap("rolled_back");
        tracing::error!(
            service = self.service.name,
            digest,
            number,
            kept,
            why,
            "component rolled back"
        );
        true
    }

    /// The revision has answered; the first time its file is kept for a restart.
    pub(super) fn note_good(&self, loaded: &Loaded) {
        if loaded.good.swap(true, Ordering::Relaxed) {
            return;
        }
        let bytes = loaded
            .bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(bytes) = bytes {
            let (shelf, digest) = (self.shelf.clone(), loaded.revision().digest().to_owned());
            tokio::task::spawn_blocking(move || shelf.keep(&digest, &bytes));
        }
    }

    fn writer(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
