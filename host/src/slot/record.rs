//! What happened to a slot, for the operator: the last revisions and the last
//! failure. Bounded, in memory, and never asked by the request path.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

const KEEP: usize = 20;

/// Something that happened to a slot.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When.
    pub at: SystemTime,
    /// Number of the revision that serves since then; none if that did not change.
    pub number: Option<u64>,
    /// SHA-256 of the file, if it was read.
    pub digest: Option<String>,
    /// Why it was not swapped in, or not kept.
    pub error: Option<String>,
}

/// Why the last file was not loaded.
#[derive(Debug, Clone)]
pub struct Failure {
    /// When.
    pub at: SystemTime,
    /// SHA-256 of the file, if it was read.
    pub digest: Option<String>,
    /// One sentence.
    pub message: String,
}

/// The revision that serves.
#[derive(Debug, Clone)]
pub struct RevisionReport {
    /// Counts up with every swap since the start.
    pub number: u64,
    /// SHA-256 of the file.
    pub digest: String,
    /// Bytes of the file.
    pub size: usize,
    /// When it was verified.
    pub loaded_at: SystemTime,
    /// It ran past its time too often and is left alone.
    pub quarantined: bool,
}

/// How busy a slot is at one moment.
#[derive(Debug, Clone, Copy)]
pub struct LoadReport {
    /// Requests that have a place.
    pub in_flight: usize,
    /// Requests that wait for one.
    pub waiting: usize,
    /// Calls on the slow lane.
    pub slow: usize,
}

/// What the operator sees of a slot.
#[derive(Debug, Clone)]
pub struct Report {
    /// None: no component was ever loaded.
    pub revision: Option<RevisionReport>,
    /// Digest of the one before, while it is still in memory.
    pub previous: Option<String>,
    /// Digest of the only revision that may serve, by an operator's word.
    pub pinned: Option<String>,
    /// Digests that can be gone back to, the newest first.
    pub kept: Vec<String>,
    /// None: the file in the folder is the one that serves.
    pub last_error: Option<Failure>,
    /// Oldest first.
    pub history: Vec<Entry>,
}

#[derive(Default)]
pub(super) struct Record(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    failure: Option<Failure>,
    history: VecDeque<Entry>,
}

impl Record {
    pub(super) fn loaded(&self, number: u64, digest: &str) {
        self.lock().push(Entry {
            at: SystemTime::now(),
            number: Some(number),
            digest: Some(digest.to_owned()),
            error: None,
        });
    }

    pub(super) fn failed(&self, digest: Option<&str>, message: &str) {
        self.note_failure(None, digest, message);
    }

    /// The revision `number` came back because the one with `digest` failed its trial.
    pub(super) fn rolled_back(&self, number: u64, digest: &str, message: &str) {
        self.note_failure(Some(number), Some(digest), message);
    }

    fn note_failure(&self, number: Option<u64>, digest: Option<&str>, message: &str) {
        let mut inner = self.lock();
        let (at, digest) = (SystemTime::now(), digest.map(str::to_owned));
        inner.failure = Some(Failure {
            at,
            digest: digest.clone(),
            message: message.to_owned(),
        });
        inner.push(Entry {
            at,
            number,
            digest,
            error: Some(message.to_owned()),
        });
    }

    pub(super) fn clear_failure(&self) {
        self.lock().failure = None;
    }

    pub(super) fn report(
        &self,
        revision: Option<RevisionReport>,
        previous: Option<String>,
        pinned: Option<String>,
        kept: Vec<String>,
    ) -> Report {
        let inner = self.lock();
        Report {
            revision,
            previous,
            pinned,
            kept,
            last_error: inner.failure.clone(),
            history: inner.history.iter().cloned().collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn push(&mut self, entry: Entry) {
        if self.history.len() >= KEEP {
            self.history.pop_front();
        }
        self.history.push_back(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_stays_until_it_is_cleared_and_the_history_is_bounded() {
        let record = Record::default();
        record.failed(Some("aa"), "broken");
        let report = || record.report(None, None, None, Vec::new());
        assert_eq!(report().last_error.unwrap().message, "broken");
        for number in 1..=30 {
            record.loaded(number, "bb");
        }
        record.clear_failure();
        let report = report();
        assert!(report.last_error.is_none());
        assert_eq!(report.history.len(), KEEP);
        assert_eq!(report.history.last().unwrap().number, Some(30));
    }
}
