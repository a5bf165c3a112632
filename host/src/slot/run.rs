//! One request, or one event of a socket, in a slot: on the revision that serves, and if
//! that fails once more on the one before it, all within the time of one answer. A revision in quarantine is
//! passed over. Nothing here loads or swaps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument as _;

use super::outcome::{Answer, BUSY, Refusal};
use super::quarantine::{Change, Entry};
use super::shadow::Shadow;
use super::{Loaded, Slot};
use crate::bindings::lockgate::plugin::types::Request;
use crate::bindings::socket_events::Action;
use crate::config::Limits;
use crate::instance::{Fault, Job, Output};
use crate::lane::Share;
use crate::pool::Pool;
use crate::recorder::{self, Recorder};
use crate::sandbox::Meter;
use crate::tape::Tape;
use crate::telemetry;

/// Past its own deadline a call gets this long to notice; then the answer goes out
/// and the call ends on the slow lane.
const SLACK: Duration = Duration::from_millis(250);

/// A second run gets what is left, but not less than this.
const WORTH_A_RUN: Duration = Duration::from_millis(50);

impl Slot {
    /// Answers one request, if need be by a second run on the previous good revision.
    ///
    /// # Errors
    /// [`Refusal`]: there is no answer that could be sent.
    pub async fn handle(&self, request: Request, request_id: &str) -> Result<Answer, Refusal> {
        match self
            .serve(Arc::new(Job::Request(request)), request_id)
            .await?
        {
            (Output::Response(response), loaded) => Ok(Answer {
                response,
                revision: loaded.revision().short_digest().to_owned(),
            }),
            (Output::Actions(_), _) => Err(Refusal::BadAnswer),
        }
    }

    /// Has one event of a socket decided, by the revision that serves now.
    ///
    /// # Errors
    /// [`Refusal`]: nobody has decided it.
    pub async fn decide(&self, event: Arc<Job>, request_id: &str) -> Result<Vec<Action>, Refusal> {
        match self.serve(event, request_id).await? {
            (Output::Actions(actions), _) => Ok(actions),
            (Output::Response(_), _) => Err(Refusal::BadAnswer),
        }
    }

    async fn serve(
        &self,
        job: Arc<Job>,
        request_id: &str,
    ) -> Result<(Output, Arc<Loaded>), Refusal> {
        let (loaded, trying) = self.choose()?;
        if !loaded.can_do(&job) {
            return Err(Refusal::NoComponent);
        }
        let place = self.admission.enter().await.ok_or(BUSY)?;
        let call = Call {
            request_id: request_id.into(),
            job,
            place: Arc::new(place),
        };
        self.run(loaded, trying, call).await
    }

    /// The revision that serves or, while that is in quarantine, the one before it.
    fn choose(&self) -> Result<(Arc<Loaded>, Option<Trying>), Refusal> {
        let now = Instant::now();
        let current = self.current.load_full().ok_or(Refusal::NoComponent)?;
        let left = match current.enter(now) {
            Ok(trying) => return Ok((current, trying)),
            Err(left) => left,
        };
        if let Some(previous) = self.previous.load_full()
            && let Ok(trying) = previous.enter(now)
        {
            return Ok((previous, trying));
        }
        let seconds = left.as_millis().div_ceil(1000).max(1);
        Err(Refusal::Resting {
            retry_after: u32::try_from(seconds).unwrap_or(u32::MAX),
        })
    }

