//! Attacks below and beside the tokens: where a request says it comes from, smuggled
//! requests, headers and cookies, and clients that pose as many. What conventions.rs
//! and bad_input.rs have is not repeated.

use std::time::Instant;

use lockgate_tests::raw::{self, RawAnswer};
use lockgate_tests::{Answer, Call, Host, Service, User, attacks};
use serde_json::{Value, json};

const LOGOUT: &str = "/api/v1/auth/logout";
const VALIDATE: &str = "/api/v1/session/validate";
const EMERGENCY: &str = "/api/v1/fallback/emergency-auth";

fn logout(host: &Host) -> Call {
    host.post(Service::Coordinator, LOGOUT)
}

/// A logout without a token changes nothing: 204 or, from a foreign origin, 403.
#[track_caller]
fn judged(answer: &Answer, trusted: bool, what: &str) {
    if trusted {
        assert_eq!(answer.status, 204, "{what}: {}", answer.text());
    } else {
        attacks::note(answer.status == 403, answer.status);
        answer.expect_error(403, "origin_refused");
        assert!(answer.all("set-cookie").is_empty(), "{what}");
    }
}

/// Origins that look like ours, and are not.
#[tokio::test(flavor = "multi_thread")]
async fn origins_that_look_like_ours() {
    let host = Host::builder()
        .env("ALLOWED_ORIGINS", "https://app.example.org")
        .start()
        .await;
    let own = format!("127.0.0.1:{}", host.port(Service::Coordinator));
    for foreign in [
        // Of the allowed one.
        "https://app.example.org.",
        "https://app.example.org.evil.example",
        "https://evil-app.example.org",
        "https://evilapp.example.org",
        "https://sub.app.example.org",
        "https://example.org",
        "https://app.example.orgx",
        "https://app.example.org:8443",
        "https://app.example.org:80",
        "https://app.example.org:99999",
        "https://app.example.org:443x",
        "https://app.example.org:0443443",
        "https://app.example.org@evil.example",
        "https://evil.example@app.example.org",
        "https://evil.example:x@app.example.org",
        "https://app.example.org/../evil",
        "https://app.example.org/path",
        "https://app.example.org?x",
        "https://app.example.org#x",
        "https://app.example.org\\evil.example",
        "https://app.example.org%2eevil.example",
        "https://app%2eexample.org",
        "https://evil.example#https://app.example.org",
        "https://evil.example?https://app.example.org",
        "https://evil.example/https://app.example.org",
        "https://app.example.org https://evil.example",
        "https://evil.example https://app.example.org",
        "https://app.example.org, https://evil.example",
        "https://evil.example,https://app.example.org",
        "https://https://app.example.org",
        "https:app.example.org",
        "https:/app.example.org",
        "//app.example.org",
        "app.example.org",
        "http://app.example.org",
        "wss://app.example.org",
        "ftp://app.example.org",
        "chrome-extension://app.example.org",
        "app://app.example.org",
        "file://",
        "file:///",
        "data:text/html,x",
        "blob:https://app.example.org",
        "about:blank",
        "javascript:alert(1)",
        "null",
        "NULL",
        "undefined",
        "*",
        "://",
        "https://",
        "https://:443",
        "https://*",
        "https://*.example.org",
        "https://xn--pp-tka.example.org",
        // Of the request's own host.
        "https://OWN",
        "http://OWN@evil.example",
        "http://evil.example@OWN",
        "http://OWN.evil.example",
        "http://evil.example/OWN",
        "http://127.0.0.1",
        "http://127.1:PORT",
        "http://2130706433:PORT",
        "http://0x7f.0.0.1:PORT",
        "http://0177.0.0.1:PORT",
        "http://localhost:PORT",
        "http://127.0.0.1.:PORT",
        "http://[::1]:PORT",
        "http://[::ffff:127.0.0.1]:PORT",
        "http://[::ffff:7f00:1]:PORT",
        "http://[127.0.0.1]:PORT",
        "http://[127.0.0.1:PORT",
        "http://127.0.0.1:PORTPORT",
    ] {
        let port = host.port(Service::Coordinator).to_string();
        let origin = foreign.replace("OWN", &own).replace("PORT", &port);
        let answer = logout(&host).header("origin", &origin).send().await;
        judged(&answer, false, &origin);
    }
    for ours in [
        "https://app.example.org",
        "HTTPS://APP.EXAMPLE.ORG",
        "https://app.example.org:443",
        "http://OWN",
    ] {
        let origin = ours.replace("OWN", &own);
        let answer = logout(&host).header("origin", &origin).send().await;
        judged(&answer, true, &origin);
        // A second one makes it nobody's.
        for second in [origin.as_str(), "https://evil.example", "null"] {
            let call = logout(&host)
                .header("origin", &origin)
                .header("origin", second);
            judged(&call.send().await, false, second);
        }
    }
}

