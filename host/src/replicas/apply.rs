//! Reads keys again and keeps what they hold. What cannot be read now makes the caller
//! begin anew; what this host's own file refuses is reported by the file.

use std::collections::BTreeSet;

use super::hints::{disabled, kept};
use super::{Progress, Replicas};
use crate::directory::cached_user;
use crate::emergency::mirrored_user;
use crate::journal::Entry;
use crate::reissue;
use crate::revocation::Revoked;
use crate::store;
use crate::store::redis::Held;

/// Keys in one round trip.
const PAGE: usize = 64;
/// Keys that the server looks at for one page of everything.
const SCANNED: usize = 1000;
/// What everything is.
const PATTERN: &str = "lockgate:*";
/// How long an entry without an end is kept, seconds.
const LONGEST: u64 = 604_860;

impl Replicas<'_> {
    /// One page of all keys.
    pub(super) async fn read_page(&self, progress: &mut Progress) -> store::Result<()> {
        let cursor = progress.cursor.unwrap_or_default();
        let redis = self.shared.redis();
        let (next, keys) = redis.scan(cursor, PATTERN, SCANNED).await?;
        // A page of everything says nothing of what is not there any more.
        let keys: Vec<String> = keys.into_iter().filter(|key| kept(key)).collect();
        for keys in keys.chunks(PAGE) {
            let held = redis.held(keys).await?;
            let users = held.iter().filter_map(|held| mirrored_user(&held.key));
            let users: Vec<u32> = users.collect();
            self.keep(held).await;
            self.emergency.follow(&users, redis).await?;
        }
        progress.cursor = next;
        Ok(())
    }

    /// Reads keys that events have named. Revocations come first.
    pub(super) async fn apply(&self, keys: BTreeSet<String>) -> store::Result<()> {
        let redis = self.shared.redis();
        let (mirrored, listed): (Vec<String>, Vec<String>) = keys
            .into_iter()
            .partition(|key| mirrored_user(key).is_some());
        for keys in listed.chunks(PAGE) {
            self.keep(redis.held(keys).await?).await;
        }
        let users: Vec<u32> = mirrored
            .iter()
            .filter_map(|key| mirrored_user(key))
            .collect();
        self.emergency.follow(&users, redis).await
    }

    async fn keep(&self, held: Vec<Held>) {
        let now = self.clock.now();
        let (mut revoked, mut rotated, mut ended) = (Vec::new(), Vec::new(), Vec::new());
        for held in held {
            let ends = now.saturating_add(held.left.unwrap_or(LONGEST));
            if let Some(user_id) = cached_user(&held.key) {
                if disabled(&held.value) {
                    self.directory.learn(user_id, &held.value).await;
                }
            } else if Revoked::covers(&held.key) {
                let Some(who) = Revoked::read(&held.key, &held.value) else {
                    continue;
                };
                let value = match who {
                    Revoked::User { .. } => held.value,
                    _ => b"1".to_vec(),
                };
                ended.push(who);
                revoked.push(Entry {
                    key: held.key,
                    ends,
                    value,
                });
            } else if reissue::is_record_key(&held.key) {
                rotated.push(Entry {
                    key: held.key,
                    ends,
                    value: held.value,
                });
            }
        }
        let learnt = self.revocations.absorb(revoked).await.unwrap_or(0)
            + reissue::absorb(self.journal, rotated).await.unwrap_or(0);
        metrics::counter!("lockgate_replica_learnt_total").increment(learnt as u64);
        for who in ended {
            who.close(self.sockets, now);
        }
    }
}
