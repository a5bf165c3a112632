//! The emergency sessions: one record a user, on the disk before the answer, and
//! mirrored to Redis while that is up. It keeps records; who may have one is
//! decided by the plugins and by the revocations.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redb::{ReadableTable, TableDefinition};

use crate::clock::Clock;
use crate::journal::Journal;
use crate::keys::sha256_hex;
use crate::store::Store;
use crate::store::file::{File, FileError, PATIENCE};

mod disk;
mod mirror;
mod record;
mod report;

pub use record::{Draft, InvalidDraft, MAX_LIFE, Record};
pub use report::Report;

pub use mirror::{mirror_key, mirrored_user};

use mirror::removed_key;
use report::Counts;

/// Most records.
pub const MAX_RECORDS: usize = 1000;
/// A session is copied for a user this seldom, seconds.
const COPY_PERIOD: u64 = 60;
/// Copies that may be under way; more are left out, the next request brings one.
const MAX_COPIES: usize = 64;
/// Locks that users share.
const USER_LOCKS: usize = 64;
/// User -> the record as JSON.
const RECORDS: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("fallback");

/// Why nothing was kept.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The draft is not valid.
    #[error(transparent)]
    Invalid(#[from] InvalidDraft),
    /// The file could not be written; nothing has changed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A record that was made, and the one time that its token is told.
#[derive(Debug)]
pub struct Created {
    /// The record.
    pub record: Record,
    /// 32 random bytes, base64url.
    pub token: String,
    /// A live record was replaced.
    pub replaced: bool,
}

#[derive(Debug, Default)]
struct Shelf {
    records: BTreeMap<u32, Record>,
    /// Users whose record Redis does not have yet.
    pending: BTreeSet<u32>,
    /// When a user's session was copied last, unix seconds.
    copied: HashMap<u32, u64>,
    /// Users whose record was used since it was written.
    touched: BTreeSet<u32>,
}

impl Shelf {
    /// Users whose record has ended.
    fn ended(&self, now: u64) -> Vec<u32> {
        let ended = self.records.values().filter(|record| !record.live(now));
        ended.map(|record| record.user_id).collect()
    }
}

/// The records of this process.
#[derive(Debug)]
pub struct Emergency {
    file: Arc<File>,
    journal: Journal,
    clock: Clock,
    shelf: Mutex<Shelf>,
    /// One change at a time, so that file and memory agree.
    changes: tokio::sync::Mutex<()>,
    /// One change of a user at a time, so that the shared store agrees, too. Taken before
    /// `changes`; users share them.
    users: [tokio::sync::Mutex<()>; USER_LOCKS],
    copies: Arc<tokio::sync::Semaphore>,
    counts: Counts,
    /// The shared store failed a record, and has not taken one since.
    away: AtomicBool,
}

impl Emergency {
    /// Loads the records of `file`; ended and unreadable ones are left out.
    ///
    /// # Errors
    /// [`FileError`] if the file cannot be used.
    pub async fn open(
        file: Arc<File>,
        journal: Journal,
        clock: Clock,
    ) -> Result<Emergency, FileError> {
        file.write(|transaction| {
            transaction
                .open_table(RECORDS)
                .map(drop)
                .map_err(Into::into)
        })
        .await?;
        let now = clock.now();
        let records = file.read(|transaction| {
            let mut records = BTreeMap::new();
            for row in transaction.open_table(RECORDS)?.iter()? {
                let (user_id, value) = row?;
                match serde_json::from_slice::<Record>(value.value()) {
                    Ok(record) if record.live(now) => {
                        records.insert(user_id.value(), record);
                    }
                    Ok(_) => {}
                    Err(_) => tracing::warn!("an emergency session cannot be read: left out"),
                }
            }
            Ok(records)
        })?;
        let pending = records.keys().copied().collect();
        Ok(Emergency {
            file,
            journal,
            clock,
            shelf: Mutex::new(Shelf {
                records,
                pending,
                ..Shelf::default()
            }),
            changes: tokio::sync::Mutex::new(()),
            users: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
            copies: Arc::new(tokio::sync::Semaphore::new(MAX_COPIES)),
            counts: Counts::default(),
            away: AtomicBool::new(false),
        })
    }

    /// Creates or replaces the record of the user.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn create(&self, draft: Draft, store: &dyn Store) -> Result<Created, Fault> {
        let token = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let record = draft.record(sha256_hex(token.as_bytes()), self.clock.millis())?;
        let _user = self.of_user(record.user_id).lock().await;
        let guard = self.changes.lock().await;
        let replaced = self.live(record.user_id).is_some();
        self.write(record.clone()).await?;
        drop(guard);
        self.counts.created.fetch_add(1, Ordering::Relaxed);
        self.mirror(&record, store).await;
        Ok(Created {
            record,
            token,
            replaced,
        })
    }

    /// Keeps a copy of a session in the background, at most once a minute for a user.
    ///
    /// # Errors
    /// [`InvalidDraft`]. A file that fails is reported by [`Emergency::report`].
    pub fn copy(self: &Arc<Self>, draft: Draft, store: Arc<dyn Store>) -> Result<(), InvalidDraft> {
        let user_id = draft.user_id;
        // Nobody is told the token of a copy.
        let unknown = sha256_hex(&rand::random::<[u8; 32]>());
        let record = draft.record(unknown, self.clock.millis())?;
        let Ok(permit) = Arc::clone(&self.copies).try_acquire_owned() else {
            return Ok(());
        };
        if !self.due(user_id) {
            return Ok(());
        }
        let this = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = this.merge(record, store.as_ref()).await {
                tracing::warn!(%error, "a session could not be copied");
            }
            drop(permit);
        });
        Ok(())
    }

    /// Notes a copy; false: there was one within the minute.
    fn due(&self, user_id: u32) -> bool {
        let now = self.clock.now();
        let mut shelf = self.shelf();
        let recent = |at: u64| now < at.saturating_add(COPY_PERIOD);
        if shelf.copied.get(&user_id).copied().is_some_and(recent) {
            return false;
        }
        if shelf.copied.len() >= 4 * MAX_RECORDS {
            shelf.copied.retain(|_, at| recent(*at));
        }
        shelf.copied.insert(user_id, now);
        true
    }

    /// Of a live record the creation, the end, the session and both tokens stay.
    async fn merge(&self, copy: Record, store: &dyn Store) -> Result<(), FileError> {
        let _user = self.of_user(copy.user_id).lock().await;
        let guard = self.changes.lock().await;
        let record = match self.live(copy.user_id) {
            Some(live) => Record {
                email: copy.email,
                role: copy.role,
                session_data: copy.session_data,
                token_format: copy.token_format,
                last_accessed: copy.last_accessed,
                changed_at: copy.changed_at,
                ..live
            },
            None => copy,
        };
        self.write(record.clone()).await?;
        drop(guard);
        self.mirror(&record, store).await;
        Ok(())
    }

    /// The live record of a user, here or, if that is newer, in the shared store. A change
    /// that waits for the disk keeps nobody waiting who reads.
    pub async fn find(self: &Arc<Self>, user_id: u32, store: &dyn Store) -> Option<Record> {
        let user = tokio::time::timeout(PATIENCE, self.of_user(user_id).lock());
        let user = user.await.ok();
        let here = self.live(user_id);
        let there = self.there(user_id, store).await;
        let newer = there.filter(|there| {
            here.as_ref()
                .is_none_or(|here| there.changed_at > here.changed_at)
        });
        match newer {
            Some(record) => {
                // The caller gets its record even if it cannot be kept here, or not yet.
                if user.is_some() && self.keep(record.clone()).await {
                    self.shelf().pending.remove(&user_id);
                    return self.touch(user_id).or(Some(record));
                }
                Some(record)
            }
            None => here.and_then(|_| self.touch(user_id)),
        }
    }

    /// Keeps what the shared store has; true if that did not take long. However long it
    /// takes, it is done to its end.
    async fn keep(self: &Arc<Self>, record: Record) -> bool {
        let this = Arc::clone(self);
        let keeping = tokio::spawn(async move {
            let _guard = this.changes.lock().await;
            this.write(record).await
        });
        let kept = tokio::time::timeout(PATIENCE, keeping).await;
        matches!(kept, Ok(Ok(Ok(()))))
    }

    /// The live record with this fallback token, here.
    pub fn find_by_token(&self, token: &str) -> Option<Record> {
        let hash = sha256_hex(token.as_bytes());
        let now = self.clock.now();
        let user_id = self
            .shelf()
            .records
            .values()
            .find(|record| record.token_sha256 == hash && record.live(now))
            .map(|record| record.user_id)?;
        self.touch(user_id)
    }

    /// Replaces `session_data` and `token_format` of a live record. False: none.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn update(
        &self,
        user_id: u32,
        session_data: &str,
        token_format: &str,
        store: &dyn Store,
    ) -> Result<bool, Fault> {
        let session_data = record::object(session_data)?;
        if !record::format(token_format) {
            return Err(InvalidDraft.into());
        }
        let _user = self.of_user(user_id).lock().await;
        let guard = self.changes.lock().await;
        let Some(mut record) = self.live(user_id) else {
            return Ok(false);
        };
        record.session_data = session_data;
        token_format.clone_into(&mut record.token_format);
        record.changed_at = self.clock.millis();
        self.write(record.clone()).await?;
        drop(guard);
        self.mirror(&record, store).await;
        Ok(true)
    }

    /// Removes the record of a user; with a session only if it is that one's.
    /// False: it is another session's.
    ///
    /// # Errors
    /// [`FileError`]: nothing has changed.
    pub async fn remove(
        &self,
        user_id: u32,
        session_id: Option<&str>,
        store: &dyn Store,
    ) -> Result<bool, FileError> {
        let _user = self.of_user(user_id).lock().await;
        let other = |record: &Record| session_id.is_some_and(|id| id != record.session_id);
        if self.live(user_id).is_some_and(|record| other(&record)) {
            return Ok(false);
        }
        if self
            .there(user_id, store)
            .await
            .is_some_and(|record| other(&record))
        {
            return Ok(false);
        }
        let millis = self.clock.millis();
        if store.delete(&[mirror_key(user_id)]).await.is_err() {
            // The copy in Redis must not bring the record back.
            let ends = (millis / 1000).saturating_add(MAX_LIFE);
            let at = millis.to_string().into_bytes();
            self.journal.put(removed_key(user_id), at, ends).await?;
        }
        let _guard = self.changes.lock().await;
        self.drop_records(vec![user_id]).await?;
        Ok(true)
    }

    #[allow(
        clippy::indexing_slicing,
        reason = "the rest of a division is below it"
    )]
    fn of_user(&self, user_id: u32) -> &tokio::sync::Mutex<()> {
        &self.users[user_id as usize % USER_LOCKS]
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self, user_id: u32) -> Option<Record> {
        let now = self.clock.now();
        self.shelf()
            .records
            .get(&user_id)
            .filter(|record| record.live(now))
            .cloned()
    }

    fn touch(&self, user_id: u32) -> Option<Record> {
        let now = self.clock.now();
        let mut shelf = self.shelf();
        let record = shelf.records.get_mut(&user_id)?;
        record.last_accessed = now;
        let record = record.clone();
        shelf.touched.insert(user_id);
        self.counts.retrieved.fetch_add(1, Ordering::Relaxed);
        Some(record)
    }
}

#[cfg(test)]
mod tests;
