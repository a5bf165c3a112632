//! What operators are told of the records.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Emergency;

/// Figures for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Live records.
    pub active: u32,
    /// Ended records that were not dropped yet.
    pub expired: u32,
    /// Records that Redis does not have yet.
    pub pending: u32,
    /// False after a write to the file failed, until one succeeds.
    pub persistent: bool,
    /// Counts by name.
    pub counts: Vec<(&'static str, u64)>,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) created: AtomicU64,
    pub(super) retrieved: AtomicU64,
    pub(super) expired: AtomicU64,
    pub(super) evicted: AtomicU64,
    pub(super) activations: AtomicU64,
    pub(super) recoveries: AtomicU64,
}

impl Emergency {
    /// Figures for operators.
    pub fn report(&self) -> Report {
        let now = self.clock.now();
        let shelf = self.shelf();
        let size = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let active = shelf
            .records
            .values()
            .filter(|record| record.live(now))
            .count();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Report {
            active: size(active),
            expired: size(shelf.records.len() - active),
            pending: size(shelf.pending.len()),
            persistent: self.file.healthy(),
            counts: vec![
                ("sessions_created", count(&self.counts.created)),
                ("sessions_retrieved", count(&self.counts.retrieved)),
                ("sessions_expired", count(&self.counts.expired)),
                ("sessions_evicted", count(&self.counts.evicted)),
                ("fallback_activations", count(&self.counts.activations)),
                ("redis_recoveries", count(&self.counts.recoveries)),
            ],
        }
    }
}
