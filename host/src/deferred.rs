//! Changes of logins that Redis missed while it was away: they are made in their
//! order when it is back. It does not judge what is changed.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backlog::Backlog;
use crate::clock::Clock;
use crate::store::file::{File, FileError, PATIENCE};
use crate::store::{self, Condition, Store};

/// Changes that may wait; then the oldest is dropped.
const MAX_WAITING: usize = 4_096;
/// A deletion or removal is pointless once all that it could hit has ended, seconds.
const LAST: u32 = 86_400;

/// One change of the shared store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Write a value where there is none; it ends `ttl` seconds after the change was wanted.
    Create {
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
        /// Seconds.
        ttl: u32,
    },
    /// Delete keys.
    Delete(Vec<String>),
    /// Add a member to a set that ends `ttl` seconds after the change was wanted.
    Add {
        /// The key of the set.
        key: String,
        /// The member.
        member: String,
        /// Seconds.
        ttl: u32,
    },
    /// Remove a member of a set.
    Remove {
        /// The key of the set.
        key: String,
        /// The member.
        member: String,
    },
}

impl Change {
    /// How long it is worth making, seconds.
    fn lasts(&self) -> u32 {
        match self {
            Change::Create { ttl, .. } | Change::Add { ttl, .. } => *ttl,
            Change::Delete(_) | Change::Remove { .. } => LAST,
        }
    }

    /// How long the disk may take; none: as long as it takes.
    fn patience(&self) -> Option<Duration> {
        match self {
            Change::Create { .. } | Change::Add { .. } => Some(PATIENCE),
            Change::Delete(_) | Change::Remove { .. } => None,
        }
    }

    /// `left`: what is left of its time, at least 1 s.
    async fn make(&self, store: &dyn Store, left: u32) -> store::Result<()> {
        match self {
            Change::Create { key, value, .. } => {
                store.set(key, value, left, Condition::IfAbsent).await?;
            }
            Change::Delete(keys) => {
                store.delete(keys).await?;
            }
            Change::Add { key, member, .. } => {
                store.set_add(key, member, left).await?;
            }
            Change::Remove { key, member } => {
                store.set_remove(key, member).await?;
            }
        }
        Ok(())
    }
}

/// A change, and when it was wanted, in unix seconds.
#[derive(Debug, Serialize, Deserialize)]
struct Waiting {
    wanted: u64,
    change: Change,
}

/// The changes that wait, oldest first.
#[derive(Debug)]
pub struct Deferred {
    clock: Clock,
    waiting: Backlog,
    /// One repetition at a time, so that the order holds.
    making: tokio::sync::Mutex<()>,
}

impl Deferred {
    /// With what waits in the file.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be read.
    pub async fn open(file: Arc<File>, clock: Clock) -> Result<Deferred, FileError> {
        Ok(Deferred {
            clock,
            waiting: Backlog::open(file, "deferred", MAX_WAITING).await?,
            making: tokio::sync::Mutex::default(),
        })
    }

