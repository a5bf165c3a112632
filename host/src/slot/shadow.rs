//! A candidate that gets copies of live requests: its answers are compared with those that
//! users got and thrown away, and what it writes goes nowhere. What a request asked of the
//! host is played to it again, so that equal components answer equally; nothing here can
//! change or delay an answer.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::Slot;
use super::hand::SHORTEST;
use crate::instance::Job;
use crate::lane::Share;
use crate::pool::Pool;
use crate::recorder;
use crate::revision::{self, Artifact, LoadError};
use crate::tape::{Changes, Tape};
use crate::trace::{Outcome, shown_difference};

/// Requests that are compared at once; more are passed over.
const AT_ONCE: usize = 4;

/// Differences that are shown, the latest.
const SHOWN: usize = 20;

/// Changes of one request that are shown.
const CHANGES_SHOWN: usize = 3;

/// How a candidate is tried.
#[derive(Debug, Clone, Copy)]
pub struct ShadowSettings {
    /// How many of the requests are copied, 0 to 1. Each of these runs in instances of its own.
    pub share: f64,
    /// It replaces what serves after so many answers, if each was equal.
    pub promote_after: Option<u64>,
}

/// Why there is nothing to do.
#[derive(Debug, thiserror::Error)]
pub enum NoShadow {
    /// No candidate.
    #[error("the service has no shadow")]
    None,
    /// Another candidate than the one that is meant.
    #[error("the candidate has another digest")]
    Other,
    /// It does not load.
    #[error("{0}")]
    Load(#[from] LoadError),
}

/// One request that the candidate answered otherwise.
#[derive(Debug, Clone)]
pub struct Found {
    /// As in the log.
    pub request_id: String,
    /// Of the request.
    pub method: String,
    /// Of the request, without what may be a credential.
    pub path: String,
    /// Where, in words without secrets.
    pub what: String,
}

/// What is known of a candidate.
#[derive(Debug, Clone)]
pub struct ShadowReport {
    /// SHA-256 of its file.
    pub digest: String,
    /// When it began.
    pub since: SystemTime,
    /// How many requests are copied.
    pub share: f64,
    /// Requests that both have answered.
    pub compared: u64,
    /// Of these, the ones that the candidate answered otherwise.
    pub different: u64,
    /// Requests that were not compared because too many were being so.
    pub passed_over: u64,
    /// The latest differences.
    pub differences: Vec<Found>,
    /// It has replaced what served.
    pub promoted: bool,
    /// Why it has not, although it should have.
    pub not_promoted: Option<String>,
}

/// A candidate and what came of it.
pub(super) struct Shadow {
    pool: Arc<Pool>,
    lane: Share,
    settings: ShadowSettings,
    file: Artifact,
    /// Digest of the revision that it is compared with.
    against: String,
    /// The service's file in the plugin folder.
    place: PathBuf,
    slot: std::sync::Weak<Slot>,
    places: Arc<Semaphore>,
    report: Mutex<ShadowReport>,
}

impl Slot {
    /// Has a candidate get copies of requests from now on, in place of an earlier one.
    /// `place` is where it is to lie once it is promoted.
    ///
    /// # Errors
    /// [`LoadError`]: it would not be taken as a drop either.
    pub async fn shadow(
        self: &Arc<Self>,
        file: Artifact,
        place: PathBuf,
        settings: ShadowSettings,
    ) -> Result<(), LoadError> {
        let digest = revision::digest(&file.component);
        self.check_signature(&digest, &file)?;
        let (component, running) = (file.component.clone(), self.revision());
        let against = running
            .as_ref()
            .map(|revision| revision.digest().to_owned());
        // A place of its own: one that loops must not take those of the service.
        let lane = self.aside.clone();
        let prepared = self
            .loader
            .prepare(&self.service, &self.scope, &lane, component, running);
        let pool = prepared.await?;
        // Each request gets an instance of its own; none is to wait for one.
        pool.retire();
        let report = ShadowReport {
            digest,
            since: SystemTime::now(),
            share: settings.share,
            compared: 0,
            different: 0,
            passed_over: 0,
            differences: Vec::new(),
            promoted: false,
            not_promoted: None,
        };
        *self.promoted() = None;
        self.shadow.store(Some(Arc::new(Shadow {
            against: against.unwrap_or_default(),
            pool,
            lane,
            settings,
            file,
            place,
            slot: Arc::downgrade(self),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            report: Mutex::new(report),
        })));
        tracing::info!(
            service = self.service.name,
            "a candidate gets copies of requests"
        );
        Ok(())
    }

    /// What is known of the candidate, if there is one.
    pub fn shadow_report(&self) -> Option<ShadowReport> {
        match self.shadow.load_full() {
            Some(shadow) => Some(shadow.report().clone()),
            None => self.promoted().clone(),
        }
    }

    /// Ends it; what was known of it last.
    pub fn end_shadow(&self) -> Option<ShadowReport> {
        match self.shadow.swap(None) {
            Some(shadow) => Some(shadow.report().clone()),
            None => self.promoted().take(),
        }
    }

