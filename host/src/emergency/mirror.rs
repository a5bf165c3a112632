//! The copies of the records in the shared store: written when it can be reached,
//! brought up to date when it returns. A removed record must not come back from it.

use std::sync::atomic::Ordering;

use super::{Emergency, Record};
use crate::revocation::{LOCAL_PREFIX, Revocations, Subject};
use crate::store::{Condition, Error, Store};

/// Notes of removals that are read at once.
const PAGE: usize = 64;

const PREFIX: &str = "lockgate:fallback:";

/// The key under which hosts share a user's record.
pub fn mirror_key(user_id: u32) -> String {
    format!("{PREFIX}{user_id}")
}

/// Whose record a key holds; none if it is not such a key.
pub fn mirrored_user(key: &str) -> Option<u32> {
    key.strip_prefix(PREFIX)?.parse().ok()
}

fn removed_key_prefix() -> String {
    format!("{LOCAL_PREFIX}fallback-removed:")
}

pub(super) fn removed_key(user_id: u32) -> String {
    format!("{}{user_id}", removed_key_prefix())
}

fn subject(record: &Record) -> Subject {
    Subject {
        user_id: record.user_id,
        session_id: record.session_id.clone(),
        token_sha256: record.source_sha256.clone(),
        issued_at: record.source_issued_at,
    }
}

fn millis(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

impl Emergency {
    /// Brings records to Redis that it has not, but none that was revoked meanwhile,
    /// and takes the newer one where both have one.
    pub async fn resync(&self, revocations: &Revocations, store: &dyn Store) {
        if !self.take_back(store).await {
            return;
        }
        let waiting: Vec<u32> = self.shelf().pending.iter().copied().collect();
        for user_id in waiting {
            let user = self.of_user(user_id).lock().await;
            let Some(record) = self.live(user_id) else {
                self.shelf().pending.remove(&user_id);
                continue;
            };
            let verdict = revocations.check(&subject(&record), store).await;
            if verdict.revoked {
                drop(user);
                if self
                    .remove(user_id, Some(&record.session_id), store)
                    .await
                    .is_err()
                {
                    return;
                }
                continue;
            }
            if !verdict.asked {
                return;
            }
            match self.there(user_id, store).await {
                Some(there) if there.changed_at > record.changed_at => {
                    let _guard = self.changes.lock().await;
                    if self.write(there).await.is_err() {
                        return;
                    }
                    self.shelf().pending.remove(&user_id);
                }
                _ => self.mirror(&record, store).await,
            }
        }
        if self.away.swap(false, Ordering::SeqCst) {
            self.counts.recoveries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The shared store has lost all records; the next [`Emergency::resync`] brings them.
    pub fn lost_there(&self) {
        let mut shelf = self.shelf();
        let users: Vec<u32> = shelf.records.keys().copied().collect();
        shelf.pending.extend(users);
    }

    /// The live record in the shared store, unless it was removed here since.
    pub(super) async fn there(&self, user_id: u32, store: &dyn Store) -> Option<Record> {
        let value = match store.get(&mirror_key(user_id)).await {
            Ok(value) => value?,
            Err(Error::Unavailable) => {
                self.is_away();
                return None;
            }
            Err(_) => return None,
        };
        self.credible(user_id, &value)
    }

    fn credible(&self, user_id: u32, value: &[u8]) -> Option<Record> {
        let record: Record = serde_json::from_slice(value).ok()?;
        let now = self.clock.now();
        let removed = self.journal.get(&removed_key(user_id), now).ok().flatten();
        let removed = removed.as_deref().and_then(millis);
        (record.plausible(user_id, self.clock.millis())
            && record.live(now)
            && removed.is_none_or(|at| record.changed_at > at))
        .then_some(record)
    }

    /// Writes the record to the shared store, or notes that it is missing there.
    pub(super) async fn mirror(&self, record: &Record, store: &dyn Store) {
        let left = record.expires_at.saturating_sub(self.clock.now()).max(1);
        let ttl = u32::try_from(left).unwrap_or(u32::MAX);
        let value = serde_json::to_vec(record).unwrap_or_default();
        let key = mirror_key(record.user_id);
        if store
            .set(&key, &value, ttl, Condition::Always)
            .await
            .is_ok()
        {
            self.shelf().pending.remove(&record.user_id);
        } else {
            self.shelf().pending.insert(record.user_id);
            self.is_away();
        }
    }

    /// Follows what other hosts did to these users' records: takes over what is newer
    /// there, as long as there is room, and drops what they removed.
    ///
    /// # Errors
    /// The store could not be reached; the records stay as they are.
    pub async fn follow(&self, users: &[u32], store: &dyn Store) -> Result<(), Error> {
        for users in users.chunks(PAGE) {
            let keys: Vec<String> = users.iter().map(|user| mirror_key(*user)).collect();
            // What is changed here meanwhile is newer than what is read.
            let _guard = self.changes.lock().await;
            let values = store.get_many(&keys).await?;
            let (mut newer, mut removed) = (Vec::new(), Vec::new());
            for (user_id, value) in users.iter().zip(values) {
                match value {
                    None => removed.push(*user_id),
                    Some(value) => newer.extend(self.newer(*user_id, &value)),
                }
            }
            {
                let shelf = self.shelf();
                removed.retain(|user| {
                    shelf.records.contains_key(user) && !shelf.pending.contains(user)
                });
            }
            // The file reports its own faults.
            let _ = self.take_over(newer).await;
            let _ = self.drop_records(removed).await;
        }
        Ok(())
    }

    /// The record in `value`, if it is a good one and newer than the one that is here.
    fn newer(&self, user_id: u32, value: &[u8]) -> Option<Record> {
        let there = self.credible(user_id, value)?;
        let here = self.live(user_id);
        here.is_none_or(|here| there.changed_at > here.changed_at)
            .then_some(there)
    }

    /// Counts the first sign of an outage.
    fn is_away(&self) {
        if !self.away.swap(true, Ordering::SeqCst) {
            self.counts.activations.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes back from Redis what was removed here while it was away. False: not all.
    async fn take_back(&self, store: &dyn Store) -> bool {
        let prefix = removed_key_prefix();
        let mut after = prefix.clone();
        loop {
            let now = self.clock.now();
            let Ok(page) = self.journal.page(&after, PAGE, now) else {
                return false;
            };
            for entry in &page {
                let Some(user_id) = entry.key.strip_prefix(&prefix) else {
                    return true;
                };
                let (Ok(user_id), Some(at)) = (user_id.parse(), millis(&entry.value)) else {
                    continue;
                };
                let key = mirror_key(user_id);
                let Ok(value) = store.get(&key).await else {
                    return false;
                };
                let record = value.and_then(|value| serde_json::from_slice::<Record>(&value).ok());
                let ours = record.is_some_and(|record| record.changed_at <= at);
                if ours && store.delete(&[key]).await.is_err() {
                    return false;
                }
                // If this fails the note ends by itself and does no harm until then.
                let _ = self.journal.remove(entry.key.clone()).await;
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after.clone_from(&last.key),
                _ => return true,
            }
        }
    }
}
