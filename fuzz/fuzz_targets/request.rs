//! Cookies, tokens and JSON bodies as a plugin reads them from bytes of a client.

#![no_main]

use arbitrary::Arbitrary;
use lockgate_sdk::double::Call;
use lockgate_sdk::token::{for_refresh, presented, trim};

#[derive(Debug, Arbitrary)]
struct Sent<'a> {
    authorization: Vec<&'a str>,
    cookies: Vec<&'a str>,
    body: &'a [u8],
}

#[derive(serde::Deserialize)]
struct Body {
    token: Option<String>,
}

libfuzzer_sys::fuzz_target!(|sent: Sent<'_>| {
    let call = Call::post("/").body(sent.body);
    let call = sent
        .authorization
        .iter()
        .fold(call, |call, value| call.header("authorization", value));
    let call = sent
        .cookies
        .iter()
        .fold(call, |call, value| call.header("cookie", value));
    let request = call.request();
    for name in ["access_token", "csrf_token"] {
        for value in request.cookies(name) {
            assert!(!value.is_empty() && !value.contains(';'));
        }
    }
    let body = request.json::<Body>();
    let text = std::str::from_utf8(sent.body).is_ok_and(|text| {
        text.trim_ascii().is_empty() || serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    });
    assert!(text || body.is_err(), "what is no JSON is refused");
    let token = body.ok().and_then(|body| body.token);
    let found = presented(token.as_deref(), &request);
    assert!(found.len() <= 8);
    for (at, one) in found.iter().enumerate() {
        assert!(!one.token.is_empty());
        assert_eq!(trim(one.token), one.token);
        assert!(found[..at].iter().all(|earlier| earlier.token != one.token));
    }
    if let Some(one) = for_refresh(token.as_deref(), &request) {
        assert_eq!(trim(one.token), one.token);
    }
});
