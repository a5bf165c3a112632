//! Follows what other hosts do, so that this one knows it even when Redis is away: over
//! pub/sub at once, and over the stream whatever was missed. Events are hints: what they
//! name is read again. It makes no event itself and judges no token.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::directory::Directory;
use crate::emergency::Emergency;
use crate::events::{CHANNEL, Events, Heard, STREAM};
use crate::journal::Journal;
use crate::revocation::Revocations;
use crate::shared::SharedStore;
use crate::sockets::{Close, Sockets};
use crate::store;
use crate::store::redis::{Cursor, Link, Place};

mod apply;
mod hints;

pub use hints::{cached, matters};

use hints::Hints;

/// Events that may wait here; more lose the link, and are read from the stream.
const WAITING: usize = 1024;
/// Events that are handled together.
const BATCH: usize = 256;
/// Events of which a repetition is noticed.
const REMEMBERED: usize = 4096;
/// A lost link is made again after this time, and up to as much longer.
const RETRY: Duration = Duration::from_millis(500);
/// How often the link is asked for a sign of life.
const BEAT: Duration = Duration::from_millis(250);
/// How often the stream is looked at, although the link lives.
const LOOK: Duration = Duration::from_secs(1);
/// Without the right to listen it is tried again after this time.
const UNLINKED: Duration = Duration::from_secs(60);
/// Everything is read again this often, whatever was heard.
const REREAD: Duration = Duration::from_secs(600);

/// What following works on.
#[derive(Debug, Clone, Copy)]
pub struct Replicas<'a> {
    /// Where the other hosts write.
    pub shared: &'a SharedStore,
    /// Knows the name of this host.
    pub events: &'a Events,
    /// Learns what others revoked.
    pub revocations: &'a Revocations,
    /// Learns what others rotated.
    pub journal: &'a Journal,
    /// Learns who was disabled.
    pub directory: &'a Directory,
    /// Learns of emergency sessions.
    pub emergency: &'a Emergency,
    /// Closes sockets of what others ended.
    pub sockets: &'a Sockets,
    /// Tells the ends of what is learnt.
    pub clock: &'a Clock,
}

/// How far this host has followed.
#[derive(Debug, Default)]
struct Progress {
    /// The last event that was read from the stream.
    last: Option<Place>,
    /// Where reading everything has got to.
    cursor: Option<Cursor>,
    /// When it was last begun.
    begun: Option<Instant>,
    seen: Seen,
}

/// The last events, by host and number.
#[derive(Debug, Default)]
struct Seen {
    order: VecDeque<(String, u64)>,
    known: HashSet<(String, u64)>,
}

impl Seen {
    /// False: it was heard before.
    fn first_time(&mut self, heard: &Heard) -> bool {
        let name = (heard.host.clone(), heard.seq);
        if !self.known.insert(name.clone()) {
            return false;
        }
        self.order.push_back(name);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

impl Replicas<'_> {
    /// Follows until `stop`.
    pub async fn follow(&self, stop: &CancellationToken) {
        let mut progress = Progress::default();
        loop {
            self.shared.cache().close();
            metrics::gauge!("lockgate_replica_link").set(0.0);
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.stay_linked(&mut progress) => {}
            }
            // Not all hosts at once.
            let pause = RETRY + RETRY.mul_f64(rand::random());
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One link from its beginning to its loss.
    async fn stay_linked(&self, progress: &mut Progress) {
        // The sender is kept: without a link the channel stays open all the same.
        let (sender, mut heard) = mpsc::channel(WAITING);
        let redis = self.shared.redis();
        let cache = Arc::clone(self.shared.cache());
        let changed = move |key: Option<&[u8]>| match key {
            Some(key) => cache.forget(key),
            None => cache.forget_all(),
        };
        let linked = redis.listen(CHANNEL, sender.clone(), &hints::CACHED, changed);
        let mut link = match linked.await {
            Ok(link) => Some(link),
            // Without the right to listen the stream says the same, a moment later.
            Err(store::Error::Denied) => None,
            Err(_) => return,
        };
        // From now on nothing is missed; what came before is read now.
        if let Some(link) = link.as_ref().filter(|link| link.tracks()) {
            self.shared.cache().open(link.flag());
        }
        if self.find_place(progress).await.is_err() {
            return;
        }
        if link.is_some() {
            metrics::gauge!("lockgate_replica_link").set(1.0);
            tracing::info!("following the other hosts");
        }
        let until = Instant::now() + UNLINKED;
        let (mut beats, mut looks) = (every(BEAT), every(LOOK));
        let mut batch = Vec::with_capacity(BATCH);
        while link
            .as_ref()
            .map_or_else(|| Instant::now() < until, Link::alive)
        {
            let done = tokio::select! {
                biased;
                count = heard.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        break;
                    }
                    self.hear(progress, std::mem::take(&mut batch)).await
                }
                _ = beats.tick() => {
                    if let Some(link) = &mut link
                        && !link.beat().await
                    {
                        break;
                    }
                    Ok(())
                }
                _ = looks.tick() => self.read_on(progress).await,
                () = std::future::ready(()), if progress.cursor.is_some() => {
                    self.read_page(progress).await
                }
            };
            if done.is_err() {
                break;
            }
        }
        if link.is_some() {
            tracing::info!("the link to the other hosts is lost");
        }
    }

