//! Revoked tokens, sessions and users. Every revocation is in the journal before
//! it is answered and in the shared store as soon as that can be reached; each of
//! the two alone is enough to refuse. It decides who is revoked, not what follows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::clock::Clock;
use crate::journal::{Entry, Journal};
use crate::store::file::FileError;
use crate::store::{Condition, Error, Store};

mod listed;

pub use listed::{Revoked, session_key, user_key};
use listed::{USER_PREFIX, cut, cut_off, token_key};

/// How long the revocation of a token without `exp`, of a session or of a user is
/// kept, seconds: the life of a refresh token and the leeway.
const LONGEST: u64 = 604_860;
/// Kept beyond a token's `exp`, seconds.
const LEEWAY: u64 = 60;
/// Keys in one round trip of the repair.
const PAGE: usize = 64;
/// How often a cut-off is tried against others who write it.
const ATTEMPTS: u32 = 3;

/// One verified token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its user.
    pub user_id: u32,
    /// Its session, or the derived one.
    pub session_id: String,
    /// Its SHA-256, 64 lower-case hex digits.
    pub token_sha256: String,
    /// Its `iat`, unix seconds.
    pub issued_at: Option<u64>,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The token, its session or its user is revoked.
    pub revoked: bool,
    /// False if only the journal has answered.
    pub asked: bool,
}

/// The lists.
#[derive(Debug, Clone)]
pub struct Revocations {
    journal: Journal,
    clock: Clock,
    /// The store has missed a revocation.
    missed: Arc<AtomicBool>,
}

/// True if the user's own session record was marked invalid by another server.
fn invalidated(record: &[u8], user_id: u32) -> bool {
    let Ok(record) = serde_json::from_slice::<Value>(record) else {
        return false;
    };
    record.get("user_id").and_then(Value::as_u64) == Some(u64::from(user_id))
        && record.get("status").and_then(Value::as_str) == Some("invalidated")
}

fn seconds(until: u64, now: u64) -> u32 {
    u32::try_from(until.saturating_sub(now).max(1)).unwrap_or(u32::MAX)
}

impl Revocations {
    /// The lists over a journal.
    pub fn new(journal: Journal, clock: Clock) -> Revocations {
        Revocations {
            journal,
            clock,
            missed: Arc::default(),
        }
    }

    /// Looks a token up in the journal and, in one round trip, in the store.
    pub async fn check(&self, subject: &Subject, store: &dyn Store) -> Verdict {
        let now = self.clock.now();
        let mut keys = vec![
            token_key(&subject.token_sha256),
            session_key(subject.user_id, &subject.session_id),
            user_key(subject.user_id),
        ];
        let kept = self.journal.get_many(&keys, now);
        let readable = kept.is_ok();
        let kept = kept.unwrap_or_default();
        keys.push(format!("session:{}", subject.session_id));
        let stored = store.get_many(&keys).await;
        let asked = stored.is_ok() && readable;
        let stored = stored.unwrap_or_default();

        let mut revoked = false;
        for (position, key) in keys.iter().enumerate() {
            let here = kept.get(position).and_then(Option::as_deref);
            let there = stored.get(position).and_then(Option::as_deref);
            let bad = |value: &[u8]| match position {
                0 | 1 => true,
                2 => cut_off(value).is_some_and(|at| cut(subject.issued_at, at, now)),
                _ => invalidated(value, subject.user_id),
            };
            revoked |= here.is_some_and(bad) || there.is_some_and(bad);
            let later = |value: &[u8]| position == 2 && cut_off(value) > here.and_then(cut_off);
            if let Some(value) = there
                && position < 3
                && (here.is_none() || later(value))
                && Revoked::read(key, value).is_some()
            {
                self.learn(key.clone(), value.to_vec(), now);
            }
        }
        Verdict { revoked, asked }
    }

