//! A service's place: its name, the revision that serves now, the last good one
//! before it, and how many requests may be in it. `load` is the only writer. It knows
//! requests and responses as values, not connections.

mod admission;
mod loader;
mod outcome;
mod probation;
mod record;
mod shelf;
mod swap;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

pub use loader::Loader;
pub use outcome::{Answer, Refusal};
pub use record::{Entry, Failure, Report, RevisionReport};

use crate::bindings::lockgate::plugin::types::Request;
use crate::config::{Limits, ServiceConfig};
use crate::imports::Scope;
use crate::instance::Fault;
use crate::pool::Pool;
use crate::revision::{self, LoadError, Revision};
use crate::sandbox::Meter;
use admission::Admission;
use outcome::BUSY;
use probation::Probation;
use record::Record;
use shelf::Shelf;

/// Past its own deadline a call gets this long to notice; then the answer goes out
/// and the call ends on the slow lane.
const SLACK: Duration = Duration::from_millis(250);

/// A second run gets what is left, but not less than this.
const WORTH_A_RUN: Duration = Duration::from_millis(50);

/// A loaded revision with its instances.
struct Loaded {
    number: u64,
    pool: Arc<Pool>,
    /// It has answered a request without a fault.
    good: AtomicBool,
    /// The file, until it is kept.
    bytes: Mutex<Option<Bytes>>,
    trial: Probation,
}

impl Loaded {
    fn revision(&self) -> &Revision {
        self.pool.revision()
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot")
            .field("service", &self.service.name)
            .finish_non_exhaustive()
    }
}

/// One service of this process.
pub struct Slot {
    service: Arc<ServiceConfig>,
    scope: Arc<Scope>,
    loader: Arc<Loader>,
    current: ArcSwapOption<Loaded>,
    previous: ArcSwapOption<Loaded>,
    admission: Admission,
    record: Record,
    numbers: AtomicU64,
    loading: tokio::sync::Mutex<()>,
    /// Held while the two pointers change.
    writer: Mutex<()>,
    shelf: Arc<Shelf>,
}

impl Slot {
    /// An empty slot that remembers its good revisions in `folder`.
    pub fn new(
        service: Arc<ServiceConfig>,
        scope: Arc<Scope>,
        loader: Arc<Loader>,
        folder: PathBuf,
    ) -> Slot {
        Slot {
            admission: Admission::new(service.limits.in_flight, service.limits.queue),
            record: Record::default(),
            current: ArcSwapOption::empty(),
            previous: ArcSwapOption::empty(),
            numbers: AtomicU64::new(0),
            loading: tokio::sync::Mutex::new(()),
            writer: Mutex::default(),
            shelf: Arc::new(Shelf::open(folder)),
            service,
            scope,
            loader,
        }
    }

    /// The service's settings.
    pub fn service(&self) -> &Arc<ServiceConfig> {
        &self.service
    }

    /// The revision that serves now.
    pub fn revision(&self) -> Option<Arc<Revision>> {
        self.current
            .load()
            .as_ref()
            .map(|loaded| loaded.pool.revision().clone())
    }

    /// True if a component is there to answer.
    pub fn is_ready(&self) -> bool {
        self.current.load().is_some()
    }

    /// What the operator sees.
    pub fn report(&self) -> Report {
        let now = self.current.load_full();
        self.record.report(now.map(|loaded| RevisionReport {
            number: loaded.number,
            digest: loaded.revision().digest().to_owned(),
            size: loaded.revision().size(),
            loaded_at: loaded.revision().loaded_at(),
        }))
    }

    /// Notes a fault of the file that is not about its content, e.g. that it is gone.
    pub fn note_failure(&self, digest: Option<&str>, message: &str) {
        self.record.failed(digest, message);
        self.count_swap("failed");
        tracing::error!(
            service = self.service.name,
            digest,
            error = message,
            "component not loaded"
        );
    }

    /// The file holds what serves already: an earlier failure is over.
    pub fn note_unchanged(&self) {
        self.record.clear_failure();
    }

    /// Verifies, compiles, tests and swaps in. A component that fails any step
    /// changes nothing but the record.
    ///
    /// # Errors
    /// [`LoadError`]: the step that failed, in one sentence.
    pub async fn load(&self, bytes: Bytes) -> Result<(), LoadError> {
        let _one_at_a_time = self.loading.lock().await;
        let began = Instant::now();
        let known = self.shelf.why_failed(&revision::digest(&bytes));
        if let Some(why) = known {
            return Err(LoadError::RolledBack(why));
        }
        let pool = self
            .loader
            .prepare(&self.service, &self.scope, bytes.clone())
            .await?;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let (digest, size) = (pool.revision().digest().to_owned(), pool.revision().size());
        self.swap(Arc::new(Loaded {
            number,
            pool,
            good: AtomicBool::new(false),
            bytes: Mutex::new(Some(bytes)),
            trial: Probation::new(self.loader.probation(), Instant::now()),
        }));
        self.record.loaded(number, &digest);
        self.count_swap("ok");
        let ms = began.elapsed().as_millis();
        tracing::info!(
            service = self.service.name,
            number,
            digest,
            size,
            ms,
            "component serves"
        );
        Ok(())
    }

