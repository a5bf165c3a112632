//! Sockets of one service (RFC 6455): the handshake, and the task that each socket
//! gets. The plugin decides what is said; the host owns the socket, so that a swap
//! changes the code for the next event and never the socket. It judges no token.

mod handshake;
mod relay;
mod session;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use metrics::{counter, gauge};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bindings::lockgate::plugin::types;
use crate::config::{Config, Sockets};
use crate::respond::Fault;
use crate::slot::Slot;
use crate::state::State;
use session::Session;

/// What the closing handshakes of a drain may take.
const FAREWELL: Duration = Duration::from_millis(1500);

/// How the sockets of one service are served.
pub struct Hub {
    slot: Arc<Slot>,
    state: Arc<State>,
    limits: Sockets,
    upstream: Arc<relay::Settings>,
    /// The sockets' tasks; the process waits for them at its end.
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Over so long the sockets are closed when the host stops.
    spread: Duration,
    open: AtomicUsize,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("service", &self.slot.service().name)
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// None if the service may not serve sockets.
    pub fn new(
        slot: &Arc<Slot>,
        state: &Arc<State>,
        config: &Config,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Option<Arc<Hub>> {
        let service = slot.service();
        if service.socket_paths.is_empty() || !service.grants.sockets.contains("serve") {
            return None;
        }
        Some(Arc::new(Hub {
            slot: slot.clone(),
            state: state.clone(),
            limits: config.sockets,
            upstream: Arc::new(relay::Settings {
                url: config.chat_upstream_url.clone(),
                patience: config.chat_reply_timeout,
            }),
            tasks,
            stop,
            spread: config.server.drain.saturating_sub(FAREWELL),
            open: AtomicUsize::new(0),
        }))
    }

    /// True if sockets are served at this path.
    pub fn serves(&self, path: &str) -> bool {
        let paths = &self.slot.service().socket_paths;
        paths.iter().any(|known| known == path)
    }

    /// Accepts a socket, whoever asks for it: whether it may stay is decided
    /// afterwards, because a browser cannot see a refused handshake.
    ///
    /// # Errors
    /// [`Fault`]: this is no handshake.
    pub fn accept(
        self: &Arc<Self>,
        parts: &mut Parts,
        request: types::Request,
        id: &str,
    ) -> Result<Response<Bytes>, Fault> {
        let response = handshake::answer(parts)?;
        let upgrade = parts.extensions.remove::<OnUpgrade>();
        let upgrade = upgrade.ok_or(Fault::Malformed)?;
        let place = Place::take(self);
        self.tasks
            .spawn(Session::run(place, upgrade, request, id.to_owned()));
        Ok(response)
    }
}

/// One socket's place in the count.
struct Place {
    hub: Arc<Hub>,
    /// It is one too many.
    over: bool,
}

impl Place {
    fn take(hub: &Arc<Hub>) -> Place {
        let before = hub.open.fetch_add(1, Ordering::Relaxed);
        let service = hub.slot.service().name.clone();
        counter!("lockgate_sockets_opened_total", "service" => service.clone()).increment(1);
        gauge!("lockgate_sockets_open", "service" => service).increment(1.0);
        Place {
            over: before >= hub.limits.most,
            hub: hub.clone(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hub.open.fetch_sub(1, Ordering::Relaxed);
        let service = self.hub.slot.service().name.clone();
        gauge!("lockgate_sockets_open", "service" => service).decrement(1.0);
    }
}
