//! `examples/main-api` before a real host: Lockgate up, degraded, down, and something else in
//! its place. What it answers by itself has the form of Lockgate's own answers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lockgate_tests::main_api::{MainApi, Manner, peer};
use lockgate_tests::socket::{Came, Opening};
use lockgate_tests::tokens::{part, set};
use lockgate_tests::wait::eventually;
use lockgate_tests::{Answer, Host, RedisServer, Service, Tokens, User, now};
use reqwest::Method;
use serde_json::{Value, json};

const HEALTH: &str = "/api/v1/health/integration";
const VALIDATE: &str = "/api/v1/session/validate";
const SOCKET: &str = "/api/v1/ws/news";

/// An answer of a session check.
const NOBODY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"valid\":false}";

/// The answer to one who asks too often.
const LIMITED: &str = concat!(
    "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 17\r\nCache-Control: no-store\r\n",
    "Content-Type: application/json\r\nContent-Length: 119\r\n\r\n",
    r#"{"detail":"Too many requests","error":"rate_limited","code":"AUTH_006","#,
    r#""message":"Too many requests","degraded":false}"#,
    "\n",
);

const SERVICES: [&str; 5] = [
    "jwt_token_adapter",
    "session_validation_normalizer",
    "fallback_session_provider",
    "websocket_auth_gateway",
    "service_boundary_coordinator",
];

async fn session(api: &MainApi, token: &str) -> Answer {
    let call = api.call(Method::GET, VALIDATE);
    let call = call.header("x-integration-layer", "true");
    call.cookie("access_token", token).send().await
}

async fn health(api: &MainApi) -> Value {
    let answer = api.call(Method::GET, HEALTH).send().await.expect(200);
    assert_eq!(answer.header("content-type"), "application/json");
    answer.json()
}

/// Names and kinds of the fields.
fn form(value: &Value) -> BTreeMap<String, &'static str> {
    let kind = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    };
    let fields = value.as_object().expect("an object").iter();
    fields.map(|(name, v)| (name.clone(), kind(v))).collect()
}

