//! What is known of users: the shared cache of the users table, and the journal of
//! those who are disabled, which holds while the cache cannot be asked. It must
//! not guess: without a fresh entry a user is unknown.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock::Clock;
use crate::journal::Journal;
use crate::store::{self, Condition, Store};

/// Key of a user in the cache and in the journal, before the id.
const PREFIX: &str = "lockgate:user:";
/// How long a user counts as known to be active after the table was read, seconds.
const FRESH: u64 = 60;
/// How long a disabled user is remembered, seconds.
const REMEMBERED: u64 = 604_860;
/// How far the clocks of two hosts may differ, seconds.
const SKEW: u64 = 60;
/// A newer sighting of a disabled user is journalled this seldom, seconds.
const REWRITE: u64 = 3_600;
/// Longest e-mail that is kept (RFC 5321 section 4.5.3.1: 64 + `@` + 255).
const MAX_EMAIL: usize = 320;
/// Disabled users in one round trip of the repair.
const PAGE: usize = 64;

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
#[derive(Debug, Deserialize, Serialize)]
struct Entry {
    is_active: bool,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    role: Option<String>,
    checked_at: Moment,
}

/// Unix seconds, or RFC 3339.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum Moment {
    Seconds(u64),
    Text(String),
}

impl Entry {
    /// What is not the expected JSON is someone else's and counts as absent.
    fn parse(value: &[u8]) -> Option<(Entry, u64)> {
        let entry: Entry = serde_json::from_slice(value).ok()?;
        let checked_at = match &entry.checked_at {
            Moment::Seconds(seconds) => *seconds,
            Moment::Text(text) => {
                let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
                u64::try_from(time.unix_timestamp()).ok()?
            }
        };
        Some((entry, checked_at))
    }

    /// As it is journalled: bounded, whoever wrote it.
    fn disabled(self, checked_at: u64) -> Option<Vec<u8>> {
        let entry = Entry {
            is_active: false,
            email: self.email.filter(|email| email.len() <= MAX_EMAIL),
            role: self.role.filter(|role| known_role(role)),
            checked_at: Moment::Seconds(checked_at),
        };
        serde_json::to_vec(&entry).ok()
    }

    /// What an entry that says "active" is worth: fresh and complete, or nothing.
    fn active(self, checked_at: u64, now: u64) -> Known {
        let fresh =
            now.saturating_sub(checked_at) <= FRESH && checked_at <= now.saturating_add(SKEW);
        match (self.email, self.role) {
            (Some(email), Some(role)) if fresh && email.contains('@') && known_role(&role) => {
                Known::Active { email, role }
            }
            _ => Known::Unknown,
        }
    }
}

fn known_role(role: &str) -> bool {
    matches!(role, "admin" | "user")
}

/// Looks users up.
#[derive(Debug)]
pub struct Directory {
    journal: Journal,
    clock: Clock,
}

impl Directory {
    /// With the disabled users that are in the journal.
    pub fn new(journal: Journal, clock: Clock) -> Directory {
        Directory { journal, clock }
    }

    /// What is known of the user. A store that cannot be asked leaves what this host
    /// has journalled.
    pub async fn lookup(&self, store: &dyn Store, user_id: u32) -> Known {
        let key = format!("{PREFIX}{user_id}");
        let cached = store.get(&key).await.ok().flatten();
        self.judge(key, cached.as_deref()).await
    }

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
                if cached.is_some() {
                    self.judge(entry.key, cached.as_deref()).await;
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

    /// Weighs the cache against the journal, and keeps the journal up to date.
    async fn judge(&self, key: String, cached: Option<&[u8]>) -> Known {
        let now = self.clock.now();
        let kept = self.journal.get(&key, now).ok().flatten();
        let kept = kept
            .and_then(|value| Entry::parse(&value))
            .map(|(_, at)| at);
        match cached.and_then(Entry::parse) {
            Some((entry, at)) if !entry.is_active && !over(at, now) => {
                let at = at.min(now);
                if kept.is_none_or(|kept| at.saturating_sub(kept) >= REWRITE) {
                    self.keep(key, entry, at).await;
                }
                Known::Disabled
            }
            Some((entry, at)) if entry.is_active && kept.is_none_or(|kept| kept < at) => {
                if kept.is_some() {
                    // What could not be erased now is erased at the next look.
                    let _ = self.journal.remove(key).await;
                }
                entry.active(at, now)
            }
            _ if kept.is_some() => Known::Disabled,
            _ => Known::Unknown,
        }
    }

    /// On the disk when this returns; the file reports its own faults.
    async fn keep(&self, key: String, entry: Entry, at: u64) {
        if let Some(value) = entry.disabled(at) {
            let _ = self.journal.put(key, value, at + REMEMBERED).await;
        }
    }
}

fn over(checked_at: u64, now: u64) -> bool {
    now.saturating_sub(checked_at) >= REMEMBERED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::Embedded;
    use crate::store::file::File;
    use std::sync::Arc;

    const NOW: u64 = 1_900_000_000;

    struct Place {
        clock: Clock,
        journal: Journal,
        store: Embedded,
        directory: Directory,
        _folder: tempfile::TempDir,
    }

    async fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::fixed(NOW);
        let file = Arc::new(File::open(&folder.path().join("f.redb"), NOW).unwrap());
        let journal = Journal::open(Arc::clone(&file)).await.unwrap();
        Place {
            store: Embedded::open(file, clock.clone()).await.unwrap(),
            directory: Directory::new(journal.clone(), clock.clone()),
            clock,
            journal,
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
        let again = Directory::new(place.journal.clone(), place.clock.clone());
        assert_eq!(again.lookup(&place.store, 42).await, Known::Disabled);
        assert_eq!(again.lookup(&place.store, 43).await, Known::Unknown);
        place.clock.set(NOW + REMEMBERED);
        assert_eq!(place.look().await, Known::Unknown);
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
        let again = Directory::new(place.journal.clone(), place.clock.clone());
        assert_eq!(again.lookup(&place.store, 42).await, Known::Unknown);
    }

    #[tokio::test]
    async fn an_old_disabled_entry_still_refuses() {
        let place = place().await;
        place.cache(&entry(false, NOW - 600_000)).await;
        assert_eq!(place.look().await, Known::Disabled);
    }

    #[tokio::test]
    async fn a_disabled_user_that_the_store_has_lost_is_brought_back() {
        let place = place().await;
        place.cache(&entry(false, NOW)).await;
        place.look().await;
        place.uncache().await;
        place.directory.repair(&place.store).await.unwrap();
        let value = place.store.get("lockgate:user:42").await.unwrap().unwrap();
        let value: serde_json::Value = serde_json::from_slice(&value).unwrap();
        let expected: serde_json::Value = serde_json::from_str(&entry(false, NOW)).unwrap();
        assert_eq!(value, expected);
    }

    #[tokio::test]
    async fn the_repair_believes_a_newer_reading() {
        let place = place().await;
        place.cache(&entry(false, NOW)).await;
        place.look().await;
        place.clock.set(NOW + 5);
        place.cache(&entry(true, NOW + 5)).await;
        place.directory.repair(&place.store).await.unwrap();
        place.uncache().await;
        place.directory.repair(&place.store).await.unwrap();
        assert_eq!(place.look().await, Known::Unknown);
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
