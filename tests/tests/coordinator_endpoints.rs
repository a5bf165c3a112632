//! The endpoints of service-boundary-coordinator, and `GET /health` of all five.

use std::time::Duration;

use lockgate_tests::shape::{self, H};
use lockgate_tests::tokens::sha256;
use lockgate_tests::{Answer, Host, RedisServer, Service, Tokens, User, now};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const INTEGRATION: &str = "/api/v1/health/integration";
const STATUS: &str = "/api/v1/coordinator/status";
const SERVICES: &str = "/api/v1/coordinator/services";
const SYNC: &str = "/api/v1/coordinator/sync-auth";
const LOGOUT: &str = "/api/v1/auth/logout";
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

fn event(user: &User, kind: &str) -> Value {
    json!({"user_id": user.id, "email": user.email, "event_type": kind, "source": "api",
        "session_id": user.session_id})
}

async fn sync(host: &Host, token: &str, body: &Value) -> Answer {
    host.post(Service::Coordinator, SYNC)
        .bearer(token)
        .json(body)
        .send()
        .await
}

const SYNCED: &str = "success:true event_id:str event_type:str user_id:int timestamp:time \
    propagated:obj degraded:bool";

/// The four events: what each writes, deletes, revokes and publishes.
#[tokio::test(flavor = "multi_thread")]
async fn sync_auth_events() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let published = first_event(&redis).await;
    let user = User::new(42);
    let token = host.tokens.access(&user);
    let session = format!("session:{}", user.session_id);

    let body = sync(&host, &token, &event(&user, "login"))
        .await
        .expect_shape(200, SYNCED);
    shape::exact(&body["propagated"], "redis:true fallback:true websocket:=0");
    assert_eq!(
        (&body["event_type"], &body["user_id"]),
        (&json!("login"), &json!(42))
    );
    assert_eq!(body["degraded"], false);
    let login: Value = serde_json::from_str(&redis.get("session:42").await.unwrap()).unwrap();
    shape::exact(
        &login,
        "user_id:=42 email:str role:role login_time:str token_format:str",
    );
    assert!((3_500..=3_600).contains(&redis.run::<i64>(&["TTL", "session:42"]).await));
    let record: Value = serde_json::from_str(&redis.get(&session).await.unwrap()).unwrap();
    assert_eq!(record.as_object().unwrap().len(), 9, "{record}");
    let members: Vec<String> = redis.run(&["SMEMBERS", "user_sessions:42"]).await;
    assert_eq!(members, std::slice::from_ref(&user.session_id));
    let fallback: Value =
        serde_json::from_str(&redis.get("lockgate:fallback:42").await.unwrap()).unwrap();
    assert_eq!(fallback["user_id"], 42);
    let published = published.await.unwrap();
    assert_eq!(
        (&published["event_id"], &published["event_type"]),
        (&body["event_id"], &json!("login"))
    );
    for name in ["user_id", "email", "source", "host", "seq"] {
        assert!(!published[name].is_null(), "{name}: {published}");
    }
    assert!(redis.run::<i64>(&["XLEN", "lockgate:events"]).await >= 1);

    let body = sync(&host, &token, &event(&user, "token_refresh"))
        .await
        .expect_shape(200, SYNCED);
    assert_eq!(body["propagated"]["redis"], true);
    let fallback = redis.get("lockgate:fallback:42").await.unwrap();
    assert!(fallback.contains("token_refreshed_at"), "{fallback}");

    let other = User::new(42).session("s-tablet");
    let other_token = host.tokens.access(&other);
    sync(&host, &other_token, &event(&other, "login"))
        .await
        .expect(200);
    // What the main API remembers of the token goes with it.
    let short = sha256(&token)[..32].to_owned();
    let caches = [
        format!("session_validation:{short}"),
        format!("token_validation:{short}"),
        "user_auth:42".to_owned(),
    ];
    for key in &caches {
        let _: String = redis.run(&["SET", key, "1"]).await;
    }
    let body = sync(&host, &token, &event(&user, "logout"))
        .await
        .expect_shape(200, SYNCED);
    shape::exact(&body["propagated"], "redis:true fallback:bool websocket:=0");
    for key in &caches {
        assert_eq!(redis.get(key).await, None, "{key}");
    }
    assert_eq!(redis.get(&session).await, None);
    let members: Vec<String> = redis.run(&["SMEMBERS", "user_sessions:42"]).await;
    assert_eq!(members, ["s-tablet"]);
    let check = async |token: &str| {
        host.get(Service::Session, "/api/v1/session/validate")
            .bearer(token)
            .send()
            .await
            .status
    };
    assert_eq!(check(&token).await, 401, "the session is revoked");
    assert_eq!(check(&other_token).await, 200, "the other session is not");
    sync(&host, &token, &event(&user, "login"))
        .await
        .expect_error(401, "token_revoked");

    // session_expired: the record goes, and the session with it.
    let body = sync(&host, &other_token, &event(&other, "session_expired")).await;
    body.expect_shape(200, SYNCED);
    assert_eq!(redis.get("session:s-tablet").await, None);
    assert_eq!(check(&other_token).await, 401);

    // Without a session id nothing is revoked by session_expired, all by logout.
    let user = User::new(43);
    let (one, two) = (host.tokens.access(&user), host.tokens.legacy(&user));
    let mut body = event(&user, "session_expired");
    body.as_object_mut().unwrap().remove("session_id");
    sync(&host, &one, &body).await.expect_shape(200, SYNCED);
    assert_eq!((check(&one).await, check(&two).await), (200, 200));
    body["event_type"] = json!("logout");
    sync(&host, &one, &body).await.expect_shape(200, SYNCED);
    assert_eq!((check(&one).await, check(&two).await), (401, 401));
    let cut: String = redis.get("lockgate:revoked:user:43").await.unwrap();
    assert!((cut.parse::<i64>().unwrap() - now()).abs() < 60);
}

