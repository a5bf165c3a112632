//! Traces: where the time of a request went, as spans that an OpenTelemetry collector takes
//! over OTLP/HTTP. Every span, and every header of the W3C Trace Context, is made here. While
//! no collector is set none is, and asking for one costs a load. It decides nothing, and no
//! span holds a key, a value, a header or a query.

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{Status, TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use std::time::Duration;
use tokio::runtime::Handle;
use tracing::level_filters::LevelFilter;
use tracing::{Instrument as _, Level, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{Layer, Registry};

use crate::config;
use crate::logging::{SPANS, shown_path};

mod export;

pub use export::SetupError;

/// What waits for the collector at the end may take this long.
const LAST: Duration = Duration::from_secs(2);

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";

/// Longest `tracestate` that is kept, bytes: what the standard asks for at least (W3C Trace
/// Context, section 3.3.1.5).
const MOST_STATE: usize = 512;

/// The way of the spans to the collector.
#[derive(Debug)]
pub struct Telemetry(SdkTracerProvider);

impl Telemetry {
    /// Sends through `runtime`, from a thread of its own; nothing is connected yet.
    ///
    /// # Errors
    /// [`SetupError`]: the settings cannot be used; never because the collector is away.
    pub fn start(config: &config::Telemetry, runtime: Handle) -> Result<Telemetry, SetupError> {
        let ratio = Sampler::TraceIdRatioBased(config.ratio);
        let provider = SdkTracerProvider::builder()
            .with_resource(resource(config.service_name.as_deref()))
            .with_sampler(match config.follow_caller {
                true => Sampler::ParentBased(Box::new(ratio)),
                false => ratio,
            })
            .with_span_processor(export::processor(config, runtime)?)
            .build();
        Ok(Telemetry(provider))
    }

    /// Takes this module's spans, and no log lines.
    pub fn layer(&self) -> Box<dyn Layer<Registry> + Send + Sync> {
        let only = Targets::new().with_target(SPANS, LevelFilter::from_level(Level::INFO));
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("lockgate"))
            .with_context_activation(false)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(only)
            .boxed()
    }

    /// Sends what is left, for 2 s at most.
    pub fn stop(&self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// What is said of this process in all spans: the environment's attributes, and its version.
/// Its name is the setting's, else that of the attributes.
fn resource(name: Option<&str>) -> Resource {
    let resource = Resource::builder_empty()
        .with_service_name("lockgate")
        .with_detectors(&[
            Box::new(TelemetryResourceDetector),
            Box::new(EnvResourceDetector::new()),
        ])
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    match name {
        Some(name) => resource.with_service_name(name.to_owned()).build(),
        None => resource.build(),
    }
}

/// The span of a request that this host answers, below the caller's if its headers name one
/// (W3C Trace Context, section 3.2). Named as the semantic conventions of HTTP say.
pub fn request(parts: &Parts, service: &str, id: &str) -> Span {
    let known = known(&parts.method);
    let span = info_span!(
        target: SPANS,
        "request",
        otel.name = known.unwrap_or("HTTP"),
        otel.kind = "server",
        http.request.method = known.unwrap_or("_OTHER"),
        url.scheme = "http",
        url.path = shown_path(parts.uri.path()),
        network.protocol.version = protocol(parts.version),
        lockgate.service = service,
        lockgate.request_id = id,
    );
    if !span.is_disabled() {
        // It fails only for a span that has begun, or that nobody takes.
        let _ = span.set_parent(context_of(&parts.headers));
    }
    span
}

/// How a request ended. A fault of the host or the plugin is an error; a caller's is not.
pub fn answered(span: &Span, status: StatusCode, revision: &str) {
    if span.is_disabled() {
        return;
    }
    came(span, status);
    span.set_attribute("lockgate.revision", revision.to_owned());
    if status.is_server_error() {
        failed(span, status.as_str());
    }
}

/// The span of an event of a socket: the request that opened it is over, and only the id
/// joins them.
pub fn socket_event(service: &str, event: &'static str, id: &str) -> Span {
    info_span!(
        target: SPANS,
        parent: None,
        "socket",
        otel.name = event,
        lockgate.service = service,
        lockgate.request_id = id,
    )
}

/// The span of one call of a component, an instance for it included.
pub fn guest_call(service: &str, revision: &str) -> Span {
    info_span!(
        target: SPANS,
        "call",
        otel.name = %format_args!("call {service}"),
        lockgate.service = service,
        lockgate.revision = revision,
    )
}

/// The span of a command for Redis, or of `batch` commands that are sent together.
pub fn redis(command: &str, batch: usize) -> Span {
    if outside() {
        return Span::none();
    }
    info_span!(
        target: SPANS,
        "redis",
        otel.name = command,
        otel.kind = "client",
        db.system.name = "redis",
        db.operation.name = command,
        db.operation.batch.size = (batch > 1).then_some(batch as u64),
    )
}

/// The span of a look into the users table.
pub fn users_table() -> Span {
    if outside() {
        return Span::none();
    }
    info_span!(
        target: SPANS,
        "table",
        otel.name = "SELECT users",
        otel.kind = "client",
        db.system.name = "postgresql",
        db.operation.name = "SELECT",
        db.collection.name = "users",
    )
}

/// The span of a request to another service, at an address without credentials or a query.
pub fn call_of(method: &Method, uri: &Uri) -> Span {
    if outside() {
        return Span::none();
    }
    info_span!(
        target: SPANS,
        "call of a service",
        otel.name = method.as_str(),
        otel.kind = "client",
        http.request.method = method.as_str(),
        server.address = uri.host(),
        server.port = uri.port_u16().map_or(80, i64::from),
        url.full = %uri,
    )
}

/// The status of the answer to the request that a span is about.
pub fn came(span: &Span, status: StatusCode) {
    span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
}

/// Does `work` within a span, which is marked with `kind` of the error if it fails.
///
/// # Errors
/// Those of the work.
pub async fn within<T, E>(
    span: Span,
    work: impl Future<Output = Result<T, E>>,
    kind: impl FnOnce(&E) -> &'static str,
) -> Result<T, E> {
    let outcome = work.instrument(span.clone()).await;
    if let Err(error) = &outcome {
        failed(&span, kind(error));
    }
    outcome
}

/// Marks the operation of a span as failed: `kind` is one of few words.
pub fn failed(span: &Span, kind: &str) {
    if span.is_disabled() {
        return;
    }
    span.set_attribute("error.type", kind.to_owned());
    span.set_status(Status::error(""));
}

/// The context of the current span as headers of a request, in place of those that are there
/// (W3C Trace Context, section 3.4). Without one the headers stay as they are.
pub fn pass_on(headers: &mut HeaderMap) {
    if outside() {
        return;
    }
    let span = Span::current();
    if span.is_disabled() {
        return;
    }
    TraceContextPropagator::new().inject_context(&span.context(), &mut HeaderInjector(headers));
    if headers.get(STATE).is_some_and(HeaderValue::is_empty) {
        headers.remove(STATE);
    }
}

/// The context that a request brings; an empty one if it is not as the standard wants it. Of
/// a long state nothing is kept: it would be copied into each span.
fn context_of(headers: &HeaderMap) -> Context {
    let mut parents = headers.get_all(PARENT).iter();
    let (Some(parent), None) = (parents.next(), parents.next()) else {
        return Context::new();
    };
    if !well_formed(parent.as_bytes()) {
        return Context::new();
    }
    let mut given = HeaderMap::with_capacity(2);
    given.insert(PARENT, parent.clone());
    let states = headers.get_all(STATE).iter().map(HeaderValue::as_bytes);
    let state = states.collect::<Vec<_>>().join(&b","[..]);
    if state.len() <= MOST_STATE
        && let Ok(state) = HeaderValue::from_bytes(&state)
    {
        given.insert(STATE, state);
    }
    TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(&given))
}

/// Version, trace, parent and flags in lower-case hexadecimal digits; what a later version
/// has more comes after another hyphen (W3C Trace Context, sections 3.2.2 and 4).
fn well_formed(parent: &[u8]) -> bool {
    let digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    let fits = |(at, byte): (usize, &u8)| match at {
        2 | 35 | 52 => *byte == b'-',
        55 => *byte == b'-' && !parent.starts_with(b"00"),
        0..55 => digit(byte),
        _ => true,
    };
    parent.len() >= 55 && parent.iter().enumerate().all(fits)
}

/// The id of the trace of a span, 32 hexadecimal digits.
pub fn trace_id(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    context.is_valid().then(|| context.trace_id().to_string())
}

/// The id of the trace that the calling task belongs to.
pub fn current_trace_id() -> Option<String> {
    if outside() {
        return None;
    }
    trace_id(&Span::current())
}

/// True where nobody takes spans, or nothing of a request is being done: what the host does
/// by itself is not traced.
fn outside() -> bool {
    !tracing::enabled!(target: SPANS, Level::INFO) || Span::current().is_none()
}

/// The methods that the semantic conventions let stand for themselves.
fn known(method: &Method) -> Option<&str> {
    let text = method.as_str();
    let words = [
        "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
    ];
    words.contains(&text).then_some(text)
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(headers: &[(&'static str, &str)]) -> (String, String) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let context = context_of(&map);
        let context = context.span().span_context().clone();
        let id = context.is_valid().then(|| context.trace_id().to_string());
        (id.unwrap_or_default(), context.trace_state().header())
    }

    const ID: &str = "0af7651916cd43dd8448eb211c80319c";
    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_that_is_not_as_it_should_be_is_none() {
        assert_eq!(trace(&[("traceparent", GOOD)]).0, ID);
        let later = GOOD.replacen("00", "cc", 1);
        assert_eq!(trace(&[("traceparent", &later)]).0, ID);
        assert_eq!(trace(&[("traceparent", &format!("{later}-more"))]).0, ID);
        for bad in [
            "",
            "00-1-1-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            &GOOD.to_ascii_uppercase(),
            &format!("{GOOD}-more"),
            &format!("{later}more"),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replace(ID, &"0".repeat(32)),
            &GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
        ] {
            assert_eq!(trace(&[("traceparent", bad)]).0, "", "{bad}");
        }
        assert_eq!(trace(&[("traceparent", GOOD), ("traceparent", GOOD)]).0, "");
        assert_eq!(trace(&[]).0, "");
    }

    #[test]
    fn a_state_of_several_lines_is_kept_and_a_long_one_is_not() {
        let parent = ("traceparent", GOOD);
        let (id, state) = trace(&[parent, ("tracestate", "a=1"), ("tracestate", "b=2")]);
        assert_eq!((&*id, &*state), (ID, "a=1,b=2"));
        let values = ["a", "b", "c"].map(|name| format!("{name}={}", "x".repeat(200)));
        let lines = values.iter().map(|value| ("tracestate", value.as_str()));
        let lines: Vec<_> = std::iter::once(parent).chain(lines).collect();
        assert_eq!(trace(&lines), (ID.to_owned(), String::new()));
    }
}
