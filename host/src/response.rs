//! A guest's response becomes an HTTP response, or a fault of the guest. What the
//! guest says is checked against RFC 9110 and its limits; framing is the host's.

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};

use crate::bindings::lockgate::plugin::types::Response;
use crate::bindings::socket_events::{Action, Admission, Credential};
use crate::config::Limits;

/// Bytes of all header names and values of one response.
const HEADER_BYTES: usize = 32 << 10;

/// Actions of one event of a socket.
const ACTIONS: usize = 64;
/// Bytes that the host keeps for one socket.
const STATE: usize = 4 << 10;

/// Headers of the connection, RFC 9110 section 7.6.1; hyper writes its own.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "date",
];

/// What is wrong with a guest's response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadResponse {
    /// Not 200 to 599.
    #[error("the status {0} is not from 200 to 599")]
    Status(u16),
    /// Over the limit.
    #[error("the body has {0} bytes, more than it may")]
    Body(usize),
    /// Over the limit.
    #[error("there are {0} headers, more than there may be")]
    HeaderCount(usize),
    /// Over [`HEADER_BYTES`].
    #[error("the headers are larger than {HEADER_BYTES} bytes")]
    HeaderBytes,
    /// Not a token, or with a line break; the name is not repeated here.
    #[error("header number {0} is not valid for HTTP")]
    Header(usize),
    /// Of `wasi:http`: it has returned without one.
    #[error("there is none")]
    Missing,
    /// Of `wasi:http`: an error in the place of a response.
    #[error("it is the error {0}")]
    Error(String),
    /// Of `wasi:http`: the body was begun and not finished.
    #[error("its body was not finished")]
    Unfinished,
}

/// What is wrong with a guest's actions for a socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadActions {
    /// Over [`ACTIONS`].
    #[error("there are {0} actions, more than there may be")]
    Count(usize),
    /// Over the limit of one answer.
    #[error("the texts have {0} bytes, more than they may")]
    Text(usize),
    /// Over [`STATE`].
    #[error("there are {0} bytes to remember, more than {STATE}")]
    State(usize),
}

/// Checks a guest's actions for a socket.
///
/// # Errors
/// [`BadActions`]: the guest went over a limit.
pub fn checked_actions(actions: Vec<Action>, limits: &Limits) -> Result<Vec<Action>, BadActions> {
    if actions.len() > ACTIONS {
        return Err(BadActions::Count(actions.len()));
    }
    let texts = actions.iter().map(|action| match action {
        Action::Send(text) | Action::Ask(text) | Action::Answer(text) => text.len(),
        Action::Close(ending) => ending.reason.len(),
        Action::Admit(admission) => {
            let Admission {
                email,
                role,
                format_type,
                session_id,
                token_sha256,
                ..
            } = admission;
            let named = [&admission.connection_id, &admission.token_session_id];
            let named = named.into_iter().flatten().map(String::len);
            let given = [email, role, format_type, session_id, token_sha256];
            named.chain(given.map(String::len)).sum()
        }
        Action::Link(link) => {
            let token = match &link.credential {
                Credential::Token(token) => token.len(),
                Credential::Made => 0,
            };
            token + link.session_id.len()
        }
        Action::Remember(_) | Action::Expire(_) => 0,
    });
    let bytes: usize = texts.sum();
    if bytes > limits.response_body {
        return Err(BadActions::Text(bytes));
    }
    let states = actions.iter().filter_map(|action| match action {
        Action::Remember(state) => Some(state.len()),
        _ => None,
    });
    match states.max() {
        Some(bytes) if bytes > STATE => Err(BadActions::State(bytes)),
        _ => Ok(actions),
    }
}

/// Checks and converts.
///
/// # Errors
/// [`BadResponse`]: the guest broke a rule.
pub fn convert(guest: Response, limits: &Limits) -> Result<http::Response<Bytes>, BadResponse> {
    let sizes = guest.headers.iter();
    let sizes = sizes.map(|(name, value)| name.len() + value.len());
    let status = check(guest.status, sizes, guest.body.len(), limits)?;
    let mut response = with_body(status, Bytes::from(guest.body));
    for (index, (name, value)) in guest.headers.iter().enumerate() {
        let name =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| BadResponse::Header(index))?;
        let value = HeaderValue::from_str(value).map_err(|_| BadResponse::Header(index))?;
        if !HOP_BY_HOP.contains(&name.as_str()) {
            response.headers_mut().append(name, value);
        }
    }
    Ok(response)
}

