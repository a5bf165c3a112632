//! A service's place: its name, the revision that serves now, the last good one
//! before it, and how many requests may be in it. `load` is the only writer. It knows
//! requests and responses as values, not connections.

mod admission;
mod hand;
mod loader;
mod outcome;
mod probation;
mod quarantine;
mod record;
mod run;
mod shadow;
mod shelf;
mod swap;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arc_swap::ArcSwapOption;

pub use hand::ByHand;
pub use loader::{Loader, Settings};
pub use outcome::{Answer, Refusal};
pub use record::{Entry, Failure, LoadReport, Report, RevisionReport};
pub use shadow::{Found, NoShadow, ShadowReport, ShadowSettings};

use crate::config::ServiceConfig;
use crate::imports::Scope;
use crate::lane::Share;
use crate::pool::Pool;
use crate::recorder::Recorder;
use crate::revision::{self, Artifact, LoadError, Revision};
use crate::signature::Unsigned;
use admission::Admission;
use probation::Probation;
use quarantine::Quarantine;
use record::Record;
use shelf::Shelf;

/// A loaded revision with its instances.
struct Loaded {
    number: u64,
    pool: Arc<Pool>,
    /// It has answered a request without a fault.
    good: AtomicBool,
    /// The file, until it is kept.
    file: Mutex<Option<Artifact>>,
    trial: Probation,
    quarantine: Quarantine,
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
    lane: Share,
    current: ArcSwapOption<Loaded>,
    previous: ArcSwapOption<Loaded>,
    admission: Admission,
    record: Record,
    numbers: AtomicU64,
    loading: tokio::sync::Mutex<()>,
    /// Held while the two pointers change.
    writer: Mutex<()>,
    shelf: Arc<Shelf>,
    /// Where calls are made again that nobody waits for.
    aside: Share,
    /// What was promoted last.
    promoted: Mutex<Option<ShadowReport>>,
    /// What gets copies of requests, if anything does.
    shadow: ArcSwapOption<shadow::Shadow>,
    /// Records calls, if that is configured.
    recorder: Option<Arc<Recorder>>,
    /// The file in the folder is to be tried although it was tried before.
    look_again: AtomicBool,
}

impl Slot {
    /// An empty slot that remembers its good revisions in `folder`, and has its calls
    /// recorded if there is a recorder.
    pub fn new(
        service: Arc<ServiceConfig>,
        scope: Arc<Scope>,
        loader: Arc<Loader>,
        folder: PathBuf,
        recorder: Option<Recorder>,
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
            aside: loader.engine().lane().share(1),
            promoted: Mutex::default(),
            shadow: ArcSwapOption::empty(),
            recorder: recorder.map(Arc::new),
            look_again: AtomicBool::new(false),
            lane: loader.engine().lane().share(service.limits.slow_calls),
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

    /// How busy it is now.
    pub fn load_report(&self) -> LoadReport {
        LoadReport {
            in_flight: self.admission.inside(),
            waiting: self.admission.waiting(),
            slow: self.lane.taken(),
        }
    }

    /// What the operator sees.
    pub fn report(&self) -> Report {
        let now = self.current.load_full();
        let revision = now.map(|loaded| RevisionReport {
            number: loaded.number,
            digest: loaded.revision().digest().to_owned(),
            size: loaded.revision().size(),
            loaded_at: loaded.revision().loaded_at(),
            quarantined: loaded.quarantine.is_closed(),
        });
        let previous = self.previous.load_full();
        let previous = previous.map(|loaded| loaded.revision().digest().to_owned());
        let (pinned, kept) = (self.shelf.pinned(), self.shelf.kept());
        self.record.report(revision, previous, pinned, kept)
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
    pub async fn load(&self, file: Artifact) -> Result<(), LoadError> {
        let _one_at_a_time = self.loading.lock().await;
        let digest = revision::digest(&file.component);
        let sequence = self.check_signature(&digest, &file)?;
        match self.shelf.pinned() {
            Some(pinned) if pinned != digest => return Err(LoadError::Pinned(pinned)),
            Some(_) => {}
            None => {
                if let Some(why) = self.shelf.why_failed(&digest) {
                    return Err(LoadError::RolledBack(why));
                }
            }
        }
        let new = self.prepare(file).await?;
        self.record.clear_failure();
        self.swap(new);
        if sequence.is_some_and(|sequence| self.shelf.note_sequence(sequence)) {
            self.save().await;
        }
        Ok(())
    }

    /// True if dropped files must be signed.
    pub fn wants_signatures(&self) -> bool {
        self.loader.public_key().is_some()
    }

    /// Checks a file that is dropped in; gives its sequence number where it must have one.
    ///
    /// # Errors
    /// [`Unsigned`]: it must not be loaded.
    pub fn check_signature(&self, digest: &str, file: &Artifact) -> Result<Option<u64>, Unsigned> {
        let given = self.loader.check_signature(&self.service, digest, file)?;
        let accepted = self.shelf.sequence();
        match given {
            Some(given) if given < accepted => Err(Unsigned::Superseded { given, accepted }),
            given => Ok(given),
        }
    }

    /// Loads the last good revision that an earlier process kept, or the one that is
    /// pinned, for a start with a file that does not load.
    pub async fn load_last_good(&self) {
        let _one_at_a_time = self.loading.lock().await;
        let shelf = self.shelf.clone();
        let kept = tokio::task::spawn_blocking(move || shelf.good()).await;
        for file in kept.unwrap_or_default() {
            match self.prepare_kept(file).await {
                Ok(new) => return self.swap(new),
                Err(error) => {
                    tracing::warn!(service = self.service.name, %error, "a kept revision does not load")
                }
            }
        }
    }

    /// As [`Slot::prepare`], of a file that was dropped in earlier: it must still be
    /// signed with the key that counts now, but may be older than the newest.
    async fn prepare_kept(&self, file: Artifact) -> Result<Arc<Loaded>, LoadError> {
        let digest = revision::digest(&file.component);
        self.loader.check_signature(&self.service, &digest, &file)?;
        self.prepare(file).await
    }

    /// From a file to a revision that could serve. The caller holds `loading`.
    async fn prepare(&self, file: Artifact) -> Result<Arc<Loaded>, LoadError> {
        let component = file.component.clone();
        let running = self.revision();
        let pool = self
            .loader
            .prepare(&self.service, &self.scope, &self.lane, component, running)
            .await?;
        Ok(Arc::new(Loaded {
            number: self.numbers.fetch_add(1, Ordering::Relaxed) + 1,
            pool,
            good: AtomicBool::new(false),
            file: Mutex::new(Some(file)),
            trial: Probation::new(self.loader.settings().probation, Instant::now()),
            quarantine: Quarantine::new(self.loader.settings().quarantine),
        }))
    }

    fn count_swap(&self, result: &'static str) {
        let service = self.service.name.clone();
        metrics::counter!("lockgate_swaps_total", "service" => service, "result" => result)
            .increment(1);
    }
}
