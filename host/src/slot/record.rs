//! What happened to a slot, for the operator: the last revisions and the last
//! failure. Bounded, in memory, and never asked by the request path.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::revision::Revision;

const KEEP: usize = 20;

/// Something that happened to a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// When, RFC 3339.
    pub at: String,
    /// Number of the revision that was swapped in; none for a failure.
    pub revision: Option<u64>,
    /// SHA-256 of the file, if it was read.
    pub digest: Option<String>,
    /// Why it was not swapped in.
    pub error: Option<String>,
}

/// What the operator sees of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `serving` or `no_component`.
    pub state: &'static str,
    /// Counts up with every swap since the start.
    pub revision: Option<u64>,
    /// SHA-256 of the file that serves.
    pub digest: Option<String>,
    /// Its bytes.
    pub size: Option<usize>,
    /// When it was verified, RFC 3339.
    pub loaded_at: Option<String>,
    /// Why the last file was not loaded, in one sentence. None: what lies in the
    /// folder is what serves.
    pub last_error: Option<String>,
    /// Oldest first.
    pub history: Vec<Entry>,
}

#[derive(Default)]
pub(super) struct Record(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    failure: Option<String>,
    history: VecDeque<Entry>,
}

impl Record {
    pub(super) fn loaded(&self, number: u64, digest: &str) {
        let mut inner = self.lock();
        inner.failure = None;
        inner.push(Entry {
            at: rfc3339(SystemTime::now()),
            revision: Some(number),
            digest: Some(digest.to_owned()),
            error: None,
        });
    }

    pub(super) fn failed(&self, digest: Option<&str>, message: &str) {
        let mut inner = self.lock();
        inner.failure = Some(message.to_owned());
        inner.push(Entry {
            at: rfc3339(SystemTime::now()),
            revision: None,
            digest: digest.map(str::to_owned),
            error: Some(message.to_owned()),
        });
    }

    pub(super) fn clear_failure(&self) {
        self.lock().failure = None;
    }

    /// With what serves now: its number and itself.
    pub(super) fn report(&self, now: Option<(u64, &Revision)>) -> Report {
        let inner = self.lock();
        let revision = now.map(|(_, revision)| revision);
        Report {
            state: if now.is_some() {
                "serving"
            } else {
                "no_component"
            },
            revision: now.map(|(number, _)| number),
            digest: revision.map(|revision| revision.digest().to_owned()),
            size: revision.map(Revision::size),
            loaded_at: revision.map(|revision| rfc3339(revision.loaded_at())),
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

/// Whole seconds, UTC.
fn rfc3339(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    at.replace_nanosecond(0)
        .unwrap_or(at)
        .format(&Rfc3339)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_load_clears_the_failure_and_the_history_is_bounded() {
        let record = Record::default();
        record.failed(Some("aa"), "broken");
        assert_eq!(record.report(None).last_error.unwrap(), "broken");
        for number in 1..=30 {
            record.loaded(number, "bb");
        }
        let report = record.report(None);
        assert!(report.last_error.is_none());
        assert_eq!(report.history.len(), KEEP);
        assert_eq!(report.history.last().unwrap().revision, Some(30));
    }
}
