//! What service-boundary-coordinator reports, and `GET /health` of all five.

use std::time::Duration;

use lockgate_tests::shape::{self, H};
use lockgate_tests::{Host, RedisServer, Service};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const INTEGRATION: &str = "/api/v1/health/integration";
const STATUS: &str = "/api/v1/coordinator/status";
const SERVICES: &str = "/api/v1/coordinator/services";
const ENTRY: &str = "status:state response_time_ms:num|null error_count:int last_check:time|null \
    error_message:str|null";
const BREAKER: &str = "state:=closed|=open|=half_open failures:int opened_at:time|null \
    retry_at:time|null";

/// Accepts connections like a chat service that is there.
async fn chat_service(host: &Host) {
    let listener = TcpListener::bind(("127.0.0.1", host.spare_port(1)))
        .await
        .unwrap();
    tokio::spawn(async move {
        loop {
            let _ = listener.accept().await;
        }
    });
}

/// `health/integration`, in full, with all its shapes checked.
async fn integration(host: &Host) -> Value {
    let call = host
        .get(Service::Coordinator, INTEGRATION)
        .header("cache-control", "no-cache");
    let answer = call.cookie("access_token", "any").send().await.expect(200);
    let body = answer.conventional();
    shape::exact(
        &body,
        "jwt_token_adapter:state session_validation_normalizer:state \
         fallback_session_provider:state websocket_auth_gateway:state \
         service_boundary_coordinator:state status:=ok|=degraded \
         redis_connection:=ok|=error|=unavailable degraded:bool timestamp:time services:obj \
         circuit_breakers:obj",
    );
    check_details(&body);
    let words = Service::ALL.map(|s| body[s.key()].as_str().unwrap().to_owned());
    let bad = words
        .iter()
        .any(|w| ["degraded", "error", "circuit_open"].contains(&w.as_str()))
        || body["redis_connection"] != "ok";
    assert_eq!(body["degraded"], bad, "{body}");
    assert_eq!(
        body["status"],
        if bad { "degraded" } else { "ok" },
        "{body}"
    );
    body
}

/// `services` and `circuit_breakers`.
fn check_details(body: &Value) {
    let services = body["services"].as_object().unwrap();
    assert_eq!(services.len(), 5, "{body}");
    for service in Service::ALL {
        shape::exact(&services[&service.key()], ENTRY);
    }
    let breakers = body["circuit_breakers"].as_object().unwrap();
    assert!(breakers.contains_key("redis"), "{body}");
    for service in Service::ALL.iter().filter(|s| **s != Service::Coordinator) {
        assert!(breakers.contains_key(&service.key()), "{body}");
    }
    for breaker in breakers.values() {
        shape::exact(breaker, BREAKER);
    }
}

/// Polls until a condition holds; panics with what was there last.
async fn until<F: AsyncFn() -> Value>(ask: F, what: &str, good: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    for _ in 0..1_200 {
        last = ask().await;
        if good(&last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never {what}: {last:#}");
}

/// Five healthy services, as the front end and the monitoring see them.
#[tokio::test(flavor = "multi_thread")]
async fn all_healthy() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    chat_service(&host).await;
    let body = until(
        || integration(&host),
        "all healthy",
        |body| Service::ALL.iter().all(|s| body[s.key()] == "healthy"),
    )
    .await;
    assert_eq!(
        (&body["status"], &body["redis_connection"]),
        (&json!("ok"), &json!("ok"))
    );
    for breaker in body["circuit_breakers"].as_object().unwrap().values() {
        assert_eq!(
            (&breaker["state"], &breaker["failures"]),
            (&json!("closed"), &json!(0))
        );
    }

    let answer = host
        .get(Service::Coordinator, STATUS)
        .send()
        .await
        .expect(200);
    let body = answer.conventional();
    shape::exact(
        &body,
        "status:=healthy services:obj circuit_breakers:obj coordination_stats:obj \
         degraded:false timestamp:time",
    );
    check_details(&body);
    let stats = &body["coordination_stats"];
    shape::exact(
        stats,
        "state_changes_processed:int health_checks_performed:int \
         circuit_breaker_activations:int coordination_errors:int sync_operations:int \
         service_count:=5 healthy_services:=5 failed_services:=0 circuit_breaker_states:obj \
         overall_health:=healthy",
    );
    assert!(
        stats["circuit_breaker_states"]
            .as_object()
            .unwrap()
            .values()
            .all(|s| s == "closed")
    );
    assert!(stats["health_checks_performed"].as_i64().unwrap() >= 4);

    let answer = host
        .get(Service::Coordinator, SERVICES)
        .send()
        .await
        .expect(200);
    let body = answer.conventional();
    shape::exact(
        &body,
        "services:arr count:=5 healthy:=5 degraded_count:=0 failed:=0 unknown:=0 \
         degraded:false timestamp:time",
    );
    for (service, entry) in Service::ALL
        .iter()
        .zip(body["services"].as_array().unwrap())
    {
        shape::exact(
            entry,
            "name:str url:str port:int status:=healthy critical:bool last_check:time|null \
             response_time_ms:num|null error_count:int error_message:str|null",
        );
        assert_eq!(
            (&entry["name"], &entry["port"]),
            (&json!(service.key()), &json!(host.port(*service)))
        );
        assert_eq!(
            entry["critical"],
            matches!(service, Service::Jwt | Service::Session)
        );
        assert_eq!(
            entry["url"],
            format!("http://127.0.0.1:{}", host.port(*service))
        );
    }
}

/// `GET /health` of all five: the head, the names and the dependencies.
#[tokio::test(flavor = "multi_thread")]
async fn health_of_all_ports() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    chat_service(&host).await;
    for service in Service::ALL {
        let ask = async || {
            let answer = host.get(service, "/health").send().await.expect(200);
            let body = answer.conventional();
            shape::exact(&body, H);
            body
        };
        let body = until(ask, "healthy", |body| body["status"] == "healthy").await;
        assert_eq!(body["service"], format!("{}-service", service.name()));
        assert_eq!(body["degraded"], false);
        let dependencies = body["dependencies"].as_object().unwrap();
        let names: Vec<_> = dependencies.keys().map(|k| k.replace('-', "_")).collect();
        let want: Vec<String> = match service {
            Service::Jwt | Service::Fallback => vec!["redis".into()],
            Service::Session => vec!["database".into(), "redis".into()],
            Service::Gateway => vec!["chat_service".into(), "redis".into()],
            Service::Coordinator => {
                let peers = Service::ALL[..4].iter().map(|s| s.key());
                let mut all: Vec<_> = peers.chain(["redis".to_owned()]).collect();
                all.sort();
                all
            }
        };
        let mut names = names;
        names.sort();
        assert_eq!(names, want);
        for (name, word) in dependencies {
            let word = word.as_str().unwrap();
            assert!(
                ["connected", "disconnected", "not_configured"].contains(&word),
                "{name}: {word}"
            );
        }
        assert_eq!(dependencies["redis"], "connected");
        if service == Service::Session {
            assert_eq!(dependencies["database"], "not_configured");
        }
    }
    let body = host
        .get(Service::Session, "/api/v1/session/health")
        .send()
        .await
        .expect(200);
    let body = body.conventional();
    shape::exact(&body, &format!("{H} features:arr"));
    assert_eq!(
        (&body["status"], &body["service"]),
        (&json!("ok"), &json!("session_management"))
    );
    assert!(
        body["features"]
            .as_array()
            .unwrap()
            .iter()
            .all(Value::is_string)
    );
}

/// What a peer in a test does with a probe.
async fn peer(listener: TcpListener, reply: Option<&'static str>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            return;
        };
        tokio::spawn(async move {
            let mut head = [0_u8; 4096];
            let _ = stream.read(&mut head).await;
            match reply {
                Some(text) => drop(stream.write_all(text.as_bytes()).await),
                None => std::future::pending().await,
            }
        });
    }
}

