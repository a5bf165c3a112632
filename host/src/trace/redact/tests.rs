//! Inputs of every kind with a secret in them.

use serde_json::json;

use super::*;
use crate::bindings::lockgate::plugin::types::{Caller, Origin};

const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJlLW9m";

fn request(path: &str, query: &str, headers: &[(&str, &str)], body: &str) -> Request {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Request {
        method: "POST".to_owned(),
        path: path.to_owned(),
        query: (!query.is_empty()).then(|| query.to_owned()),
        headers: headers.iter().map(pair).collect(),
        body: body.as_bytes().to_vec(),
        caller: Caller {
            address: "192.0.2.1".to_owned(),
            origin: Origin::Absent,
            service: false,
        },
        extensions: Vec::new(),
    }
}

fn redacted(request: &Request) -> (Request, String) {
    let changed = Redactor::new(request, &[], &[]).request(request);
    let text = format!("{changed:?} {}", String::from_utf8_lossy(&changed.body));
    (changed, text)
}

#[test]
fn no_place_of_a_request_keeps_a_token() {
    let long = "x".repeat(60);
    let bearer = format!("Bearer {TOKEN}");
    let cookie = format!("access_token={TOKEN}; theme=dark");
    let escaped = TOKEN.replace("eyJ", "\\u0065yJ");
    for request in [
        request("/", "", &[("authorization", &bearer)], ""),
        request("/", "", &[("authorization", TOKEN)], ""),
        request("/", "", &[("x-anything", TOKEN)], ""),
        request("/", "", &[("accept", TOKEN)], ""),
        request("/", "", &[("cookie", &cookie)], ""),
        request(
            "/",
            "",
            &[("sec-websocket-protocol", &format!("chat, {TOKEN}"))],
            "",
        ),
        request(&format!("/a/{TOKEN}/b"), "", &[], ""),
        request("/", &format!("a=1&token={TOKEN}"), &[], ""),
        request("/", &format!("other={TOKEN}"), &[], ""),
        request("/", "", &[], &json!({"token": TOKEN}).to_string()),
        request("/", "", &[], &json!({"a": [{"b": TOKEN}]}).to_string()),
        request("/", "", &[], &format!("{{\"token\":\"{escaped}\"}}")),
        request(
            "/",
            "",
            &[],
            &format!("{{\"token\":\"{TOKEN}\",\"token\":\"x\"}}"),
        ),
        request("/", "", &[], &format!("{{\"token\":\"{TOKEN}")),
        request("/", "", &[], &format!("token={TOKEN}&a=1")),
        request("/", "", &[], &format!("plain {TOKEN} text")),
        request(&format!("/{long}"), "", &[], ""),
    ] {
        let (changed, text) = redacted(&request);
        assert!(!text.contains("c2lnbmF0dXJl"), "{text}");
        assert!(!text.contains(&long), "{text}");
        assert!(!text.contains(&escaped), "{text}");
        assert_eq!(changed.body.len(), request.body.len(), "{text}");
    }
}

#[test]
fn short_and_opaque_secrets_go_by_their_names() {
    let body = json!({"password": "hunter2", "email": "ada@example.org", "pin": "12"});
    let request = request("/login", "code=9931&page=2", &[], &body.to_string());
    let (changed, text) = redacted(&request);
    for secret in ["hunter2", "\"12\"", "9931"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    assert!(text.contains("ada@example.org") && changed.query.unwrap().ends_with("&page=2"));
    assert_eq!(changed.path, "/login");
}

#[test]
fn the_same_secret_becomes_the_same_and_keeps_its_shape() {
    let bearer = format!("Bearer {TOKEN}");
    let body = json!({"token": TOKEN}).to_string();
    let request = request("/", "", &[("authorization", &bearer)], &body);
    let redactor = Redactor::new(&request, &[], &[]);
    let changed = redactor.request(&request);
    let other = changed.headers[0].1.strip_prefix("Bearer ").unwrap();
    assert_eq!(
        changed.body,
        json!({"token": other}).to_string().into_bytes()
    );
    assert_eq!(other.len(), TOKEN.len());
    assert_eq!(other.matches('.').count(), 2);
    assert_ne!(other, TOKEN);
    let another = Redactor::new(&request, &[], &[]).request(&request);
    assert_ne!(
        another.headers[0].1, changed.headers[0].1,
        "another key for each call"
    );
    let encoded = redactor.disguise("a%2Fb%3D");
    assert_eq!(
        (encoded.len(), encoded.matches("%6").count()),
        (8, 2),
        "{encoded}"
    );
    let wide = redactor.disguise("\u{43f}\u{430}\u{20ac}x");
    assert!(wide.len() == 8 && !wide.contains('\u{20ac}'), "{wide}");
    assert!(is_hex(&redactor.disguise(&"0a1b".repeat(8))));
}

#[test]
fn secrets_of_the_host_go_too_and_random_bytes_are_others() {
    let call = |function: &str, result: Value| Entry {
        function: function.to_owned(),
        arguments: json!(["what was sent"]),
        result,
    };
    let record = json!({"refresh_token": "opaque-1234", "user": 42}).to_string();
    let calls = [
        call("csrf.issue", json!({"Ok": "csrf-value-1"})),
        call("redis.get", json!({"Ok": {"text": record}})),
        call(
            "jwt.reissue",
            json!({"Ok": {"access_token": TOKEN, "user_id": 42}}),
        ),
        call("random.secure", json!({"text": "0123456789abcdef"})),
        call("random.insecure-seed", json!([1, 2])),
        call("clock.wall", json!([7, 8])),
    ];
    let environment = [
        ("API_KEY".to_owned(), "sesame".to_owned()),
        ("SERVICE_NAME".to_owned(), "hello".to_owned()),
    ];
    let request = request("/", "", &[], "");
    let redactor = Redactor::new(&request, &environment, &calls);
    let changed = redactor.calls(&calls);
    let text = serde_json::to_string(&changed).unwrap();
    for secret in [
        "csrf-value-1",
        "opaque-1234",
        "c2lnbmF0dXJl",
        "0123456789abcdef",
        "[1,2]",
    ] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    assert!(!text.contains("what was sent"), "arguments are made anew");
    assert!(
        text.contains("\\\"user\\\":42") && text.contains("[7,8]"),
        "{text}"
    );
    let settings = redactor.environment(&environment);
    assert_ne!(settings[0].1, "sesame");
    assert_eq!(settings[1].1, "hello");
}
