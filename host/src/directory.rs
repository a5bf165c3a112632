//! What is known of users: the shared cache of the users table, and a memory of
//! those who are disabled, which holds while the cache cannot be asked. It must
//! not guess: without a fresh entry a user is unknown.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{ReadableTable as _, TableDefinition};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock::Clock;
use crate::store::Store;
use crate::store::file::{File, FileError};

/// How long a user counts as known to be active after the table was read, seconds.
const FRESH: u64 = 60;
/// How long a disabled user is remembered, seconds.
const REMEMBERED: u64 = 604_860;
/// How far the clocks of two hosts may differ, seconds.
const SKEW: u64 = 60;
/// A newer sighting of a disabled user is written to the file this seldom, seconds.
const REWRITE: u64 = 3_600;
/// Disabled users in memory; more are not remembered, and that is reported.
const MAX_DISABLED: usize = 1_000_000;

/// User -> when the table said that the user is disabled, unix seconds.
const DISABLED: TableDefinition<'static, u32, u64> = TableDefinition::new("disabled_users");

/// What is known of a user now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// The table said so at most a minute ago.
    Active {
        /// The e-mail in the table.
        email: String,
        /// `admin` or `user`.
        role: String,
    },
    /// The table said so, and nothing newer says otherwise.
    Disabled,
    /// Nobody here knows.
    Unknown,
}

/// The value of `lockgate:user:{id}`.
#[derive(Debug, Deserialize)]
struct Cached {
    is_active: bool,
    email: Option<String>,
    role: Option<String>,
    checked_at: CheckedAt,
}

/// Unix seconds, or RFC 3339.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum CheckedAt {
    Seconds(u64),
    Text(String),
}

impl CheckedAt {
    fn seconds(&self) -> Option<u64> {
        match self {
            CheckedAt::Seconds(seconds) => Some(*seconds),
            CheckedAt::Text(text) => {
                let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
                u64::try_from(time.unix_timestamp()).ok()
            }
        }
    }
}

/// Looks users up.
#[derive(Debug)]
pub struct Directory {
    clock: Clock,
    file: Arc<File>,
    disabled: Mutex<HashMap<u32, u64>>,
}

impl Directory {
    /// Loads who was known to be disabled.
    ///
    /// # Errors
    /// [`FileError`] if the file cannot be used.
    pub async fn open(file: Arc<File>, clock: Clock) -> Result<Directory, FileError> {
        file.write(|transaction| Ok(drop(transaction.open_table(DISABLED)?)))
            .await?;
        let now = clock.now();
        let disabled = file.read(|transaction| {
            let mut disabled = HashMap::new();
            for entry in transaction.open_table(DISABLED)?.iter()? {
                let (user_id, checked_at) = entry?;
                if !over(checked_at.value(), now) {
                    disabled.insert(user_id.value(), checked_at.value());
                }
            }
            Ok(disabled)
        })?;
        Ok(Directory {
            clock,
            file,
            disabled: Mutex::new(disabled),
        })
    }

    /// What is known of the user. A store that cannot be asked leaves what this host
    /// remembers.
    pub async fn lookup(&self, store: &dyn Store, user_id: u32) -> Known {
        let cached = match store.get(&format!("lockgate:user:{user_id}")).await {
            // What is not the expected JSON is someone else's and counts as absent.
            Ok(Some(value)) => serde_json::from_slice::<Cached>(&value).ok(),
            Ok(None) | Err(_) => None,
        };
        let now = self.clock.now();
        if let Some(cached) = cached
            && let Some(checked_at) = cached.checked_at.seconds()
        {
            if !cached.is_active {
                self.remember(user_id, checked_at.min(now)).await;
            } else if self.newer_than_memory(user_id, checked_at) {
                self.forget(user_id).await;
                return active(cached, checked_at, now);
            }
        }
        if self.remembers(user_id, now) {
            Known::Disabled
        } else {
            Known::Unknown
        }
    }

