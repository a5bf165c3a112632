//! Listeners and connections: the accept loop, the limits on slow or silent
//! clients, and the drain. It knows nothing of services.

mod body;
mod wire;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use hyper::body::Body;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Server;
use body::Exchange;
pub use body::RequestBody;
use wire::Wire;

/// A client must take some of an answer this often.
const WRITE_STALL: Duration = Duration::from_secs(10);

/// HTTP/2 streams on one connection.
const MAX_STREAMS: u32 = 128;

/// An HTTP/2 connection is asked this often if it is still there.
const H2_PING: Duration = Duration::from_secs(20);

/// How an HTTP/2 connection with prior knowledge begins (RFC 9113 section 3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Room in hyper beyond our own limits, so that a request that is over ours is still
/// read and gets an answer in the contract's form.
const HEADROOM: usize = 2;

/// What answers requests: a function of the peer's address and the request.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Body of the answer.
    type Body: Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + 'static;

    /// Answers one request.
    fn call(
        &self,
        peer: SocketAddr,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// Accepts connections until `stop`, then lets open requests end for the drain time
/// and returns.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    handler: H,
    limits: Server,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let connections = TaskTracker::new();
    let kill = CancellationToken::new();
    let builder = Arc::new(builder(&limits));
    while let Some((stream, peer, place)) = accept(&listener, &places, &stop).await {
        let task = connection(
            stream,
            peer,
            handler.clone(),
            Arc::clone(&builder),
            limits.header_read,
            stop.clone(),
            kill.clone(),
        );
        connections.spawn(async move {
            task.await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.drain, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            left = connections.len(),
            "connections cut off at the end of the drain"
        );
        kill.cancel();
        connections.wait().await;
    }
}

/// The next connection, when there is a place for it; `None` at the stop.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    loop {
        let next = async {
            let place = Arc::clone(places).acquire_owned().await.ok()?;
            Some((listener.accept().await, place))
        };
        let (accepted, place) = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            next = next => next?,
        };
        match accepted {
            Ok((stream, peer)) => return Some((stream, peer, place)),
            Err(error) => {
                // Out of file descriptors, most likely: closing connections frees some.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn builder(limits: &Server) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_headers(limits.max_headers.saturating_mul(HEADROOM))
        .max_buf_size(
            limits
                .max_header_bytes
                .saturating_mul(HEADROOM)
                .max(16 << 10),
        );
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(
            u32::try_from(limits.max_header_bytes.saturating_mul(HEADROOM)).unwrap_or(u32::MAX),
        )
        .keep_alive_interval(H2_PING)
        .keep_alive_timeout(WRITE_STALL);
    builder
}

/// One connection, from the first byte to the last.
async fn connection<H: Handler>(
    stream: TcpStream,
    peer: SocketAddr,
    handler: H,
    builder: Arc<auto::Builder<TokioExecutor>>,
    header_read: Duration,
    stop: CancellationToken,
    kill: CancellationToken,
) {
    let begun = tokio::select! {
        begun = tokio::time::timeout(header_read, begin(&stream)) => begun,
        () = stop.cancelled() => return,
    };
    let Ok(Ok(Some(version))) = begun else {
        return;
    };
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_STALL));
    let exchange = Arc::new(Exchange::default());
    let known = Arc::clone(&exchange);
    let service = service_fn(move |request: Request<_>| {
        known.handled.store(true, Ordering::Relaxed);
        let (handler, known) = (handler.clone(), Arc::clone(&known));
        let request = request.map(|body| RequestBody::new(body, Arc::clone(&known)));
        async move {
            let mut response = handler.call(peer, request).await;
            // The rest of the body is in the way of the next request (RFC 9112 section 9.6).
            if version == Version::Http1 && known.unread.load(Ordering::Relaxed) {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        }
    });
    match version {
        Version::Http1 => {
            let io = TokioIo::new(Wire::new(stream, exchange));
            drive(
                builder.serve_connection_with_upgrades(io, service),
                stop,
                kill,
            )
            .await;
        }
        Version::Http2 => {
            let io = TokioIo::new(Box::pin(stream));
            drive(
                builder.serve_connection_with_upgrades(io, service),
                stop,
                kill,
            )
            .await;
        }
    }
}

/// Lets a connection run to its end; at the stop it ends after the open requests.
async fn drive<C: GracefulConnection<Error: std::fmt::Display>>(
    serving: C,
    stop: CancellationToken,
    kill: CancellationToken,
) {
    tokio::pin!(serving);
    let mut draining = false;
    loop {
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = stop.cancelled(), if !draining => {
                draining = true;
                serving.as_mut().graceful_shutdown();
            }
            () = kill.cancelled() => return,
        }
    }
}

/// How a connection begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

/// Waits until the first bytes tell the HTTP version: hyper's own look at them has no
/// time limit. None if the client has gone.
async fn begin(stream: &TcpStream) -> std::io::Result<Option<Version>> {
    let mut first = [0; H2_PREFACE.len()];
    loop {
        let length = stream.peek(&mut first).await?;
        let seen = first.get(..length).unwrap_or_default();
        if length == 0 {
            return Ok(None);
        }
        if !H2_PREFACE.starts_with(seen) {
            return Ok(Some(Version::Http1));
        }
        if length == H2_PREFACE.len() {
            return Ok(Some(Version::Http2));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
