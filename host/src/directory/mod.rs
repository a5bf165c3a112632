//! What is known of users: what the users table said last, here or in the shared cache,
//! and the journal of those who are disabled, which holds while nobody can be asked. It
//! must not guess: without a fresh word of the table a user is unknown.

use std::time::Duration;

use moka::sync::Cache;

use crate::clock::Clock;
use crate::inquiry::{Inquiry, Question, Word};
use crate::journal::Journal;
use crate::store::{self, Condition, Store};
use crate::table::Table;

mod entry;
mod repair;

use entry::{Seen, Sighting, known_role};

/// Key of a user in the cache and in the journal, before the id.
const PREFIX: &str = "lockgate:user:";
/// How long a user counts as known to be active after the table was read, seconds.
const FRESH: u64 = 60;
/// How long the session normalizer's word counts, which may be a minute old, seconds.
const HEARD: u64 = 10;
/// How long a disabled user is remembered, seconds.
const REMEMBERED: u64 = 604_860;
/// How far the clocks of two hosts may differ, seconds.
const SKEW: u64 = 60;
/// A newer sighting of a disabled user is journalled this seldom, seconds.
const REWRITE: u64 = 3_600;
/// Users in memory; the least used go first.
const IN_MEMORY: u64 = 10_000;

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
    /// The table has no such row.
    Missing,
    /// The table has another e-mail than the token that was asked with.
    OtherEmail,
    /// Nobody here knows.
    Unknown,
}

/// What a lookup found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The user's state.
    pub known: Known,
    /// There is a users table, and it could not be asked.
    pub degraded: bool,
}

/// How far a lookup may go for what neither the cache nor this host knows.
#[derive(Debug, Clone, Copy)]
pub enum Reach<'a> {
    /// No further.
    Cache,
    /// To the users table. `quiet`: what is read is not written to the shared cache.
    Table {
        /// Write nothing to the shared cache.
        quiet: bool,
    },
    /// To the session normalizer.
    Normalizer(Question<'a>),
}

/// Whom this host can ask.
#[derive(Debug, Default)]
pub struct Sources {
    /// The users table, if one of its services may read it.
    pub table: Option<Table>,
    /// The session normalizer; none if this process is it and has no table.
    pub normalizer: Option<Inquiry>,
}

/// Looks users up.
#[derive(Debug)]
pub struct Directory {
    journal: Journal,
    clock: Clock,
    sources: Sources,
    memory: Cache<u32, Sighting>,
}

/// What the shared cache holds of one user.
struct Cached {
    key: String,
    value: store::Result<Option<Vec<u8>>>,
    sighting: Option<Sighting>,
}

impl Directory {
    /// With the disabled users that are in the journal.
    pub fn new(journal: Journal, clock: Clock, sources: Sources) -> Directory {
        Directory {
            journal,
            clock,
            sources,
            memory: Cache::builder()
                .max_capacity(IN_MEMORY)
                .time_to_live(Duration::from_secs(FRESH))
                .build(),
        }
    }

    /// What is known of the user. A store that cannot be asked leaves what this host
    /// has read and journalled.
    pub async fn lookup(&self, store: &dyn Store, user_id: u32, reach: Reach<'_>) -> Answer {
        let key = format!("{PREFIX}{user_id}");
        let value = store.get(&key).await;
        let sighting = value.as_ref().ok().and_then(|value| value.as_deref());
        let sighting = sighting.and_then(Sighting::parse);
        let cached = Cached {
            key,
            value,
            sighting,
        };
        let newest = self.newest(user_id, cached.sighting.clone());
        let known = self.judge(&cached.key, newest.clone()).await;
        match reach {
            Reach::Cache => Answer::sure(known),
            Reach::Table { quiet } => {
                let (answer, newest) = self.in_table(user_id, &cached.key, known, newest).await;
                if let Some(newest) = newest.filter(|_| !quiet) {
                    self.share(store, &cached, &newest).await;
                }
                answer
            }
            Reach::Normalizer(question) => {
                self.by_word(user_id, &cached.key, known, question).await
            }
        }
    }

    /// Takes notice of what the shared cache was found to hold of a user.
    pub async fn learn(&self, user_id: u32, value: &[u8]) {
        let newest = self.newest(user_id, Sighting::parse(value));
        self.judge(&format!("{PREFIX}{user_id}"), newest).await;
    }

