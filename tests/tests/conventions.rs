//! What holds for all endpoints: verbs, paths, headers, protocols, and where a
//! change may come from.

use lockgate_tests::http::client_h2c;
use lockgate_tests::raw;
use lockgate_tests::{Answer, Call, Host, Service, User};
use reqwest::{Method, Version};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const GET: &[&str] = &["GET"];
const POST: &[&str] = &["POST"];
/// Every endpoint of every port, with its verbs.
const ENDPOINTS: &[(Service, &str, &[&str])] = &[
    (Service::Jwt, "/api/v1/jwt/validate", POST),
    (Service::Jwt, "/api/v1/jwt/refresh", POST),
    (Service::Jwt, "/api/v1/jwt/health", GET),
    (Service::Jwt, "/api/v1/jwt/status", GET),
    (Service::Jwt, "/api/v1/auth/verify-token", GET),
    (Service::Jwt, "/health", GET),
    (
        Service::Session,
        "/api/v1/session/validate",
        &["GET", "POST"],
    ),
    (Service::Session, "/api/v1/session/info", GET),
    (Service::Session, "/api/v1/session/normalize", POST),
    (Service::Session, "/api/v1/session/health", GET),
    (Service::Session, "/health", GET),
    (Service::Fallback, "/api/v1/fallback/validate", POST),
    (Service::Fallback, "/api/v1/fallback/create", POST),
    (Service::Fallback, "/api/v1/fallback/health", GET),
    (Service::Fallback, "/api/v1/fallback/emergency-auth", POST),
    (Service::Fallback, "/health", GET),
    (Service::Gateway, "/api/v1/ws-auth/validate", POST),
    (Service::Gateway, "/api/v1/ws-auth/connection-info", GET),
    (Service::Gateway, "/api/v1/ws-auth/authorize", POST),
    (Service::Gateway, "/api/v1/ws-auth/health", GET),
    (Service::Gateway, "/health", GET),
    (Service::Coordinator, "/api/v1/health/integration", GET),
    (Service::Coordinator, "/api/v1/coordinator/status", GET),
    (Service::Coordinator, "/api/v1/coordinator/sync-auth", POST),
    (Service::Coordinator, "/api/v1/coordinator/services", GET),
    (Service::Coordinator, "/api/v1/auth/logout", POST),
    (Service::Coordinator, "/health", GET),
];

/// Unknown paths and wrong verbs; HEAD; no CORS, no caching by age.
#[tokio::test(flavor = "multi_thread")]
async fn verbs_and_paths() {
    let host = Host::start().await;
    for (service, path, verbs) in ENDPOINTS {
        for verb in [
            "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND",
        ] {
            let method = Method::from_bytes(verb.as_bytes()).unwrap();
            let call = host
                .call(method, *service, path)
                .header("origin", "https://evil.example");
            let answer = call
                .header("access-control-request-method", "POST")
                .send()
                .await;
            if verbs.contains(&verb) {
                assert!(
                    ![404, 405, 500, 503].contains(&answer.status),
                    "{verb} {path}: {}",
                    answer.text()
                );
                answer.conventional();
            } else {
                answer.expect_error(405, "invalid_request");
                let allow = answer.header("allow");
                for good in *verbs {
                    assert!(
                        allow.split(", ").any(|v| v == *good),
                        "{verb} {path}: Allow {allow}"
                    );
                }
                assert!(!allow.contains(verb), "{verb} {path}: Allow {allow}");
            }
            assert!(
                !answer.header("cache-control").contains("max-age"),
                "{path}"
            );
        }
        if verbs.contains(&"GET") {
            let get = host.get(*service, path).send().await;
            let head = host.call(Method::HEAD, *service, path).send().await;
            assert_eq!(head.status, get.status, "HEAD {path}");
            assert_eq!(
                head.header("content-type"),
                get.header("content-type"),
                "HEAD {path}"
            );
            assert!(head.body.is_empty(), "HEAD {path}");
        } else {
            let head = host.call(Method::HEAD, *service, path).send().await;
            assert_eq!(head.status, 405, "HEAD {path}");
        }
    }
    for service in Service::ALL {
        for path in [
            "/",
            "/nothing",
            "/api",
            "/api/v1/",
            "/health/",
            "//health",
            "/HEALTH",
            "/health/../nothing",
            "/%68ealth/x",
            "/api/v1/jwt/validate/x",
            "/api/v1/unknown?x=/health",
            "/%00",
            "/%ff%fe",
            "/%zz",
        ] {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                let answer = host.call(method, service, path).send().await;
                answer.expect_error(404, "invalid_request");
            }
        }
        // The paths of one service are unknown on the ports of the others.
        for (owner, path, verbs) in ENDPOINTS {
            if *owner != service && *path != "/health" {
                let method = Method::from_bytes(verbs[0].as_bytes()).unwrap();
                let answer = host.call(method, service, path).send().await;
                answer.expect_error(404, "invalid_request");
            }
        }
        // A query changes nothing.
        host.get(service, "/health?x=1&y").send().await.expect(200);
    }
}

