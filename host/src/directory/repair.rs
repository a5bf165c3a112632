//! Carries what the journal knows of disabled users over to a store that has lost it. It
//! asks nobody else.

use super::entry::Sighting;
use super::{Directory, PREFIX};
use crate::store::{self, Condition, Store};

/// Disabled users in one round trip.
const PAGE: usize = 64;

impl Directory {
    /// Brings disabled users into the store that has lost them, and forgets those
    /// whom it knows to be active again.
    ///
    /// # Errors
    /// The store could not be reached; the rest is for the next time.
    pub async fn repair(&self, store: &dyn Store) -> store::Result<()> {
        let mut after = PREFIX.to_owned();
        loop {
            let now = self.clock.now();
            // The file reports its own faults.
            let mut page = self.journal.page(&after, PAGE, now).unwrap_or_default();
            let full = page.len() == PAGE;
            page.retain(|entry| entry.key.starts_with(PREFIX));
            let Some(last) = page.last() else {
                return Ok(());
            };
            after.clone_from(&last.key);
            let keys: Vec<String> = page.iter().map(|entry| entry.key.clone()).collect();
            for (entry, cached) in page.into_iter().zip(store.get_many(&keys).await?) {
                if let Some(cached) = cached {
                    let sighting = Sighting::parse(&cached);
                    self.judge(&entry.key, sighting).await;
                    continue;
                }
                let left = u32::try_from(entry.ends.saturating_sub(now)).unwrap_or(u32::MAX);
                let ttl = left.max(1);
                store
                    .set(&entry.key, &entry.value, ttl, Condition::IfAbsent)
                    .await?;
            }
            if !full {
                return Ok(());
            }
        }
    }
}
