//! The two pointers of a slot: what serves now and what served before. Everything that
//! changes them stands here, one writer at a time; readers never wait. A change is noted
//! before it is made: whoever sees a new revision finds it in the record, and what the
//! revision does wrong is noted after it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::task::JoinHandle;

use super::probation::Verdict;
use super::{Loaded, Slot};

impl Slot {
    /// New requests see the new revision at once; started ones end on the old one,
    /// which they hold. The old one stays as the last good one if it ever answered.
    pub(super) fn swap(&self, new: Arc<Loaded>) {
        let _one_writer = self.writer();
        self.note_loaded(&new);
        if let Some(old) = self.current.swap(Some(new)) {
            old.pool.retire();
            if old.good.load(Ordering::Relaxed) || self.previous.load().is_none() {
                self.previous.store(Some(old));
            }
        }
    }

    /// As [`Slot::swap`], by an operator's word: what served before is not gone back to
    /// by itself.
    pub(super) fn replace(&self, new: Arc<Loaded>) -> Option<Arc<Loaded>> {
        let _one_writer = self.writer();
        self.note_loaded(&new);
        let old = self.current.swap(Some(new));
        self.previous.store(None);
        if let Some(old) = &old {
            old.pool.retire();
        }
        old
    }

    fn note_loaded(&self, new: &Loaded) {
        let (number, revision) = (new.number, new.revision());
        self.record.loaded(number, revision.digest());
        self.count_swap("ok");
        tracing::info!(
            service = self.service.name,
            number,
            digest = revision.digest(),
            size = revision.size(),
            "component serves"
        );
    }

    /// Counts a request of a revision on trial; too many failures bring back the
    /// revision before it, if there is one.
    pub(super) fn judge(&self, loaded: &Arc<Loaded>, failed: bool) {
        let Verdict::Failed { failures, requests } = loaded.trial.note(failed, Instant::now())
        else {
            return;
        };
        // An operator's word counts for more.
        if self.shelf.pinned().is_some() {
            return;
        }
        let why = format!("it failed {failures} of its first {requests} requests");
        self.roll_back(loaded, &why);
    }

    /// Brings back the previous revision in place of `failed`, unless that serves no
    /// longer or there is none. Says whether it did.
    pub(super) fn roll_back(&self, failed: &Arc<Loaded>, why: &str) -> bool {
        let one_writer = self.writer();
        let serves = self.current.load_full();
        if !serves.is_some_and(|serving| Arc::ptr_eq(&serving, failed)) {
            return false;
        }
        let Some(previous) = self.previous.swap(None) else {
            return false;
        };
        let (number, kept) = (previous.number, previous.revision().digest().to_owned());
        let digest = failed.revision().digest();
        let message = format!("rolled back to revision {number}: {why}");
        self.record.rolled_back(number, digest, &message);
        previous.pool.revive();
        self.current.store(Some(previous));
        failed.pool.retire();
        drop(one_writer);
        self.shelf.note_failed(digest, why);
        let shelf = self.shelf.clone();
        tokio::task::spawn_blocking(move || shelf.save());
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
        self.keep(loaded);
    }

    /// Has the revision's file kept, if it is not yet.
    pub(super) fn keep(&self, loaded: &Loaded) -> Option<JoinHandle<()>> {
        let file = loaded
            .file
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let (shelf, digest) = (self.shelf.clone(), loaded.revision().digest().to_owned());
        file.map(|file| tokio::task::spawn_blocking(move || shelf.keep(&digest, &file)))
    }

    fn writer(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