    async fn run(
        &self,
        chosen: Arc<Loaded>,
        trying: Option<Trying>,
        call: Call,
    ) -> Result<(Output, Arc<Loaded>), Refusal> {
        let limits = &self.service.limits;
        let began = Instant::now();
        let attempt = self.attempt(&chosen, &call, limits.wall).await;
        self.note_time(&chosen, trying, &attempt);
        let (fault, wrote) = match attempt {
            Attempt::Answered(output) => {
                let failed = matches!(&output, Output::Response(response)
                    if response.status().is_server_error());
                if !failed {
                    self.note_good(&chosen);
                }
                self.judge(&chosen, failed);
                return Ok((output, chosen));
            }
            Attempt::Failed { fault, wrote } => (fault, wrote),
        };
        self.note_fault(&chosen, &call, &fault);
        let previous = self.previous.load_full();
        if !fault.is_ours() {
            self.judge(&chosen, true);
        }
        let previous = previous
            // Without one, others may have had this revision rolled back meanwhile.
            .or_else(|| self.current.load_full())
            .filter(|previous| !Arc::ptr_eq(previous, &chosen))
            .filter(|previous| !previous.quarantine.is_closed())
            .filter(|previous| previous.can_do(&call.job))
            .filter(|_| !fault.is_ours() && may_run_again(&call.job, wrote));
        let (Some(previous), Some(left)) = (previous, time_left(limits, began.elapsed())) else {
            return Err(fault.into());
        };
        metrics::counter!("lockgate_runs_again_total", "service" => self.service.name.clone())
            .increment(1);
        match self.attempt(&previous, &call, left).await {
            Attempt::Answered(output) => Ok((output, previous)),
            Attempt::Failed { fault, .. } => {
                self.note_fault(&previous, &call, &fault);
                Err(fault.into())
            }
        }
    }

    async fn attempt(&self, loaded: &Loaded, call: &Call, wall: Duration) -> Attempt {
        let meter = Arc::new(Meter::new(self.service.limits.cpu, wall));
        let (pool, call) = (loaded.pool.clone(), call.clone());
        let (on_lane, looked_at) = (meter.clone(), meter.clone());
        let watch = self.watch(&call.job, loaded);
        let running = async move {
            let taken = match &watch {
                // On a tape from its first instruction: it can be played again only so.
                Some(watch) => pool.start(meter.clone(), Some(watch.tape.clone())).await,
                None => pool.take(meter.clone()).await,
            };
            let mut instance = match taken {
                Ok(instance) => instance,
                Err(fault) => {
                    return Attempt::Failed {
                        fault,
                        wrote: false,
                    };
                }
            };
            let result = instance.call(meter, &call.request_id, &call.job).await;
            let wrote = instance.wrote();
            // The place is free only now, even if nobody waits for the answer any more.
            let _place = &call.place;
            let give_back = watch.is_none();
            if let Some(watch) = watch {
                watch.ended(&pool, &call, &result);
            }
            match result {
                Ok(output) => {
                    // One tape is for one call.
                    match give_back {
                        true => pool.give_back(instance),
                        false => pool.discard(instance),
                    }
                    Attempt::Answered(output)
                }
                Err(fault) => {
                    pool.discard(instance);
                    Attempt::Failed { fault, wrote }
                }
            }
        };
        let span = telemetry::guest_call(&self.service.name, loaded.revision().short_digest());
        let running = self.lane.run(on_lane, running.instrument(span.clone()));
        let attempt = match tokio::time::timeout(wall + SLACK, running).await {
            Ok(Some(attempt)) => attempt,
            // Whether it has written is not known.
            Ok(None) | Err(_) => Attempt::Failed {
                fault: match looked_at.kept_by_host() {
                    true => Fault::Kept,
                    false => Fault::Wall,
                },
                wrote: true,
            },
        };
        if let Attempt::Failed { fault, .. } = &attempt {
            telemetry::failed(&span, fault.kind());
        }
        attempt
    }

    /// What is to be done besides about a request that `loaded` answers; most often nothing.
    fn watch(&self, job: &Job, loaded: &Loaded) -> Option<Watch> {
        if job.needs_sockets() {
            return None;
        }
        let taped = self.recorder.as_ref().and_then(|recorder| {
            let tape = recorder.tape()?;
            Some((recorder.clone(), tape))
        });
        let shadow = self.shadow_of(loaded.revision().digest());
        let (recorder, tape) = match taped {
            Some((recorder, tape)) => (Some(recorder), tape),
            None if shadow.is_some() => (None, Arc::new(Tape::recording())),
            None => return None,
        };
        Some(Watch {
            tape,
            recorder,
            shadow,
            lane: self.aside.clone(),
        })
    }

