//! Forwarding headers and origins of any client: no address but the peer's and the
//! trusted proxy's word counts, and only the own origin is trusted.

#![no_main]

use std::net::IpAddr;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use http::header::{HeaderMap, HeaderValue};
use lockgate::caller::{Judge, Origin};
use lockgate::config::Config;

const NAMES: [&str; 7] = [
    "host",
    "origin",
    "sec-fetch-site",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "forwarded",
];

static JUDGE: LazyLock<Judge> = LazyLock::new(|| {
    let variable = |name: &str| match name {
        "TRUSTED_PROXIES" => Some("192.0.2.0/24".to_owned()),
        "ALLOWED_ORIGINS" => Some("https://app.example.org".to_owned()),
        _ => None,
    };
    Judge::new(&Config::from_parts(None, variable).unwrap())
});

#[derive(Debug, Arbitrary)]
struct Sent<'a> {
    headers: Vec<(u8, &'a [u8])>,
}

libfuzzer_sys::fuzz_target!(|sent: Sent<'_>| {
    let mut headers = HeaderMap::new();
    for (name, value) in sent.headers {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(NAMES[usize::from(name) % NAMES.len()], value);
        }
    }
    let stranger = JUDGE.judge("198.51.100.1".parse().unwrap(), &headers, None);
    assert_eq!(stranger.address, "198.51.100.1");
    assert!(!stranger.proxied);
    let mut origins = headers.get_all("origin").iter();
    match (origins.next(), origins.next()) {
        (Some(_), Some(_)) => assert_eq!(stranger.origin, Origin::Foreign),
        (Some(origin), None) if stranger.origin == Origin::Trusted => {
            let text = origin.to_str().unwrap().to_ascii_lowercase();
            assert!(text.trim().starts_with("http") && !text.contains('@'));
        }
        (Some(_), None) => assert_eq!(stranger.origin, Origin::Foreign),
        (None, _) => {}
    }
    let proxied = JUDGE.judge("192.0.2.9".parse().unwrap(), &headers, None);
    assert!(proxied.proxied);
    let address = proxied.address.trim_end_matches("/64");
    assert!(address.parse::<IpAddr>().is_ok());
});
