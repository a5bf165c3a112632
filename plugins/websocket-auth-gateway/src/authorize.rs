//! `authorize`: says whether a socket may be opened, and hands out a one-use ticket
//! for it, so that the token itself need not stand in a URL.

use std::net::IpAddr;

use lockgate_sdk::answer::ErrorBody;
use lockgate_sdk::authenticate::{Login, Policy, Refusal, authenticate};
use lockgate_sdk::clock::Time;
use lockgate_sdk::identity::usable_session_id;
use lockgate_sdk::token::presented;
use lockgate_sdk::wit::redis::{Condition, Error};
use lockgate_sdk::wit::revocations::Subject;
use lockgate_sdk::{Answer, Fault, Host, Request, guard};
use serde::{Deserialize, Serialize};

use crate::ticket::{self, Kept, Ticket};
use crate::{auth, connections, path};

/// Close code of a refused socket (RFC 6455 section 7.4.1).
const POLICY_VIOLATION: u16 = 1008;

#[derive(Deserialize)]
struct Body {
    token: Option<String>,
    path: Option<String>,
    session_id: Option<String>,
    client_ip: Option<String>,
}

#[derive(Serialize)]
struct Authorized {
    authorized: bool,
    connection_id: String,
    user_id: u32,
    email: String,
    role: &'static str,
    session_id: String,
    expires_at: Option<Time>,
    degraded: bool,
    ticket: Option<String>,
}

#[derive(Serialize)]
struct Refused {
    #[serde(flatten)]
    error: ErrorBody,
    authorized: bool,
    close_code: u16,
    reason: &'static str,
}

/// `POST /api/v1/ws-auth/authorize`
pub(crate) fn authorize<H: Host>(host: &H, request: &Request) -> Answer {
    match authorized(host, request) {
        Ok(authorized) => Answer::json(200, &authorized),
        Err(refusal) => refused(refusal),
    }
}

/// A refused socket is told how it will be closed; a request that cannot be read or
/// judged is only told so.
fn refused(refusal: Refusal) -> Answer {
    let Refusal { fault, degraded } = refusal;
    if !matches!(fault.status(), 401 | 403) {
        return Answer::fault(fault, degraded);
    }
    let body = Refused {
        error: ErrorBody::new(fault, degraded),
        authorized: false,
        close_code: POLICY_VIOLATION,
        reason: auth::reason(fault),
    };
    Answer::fault_with(fault, &body)
}

fn authorized<H: Host>(host: &H, request: &Request) -> Result<Authorized, Refusal> {
    guard::same_origin(request)?;
    let body: Body = request.json()?;
    let login = authenticate(
        host,
        &presented(body.token.as_deref(), request),
        Policy::ACCESS,
    )
    .inspect_err(|refusal| connections::count_failure(host, refusal.fault))?;
    let path = body.path.as_deref().unwrap_or(path::DEFAULT);
    if !path::is_allowed(path) {
        return Err(Fault::AccessForbidden.into());
    }
    let mut random = [0; 40];
    if !host.random(&mut random) {
        return Err(Fault::ServiceUnavailable.into());
    }
    let (session_id, asked) = session(host, &login, body.session_id);
    let connection_id = ticket::connection_id(random.last_chunk().unwrap_or(&[0; 8]));
    let kept = Kept {
        user_id: login.user_id,
        email: login.email.clone(),
        role: login.role.as_str().to_owned(),
        session_id: session_id.clone(),
        connection_id: connection_id.clone(),
        path: path.to_owned(),
        token_sha256: login.token_sha256.clone(),
        token_session_id: Some(login.session_id.clone()).filter(|own| *own != session_id),
        token_iat: login.issued_at,
        token_exp: login.expires_at,
    };
    let ticket = issue(host, random.first_chunk().unwrap_or(&[0; 32]), &kept);
    log(
        host,
        request,
        &login,
        &connection_id,
        body.client_ip.as_deref(),
    );
    Ok(Authorized {
        authorized: true,
        connection_id,
        user_id: login.user_id,
        degraded: login.degraded || !asked || ticket.is_none(),
        email: login.email,
        role: login.role.as_str(),
        session_id,
        expires_at: login.expires_at.map(Time),
        ticket,
    })
}

/// The session that was asked for if it is a live one of the user's, else the token's own.
/// False: the shared store could not be asked.
fn session<H: Host>(host: &H, login: &Login, wanted: Option<String>) -> (String, bool) {
    let own = || login.session_id.clone();
    let Some(wanted) = wanted.filter(|id| *id != login.session_id && usable_session_id(id)) else {
        return (own(), true);
    };
    match host.redis_set_contains(&format!("user_sessions:{}", login.user_id), &wanted) {
        Ok(true) => {
            let subject = Subject {
                session_id: wanted.clone(),
                ..login.subject()
            };
            if host.revocation_check(&subject).revoked {
                (own(), true)
            } else {
                (wanted, true)
            }
        }
        Err(Error::Unavailable) => (own(), false),
        Ok(false) | Err(_) => (own(), true),
    }
}

/// Keeps what a new ticket stands for; none while the shared store is away.
fn issue<H: Host>(host: &H, random: &[u8; 32], kept: &Kept) -> Option<String> {
    let ticket = Ticket::of(random);
    let value = serde_json::to_vec(kept).ok()?;
    let written = host.redis_set(&ticket.key, &value, ticket::TTL, Condition::IfAbsent);
    matches!(written, Ok(true)).then_some(ticket.value)
}

/// The address that another server names is only logged, and only if it is one.
fn log<H: Host>(
    host: &H,
    request: &Request,
    login: &Login,
    connection_id: &str,
    client: Option<&str>,
) {
    let client = client.and_then(|text| text.trim().parse::<IpAddr>().ok());
    let client = client.map_or_else(
        || request.address().to_owned(),
        |address| address.to_string(),
    );
    host.log(&format!(
        "socket authorised user={} connection={connection_id} client={client}",
        login.user_id
    ));
}