    /// True if this host's own journal says that a token is revoked. It asks nobody.
    pub fn known(&self, subject: &Subject) -> bool {
        let now = self.clock.now();
        let keys = [
            token_key(&subject.token_sha256),
            session_key(subject.user_id, &subject.session_id),
            user_key(subject.user_id),
        ];
        let kept = self.journal.get_many(&keys, now).unwrap_or_default();
        let mut kept = kept.into_iter().enumerate();
        kept.any(|(position, value)| match value {
            Some(value) if position == 2 => {
                cut_off(&value).is_some_and(|at| cut(subject.issued_at, at, now))
            }
            value => value.is_some(),
        })
    }

    /// Keeps what another host has revoked, so that it holds after an eviction.
    fn learn(&self, key: String, value: Vec<u8>, now: u64) {
        let journal = self.journal.clone();
        tokio::spawn(async move {
            // Only a cut-off can be there already; the later one counts.
            let later = move |before: Option<&[u8]>| {
                (before.and_then(cut_off) <= cut_off(&value)).then_some(value)
            };
            // A failure is in the log; the store still has it.
            let _ = journal.merge(key, now.saturating_add(LONGEST), later).await;
        });
    }

    /// Keeps what the shared store says that others have revoked. The number of entries
    /// that were new.
    ///
    /// # Errors
    /// [`FileError`]: none was kept.
    pub async fn absorb(&self, entries: Vec<Entry>) -> Result<usize, FileError> {
        // Only cut-offs can differ.
        let later = |_: &str, here: &[u8], there: &[u8]| cut_off(here) < cut_off(there);
        self.journal.absorb(entries, later).await
    }

    /// Revokes one token. True: the store has it too.
    ///
    /// # Errors
    /// [`FileError`]: nothing is revoked.
    pub async fn revoke_token(
        &self,
        token_sha256: &str,
        expires_at: Option<u64>,
        store: &dyn Store,
    ) -> Result<bool, FileError> {
        let now = self.clock.now();
        let ends = expires_at
            .map_or(now.saturating_add(LONGEST), |exp| {
                exp.saturating_add(LEEWAY)
            })
            .max(now + 1);
        let short = token_sha256.get(..32).unwrap_or(token_sha256);
        let caches = [
            format!("session_validation:{short}"),
            format!("token_validation:{short}"),
        ];
        self.revoke(token_key(token_sha256), ends, &caches, store)
            .await
    }

    /// Revokes every token of the session. True: the store has it too.
    ///
    /// # Errors
    /// [`FileError`]: nothing is revoked.
    pub async fn revoke_session(
        &self,
        user_id: u32,
        session_id: &str,
        store: &dyn Store,
    ) -> Result<bool, FileError> {
        let ends = self.clock.now().saturating_add(LONGEST);
        let caches = [format!("user_auth:{user_id}")];
        self.revoke(session_key(user_id, session_id), ends, &caches, store)
            .await
    }

    async fn revoke(
        &self,
        key: String,
        ends: u64,
        caches: &[String],
        store: &dyn Store,
    ) -> Result<bool, FileError> {
        self.journal.put(key.clone(), b"1".to_vec(), ends).await?;
        let ttl = seconds(ends, self.clock.now());
        let stored = store.set(&key, b"1", ttl, Condition::Always).await.is_ok();
        self.missed.fetch_or(!stored, Ordering::SeqCst);
        if stored {
            // Caches of other servers; they end by themselves if this fails.
            let _ = store.delete(caches).await;
        }
        Ok(stored)
    }

    /// Revokes every token of the user issued at `cut_off` or before. True: the
    /// store has it too.
    ///
    /// # Errors
    /// [`FileError`]: nothing is revoked.
    pub async fn revoke_user(
        &self,
        user_id: u32,
        cut_off: u64,
        store: &dyn Store,
    ) -> Result<bool, FileError> {
        let ends = self.clock.now().saturating_add(LONGEST);
        let key = user_key(user_id);
        let latest = move |before: Option<&[u8]>| {
            let before = before.and_then(self::cut_off).unwrap_or(0);
            Some(before.max(cut_off).to_string().into_bytes())
        };
        self.journal.merge(key.clone(), ends, latest).await?;
        let stored = raise(&key, cut_off, seconds(ends, self.clock.now()), store)
            .await
            .is_ok();
        self.missed.fetch_or(!stored, Ordering::SeqCst);
        if stored {
            let _ = store.delete(&[format!("user_auth:{user_id}")]).await;
        }
        Ok(stored)
    }

