//! One HTTP request of one service: checked against the limits, turned into what
//! the plugin sees, handed to the slot, and the answer checked before it is sent.
//! It holds no component and decides nothing about who a caller is.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body as _;
use metrics::{Counter, Histogram, counter, histogram};
use rand::RngExt;
use tracing::Instrument as _;

use crate::bindings::lockgate::plugin::types;
use crate::caller::{Caller, Judge, Origin};
use crate::config::{Config, Server, ServiceConfig};
use crate::logging::shown_path;
use crate::respond::{self, Fault};
use crate::response;
use crate::server::{Handler, RequestBody};
use crate::slot::{Answer, Refusal, Slot};
use crate::state::{Reachability, State};
use crate::telemetry;
use crate::websocket::Hub;

/// Longest target (path and query) that is read, bytes.
const MAX_TARGET: usize = 16 << 10;

/// Wrong service secrets a minute and address before they are answered 429.
const WRONG_SECRETS_PER_MINUTE: u32 = 10;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SERVICE_SECRET: HeaderName = HeaderName::from_static("x-service-secret");

/// What answers a request that was read and checked: a slot, or where the cost of
/// components is measured the same code without one (`bench/native`).
pub trait Backend: Send + Sync + 'static {
    /// The service that it answers for.
    fn service(&self) -> &ServiceConfig;

    /// Answers one request.
    ///
    /// # Errors
    /// [`Refusal`]: there is no answer that could be sent.
    fn handle(
        &self,
        request: types::Request,
        id: &str,
    ) -> impl Future<Output = Result<Answer, Refusal>> + Send;
}

impl Backend for Slot {
    fn service(&self) -> &ServiceConfig {
        self.service()
    }

    async fn handle(&self, request: types::Request, id: &str) -> Result<Answer, Refusal> {
        self.handle(request, id).await
    }
}

/// One service as HTTP sees it.
#[derive(Debug)]
pub struct Service<B = Slot> {
    backend: Arc<B>,
    state: Arc<State>,
    judge: Arc<Judge>,
    server: Server,
    /// None: the service serves no sockets.
    sockets: Option<Arc<Hub>>,
    meters: Meters,
}

/// Where the requests of one service are counted.
#[derive(Debug)]
struct Meters {
    /// By the first digit of the status, 1 to 5.
    requests: [Counter; 5],
    seconds: Histogram,
}

impl Meters {
    fn new(service: &str) -> Meters {
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        Meters {
            requests: classes.map(|class| {
                counter!("lockgate_requests_total", "service" => service.to_owned(), "status" => class)
            }),
            seconds: histogram!("lockgate_request_seconds", "service" => service.to_owned()),
        }
    }

    fn note(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5);
        if let Some(requests) = self.requests.get(class - 1) {
            requests.increment(1);
        }
        self.seconds.record(took.as_secs_f64());
    }
}

/// What was known of a request when it ended, for its log line.
struct Ending {
    status: StatusCode,
    revision: String,
    trace: Option<String>,
}

impl<B: Backend> Service<B> {
    /// One for each listener.
    pub fn new(
        backend: Arc<B>,
        state: Arc<State>,
        judge: Arc<Judge>,
        config: &Config,
        sockets: Option<Arc<Hub>>,
    ) -> Service<B> {
        Service {
            meters: Meters::new(&backend.service().name),
            sockets,
            backend,
            state,
            judge,
            server: config.server.clone(),
        }
    }

    /// Answers one request; never fails, whatever was sent.
    pub async fn serve(
        &self,
        peer: SocketAddr,
        request: Request<RequestBody>,
    ) -> Response<Full<Bytes>> {
        let started = Instant::now();
        let (mut parts, body) = request.into_parts();
        let id = request_id(&parts.headers);
        let span = telemetry::request(&parts, &self.service().name, &id);
        let answer = self.answer(peer.ip(), &mut parts, body, &id);
        let (mut response, revision) = match answer.instrument(span.clone()).await {
            Ok((response, revision)) => (response, revision),
            Err(fault) => (self.refuse(&parts, &fault), String::from("-")),
        };
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        let ending = Ending {
            status: response.status(),
            revision,
            trace: telemetry::trace_id(&span),
        };
        telemetry::answered(&span, ending.status, &ending.revision);
        self.record(&parts, &id, &ending, started.elapsed());
        finish(&parts.method, response)
    }

