//! `validate`, and the words for a refused socket.

use lockgate_sdk::authenticate::{Policy, authenticate};
use lockgate_sdk::session::{Token, invalid};
use lockgate_sdk::token::presented;
use lockgate_sdk::{Answer, Fault, Host, Request};
use serde::Deserialize;

use crate::connections;

#[derive(Deserialize)]
struct Body {
    token: Option<String>,
}

/// `POST /api/v1/ws-auth/validate`
pub(crate) fn validate<H: Host>(host: &H, request: &Request) -> Answer {
    let body: Body = match request.json() {
        Ok(body) => body,
        Err(fault) => return Answer::fault(fault, false),
    };
    match authenticate(
        host,
        &presented(body.token.as_deref(), request),
        Policy::ACCESS,
    ) {
        Ok(login) => Answer::json(200, &Token::new(&login, host.now())),
        Err(refusal) => {
            connections::count_failure(host, refusal.fault);
            invalid(refusal.fault, refusal.degraded)
        }
    }
}

/// The reason of the close frame that a socket with this finding gets.
pub(crate) fn reason(fault: Fault) -> &'static str {
    match fault {
        Fault::TokenMissing => "Authentication token required - no bypass allowed",
        Fault::TokenRevoked => "Session validation failed",
        Fault::UserDisabled | Fault::UserNotFound | Fault::ConsistencyMismatch => {
            "User authentication failed"
        }
        Fault::ServiceUnavailable => "Authentication system error",
        Fault::OriginRefused => "Origin not allowed",
        Fault::AccessForbidden => "Path not allowed",
        _ => "Invalid authentication token format",
    }
}
