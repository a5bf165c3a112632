//! What no client should send: the answer is the contract's error object (or the
//! connection ends), nothing panics, nothing hangs, and the next request works.

use std::time::Duration;

use lockgate_tests::raw::{self, RawAnswer};
use lockgate_tests::shape::{self, E};
use lockgate_tests::{Host, Service, User};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

/// Endpoints that read a body, other than `session/validate`.
const READERS: &[(Service, &str)] = &[
    (Service::Jwt, "/api/v1/jwt/validate"),
    (Service::Jwt, "/api/v1/jwt/refresh"),
    (Service::Session, "/api/v1/session/normalize"),
    (Service::Fallback, "/api/v1/fallback/validate"),
    (Service::Fallback, "/api/v1/fallback/create"),
    (Service::Fallback, "/api/v1/fallback/emergency-auth"),
    (Service::Gateway, "/api/v1/ws-auth/validate"),
    (Service::Gateway, "/api/v1/ws-auth/authorize"),
    (Service::Coordinator, "/api/v1/coordinator/sync-auth"),
];

/// The next request works, on every port, and nothing has panicked.
async fn alive(host: &mut Host, after: &str) {
    assert!(host.is_running(), "the host left after {after}");
    for service in Service::ALL {
        let answer = host.get(service, "/health").send().await;
        assert_eq!(
            answer.status,
            200,
            "{service:?} after {after}: {}",
            answer.text()
        );
    }
    let token = host.tokens.access(&User::new(42));
    let call = host
        .get(Service::Session, "/api/v1/session/validate")
        .bearer(&token);
    assert_eq!(
        call.send().await.expect(200).json()["valid"],
        true,
        "after {after}"
    );
    let log = host.log();
    assert!(!log.contains("panicked"), "after {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies() {
    let mut host = Host::builder()
        .env("FALLBACK_RATE_LIMIT", "100000")
        .start()
        .await;
    let good = host.tokens.access(&User::new(42));
    for (service, path) in READERS {
        let post = || host.post(*service, path).bearer(&good);
        let broken: [&[u8]; 12] = [
            b"{",
            b"}",
            b"{\"token\":\"x\"",
            b"{\"token\":\"x\",}",
            b"{token:1}",
            b"[1,2",
            b"nul",
            b"\x00",
            b"\xff\xfe\x7b\x00\x7d\x00",
            b"{\"token\":\"\xff\"}",
            b"{}{}",
            b"token=x&y=z",
        ];
        for body in broken {
            for kind in [
                "application/json",
                "text/plain",
                "multipart/form-data; boundary=x",
            ] {
                let answer = post().header("content-type", kind).body(body).send().await;
                answer.expect_error(400, "invalid_request");
            }
        }
        // Half a surrogate pair is allowed by the grammar, but no text (RFC 8259 section 8.2).
        let answer = post().body("{\"token\":\"\\ud800\"}").send().await;
        assert!(
            (400..500).contains(&answer.status),
            "{path}: {}",
            answer.text()
        );
        for body in ["[]", "[{}]", "\"text\"", "5", "true", "-1.5e300"] {
            post()
                .body(body)
                .send()
                .await
                .expect_error(422, "invalid_request");
        }
        // Deep, wide and long values: whatever the answer, it is one of ours.
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000));
        let objects = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
        let wide = format!("{{{}\"z\":1}}", "\"a\":1,".repeat(10_000));
        let number = format!("{{\"x\":{}}}", "9".repeat(60_000));
        for body in [deep, objects, wide, number] {
            let answer = post().body(body).send().await;
            assert!(answer.status < 500, "{path}: {}", answer.text());
            answer.conventional();
        }
        // Nothing, whatever its type, counts as {}.
        let plain = post().json(&json!({})).send().await;
        for kind in [
            "application/json",
            "text/html",
            "application/json; charset=utf-16",
            "??",
        ] {
            let answer = post().header("content-type", kind).send().await;
            assert_eq!(
                answer.status / 100,
                plain.status / 100,
                "{path} {kind}: {}",
                answer.text()
            );
            assert!(
                ![400, 415].contains(&answer.status),
                "{path} {kind}: {}",
                answer.text()
            );
        }
        // The size: 64 KiB is good, one more is not; with a length and in chunks.
        let mut full = b"{}".to_vec();
        full.resize(64 * 1024, b' ');
        let answer = post().body(full.clone()).send().await;
        assert_eq!(
            answer.status / 100,
            plain.status / 100,
            "{path}: {}",
            answer.text()
        );
        full.push(b' ');
        post()
            .body(full.clone())
            .send()
            .await
            .expect_error(413, "invalid_request");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let mut request = head.into_bytes();
        for part in full.chunks(10_000) {
            request.extend(format!("{:x}\r\n", part.len()).bytes());
            request.extend(part);
            request.extend(b"\r\n");
        }
        request.extend(b"0\r\n\r\n");
        refused(
            &raw::exchange(host.port(*service), &request).await,
            &[413],
            path,
        );
        // A length that nobody will send: refused before the body.
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 99999999999\r\n\r\n{{"
        );
        refused(
            &raw::exchange(host.port(*service), head.as_bytes()).await,
            &[413],
            path,
        );
    }
    alive(&mut host, "bodies").await;
}

