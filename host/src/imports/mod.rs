//! The host side of `wit/`: one file per interface, named as its WIT file. Guests
//! are not trusted: every call is counted and checked against the service's grants.
//! These modules know nothing of HTTP.

use std::sync::Arc;

mod breakers;
mod counters;
mod csrf;
mod events;
mod fallback;
mod jwt;
mod limiter;
mod peers;
mod redis;
mod revocations;
mod sockets;
mod tap;
mod users;

use wasmtime::component::{HasSelf, Linker};

pub use tap::Tap;

use crate::bindings::lockgate::plugin as wit;
use crate::clock::Clock;
use crate::config::{Grants, ServiceConfig};
use crate::state::State;
use crate::store::overlay::Overlay;
use crate::store::{Budget, Budgeted, Store};

/// Why a call into the guest was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A request of a client.
    Request,
    /// The self-test before a swap: writes are refused.
    SelfTest,
}

/// What all instances of one service share: its grants, its limits, the state.
#[derive(Debug)]
pub struct Scope {
    service: ServiceConfig,
    state: Arc<State>,
}

impl Scope {
    /// One for each service.
    pub fn new(service: &ServiceConfig, state: Arc<State>) -> Scope {
        Scope {
            service: service.clone(),
            state,
        }
    }
}

/// What the host remembers of the call that runs in one instance.
#[derive(Debug)]
pub struct Context {
    scope: Arc<Scope>,
    purpose: Purpose,
    request_id: String,
    calls: u32,
    wrote: bool,
    denials: u32,
    budget: Budget,
    /// What a shadow writes stays here.
    overlay: Option<Overlay>,
}

/// Denied calls of one request that are logged one by one; all are counted.
const DENIALS_SHOWN: u32 = 3;

impl Context {
    /// One for each instance; [`Context::begin`] comes before each call.
    pub fn new(scope: Arc<Scope>) -> Context {
        let budget = Budget::new(scope.state.request_budget());
        Context {
            scope,
            purpose: Purpose::SelfTest,
            request_id: String::new(),
            calls: 0,
            wrote: false,
            denials: 0,
            budget,
            overlay: None,
        }
    }

    /// From now on what it writes to the shared store stays with this instance. Other
    /// changes are the tape's to keep away.
    fn write_nothing(&mut self) {
        self.overlay = Some(Overlay::new(self.scope.state.shared_store()));
    }

    /// Resets the budgets for the next call into the guest.
    pub fn begin(&mut self, purpose: Purpose, request_id: &str) {
        self.purpose = purpose;
        request_id.clone_into(&mut self.request_id);
        self.calls = 0;
        self.wrote = false;
        self.denials = 0;
        self.budget.reset(self.scope.state.request_budget());
    }

    /// True if a host call that changes something was begun: the request must
    /// then not be run again.
    pub fn wrote(&self) -> bool {
        self.wrote
    }

    /// What the guest is to take for the time.
    pub fn clock(&self) -> &Clock {
        self.scope.state.clock()
    }

    /// True if the next host call is one too many.
    fn is_spent(&self) -> bool {
        self.calls >= self.scope.service.limits.host_calls
    }

    /// Comes first in every host call: counts it, and traps when it is one too many.
    fn enter(&mut self) -> wasmtime::Result<()> {
        let limit = self.scope.service.limits.host_calls;
        if self.calls >= limit {
            return Err(HostCallLimit { limit }.into());
        }
        self.calls += 1;
        Ok(())
    }

    /// Comes before every change. False: not now, this is a self-test.
    fn may_write(&mut self) -> bool {
        if self.in_self_test() {
            return false;
        }
        self.wrote = true;
        true
    }

    /// True while the guest checks itself: nothing may be counted or changed.
    fn in_self_test(&self) -> bool {
        self.purpose == Purpose::SelfTest
    }

    fn state(&self) -> &Arc<State> {
        &self.scope.state
    }

    fn service(&self) -> &ServiceConfig {
        &self.scope.service
    }

    fn grants(&self) -> &Grants {
        &self.scope.service.grants
    }

    /// The id of the request that is being answered.
    fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The shared store, within what this request may still spend on it.
    fn store(&self) -> Budgeted<'_> {
        let store = self.scope.state.store();
        let overlay = self.overlay.as_ref().map(|overlay| overlay as &dyn Store);
        self.budget.guard(overlay.unwrap_or(store))
    }

    /// Notes a call that no grant covers.
    pub fn denied(&mut self, what: &str) {
        // What a shadow may not do is no alarm.
        if self.overlay.is_some() {
            return;
        }
        metrics::counter!("lockgate_denied_total", "service" => self.service().name.clone())
            .increment(1);
        self.denials = self.denials.saturating_add(1);
        if self.denials > DENIALS_SHOWN {
            return;
        }
        tracing::warn!(
            service = self.service().name,
            request = self.request_id,
            what,
            "a host call was denied"
        );
    }
}

/// The guest made more host calls than its service allows in one request.
#[derive(Debug, thiserror::Error)]
#[error("more than {limit} host calls in one request")]
pub struct HostCallLimit {
    /// The service's limit.
    pub limit: u32,
}

/// Links the granted interfaces, and only these: a component that imports another
/// one does not load.
///
/// # Errors
/// An interface was linked before.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    grants: &Grants,
    get: fn(&mut T) -> &mut Tap,
) -> wasmtime::Result<()> {
    /// One line for each interface of `wit/` that has functions.
    macro_rules! link {
        ($($name:literal => $module:ident),* $(,)?) => {
            $(if grants.interfaces.contains($name) {
                wit::$module::add_to_linker::<T, HasSelf<Tap>>(linker, get)?;
            })*
        };
    }
    link!(
        "breakers" => breakers,
        "counters" => counters,
        "csrf" => csrf,
        "events" => events,
        "fallback" => fallback,
        "jwt" => jwt,
        "limiter" => limiter,
        "peers" => peers,
        "redis" => redis,
        "revocations" => revocations,
        "sockets" => sockets,
        "users" => users,
    );
    Ok(())
}
