//! What goes on without a request: signs of life, new keys, repair of what Redis has
//! lost, and cleaning. Each ends when the process is told to stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{Back, State};
use crate::replicas::Replicas;
use crate::store::redis::Redis;

/// Keys written again that are announced one by one; more are for everybody to read.
const MOST_ANNOUNCED: usize = 1024;
/// How often Redis and the users table are asked for a sign of life.
const PING_PERIOD: Duration = Duration::from_secs(1);

/// Waiting events are tried again this often.
const FLUSH_PERIOD: Duration = Duration::from_secs(1);
/// Full buckets are forgotten this often.
const PRUNE_PERIOD: Duration = Duration::from_secs(60);
/// How often what Redis has lost is written there again.
const REPAIR_PERIOD: Duration = Duration::from_secs(30);
/// How often ended entries are dropped.
const CLEAN_PERIOD: Duration = Duration::from_secs(300);

impl State {
    /// Starts the background work (probes, repair, cleaning); it ends with `stop`.
    pub fn spawn(self: &Arc<Self>, stop: CancellationToken) {
        self.spawn_housekeeping(&stop);
        self.spawn_following(&stop);
        let (state, until) = (Arc::clone(self), stop.clone());
        tokio::spawn(async move { state.keys.follow(state.clock.clone(), until).await });
        let state = Arc::clone(self);
        every(REPAIR_PERIOD, &stop, move || {
            let state = Arc::clone(&state);
            async move { state.repair().await }
        });
        let state = Arc::clone(self);
        every(CLEAN_PERIOD, &stop, move || {
            let state = Arc::clone(&state);
            async move { state.clean().await }
        });
        let state = Arc::clone(self);
        every(PING_PERIOD, &stop, move || {
            let state = Arc::clone(&state);
            async move {
                let Some(redis) = state.redis() else {
                    return;
                };
                let before = redis.connected();
                if !redis.ping().await {
                    return;
                }
                if !before {
                    warn_of_eviction(redis).await;
                }
                // A write that Redis missed does not wait for the next regular repair.
                let missed = state.revocations.take_missed();
                if !before || missed {
                    state.repair().await;
                } else {
                    // What cannot be made waits on.
                    let _ = state.deferred.make(redis).await;
                }
            }
        });
    }

    /// Brings into Redis what it has lost or missed.
    async fn repair(&self) {
        let Some(redis) = self.redis().filter(|redis| redis.connected()) else {
            return;
        };
        // Before the journal's other entries: a user who is active again is forgotten
        // first.
        let users = self.directory.repair(self.store()).await;
        let restored = match users {
            Ok(()) => self.revocations.repair(redis).await,
            Err(error) => Err(error),
        };
        match restored {
            Ok(restored) => self.announce(&restored).await,
            Err(error) => {
                // What was written before the failure was not announced.
                self.events.owe();
                tracing::warn!(%error, "not everything could be carried over to redis");
                return;
            }
        }
        if self.deferred.make(redis).await.is_err() {
            return;
        }
        // After the revocations, so that no revoked session is carried over.
        self.emergency.resync(&self.revocations, self.store()).await;
        self.events.settle(redis).await;
    }

    /// Tells the other hosts what this one has written into Redis again.
    async fn announce(&self, restored: &[String]) {
        if restored.len() > MOST_ANNOUNCED {
            self.events.owe();
        } else if !restored.is_empty() {
            self.events.changed(self.store(), restored).await;
        }
    }

    /// Follows the other hosts, if there can be any.
    fn spawn_following(self: &Arc<Self>, stop: &CancellationToken) {
        let (state, stop) = (Arc::clone(self), stop.clone());
        tokio::spawn(async move {
            let Back::Shared(shared) = &state.back else {
                return;
            };
            let replicas = Replicas {
                shared,
                events: &state.events,
                revocations: &state.revocations,
                journal: &state.journal,
                directory: &state.directory,
                emergency: &state.emergency,
                sockets: &state.sockets,
                clock: &state.clock,
            };
            replicas.follow(&stop).await;
        });
    }

    /// Drops what has ended from the embedded file.
    async fn clean(&self) {
        if let Back::Embedded(embedded) = &self.back {
            // The file reports its own faults.
            let _ = embedded.clean().await;
        }
        let _ = self.emergency.clean().await;
        let _ = self.journal.clean(self.clock.now()).await;
    }

    fn spawn_housekeeping(self: &Arc<Self>, stop: &CancellationToken) {
        self.peers.spawn(stop);
        let state = Arc::clone(self);
        every(PING_PERIOD, stop, move || {
            let state = Arc::clone(&state);
            async move { state.directory.probe_table().await }
        });
        let state = Arc::clone(self);
        every(PING_PERIOD, stop, move || {
            let state = Arc::clone(&state);
            async move { state.directory.probe_normalizer().await }
        });
        let state = Arc::clone(self);
        every(FLUSH_PERIOD, stop, move || {
            let state = Arc::clone(&state);
            async move { state.events.flush(state.store()).await }
        });
        let state = Arc::clone(self);
        every(PRUNE_PERIOD, stop, move || {
            let state = Arc::clone(&state);
            async move { state.limiter.prune() }
        });
    }
}

/// Revocations live in Redis too: a server that evicts keys leaves them to the
/// journal alone, which operators should know.
async fn warn_of_eviction(redis: &Redis) {
    if let Some(policy) = redis.eviction_policy().await
        && policy != "noeviction"
    {
        tracing::warn!(
            policy,
            "redis may evict revocations; the journal keeps them"
        );
    }
}

/// Runs `work` now and then once in each `period`, one at a time, until `stop`.
fn every<W: Future<Output = ()> + Send + 'static>(
    period: Duration,
    stop: &CancellationToken,
    work: impl Fn() -> W + Send + 'static,
) {
    let stop = stop.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => work().await,
            }
        }
    });
}
