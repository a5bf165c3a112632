//! One store with one instance of a revision: starts it, calls it, and says in which
//! way a call failed. After a fault the instance is not to be used again.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use wasmtime::Store;
use wasmtime_wasi_http::p2::bindings::Proxy;

use crate::bindings::Plugin;
use crate::bindings::lockgate::plugin::types::Request;
use crate::bindings::socket_events::{self, Action, Connection, Ending, SocketEvents};
use crate::engine::Engine;
use crate::imports::{Context, HostCallLimit, Purpose, Scope, Tap};
use crate::response::{self, BadActions, BadResponse};
use crate::revision::{Handler, Revision, one_line};
use crate::sandbox::{self, HostData, Lines, Meter, Overrun};
use crate::tape::{Difference, Tape};
use crate::wasi_http::{self, Failure};

/// Why a call gave no usable answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The guest trapped.
    #[error("the component trapped: {0}")]
    Trap(String),
    /// The guest wanted more memory or table elements than it may have.
    #[error("the component went over its memory limit: {0}")]
    Memory(String),
    /// The guest computed too long.
    #[error("the component used up its CPU time")]
    Cpu,
    /// The call took too long, host calls included.
    #[error("the component took too long")]
    Wall,
    /// The host took too long over one of the guest's calls: not the component's fault.
    #[error("the host took too long over a call of the component")]
    Kept,
    /// The guest made too many host calls.
    #[error("the component made {0}")]
    HostCalls(String),
    /// The guest's answer breaks HTTP's rules or its limits.
    #[error("the component gave an answer that cannot be sent: {0}")]
    BadAnswer(#[from] BadResponse),
    /// The guest's actions for a socket are over their limits.
    #[error("the component gave actions that cannot be done: {0}")]
    BadActions(#[from] BadActions),
    /// The revision serves no sockets.
    #[error("the component exports no `websocket`")]
    NoSockets,
    /// In a replay it asked what was not recorded; what that is, the tape says.
    #[error("the component asked what was not recorded")]
    OffTape,
    /// No place for another instance right now: not the component's fault.
    #[error("there is no room for another instance")]
    Crowded,
}

impl Fault {
    /// True if the component may well be good.
    pub fn is_ours(&self) -> bool {
        matches!(self, Fault::Crowded | Fault::Kept)
    }

    /// One word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Trap(_) => "trap",
            Fault::Memory(_) => "memory",
            Fault::Cpu => "cpu",
            Fault::Wall => "wall",
            Fault::Kept => "kept",
            Fault::HostCalls(_) => "host_calls",
            Fault::BadAnswer(_) | Fault::BadActions(_) => "bad_answer",
            Fault::NoSockets => "no_sockets",
            Fault::OffTape => "off_tape",
            Fault::Crowded => "crowded",
        }
    }
}

/// What an instance is called for.
#[derive(Debug)]
pub enum Job {
    /// A request of a client.
    Request(Request),
    /// A socket was opened.
    Open(Connection, Request),
    /// Something happened on a socket.
    Message(Connection, socket_events::Event),
    /// A socket has ended.
    Closed(Connection, Ending),
}

impl Job {
    /// For the eye.
    pub fn name(&self) -> &'static str {
        match self {
            Job::Request(_) => "request",
            Job::Open(..) => "socket open",
            Job::Message(..) => "socket message",
            Job::Closed(..) => "socket closed",
        }
    }

    /// Only a plugin that serves sockets can do it.
    pub fn needs_sockets(&self) -> bool {
        !matches!(self, Job::Request(_))
    }
}

/// What came of a job.
#[derive(Debug)]
pub enum Output {
    /// Of a request: checked against HTTP's rules and the component's limits.
    Response(http::Response<Bytes>),
    /// Of a socket's event, checked against the limits.
    Actions(Vec<Action>),
}

/// What answers a request, by the contract of the service.
enum Guest {
    Plugin(Plugin),
    WasiHttp(Proxy),
}

/// One store and what runs in it. Serves one call at a time.
pub struct Instance {
    store: Store<HostData>,
    guest: Guest,
    sockets: Option<SocketEvents>,
    revision: Arc<Revision>,
    served: u32,
}