    async fn answer(
        &self,
        peer: IpAddr,
        parts: &mut Parts,
        body: RequestBody,
        id: &str,
    ) -> Result<(Response<Bytes>, String), Fault> {
        self.check_head(parts)?;
        let caller = self
            .judge
            .judge(peer, &parts.headers, parts.uri.authority());
        let service = self.is_service(&caller, &parts.headers)?;
        let body = self.read_body(parts, body).await?;
        telemetry::pass_on(&mut parts.headers);
        let request = guest_request(parts, body, caller, service, id);
        if let Some(sockets) = &self.sockets
            && sockets.serves(parts.uri.path())
        {
            let response = sockets.accept(parts, request, id)?;
            return Ok((response, String::from("-")));
        }
        let Answer { response, revision } =
            self.backend.handle(request, id).await.map_err(fault)?;
        Ok((response, revision))
    }

    fn service(&self) -> &ServiceConfig {
        self.backend.service()
    }

    fn check_head(&self, parts: &Parts) -> Result<(), Fault> {
        let hosts = parts.headers.get_all(http::header::HOST).iter().count();
        let needed = parts.version == http::Version::HTTP_11 && parts.uri.authority().is_none();
        if hosts > 1 || (needed && hosts == 0) {
            return Err(Fault::Malformed);
        }
        let target = parts
            .uri
            .path_and_query()
            .map_or(0, |target| target.as_str().len());
        if target > MAX_TARGET {
            return Err(Fault::TargetTooLong);
        }
        let bytes: usize = parts
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        if parts.headers.len() > self.server.max_headers || bytes > self.server.max_header_bytes {
            return Err(Fault::HeadersTooLarge);
        }
        Ok(())
    }

    /// True if the request carries the service secret. Through a trusted proxy it never
    /// counts: then a browser may have sent it.
    fn is_service(&self, caller: &Caller, headers: &HeaderMap) -> Result<bool, Fault> {
        let Some(given) = headers.get(SERVICE_SECRET) else {
            return Ok(false);
        };
        let Some(right) = self.state.service_secret_matches(given.as_bytes()) else {
            return Ok(false);
        };
        if right && !caller.proxied {
            return Ok(true);
        }
        self.state
            .limiter()
            .take(
                "host",
                "service-secret",
                &caller.address,
                WRONG_SECRETS_PER_MINUTE,
            )
            .map_err(|wait| Fault::RateLimited(Duration::from_secs(wait.into())))?;
        Ok(false)
    }

    async fn read_body(&self, parts: &Parts, body: RequestBody) -> Result<Bytes, Fault> {
        let limit = self.service().limits.request_body;
        if declared_length(&parts.headers).is_some_and(|length| length > limit as u64) {
            return Err(Fault::BodyTooLarge);
        }
        if body.is_end_stream() {
            return Ok(Bytes::new());
        }
        let collected = Limited::new(body, limit).collect();
        match tokio::time::timeout(self.server.body_read, collected).await {
            Err(_) => Err(Fault::SlowBody),
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Fault::BodyTooLarge),
            Ok(Err(_)) => Err(Fault::IncompleteBody),
        }
    }

    /// `/health` has its own form, so that whoever watches it sees a word it knows.
    fn refuse(&self, parts: &Parts, fault: &Fault) -> Response<Bytes> {
        if fault.is_ours() && parts.uri.path() == "/health" {
            let states: Vec<_> = self
                .service()
                .dependencies
                .iter()
                .map(|name| (name.as_str(), self.state.dependency(name).as_str()))
                .collect();
            return respond::broken_health(&self.service().reported_name, &states);
        }
        let degraded = self.state.dependency("redis") == Reachability::Disconnected;
        respond::fault(fault, degraded)
    }

    /// One line and two metrics for each request. Neither the query nor any header is
    /// written, and of the path no long part: they may hold tokens.
    fn record(&self, parts: &Parts, id: &str, ending: &Ending, took: Duration) {
        self.meters.note(ending.status, took);
        tracing::info!(
            request_id = id,
            trace_id = ending.trace,
            service = self.service().name,
            revision = ending.revision.as_str(),
            method = parts.method.as_str(),
            path = shown_path(parts.uri.path()),
            status = ending.status.as_u16(),
            ms = took.as_secs_f64() * 1e3,
            "request"
        );
    }
}

