//! The only place that turns an error of the host into a status and a body. It
//! makes no decision about a request; it only says how a decision looks outside.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER,
    SEC_WEBSOCKET_VERSION, UPGRADE, VARY, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};
use serde::Serialize;
use time::OffsetDateTime;

use crate::clock::timestamp;
use crate::sockets::Close;

/// Why the host itself answers a request, instead of its plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The body ended early or was not framed as HTTP says (RFC 9112 section 6).
    #[error("The request body is incomplete")]
    IncompleteBody,
    /// Not HTTP, or with no or several `Host` headers (RFC 9112 sections 2.2 and 3.2).
    #[error("The request is not valid HTTP")]
    Malformed,
    /// The headers did not arrive in time.
    #[error("The request headers took too long")]
    SlowHeaders,
    /// No such path on the admin listener.
    #[error("There is nothing at this path")]
    NotFound,
    /// The path exists, the verb does not (RFC 9110 section 15.5.6).
    #[error("This method is not allowed here")]
    MethodNotAllowed(&'static str),
    /// The `Host` header names neither a loopback address nor the configured one.
    #[error("This host name is not served here")]
    ForeignHost,
    /// The admin listener was not given its bearer token (RFC 6750 section 3.1).
    #[error("The admin token is missing or wrong")]
    Unauthorized,
    /// The admin listener can not do what was asked, for this reason.
    #[error("{0}")]
    Conflict(String),
    /// The path serves sockets only (RFC 9110 section 15.5.22).
    #[error("This path serves WebSocket connections of version 13 only")]
    UpgradeRequired,
    /// The body did not arrive in time.
    #[error("The request body took too long")]
    SlowBody,
    /// The body is over the service's limit.
    #[error("The request body is too large")]
    BodyTooLarge,
    /// The target is over the limit (RFC 9110 section 15.5.15).
    #[error("The request target is too long")]
    TargetTooLong,
    /// The headers are over the limit, in number or in bytes (RFC 6585 section 5).
    #[error("The request headers are too large")]
    HeadersTooLarge,
    /// Too many wrong service secrets from this address.
    #[error("Too many requests")]
    RateLimited(Duration),
    /// The service has no working component.
    #[error("The service has no working component")]
    NoComponent,
    /// All places are taken, and those of the queue too.
    #[error("The service is busy")]
    Busy(Duration),
    /// The component ran past its time too often and is left alone for a while.
    #[error("The service is resting after too many requests that took too long")]
    Resting(Duration),
    /// The component trapped, and no earlier revision could answer.
    #[error("The service failed")]
    Trapped,
    /// The component ran past its limits, and no earlier revision could answer.
    #[error("The service took too long")]
    TimedOut,
    /// The component's answer is not valid HTTP or over its limits.
    #[error("The service gave an answer that cannot be sent")]
    BadAnswer,
}

impl Fault {
    /// The status code of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::IncompleteBody | Self::Malformed => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::ForeignHost => StatusCode::FORBIDDEN,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
            Self::SlowBody | Self::SlowHeaders => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NoComponent
            | Self::Busy(_)
            | Self::Resting(_)
            | Self::Trapped
            | Self::TimedOut
            | Self::BadAnswer => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The contract's words: `error` and `code`.
    fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::ForeignHost => ("access_forbidden", "AUTH_002"),
            Self::Unauthorized => ("token_missing", "AUTH_001"),
            Self::RateLimited(_) => ("rate_limited", "AUTH_006"),
            fault if fault.status().is_server_error() => ("service_unavailable", "AUTH_004"),
            _ => ("invalid_request", "REQ_001"),
        }
    }

    /// True if the fault lies in the host or in the plugin, so that it is logged as
    /// a warning; what a client did wrong is not.
    pub fn is_ours(&self) -> bool {
        self.status().is_server_error()
    }
}

/// Why the host itself closes a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketFault {
    /// The plugin could not decide, or has not admitted it.
    Undecided,
    /// Its token or session was revoked while it was opened.
    Revoked,
    /// Its session was revoked while it was open.
    Ended,
    /// Its token has ended.
    Expired,
    /// The host stops.
    Stopping,
    /// Too many sockets are open, of this host or of this user.
    Crowded,
    /// A message over the limit.
    TooLarge,
    /// A binary message.
    Binary,
    /// A text message that is not UTF-8.
    NotUtf8,
    /// Frames that break RFC 6455.
    Protocol,
}

/// The close frame for it (RFC 6455 section 7.4).
pub fn close(fault: SocketFault) -> Close {
    let (code, reason) = match fault {
        SocketFault::Ended => return Close::session_ended(),
        SocketFault::Undecided => (1011, "Authentication system error"),
        SocketFault::Revoked => (1008, "Session validation failed"),
        SocketFault::Expired => (4001, "Token expired"),
        SocketFault::Stopping => (1001, "Service is stopping"),
        SocketFault::Crowded => (1013, "Too many connections"),
        SocketFault::TooLarge => (1009, "Message too large"),
        SocketFault::Binary => (1003, "Text messages only"),
        SocketFault::NotUtf8 => (1007, "Text is not UTF-8"),
        SocketFault::Protocol => (1002, "Protocol error"),
    };
    Close::new(code, reason)
}

/// Object E of the contract.
#[derive(Serialize)]
struct Error<'a> {
    detail: &'a str,
    error: &'a str,
    code: &'a str,
    message: &'a str,
    degraded: bool,
}

/// Object H of the contract, for a service that cannot answer for itself.
#[derive(Serialize)]
struct Health<'a> {
    status: &'a str,
    service: &'a str,
    timestamp: String,
    dependencies: BTreeMap<&'a str, &'a str>,
    degraded: bool,
}

