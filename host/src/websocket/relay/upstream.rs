//! The connection to the upstream: how it is made, what it costs, how it went. It knows
//! no question.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{counter, gauge};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::bindings::socket_events::Failure;
use crate::chat::{Stream, Target};
use crate::websocket::wire;

/// Connecting, with the handshake.
const CONNECT: Duration = Duration::from_secs(5);
/// One message of the upstream, bytes.
const MESSAGE: usize = 1 << 20;

/// The result of a connection that was made.
pub(super) const REACHED: &str = "ok";

/// A connection that is open.
pub(super) type Upstream = WebSocketStream<Stream>;

/// Where the upstream of all sockets is, how long an answer may take, and how the last
/// connection went.
#[derive(Debug)]
pub(in crate::websocket) struct Settings {
    pub(super) target: Arc<Target>,
    pub(super) patience: Duration,
    last: Mutex<Option<&'static str>>,
}

impl Settings {
    pub(in crate::websocket) fn new(target: Arc<Target>, patience: Duration) -> Settings {
        Settings {
            target,
            patience,
            last: Mutex::new(None),
        }
    }

    /// Counts a connection, and logs a result that is another than the one before: it is
    /// the same upstream for all.
    pub(super) fn note(&self, result: &'static str) {
        counter!("lockgate_upstream_connects_total", "result" => result).increment(1);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.replace(result) == Some(result) {
            return;
        }
        if result == REACHED {
            tracing::info!("the upstream of the sockets is connected");
        } else {
            tracing::warn!(result, "the upstream of the sockets is not connected");
        }
    }
}

/// One open connection, in the count while it lives.
pub(super) struct Open {
    /// It has said something.
    pub(super) spoke: bool,
}

impl Open {
    pub(super) fn new() -> Open {
        gauge!("lockgate_upstream_open").increment(1.0);
        Open { spoke: false }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        gauge!("lockgate_upstream_open").decrement(1.0);
    }
}

/// The upstream's URL with both parameters, percent-encoded (RFC 3986 section 2.1).
pub(super) fn with_pass(url: &str, token: &str, session_id: &str) -> String {
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let mark = if url.contains('?') { '&' } else { '?' };
    format!(
        "{url}{mark}token={}&session_id={}",
        encoded(token),
        encoded(session_id)
    )
}

/// Makes a connection.
///
/// # Errors
/// [`Failure`]: it was refused, or there is none in time.
pub(super) async fn connect(target: Arc<Target>, url: String) -> Result<Box<Upstream>, Failure> {
    let connected = timeout(CONNECT, handshake(&target, url)).await;
    connected.unwrap_or(Err(Failure::Unreachable))
}

async fn handshake(target: &Target, url: String) -> Result<Box<Upstream>, Failure> {
    let request = url.into_client_request();
    let request = request.map_err(|_| Failure::Unreachable)?;
    let stream = target.connect().await;
    let stream = stream.map_err(|_| Failure::Unreachable)?;
    let config = wire::config(MESSAGE);
    match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
        Ok((upstream, _)) => Ok(Box::new(upstream)),
        Err(Error::Http(answer)) if matches!(answer.status().as_u16(), 401 | 403) => {
            Err(Failure::Refused)
        }
        Err(_) => Err(Failure::Unreachable),
    }
}