impl Instance {
    /// Instantiates the revision. Guest code may run (start functions), so this too
    /// belongs on the lane with `meter`. What it asks of the host from then on is written on
    /// the tape, or answered from it, if there is one.
    ///
    /// # Errors
    /// [`Fault`] if it traps, takes too long, wants too much, or there is no room.
    pub async fn start(
        engine: &Engine,
        revision: Arc<Revision>,
        scope: Arc<Scope>,
        meter: Arc<Meter>,
        tape: Option<Arc<Tape>>,
    ) -> Result<Instance, Fault> {
        let mut store = new_store(engine, &revision, scope, meter, tape);
        let started = async {
            let instance = revision.pre().instantiate_async(&mut store).await?;
            let guest = match revision.handler() {
                Handler::Plugin(found) => Guest::Plugin(found.load(&mut store, &instance)?),
                Handler::WasiHttp(found) => Guest::WasiHttp(found.load(&mut store, &instance)?),
            };
            let sockets = revision.sockets();
            let sockets = sockets.map(|events| events.load(&mut store, &instance));
            wasmtime::Result::Ok((guest, sockets.transpose()?))
        };
        match started.await {
            Ok((guest, sockets)) => {
                revision.instances().increment(1.0);
                Ok(Instance {
                    store,
                    guest,
                    sockets,
                    revision,
                    served: 0,
                })
            }
            Err(error) => Err(fault(&error, &store)),
        }
    }

    /// Calls the export that the job is for.
    ///
    /// # Errors
    /// [`Fault`]; the instance must then be thrown away.
    pub async fn call(
        &mut self,
        meter: Arc<Meter>,
        request_id: &str,
        job: &Job,
    ) -> Result<Output, Fault> {
        self.begin(Purpose::Request, request_id, meter);
        let output = self.enter(request_id, job).await;
        self.end();
        output
    }

    async fn enter(&mut self, request_id: &str, job: &Job) -> Result<Output, Fault> {
        let store = &mut self.store;
        let limits = &self.revision.service().limits;
        let events = self.sockets.as_ref().ok_or(Fault::NoSockets);
        let events = events.map(|events| events.lockgate_plugin_websocket());
        let done = match job {
            Job::Request(request) => {
                let answer = match &self.guest {
                    Guest::Plugin(plugin) => {
                        let handler = plugin.lockgate_plugin_handler();
                        let answer = handler.call_handle(&mut *store, request).await;
                        let answer = answer.map_err(|error| fault(&error, store))?;
                        response::convert(answer, limits)?
                    }
                    Guest::WasiHttp(guest) => {
                        let answer = wasi_http::call(store, guest, request, request_id, limits);
                        answer.await.map_err(|failure| match failure {
                            Failure::Call(error) => fault(&error, store),
                            Failure::Answer(bad) => bad.into(),
                        })?
                    }
                };
                return Ok(Output::Response(answer));
            }
            Job::Open(connection, request) => {
                events?.call_open(&mut *store, connection, request).await
            }
            Job::Message(connection, event) => {
                events?.call_message(&mut *store, connection, event).await
            }
            Job::Closed(connection, ending) => {
                let done = events?.call_closed(&mut *store, connection, ending).await;
                done.map(|()| Vec::new())
            }
        };
        let actions = done.map_err(|error| fault(&error, store))?;
        Ok(Output::Actions(response::checked_actions(actions, limits)?))
    }

    /// True if the last call began a host call that changes something.
    pub fn wrote(&self) -> bool {
        self.store.data().tap.context.wrote()
    }

    /// True once it has served as many requests as one instance may, or holds what belongs
    /// to a request that is over.
    pub fn is_worn(&self) -> bool {
        let holds = match self.guest {
            Guest::Plugin(_) => false,
            Guest::WasiHttp(_) => !self.store.data().holds_nothing(),
        };
        holds || self.served >= self.revision.service().limits.reuse
    }

    fn begin(&mut self, purpose: Purpose, request_id: &str, meter: Arc<Meter>) {
        self.served = self.served.saturating_add(1);
        let data = self.store.data_mut();
        data.meter = meter;
        data.limiter.begin();
        data.tap.context.begin(purpose, request_id);
        let limits = &self.revision.service().limits;
        lines(&self.store).begin(request_id, limits);
        self.store.set_epoch_deadline(1);
    }