/// The answer to a request that the host refuses or cannot have answered.
/// `degraded`: a configured dependency cannot be reached.
pub fn fault(fault: &Fault, degraded: bool) -> Response<Bytes> {
    let (error, code) = fault.words();
    let message = fault.to_string();
    let body = Error {
        detail: &message,
        error,
        code,
        message: &message,
        degraded,
    };
    let mut response = json(fault.status(), &body);
    let headers = response.headers_mut();
    match fault {
        Fault::RateLimited(wait) | Fault::Busy(wait) | Fault::Resting(wait) => {
            headers.insert(RETRY_AFTER, seconds(*wait));
        }
        Fault::NoComponent | Fault::Trapped | Fault::TimedOut | Fault::BadAnswer => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        Fault::MethodNotAllowed(allow) => {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        Fault::UpgradeRequired => {
            // RFC 9110 section 7.8: with the one goes the other.
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        _ => {}
    }
    response
}

/// The health of a service whose component cannot answer: 503, `status` `error`.
/// `dependencies` are names and states as the contract spells them.
pub fn broken_health(service: &str, dependencies: &[(&str, &str)]) -> Response<Bytes> {
    let body = Health {
        status: "error",
        service,
        timestamp: timestamp(OffsetDateTime::now_utc()),
        dependencies: dependencies.iter().copied().collect(),
        degraded: true,
    };
    json(StatusCode::SERVICE_UNAVAILABLE, &body)
}

/// One JSON answer with the conventions that hold for every endpoint: a newline at
/// the end, nothing cached, and the challenge of RFC 6750 section 3 with a 401.
pub fn json<T: Serialize>(status: StatusCode, body: &T) -> Response<Bytes> {
    let mut bytes = serde_json::to_vec(body).unwrap_or_default();
    bytes.push(b'\n');
    let mut response = Response::new(Bytes::from(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("Cookie, Authorization"));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Whole seconds for `Retry-After` (RFC 9110 section 10.2.3), at least 1.
fn seconds(wait: Duration) -> HeaderValue {
    HeaderValue::from(wait.as_secs().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(response: &Response<Bytes>) -> String {
        format!(
            "{} {}",
            response.status().as_u16(),
            String::from_utf8_lossy(response.body())
        )
    }

    #[test]
    fn each_fault_has_its_status_and_words() {
        let table = [
            (Fault::IncompleteBody, 400, "invalid_request", "REQ_001"),
            (Fault::Malformed, 400, "invalid_request", "REQ_001"),
            (Fault::SlowHeaders, 408, "invalid_request", "REQ_001"),
            (Fault::NotFound, 404, "invalid_request", "REQ_001"),
            (
                Fault::MethodNotAllowed("GET"),
                405,
                "invalid_request",
                "REQ_001",
            ),
            (Fault::ForeignHost, 403, "access_forbidden", "AUTH_002"),
            (Fault::Unauthorized, 401, "token_missing", "AUTH_001"),
            (
                Fault::Conflict("no".to_owned()),
                409,
                "invalid_request",
                "REQ_001",
            ),
            (Fault::SlowBody, 408, "invalid_request", "REQ_001"),
            (Fault::BodyTooLarge, 413, "invalid_request", "REQ_001"),
            (Fault::TargetTooLong, 414, "invalid_request", "REQ_001"),
            (Fault::HeadersTooLarge, 431, "invalid_request", "REQ_001"),
            (
                Fault::RateLimited(Duration::from_secs(7)),
                429,
                "rate_limited",
                "AUTH_006",
            ),
            (Fault::NoComponent, 503, "service_unavailable", "AUTH_004"),
            (
                Fault::Busy(Duration::ZERO),
                503,
                "service_unavailable",
                "AUTH_004",
            ),
            (Fault::Trapped, 503, "service_unavailable", "AUTH_004"),
            (Fault::TimedOut, 503, "service_unavailable", "AUTH_004"),
            (Fault::BadAnswer, 503, "service_unavailable", "AUTH_004"),
        ];
        for (case, status, error, code) in table {
            let response = fault(&case, false);
            let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(response.status().as_u16(), status, "{case:?}");
            assert_eq!(body["error"], error, "{case:?}");
            assert_eq!(body["code"], code, "{case:?}");
        }
    }

    #[test]
    fn an_error_ends_in_a_newline_and_is_never_cached() {
        let response = fault(&Fault::BodyTooLarge, true);
        assert_eq!(
            shown(&response),
            "413 {\"detail\":\"The request body is too large\",\"error\":\"invalid_request\",\
             \"code\":\"REQ_001\",\"message\":\"The request body is too large\",\"degraded\":true}\n"
        );
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[VARY], "Cookie, Authorization");
    }

    #[test]
    fn waits_are_told_in_whole_seconds() {
        let response = fault(&Fault::Busy(Duration::from_millis(10)), false);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        let response = fault(&Fault::RateLimited(Duration::from_secs(30)), false);
        assert_eq!(response.headers()[RETRY_AFTER], "30");
        let response = fault(&Fault::MethodNotAllowed("GET"), false);
        assert_eq!(response.headers()[ALLOW], "GET");
    }

    #[test]
    fn a_service_without_a_component_has_a_health_answer() {
        let response = broken_health("x-service", &[("redis", "connected")]);
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body["status"], "error");
        assert_eq!(body["service"], "x-service");
        assert_eq!(body["dependencies"]["redis"], "connected");
        assert_eq!(body["degraded"], true);
    }
}