    /// Brings what came of a call to the revision's quarantine.
    fn note_time(&self, loaded: &Loaded, trying: Option<Trying>, attempt: &Attempt) {
        let late = match attempt {
            Attempt::Answered(_) => false,
            Attempt::Failed { fault, .. } => matches!(fault, Fault::Cpu | Fault::Wall),
        };
        let unknown = matches!(attempt, Attempt::Failed { fault, .. } if fault.is_ours());
        let change = match trying {
            // It says nothing of the component: the next request tries.
            Some(_) if unknown => return,
            Some(trying) => trying.end(late),
            None if late => loaded.quarantine.timed_out(Instant::now()),
            None => Change::Nothing,
        };
        let (name, revision) = (&self.service.name, loaded.revision().short_digest());
        match change {
            Change::Nothing => {}
            Change::Began => {
                metrics::counter!("lockgate_quarantines_total", "service" => name.clone())
                    .increment(1);
                tracing::error!(
                    service = name,
                    revision,
                    "too many calls ran past their time: the component is in quarantine"
                );
            }
            Change::Ended => {
                tracing::warn!(
                    service = name,
                    revision,
                    "the component works again: its quarantine is over"
                );
            }
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
}

impl Loaded {
    /// Only some revisions serve sockets.
    fn can_do(&self, job: &Job) -> bool {
        !job.needs_sockets() || self.revision().sockets().is_some()
    }

    /// May a request go to this revision? If not, how long it rests.
    fn enter(self: &Arc<Self>, now: Instant) -> Result<Option<Trying>, Duration> {
        match self.quarantine.admit(now) {
            Entry::Open => Ok(None),
            Entry::Probe => Ok(Some(Trying(Some(self.clone())))),
            Entry::Resting(left) => Err(left),
        }
    }
}

/// The one request that tries a revision in quarantine. Dropped before its end, it
/// leaves the next request to try.
struct Trying(Option<Arc<Loaded>>);

impl Trying {
    fn end(mut self, late: bool) -> Change {
        let loaded = self.0.take();
        loaded.map_or(Change::Nothing, |loaded| {
            loaded.quarantine.tried(Some(late), Instant::now())
        })
    }
}

impl Drop for Trying {
    fn drop(&mut self) {
        if let Some(loaded) = self.0.take() {
            loaded.quarantine.tried(None, Instant::now());
        }
    }
}

/// One request on a tape, and who wants that.
struct Watch {
    tape: Arc<Tape>,
    recorder: Option<Arc<Recorder>>,
    shadow: Option<Arc<Shadow>>,
    lane: Share,
}

impl Watch {
    fn ended(self, pool: &Arc<Pool>, call: &Call, result: &Result<Output, Fault>) {
        let (id, job, outcome) = (&call.request_id, &call.job, recorder::outcome(result));
        if let Some(recorder) = &self.recorder {
            recorder.ended(&self.tape, pool, &self.lane, id, job, &outcome);
        }
        if let Some(shadow) = self.shadow {
            shadow.follow(&self.tape, id, job, outcome);
        }
    }
}

#[derive(Clone)]
struct Call {
    request_id: Arc<str>,
    job: Arc<Job>,
    place: Arc<OwnedSemaphorePermit>,
}

enum Attempt {
    Answered(Output),
    Failed { fault: Fault, wrote: bool },
}

/// A request that only reads (RFC 9110 section 9.2.1), or what had made no write yet.
fn may_run_again(job: &Job, wrote: bool) -> bool {
    let reads = matches!(job, Job::Request(request)
        if matches!(request.method.as_str(), "GET" | "HEAD" | "OPTIONS"));
    reads || !wrote
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
    use crate::bindings::lockgate::plugin::types::{Caller, Origin};

    fn request(method: &str) -> Request {
        Request {
            method: method.to_owned(),
            path: "/".to_owned(),
            query: None,
            headers: Vec::new(),
            body: Vec::new(),
            caller: Caller {
                address: "192.0.2.1".to_owned(),
                origin: Origin::Absent,
                service: false,
            },
            extensions: Vec::new(),
        }
    }

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
            let job = Job::Request(request(method));
            assert_eq!(may_run_again(&job, wrote), expected, "{method} {wrote}");
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
