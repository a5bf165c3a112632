//! Records calls of one service: which ones, with a tape, and what is written of them into
//! a folder. The files are bounded in number and size. What a call's answer is, and who gets
//! it, is not decided here, and no answer waits for a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::bindings::lockgate::plugin::types::Request;
use crate::clock::Clock;
use crate::config::{RecordWhen, Recording, ServiceConfig};
use crate::instance::{Fault, Job, Output};
use crate::lane::Share;
use crate::pool::Pool;
use crate::sandbox::Meter;
use crate::tape::Tape;
use crate::trace::{self, Key, KeyError, Outcome, Redactor, Trace};

/// Calls that are being written at once; more are not kept.
const AT_ONCE: usize = 4;

/// Why recording cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The folder cannot be made.
    #[error("cannot make the folder of traces {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The key file cannot be read.
    #[error("cannot read the key of the traces {}: {source}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What it holds is no key.
    #[error("{}: {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
}

/// What records one service.
#[derive(Debug)]
pub struct Recorder {
    settings: Recording,
    folder: PathBuf,
    key: Option<Key>,
    places: Arc<Semaphore>,
}

impl Recorder {
    /// For the traces of a service below `folder`.
    ///
    /// # Errors
    /// [`SetupError`]: a folder or key that cannot be used.
    pub fn open(folder: &Path, service: &ServiceConfig) -> Result<Option<Recorder>, SetupError> {
        let Some(settings) = service.recording.clone() else {
            return Ok(None);
        };
        let folder = folder.join(&service.name);
        let made = make_private(&folder);
        made.map_err(|source| SetupError::Folder {
            path: folder.clone(),
            source,
        })?;
        let key = settings.key_file.as_deref().map(read_key).transpose()?;
        Ok(Some(Recorder {
            settings,
            folder,
            key,
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }))
    }

    /// A tape for the next call, if it is one that is watched.
    pub fn tape(&self) -> Option<Arc<Tape>> {
        chosen(self.settings.share).then(|| Arc::new(Tape::recording()))
    }

    /// Keeps a call that has ended, if it is to be kept. Returns at once.
    pub fn ended(
        self: &Arc<Self>,
        tape: &Arc<Tape>,
        pool: &Arc<Pool>,
        lane: &Share,
        request_id: &str,
        job: &Arc<Job>,
        outcome: &Outcome,
    ) {
        if self.settings.when == RecordWhen::Failure && !outcome.is_failure() {
            return;
        }
        if tape.is_cut() {
            count(&pool.revision().service().name, "dropped");
            return;
        }
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            count(&pool.revision().service().name, "dropped");
            return;
        };
        let (recorder, pool, lane) = (self.clone(), pool.clone(), lane.clone());
        let (tape, job, outcome) = (tape.clone(), job.clone(), outcome.clone());
        let request_id = request_id.to_owned();
        tokio::spawn(async move {
            let Job::Request(request) = job.as_ref() else {
                return;
            };
            let service = pool.revision().service();
            let trace = Trace::new(
                (&service.name, pool.revision().digest()),
                &service.limits,
                &service.env,
                &request_id,
                request,
                tape.made(),
                outcome,
            );
            let kept = recorder.keep(trace, request.clone(), &pool, &lane).await;
            let name = &service.name;
            count(name, if kept.is_ok() { "kept" } else { "failed" });
            match kept {
                Ok(file) => tracing::info!(service = name, file = %file.display(), "call recorded"),
                Err(why) => tracing::warn!(service = name, why, "a call was not recorded"),
            }
            drop(place);
        });
    }

    async fn keep(
        &self,
        trace: Trace,
        request: Request,
        pool: &Arc<Pool>,
        lane: &Share,
    ) -> Result<PathBuf, String> {
        let trace = match &self.key {
            Some(_) => trace,
            None => redacted(trace, request, pool, lane).await?,
        };
        let file = trace.to_file(self.key.as_ref());
        let file = file.map_err(|error| error.to_string())?;
        if file.len() > trace::MAX_SIZE {
            return Err(format!(
                "it has {} bytes, more than a trace may",
                file.len()
            ));
        }
        let end = if self.key.is_some() { "trace" } else { "json" };
        // One request may have two runs, and a client may choose the same id again.
        let name = format!(
            "{}-{:03}-{}-{:04x}.{end}",
            trace.recorded_at.replace(':', ""),
            Clock::system().since_1970().subsec_millis(),
            trace.request_id,
            rand::random::<u16>(),
        );
        let (folder, keep) = (self.folder.clone(), self.settings.keep);
        let write = move || write(&folder, &name, &file, keep);
        let written = tokio::task::spawn_blocking(write).await;
        written
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())
    }
}