/// Listens on `auth.events`; gives the first event.
async fn first_event(redis: &RedisServer) -> tokio::task::JoinHandle<Value> {
    let client = redis::Client::open(redis.url()).unwrap();
    let (ready, listening) = tokio::sync::oneshot::channel();
    let task = tokio::task::spawn_blocking(move || {
        let mut link = client.get_connection().unwrap();
        let mut listener = link.as_pubsub();
        listener.subscribe("auth.events").unwrap();
        listener
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        ready.send(()).unwrap();
        let text: String = listener
            .get_message()
            .expect("an event")
            .get_payload()
            .unwrap();
        serde_json::from_str(&text).expect("an event of JSON")
    });
    listening.await.expect("subscribe to auth.events");
    task
}

/// Who may report what for whom.
#[tokio::test(flavor = "multi_thread")]
async fn sync_auth_rights() {
    let redis = RedisServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("service");
    let secret = "a service secret of more than 32 bytes";
    std::fs::write(&file, secret).unwrap();
    let host = Host::builder()
        .redis(&redis)
        .env("SERVICE_SECRET_FILE", file.display().to_string())
        .start()
        .await;
    let user = User::new(42);
    let token = host.tokens.access(&user);
    let post = || host.post(Service::Coordinator, SYNC);

    post()
        .json(&event(&user, "login"))
        .send()
        .await
        .expect_error(401, "token_missing");
    let expired = host.tokens.expired(&user);
    sync(&host, &expired, &event(&user, "login"))
        .await
        .expect_error(401, "token_expired");
    let refused = async |body: &Value| {
        sync(&host, &token, body)
            .await
            .expect_error(403, "access_forbidden");
    };
    refused(&event(&User::new(43), "logout")).await;
    let mut other_mail = event(&user, "login");
    other_mail["email"] = json!("eve@example.org");
    refused(&other_mail).await;
    refused(&event(&user.clone().session("s-not-mine"), "logout")).await;
    let mut upper = event(&user, "login");
    upper["email"] = json!(user.email.to_uppercase());
    sync(&host, &token, &upper).await.expect(200);

    // A session of the user's list.
    let _: i64 = redis.run(&["SADD", "user_sessions:42", "s-listed"]).await;
    sync(
        &host,
        &token,
        &event(&user.clone().session("s-listed"), "logout"),
    )
    .await
    .expect(200);

    // An admin of unknown state has no rights; one that is known to be active has.
    let admin = User::admin(1);
    let admin_token = host.tokens.access(&admin);
    let mut any = event(&User::new(43), "logout");
    any.as_object_mut().unwrap().remove("session_id");
    sync(&host, &admin_token, &any)
        .await
        .expect_error(403, "access_forbidden");
    let record = json!({"is_active": true, "email": User::admin(2).email, "role": "admin",
        "checked_at": now()});
    let _: String = redis
        .run(&["SET", "lockgate:user:2", &record.to_string(), "EX", "60"])
        .await;
    sync(&host, &host.tokens.access(&User::admin(2)), &any)
        .await
        .expect(200);

    // A service with the secret; not without, with a wrong or a cut one.
    let service = |given: &str| post().header("x-service-secret", given).json(&any);
    service(secret).send().await.expect_shape(200, SYNCED);
    for wrong in ["", "wrong", &secret[1..], &format!("{secret}x")] {
        service(wrong)
            .send()
            .await
            .expect_error(401, "token_missing");
    }

    for (name, body) in [
        (
            "no user",
            json!({"email": user.email, "event_type": "login", "source": "api"}),
        ),
        (
            "no e-mail",
            json!({"user_id": 42, "event_type": "login", "source": "api"}),
        ),
        (
            "no type",
            json!({"user_id": 42, "email": user.email, "source": "api"}),
        ),
        (
            "no source",
            json!({"user_id": 42, "email": user.email, "event_type": "login"}),
        ),
    ] {
        let body = sync(&host, &token, &body)
            .await
            .expect_error(422, "invalid_request");
        assert!(!body["detail"].as_str().unwrap().is_empty(), "{name}");
    }
    for (name, value) in [
        ("user_id", json!("42")),
        ("user_id", json!(42.5)),
        ("user_id", json!(0)),
        ("email", json!(5)),
        ("event_type", json!("explode")),
        ("event_type", json!(null)),
        ("source", json!([])),
        ("session_id", json!("1935651600000")),
        ("session_id", json!("a:b")),
        ("session_id", json!("y".repeat(129))),
        ("session_id", json!(5)),
        ("details", json!("text")),
    ] {
        let mut body = event(&user, "login");
        body[name] = value;
        sync(&host, &token, &body)
            .await
            .expect_error(422, "invalid_request");
    }
    let call = post().bearer(&token).body("{\"user_id\":42,");
    call.send().await.expect_error(400, "invalid_request");

    // Behind a trusted proxy the secret opens nothing; a short one is none at all.
    let host = Host::builder()
        .env("SERVICE_SECRET_FILE", file.display().to_string())
        .env("TRUSTED_PROXIES", "127.0.0.1/32")
        .start()
        .await;
    let call = host
        .post(Service::Coordinator, SYNC)
        .header("x-service-secret", secret);
    let answer = call
        .header("x-forwarded-for", "192.0.2.1")
        .json(&any)
        .send()
        .await;
    answer.expect_error(401, "token_missing");
    std::fs::write(&file, "short").unwrap();
    let host = Host::builder().env("SERVICE_SECRET_FILE", file.display().to_string());
    let host = host.start().await;
    let call = host
        .post(Service::Coordinator, SYNC)
        .header("x-service-secret", "short");
    call.json(&any)
        .send()
        .await
        .expect_error(401, "token_missing");
}