/// What a gateway says to a user whose token ends then.
fn authorized(end: &Value) -> String {
    let body = json!({"authorized": true, "user_id": 42, "session_id": "s-7Qx", "expires_at": end});
    let body = body.to_string();
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn socket(api: &MainApi, token: &str) -> Opening {
    Opening::at(api.port(), &format!("{SOCKET}?token={token}"))
}

async fn welcomed(opening: Opening) -> Value {
    let mut socket = opening.open().await;
    let welcome = socket.said().await;
    assert_eq!(welcome["type"], "welcome", "{welcome}");
    socket.text("hello").await;
    assert_eq!(socket.said().await["text"], "hello");
    welcome
}

fn is_degraded(health: &Value) {
    assert_eq!(health["status"], "degraded", "{health}");
    assert_eq!(health["degraded"], true, "{health}");
}

/// What the front end shows as degraded, and what 11.1 allows.
fn is_unreachable(health: &Value) {
    is_degraded(health);
    for name in SERVICES {
        let own = name == "service_boundary_coordinator";
        let word = if own { "error" } else { "unknown" };
        assert_eq!(health[name], word, "{health}");
        assert_eq!(health["services"][name]["status"], word, "{health}");
    }
    assert_eq!(health["redis_connection"], "unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn lockgate_is_up() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let api = MainApi::before(&host).await;
    // The chat service is away here, so the gateway is degraded and the others are not.
    let same = eventually("all are probed", async || {
        let own = host.get(Service::Coordinator, HEALTH).send().await.json();
        let words = SERVICES.map(|name| own[name].clone());
        (words[0] == "healthy" && words[3] != "unknown")
            .then_some(words)
            .ok_or(own)
    });
    let words = same.await;
    let body = health(&api).await;
    assert_eq!(SERVICES.map(|name| body[name].clone()), words);
    assert_eq!(body["redis_connection"], "ok");

    let (ada, bob) = (User::new(42), User::new(43));
    let token = host.tokens.access(&ada);
    for method in [Method::GET, Method::POST] {
        for call in [
            api.call(method.clone(), VALIDATE)
                .cookie("access_token", &token),
            api.call(method.clone(), VALIDATE).bearer(&token),
        ] {
            let answer = call.header("x-integration-layer", "true").send().await;
            let answer = answer.expect(200);
            assert_eq!(answer.header("x-integration-layer"), "true");
            assert_eq!(answer.header("x-session-valid"), "true");
            assert_eq!(answer.all("content-type"), ["application/json"]);
            let body = answer.json();
            // Only Lockgate knows the record in Redis.
            assert_eq!(
                (&body["source"], &body["user_id"]),
                (&json!("redis"), &json!(42))
            );
            assert_eq!(body["degraded"], false);
        }
    }
    let body = json!({"token": token});
    let answer = api.call(Method::POST, VALIDATE).json(&body).send().await;
    assert_eq!(answer.expect(200).json()["user_id"], 42);
    let answer = api.call(Method::GET, VALIDATE).send().await.expect(200);
    assert_eq!(answer.json()["error"], "token_missing");
    assert_eq!(answer.header("x-integration-layer"), "");
    api.call(Method::PUT, VALIDATE).send().await.expect(405);

    // What only Lockgate knows: who was logged out.
    let gone = host.tokens.access(&bob);
    let logout = host.post(Service::Coordinator, "/api/v1/auth/logout");
    logout.bearer(&gone).send().await.expect(204);
    let answer = session(&api, &gone).await.expect(401);
    assert_eq!(answer.json()["error"], "token_revoked");
    assert_eq!(answer.header("www-authenticate"), "Bearer");

    let welcome = welcomed(socket(&api, &token)).await;
    assert_eq!(
        (&welcome["user_id"], &welcome["channel"]),
        (&json!(42), &json!("news"))
    );
    for refused in ["", "?token=garbage", &format!("?token={gone}")] {
        let opening = Opening::at(api.port(), &format!("{SOCKET}{refused}"));
        assert_eq!(opening.refused().await.0, 1008, "{refused}");
    }
    let inside = Opening::at(api.port(), &format!("/api/v1/ws/../x?token={token}"));
    assert_eq!(inside.refused().await.0, 1008);
}

/// What a main API is told of its caller by the caller, and by a proxy before it. Uvicorn's
/// default believes 127.0.0.1.
#[tokio::test(flavor = "multi_thread")]
async fn lockgate_learns_the_address_of_the_caller() {
    let host = Host::builder().env("TRUSTED_PROXIES", "127.0.0.1");
    let host = host.start().await;
    let (normalizer, asked) = peer(Manner::Says(NOBODY)).await;
    let url = |service| format!("http://127.0.0.1:{}", host.port(service));
    let peers = [normalizer, url(Service::Gateway), url(Service::Coordinator)];
    let api = MainApi::start(peers, &host.secret_file()).await;
    let client = |address: &str| {
        let builder = reqwest::Client::builder().no_proxy();
        let own = address.parse::<IpAddr>().expect("an address");
        builder.local_address(own).build().expect("a client")
    };
    let (near, far) = (client("127.0.0.1"), client("127.0.0.2"));
    let cases = [
        (&near, None, "127.0.0.1"),
        (&near, Some("198.51.100.7, 203.0.113.9"), "203.0.113.9"),
        (&near, Some("203.0.113.9, 127.0.0.1"), "203.0.113.9"),
        (&far, None, "127.0.0.2"),
        (&far, Some("203.0.113.9"), "127.0.0.2"),
    ];
    for (client, said, seen) in cases {
        let call = api.call(Method::GET, VALIDATE).over(client);
        let call = said
            .iter()
            .fold(call, |call, said| call.header("x-forwarded-for", said));
        call.send().await.expect(200);
        let head = asked.all().pop().expect("it was asked");
        let lines = head.lines().map(str::to_ascii_lowercase);
        let sent: Vec<_> = lines
            .filter(|line| line.starts_with("x-forwarded-for"))
            .collect();
        assert_eq!(sent, [format!("x-forwarded-for: {seen}")], "{said:?}");
    }
    let opening = socket(&api, &host.tokens.access(&User::new(42)));
    welcomed(opening.header("x-forwarded-for", "198.51.100.7, 203.0.113.9")).await;
    eventually("the gateway has logged it", async || {
        let log = host.log();
        log.contains("client=203.0.113.9").then_some(()).ok_or(log)
    })
    .await;
}

/// A cookie opens a socket from its own page only: Lockgate judges what the main API hands on.
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_with_a_cookie_must_come_from_its_own_page() {
    let host = Host::builder().env("TRUSTED_PROXIES", "127.0.0.1");
    let host = host.start().await;
    let api = MainApi::before(&host).await;
    let cookie = format!("access_token={}", host.tokens.access(&User::new(42)));
    let own = format!("http://127.0.0.1:{}", api.port());
    let from = |origin: &str| {
        let opening = Opening::at(api.port(), SOCKET).header("cookie", &cookie);
        opening.header("origin", origin)
    };
    assert_eq!(welcomed(from(&own)).await["user_id"], 42);
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        assert_eq!(from(origin).refused().await.0, 1008, "{origin}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_socket_ends_with_its_token() {
    let host = Host::start().await;
    let api = MainApi::before(&host).await;
    // Five seconds are left of its leeway.
    let mut claims = Tokens::unified_claims(&User::new(42), -55);
    set(&mut claims, "iat", json!(now() - 600));
    let mut socket = socket(&api, &host.tokens.sign(&claims)).open().await;
    assert_eq!(socket.said().await["type"], "welcome");
    assert_eq!(socket.closed().await.0, 4001);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_socket_ends_with_its_session() {
    let host = Host::start().await;
    let api = MainApi::before(&host).await;
    let (ada, bob) = (User::new(42), User::new(43));
    let (kept, gone) = (host.tokens.access(&ada), host.tokens.access(&bob));
    // A second login of the same user, whose cookie comes along.
    let mut claims = Tokens::unified_claims(&bob, 3_600);
    set(&mut claims, "session_id", json!("s-other"));
    let cookie = format!("access_token={}", host.tokens.sign(&claims));
    let mut sockets = Vec::new();
    for opening in [
        socket(&api, &kept),
        socket(&api, &gone),
        socket(&api, &gone).header("cookie", cookie),
    ] {
        let mut socket = opening.open().await;
        assert_eq!(socket.said().await["type"], "welcome");
        sockets.push(socket);
    }
    let [mut other, mut alone, mut beside] = <[_; 3]>::try_from(sockets).unwrap();
    let logout = host.post(Service::Coordinator, "/api/v1/auth/logout");
    logout.bearer(&gone).send().await.expect(204);
    assert_eq!(alone.closed().await.0, 4001);
    assert_eq!(beside.closed().await.0, 4001);
    other.text("still here").await;
    assert_eq!(other.said().await["text"], "still here");
    assert!(!api.log().contains("Traceback"), "{}", api.log());
}

/// It was let in; what cannot be asked now does not end it.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_socket_outlasts_an_outage() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("jwt_secret");
    let mint = Tokens::new(&[b'k'; 48]);
    std::fs::write(&secret, mint.key()).unwrap();
    let (url, asked) = peer(Manner::Says(authorized(&Value::Null).leak())).await;
    let api = MainApi::start([url.clone(), url.clone(), url], &secret).await;
    let mut socket = socket(&api, &mint.access(&User::new(42))).open().await;
    assert_eq!(socket.said().await["type"], "welcome");
    // With the third the second is judged: an authorization says nothing of a session.
    eventually("it is asked again", async || {
        let all = asked.all();
        (all.len() > 2).then_some(()).ok_or(all)
    })
    .await;
    let again = asked.all().pop().expect("it was asked");
    assert!(
        again.starts_with("POST /api/v1/ws-auth/validate "),
        "{again}"
    );
    socket.text("still here").await;
    assert_eq!(socket.said().await["text"], "still here");
}

#[tokio::test(flavor = "multi_thread")]
async fn lockgate_is_degraded() {
    let mut redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let api = MainApi::before(&host).await;
    let token = host.tokens.access(&User::new(42));
    redis.kill();
    let body = eventually("the loss of Redis is known", async || {
        let body = health(&api).await;
        (body["redis_connection"] != "ok").then_some(()).ok_or(body)
    });
    body.await;
    is_degraded(&health(&api).await);
    let answer = session(&api, &token).await.expect(200);
    let body = answer.json();
    assert_eq!(
        (&body["valid"], &body["degraded"]),
        (&json!(true), &json!(true))
    );
    // Lockgate's answer, not the own one: its copy of the session.
    assert_eq!(answer.header("x-degraded-mode"), "true");
    assert_eq!(
        body["session_id"],
        User::new(42).session_id,
        "{body}, {}",
        api.log()
    );
    assert_eq!(welcomed(socket(&api, &token)).await["degraded"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn lockgate_is_down_and_comes_back() {
    let mut host = Host::start().await;
    let api = MainApi::before(&host).await;
    let token = host.tokens.access(&User::new(42));
    let (good, bad) = (session(&api, &token).await, session(&api, "garbage").await);
    let up = health(&api).await;
    host.kill().await;

    let own = session(&api, &token).await.expect(200);
    let (body, before) = (own.json(), good.json());
    assert_eq!(form(&body), form(&before));
    assert_eq!(
        (&body["source"], &body["degraded"]),
        (&json!("jwt"), &json!(true))
    );
    for field in ["valid", "id", "email", "role", "session_id", "expires_at"] {
        assert_eq!(body[field], before[field], "{field}");
    }
    for (name, value) in [
        ("x-integration-layer", "true"),
        ("x-session-format", "enhanced"),
        ("x-session-valid", "true"),
        ("x-degraded-mode", "true"),
        ("cache-control", "no-store"),
        ("vary", good.header("vary")),
    ] {
        assert_eq!(own.header(name), value, "{name}");
    }
    let own = session(&api, "garbage").await.expect(200);
    assert_eq!(form(&own.json()), form(&bad.json()));
    assert_eq!(own.header("x-session-valid"), "false");

    let body = health(&api).await;
    is_unreachable(&body);
    assert_eq!(form(&body), form(&up));
    let entry = |health: &Value| {
        let entry = &health["services"]["jwt_token_adapter"];
        entry
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(entry(&body), entry(&up));
    assert_eq!(socket(&api, &token).refused().await.0, 1013);

    host.start_again().await;
    let body = session(&api, &token).await.expect(200).json();
    assert_eq!(body["degraded"], false, "{body}");
    welcomed(socket(&api, &token)).await;
    assert!(health(&api).await["circuit_breakers"]["redis"].is_object());
}

/// Whatever is presented: the own check says of it what Lockgate said.
#[tokio::test(flavor = "multi_thread")]
async fn the_own_check_judges_as_lockgate_does() {
    let mut host = Host::start().await;
    let api = MainApi::before(&host).await;
    let (user, mint) = (User::new(42), &host.tokens);
    let with = |name: &str, value: Value| {
        let mut claims = Tokens::unified_claims(&user, 3_600);
        set(&mut claims, name, value);
        mint.sign(&claims)
    };
    let without = |name: &str| {
        let mut claims = Tokens::unified_claims(&user, 3_600);
        claims.as_object_mut().unwrap().remove(name);
        mint.sign(&claims)
    };
    let good = mint.access(&user);
    let (head, _) = good.rsplit_once('.').unwrap();
    let none = format!("{}.{}.", part(r#"{"alg":"none"}"#), part("{}"));
    let crit = mint.raw(
        r#"{"alg":"HS256","crit":["exp"]}"#,
        &Tokens::unified_claims(&user, 3_600).to_string(),
    );
    let tokens = [
        good.clone(),
        mint.access(&User::admin(7)),
        mint.enhanced(&user),
        mint.legacy(&user),
        mint.scoped(&user),
        mint.cookie_variant(&user),
        mint.service(),
        mint.expired(&user),
        mint.refresh(&user),
        mint.marked_refresh(&user),
        Tokens::new(&[7; 40]).access(&user),
        format!("{head}."),
        none,
        crit,
        "a.b.c".to_owned(),
        "x".repeat(20_000),
        with("sub", json!(42)),
        with("sub", json!("0")),
        with("sub", json!("-5")),
        with("sub", json!(true)),
        with("sub", json!("zzz")),
        with("role", json!("root")),
        with("role", Value::Null),
        with("email", json!("nobody")),
        with("exp", json!((now() + 600).to_string())),
        with("exp", json!(-1)),
        with("exp", json!(1e300)),
        with("exp", json!(now() - 30)),
        with("iat", json!(now() + 3_600)),
        with("nbf", json!(now() + 3_600)),
        with("aud", json!(["anybody"])),
        with("session_id", json!("123456")),
        with("session_id", json!("a b")),
        without("exp"),
        without("session_id"),
        without("email"),
        format!("\"Bearer {good}\""),
    ];
    const SAME: [&str; 9] = [
        "valid",
        "user_id",
        "email",
        "role",
        "session_id",
        "expires_at",
        "error",
        "code",
        "format_type",
    ];
    let judged = async |token: &str| {
        let call = api.call(Method::POST, VALIDATE);
        let body = call
            .json(&json!({"token": token}))
            .send()
            .await
            .expect(200)
            .json();
        let fields = SAME.map(|name| body.get(name).cloned());
        (body["degraded"] == true, fields)
    };
    let mut before = Vec::new();
    for token in &tokens {
        before.push(judged(token).await);
    }
    assert!(before.iter().any(|(_, said)| said[0] == Some(json!(true))));
    host.kill().await;
    for (token, (degraded, said)) in tokens.iter().zip(before) {
        assert_eq!(judged(token).await, (true, said), "{token}");
        assert!(!degraded);
    }
    // More than one token: a stale header does not hide a good cookie; users do not mix.
    let both = async |bearer: &str, cookie: &str| {
        let call = api.call(Method::GET, VALIDATE).bearer(bearer);
        call.cookie("access_token", cookie).send().await.json()
    };
    let other = host.tokens.access(&User::new(43));
    let stale = host.tokens.expired(&user);
    assert_eq!(both(&stale, &good).await["user_id"], 42);
    assert_eq!(both(&other, &good).await["error"], "consistency_mismatch");
    assert_eq!(both("", "").await["error"], "token_missing");
    // Without its key it can say nothing, and says that.
    std::fs::write(host.secret_file(), "short").unwrap();
    let answer = session(&api, &good).await.expect(503);
    assert_eq!(answer.json()["error"], "service_unavailable");
}

/// Other sites of a domain set such cookies.
#[tokio::test(flavor = "multi_thread")]
async fn headers_beyond_ascii_harm_nobody() {
    let mut host = Host::start().await;
    let api = MainApi::before(&host).await;
    let cookie = format!(
        "name=Zoë; access_token={}; price=1€",
        host.tokens.access(&User::new(42))
    );
    for own in [false, true] {
        if own {
            host.kill().await;
        }
        let call = api.call(Method::GET, VALIDATE).header("cookie", &cookie);
        let body = call.header("x-integration-layer", "Ω").send().await;
        let body = body.expect(200).json();
        assert_eq!(
            (&body["user_id"], &body["degraded"]),
            (&json!(42), &json!(own))
        );
        let opening = Opening::at(api.port(), SOCKET).header("cookie", &cookie);
        let mut socket = opening.open().await;
        match socket.came().await {
            Came::Said(welcome) => assert_eq!((own, &welcome["user_id"]), (false, &json!(42))),
            other => assert!(own && matches!(other, Came::Closed(1013, _)), "{other:?}"),
        }
    }
    assert!(!api.log().contains("Traceback"), "{}", api.log());
}

/// The own check is no way round a limit of Lockgate's.
#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("jwt_secret");
    let mint = Tokens::new(&[b'k'; 48]);
    std::fs::write(&secret, mint.key()).unwrap();
    let token = mint.access(&User::new(42));
    let (url, asked) = peer(Manner::Says(LIMITED)).await;
    let api = MainApi::start([url.clone(), url.clone(), url], &secret).await;
    for method in [Method::GET, Method::POST] {
        let call = api.call(method, VALIDATE).cookie("access_token", &token);
        let answer = call.send().await.expect(429);
        assert_eq!(answer.all("retry-after"), ["17"]);
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.json()["error"], "rate_limited");
    }
    let (code, reason) = socket(&api, &token).refused().await;
    assert_eq!(code, 1013);
    assert!(reason.contains("17 seconds"), "{reason}");
    assert_eq!(asked.all().len(), 3);
}

/// An authorization without a usable end is none: nobody would end the socket.
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_needs_a_readable_end_of_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("jwt_secret");
    let mint = Tokens::new(&[b'k'; 48]);
    std::fs::write(&secret, mint.key()).unwrap();
    let ends = [
        json!("soon"),
        json!(""),
        json!(1_935_655_200),
        json!(true),
        json!({}),
        json!("2031-05-04"),
        json!("2031-05-04T10:00:00"),
        json!("2031-13-04T10:00:00Z"),
        json!("99999-05-04T10:00:00Z"),
    ];
    for end in ends {
        let manner = Manner::Says(authorized(&end).leak());
        let (url, _) = peer(manner).await;
        let api = MainApi::start([url.clone(), url.clone(), url], &secret).await;
        let opening = socket(&api, &mint.access(&User::new(42)));
        let came = opening.open().await.came().await;
        assert!(matches!(came, Came::Closed(1013, _)), "{end}: {came:?}");
        let log = api.log();
        assert!(!log.contains("Traceback"), "{end}: {log}");
    }
}

/// Each is asked once, whatever it does.
#[tokio::test(flavor = "multi_thread")]
async fn something_else_stands_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("jwt_secret");
    let mint = Tokens::new(&[b'k'; 48]);
    std::fs::write(&secret, mint.key()).unwrap();
    let token = mint.access(&User::new(42));
    let manners = [
        Manner::Hangs,
        Manner::Trickles,
        Manner::Floods,
        Manner::Says(""),
        Manner::Says("SSH-2.0-nobody\r\n"),
        Manner::Says("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"valid\":"),
        Manner::Says("HTTP/1.1 503 Away\r\nContent-Length: 15\r\n\r\n{\"valid\":false}"),
        Manner::Says("HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\noops"),
        Manner::Says("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 2\r\n\r\n{}"),
        Manner::Says("HTTP/1.1 404 No\r\nContent-Length: 18\r\n\r\n{\"detail\":\"Not..\"}"),
        Manner::Says("HTTP/1.1 204 None\r\n\r\n"),
        Manner::Says("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n<html>hi</html>"),
        Manner::Says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"),
        Manner::Says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        Manner::Says("HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"valid\":\"false\"}"),
        Manner::Says("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"),
        Manner::Says("HTTP/1.1 401 No\r\nContent-Length: 14\r\n\r\n{\"valid\":true}"),
    ];
    for manner in manners {
        let (url, asked) = peer(manner).await;
        let api = MainApi::start([url.clone(), url.clone(), url], &secret).await;
        let body = session(&api, &token).await.expect(200).json();
        assert_eq!(
            (&body["user_id"], &body["source"]),
            (&json!(42), &json!("jwt")),
            "{manner:?}"
        );
        is_unreachable(&health(&api).await);
        let came = socket(&api, &token).open().await.came().await;
        assert!(
            matches!(came, Came::Closed(1013, _)),
            "{manner:?}: {came:?}"
        );
        assert_eq!(asked.all().len(), 3, "{manner:?}");
        let log = api.log();
        assert!(!log.contains("Traceback"), "{manner:?}: {log}");
    }
}