/// The call with other secrets: it is made again, with the recorded answers of the host, so
/// that whatever the component makes of a secret is made of the other one.
async fn redacted(
    mut trace: Trace,
    request: Request,
    pool: &Arc<Pool>,
    lane: &Share,
) -> Result<Trace, String> {
    let environment = trace.environment();
    let redactor = Redactor::new(&request, &environment, &trace.calls);
    let request = redactor.request(&request);
    let environment = redactor.environment(&environment);
    let tape = Tape::in_order(redactor.calls(&trace.calls)).with_environment(environment.clone());
    let tape = Arc::new(tape);
    let outcome = run(pool, lane, tape.clone(), &trace.request_id, request.clone()).await;
    let made = tape.made();
    let names = |calls: &[crate::tape::Entry]| -> Vec<String> {
        calls.iter().map(|call| call.function.clone()).collect()
    };
    let alike = outcome.is_alike(&trace.outcome) && tape.difference().is_none();
    if !alike || names(&made) != names(&trace.calls) {
        return Err("without its secrets it ends otherwise; recording.key_file keeps them".into());
    }
    let service = pool.revision().service();
    let mut changed = Trace::new(
        (&service.name, pool.revision().digest()),
        &service.limits,
        &environment,
        &trace.request_id,
        &request,
        made,
        outcome,
    );
    changed.redacted = true;
    changed.recorded_at = std::mem::take(&mut trace.recorded_at);
    Ok(changed)
}

/// Makes one call in an instance of its own, on a tape, within the limits of its service.
pub async fn run(
    pool: &Arc<Pool>,
    lane: &Share,
    tape: Arc<Tape>,
    request_id: &str,
    request: Request,
) -> Outcome {
    let limits = &pool.revision().service().limits;
    let meter = Arc::new(Meter::new(limits.cpu, limits.wall));
    let (on_lane, running) = (meter.clone(), pool.clone());
    let (id, job) = (request_id.to_owned(), Job::Request(request));
    let call = async move {
        let mut instance = running.start(meter.clone(), Some(tape)).await?;
        let output = instance.call(meter, &id, &job).await;
        running.discard(instance);
        output
    };
    let result = lane.run(on_lane, call).await;
    outcome(&result.unwrap_or(Err(Fault::Wall)))
}

/// What came of a request, as a trace has it.
pub fn outcome(result: &Result<Output, Fault>) -> Outcome {
    let fault = match result {
        Ok(Output::Response(answer)) => return Outcome::of_answer(answer),
        // No request is answered so.
        Ok(Output::Actions(_)) => &Fault::NoSockets,
        Err(fault) => fault,
    };
    Outcome::Fault {
        kind: fault.kind().to_owned(),
        words: fault.to_string(),
    }
}

/// True for this share of the calls, 0 to 1.
pub fn chosen(share: f64) -> bool {
    share >= 1.0 || rand::random::<f64>() < share
}

fn count(service: &str, result: &'static str) {
    metrics::counter!("lockgate_traces_total", "service" => service.to_owned(), "result" => result)
        .increment(1);
}

/// A trace holds what users sent: nobody else on the machine may read it.
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

/// The key in a file.
///
/// # Errors
/// [`SetupError`]: it cannot be read, or is none.
pub fn read_key(path: &Path) -> Result<Key, SetupError> {
    let text = std::fs::read_to_string(path).map_err(|source| SetupError::KeyFile {
        path: path.to_owned(),
        source,
    })?;
    Key::from_text(&text).map_err(|source| SetupError::Key {
        path: path.to_owned(),
        source,
    })
}

/// Puts the file in place and takes the oldest ones away.
fn write(folder: &Path, name: &str, file: &[u8], keep: usize) -> std::io::Result<PathBuf> {
    use std::io::Write as _;
    let place = folder.join(name);
    let mut new = tempfile::Builder::new().prefix(".").tempfile_in(folder)?;
    new.write_all(file)?;
    new.persist(&place)?;
    let mut traces = Vec::new();
    for entry in std::fs::read_dir(folder)?.flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with('.') {
            traces.push(name);
        }
    }
    traces.sort_unstable();
    let old = traces.len().saturating_sub(keep);
    for name in traces.iter().take(old) {
        let _ = std::fs::remove_file(folder.join(name));
    }
    Ok(place)
}