    /// Whether the last look at the users table succeeded; none without one.
    pub fn table_connected(&self) -> Option<bool> {
        self.sources.table.as_ref().map(Table::connected)
    }

    /// Tries the users table; run once a second.
    pub async fn probe_table(&self) {
        if let Some(table) = &self.sources.table {
            table.probe().await;
        }
    }

    /// Tries a session normalizer that is away; run once a second.
    pub async fn probe_normalizer(&self) {
        if let Some(normalizer) = &self.sources.normalizer {
            normalizer.probe().await;
        }
    }

    /// Reads the table unless it was read within the last minute. A disabled user is
    /// read again after that, because only the table can say that this has ended.
    async fn in_table(
        &self,
        user_id: u32,
        key: &str,
        known: Known,
        newest: Option<Sighting>,
    ) -> (Answer, Option<Sighting>) {
        let Some(table) = &self.sources.table else {
            return (Answer::sure(known), newest);
        };
        let settled = match known {
            Known::Active { .. } | Known::Missing => true,
            Known::Disabled => newest
                .as_ref()
                .is_some_and(|seen| seen.is_disabled() && self.fresh(seen)),
            Known::OtherEmail | Known::Unknown => false,
        };
        let found = if settled {
            None
        } else {
            Some(table.find(user_id).await)
        };
        match found {
            Some(Ok(row)) => {
                let seen = Sighting::read(row, self.clock.now());
                self.remember(user_id, &seen);
                let known = match self.judge(key, Some(seen.clone())).await {
                    // An active row whose e-mail is none, so no token's.
                    Known::Unknown => Known::OtherEmail,
                    known => known,
                };
                (Answer::sure(known), Some(seen))
            }
            Some(Err(_)) => {
                let degraded = true;
                (Answer { known, degraded }, newest)
            }
            None => {
                let degraded = !table.connected();
                (Answer { known, degraded }, newest)
            }
        }
    }

    /// Asks the session normalizer about a user of whom nothing is known here.
    async fn by_word(
        &self,
        user_id: u32,
        key: &str,
        known: Known,
        question: Question<'_>,
    ) -> Answer {
        let normalizer = match &self.sources.normalizer {
            Some(normalizer) if known == Known::Unknown && !question.token.is_empty() => normalizer,
            _ => return Answer::sure(known),
        };
        let word = match normalizer.ask(user_id, question).await {
            Ok(Word::OtherEmail) => return Answer::sure(Known::OtherEmail),
            Ok(word) => word,
            Err(_) => {
                return Answer {
                    known,
                    degraded: true,
                };
            }
        };
        let now = self.clock.now();
        let at = match word {
            Word::Disabled => now,
            _ => now.saturating_sub(FRESH - HEARD),
        };
        // It does not take the token, so it says nothing of a user who has a table.
        let degraded = word == Word::Nothing;
        match Sighting::heard(word, at) {
            Some(seen) => {
                self.remember(user_id, &seen);
                Answer::sure(self.judge(key, Some(seen)).await)
            }
            None => Answer { known, degraded },
        }
    }

    /// Writes what this host has read later than what the shared cache holds. Nothing
    /// that another host wrote meanwhile is lost, and nothing of others overwritten.
    async fn share(&self, store: &dyn Store, cached: &Cached, seen: &Sighting) {
        if cached
            .sighting
            .as_ref()
            .is_some_and(|there| there == seen || there.at > seen.at && !self.ahead(there))
        {
            return;
        }
        let life = if seen.is_disabled() {
            REMEMBERED
        } else {
            FRESH
        };
        let age = self.clock.now().saturating_sub(seen.at);
        let left = u32::try_from(life.saturating_sub(age)).unwrap_or(u32::MAX);
        let Some(bytes) = seen.bytes().filter(|_| left > 0) else {
            return;
        };
        let key = &cached.key;
        // If it fails the store is away, or another host was first; the next reading
        // is written.
        let _ = match (&cached.value, &cached.sighting) {
            (Ok(None), _) => store.set(key, &bytes, left, Condition::IfAbsent).await,
            (Ok(Some(there)), Some(_)) => store.compare_and_set(key, there, &bytes, left).await,
            (Ok(Some(_)), None) | (Err(_), _) => return,
        };
    }

