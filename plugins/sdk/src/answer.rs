//! Answers: status, headers, body. The one place that turns a fault into an error
//! name, a code, a status and words for people.

use serde::Serialize;

use crate::wit::types;

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No token was sent.
    TokenMissing,
    /// The token, its session or its user is revoked.
    TokenRevoked,
    /// The users table says so.
    UserDisabled,
    /// The caller may not do this.
    AccessForbidden,
    /// The CSRF header and cookie do not match.
    CsrfFailed,
    /// The request comes from a foreign origin.
    OriginRefused,
    /// The token has expired.
    TokenExpired,
    /// No secret, or no way to answer.
    ServiceUnavailable,
    /// The signature is wrong.
    InvalidSignature,
    /// Not a well-formed token for this use.
    InvalidToken,
    /// The claims hold no identity that can be used.
    UnsupportedFormat,
    /// Two sources name different users.
    ConsistencyMismatch,
    /// The users table has no such user.
    UserNotFound,
    /// Too many requests; try again after these seconds.
    RateLimited(u32),
    /// The body is not JSON.
    BadRequest,
    /// No such path.
    NotFound,
    /// No such verb on this path.
    MethodNotAllowed,
    /// Fields are missing or of a wrong type.
    Unprocessable,
}

impl Fault {
    /// Error name, code, status and a sentence for people.
    const fn row(self) -> (&'static str, &'static str, u16, &'static str) {
        match self {
            Self::TokenMissing => ("token_missing", "AUTH_001", 401, "No token was sent"),
            Self::TokenRevoked => (
                "token_revoked",
                "AUTH_002",
                401,
                "The token has been revoked",
            ),
            Self::UserDisabled => ("user_disabled", "AUTH_002", 401, "The user is disabled"),
            Self::AccessForbidden => ("access_forbidden", "AUTH_002", 403, "Access is not allowed"),
            Self::CsrfFailed => (
                "csrf_failed",
                "AUTH_002",
                403,
                "The CSRF token is missing or wrong",
            ),
            Self::OriginRefused => (
                "origin_refused",
                "AUTH_002",
                403,
                "Requests from this origin are refused",
            ),
            Self::TokenExpired => ("token_expired", "AUTH_003", 401, "The token has expired"),
            Self::ServiceUnavailable => (
                "service_unavailable",
                "AUTH_004",
                503,
                "The authentication service is unavailable",
            ),
            Self::InvalidSignature => (
                "invalid_signature",
                "AUTH_005",
                401,
                "The token's signature is wrong",
            ),
            Self::InvalidToken => ("invalid_token", "AUTH_005", 401, "The token is not valid"),
            Self::UnsupportedFormat => (
                "unsupported_format",
                "AUTH_005",
                401,
                "The token's format is not supported",
            ),
            Self::ConsistencyMismatch => (
                "consistency_mismatch",
                "AUTH_005",
                401,
                "The user data do not match",
            ),
            Self::UserNotFound => ("user_not_found", "AUTH_005", 401, "The user does not exist"),
            Self::RateLimited(_) => ("rate_limited", "AUTH_006", 429, "Too many requests"),
            Self::BadRequest => (
                "invalid_request",
                "REQ_001",
                400,
                "The body is not valid JSON",
            ),
            Self::NotFound => (
                "invalid_request",
                "REQ_001",
                404,
                "There is nothing at this path",
            ),
            Self::MethodNotAllowed => (
                "invalid_request",
                "REQ_001",
                405,
                "The method is not allowed at this path",
            ),
            Self::Unprocessable => (
                "invalid_request",
                "REQ_001",
                422,
                "Fields are missing or of a wrong type",
            ),
        }
    }

    /// `error` of the error object.
    #[must_use]
    pub const fn error(self) -> &'static str {
        self.row().0
    }

    /// `code` of the error object.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.row().1
    }

    /// The status where a status is used.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.row().2
    }

    /// `message` of the error object, and its `detail` unless an endpoint has its own.
    #[must_use]
    pub const fn message(self) -> &'static str {
        self.row().3
    }
}

/// The error object of every 4xx and 5xx.
#[derive(Debug, Clone, Serialize)]
pub struct ErrorBody {
    /// For people; the front end shows it.
    pub detail: &'static str,
    error: &'static str,
    code: &'static str,
    message: &'static str,
    /// A configured dependency could not be asked.
    pub degraded: bool,
}

impl ErrorBody {
    /// The object for a fault.
    #[must_use]
    pub fn new(fault: Fault, degraded: bool) -> Self {
        let (error, code, _, message) = fault.row();
        Self {
            detail: message,
            error,
            code,
            message,
            degraded,
        }
    }

    /// With its own words for people.
    #[must_use]
    pub fn detail(self, detail: &'static str) -> Self {
        Self { detail, ..self }
    }
}