    /// Begins at the last event that is known if it is still there or the stream goes
    /// back to before it; else everything has to be read.
    async fn find_place(&self, progress: &mut Progress) -> store::Result<()> {
        // What was heard and could not be read is read now.
        progress.seen = Seen::default();
        self.notice_loss(progress).await?;
        let oldest = self.shared.redis().oldest_event(STREAM).await?;
        match (progress.last, oldest) {
            // A scan does not outlive its connection.
            (Some(last), Some(oldest)) if oldest <= last && progress.cursor.is_none() => {
                self.read_on(progress).await
            }
            _ => self.begin_again(progress).await,
        }
    }

    /// The last event that was read is always the newest or before it; if not, Redis has
    /// lost its memory, and gets back what this host keeps.
    async fn notice_loss(&self, progress: &mut Progress) -> store::Result<()> {
        let Some(last) = progress.last else {
            return Ok(());
        };
        let newest = self.shared.redis().newest_event(STREAM).await?;
        let newest = newest.unwrap_or_default();
        if newest < last {
            tracing::warn!(
                "redis has lost what it knew: this host writes there again what it keeps"
            );
            metrics::counter!("lockgate_redis_losses_total").increment(1);
            self.shared.cache().forget_all();
            self.emergency.lost_there();
            progress.last = Some(newest);
        }
        Ok(())
    }

    async fn begin_again(&self, progress: &mut Progress) -> store::Result<()> {
        let newest = self.shared.redis().newest_event(STREAM).await?;
        progress.last = Some(newest.unwrap_or_default());
        progress.cursor = Some(Cursor::default());
        progress.begun = Some(Instant::now());
        metrics::counter!("lockgate_replica_rereads_total").increment(1);
        Ok(())
    }

    /// Reads the stream to its end.
    async fn read_on(&self, progress: &mut Progress) -> store::Result<()> {
        if progress.begun.is_none_or(|at| at.elapsed() >= REREAD) {
            self.begin_again(progress).await?;
        }
        loop {
            let last = progress.last.unwrap_or_default();
            let redis = self.shared.redis();
            let events = redis.events_after(STREAM, last, BATCH).await?;
            let Some((newest, _)) = events.last() else {
                return self.notice_loss(progress).await;
            };
            let newest = *newest;
            let payloads = events.into_iter().map(|(_, payload)| payload).collect();
            self.hear(progress, payloads).await?;
            progress.last = Some(newest);
        }
    }

    /// Takes a batch of events from wherever they came.
    async fn hear(&self, progress: &mut Progress, payloads: Vec<Vec<u8>>) -> store::Result<()> {
        let mut hints = Hints::default();
        for payload in payloads {
            let result = match Heard::parse(&payload) {
                None => "unusable",
                // Its maker has done it all.
                Some(heard) if heard.host == self.events.host() => "own",
                Some(heard) if !progress.seen.first_time(&heard) => "repeated",
                Some(heard) => {
                    hints.add(heard.said);
                    "followed"
                }
            };
            metrics::counter!("lockgate_events_heard_total", "result" => result).increment(1);
        }
        for key in hints.stale.iter().chain(&hints.read) {
            self.shared.cache().forget(key.as_bytes());
        }
        for (user_id, at) in &hints.expired {
            let until = at.unwrap_or_else(|| self.clock.now());
            let close = Close::session_ended();
            self.sockets.close_until(*user_id, until, &close);
        }
        if hints.everything {
            self.shared.cache().forget_all();
            self.begin_again(progress).await?;
        }
        self.apply(hints.read).await
    }
}

fn every(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Said;

    #[test]
    fn a_repetition_is_noticed_for_a_while() {
        let mut seen = Seen::default();
        let heard = |host: &str, seq| Heard {
            host: host.into(),
            seq,
            said: Said::Everything,
        };
        assert!(seen.first_time(&heard("a", 1)));
        assert!(!seen.first_time(&heard("a", 1)));
        assert!(seen.first_time(&heard("b", 1)));
        for seq in 2..=REMEMBERED as u64 {
            assert!(seen.first_time(&heard("a", seq)));
        }
        assert!(seen.first_time(&heard("a", 1)), "forgotten");
        assert_eq!(seen.order.len(), seen.known.len());
        assert_eq!(seen.order.len(), REMEMBERED);
    }
}