    fn promoted(&self) -> MutexGuard<'_, Option<ShadowReport>> {
        self.promoted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the candidate serve, by every step of a drop, and puts its file into the plugin
    /// folder. It is a shadow no longer. The report says so, and if the file could not be put
    /// there: then it serves until a restart. With a `digest` only a candidate is meant whose
    /// digest begins so.
    ///
    /// # Errors
    /// [`NoShadow`]: nothing has changed.
    pub async fn promote(&self, digest: Option<&str>) -> Result<ShadowReport, NoShadow> {
        let shadow = self.shadow.load_full().ok_or(NoShadow::None)?;
        let meant =
            |start: &str| start.len() >= SHORTEST && shadow.report().digest.starts_with(start);
        if !digest.is_none_or(meant) {
            return Err(NoShadow::Other);
        }
        self.load(shadow.file.clone()).await?;
        self.shadow.compare_and_swap(&Some(shadow.clone()), None);
        let (file, place) = (shadow.file.clone(), shadow.place.clone());
        let put = tokio::task::spawn_blocking(move || put(&place, &file)).await;
        let problem = match put {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        let service = &self.service.name;
        let mut report = shadow.report().clone();
        report.promoted = true;
        report.not_promoted = problem.map(|problem| {
            let place = shadow.place.display();
            tracing::warn!(service, %place, problem, "the candidate serves until a restart");
            format!("it serves, but its file could not be put at {place} ({problem})")
        });
        *self.promoted() = Some(report.clone());
        Ok(report)
    }

    /// The candidate, if it gets a copy of a request that the revision `answering` answers.
    pub(super) fn shadow_of(&self, answering: &str) -> Option<Arc<Shadow>> {
        let shadow = self.shadow.load_full()?;
        let fits = self.is_compared(&shadow) && shadow.against == answering;
        (fits && recorder::chosen(shadow.settings.share)).then_some(shadow)
    }

    /// False once another revision serves than the candidate was compared with.
    fn is_compared(&self, shadow: &Shadow) -> bool {
        let serves = self.revision();
        let same = serves.is_some_and(|serves| serves.digest() == shadow.against);
        if !same {
            let why = "another revision serves now than it was compared with: begin again";
            shadow.report().not_promoted = Some(why.to_owned());
        }
        same
    }
}

impl Shadow {
    /// Has the candidate answer a request that was answered just now. Returns at once.
    pub(super) fn follow(
        self: Arc<Self>,
        tape: &Arc<Tape>,
        request_id: &str,
        job: &Arc<Job>,
        users: Outcome,
    ) {
        let place = self.places.clone().try_acquire_owned();
        // What users got in place of a fault is not known here.
        let failed = matches!(users, Outcome::Fault { .. });
        let (Ok(place), false) = (place, failed || tape.is_cut()) else {
            self.report().passed_over += 1;
            return;
        };
        let (recorded, job, request_id) = (tape.clone(), job.clone(), request_id.to_owned());
        tokio::spawn(async move {
            let Job::Request(request) = job.as_ref() else {
                return;
            };
            let request = request.clone();
            let tape = Arc::new(Tape::shadowing(recorded.made()));
            let (method, path) = (request.method.clone(), request.path.clone());
            let run = recorder::run(&self.pool, &self.lane, tape.clone(), &request_id, request);
            let what = difference(&users, &run.await, tape.alone());
            drop(place);
            let found = what.map(|what| Found {
                request_id,
                method,
                path: crate::logging::shown_path(&path),
                what,
            });
            if self.note(found) {
                self.promote_itself().await;
            }
        });
    }

    /// True if it is to be promoted now.
    fn note(&self, found: Option<Found>) -> bool {
        let mut report = self.report();
        report.compared += 1;
        if let Some(found) = found {
            report.different += 1;
            if report.differences.len() >= SHOWN {
                report.differences.remove(0);
            }
            report.differences.push(found);
        }
        let enough = self.settings.promote_after == Some(report.compared);
        enough && report.different == 0
    }

    async fn promote_itself(self: &Arc<Self>) {
        let Some(slot) = self.slot.upgrade() else {
            return;
        };
        let still = slot.shadow.load_full();
        if !still.is_some_and(|still| Arc::ptr_eq(&still, self)) || !slot.is_compared(self) {
            return;
        }
        let digest = self.report().digest.clone();
        if let Err(error) = slot.promote(Some(&digest)).await {
            self.report().not_promoted = Some(error.to_string());
        }
    }

    fn report(&self) -> MutexGuard<'_, ShadowReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In words, if there is one: in the answer, or in what would have been written.
fn difference(users: &Outcome, candidate: &Outcome, changes: Changes) -> Option<String> {
    let mut words: Vec<String> = shown_difference(users, candidate).into_iter().collect();
    let more = changes.more.iter().take(CHANGES_SHOWN);
    words.extend(more.map(|function| format!("it called {function} as the other did not")));
    let fewer = changes.fewer.iter().take(CHANGES_SHOWN);
    words.extend(fewer.map(|function| format!("it did not call {function} as the other did")));
    (!words.is_empty()).then(|| words.join("; "))
}

/// Puts a file into the plugin folder as a drop would: each file in one step, the
/// signature first.
fn put(place: &Path, file: &Artifact) -> std::io::Result<()> {
    let one = |place: &Path, contents: &Bytes| {
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let new = place.with_file_name(format!(".{name}.new"));
        let written = std::fs::write(&new, contents).and_then(|()| std::fs::rename(&new, place));
        written.inspect_err(|_| drop(std::fs::remove_file(&new)))
    };
    if let Some(signature) = &file.signature {
        one(&place.with_added_extension("sig"), signature)?;
    }
    one(place, &file.component)
}
