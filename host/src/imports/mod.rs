//! The host side of `wit/`: one file per interface, named as its WIT file. Guests
//! are not trusted: every call is counted and checked against the service's grants.
//! These modules know nothing of HTTP.

use std::sync::Arc;

use wasmtime::component::Linker;

use crate::config::{Grants, ServiceConfig};
use crate::state::State;

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
    #[expect(dead_code, reason = "read by the interfaces that are built on it next")]
    service: ServiceConfig,
    #[expect(dead_code, reason = "read by the interfaces that are built on it next")]
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
    #[expect(dead_code, reason = "read by the interfaces that are built on it next")]
    scope: Arc<Scope>,
    wrote: bool,
}

impl Context {
    /// One for each instance; [`Context::begin`] comes before each call.
    pub fn new(scope: Arc<Scope>) -> Context {
        Context {
            scope,
            wrote: false,
        }
    }

    /// Resets the budgets for the next call into the guest.
    pub fn begin(&mut self, purpose: Purpose, request_id: &str) {
        let _ = (purpose, request_id);
        self.wrote = false;
    }

    /// True if a host call that changes something was begun: the request must
    /// then not be run again.
    pub fn wrote(&self) -> bool {
        self.wrote
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
    get: fn(&mut T) -> &mut Context,
) -> wasmtime::Result<()> {
    let _ = (linker, grants, get);
    Ok(())
}