/// Checks a response of `wasi:http`, whose headers are of the right form already, and
/// whose body was collected.
///
/// # Errors
/// [`BadResponse`]: the guest broke a rule.
pub fn checked(
    head: http::response::Parts,
    body: Bytes,
    limits: &Limits,
) -> Result<http::Response<Bytes>, BadResponse> {
    let sizes = head.headers.iter();
    let sizes = sizes.map(|(name, value)| name.as_str().len() + value.len());
    let status = check(head.status.as_u16(), sizes, body.len(), limits)?;
    let mut response = with_body(status, body);
    *response.headers_mut() = head.headers;
    for name in HOP_BY_HOP {
        response.headers_mut().remove(name);
    }
    Ok(response)
}

/// What holds for every response. `headers` are their sizes, bytes.
fn check(
    status: u16,
    headers: impl Iterator<Item = usize>,
    body: usize,
    limits: &Limits,
) -> Result<StatusCode, BadResponse> {
    let code = StatusCode::from_u16(status)
        .ok()
        .filter(|_| (200..=599).contains(&status));
    let code = code.ok_or(BadResponse::Status(status))?;
    if body > limits.response_body {
        return Err(BadResponse::Body(body));
    }
    let (count, bytes) = headers.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size));
    if count > limits.response_headers {
        return Err(BadResponse::HeaderCount(count));
    }
    if bytes > HEADER_BYTES {
        return Err(BadResponse::HeaderBytes);
    }
    Ok(code)
}

fn with_body(status: StatusCode, body: Bytes) -> http::Response<Bytes> {
    // RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5: these have no content.
    let empty = matches!(status.as_u16(), 204 | 205 | 304);
    let mut response = http::Response::new(if empty { Bytes::new() } else { body });
    *response.status_mut() = status;
    response
}

/// Takes the body away and leaves the length that it would have, for HEAD (RFC 9110
/// sections 8.6 and 9.3.2). Of a body that the guest left out the length is unknown.
pub fn without_body(response: http::Response<Bytes>) -> http::Response<Bytes> {
    let (mut parts, body) = response.into_parts();
    if !body.is_empty() {
        parts
            .headers
            .insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    http::Response::from_parts(parts, Bytes::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let config = crate::config::Config::from_parts(None, |_| None).unwrap();
        let mut limits = config.services[0].limits.clone();
        (limits.response_body, limits.response_headers) = (10, 3);
        limits
    }

    fn guest(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
        Response {
            status,
            headers: headers
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect(),
            body: body.into(),
        }
    }

    #[test]
    fn rules_of_a_response() {
        let long = "x".repeat(HEADER_BYTES);
        let cases = [
            (guest(199, &[], ""), BadResponse::Status(199)),
            (guest(100, &[], ""), BadResponse::Status(100)),
            (guest(600, &[], ""), BadResponse::Status(600)),
            (guest(200, &[], "01234567890"), BadResponse::Body(11)),
            (guest(200, &[("a", ""); 4], ""), BadResponse::HeaderCount(4)),
            (guest(200, &[("a", &long)], ""), BadResponse::HeaderBytes),
            (guest(200, &[("a b", "")], ""), BadResponse::Header(0)),
            (
                guest(200, &[("a", "x\r\nSet-Cookie: y")], ""),
                BadResponse::Header(0),
            ),
        ];
        for (guest, expected) in cases {
            assert_eq!(convert(guest, &limits()).unwrap_err(), expected);
        }
    }

    #[test]
    fn framing_is_the_hosts() {
        let guest = guest(
            200,
            &[
                ("Transfer-Encoding", "chunked"),
                ("content-length", "7"),
                ("Set-Cookie", "a=b"),
            ],
            "{}\n",
        );
        let response = convert(guest, &limits()).unwrap();
        let names: Vec<&str> = response.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["set-cookie"]);
        let head = without_body(response);
        assert_eq!(
            (head.body().len(), &head.headers()["content-length"]),
            (0, &"3".parse().unwrap())
        );
    }

    #[test]
    fn no_content_means_none() {
        let response = convert(guest(204, &[], "x"), &limits()).unwrap();
        assert!(response.body().is_empty());
        assert!(without_body(response).headers().is_empty());
    }
}