    /// True if the store has missed a revocation since this was asked last.
    pub fn take_missed(&self) -> bool {
        self.missed.swap(false, Ordering::SeqCst)
    }

    /// Writes to the store what it should have and has not: after an outage or an
    /// eviction. Stops at the first failure; the next run begins anew. Gives the keys
    /// that were written.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if journal or store cannot be used.
    pub async fn repair(&self, store: &dyn Store) -> Result<Vec<String>, Error> {
        let mut after = String::new();
        let mut written = Vec::new();
        loop {
            let now = self.clock.now();
            let page = self.journal.page(&after, PAGE, now)?;
            let keys: Vec<String> = page.iter().map(|entry| entry.key.clone()).collect();
            let stored = if keys.is_empty() {
                Vec::new()
            } else {
                store.get_many(&keys).await?
            };
            for (entry, there) in page.iter().zip(stored) {
                if restore(entry, there.as_deref(), now, store).await? {
                    written.push(entry.key.clone());
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after.clone_from(&last.key),
                _ => return Ok(written),
            }
        }
    }
}

/// Brings one entry of the journal into the store if it is missing there. False: it was
/// not.
async fn restore(
    entry: &Entry,
    there: Option<&[u8]>,
    now: u64,
    store: &dyn Store,
) -> Result<bool, Error> {
    let ttl = seconds(entry.ends, now);
    let wanted = entry
        .key
        .strip_prefix(USER_PREFIX)
        .and_then(|_| cut_off(&entry.value));
    match (wanted, there) {
        (Some(at), there) if there.and_then(cut_off).is_none_or(|stored| stored < at) => {
            raise(&entry.key, at, ttl, store).await.map(|()| true)
        }
        (None, None) if !entry.key.starts_with(LOCAL_PREFIX) => {
            store
                .set(&entry.key, &entry.value, ttl, Condition::IfAbsent)
                .await
        }
        _ => Ok(false),
    }
}

/// Keys of the journal that concern this host only and are never written back.
pub const LOCAL_PREFIX: &str = "local:";

/// Sets a cut-off unless a later one is there.
async fn raise(key: &str, at: u64, ttl: u32, store: &dyn Store) -> Result<(), Error> {
    let value = at.to_string().into_bytes();
    for _ in 0..ATTEMPTS {
        let there = match store.get(key).await {
            // Another kind of value is not ours and protects nobody.
            Err(Error::WrongType) => {
                store.delete(&[key.to_owned()]).await?;
                None
            }
            other => other?,
        };
        let done = match there {
            Some(there) if cut_off(&there).is_some_and(|stored| stored >= at) => true,
            Some(there) => store.compare_and_set(key, &there, &value, ttl).await?,
            None => store.set(key, &value, ttl, Condition::IfAbsent).await?,
        };
        if done {
            return Ok(());
        }
    }
    Err(Error::Unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::Embedded;
    use crate::store::file::File;
    use std::sync::Arc;

    const NOW: u64 = 1_900_000_000;

    struct Bench {
        _folder: tempfile::TempDir,
        clock: Clock,
        revocations: Revocations,
        store: Embedded,
        away: crate::store::away::Away,
    }

    async fn bench() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::fixed(NOW);
        let open = |name: &str| Arc::new(File::open(&folder.path().join(name), NOW).unwrap());
        let journal = Journal::open(open("journal")).await.unwrap();
        let store = Embedded::open(open("store"), clock.clone()).await.unwrap();
        let revocations = Revocations::new(journal, clock.clone());
        Bench {
            _folder: folder,
            clock,
            revocations,
            store,
            away: crate::store::away::Away,
        }
    }

    fn subject() -> Subject {
        Subject {
            user_id: 42,
            session_id: "s-1".into(),
            token_sha256: "ab".repeat(32),
            issued_at: Some(NOW - 100),
        }
    }

    impl Bench {
        async fn revoked(&self, subject: &Subject) -> (bool, bool) {
            let there = self.revocations.check(subject, &self.store).await;
            assert!(there.asked);
            let here = self.revocations.check(subject, &self.away).await;
            assert!(!here.asked);
            (here.revoked, there.revoked)
        }
    }

    #[tokio::test]
    async fn nothing_is_revoked_at_first() {
        assert_eq!(bench().await.revoked(&subject()).await, (false, false));
    }

    #[tokio::test]
    async fn tokens_sessions_and_users_are_refused_by_either_side() {
        let other_session = Subject {
            session_id: "s-2".into(),
            ..subject()
        };
        let other_token = Subject {
            token_sha256: "cd".repeat(32),
            ..subject()
        };
        let other_user = Subject {
            user_id: 43,
            ..subject()
        };

        let bench = bench().await;
        let hash = subject().token_sha256;
        assert!(
            bench
                .revocations
                .revoke_token(&hash, None, &bench.store)
                .await
                .unwrap()
        );
        assert_eq!(bench.revoked(&subject()).await, (true, true));
        assert_eq!(bench.revoked(&other_token).await, (false, false));

        assert!(
            !bench
                .revocations
                .revoke_session(42, "s-1", &bench.away)
                .await
                .unwrap()
        );
        assert_eq!(bench.revoked(&other_token).await, (true, true));
        let elsewhere = Subject {
            user_id: 43,
            ..other_token.clone()
        };
        assert_eq!(bench.revoked(&elsewhere).await, (false, false));

        assert!(
            bench
                .revocations
                .revoke_user(43, NOW - 100, &bench.store)
                .await
                .unwrap()
        );
        let fresh = Subject {
            token_sha256: "ef".repeat(32),
            ..other_user
        };
        assert_eq!(bench.revoked(&fresh).await, (true, true));
        drop(other_session);
    }

    #[tokio::test]
    async fn a_cut_off_covers_old_undated_and_future_tokens() {
        for (issued_at, expected) in [
            (Some(NOW - 11), true),
            (Some(NOW - 10), true),
            (Some(NOW - 9), false),
            (Some(NOW + 60), false),
            (Some(NOW + 61), true),
            (None, true),
        ] {
            assert_eq!(cut(issued_at, NOW - 10, NOW), expected, "{issued_at:?}");
        }
    }

    #[tokio::test]
    async fn an_earlier_cut_off_replaces_no_later_one() {
        let bench = bench().await;
        for at in [NOW - 100, NOW - 50, NOW - 200] {
            bench
                .revocations
                .revoke_user(42, at, &bench.store)
                .await
                .unwrap();
        }
        let young = Subject {
            issued_at: Some(NOW - 50),
            ..subject()
        };
        assert_eq!(bench.revoked(&young).await, (true, true));
        let younger = Subject {
            issued_at: Some(NOW - 49),
            ..subject()
        };
        assert_eq!(bench.revoked(&younger).await, (false, false));
    }

    #[tokio::test]
    async fn what_others_revoked_is_learnt_and_holds_after_an_eviction() {
        let bench = bench().await;
        let keys = [token_key(&subject().token_sha256), user_key(43)];
        let later = (NOW - 100).to_string();
        bench
            .store
            .set(&keys[0], b"1", 60, Condition::Always)
            .await
            .unwrap();
        bench
            .revocations
            .revoke_user(43, NOW - 200, &bench.away)
            .await
            .unwrap();
        bench
            .store
            .set(&keys[1], later.as_bytes(), 60, Condition::Always)
            .await
            .unwrap();
        let other = Subject {
            user_id: 43,
            token_sha256: "cd".repeat(32),
            ..subject()
        };
        for subject in [subject(), other.clone()] {
            assert!(
                bench
                    .revocations
                    .check(&subject, &bench.store)
                    .await
                    .revoked
            );
        }
        bench.store.delete(&keys).await.unwrap();
        // Learning is done in the background.
        while !bench.revocations.check(&other, &bench.away).await.revoked
            || !bench
                .revocations
                .check(&subject(), &bench.away)
                .await
                .revoked
        {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_was_revoked_while_away_is_carried_over() {
        let bench = bench().await;
        let exp = Some(NOW + 100);
        let hash = subject().token_sha256;
        bench
            .revocations
            .revoke_token(&hash, exp, &bench.away)
            .await
            .unwrap();
        bench
            .revocations
            .revoke_user(42, NOW, &bench.away)
            .await
            .unwrap();
        assert_eq!(bench.store.get(&token_key(&hash)).await.unwrap(), None);
        bench.revocations.repair(&bench.store).await.unwrap();
        assert_eq!(
            bench.store.get(&token_key(&hash)).await.unwrap(),
            Some(b"1".to_vec())
        );
        let stored = bench.store.get(&user_key(42)).await.unwrap();
        assert_eq!(stored, Some(NOW.to_string().into_bytes()));
        // And no longer than it has to.
        bench.clock.set(NOW + 160);
        assert_eq!(bench.store.get(&token_key(&hash)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_the_store_holds_is_absorbed_once_and_never_shortened() {
        let bench = bench().await;
        let hash = subject().token_sha256;
        let entry = |key: &str, value: &[u8], ends: u64| Entry {
            key: key.to_owned(),
            value: value.to_vec(),
            ends,
        };
        let absorb = async |entries: Vec<Entry>| bench.revocations.absorb(entries).await.unwrap();
        let cut = (NOW - 50).to_string();
        let earlier = (NOW - 70).to_string();
        let entries = vec![
            entry(&token_key(&hash), b"1", NOW + 100),
            entry(&user_key(43), cut.as_bytes(), NOW + 100),
        ];
        assert_eq!(absorb(entries.clone()).await, 2);
        assert_eq!(absorb(entries).await, 0, "nothing new");
        let again = entry(&user_key(43), earlier.as_bytes(), NOW + 300);
        assert_eq!(absorb(vec![again]).await, 1, "a later end");
        assert!(
            bench
                .revocations
                .check(&subject(), &bench.away)
                .await
                .revoked
        );
        let young = Subject {
            user_id: 43,
            issued_at: Some(NOW - 60),
            token_sha256: "cd".repeat(32),
            ..subject()
        };
        assert!(bench.revocations.check(&young, &bench.away).await.revoked);
        bench.clock.set(NOW + 101);
        assert!(bench.revocations.check(&young, &bench.away).await.revoked);
        assert!(
            !bench
                .revocations
                .check(&subject(), &bench.away)
                .await
                .revoked
        );
    }

    #[tokio::test]
    async fn many_entries_are_repaired_over_pages() {
        let bench = bench().await;
        for session in 0..(2 * PAGE + 3) {
            let name = format!("s-{session}");
            bench
                .revocations
                .revoke_session(1, &name, &bench.away)
                .await
                .unwrap();
        }
        bench.revocations.repair(&bench.store).await.unwrap();
        for session in 0..(2 * PAGE + 3) {
            let key = session_key(1, &format!("s-{session}"));
            assert!(bench.store.get(&key).await.unwrap().is_some(), "{key}");
        }
    }

    #[tokio::test]
    async fn only_the_own_record_with_that_status_counts() {
        for (record, expected) in [
            (r#"{"user_id":42,"status":"invalidated"}"#, true),
            (r#"{"user_id":43,"status":"invalidated"}"#, false),
            (r#"{"user_id":42,"status":"expired"}"#, false),
            (r#"{"user_id":42,"status":"pending_refresh"}"#, false),
            (r#"{"user_id":"42","status":"invalidated"}"#, false),
            ("\u{80}\u{4}pickled", false),
            ("[]", false),
        ] {
            let bench = bench().await;
            let set = bench
                .store
                .set("session:s-1", record.as_bytes(), 60, Condition::Always);
            set.await.unwrap();
            let verdict = bench.revocations.check(&subject(), &bench.store).await;
            assert_eq!(verdict.revoked, expected, "{record}");
        }
    }
}