/// Asserts an answer in form E with one of these statuses.
#[track_caller]
fn refused(bytes: &[u8], statuses: &[u16], what: &str) {
    let text = String::from_utf8_lossy(bytes);
    let answer = RawAnswer::parse(bytes).unwrap_or_else(|| panic!("{what}: no answer: {text}"));
    assert!(statuses.contains(&answer.status), "{what}: {text}");
    shape::exact(&answer.json(), E);
    assert_eq!(answer.json()["error"], "invalid_request", "{what}: {text}");
}

/// As [`refused`], but the connection may also just end, as hyper does with what is
/// no HTTP; the body is ours or empty.
#[track_caller]
fn refused_or_closed(bytes: &[u8], what: &str) {
    let Some(answer) = RawAnswer::parse(bytes) else {
        assert!(
            bytes.is_empty(),
            "{what}: {}",
            String::from_utf8_lossy(bytes)
        );
        return;
    };
    let text = String::from_utf8_lossy(bytes);
    assert!((400..500).contains(&answer.status), "{what}: {text}");
    if !answer.body.is_empty() {
        shape::exact(&answer.json(), E);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads() {
    let mut host = Host::start().await;
    let port = host.port(Service::Session);
    let path = "/api/v1/session/validate";
    let head =
        |more: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n");

    let flood: String = (0..2_000).map(|n| format!("x-{n}: y\r\n")).collect();
    let long = format!("x-long: {}\r\n", "y".repeat(200_000));
    let token = format!("authorization: Bearer {}\r\n", "y".repeat(1_000_000));
    let cookie = format!("cookie: access_token={}\r\n", "y".repeat(1_000_000));
    for (name, more) in [
        ("2,000 headers", flood),
        ("a long header", long),
        ("a 1 MB token", token),
        ("a 1 MB cookie", cookie),
    ] {
        let bytes = raw::exchange(port, head(&more).as_bytes()).await;
        refused_or_closed(&bytes, name);
        alive(&mut host, name).await;
    }
    let uri = format!(
        "GET /{} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        "y".repeat(500_000)
    );
    refused_or_closed(&raw::exchange(port, uri.as_bytes()).await, "a long path");

    let raw_requests: [(&str, &[u8]); 14] = [
        ("a path that is not UTF-8", b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        ("a space in the path", b"GET /a b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        ("no version", b"GET /health\r\n\r\n"),
        ("a version of the future", b"GET /health HTTP/9.9\r\nhost: x\r\n\r\n"),
        ("not HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
        ("text", b"hello\r\n\r\n"),
        ("a header without a colon", b"GET /health HTTP/1.1\r\nhost x\r\nconnection: close\r\n\r\n"),
        ("a header with a space", b"GET /health HTTP/1.1\r\nhost : x\r\nconnection: close\r\n\r\n"),
        ("NUL in a header", b"GET /health HTTP/1.1\r\nhost: x\r\nx: a\x00b\r\nconnection: close\r\n\r\n"),
        ("two lengths", b"POST /api/v1/session/validate HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{} "),
        ("a negative length", b"POST /api/v1/session/validate HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: -2\r\n\r\n{}"),
        ("an unknown coding", b"POST /api/v1/session/validate HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: zip\r\n\r\n{}"),
        ("a chunk size that is none", b"POST /api/v1/jwt/validate HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"),
        ("a huge chunk", b"POST /api/v1/jwt/validate HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
    ];
    for (name, request) in raw_requests {
        refused_or_closed(&raw::exchange(port, request).await, name);
    }
    alive(&mut host, "odd heads").await;

    // Values that are not UTF-8, absolute URIs, a length beside chunks: answered or refused.
    for (name, request) in [
        (
            "Authorization not UTF-8",
            &b"authorization: Bearer \xff\xfe\r\n"[..],
        ),
        ("Cookie not UTF-8", b"cookie: access_token=\xff\xfe\r\n"),
        (
            "cookies of all kinds",
            b"cookie: ;;;=; =x; a; access_token; access_token==; \"\r\n",
        ),
        ("an empty cookie", b"cookie:\r\n"),
        ("an empty Authorization", b"authorization:\r\n"),
        ("only the scheme", b"authorization: Bearer\r\n"),
        (
            "only the scheme and spaces",
            b"authorization: Bearer    \r\n",
        ),
        (
            "two Authorization headers",
            b"authorization: Bearer x\r\nauthorization: Bearer y\r\n",
        ),
        (
            "forwarding nonsense",
            b"x-forwarded-for: ,,;\xff\r\nx-forwarded-host: \xff\r\nforwarded: for=\r\n",
        ),
        ("odd Origin", b"origin: \xff://\r\nsec-fetch-site: \xff\r\n"),
        ("service secret not UTF-8", b"x-service-secret: \xff\r\n"),
    ] {
        let mut bytes =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n").into_bytes();
        bytes.extend(request);
        bytes.extend(b"\r\n");
        let bytes = raw::exchange(port, &bytes).await;
        let answer = RawAnswer::parse(&bytes).unwrap_or_else(|| panic!("{name}: no answer"));
        assert_eq!(
            answer.status,
            200,
            "{name}: {}",
            String::from_utf8_lossy(&bytes)
        );
        assert_eq!(answer.json()["valid"], false, "{name}");
    }
    alive(&mut host, "odd values").await;
}

/// Cookies that come twice; tokens as large as the limits let them be.
#[tokio::test(flavor = "multi_thread")]
async fn cookies_and_large_tokens() {
    let mut host = Host::start().await;
    let good = host.tokens.access(&User::new(42));
    let get = || host.get(Service::Session, "/api/v1/session/validate");
    for (first, second) in [("garbage", good.as_str()), (good.as_str(), "garbage")] {
        let call = get()
            .cookie("access_token", first)
            .cookie("access_token", second);
        let body = call.send().await.expect(200).auth();
        assert!(body["valid"].is_boolean(), "{body}");
    }
    let call = get()
        .header("cookie", "access_token=x")
        .header("cookie", &format!("auth_token={good}"));
    assert_eq!(
        call.send().await.expect(200).json()["valid"],
        true,
        "two Cookie headers"
    );

    let huge = "y".repeat(1_000_000);
    for (service, path) in READERS {
        let call = host
            .post(*service, path)
            .json(&json!({"token": huge, "refresh_token": huge}));
        refused_or_413(call.try_send().await, path);
    }
    let large = format!(
        "{}.{}.{}",
        "e".repeat(20_000),
        "y".repeat(20_000),
        "z".repeat(20_000)
    );
    let call = host
        .post(Service::Jwt, "/api/v1/jwt/validate")
        .json(&json!({"token": large}));
    call.send().await.expect_invalid("invalid_token");
    let dots = ".".repeat(60_000);
    let call = host
        .post(Service::Jwt, "/api/v1/jwt/validate")
        .json(&json!({"token": dots}));
    call.send().await.expect_invalid("invalid_token");
    let spaces = format!("{{\"token\":\"{}\"}}", "Bearer ".repeat(8_000));
    let call = host
        .post(Service::Jwt, "/api/v1/jwt/validate")
        .body(spaces)
        .send()
        .await;
    assert_eq!(call.expect(200).auth()["valid"], false);
    alive(&mut host, "large tokens").await;
}

/// A body that is far too large may meet a closed connection instead of its answer.
fn refused_or_413(answer: reqwest::Result<lockgate_tests::Answer>, path: &str) {
    match answer {
        Ok(answer) => drop(answer.expect_error(413, "invalid_request")),
        Err(error) => assert!(!error.is_timeout(), "{path}: {error}"),
    }
}

/// RFC 9112 section 9.6: what follows a body that was not read can be no request, so the
/// answer says that the connection ends, and arrives although the client sends on.
#[tokio::test(flavor = "multi_thread")]
async fn an_unread_body_ends_its_connection() {
    let host = Host::start().await;
    let body = vec![b' '; 500_000];
    let length = body.len();
    for (what, framing) in [
        ("a length", format!("content-length: {length}\r\n\r\n")),
        (
            "a chunk",
            format!("transfer-encoding: chunked\r\n\r\n{length:x}\r\n"),
        ),
    ] {
        let mut stream = raw::connect(host.port(Service::Jwt)).await;
        let head = format!("POST /api/v1/jwt/validate HTTP/1.1\r\nhost: x\r\n{framing}");
        stream.write_all(head.as_bytes()).await.unwrap();
        // The host has refused the length by now, and still takes what comes.
        tokio::time::sleep(Duration::from_millis(100)).await;
        for part in body.chunks(50_000) {
            stream.write_all(part).await.expect(what);
        }
        stream.shutdown().await.expect(what);
        let text = raw::read_to_close(&mut stream, Duration::from_secs(60)).await;
        refused(&text, &[413], what);
        let answer = RawAnswer::parse(&text).unwrap();
        let closes = |line: &String| line.eq_ignore_ascii_case("connection: close");
        assert!(answer.headers.iter().any(closes), "{what}: {answer:?}");
    }
    // A body that was read leaves the connection as it is, whatever the answer.
    let mut stream = raw::connect(host.port(Service::Jwt)).await;
    let bad = "POST /api/v1/jwt/validate HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n{";
    let last = "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let both = format!("{bad}{last}");
    stream.write_all(both.as_bytes()).await.unwrap();
    let text = raw::read_to_close(&mut stream, Duration::from_secs(60)).await;
    let text = String::from_utf8_lossy(&text);
    assert_eq!(text.matches("HTTP/1.1 ").count(), 2, "{text}");
    assert_eq!(
        text.matches("connection: close").count(),
        1,
        "only of the last: {text}"
    );
}

/// Clients that stop half way: they are let go, and nobody else waits.
#[tokio::test(flavor = "multi_thread")]
async fn slow_and_unfinished() {
    let mut host = Host::start().await;
    let port = host.port(Service::Jwt);
    let guard = Duration::from_secs(120);
    let mut waiting = tokio::task::JoinSet::new();
    for (name, sent) in [
        ("nothing after the first line", "GET /health HTTP/1.1\r\n"),
        (
            "half a header",
            "GET /health HTTP/1.1\r\nhost: x\r\nx-half: ab",
        ),
        (
            "half a body",
            "POST /api/v1/jwt/validate HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"token\":",
        ),
        (
            "half a chunk",
            "POST /api/v1/jwt/validate HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n40\r\n{\"to",
        ),
    ] {
        waiting.spawn(async move {
            let mut stream = raw::connect(port).await;
            stream.write_all(sent.as_bytes()).await.unwrap();
            (name, raw::read_to_close(&mut stream, guard).await)
        });
    }
    // One header byte after the other does not keep a connection for ever.
    waiting.spawn(async move {
        let mut stream = raw::connect(port).await;
        stream
            .write_all(b"GET /health HTTP/1.1\r\nx: ")
            .await
            .unwrap();
        let begin = tokio::time::Instant::now();
        while stream.write_all(b"y").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(
                begin.elapsed() < guard,
                "a trickle of header bytes was never cut off"
            );
        }
        ("a trickle", Vec::new())
    });
    // Meanwhile the port serves others, and hundreds of half-open ones.
    let mut idle = Vec::new();
    for _ in 0..300 {
        let mut stream = raw::connect(port).await;
        stream
            .write_all(b"POST /api/v1/jwt/validate HTTP/1.1\r\n")
            .await
            .unwrap();
        idle.push(stream);
    }
    alive(&mut host, "half-open requests were made").await;
    drop(idle);
    while let Some(done) = waiting.join_next().await {
        let (name, bytes) = done.unwrap();
        match RawAnswer::parse(&bytes) {
            Some(answer) => {
                assert_eq!(
                    answer.status,
                    408,
                    "{name}: {}",
                    String::from_utf8_lossy(&bytes)
                );
                shape::exact(&answer.json(), E);
            }
            None => assert!(
                bytes.is_empty(),
                "{name}: {}",
                String::from_utf8_lossy(&bytes)
            ),
        }
    }
    // Clients that leave in the middle.
    for sent in [
        "GET /heal",
        "POST /api/v1/jwt/validate HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{",
    ] {
        let mut stream = raw::connect(port).await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        drop(stream);
    }
    alive(&mut host, "unfinished requests").await;
}