    /// Forgets what is over; run every few minutes.
    pub async fn clean(&self) {
        let now = self.clock.now();
        let ended: Vec<u32> = {
            let mut disabled = self.lock();
            let ended = disabled
                .iter()
                .filter(|(_, checked_at)| over(**checked_at, now))
                .map(|(user_id, _)| *user_id)
                .collect();
            disabled.retain(|_, checked_at| !over(*checked_at, now));
            ended
        };
        for user_id in ended {
            self.erase(user_id).await;
        }
    }

    /// Keeps that the user is disabled, in the file before this returns.
    async fn remember(&self, user_id: u32, checked_at: u64) {
        if over(checked_at, self.clock.now()) {
            return;
        }
        let before = {
            let mut disabled = self.lock();
            let before = disabled.get(&user_id).copied();
            if before.is_none() && disabled.len() >= MAX_DISABLED {
                tracing::error!("{MAX_DISABLED} disabled users are remembered; one more is not");
                return;
            }
            if before.is_some_and(|before| before >= checked_at) {
                return;
            }
            disabled.insert(user_id, checked_at);
            before
        };
        if before.is_some_and(|before| checked_at - before < REWRITE) {
            return;
        }
        let written = self.file.write(move |transaction| {
            transaction
                .open_table(DISABLED)?
                .insert(user_id, checked_at)?;
            Ok(())
        });
        // The file reports its own faults; memory holds meanwhile.
        let _ = written.await;
    }

    async fn forget(&self, user_id: u32) {
        let known = self.lock().remove(&user_id).is_some();
        if known {
            self.erase(user_id).await;
        }
    }

    async fn erase(&self, user_id: u32) {
        let written = self.file.write(move |transaction| {
            transaction.open_table(DISABLED)?.remove(user_id)?;
            Ok(())
        });
        // What could not be erased ends by itself.
        let _ = written.await;
    }

    fn newer_than_memory(&self, user_id: u32, checked_at: u64) -> bool {
        self.lock()
            .get(&user_id)
            .is_none_or(|disabled| *disabled < checked_at)
    }