    /// Keeps a change that the store has just missed; on the disk when this returns, if
    /// it ends something. What begins something is made anew by the next request that
    /// misses it: a slow disk keeps nobody waiting for it.
    pub async fn keep(&self, change: Change) {
        let wanted = self.clock.now();
        // Such a change always serialises.
        let patience = change.patience();
        let value = serde_json::to_vec(&Waiting { wanted, change }).unwrap_or_default();
        if !self.waiting.push(value, patience).await {
            tracing::error!(
                "a change of a login was dropped: {MAX_WAITING} already wait for redis"
            );
        }
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Makes what waits. A host that is killed in the middle makes some of it again.
    ///
    /// # Errors
    /// The store could not be reached; the rest waits on.
    pub async fn make(&self, store: &dyn Store) -> store::Result<()> {
        let _only = self.making.lock().await;
        let mut made = Vec::new();
        let outcome = self.make_all(store, &mut made).await;
        self.waiting.remove(made).await;
        outcome
    }

    async fn make_all(&self, store: &dyn Store, made: &mut Vec<u64>) -> store::Result<()> {
        while let Some((number, value)) = self.waiting.after(made.last().copied()) {
            if let Ok(waiting) = serde_json::from_slice::<Waiting>(&value) {
                let waited = self.clock.now().saturating_sub(waiting.wanted);
                let left = u64::from(waiting.change.lasts()).saturating_sub(waited);
                // What another program keeps under the key is left alone: no other
                // error counts.
                if let Ok(left @ 1..) = u32::try_from(left)
                    && let Err(store::Error::Unavailable) = waiting.change.make(store, left).await
                {
                    return Err(store::Error::Unavailable);
                }
            }
            made.push(number);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::away::Away;
    use crate::store::embedded::Embedded;

    struct Place {
        _folder: tempfile::TempDir,
        clock: Clock,
        store: Embedded,
        deferred: Deferred,
    }

    async fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::fixed(1_000);
        let file = Arc::new(File::open(&folder.path().join("x.redb"), clock.now()).unwrap());
        let store = Embedded::open(Arc::clone(&file), clock.clone())
            .await
            .unwrap();
        let deferred = Deferred::open(file, clock.clone()).await.unwrap();
        Place {
            _folder: folder,
            clock,
            store,
            deferred,
        }
    }

    fn create(key: &str) -> Change {
        Change::Create {
            key: key.to_owned(),
            value: b"new".to_vec(),
            ttl: 60,
        }
    }

    #[tokio::test]
    async fn changes_are_made_in_their_order_and_once() {
        let Place {
            store, deferred, ..
        } = place().await;
        deferred.keep(create("a")).await;
        deferred.keep(Change::Delete(vec!["a".to_owned()])).await;
        deferred.keep(create("b")).await;
        let (key, member) = ("set".to_owned(), "m".to_owned());
        deferred
            .keep(Change::Add {
                key: key.clone(),
                member: member.clone(),
                ttl: 60,
            })
            .await;
        assert_eq!(deferred.make(&Away).await, Err(store::Error::Unavailable));
        assert_eq!(store.get("b").await.unwrap(), None);
        deferred.make(&store).await.unwrap();
        assert_eq!(store.get("a").await.unwrap(), None);
        assert_eq!(store.get("b").await.unwrap().as_deref(), Some(&b"new"[..]));
        assert!(store.set_contains(&key, &member).await.unwrap());
        deferred
            .keep(Change::Remove {
                key: key.clone(),
                member: member.clone(),
            })
            .await;
        deferred.make(&store).await.unwrap();
        assert!(!store.set_contains(&key, &member).await.unwrap());
        store.delete(&["b".to_owned()]).await.unwrap();
        deferred.make(&store).await.unwrap();
        assert_eq!(store.get("b").await.unwrap(), None, "made once only");
    }

    #[tokio::test]
    async fn what_is_there_stays_and_what_is_over_is_left_out() {
        let Place {
            clock,
            store,
            deferred,
            ..
        } = place().await;
        store
            .set("a", b"old", 600, Condition::Always)
            .await
            .unwrap();
        deferred.keep(create("a")).await;
        deferred.keep(create("b")).await;
        deferred.make(&store).await.unwrap();
        assert_eq!(store.get("a").await.unwrap().as_deref(), Some(&b"old"[..]));
        deferred.keep(create("c")).await;
        clock.set(1_060);
        deferred.make(&store).await.unwrap();
        assert_eq!(store.get("c").await.unwrap(), None);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_keeps_the_newest() {
        let Place {
            store, deferred, ..
        } = place().await;
        for number in 0..=MAX_WAITING {
            deferred
                .keep(Change::Delete(vec![number.to_string()]))
                .await;
        }
        store.set("0", b"x", 60, Condition::Always).await.unwrap();
        store.set("1", b"x", 60, Condition::Always).await.unwrap();
        deferred.make(&store).await.unwrap();
        assert!(
            store.get("0").await.unwrap().is_some(),
            "the oldest was dropped"
        );
        assert_eq!(store.get("1").await.unwrap(), None);
    }
}