impl<B: Backend> Handler for Arc<Service<B>> {
    type Body = Full<Bytes>;

    async fn call(&self, peer: SocketAddr, request: Request<RequestBody>) -> Response<Full<Bytes>> {
        self.serve(peer, request).await
    }
}

/// The slot's refusals, as the error table knows them.
fn fault(refusal: Refusal) -> Fault {
    match refusal {
        Refusal::NoComponent => Fault::NoComponent,
        Refusal::Busy { retry_after } => Fault::Busy(Duration::from_secs(retry_after.into())),
        Refusal::Resting { retry_after } => Fault::Resting(Duration::from_secs(retry_after.into())),
        Refusal::Trapped => Fault::Trapped,
        Refusal::TimedOut => Fault::TimedOut,
        Refusal::BadAnswer => Fault::BadAnswer,
    }
}

/// A caller's own id is kept if it is short and plain, so that logs can be joined.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers
        .get(REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .filter(|id| {
            (1..=64).contains(&id.len())
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        });
    given.map_or_else(
        || format!("{:016x}", rand::rng().random::<u64>()),
        str::to_owned,
    )
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn guest_request(
    parts: &Parts,
    body: Bytes,
    caller: Caller,
    service: bool,
    id: &str,
) -> types::Request {
    let headers = parts
        .headers
        .iter()
        .filter(|(name, _)| *name != SERVICE_SECRET);
    let mut pairs: Vec<(String, String)> = headers
        .filter_map(|(name, value)| {
            let value = std::str::from_utf8(value.as_bytes()).ok()?;
            Some((name.as_str().to_owned(), value.to_owned()))
        })
        .collect();
    // HTTP/2 has `:authority` in its place (RFC 9113 section 8.3.1).
    if let Some(authority) = parts.uri.authority()
        && !parts.headers.contains_key(http::header::HOST)
    {
        pairs.push(("host".to_owned(), authority.as_str().to_owned()));
    }
    types::Request {
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        headers: pairs,
        body: body.into(),
        caller: types::Caller {
            address: caller.address,
            origin: match caller.origin {
                Origin::Absent => types::Origin::Absent,
                Origin::Trusted => types::Origin::Trusted,
                Origin::Foreign => types::Origin::Foreign,
            },
            service,
        },
        extensions: vec![("request-id".to_owned(), id.to_owned())],
    }
}

/// HEAD is answered with the head that GET would have (RFC 9110 section 9.3.2).
fn finish(method: &Method, response: Response<Bytes>) -> Response<Full<Bytes>> {
    let response = if method == Method::HEAD {
        response::without_body(response)
    } else {
        response
    };
    response.map(Full::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_request_ids_are_kept() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_static("abc-1.2_3"));
        assert_eq!(request_id(&headers), "abc-1.2_3");
        for bad in ["", "a b", "\"x\"", &"x".repeat(65)] {
            headers.insert(REQUEST_ID, HeaderValue::from_str(bad).unwrap());
            let made = request_id(&headers);
            assert_eq!(made.len(), 16, "{bad:?} -> {made}");
        }
    }
}