/// One request after the other on one connection, pipelined and not; HTTP/2.
#[tokio::test(flavor = "multi_thread")]
async fn protocols() {
    let host = Host::start().await;
    let token = host.tokens.access(&User::new(42));
    let mut stream = raw::connect(host.port(Service::Jwt)).await;
    for _ in 0..20 {
        let body = json!({"token": token}).to_string();
        let request = format!(
            "POST /api/v1/jwt/validate HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = one_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("}\n"), "{answer}");
    }
    let two = "GET /health HTTP/1.1\r\nhost: x\r\n\r\nGET /nothing HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(two.as_bytes()).await.unwrap();
    assert!(one_answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    assert!(one_answer(&mut stream).await.starts_with("HTTP/1.1 404"));
    drop(stream);
    let old = raw::exchange(host.port(Service::Jwt), b"GET /health HTTP/1.0\r\n\r\n").await;
    assert!(
        String::from_utf8_lossy(&old).contains(" 200 "),
        "{}",
        String::from_utf8_lossy(&old)
    );

    let h2 = client_h2c();
    for service in Service::ALL {
        let answer = host
            .get(service, "/health")
            .over(&h2)
            .send()
            .await
            .expect(200);
        assert_eq!(answer.version, Version::HTTP_2);
        answer.conventional();
    }
    let mut many = tokio::task::JoinSet::new();
    for id in 1..=50_u32 {
        let token = host.tokens.access(&User::new(id));
        let call = host
            .get(Service::Session, "/api/v1/session/validate")
            .over(&h2);
        many.spawn(async move { (id, call.cookie("access_token", &token).send().await) });
    }
    while let Some(done) = many.join_next().await {
        let (id, answer) = done.unwrap();
        assert_eq!(
            answer.expect(200).json()["user_id"],
            id,
            "everybody gets the own answer"
        );
    }
    let call = host
        .post(Service::Jwt, "/api/v1/jwt/validate")
        .over(&h2)
        .body(vec![b' '; 65_537]);
    call.send().await.expect_error(413, "invalid_request");
    host.call(Method::HEAD, Service::Jwt, "/health")
        .over(&h2)
        .send()
        .await
        .expect(200);
}

/// Reads one answer with a `Content-Length` from a connection that stays open.
async fn one_answer(stream: &mut tokio::net::TcpStream) -> String {
    let read = async {
        let mut all = Vec::new();
        loop {
            all.push(stream.read_u8().await.expect("the connection stays open"));
            let Some(end) = all.windows(4).position(|w| w == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&all).to_lowercase();
            let length = head
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "));
            let length: usize = length.expect("a length").trim().parse().unwrap();
            if all.len() == end + 4 + length {
                return String::from_utf8(all).unwrap();
            }
        }
    };
    tokio::time::timeout(lockgate_tests::http::HANG, read)
        .await
        .expect("an answer in time")
}

/// `Expect: 100-continue`, as curl sends it with larger bodies.
#[tokio::test(flavor = "multi_thread")]
async fn expect_continue() {
    let host = Host::start().await;
    let mut stream = raw::connect(host.port(Service::Jwt)).await;
    let head = "POST /api/v1/jwt/validate HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\
        expect: 100-continue\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    stream.write_all(b"{}").await.unwrap();
    let all = raw::read_to_close(&mut stream, lockgate_tests::http::HANG).await;
    let text = String::from_utf8_lossy(&all);
    assert!(text.contains("HTTP/1.1 200"), "{text}");
    assert!(text.contains("token_missing"), "{text}");
}

/// The calls that change something on the strength of a cookie.
fn changes(host: &Host, user: &User) -> Vec<(&'static str, Call)> {
    let access = host.tokens.access(user);
    let refresh = host.tokens.marked_refresh(user);
    let event = json!({"user_id": user.id, "email": user.email, "event_type": "login",
        "source": "frontend"});
    let with_csrf = |call: Call| {
        call.cookie("access_token", &access)
            .cookie("csrf_token", "c")
            .header("x-csrf-token", "c")
    };
    vec![
        (
            "refresh",
            host.post(Service::Jwt, "/api/v1/jwt/refresh")
                .cookie("refresh_token", &refresh),
        ),
        (
            "create",
            with_csrf(host.post(Service::Fallback, "/api/v1/fallback/create")),
        ),
        (
            "emergency-auth",
            host.post(Service::Fallback, "/api/v1/fallback/emergency-auth")
                .cookie("access_token", &access),
        ),
        (
            "authorize",
            host.post(Service::Gateway, "/api/v1/ws-auth/authorize")
                .cookie("access_token", &access),
        ),
        (
            "sync-auth",
            with_csrf(host.post(Service::Coordinator, "/api/v1/coordinator/sync-auth"))
                .json(&event),
        ),
        (
            "logout",
            host.post(Service::Coordinator, "/api/v1/auth/logout")
                .cookie("access_token", &access),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn origins() {
    let host = Host::builder()
        .env(
            "ALLOWED_ORIGINS",
            "https://app.example.org,http://localhost:3001",
        )
        .env("FALLBACK_RATE_LIMIT", "1000")
        .start()
        .await;
    let proxied = Host::builder()
        .env("TRUSTED_PROXIES", "10.0.0.0/8, 127.0.0.1/32")
        .env("FALLBACK_RATE_LIMIT", "1000")
        .start()
        .await;
    let own = |host: &Host, name: &str| -> String {
        let service = match name {
            "refresh" => Service::Jwt,
            "create" | "emergency-auth" => Service::Fallback,
            "authorize" => Service::Gateway,
            _ => Service::Coordinator,
        };
        format!("127.0.0.1:{}", host.port(service))
    };
    let mut next = 100;
    let mut run = async |host: &Host, headers: &[(&str, &str)], allowed: bool| {
        next += 1;
        for (name, call) in changes(host, &User::new(next)) {
            let own = own(host, name);
            let call = headers.iter().fold(call, |call, (name, value)| {
                call.header(name, &value.replace("OWN", &own))
            });
            let answer: Answer = call.send().await;
            if allowed {
                assert!(
                    (200..300).contains(&answer.status),
                    "{name} {headers:?}: {}",
                    answer.text()
                );
            } else {
                assert_eq!(answer.status, 403, "{name} {headers:?}: {}", answer.text());
                let body: Value = answer.auth();
                assert_eq!(body["error"], "origin_refused", "{name} {headers:?}");
                assert_eq!(body["code"], "AUTH_002", "{name} {headers:?}");
            }
        }
    };
    for (headers, allowed) in [
        (&[][..], true),
        (&[("origin", "http://OWN")], true),
        (&[("origin", "HTTP://OWN")], true),
        (&[("origin", "https://app.example.org")], true),
        (&[("origin", "http://localhost:3001")], true),
        (
            &[("origin", "http://OWN"), ("sec-fetch-site", "same-origin")],
            true,
        ),
        (&[("sec-fetch-site", "same-origin")], true),
        (&[("sec-fetch-site", "none")], true),
        (&[("origin", "null")], false),
        (&[("origin", "https://OWN")], false),
        (&[("origin", "https://evil.example")], false),
        (&[("origin", "http://app.example.org")], false),
        (&[("origin", "https://app.example.org.evil.example")], false),
        (&[("origin", "https://app.example.org:444")], false),
        (&[("origin", "http://127.0.0.1:1")], false),
        (&[("origin", "")], false),
        (&[("sec-fetch-site", "cross-site")], false),
        (&[("sec-fetch-site", "same-site")], false),
        (
            &[("origin", "http://OWN"), ("sec-fetch-site", "cross-site")],
            false,
        ),
        (
            &[
                ("origin", "https://evil.example"),
                ("x-forwarded-host", "evil.example"),
                ("x-forwarded-proto", "https"),
            ],
            false,
        ),
    ] {
        run(&host, headers, allowed).await;
    }
    let forwarded = [
        ("x-forwarded-host", "www.example.org"),
        ("x-forwarded-proto", "https"),
    ];
    for (origin, allowed) in [
        ("https://www.example.org", true),
        ("https://WWW.example.org", true),
        ("https://www.example.org:443", true),
        ("http://www.example.org", false),
        ("https://evil.example", false),
        ("http://OWN", false),
    ] {
        let headers = [&[("origin", origin)][..], &forwarded].concat();
        run(&proxied, &headers, allowed).await;
    }

    // Checks that only read do not look at it.
    let token = host.tokens.access(&User::new(42));
    for (service, path) in [
        (Service::Session, "/api/v1/session/validate"),
        (Service::Jwt, "/api/v1/jwt/validate"),
        (Service::Fallback, "/api/v1/fallback/validate"),
        (Service::Gateway, "/api/v1/ws-auth/validate"),
        (Service::Session, "/api/v1/session/normalize"),
    ] {
        let call = host.post(service, path).cookie("access_token", &token);
        let call = call.header("origin", "https://evil.example");
        call.header("sec-fetch-site", "cross-site")
            .send()
            .await
            .expect(200);
    }
}

/// A name alone serves that service only, and reports that name.
#[tokio::test(flavor = "multi_thread")]
async fn one_service_by_name() {
    for name in ["jwt-token-adapter", "jwt-token-adapter-service"] {
        let host = Host::builder().env("SERVICE_NAME", name).start().await;
        let body = host
            .get(Service::Jwt, "/health")
            .send()
            .await
            .expect(200)
            .json();
        assert_eq!(body["service"], name);
        for service in &Service::ALL[1..] {
            assert!(
                host.get(*service, "/health").try_send().await.is_err(),
                "{service:?}"
            );
        }
        let token = host.tokens.access(&User::new(42));
        let answer = host
            .post(Service::Jwt, "/api/v1/jwt/validate")
            .bearer(&token)
            .send()
            .await;
        assert_eq!(answer.json()["valid"], true);
    }
}