    /// The later one of what the shared cache and this host's memory hold; "disabled" of
    /// two that are equally late.
    fn newest(&self, user_id: u32, shared: Option<Sighting>) -> Option<Sighting> {
        // Of a clock that is far ahead only a refusal counts, and any reading is later.
        let shared = shared.filter(|seen| seen.is_disabled() || !self.ahead(seen));
        let stale = self.clock.now().saturating_sub(FRESH + 1);
        let shared = shared.map(|seen| match self.ahead(&seen) {
            true => Sighting { at: stale, ..seen },
            false => seen,
        });
        let here = self.memory.get(&user_id).filter(|seen| self.fresh(seen));
        match (here, shared) {
            (Some(here), Some(shared)) => {
                let order = (shared.at, shared.is_disabled()).cmp(&(here.at, here.is_disabled()));
                Some(if order.is_ge() { shared } else { here })
            }
            (here, shared) => here.or(shared),
        }
    }

    fn remember(&self, user_id: u32, seen: &Sighting) {
        if self
            .memory
            .get(&user_id)
            .is_none_or(|there| there.at <= seen.at)
        {
            self.memory.insert(user_id, seen.clone());
        }
    }

    fn ahead(&self, seen: &Sighting) -> bool {
        seen.at > self.clock.now().saturating_add(SKEW)
    }

    fn fresh(&self, seen: &Sighting) -> bool {
        !self.ahead(seen) && self.clock.now().saturating_sub(seen.at) <= FRESH
    }

    /// Weighs a sighting against the journal, and keeps the journal up to date.
    async fn judge(&self, key: &str, newest: Option<Sighting>) -> Known {
        let now = self.clock.now();
        let kept = self.journal.get(key, now).ok().flatten();
        let kept = kept
            .and_then(|value| Sighting::parse(&value))
            .map(|kept| kept.at);
        let Some(seen) = newest else {
            return kept.map_or(Known::Unknown, |_| Known::Disabled);
        };
        match seen.state {
            Seen::Disabled { .. } if !over(seen.at, now) => {
                let at = seen.at.min(now);
                if kept.is_none_or(|kept| at.saturating_sub(kept) >= REWRITE) {
                    self.keep(key, Sighting { at, ..seen }).await;
                }
                Known::Disabled
            }
            Seen::Active { email, role } if kept.is_none_or(|kept| kept < seen.at) => {
                if kept.is_some() {
                    // What could not be erased now is erased at the next look.
                    let _ = self.journal.remove(key.to_owned()).await;
                }
                active(email, role, seen.at, now)
            }
            Seen::Missing => Known::Missing,
            _ if kept.is_some() => Known::Disabled,
            _ => Known::Unknown,
        }
    }

    /// On the disk when this returns; the file reports its own faults.
    async fn keep(&self, key: &str, seen: Sighting) {
        if let Some(value) = seen.bytes() {
            let ends = seen.at + REMEMBERED;
            let _ = self.journal.put(key.to_owned(), value, ends).await;
        }
    }
}

/// Whose entry of the users' cache a key holds; none if it is not such a key.
pub fn cached_user(key: &str) -> Option<u32> {
    key.strip_prefix(PREFIX)?.parse().ok()
}

impl Answer {
    /// Everybody who had to be asked has answered.
    fn sure(known: Known) -> Answer {
        Answer {
            known,
            degraded: false,
        }
    }
}

/// What a sighting that says "active" is worth: fresh and complete, or nothing. Without
/// an `@` the table's e-mail is that of no token.
fn active(email: Option<String>, role: Option<String>, at: u64, now: u64) -> Known {
    let fresh = now.saturating_sub(at) <= FRESH && at <= now.saturating_add(SKEW);
    match (email, role) {
        (Some(email), Some(role)) if fresh && known_role(&role) && email.contains('@') => {
            Known::Active { email, role }
        }
        _ => Known::Unknown,
    }
}

fn over(checked_at: u64, now: u64) -> bool {
    now.saturating_sub(checked_at) >= REMEMBERED
}

#[cfg(test)]
mod tests;