/// What the browser says of the site: one bad word is enough, and no good word makes
/// up for a foreign origin.
#[tokio::test(flavor = "multi_thread")]
async fn fetch_metadata_cannot_be_talked_away() {
    let host = Host::start().await;
    let own = format!("http://127.0.0.1:{}", host.port(Service::Coordinator));
    for (headers, trusted) in [
        (&[("sec-fetch-site", "cross-site")][..], false),
        (&[("sec-fetch-site", "Cross-Site")], false),
        (
            &[
                ("sec-fetch-site", "same-site"),
                ("sec-fetch-mode", "navigate"),
            ],
            false,
        ),
        (
            &[
                ("sec-fetch-site", "none"),
                ("origin", "https://evil.example"),
            ],
            false,
        ),
        (
            &[
                ("sec-fetch-site", "same-origin"),
                ("origin", "https://evil.example"),
            ],
            false,
        ),
        (
            &[("sec-fetch-site", "same-origin"), ("origin", "null")],
            false,
        ),
        (
            &[
                ("sec-fetch-site", "same-origin"),
                ("sec-fetch-site", "cross-site"),
            ],
            false,
        ),
        (
            &[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-site", "same-origin"),
            ],
            false,
        ),
        (
            &[("sec-fetch-site", "same-origin"), ("origin", "OWN")],
            true,
        ),
        (
            &[("referer", "https://evil.example/"), ("origin", "OWN")],
            true,
        ),
        // The address of the page is no word on its origin; nor is a verb in a header.
        (
            &[("origin", "https://evil.example"), ("referer", "OWN/")],
            false,
        ),
        (
            &[
                ("origin", "https://evil.example"),
                ("x-http-method-override", "GET"),
            ],
            false,
        ),
        (
            &[
                ("origin", "https://evil.example"),
                ("x-requested-with", "XMLHttpRequest"),
            ],
            false,
        ),
        // Forwarding headers of somebody who is no trusted proxy.
        (
            &[
                ("origin", "https://evil.example"),
                ("x-forwarded-host", "evil.example"),
                ("x-forwarded-proto", "https"),
            ],
            false,
        ),
        (
            &[
                ("origin", "https://evil.example"),
                ("forwarded", "host=evil.example;proto=https"),
            ],
            false,
        ),
        (
            &[
                ("origin", "https://evil.example"),
                ("x-original-host", "evil.example"),
            ],
            false,
        ),
        (
            &[
                ("origin", "https://evil.example"),
                ("x-host", "evil.example"),
            ],
            false,
        ),
    ] {
        let call = headers.iter().fold(logout(&host), |call, (name, value)| {
            call.header(name, &value.replace("OWN", &own))
        });
        judged(&call.send().await, trusted, &format!("{headers:?}"));
    }
}