    fn remembers(&self, user_id: u32, now: u64) -> bool {
        self.lock()
            .get(&user_id)
            .is_some_and(|checked_at| !over(*checked_at, now))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, u64>> {
        self.disabled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn over(checked_at: u64, now: u64) -> bool {
    now.saturating_sub(checked_at) > REMEMBERED
}

/// An entry of the cache that says "active", if it is fresh and complete.
fn active(cached: Cached, checked_at: u64, now: u64) -> Known {
    let fresh = now.saturating_sub(checked_at) <= FRESH && checked_at <= now.saturating_add(SKEW);
    match (cached.email, cached.role) {
        (Some(email), Some(role))
            if fresh && email.contains('@') && matches!(role.as_str(), "admin" | "user") =>
        {
            Known::Active { email, role }
        }
        _ => Known::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Condition;
    use crate::store::embedded::Embedded;

    const NOW: u64 = 1_900_000_000;

    struct Place {
        clock: Clock,
        file: Arc<File>,
        store: Embedded,
        directory: Directory,
        _folder: tempfile::TempDir,
    }

    async fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::fixed(NOW);
        let file = Arc::new(File::open(&folder.path().join("f.redb"), NOW).unwrap());
        Place {
            store: Embedded::open(Arc::clone(&file), clock.clone())
                .await
                .unwrap(),
            directory: Directory::open(Arc::clone(&file), clock.clone())
                .await
                .unwrap(),
            clock,
            file,
            _folder: folder,
        }
    }

    impl Place {
        async fn cache(&self, value: &str) {
            let set = self.store.set(
                "lockgate:user:42",
                value.as_bytes(),
                700_000,
                Condition::Always,
            );
            assert!(set.await.unwrap());
        }

        async fn uncache(&self) {
            self.store
                .delete(&["lockgate:user:42".to_owned()])
                .await
                .unwrap();
        }

        async fn look(&self) -> Known {
            self.directory.lookup(&self.store, 42).await
        }
    }

    fn entry(is_active: bool, checked_at: u64) -> String {
        serde_json::json!({
            "is_active": is_active, "email": "ada@example.org", "role": "admin",
            "checked_at": checked_at,
        })
        .to_string()
    }

    fn ada() -> Known {
        Known::Active {
            email: "ada@example.org".into(),
            role: "admin".into(),
        }
    }

    #[tokio::test]
    async fn an_active_entry_is_believed_for_a_minute() {
        let place = place().await;
        assert_eq!(place.look().await, Known::Unknown);
        place.cache(&entry(true, NOW)).await;
        assert_eq!(place.look().await, ada());
        place.clock.set(NOW + 60);
        assert_eq!(place.look().await, ada());
        place.clock.set(NOW + 61);
        assert_eq!(place.look().await, Known::Unknown);
        place.cache(&entry(true, NOW + 122)).await;
        assert_eq!(place.look().await, Known::Unknown, "too far ahead");
    }

    #[tokio::test]
    async fn a_disabled_user_stays_so_when_the_cache_is_gone_and_after_a_restart() {
        let place = place().await;
        place.cache(&entry(false, NOW)).await;
        assert_eq!(place.look().await, Known::Disabled);
        place.uncache().await;
        assert_eq!(place.look().await, Known::Disabled);
        let again = Directory::open(Arc::clone(&place.file), place.clock.clone())
            .await
            .unwrap();
        assert_eq!(again.lookup(&place.store, 42).await, Known::Disabled);
        assert_eq!(again.lookup(&place.store, 43).await, Known::Unknown);
        place.clock.set(NOW + REMEMBERED + 1);
        assert_eq!(place.look().await, Known::Unknown);
        place.directory.clean().await;
        assert!(place.directory.lock().is_empty());
    }

    #[tokio::test]
    async fn only_a_newer_reading_makes_a_disabled_user_active() {
        let place = place().await;
        place.cache(&entry(false, NOW)).await;
        place.look().await;
        place.cache(&entry(true, NOW)).await;
        assert_eq!(place.look().await, Known::Disabled);
        place.clock.set(NOW + 10);
        place.cache(&entry(true, NOW + 10)).await;
        assert_eq!(place.look().await, ada());
        place.uncache().await;
        assert_eq!(place.look().await, Known::Unknown);
        let again = Directory::open(Arc::clone(&place.file), place.clock.clone())
            .await
            .unwrap();
        assert_eq!(again.lookup(&place.store, 42).await, Known::Unknown);
    }

    #[tokio::test]
    async fn an_old_disabled_entry_still_refuses() {
        let place = place().await;
        place.cache(&entry(false, NOW - 600_000)).await;
        assert_eq!(place.look().await, Known::Disabled);
    }

    #[tokio::test]
    async fn values_of_others_count_as_absent() {
        let place = place().await;
        for value in [
            "",
            "{}",
            "[]",
            "null",
            "\u{80}\u{4}pickle",
            r#"{"is_active":"true"}"#,
            r#"{"is_active":true,"email":"ada@example.org","role":"admin"}"#,
            r#"{"is_active":true,"email":"ada@example.org","role":"root","checked_at":1900000000}"#,
            r#"{"is_active":true,"email":"ada","role":"user","checked_at":1900000000}"#,
            r#"{"is_active":true,"role":"user","checked_at":1900000000}"#,
            r#"{"is_active":true,"email":"ada@example.org","role":"user","checked_at":"soon"}"#,
            r#"{"is_active":true,"email":"ada@example.org","role":"user","checked_at":-1}"#,
        ] {
            place.cache(value).await;
            assert_eq!(place.look().await, Known::Unknown, "{value:?}");
        }
        let text = r#"{"is_active":true,"email":"ada@example.org","role":"admin","checked_at":"2030-03-17T17:46:40Z"}"#;
        place.cache(text).await;
        assert_eq!(place.look().await, ada());
    }
}