/// The CSRF cookie, for a login by cookie.
#[tokio::test(flavor = "multi_thread")]
async fn csrf() {
    use base64::Engine as _;
    let host = Host::start().await;
    let user = User::new(42);
    let token = host.tokens.access(&user);
    let create = "/api/v1/fallback/create";
    let calls = |host: &Host, header: Option<&str>, cookies: &[&str]| {
        [
            (Service::Coordinator, SYNC, event(&user, "login")),
            (Service::Fallback, create, json!({})),
        ]
        .map(|(service, path, body)| {
            let mut call = host
                .post(service, path)
                .cookie("access_token", &token)
                .json(&body);
            for cookie in cookies {
                call = call.cookie("csrf_token", cookie);
            }
            match header {
                Some(text) => call.header("x-csrf-token", text),
                None => call,
            }
        })
    };
    for (header, cookies) in [
        (None, vec![]),
        (None, vec!["abc"]),
        (Some("abc"), vec![]),
        (Some("abc"), vec!["abd"]),
        (Some(""), vec![""]),
    ] {
        for call in calls(&host, header, &cookies) {
            call.send().await.expect_error(403, "csrf_failed");
        }
    }
    for cookies in [vec!["abc"], vec!["other", "abc"], vec!["abc", "other"]] {
        for call in calls(&host, Some("abc"), &cookies) {
            let answer = call.send().await;
            assert!(
                matches!(answer.status, 200 | 201),
                "{}: {}",
                answer.label(),
                answer.text()
            );
        }
    }

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("csrf");
    let secret = b"a csrf secret of its own, long enough";
    std::fs::write(&file, secret).unwrap();
    let checked = Host::builder()
        .secret(lockgate_tests::host::Secret::Bytes(
            host.tokens.key().to_vec(),
        ))
        .env("CSRF_SECRET_FILE", file.display().to_string())
        .start()
        .await;
    let nonce = "n".repeat(43);
    let made = |key: &[u8], time: i64| {
        let message = format!("{time}:{nonce}");
        let sealed = Tokens::new(key).seal(&message);
        let mac = sealed.rsplit('.').next().unwrap();
        let mac = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(mac)
            .unwrap();
        format!("{message}:{}", hex::encode(mac))
    };
    let good = made(secret, now());
    for call in calls(&checked, Some(&good), &["stale", &good]) {
        let answer = call.send().await;
        assert!(
            matches!(answer.status, 200 | 201),
            "{}: {}",
            answer.label(),
            answer.text()
        );
    }
    for bad in [
        "abc".to_owned(),
        made(host.tokens.key(), now()),
        made(secret, now() - 604_900),
        made(secret, now()).replace(&nonce, &"m".repeat(43)),
        format!("{good}:x"),
    ] {
        for call in calls(&checked, Some(&bad), &[&bad]) {
            call.send().await.expect_error(403, "csrf_failed");
        }
    }
}

