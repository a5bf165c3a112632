//! Sockets of one service (RFC 6455): the handshake, and the task that each socket
//! gets. The plugin decides what is said; the host owns the socket, so that a swap
//! changes the code for the next event and never the socket. It judges no token.

mod handshake;
mod relay;
mod session;
mod wire;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use metrics::{counter, gauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bindings::lockgate::plugin::types;
use crate::config::{Config, Sockets};
use crate::respond::Fault;
use crate::slot::Slot;
use crate::state::State;
use session::Session;

/// Sockets that are not admitted yet, or were refused and are still being closed.
const OPENING: usize = 1024;
/// A client that found no place may come again then.
const RETRY: Duration = Duration::from_secs(1);
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
    stopped_at: OnceLock<Instant>,
    open: AtomicUsize,
    opening: Arc<Semaphore>,
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
            upstream: Arc::new(relay::Settings::new(
                state.chat()?.clone(),
                config.chat_reply_timeout,
            )),
            tasks,
            stop,
            spread: config.server.drain.saturating_sub(FAREWELL),
            stopped_at: OnceLock::new(),
            open: AtomicUsize::new(0),
            opening: Arc::new(Semaphore::new(OPENING)),
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
    /// [`Fault`]: this is no handshake, or there is no place for another socket.
    pub fn accept(
        self: &Arc<Self>,
        parts: &mut Parts,
        request: types::Request,
        id: &str,
    ) -> Result<Response<Bytes>, Fault> {
        let response = handshake::answer(parts)?;
        let upgrade = parts.extensions.remove::<OnUpgrade>();
        let upgrade = upgrade.ok_or(Fault::Malformed)?;
        let place = Place::take(self).ok_or(Fault::Busy(RETRY))?;
        self.tasks
            .spawn(Session::run(place, upgrade, request, id.to_owned()));
        Ok(response)
    }

    /// When the host stops, each socket leaves after its share (0 to 1) of a stretch of
    /// time, for all at once would come back at once.
    async fn leaving(&self, share: f64) {
        self.stop.cancelled().await;
        let stopped_at = *self.stopped_at.get_or_init(Instant::now);
        sleep_until(stopped_at + self.spread.mul_f64(share)).await;
    }
}

/// One socket's place in the count.
struct Place {
    hub: Arc<Hub>,
    /// Held until the socket is admitted: who has shown nothing yet has fewer places.
    opening: Option<OwnedSemaphorePermit>,
}

impl Place {
    fn take(hub: &Arc<Hub>) -> Option<Place> {
        if hub.stop.is_cancelled() {
            return None;
        }
        let opening = hub.opening.clone().try_acquire_owned().ok()?;
        let service = hub.slot.service().name.clone();
        gauge!("lockgate_sockets_open", "service" => service.clone()).increment(1.0);
        let before = hub.open.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            hub: hub.clone(),
            opening: Some(opening),
        };
        if before >= hub.limits.most {
            return None;
        }
        counter!("lockgate_sockets_opened_total", "service" => service).increment(1);
        Some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hub.open.fetch_sub(1, Ordering::Relaxed);
        let service = self.hub.slot.service().name.clone();
        gauge!("lockgate_sockets_open", "service" => service).decrement(1.0);
    }
}