/// A form of another site can send neither the CSRF header nor a JSON content type;
/// and what it can send must not be enough.
#[tokio::test(flavor = "multi_thread")]
async fn csrf_values_must_match_as_a_whole() {
    let host = Host::start().await;
    let user = User::new(14);
    let token = host.tokens.access(&user);
    let event = json!({"user_id": 14, "email": user.email, "event_type": "token_refresh",
        "source": "frontend", "csrf_token": "value", "_csrf": "value"});
    let post = || {
        host.post(Service::Coordinator, "/api/v1/coordinator/sync-auth")
            .cookie("access_token", &token)
            .json(&event)
    };
    for (cookie, header) in [
        ("value", "VALUE"),
        ("value", "valu"),
        ("value", "value,value"),
        ("value", "value; other"),
        ("value", "other, value"),
        ("value", "undefined"),
        ("value", "null"),
        ("undefined", ""),
        ("v", "v\u{e9}"),
        ("x=value", "value"),
        ("value", "csrf_token=value"),
    ] {
        let call = post()
            .cookie("csrf_token", cookie)
            .header("x-csrf-token", header);
        call.send().await.expect_error(403, "csrf_failed");
    }
    for name in [
        "csrf-token",
        "x-xsrf-token",
        "xcsrftoken",
        "x-csrftoken",
        "x_csrf_token",
    ] {
        let call = post().cookie("csrf_token", "value").header(name, "value");
        call.send().await.expect_error(403, "csrf_failed");
    }
    for name in [
        "CSRF_TOKEN",
        "csrf_token2",
        "__Host-csrf_token",
        "xcsrf_token",
    ] {
        let call = post().cookie(name, "value").header("x-csrf-token", "value");
        call.send().await.expect_error(403, "csrf_failed");
    }
    let two = post()
        .cookie("csrf_token", "value")
        .header("x-csrf-token", "wrong")
        .header("x-csrf-token", "value");
    two.send().await.expect_error(403, "csrf_failed");
    let right = post()
        .cookie("csrf_token", "value")
        .header("x-csrf-token", "value");
    right.send().await.expect(200);
}

/// A request that is answered 200 if the connection is still in order, and ends it.
const LAST: &str = "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// Sends bytes and [`LAST`], and takes the answers on the connection apart.
async fn answers(port: u16, request: &str) -> Vec<RawAnswer> {
    let bytes = raw::exchange(port, format!("{request}{LAST}").as_bytes()).await;
    let mut rest = &bytes[..];
    let mut found = Vec::new();
    while let Some(mut answer) = RawAnswer::parse(rest) {
        let length = answer.headers.iter().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().unwrap())
        });
        let head = rest.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let end = head + length.unwrap_or(0);
        answer.body = rest[head..end].to_vec();
        rest = &rest[end..];
        found.push(answer);
    }
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&bytes));
    found
}

/// The statuses of all answers on a connection.
async fn statuses(port: u16, request: &str) -> Vec<u16> {
    let found = answers(port, request).await;
    found.iter().map(|answer| answer.status).collect()
}

