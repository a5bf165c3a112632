//! The opening handshake as the server answers it (RFC 6455 section 4.2). It looks at
//! headers only and knows no credential.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{Method, Response, StatusCode, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::respond::Fault;

/// Begins a subprotocol that is a credential.
const BEARER: &str = "bearer.";

/// The answer that switches protocols.
///
/// # Errors
/// [`Fault`]: the request is no handshake of RFC 6455.
pub(super) fn answer(parts: &Parts) -> Result<Response<Bytes>, Fault> {
    if parts.method != Method::GET {
        return Err(Fault::MethodNotAllowed("GET"));
    }
    let headers = &parts.headers;
    if parts.version != Version::HTTP_11
        || !names(headers, &CONNECTION, "upgrade")
        || !names(headers, &UPGRADE, "websocket")
    {
        return Err(Fault::UpgradeRequired);
    }
    let mut versions = headers.get_all(SEC_WEBSOCKET_VERSION).iter();
    match (versions.next(), versions.next()) {
        (Some(version), None) if version.as_bytes() == b"13" => {}
        // Section 11.3.5: once.
        (Some(_), Some(_)) => return Err(Fault::Malformed),
        _ => return Err(Fault::UpgradeRequired),
    }
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) => key.as_bytes(),
        _ => return Err(Fault::Malformed),
    };
    // Sixteen bytes, whichever.
    if STANDARD.decode(key).map_or(0, |bytes| bytes.len()) != 16 {
        return Err(Fault::Malformed);
    }
    let accept = HeaderValue::from_str(&derive_accept_key(key)).map_err(|_| Fault::Malformed)?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answered = response.headers_mut();
    answered.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answered.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answered.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = subprotocol(headers) {
        answered.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok(response)
}

/// A browser that has offered subprotocols refuses an answer without one of them. A
/// credential is only repeated where nothing else was offered.
fn subprotocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let offered: Vec<&str> = offered
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| is_token(name))
        .collect();
    let credential = |name: &&&str| {
        name.get(..BEARER.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(BEARER))
    };
    let plain = offered.iter().find(|name| !credential(name));
    let chosen = plain.or(offered.first())?;
    HeaderValue::from_str(chosen).ok()
}

/// What a subprotocol's name can be (RFC 9110 section 5.6.2).
fn is_token(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(plain)
}

/// True if one of a header's listed values is this word, in any case.
fn names(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENING: [(&str, &str); 5] = [
        ("host", "lockgate.example.org"),
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let request = http::Request::get("/ws/chat");
        let add = |request: http::request::Builder, (name, value): &(&str, &str)| {
            request.header(*name, *value)
        };
        let request = headers.iter().fold(request, add).body(()).unwrap();
        request.into_parts().0
    }

    fn with(change: (&'static str, &'static str)) -> Vec<(&'static str, &'static str)> {
        let others = OPENING.into_iter().filter(|(name, _)| *name != change.0);
        others.chain([change]).collect()
    }

    #[test]
    fn the_sample_of_the_rfc() {
        let answer = answer(&parts(&OPENING)).unwrap();
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        let accept = &answer.headers()[SEC_WEBSOCKET_ACCEPT];
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!answer.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        for (change, fault) in [
            (("connection", "keep-alive"), Fault::UpgradeRequired),
            (("upgrade", "h2c"), Fault::UpgradeRequired),
            (("sec-websocket-version", "8"), Fault::UpgradeRequired),
            (("sec-websocket-key", "short"), Fault::Malformed),
            (("sec-websocket-key", ""), Fault::Malformed),
        ] {
            assert_eq!(answer(&parts(&with(change))).unwrap_err(), fault);
        }
        let mut post = parts(&OPENING);
        post.method = Method::POST;
        assert_eq!(answer(&post).unwrap_err(), Fault::MethodNotAllowed("GET"));
        for header in [OPENING[3], OPENING[4], ("sec-websocket-version", "8")] {
            let mut twice = OPENING.to_vec();
            twice.push(header);
            assert_eq!(answer(&parts(&twice)).unwrap_err(), Fault::Malformed);
        }
    }

    #[test]
    fn a_subprotocol_is_echoed_and_a_credential_only_alone() {
        for (offered, chosen) in [
            ("chat", "chat"),
            ("Bearer.a.b.c", "Bearer.a.b.c"),
            ("bearer.a.b.c, chat.v2, other", "chat.v2"),
            ("no token, chat", "chat"),
        ] {
            let answer = answer(&parts(&with(("sec-websocket-protocol", offered)))).unwrap();
            assert_eq!(answer.headers()[SEC_WEBSOCKET_PROTOCOL], chosen);
        }
    }
}