/// Logout: 204, four cookies deleted, every good token dead.
#[tokio::test(flavor = "multi_thread")]
async fn logout() {
    for production in [false, true] {
        let mut builder = Host::builder();
        if production {
            builder = builder
                .env("ENVIRONMENT", "production")
                .env("DOMAIN", "example.org");
        }
        let host = builder.start().await;
        let user = User::new(42);
        let access = host.tokens.access(&user);
        let refresh = host.tokens.marked_refresh(&user.clone().session("s-other"));
        let bystander = host.tokens.access(&user.clone().session("s-third"));
        let call = host
            .post(Service::Coordinator, LOGOUT)
            .cookie("access_token", &access);
        let answer = call
            .cookie("refresh_token", &refresh)
            .send()
            .await
            .expect(204);
        assert!(answer.body.is_empty());
        let lines = answer.all("set-cookie");
        for name in ["access_token", "refresh_token", "auth_token", "csrf_token"] {
            let prefix = format!("{name}=;");
            let of_name: Vec<_> = lines.iter().filter(|l| l.starts_with(&prefix)).collect();
            assert_eq!(
                of_name.len(),
                if production { 2 } else { 1 },
                "{name}: {lines:?}"
            );
            for line in &of_name {
                let line = line.to_lowercase();
                assert!(
                    line.contains("max-age=0") && line.contains("path=/"),
                    "{line}"
                );
            }
            let domains = of_name
                .iter()
                .filter(|l| l.contains("Domain=.example.org"))
                .count();
            assert_eq!(domains, usize::from(production), "{lines:?}");
        }
        let check = async |token: &str| {
            host.get(Service::Session, "/api/v1/session/validate")
                .bearer(token)
                .send()
                .await
                .status
        };
        assert_eq!(check(&access).await, 401);
        assert_eq!(
            check(&bystander).await,
            200,
            "only the sessions of the tokens"
        );
        let body = json!({"refresh_token": refresh});
        let again = host
            .post(Service::Jwt, "/api/v1/jwt/refresh")
            .json(&body)
            .send()
            .await;
        again.expect_error(401, "token_revoked");

        // Nothing good, or nothing at all: still 204, still deleting.
        for token in [
            None,
            Some(host.tokens.expired(&user)),
            Some("garbage".into()),
            Some(access),
        ] {
            let mut call = host.post(Service::Coordinator, LOGOUT);
            if let Some(token) = token {
                call = call.cookie("access_token", &token);
            }
            let answer = call.send().await.expect(204);
            assert!(answer.all("set-cookie").len() >= 4);
        }
        // A Bearer works too.
        let token = host.tokens.access(&User::new(43));
        host.post(Service::Coordinator, LOGOUT)
            .bearer(&token)
            .send()
            .await
            .expect(204);
        assert_eq!(check(&token).await, 401);
        // Foreign origins log nobody out.
        let token = host.tokens.access(&User::new(44));
        let call = host
            .post(Service::Coordinator, LOGOUT)
            .cookie("access_token", &token);
        let call = call.header("origin", "https://evil.example");
        call.send().await.expect_error(403, "origin_refused");
        assert_eq!(check(&token).await, 200);
    }
}
