//! Traces: where the time of a request went, as spans that an OpenTelemetry collector takes
//! over OTLP/HTTP. Every span, and every header of the W3C Trace Context, is made here. While
//! no collector is set none is, and asking for one costs a load. It decides nothing, and no
//! span holds a key, a value, a header or a query.

use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{Status, TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::time::Duration;
use tokio::runtime::Handle;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{Layer, Registry};

use crate::config;
use crate::logging::{SPANS, shown_path};

mod export;

pub use export::SetupError;

/// What waits for the collector at the end may take this long.
const LAST: Duration = Duration::from_secs(2);

/// The way of the spans to the collector.
#[derive(Debug)]
pub struct Telemetry(SdkTracerProvider);

impl Telemetry {
    /// Sends through `runtime`, from a thread of its own; nothing is connected yet.
    ///
    /// # Errors
    /// [`SetupError`]: the settings cannot be used; never because the collector is away.
    pub fn start(config: &config::Telemetry, runtime: Handle) -> Result<Telemetry, SetupError> {
        let resource = Resource::builder()
            .with_service_name(config.service_name.clone())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
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
        let caller = TraceContextPropagator::new()
            .extract_with_context(&Context::new(), &HeaderExtractor(&parts.headers));
        // It fails only for a span that has begun, or that nobody takes.
        let _ = span.set_parent(caller);
    }
    span
}

/// How a request ended. A fault of the host or the plugin is an error; a caller's is not.
pub fn answered(span: &Span, status: StatusCode, revision: &str) {
    if span.is_disabled() {
        return;
    }
    span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
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
pub fn redis(command: &str, batch: Option<usize>) -> Span {
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
        db.operation.batch.size = batch,
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

/// The span of a request to another service, `method` and the host of its address.
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
        server.port = uri.port_u16().map(i64::from),
        url.path = uri.path(),
    )
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
    let span = Span::current();
    if !outside() && !span.is_disabled() {
        headers.remove("tracestate");
        TraceContextPropagator::new().inject_context(&span.context(), &mut HeaderInjector(headers));
    }
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
