//! The session check that the front end and the other services rely on. Anything but
//! a 2xx logs the front end out, so only revoked and disabled are refused with one.

use lockgate_sdk::authenticate::{Policy, Refusal, authenticate};
use lockgate_sdk::session::{Facts, Invalid, Valid};
use lockgate_sdk::wit::fallback::Draft;
use lockgate_sdk::wit::peers::Reachability;
use lockgate_sdk::{Answer, Fault, Host, Login, Request, token};
use serde::{Deserialize, Serialize};

use crate::layer;
use crate::record::{self, Access, Known};

/// Longest life of an emergency copy, seconds; the host cuts it to the token's end.
const COPY_SECONDS: u32 = 3600;

#[derive(Deserialize)]
struct Body {
    token: Option<String>,
}

/// `GET` and `POST /api/v1/session/validate`
pub(crate) fn validate<H: Host>(host: &H, request: &Request) -> Answer {
    let start = host.uptime();
    // A broken body is as good as none.
    let body = request.json::<Body>().ok().and_then(|body| body.token);
    let presented = token::presented(body.as_deref(), request);
    let policy = Policy {
        quiet: from_peer(request),
        ..Policy::ACCESS
    };
    let answer =
        match authenticate(host, &presented, policy).and_then(|login| look(host, request, login)) {
            Ok((login, known)) => {
                let spent = host.uptime().saturating_sub(start);
                let format = login.format.as_str();
                let facts = facts(&login, known, host.now());
                let degraded = facts.degraded;
                let body = Valid::new(facts, host.now(), spent);
                let answer = marked(Answer::json(200, &body), format, true, degraded);
                if from_peer(request) {
                    answer.header("x-lockgate-user", user_state(host, &login))
                } else {
                    answer
                }
            }
            Err(refusal) => marked(refused(refusal), "none", false, refusal.degraded),
        };
    layer::echo(request, answer)
}

/// What a peer must know besides: whether the users table says that the user is active,
/// could not be asked, or is not there at all.
fn user_state<H: Host>(host: &H, login: &Login) -> &'static str {
    if login.user_known {
        "active"
    } else if host.dependency("database") == Reachability::NotConfigured {
        "none"
    } else {
        "unknown"
    }
}

/// A peer that asks on behalf of its own caller about the user: the table is read, but
/// nothing is written and no other service asked.
fn from_peer(request: &Request) -> bool {
    request.header("x-lockgate-peer").map(str::trim) == Some("1")
}

/// The session's record, and a copy for emergencies.
fn look<H: Host>(host: &H, request: &Request, login: Login) -> Result<(Login, Known), Refusal> {
    let access = if from_peer(request) {
        Access::Silent
    } else {
        Access::Note
    };
    let known = record::consult(host, &login, access).map_err(|fault| Refusal {
        fault,
        degraded: login.degraded,
    })?;
    if access == Access::Note && host.fallback_copy(&draft(&login)).is_err() {
        host.log("the session could not be copied to the emergency store");
    }
    Ok((login, known))
}

fn facts(login: &Login, known: Known, now: u64) -> Facts {
    Facts {
        created: known.created,
        last_activity: known.last_activity,
        source: known.source,
        degraded: login.degraded || known.degraded,
        ..Facts::of_login(login, now)
    }
}

/// What the emergency store keeps of a login.
pub(crate) fn draft(login: &Login) -> Draft {
    Draft {
        user_id: login.user_id,
        email: login.email.clone(),
        role: login.role.as_str().to_owned(),
        session_id: login.session_id.clone(),
        session_data: "{}".to_owned(),
        token_format: login.format.as_str().to_owned(),
        ttl: COPY_SECONDS,
        source_sha256: login.token_sha256.clone(),
        source_issued_at: login.issued_at,
        source_expires_at: login.expires_at,
    }
}

#[derive(Serialize)]
struct Ended {
    #[serde(flatten)]
    session: Invalid,
    detail: &'static str,
}

fn refused(refusal: Refusal) -> Answer {
    let Refusal { fault, degraded } = refusal;
    match fault {
        Fault::ServiceUnavailable => Answer::fault(fault, degraded),
        Fault::TokenRevoked | Fault::UserDisabled => {
            let session = Invalid::new(fault, degraded);
            Answer::json(
                401,
                &Ended {
                    session,
                    detail: fault.message(),
                },
            )
        }
        _ => Answer::json(200, &Invalid::new(fault, degraded)),
    }
}

fn marked(answer: Answer, format: &str, valid: bool, degraded: bool) -> Answer {
    let word = |flag| if flag { "true" } else { "false" };
    answer
        .header("x-session-format", format)
        .header("x-session-valid", word(valid))
        .header("x-degraded-mode", word(degraded))
}

#[cfg(test)]
mod tests;
