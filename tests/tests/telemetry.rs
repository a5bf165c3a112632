//! Traces: what a collector is told of requests, how they hang together with the caller's and
//! with each other's, and that a collector that is away, slow or absent costs no answer.

use std::time::Duration;

use lockgate_tests::collector::{Collector, Span};
use lockgate_tests::component::{self, ECHO, ECHO_PATH, Probe};
use lockgate_tests::main_api;
use lockgate_tests::metrics::{metric, reaches};
use lockgate_tests::socket::Opening;
use lockgate_tests::wait::eventually;
use lockgate_tests::{Host, HostBuilder, Postgres, RedisServer, Service, User};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
/// What runs the probe.
const HERE: Service = Service::Coordinator;

/// A host that tells a collector soon.
fn traced(collector: &Collector) -> HostBuilder {
    Host::builder()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
}

async fn start_with_probe(builder: HostBuilder) -> Host {
    let folder = component::folder();
    let file = Probe::version(1).file(folder.path());
    builder.plugin(HERE, file).start().await
}

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

fn below<'a>(spans: &'a [Span], above: &Span, name: &str) -> Vec<&'a Span> {
    let mine = |span: &&Span| span.parent == above.id && span.name == name;
    spans.iter().filter(mine).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_a_span_below_its_callers_and_above_what_it_needed() {
    let (redis, collector) = (RedisServer::start().await, Collector::start().await);
    let host = traced(&collector).redis(&redis).start().await;
    let token = host.tokens.access(&User::new(14));
    let answer = host
        .get(Service::Session, "/api/v1/session/validate?q=1")
        .header("traceparent", &parent("01"))
        .header("x-request-id", "wanted-1")
        .bearer(&token)
        .send()
        .await
        .expect(200);
    assert_eq!(answer.header("x-request-id"), "wanted-1");

    let (request, spans) = collector.trace("wanted-1").await;
    assert_eq!((&*request.trace, &*request.parent), (TRACE, CALLER));
    assert_eq!(request.name, "GET");
    let report = host.plugin_report(Service::Session).await;
    let revision = &report.digest[..12];
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("url.path", "/api/v1/session/validate"),
        ("url.scheme", "http"),
        ("network.protocol.version", "1.1"),
        ("lockgate.service", "session-validation-normalizer"),
        ("lockgate.revision", revision),
    ] {
        assert_eq!(request.get(name), value, "{name} of {request:#?}");
    }
    assert!(!request.failed);
    assert_eq!(request.resource["service.name"], "lockgate");
    assert!(request.resource.contains_key("service.version"));

    let calls = below(&spans, &request, "call session-validation-normalizer");
    let [call] = calls[..] else {
        panic!("one call of the component: {spans:#?}")
    };
    assert_eq!(call.get("lockgate.revision"), revision);
    let of_redis: Vec<_> = spans
        .iter()
        .filter(|span| span.get("db.system.name") == "redis")
        .collect();
    assert!(!of_redis.is_empty(), "{spans:#?}");
    for command in of_redis {
        assert_eq!(command.parent, call.id);
        assert_eq!(command.kind, SpanKind::Client);
        assert_eq!(command.get("db.operation.name"), command.name);
        assert!(!command.failed);
    }
    assert!(spans.iter().all(|span| span.events == 0), "{spans:#?}");

    // The same ids are in the log.
    let log = host.log();
    let line = log.lines().find(|line| line.contains("wanted-1")).unwrap();
    assert!(line.contains(&format!("trace_id=\"{TRACE}\"")), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_is_told_the_context_and_its_lines_say_whose_they_are() {
    let collector = Collector::start().await;
    let config = "[log]\njson = true\n";
    let host = start_with_probe(traced(&collector).config(config)).await;
    let call = |path: &str, id: &str| {
        host.get(HERE, path)
            .header("traceparent", &parent("01"))
            .header("tracestate", "vendor=1")
            .header("x-request-id", id)
    };
    let text = call("/echo", "echo-1").send().await.expect(200).text();
    let (request, _) = collector.trace("echo-1").await;
    let context = format!("header traceparent: 00-{TRACE}-{}-01\n", request.id);
    assert!(text.contains(&context), "{text}");
    assert!(text.contains("header tracestate: vendor=1\n"), "{text}");
    assert!(text.contains("extension request-id: echo-1\n"), "{text}");

    call("/log?lines=1", "log-1").send().await.expect(200);
    let report = host.plugin_report(HERE).await;
    let line = eventually("the line is written", async || {
        let log = host.log();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let mut lines = lines.filter(|line: &Value| line["target"] == "lockgate::plugin");
        lines.next().ok_or(log.clone())
    })
    .await;
    assert_eq!(line["service"], HERE.name());
    assert_eq!(line["revision"], report.digest[..12]);
    assert_eq!(line["request_id"], "log-1");
    assert_eq!(line["trace_id"], TRACE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_another_asks_goes_on_with_its_trace() {
    let (postgres, redis) = (Postgres::start().await, RedisServer::start().await);
    let user = User::new(42);
    let row = format!("({}, '{}', 'user', true, 'active')", user.id, user.email);
    postgres
        .sql(&format!(
            "CREATE TABLE users (id int, email text, role text, is_active boolean, status text);
             GRANT SELECT ON users TO app_user; INSERT INTO users VALUES {row};"
        ))
        .await;
    let collector = Collector::start().await;
    let host = traced(&collector).redis(&redis);
    let host = host.env("DATABASE_URL", postgres.url()).start().await;
    let body = json!({"refresh_token": host.tokens.marked_refresh(&user)});
    host.post(Service::Jwt, "/api/v1/jwt/refresh")
        .header("x-request-id", "both-1")
        .json(&body)
        .send()
        .await
        .expect(200);

    let both = |span: &Span| span.get("lockgate.request_id") == "both-1";
    let of = |service: Service| {
        move |span: &Span| both(span) && span.get("lockgate.service") == service.name()
    };
    let asked = collector
        .wait("the normalizer's", of(Service::Session))
        .await;
    let asking = collector.wait("the adapter's", of(Service::Jwt)).await;
    assert_eq!(asked.trace, asking.trace);
    assert_eq!(asking.parent, "", "nobody had begun a trace");
    let client = collector
        .wait("between", |span| span.id == asked.parent)
        .await;
    assert_eq!(client.get("http.response.status_code"), "200");
    assert_eq!((&*client.name, client.kind), ("GET", SpanKind::Client));
    let port = host.port(Service::Session).to_string();
    assert_eq!(client.get("server.port"), port);
    let table = |span: &Span| span.get("db.system.name") == "postgresql";
    let look = collector.wait("the look into the table", table).await;
    assert_eq!(look.trace, asking.trace);
    assert_eq!(look.name, "SELECT users");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_span_holds_a_credential_a_key_or_a_query() {
    let (redis, collector) = (RedisServer::start().await, Collector::start().await);
    let host = traced(&collector).redis(&redis).start().await;
    let user = User::new(7).session("s-MARKER-session");
    let token = host.tokens.access(&user);
    let long = "y".repeat(43);
    for (number, path) in [
        "/api/v1/session/validate?token=MARKER-query",
        &format!("/MARKER-part-{long}/a"),
    ]
    .iter()
    .enumerate()
    {
        host.get(Service::Session, path)
            .header("x-request-id", &format!("secret-{number}"))
            .header("user-agent", "MARKER-agent")
            .header("baggage", "MARKER=baggage")
            .header("traceparent", &parent("01"))
            .header("tracestate", &format!("v=MARKER{}", "x".repeat(600)))
            .cookie("session_id", "MARKER-cookie")
            .bearer(&token)
            .send()
            .await;
        collector.trace(&format!("secret-{number}")).await;
    }
    let raw = collector.raw();
    let raw = String::from_utf8_lossy(&raw);
    assert!(raw.contains("secret-1"), "the spans are there");
    let signature = token.rsplit('.').next().unwrap();
    for secret in ["MARKER", signature, &user.email, "lockgate:", "rev:"] {
        assert!(!raw.contains(secret), "{secret} in {raw}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_samples_nothing_is_heard_and_other_contexts_are_not_believed() {
    let collector = Collector::start().await;
    let host = traced(&collector).start().await;
    let ask = async |id: &str, context: &str| {
        let call = host
            .get(Service::Session, "/health")
            .header("x-request-id", id);
        call.header("traceparent", context).send().await.expect(200);
    };
    ask("unsampled", &parent("00")).await;
    for (number, bad) in [
        "",
        "00",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-1-1-01",
        &"0".repeat(5000),
    ]
    .iter()
    .enumerate()
    {
        let id = format!("bad-{number}");
        ask(&id, bad).await;
        let (request, _) = collector.trace(&id).await;
        assert_eq!(request.parent, "", "{bad}");
        assert_ne!(request.trace, TRACE, "{bad}");
    }
    let spans = collector.spans();
    let unsampled = spans.iter().find(|span| span.trace == TRACE);
    assert!(unsampled.is_none(), "{unsampled:#?}");
    let log = host.log();
    let line = log.lines().find(|line| line.contains("unsampled")).unwrap();
    assert!(line.contains(TRACE), "its id is in the log: {line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_marked() {
    let collector = Collector::start().await;
    let host = start_with_probe(traced(&collector)).await;
    for (path, id, status, kind) in [
        ("/trap", "trap-1", 503, "trap"),
        ("/status?code=404", "none-1", 404, ""),
    ] {
        let call = host.get(HERE, path).header("x-request-id", id);
        call.send().await.expect(status);
        let (request, spans) = collector.trace(id).await;
        let name = format!("call {}", HERE.name());
        let call = below(&spans, &request, &name)[0];
        assert_eq!(request.failed, status == 503, "{request:#?}");
        assert_eq!(call.failed, status == 503, "{call:#?}");
        assert_eq!(call.get("error.type"), kind);
        let of_request = if status == 503 { "503" } else { "" };
        assert_eq!(request.get("error.type"), of_request);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_a_socket_is_a_trace_with_the_id_of_its_request() {
    let collector = Collector::start().await;
    let host = component::echo_host_with(1024, traced(&collector)).await;
    let opening = Opening::at(host.port(ECHO), ECHO_PATH).header("x-request-id", "socket-1");
    let mut socket = opening.open().await;
    socket.text("\"hello\"").await;
    socket.came().await;
    socket.close().await;
    let mut traces = Vec::new();
    for name in ["socket open", "socket message", "socket closed"] {
        let mine = |span: &Span| span.name == name;
        let event = collector.wait(name, mine).await;
        assert_eq!(event.get("lockgate.request_id"), "socket-1");
        assert_eq!(event.parent, "");
        let name = format!("call {}", ECHO.name());
        let inner = |span: &Span| span.parent == event.id && span.name == name;
        collector.wait("its call", inner).await;
        traces.push(event.trace);
    }
    traces.sort();
    traces.dedup();
    assert_eq!(traces.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_host_does_by_itself_is_no_trace() {
    let (redis, collector) = (RedisServer::start().await, Collector::start().await);
    let host = traced(&collector).redis(&redis).start().await;
    // Redis is asked for a sign of life each second, and peers are probed.
    tokio::time::sleep(Duration::from_secs(3)).await;
    host.get(Service::Jwt, "/health")
        .header("x-request-id", "last")
        .send()
        .await
        .expect(200);
    collector.trace("last").await;
    for span in collector.spans() {
        let begins = span.parent.is_empty();
        assert!(!begins || span.kind == SpanKind::Server, "{span:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_nothing_is_made_or_changed() {
    let collector = Collector::start().await;
    let off = traced(&collector).env("OTEL_SDK_DISABLED", "true");
    for builder in [Host::builder(), off] {
        let host = start_with_probe(builder).await;
        let given = parent("01");
        let call = host.get(HERE, "/echo").header("traceparent", &given);
        let text = call.send().await.expect(200).text();
        assert!(
            text.contains(&format!("header traceparent: {given}\n")),
            "{text}"
        );
        assert!(!host.log().contains("trace_id"), "{}", host.log());
        assert_eq!(metric(&host, "lockgate_spans_total").await, 0.0);
    }
    assert!(collector.spans().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_spans_only_and_is_used_again() {
    let collector = Collector::start().await;
    let address = collector.address();
    let host = traced(&collector).start().await;
    let ask = async |id: &str| {
        let call = host.get(Service::Jwt, "/health").header("x-request-id", id);
        call.send().await.expect(200);
    };
    ask("before").await;
    collector.trace("before").await;
    drop(collector);
    ask("away").await;
    let failed = "lockgate_spans_total{result=\"failed\"}";
    eventually("what could not be sent is counted", async || {
        ask("away").await;
        let value = metric(&host, failed).await;
        if value > 0.0 { Ok(()) } else { Err(value) }
    })
    .await;
    let said = |words: &str| host.log().matches(words).count();
    let log = host.log();
    assert!(log.contains("refused"), "the log says why: {log}");
    assert_eq!(said("the collector takes no spans"), 1, "{}", host.log());

    let collector = Collector::start_at(address).await;
    eventually("it is told again", async || {
        ask("again").await;
        let spans = collector.spans();
        let mut ids = spans.iter().map(|span| span.get("lockgate.request_id"));
        ids.any(|id| id == "again").then_some(()).ok_or(spans.len())
    })
    .await;
    eventually("the log says so", async || {
        let again = said("the collector takes spans again");
        if again == 1 { Ok(()) } else { Err(host.log()) }
    })
    .await;
    assert_eq!(
        said("the collector takes no spans"),
        1,
        "once for each time"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_collector_keeps_a_bounded_queue_and_the_end_short() {
    let (url, _) = main_api::peer(main_api::Manner::Hangs).await;
    let mut host = Host::builder()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .env("OTEL_BSP_MAX_QUEUE_SIZE", "16")
        .start()
        .await;
    for _ in 0..60 {
        let call = host.get(Service::Jwt, "/health");
        call.send().await.expect(200);
    }
    let dropped = "lockgate_spans_total{result=\"dropped\"}";
    reaches(&host, dropped, |spans| spans > 0.0).await;
    assert!(host.stop().await.success());
    // It did not wait for the answer, which never comes.
    let log = host.log();
    assert!(log.contains("the last spans were not sent"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_at_the_end_is_sent() {
    let collector = Collector::start().await;
    // By itself it would be sent an hour later.
    let mut host = traced(&collector)
        .env("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        .env("OTEL_RESOURCE_ATTRIBUTES", "service.name=gate-8")
        .start()
        .await;
    let call = host.get(Service::Jwt, "/health");
    call.header("x-request-id", "end-1")
        .send()
        .await
        .expect(200);
    assert!(host.stop().await.success());
    let spans = collector.spans();
    let last = |span: &Span| span.get("lockgate.request_id") == "end-1";
    assert!(spans.iter().any(last), "{spans:#?}");
    // And by the name that the environment's attributes have.
    assert_eq!(spans[0].resource["service.name"], "gate-8");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_attributes_and_names_are_those_of_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start_tls(folder.path()).await;
    let port = collector.address().port();
    let whole = format!("https://localhost:{port}/v1/traces");
    let host = Host::builder()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
        .env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", whole)
        .env(
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            folder.path().join("ca.pem").to_str().unwrap(),
        )
        .env("OTEL_EXPORTER_OTLP_HEADERS", "api-key=abc%20d")
        .env(
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        )
        .env("OTEL_SERVICE_NAME", "gate-7")
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .start()
        .await;
    let call = host.get(Service::Jwt, "/health");
    call.header("x-request-id", "tls-1")
        .send()
        .await
        .expect(200);
    let (request, _) = collector.trace("tls-1").await;
    assert_eq!(request.resource["service.name"], "gate-7");
    assert_eq!(request.resource["deployment.environment.name"], "test");
    assert_eq!(collector.headers()["api-key"], "abc d");
    assert!(!host.log().contains("abc d"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_ca_is_not_taken() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let collector = Collector::start_tls(folder.path()).await;
    let _other = Collector::start_tls(other.path()).await;
    let host = Host::builder()
        .env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("https://localhost:{}", collector.address().port()),
        )
        .env(
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            other.path().join("ca.pem").to_str().unwrap(),
        )
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .start()
        .await;
    host.get(Service::Jwt, "/health").send().await.expect(200);
    reaches(&host, "lockgate_spans_total{result=\"failed\"}", |spans| {
        spans > 0.0
    })
    .await;
    assert!(collector.spans().is_empty());
}