    /// Loads the last good revision that an earlier process kept, for a start with a
    /// file that does not load.
    pub async fn load_last_good(&self) {
        let shelf = self.shelf.clone();
        let kept = tokio::task::spawn_blocking(move || shelf.good()).await;
        for bytes in kept.unwrap_or_default() {
            match self.load(bytes).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(service = self.service.name, %error, "a kept revision does not load")
                }
            }
        }
    }

    /// Answers one request, if need be by a second run on the previous good revision.
    ///
    /// # Errors
    /// [`Refusal`]: there is no answer that could be sent.
    pub async fn handle(&self, request: Request, request_id: &str) -> Result<Answer, Refusal> {
        let current = self.current.load_full().ok_or(Refusal::NoComponent)?;
        let place = self.admission.enter().await.ok_or(BUSY)?;
        let call = Call {
            request_id: request_id.into(),
            request: Arc::new(request),
            place: Arc::new(place),
        };
        self.run(current, call).await
    }

    async fn run(&self, current: Arc<Loaded>, call: Call) -> Result<Answer, Refusal> {
        let limits = &self.service.limits;
        let began = Instant::now();
        let (fault, wrote) = match self.attempt(&current, &call, limits.wall).await {
            Attempt::Answered(response) => {
                let failed = response.status().is_server_error();
                if !failed {
                    self.note_good(&current);
                }
                self.judge(&current, failed);
                return Ok(answer(response, &current));
            }
            Attempt::Failed { fault, wrote } => (fault, wrote),
        };
        self.note_fault(&current, &call, &fault);
        let previous = self.previous.load_full();
        if fault != Fault::Crowded {
            self.judge(&current, true);
        }
        let previous = previous
            .filter(|_| fault != Fault::Crowded && may_run_again(&call.request.method, wrote));
        let (Some(previous), Some(left)) = (previous, time_left(limits, began.elapsed())) else {
            return Err(fault.into());
        };
        metrics::counter!("lockgate_runs_again_total", "service" => self.service.name.clone())
            .increment(1);
        match self.attempt(&previous, &call, left).await {
            Attempt::Answered(response) => Ok(answer(response, &previous)),
            Attempt::Failed { fault, .. } => {
                self.note_fault(&previous, &call, &fault);
                Err(fault.into())
            }
        }
    }

    async fn attempt(&self, loaded: &Loaded, call: &Call, wall: Duration) -> Attempt {
        let meter = Arc::new(Meter::new(self.service.limits.cpu, wall));
        let (pool, call, on_lane) = (loaded.pool.clone(), call.clone(), meter.clone());
        let running = async move {
            let mut instance = match pool.take(meter.clone()).await {
                Ok(instance) => instance,
                Err(fault) => {
                    return Attempt::Failed {
                        fault,
                        wrote: false,
                    };
                }
            };
            let result = instance
                .handle(meter, &call.request_id, &call.request)
                .await;
            let wrote = instance.wrote();
            // The place is free only now, even if nobody waits for the answer any more.
            let _place = &call.place;
            match result {
                Ok(response) => {
                    pool.give_back(instance);
                    Attempt::Answered(response)
                }
                Err(fault) => {
                    pool.discard(instance);
                    Attempt::Failed { fault, wrote }
                }
            }
        };
        let lane = self.loader.engine().lane();
        match tokio::time::timeout(wall + SLACK, lane.run(on_lane, running)).await {
            Ok(Some(attempt)) => attempt,
            // Whether it has written is not known.
            Ok(None) | Err(_) => Attempt::Failed {
                fault: Fault::Wall,
                wrote: true,
            },
        }
    }

    fn note_fault(&self, loaded: &Loaded, call: &Call, fault: &Fault) {
        let service = self.service.name.clone();
        metrics::counter!("lockgate_faults_total", "service" => service, "kind" => fault.kind())
            .increment(1);
        tracing::error!(
            service = self.service.name, revision = loaded.revision().short_digest(),
            request_id = %call.request_id, %fault, "component failed",
        );
    }

    fn count_swap(&self, result: &'static str) {
        let service = self.service.name.clone();
        metrics::counter!("lockgate_swaps_total", "service" => service, "result" => result)
            .increment(1);
    }
}

#[derive(Clone)]
struct Call {
    request_id: Arc<str>,
    request: Arc<Request>,
    place: Arc<OwnedSemaphorePermit>,
}

enum Attempt {
    Answered(http::Response<Bytes>),
    Failed { fault: Fault, wrote: bool },
}

fn answer(response: http::Response<Bytes>, loaded: &Loaded) -> Answer {
    Answer {
        response,
        revision: loaded.revision().short_digest().to_owned(),
    }
}

/// A request that only reads (RFC 9110 section 9.2.1), or that had made no write yet.
fn may_run_again(method: &str, wrote: bool) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS") || !wrote
}

/// What a second run may take so that the whole answer stays within the first run's
/// limit and half a second, 5 s at most.
fn time_left(limits: &Limits, spent: Duration) -> Option<Duration> {
    let all = limits.wall + Duration::from_millis(500) - SLACK;
    let left = all.checked_sub(spent)?;
    (left >= WORTH_A_RUN).then(|| left.min(limits.wall))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_run_again() {
        for (method, wrote, expected) in [
            ("GET", false, true),
            ("GET", true, true),
            ("HEAD", true, true),
            ("POST", false, true),
            ("POST", true, false),
            ("DELETE", true, false),
        ] {
            assert_eq!(may_run_again(method, wrote), expected, "{method} {wrote}");
        }
    }

    #[test]
    fn both_runs_fit_into_one_answer() {
        let config = crate::config::Config::from_parts(None, |_| None).unwrap();
        for service in &config.services {
            let limits = &service.limits;
            assert!(limits.wall + Duration::from_millis(500) <= Duration::from_secs(5));
            assert_eq!(time_left(limits, Duration::ZERO), Some(limits.wall));
            assert_eq!(
                time_left(limits, limits.wall + Duration::from_millis(220)),
                None
            );
            let spent = limits.cpu + Duration::from_millis(100);
            assert!(time_left(limits, spent).is_some_and(|left| left >= limits.cpu));
        }
    }
}
