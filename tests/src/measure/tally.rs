//! What came of the requests of a load: counts, losses and latencies, cut into windows
//! of time. It sends nothing and prints nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::link::Loss;
use crate::host::Service;

/// Longest latency that is told apart, microseconds.
const LONGEST: u64 = 120_000_000;
/// Losses that are kept with all that is known of them.
const EXAMPLES: usize = 5_000;

/// A request that was lost.
#[derive(Debug, Clone)]
pub(crate) struct Lost {
    /// Whom it was for.
    pub(crate) service: Service,
    /// Its id in the host's log.
    pub(crate) id: String,
    /// How it was lost.
    pub(crate) loss: Loss,
    /// When that was clear.
    pub(crate) at: Instant,
}

/// What came of the requests that ended in a stretch of time.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    begun: Instant,
    /// How long it is.
    pub(crate) length: Duration,
    latencies: BTreeMap<Service, Histogram<u64>>,
    /// How late the generator itself was.
    lag: Histogram<u64>,
    kinds: BTreeMap<String, u64>,
    /// The first losses.
    pub(crate) lost: Vec<Lost>,
}

/// Times in microseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("valid bounds")
}

/// At least one.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1)
}

impl Window {
    /// One in which nothing has happened.
    pub(crate) fn empty() -> Self {
        Self {
            begun: Instant::now(),
            length: Duration::ZERO,
            latencies: BTreeMap::new(),
            lag: histogram(),
            kinds: BTreeMap::new(),
            lost: Vec::new(),
        }
    }

    /// Takes what happened in another window into this one.
    pub(crate) fn add(&mut self, other: &Self) {
        self.length += other.length;
        for (service, latencies) in &other.latencies {
            let mine = self.latencies.entry(*service).or_insert_with(histogram);
            mine.add(latencies).expect("histograms of the same form");
        }
        self.lag
            .add(&other.lag)
            .expect("histograms of the same form");
        for (kind, count) in &other.kinds {
            *self.kinds.entry(kind.clone()).or_default() += count;
        }
        let room = EXAMPLES.saturating_sub(self.lost.len());
        self.lost.extend(other.lost.iter().take(room).cloned());
    }

    /// Requests that ended.
    pub(crate) fn sent(&self) -> u64 {
        self.latencies.values().map(Histogram::len).sum()
    }

    /// Requests that did not get their right answer.
    pub(crate) fn losses(&self) -> u64 {
        self.kinds.values().sum()
    }

    /// Requests that were answered with another status than the right one.
    pub(crate) fn statuses(&self) -> u64 {
        let statuses = self
            .kinds
            .iter()
            .filter(|kind| kind.0.starts_with("status "));
        statuses.map(|(_, count)| count).sum()
    }

    /// Requests that took longer than so many milliseconds.
    pub(crate) fn above(&self, milliseconds: u64) -> u64 {
        let above = |times: &Histogram<u64>| times.count_between(milliseconds * 1_000, LONGEST);
        self.latencies.values().map(above).sum()
    }

    /// Requests a second.
    pub(crate) fn rate(&self) -> f64 {
        self.sent() as f64 / self.length.as_secs_f64().max(1e-9)
    }

    /// The losses in a few words, the first one as an example.
    pub(crate) fn why(&self) -> String {
        let kinds = self
            .kinds
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"));
        let kinds = kinds.collect::<Vec<_>>().join(", ");
        match self.lost.first() {
            Some(lost) => format!(
                "{kinds}; first: {} {} {:?}",
                lost.service.name(),
                lost.id,
                lost.loss
            ),
            None => kinds,
        }
    }

    /// Latencies of all services together.
    pub(crate) fn all(&self) -> Quantiles {
        let mut all = histogram();
        for latencies in self.latencies.values() {
            all.add(latencies).expect("histograms of the same form");
        }
        Quantiles::of(&all)
    }

    /// Latencies by service.
    pub(crate) fn by_service(&self) -> impl Iterator<Item = (Service, Quantiles)> {
        self.latencies
            .iter()
            .map(|(service, latencies)| (*service, Quantiles::of(latencies)))
    }

    /// How late requests left this program: what the latencies owe to it.
    pub(crate) fn lag(&self) -> Quantiles {
        Quantiles::of(&self.lag)
    }
}

/// A few points of a distribution of times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quantiles {
    /// How many.
    pub(crate) count: u64,
    /// Median, milliseconds.
    pub(crate) p50: f64,
    /// 99 of 100 are at most this, milliseconds.
    pub(crate) p99: f64,
    /// The longest, milliseconds.
    pub(crate) max: f64,
}

impl Quantiles {
    /// Those of a histogram of microseconds.
    pub(crate) fn of(latencies: &Histogram<u64>) -> Self {
        let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            count: latencies.len(),
            p50: at(0.5),
            p99: at(0.99),
            max: latencies.max() as f64 / 1e3,
        }
    }
}

impl std::fmt::Display for Quantiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { p50, p99, max, .. } = self;
        write!(f, "p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.1} ms")
    }
}

/// Where the connections of a load write what came of each request.
#[derive(Debug)]
pub(crate) struct Tally {
    now: Mutex<Window>,
}

impl Tally {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self {
            now: Mutex::new(Window::empty()),
        }
    }

    /// A request left this late.
    pub(crate) fn left(&self, late: Duration) {
        self.lock().lag.saturating_record(micros(late));
    }

    /// A request that was due then has ended.
    pub(crate) fn ended(&self, service: Service, id: &str, due: Instant, end: Result<(), Loss>) {
        let now = Instant::now();
        let mut window = self.lock();
        let latencies = window.latencies.entry(service).or_insert_with(histogram);
        latencies.saturating_record(micros(now.duration_since(due)));
        if let Err(loss) = end {
            *window.kinds.entry(loss.kind()).or_default() += 1;
            if window.lost.len() < EXAMPLES {
                window.lost.push(Lost {
                    service,
                    id: id.to_owned(),
                    loss,
                    at: now,
                });
            }
        }
    }

    /// All since the last call; a new window begins.
    pub(crate) fn take(&self) -> Window {
        let mut window = std::mem::replace(&mut *self.lock(), Window::empty());
        window.length = window.begun.elapsed();
        window
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
