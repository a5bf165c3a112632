//! New tokens for a refresh token, and what follows when a used one comes back. The
//! host rotates and signs; here its findings become answers, cookies and revocations.

use lockgate_sdk::clock::Time;
use lockgate_sdk::cookie::{self, Policy};
use lockgate_sdk::token::{Presented, Source};
use lockgate_sdk::wit::events::Event;
use lockgate_sdk::wit::jwt::{Error, ReissueError, Theft, Tokens, Usage};
use lockgate_sdk::{Answer, Fault, Host, Request, answer, guard, health, token};
use serde::{Deserialize, Serialize};

/// Life of an access token, seconds, unless the host says otherwise.
const ACCESS_SECONDS: u32 = 3600;

/// Close code of a socket whose session has ended.
const SESSION_ENDED: u16 = 4001;

#[derive(Deserialize)]
struct Body {
    refresh_token: Option<String>,
}

#[derive(Serialize)]
struct Refreshed<'a> {
    access_token: &'a str,
    token: &'a str,
    token_type: &'static str,
    expires_in: u32,
    expires_at: Time,
    user_id: u32,
    email: &'a str,
    role: &'a str,
    session_id: &'a str,
    degraded: bool,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
}

/// `POST /api/v1/jwt/refresh`
pub(crate) fn refresh<H: Host>(host: &H, request: &Request) -> Answer {
    let read = guard::same_origin(request).and_then(|()| request.json::<Body>());
    let body = match read {
        Ok(body) => body,
        Err(fault) => return Answer::fault(fault, false),
    };
    if !host.jwt_ready() {
        return Answer::fault(Fault::ServiceUnavailable, false);
    }
    let Some(presented) = token::for_refresh(body.refresh_token.as_deref(), request) else {
        return refused(host, Fault::TokenMissing);
    };
    match host.jwt_reissue(presented.token) {
        Ok(tokens) => {
            host.counter_add("refreshed", 1);
            refreshed(host, &tokens, presented.source)
        }
        Err(ReissueError::Reused(theft)) => stolen(host, &presented, &theft),
        Err(error) => refused(host, fault(&error)),
    }
}

fn refreshed<H: Host>(host: &H, tokens: &Tokens, source: Source) -> Answer {
    let by_cookie = source == Source::Cookie;
    let successor = tokens.refresh_token.as_deref();
    let body = Refreshed {
        access_token: &tokens.access_token,
        token: &tokens.access_token,
        token_type: "bearer",
        expires_in: access_seconds(host),
        expires_at: Time(tokens.access_expires_at),
        user_id: tokens.user_id,
        email: &tokens.email,
        role: &tokens.role,
        session_id: &tokens.session_id,
        degraded: tokens.degraded,
        message: "Token refreshed successfully",
        refresh_token: successor.filter(|_| !by_cookie),
    };
    let answer = Answer::json(200, &body);
    if by_cookie {
        answer.cookies(cookies(host, tokens))
    } else {
        answer
    }
}

fn access_seconds<H: Host>(host: &H) -> u32 {
    let given = host.setting("ACCESS_TOKEN_SECONDS");
    let seconds = given.and_then(|given| given.parse().ok());
    seconds.unwrap_or(ACCESS_SECONDS)
}

/// All three cookies after a rotation; without one only the access token's.
fn cookies<H: Host>(host: &H, tokens: &Tokens) -> Vec<String> {
    let policy = Policy::of(host);
    let mut cookies = vec![policy.access(&tokens.access_token)];
    if let Some(successor) = &tokens.refresh_token {
        cookies.push(policy.refresh(successor));
        cookies.extend(host.csrf_issue().map(|value| policy.csrf(&value)));
    }
    cookies
}

/// A token that was replaced long ago came back: its session ends everywhere.
fn stolen<H: Host>(host: &H, presented: &Presented<'_>, theft: &Theft) -> Answer {
    host.counter_add("reuse_detected", 1);
    host.counter_add("rejected", 1);
    host.log(&format!(
        "a used refresh token came back: ending session {} of user {}",
        theft.session_id, theft.user_id
    ));
    if host
        .revoke_session(theft.user_id, &theft.session_id)
        .is_err()
    {
        // Not revoked, so the caller must be able to tell and try again.
        return Answer::fault(Fault::ServiceUnavailable, health::redis_away(host));
    }
    let session = Some(theft.session_id.as_str());
    let closed = host.sockets_close(theft.user_id, session, SESSION_ENDED, "Session revoked");
    // Other hosts close theirs when they hear of it.
    let claims = host.jwt_verify(presented.token, Usage::Refresh).ok();
    let published = host.event_publish(&Event {
        event_type: "logout".into(),
        user_id: theft.user_id,
        email: claims.and_then(|claims| claims.email).unwrap_or_default(),
        source: "jwt".into(),
        session_id: session.map(str::to_owned),
        details: "{\"reason\":\"refresh_token_reuse\"}".into(),
    });
    if closed.is_err() || published.is_err() {
        host.log("the sockets of the session could not be told");
    }
    let gone = Policy::of(host).delete(&cookie::ALL);
    error(host, Fault::TokenRevoked).cookies(gone)
}

fn refused<H: Host>(host: &H, fault: Fault) -> Answer {
    if fault != Fault::ServiceUnavailable {
        host.counter_add("rejected", 1);
    }
    error(host, fault)
}

fn error<H: Host>(host: &H, fault: Fault) -> Answer {
    let body = answer::ErrorBody::new(fault, health::redis_away(host));
    Answer::fault_with(fault, &body.detail(detail(fault)))
}

/// What the front end shows.
fn detail(fault: Fault) -> &'static str {
    match fault {
        Fault::TokenMissing => "Refresh token not found",
        Fault::TokenExpired => "Token expired",
        Fault::TokenRevoked => "Token revoked",
        Fault::UserDisabled => "User disabled",
        Fault::ServiceUnavailable => Fault::ServiceUnavailable.message(),
        _ => "Invalid token",
    }
}

fn fault(error: &ReissueError) -> Fault {
    match error {
        ReissueError::Rejected(Error::InvalidToken) => Fault::InvalidToken,
        ReissueError::Rejected(Error::InvalidSignature) => Fault::InvalidSignature,
        ReissueError::Rejected(Error::Expired) => Fault::TokenExpired,
        ReissueError::Rejected(Error::NoSecret | Error::Denied) | ReissueError::Unavailable => {
            Fault::ServiceUnavailable
        }
        ReissueError::UnsupportedFormat => Fault::UnsupportedFormat,
        ReissueError::Revoked | ReissueError::Reused(_) => Fault::TokenRevoked,
        ReissueError::UserDisabled => Fault::UserDisabled,
        ReissueError::UserNotFound => Fault::UserNotFound,
        ReissueError::Mismatch => Fault::ConsistencyMismatch,
    }
}

#[cfg(test)]
mod tests;