/// Two lengths, odd codings and line ends: one reading, or a refusal and the end of the
/// connection. The request that hides behind is never answered.
#[tokio::test(flavor = "multi_thread")]
async fn smuggled_requests_are_not_answered() {
    let mut host = Host::start().await;
    let port = host.port(Service::Jwt);
    let start = "POST /api/v1/jwt/validate HTTP/1.1\r\nhost: x\r\n";
    // It would be answered 404: no other answer of these has that status.
    let hidden = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    let length = hidden.len();
    let chunk = format!("{length:x}");
    let refused: Vec<(&str, String)> = vec![
        (
            "two lengths",
            format!("{start}content-length: 0\r\ncontent-length: {length}\r\n\r\n{hidden}"),
        ),
        (
            "a list of lengths",
            format!("{start}content-length: 0, {length}\r\n\r\n{hidden}"),
        ),
        (
            "a length with a plus",
            format!("{start}content-length: +0\r\n\r\n{hidden}"),
        ),
        (
            "a length in hex",
            format!("{start}content-length: 0x0\r\n\r\n{hidden}"),
        ),
        (
            "a length with a space inside",
            format!("{start}content-length: 0 0\r\n\r\n{hidden}"),
        ),
        (
            "a length beyond 64 bits",
            format!("{start}content-length: 18446744073709551616\r\n\r\n{hidden}"),
        ),
        (
            "a length in a name with a space",
            format!("{start}content-length : {length}\r\n\r\n{hidden}"),
        ),
        (
            "an unknown coding",
            format!("{start}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "chunked is not last",
            format!("{start}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "a vertical tab before the coding",
            format!("{start}transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "a coding in a name with a space",
            format!("{start}transfer-encoding : chunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "a coding in HTTP/1.0",
            format!(
                "POST /api/v1/jwt/validate HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
            ),
        ),
        (
            "obs-fold in the coding",
            format!("{start}transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "obs-fold",
            format!("{start}x: a\r\n transfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "a line that begins with a space",
            format!("POST /api/v1/jwt/validate HTTP/1.1\r\n x: y\r\nhost: x\r\n\r\n{hidden}"),
        ),
        (
            "a bare CR",
            format!("{start}x: a\rtransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "NUL in a name",
            format!("{start}transfer\0-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "NUL in a value",
            format!("{start}transfer-encoding: chunked\0\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        ("an empty name", format!("{start}: x\r\n\r\n{hidden}")),
        (
            "a NUL in the target",
            format!("GET /health\0 HTTP/1.1\r\nhost: x\r\n\r\n{hidden}"),
        ),
        (
            "an LF in the target",
            format!("GET /health\nx HTTP/1.1\r\nhost: x\r\n\r\n{hidden}"),
        ),
        (
            "HTTP/2 in words",
            format!("GET /health HTTP/2.0\r\nhost: x\r\n\r\n{hidden}"),
        ),
        (
            "a chunk size with a plus",
            format!("{start}transfer-encoding: chunked\r\n\r\n+0\r\n\r\n{hidden}"),
        ),
        (
            "a chunk size in 0x",
            format!("{start}transfer-encoding: chunked\r\n\r\n0x0\r\n\r\n{hidden}"),
        ),
        (
            "a negative chunk size",
            format!("{start}transfer-encoding: chunked\r\n\r\n-1\r\n\r\n{hidden}"),
        ),
        (
            "a chunk size beyond 64 bits",
            format!("{start}transfer-encoding: chunked\r\n\r\n10000000000000000\r\n\r\n{hidden}"),
        ),
        (
            "a chunk longer than its size",
            format!("{start}transfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "an LF inside a chunk extension",
            format!("{start}transfer-encoding: chunked\r\n\r\n2;x\n{{}}\r\n0\r\n\r\n{hidden}"),
        ),
    ];
    let mut faults = Vec::new();
    for (name, request) in refused {
        let got = statuses(port, &request).await;
        let right = matches!(got[..], [] | [400] | [413] | [505]);
        // 505 is the right refusal of another version of HTTP.
        let status = got.first().copied().filter(|status| *status != 505);
        attacks::note(right, status.unwrap_or(0));
        if !right {
            faults.push(format!("{name}: {got:?}"));
        }
    }
    // Both a length and chunks (RFC 9112 section 6.3), in either order, with an end to
    // the connection: another reader may have taken the length.
    for head in [
        format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
        format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"),
        "content-length: 0\r\ntransfer-encoding: chunked\r\n".to_owned(),
        format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\ncontent-length: 0\r\n"),
    ] {
        for body in [
            format!("{chunk}\r\n{hidden}\r\n0\r\n\r\n"),
            format!("0\r\n\r\n{hidden}"),
        ] {
            let got = statuses(port, &format!("{start}{head}\r\n{body}")).await;
            attacks::note(got.len() <= 1, got.first().copied().unwrap_or(0));
            if got.len() > 1 {
                faults.push(format!("{head}{body}: {got:?}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(
        !host.log().contains("/smuggled"),
        "it was taken for a request"
    );
    // Right framing around odd content goes on: the next request is one of the client's.
    for body in [
        format!("content-length: {length}\r\n\r\n{hidden}"),
        format!(
            "transfer-encoding: chunked\r\n\r\n{chunk};x=\"y\"\r\n{hidden}\r\n0\r\nx-trailer: y\r\n\r\n"
        ),
        format!("Transfer-Encoding: Chunked\r\n\r\n{chunk}\r\n{hidden}\r\n0\r\n\r\n"),
    ] {
        let got = statuses(port, &format!("{start}{body}")).await;
        assert_eq!(got, [400, 200], "{body}");
    }
    for head in [
        "content-length: 0\r\n",
        "host: x\r\nhost: y\r\n",
        "host: x\r\nhost: x\r\n",
    ] {
        let request = format!("POST /api/v1/jwt/validate HTTP/1.1\r\n{head}\r\n");
        let got = statuses(port, &request).await;
        assert_eq!(got, [400, 200], "one host: {head}");
    }
    assert!(host.is_running() && !host.log().contains("panicked"));
    assert!(!host.log().contains("/smuggled"));
}

/// A target with an authority of its own, and odd hosts: the target's counts (RFC 9112
/// section 3.2.2), and no spelling makes a foreign page ours.
#[tokio::test(flavor = "multi_thread")]
async fn targets_and_hosts_that_differ() {
    let host = Host::start().await;
    let port = host.port(Service::Coordinator);
    let ask = async |target: &str, headers: &str| {
        let request = format!(
            "POST {target} HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: 0\r\n\r\n"
        );
        let found = answers(port, &request).await;
        let [answer] = &found[..] else {
            panic!("{target} {headers}: {found:?}");
        };
        answer.status
    };
    let own = format!("127.0.0.1:{port}");
    for (target, headers, status) in [
        (
            "http://OWN/api/v1/auth/logout",
            "host: OWN\r\norigin: http://OWN\r\n",
            204,
        ),
        (
            "http://OWN/api/v1/auth/logout",
            "host: evil.example\r\norigin: http://OWN\r\n",
            204,
        ),
        (
            "http://OWN/api/v1/auth/logout",
            "host: evil.example\r\norigin: http://evil.example\r\n",
            403,
        ),
        (
            "http://evil.example/api/v1/auth/logout",
            "host: OWN\r\norigin: http://OWN\r\n",
            403,
        ),
        (
            "http://x@OWN/api/v1/auth/logout",
            "host: OWN\r\norigin: http://x@OWN\r\n",
            403,
        ),
        (
            "/api/v1/auth/logout",
            "host: OWN\r\norigin: http://OWN\r\n",
            204,
        ),
        (
            "/api/v1/auth/logout",
            "host: OWN@evil.example\r\norigin: http://evil.example\r\n",
            403,
        ),
        (
            "/api/v1/auth/logout",
            "host: evil.example/OWN\r\norigin: http://evil.example\r\n",
            403,
        ),
        (
            "/api/v1/auth/logout",
            "host: OWN,evil.example\r\norigin: http://OWN\r\n",
            403,
        ),
        (
            "/api/v1/auth/logout",
            "host:\r\norigin: http://OWN\r\n",
            403,
        ),
        (
            "/api/v1/auth/logout",
            "host: OWN\r\nx-forwarded-host: OWN\r\norigin: https://evil.example\r\n",
            403,
        ),
        ("//api/v1/auth/logout", "host: OWN\r\n", 404),
        ("/api/v1/auth/logout/", "host: OWN\r\n", 404),
        ("/api/v1/auth/./logout", "host: OWN\r\n", 404),
        ("/api/v1/x/../auth/logout", "host: OWN\r\n", 404),
        ("/api/v1/auth%2flogout", "host: OWN\r\n", 404),
        ("/api/v1/auth/log%6fut", "host: OWN\r\n", 404),
        ("/api/v1/auth/logout;x=1", "host: OWN\r\n", 404),
        ("/API/v1/auth/logout", "host: OWN\r\n", 404),
        ("*", "host: OWN\r\n", 404),
    ] {
        let (target, headers) = (target.replace("OWN", &own), headers.replace("OWN", &own));
        assert_eq!(ask(&target, &headers).await, status, "{target} {headers}");
    }
}

/// Cookies as headers: what is one, whose it is, and how many are looked at.
#[tokio::test(flavor = "multi_thread")]
async fn cookies_within_cookies() {
    let host = Host::start().await;
    let (ada, eve) = (User::new(14), User::new(66));
    let (ours, theirs) = (host.tokens.access(&ada), host.tokens.access(&eve));
    let ask = async |cookie: &str| -> Value {
        let call = host
            .get(Service::Session, VALIDATE)
            .header("cookie", cookie);
        call.send().await.expect(200).auth()
    };
    // Browsers and servers end a pair at the next semicolon, quotes or not (RFC 6265
    // section 4.1.1: no semicolon in a value).
    for good in [
        "access_token=OURS".to_owned(),
        "access_token=\"OURS\"".into(),
        "  access_token = OURS  ".into(),
        "a=b;access_token=OURS;c=d".into(),
        "$Version=1; access_token=OURS; $Path=/".into(),
        "x=\"a; access_token=OURS; b\"".into(),
        "access_token=; access_token=OURS".into(),
        "access_token=garbage; access_token=OURS".into(),
        "auth_token=garbage; access_token=OURS".into(),
        format!("{}; access_token=OURS", "a=b; ".repeat(100)),
        format!("{}access_token=OURS", "access_token=g; ".repeat(50)),
        format!(
            "{}access_token=OURS",
            (0..7)
                .map(|n| format!("access_token=g{n}; "))
                .collect::<String>()
        ),
    ] {
        let body = ask(&good.replace("OURS", &ours)).await;
        assert_eq!(body["user_id"], 14, "{good}: {body}");
    }
    for none in [
        "Access_Token=OURS",
        "ACCESS_TOKEN=OURS",
        "access-token=OURS",
        "xaccess_token=OURS",
        "access_tokenx=OURS",
        "__Host-access_token=OURS",
        "access_token[]=OURS",
        "access_token%3DOURS",
        "access%5ftoken=OURS",
        "a=b, access_token=OURS",
        "a=b access_token=OURS",
        "a=access_token=OURS",
        "access_token:OURS",
        "access_token",
        "OURS",
        "=OURS",
        "\u{a0}access_token=OURS",
        "\u{2003}access_token\u{2003}=OURS",
    ] {
        let body = ask(&none.replace("OURS", &ours)).await;
        assert_eq!(body["error"], "token_missing", "{none}: {body}");
    }
    // Another user's beside ours is a mismatch, wherever it hides.
    for mixed in [
        "access_token=OURS; access_token=THEIRS",
        "access_token=THEIRS; access_token=OURS",
        "access_token=OURS; auth_token=THEIRS",
        "auth_token=THEIRS; access_token=OURS",
        "access_token=OURS; x=\"; auth_token=THEIRS; \"",
    ] {
        let body = ask(&mixed.replace("OURS", &ours).replace("THEIRS", &theirs)).await;
        assert_eq!(body["error"], "consistency_mismatch", "{mixed}");
    }
    // There is an end to looking: a bounded number of different tokens per request.
    let many: String = (0..500).map(|n| format!("access_token=g{n}; ")).collect();
    let body = ask(&format!("{many}access_token={ours}")).await;
    assert_eq!(body["error"], "invalid_token");
}

/// Names that other servers take for their own: none is a credential or a fact here.
#[tokio::test(flavor = "multi_thread")]
async fn headers_that_pose_as_facts() {
    let host = Host::builder()
        .env("FALLBACK_RATE_LIMIT", "100000")
        .start()
        .await;
    let token = host.tokens.access(&User::new(14));
    let posing = [
        ("x-user-id", "1"),
        ("x-user-role", "admin"),
        ("x-auth-user", "root"),
        ("x-authenticated", "true"),
        ("x-remote-user", "root"),
        ("remote-user", "root"),
        ("x-lockgate-peer", "1"),
        ("x-service-secret", "guessed"),
        ("x-internal", "true"),
        ("x-original-url", "/api/v1/coordinator/status"),
        ("x-rewrite-url", "/api/v1/coordinator/status"),
        ("x-http-method-override", "DELETE"),
        ("x-bypass-auth", "1"),
        ("x-forwarded-user", "root"),
        ("x-webgl-isolated", "true"),
        ("connection", "close, authorization, cookie"),
    ];
    let all = |call: Call| {
        posing
            .iter()
            .fold(call, |call, (name, value)| call.header(name, value))
    };
    let none = all(host.get(Service::Session, VALIDATE)).send().await;
    none.expect_invalid("token_missing");
    let some = all(host.get(Service::Session, VALIDATE).bearer(&token))
        .send()
        .await;
    let body = some.expect(200).auth();
    assert_eq!(
        (&body["user_id"], &body["role"]),
        (&json!(14), &json!("user"))
    );
    for header in [
        "x-auth-token",
        "x-access-token",
        "x-jwt-token",
        "token",
        "x-authorization",
        "proxy-authorization",
    ] {
        let call = host
            .get(Service::Session, VALIDATE)
            .header(header, &format!("Bearer {token}"));
        call.send().await.expect_invalid("token_missing");
    }
    let event = json!({"user_id": 15, "email": "ada15@example.org", "event_type": "logout",
        "source": "api"});
    let call = host
        .post(Service::Coordinator, "/api/v1/coordinator/sync-auth")
        .json(&event);
    all(call.bearer(&token))
        .send()
        .await
        .expect_error(403, "access_forbidden");
}

/// Failures until the limit; gives how many were let through.
async fn let_through(
    host: &Host,
    tries: u32,
    headers: impl Fn(u32) -> Vec<(&'static str, String)>,
) -> u32 {
    let mut passed = 0;
    for number in 0..tries {
        let call = host
            .post(Service::Fallback, EMERGENCY)
            .json(&json!({"token": "garbage"}));
        let call = headers(number)
            .iter()
            .fold(call, |call, (name, value)| call.header(name, value));
        let answer = call.send().await;
        if answer.status == 401 {
            passed += 1;
        } else {
            answer.expect_error(429, "rate_limited");
        }
    }
    passed
}

/// The limit of failures is three a minute and client, whatever the client says.
#[tokio::test(flavor = "multi_thread")]
async fn one_client_cannot_pose_as_many() {
    let start = async |proxies: &str| {
        Host::builder()
            .env("FALLBACK_RATE_LIMIT", "3")
            .env("TRUSTED_PROXIES", proxies)
            .start()
            .await
    };
    let host = start("10.0.0.0/8").await;
    let begin = Instant::now();
    let passed = let_through(&host, 40, |n| {
        let address = format!("203.0.113.{n}");
        vec![
            ("x-forwarded-for", address.clone()),
            ("x-forwarded-for", format!("198.51.100.{n}")),
            ("forwarded", format!("for={address}")),
            ("x-real-ip", address.clone()),
            ("x-client-ip", address.clone()),
            ("x-cluster-client-ip", address.clone()),
            ("true-client-ip", address.clone()),
            ("cf-connecting-ip", address.clone()),
            ("fastly-client-ip", address),
            ("user-agent", format!("agent {n}")),
        ]
    })
    .await;
    // It refills evenly, so a slow machine lets some more through.
    let refilled = |begin: Instant| 3 + (begin.elapsed().as_secs() / 20) as u32 + 1;
    assert!(
        (3..=refilled(begin)).contains(&passed),
        "{passed} by an untrusted peer"
    );

    // Behind a proxy only its own entry counts: the last of the last header.
    type Headers = fn(u32) -> Vec<(&'static str, String)>;
    let proxied: [(&str, Headers); 9] = [
        ("earlier entries", |n| {
            vec![("x-forwarded-for", format!("203.0.113.{n}, 192.0.2.1"))]
        }),
        ("many earlier entries", |n| {
            let many: String = (0..200).map(|m| format!("10.{n}.{m}.1, ")).collect();
            vec![("x-forwarded-for", format!("{many}192.0.2.1"))]
        }),
        ("an earlier header", |n| {
            vec![
                ("x-forwarded-for", format!("203.0.113.{n}")),
                ("x-forwarded-for", "192.0.2.1".into()),
            ]
        }),
        ("other headers", |n| {
            vec![
                ("x-forwarded-for", "192.0.2.1".into()),
                ("x-real-ip", format!("203.0.113.{n}")),
                ("forwarded", format!("for=203.0.113.{n}")),
            ]
        }),
        ("an interface of one /64", |n| {
            vec![("x-forwarded-for", format!("2001:db8:0:1:{n:x}::{n:x}"))]
        }),
        ("spellings of one IPv6 address", |n| {
            let text = [
                "2001:db8::1",
                "2001:DB8:0::1",
                "2001:0db8:0000::0001",
                "2001:db8:0:0:0:0:0:1",
            ];
            vec![("x-forwarded-for", text[n as usize % 4].into())]
        }),
        ("IPv4 and the same within IPv6", |n| {
            let text = ["192.0.2.1", "::ffff:192.0.2.1", "::ffff:c000:201"];
            vec![("x-forwarded-for", text[n as usize % 3].into())]
        }),
        ("entries that are no address", |n| {
            vec![("x-forwarded-for", format!("_hidden{n}"))]
        }),
        ("entries with a port or zeros", |n| {
            let text = [
                format!("192.0.2.1:{}", 1_000 + n),
                format!("192.0.2.0{n}"),
                String::new(),
            ];
            vec![("x-forwarded-for", text[n as usize % 3].clone())]
        }),
    ];
    for (name, headers) in proxied {
        let host = start("127.0.0.0/8").await;
        let begin = Instant::now();
        let passed = let_through(&host, 24, headers).await;
        assert!((3..=refilled(begin)).contains(&passed), "{name}: {passed}");
    }
    // And it is no limit for everybody: others behind the proxy have their own.
    let host = start("127.0.0.0/8").await;
    let passed = let_through(&host, 24, |n| {
        vec![("x-forwarded-for", format!("2001:db8:0:{n:x}::1"))]
    });
    assert_eq!(passed.await, 24);
}

/// Guessing the service secret is limited by the same address, and behind a proxy the
/// right one opens nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_service_secret_cannot_be_guessed_at_leisure() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("service");
    let secret = "a service secret of more than 32 bytes";
    std::fs::write(&file, secret).unwrap();
    let host = Host::builder()
        .env("SERVICE_SECRET_FILE", file.display().to_string())
        .start()
        .await;
    let event = json!({"user_id": 14, "email": "ada14@example.org", "event_type": "logout",
        "source": "api"});
    let ask = |given: &str, number: usize| {
        host.post(Service::Coordinator, "/api/v1/coordinator/sync-auth")
            .header("x-service-secret", given)
            .header("x-forwarded-for", &format!("203.0.113.{number}"))
            .json(&event)
    };
    ask(secret, 0).send().await.expect(200);
    let mut limited = 0;
    for number in 0..60 {
        let answer = ask(&format!("{secret}{number}"), number).send().await;
        match answer.status {
            429 => limited += 1,
            _ => drop(answer.expect_error(401, "token_missing")),
        }
    }
    assert!(limited >= 40, "{limited} of 60 guesses were refused");
    // Spread over the ports it is the same limit.
    for service in Service::ALL {
        let call = host
            .get(service, "/health")
            .header("x-service-secret", "guess");
        call.send().await.expect_error(429, "rate_limited");
    }
    // Two at once: the first is the one, whatever the second says.
    let host = Host::builder()
        .env("SERVICE_SECRET_FILE", file.display().to_string())
        .start()
        .await;
    let call = host
        .post(Service::Coordinator, "/api/v1/coordinator/sync-auth")
        .header("x-service-secret", "wrong")
        .header("x-service-secret", secret)
        .json(&event);
    call.send().await.expect_error(401, "token_missing");
}