    fn end(&mut self) {
        lines(&self.store).end();
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.revision.instances().decrement(1.0);
    }
}

/// Calls `self-test.run` in an instance of its own: findings in words, none if it is
/// ready or exports no such function.
///
/// # Errors
/// [`Fault`] as for a request.
pub async fn self_test(
    engine: &Engine,
    revision: Arc<Revision>,
    scope: Arc<Scope>,
    meter: Arc<Meter>,
) -> Result<Vec<String>, Fault> {
    let Some(export) = revision.self_test().copied() else {
        return Ok(Vec::new());
    };
    let mut store = new_store(engine, &revision, scope, meter, None);
    store
        .data_mut()
        .tap
        .context
        .begin(Purpose::SelfTest, "self-test");
    lines(&store).begin("self-test", &revision.service().limits);
    let found = async {
        let instance = revision.pre().instantiate_async(&mut store).await?;
        let run = instance.get_typed_func::<(), (Vec<String>,)>(&mut store, export)?;
        run.call_async(&mut store, ()).await
    };
    let found = found.await;
    lines(&store).end();
    found
        .map(|(findings,)| findings)
        .map_err(|error| fault(&error, &store))
}

fn new_store(
    engine: &Engine,
    revision: &Revision,
    scope: Arc<Scope>,
    meter: Arc<Meter>,
    tape: Option<Arc<Tape>>,
) -> Store<HostData> {
    let service = revision.service();
    let limits = &service.limits;
    let taped = tape.as_ref().and_then(|tape| tape.environment());
    let data = HostData::new(
        Tap::new(Context::new(scope), tape.clone()),
        tape.as_ref(),
        revision.short_digest(),
        service,
        taped.unwrap_or(&service.env),
        meter,
    );
    let mut store = Store::new(engine.wasmtime(), data);
    store.limiter(|data| &mut data.limiter);
    store.epoch_deadline_callback(sandbox::on_tick);
    store.set_epoch_deadline(1);
    // One host call copies at most this much out of the guest: an answer, or the two
    // values of a compare-and-set, and what stands around them.
    let values = limits.value.saturating_mul(2);
    let copied = limits.response_body.max(values);
    store.set_hostcall_fuel(copied.saturating_add(256 << 10));
    store
}

fn lines(store: &Store<HostData>) -> MutexGuard<'_, Lines> {
    store
        .data()
        .lines
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

/// Time of a call that is not a request: the self-test, or making an instance ahead.
pub fn patient_meter(revision: &Revision) -> Arc<Meter> {
    let limits = &revision.service().limits;
    let wall = limits.wall.max(Duration::from_secs(2));
    Arc::new(Meter::new(limits.cpu.max(Duration::from_millis(500)), wall))
}

fn fault(error: &wasmtime::Error, store: &Store<HostData>) -> Fault {
    if let Some(overrun) = error.downcast_ref::<Overrun>() {
        return match overrun {
            Overrun::Cpu => Fault::Cpu,
            Overrun::Wall if store.data().meter.kept_by_host() => Fault::Kept,
            Overrun::Wall => Fault::Wall,
        };
    }
    if let Some(limit) = error.downcast_ref::<HostCallLimit>() {
        return Fault::HostCalls(limit.to_string());
    }
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return Fault::Crowded;
    }
    if error.is::<Difference>() {
        return Fault::OffTape;
    }
    let what = match (
        error.downcast_ref::<wasmtime::Trap>(),
        error.is::<wasmtime_wasi::I32Exit>(),
    ) {
        (Some(trap), _) => trap.to_string().replace("wasm trap: ", ""),
        (None, true) => "it called exit".to_owned(),
        (None, false) => cause(error),
    };
    if store.data().limiter.refused() {
        Fault::Memory(what)
    } else {
        Fault::Trap(what)
    }
}

/// The innermost cause: what stands around it is wasmtime's backtrace.
fn cause(error: &wasmtime::Error) -> String {
    one_line(&error.root_cause().to_string())
}