/// What the coordinator makes of peers that answer oddly, or not at all: one of
/// five words each, without waiting for any of them.
#[tokio::test(flavor = "multi_thread")]
async fn odd_peers() {
    const UNHEALTHY: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
        content-length: 22\r\nconnection: close\r\n\r\n{\"status\":\"unhealthy\"}";
    const DEGRADED: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
        content-length: 21\r\nconnection: close\r\n\r\n{\"status\":\"degraded\"}";
    const PAGE: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\
        content-length: 13\r\nconnection: close\r\n\r\n<html></html>";
    let mut builder = Host::builder();
    for (service, reply) in [
        (Service::Jwt, Some(UNHEALTHY)),
        (Service::Session, Some(PAGE)),
        (Service::Fallback, Some(DEGRADED)),
        (Service::Gateway, None),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("http://user:secret-of-a-peer@127.0.0.1:{port}");
        builder = builder.env(&format!("{}_URL", service.key().to_uppercase()), url);
        tokio::spawn(peer(listener, reply));
    }
    let host = builder.start().await;
    let known = |body: &Value| Service::ALL.iter().all(|s| body[s.key()] != "unknown");
    let body = until(|| integration(&host), "all probed", known).await;
    assert_eq!(
        body["jwt_token_adapter"], "error",
        "an unknown word is an error"
    );
    assert_eq!(
        body["session_validation_normalizer"], "error",
        "no JSON is an error"
    );
    assert_eq!(body["fallback_session_provider"], "degraded");
    assert_eq!(
        body["websocket_auth_gateway"], "error",
        "silence is an error"
    );
    assert_eq!(body["service_boundary_coordinator"], "healthy");
    assert!(!body.to_string().contains("secret-of-a-peer"), "{body}");
    assert!(body["services"]["websocket_auth_gateway"]["error_message"].is_string());

    // The coordinator itself is not degraded by its peers.
    let health = host
        .get(Service::Coordinator, "/health")
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&health["status"], &health["degraded"]),
        (&json!("healthy"), &json!(false))
    );
    let list = host
        .get(Service::Coordinator, SERVICES)
        .send()
        .await
        .expect(200);
    assert!(!list.text().contains("secret-of-a-peer"), "{}", list.text());
    let list = list.json();
    assert_eq!(
        (&list["healthy"], &list["degraded_count"]),
        (&json!(1), &json!(1)),
        "{list}"
    );
    assert_eq!(
        (&list["failed"], &list["degraded"]),
        (&json!(3), &json!(true)),
        "{list}"
    );
    let status = host
        .get(Service::Coordinator, STATUS)
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&status["status"], &status["degraded"]),
        (&json!("degraded"), &json!(true))
    );

    // Five failures in a row of silence open its breaker.
    let open = |body: &Value| body["websocket_auth_gateway"] == "circuit_open";
    let body = until(|| integration(&host), "open", open).await;
    let breaker = &body["circuit_breakers"]["websocket_auth_gateway"];
    assert_eq!(breaker["state"], "open", "{body}");
    let time = |name: &str| shape::parse_time(breaker[name].as_str().unwrap()).unwrap();
    assert_eq!(time("retry_at") - time("opened_at"), 60);
    // An answer of a peer that is merely odd does not open one.
    assert_eq!(
        body["circuit_breakers"]["jwt_token_adapter"]["state"], "closed",
        "{body}"
    );
}