/// One answer. Every answer says `Cache-Control: no-store` and `Vary: Cookie,
/// Authorization`; every 401 says `WWW-Authenticate: Bearer`.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    /// An answer without a body.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        let answer = Self {
            status,
            headers: Vec::with_capacity(8),
            body: Vec::new(),
        };
        let answer = answer
            .header("cache-control", "no-store")
            .header("vary", "Cookie, Authorization");
        // RFC 9110 section 11.6.1
        if status == 401 {
            answer.header("www-authenticate", "Bearer")
        } else {
            answer
        }
    }

    /// A JSON answer (RFC 8259), ending in one line feed.
    #[must_use]
    pub fn json<T: Serialize + ?Sized>(status: u16, value: &T) -> Self {
        let mut body = Vec::with_capacity(512);
        if serde_json::to_writer(&mut body, value).is_err() {
            return Self::fault(Fault::ServiceUnavailable, false);
        }
        body.push(b'\n');
        let answer = Self::empty(status).header("content-type", "application/json");
        Self { body, ..answer }
    }

    /// The error object, with the fault's status.
    #[must_use]
    pub fn fault(fault: Fault, degraded: bool) -> Self {
        Self::fault_with(fault, &ErrorBody::new(fault, degraded))
    }

    /// A body of the endpoint's own, with the fault's status.
    #[must_use]
    pub fn fault_with<T: Serialize + ?Sized>(fault: Fault, body: &T) -> Self {
        let answer = Self::json(fault.status(), body);
        match fault {
            // RFC 9110 section 10.2.3
            Fault::RateLimited(seconds) => {
                answer.header("retry-after", &seconds.max(1).to_string())
            }
            _ => answer,
        }
    }

    /// With one more header; `name` in lower case.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With one `Set-Cookie` header for each value.
    #[must_use]
    pub fn cookies(self, values: impl IntoIterator<Item = String>) -> Self {
        values
            .into_iter()
            .fold(self, |answer, value| answer.header("set-cookie", &value))
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// All values of a header; `name` in lower case.
    pub fn header_values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| &**value)
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

impl From<Answer> for types::Response {
    fn from(answer: Answer) -> Self {
        Self {
            status: answer.status,
            headers: answer.headers,
            body: answer.body,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_one_form() {
        let answer = Answer::fault(Fault::TokenExpired, true);
        assert_eq!(answer.status(), 401);
        assert_eq!(
            answer.header_values("www-authenticate").collect::<Vec<_>>(),
            ["Bearer"]
        );
        assert_eq!(
            answer.header_values("cache-control").collect::<Vec<_>>(),
            ["no-store"]
        );
        assert_eq!(
            answer.header_values("vary").collect::<Vec<_>>(),
            ["Cookie, Authorization"]
        );
        assert_eq!(
            std::str::from_utf8(answer.body()).unwrap(),
            "{\"detail\":\"The token has expired\",\"error\":\"token_expired\",\"code\":\"AUTH_003\",\
             \"message\":\"The token has expired\",\"degraded\":true}\n"
        );
    }

    #[test]
    fn rate_limits_say_when_to_come_back() {
        let answer = Answer::fault(Fault::RateLimited(0), false);
        assert_eq!(answer.status(), 429);
        assert_eq!(
            answer.header_values("retry-after").collect::<Vec<_>>(),
            ["1"]
        );
    }

    #[test]
    fn the_table_of_errors() {
        let rows = [
            (Fault::TokenMissing, "token_missing", "AUTH_001", 401),
            (Fault::TokenRevoked, "token_revoked", "AUTH_002", 401),
            (Fault::UserDisabled, "user_disabled", "AUTH_002", 401),
            (Fault::AccessForbidden, "access_forbidden", "AUTH_002", 403),
            (Fault::CsrfFailed, "csrf_failed", "AUTH_002", 403),
            (Fault::OriginRefused, "origin_refused", "AUTH_002", 403),
            (Fault::TokenExpired, "token_expired", "AUTH_003", 401),
            (
                Fault::ServiceUnavailable,
                "service_unavailable",
                "AUTH_004",
                503,
            ),
            (
                Fault::InvalidSignature,
                "invalid_signature",
                "AUTH_005",
                401,
            ),
            (Fault::InvalidToken, "invalid_token", "AUTH_005", 401),
            (
                Fault::UnsupportedFormat,
                "unsupported_format",
                "AUTH_005",
                401,
            ),
            (
                Fault::ConsistencyMismatch,
                "consistency_mismatch",
                "AUTH_005",
                401,
            ),
            (Fault::UserNotFound, "user_not_found", "AUTH_005", 401),
            (Fault::RateLimited(5), "rate_limited", "AUTH_006", 429),
            (Fault::BadRequest, "invalid_request", "REQ_001", 400),
            (Fault::NotFound, "invalid_request", "REQ_001", 404),
            (Fault::MethodNotAllowed, "invalid_request", "REQ_001", 405),
            (Fault::Unprocessable, "invalid_request", "REQ_001", 422),
        ];
        for (fault, error, code, status) in rows {
            assert_eq!(
                (fault.error(), fault.code(), fault.status()),
                (error, code, status)
            );
        }
    }
}
