//! `auth/logout`: revokes every good token that was presented, ends its session
//! everywhere, and deletes the cookies in any case.

use lockgate_sdk::authenticate::{Login, verify};
use lockgate_sdk::cookie::{ALL, Policy};
use lockgate_sdk::token::{Presented, Source, presented, trim};
use lockgate_sdk::wit::jwt::Usage;
use lockgate_sdk::{Answer, Fault, Host, Request, guard};
use serde::Deserialize;

use crate::event::Kind;
use crate::propagate::Change;
use crate::sync::carry_out;

/// More tokens than this in one request are not looked at.
const MOST: usize = 8;

#[derive(Deserialize)]
struct Body {
    token: Option<String>,
}

/// `POST /api/v1/auth/logout`
pub(crate) fn logout<H: Host>(host: &H, request: &Request) -> Answer {
    if let Err(fault) = guard::same_origin(request) {
        return Answer::fault(fault, false);
    }
    let answer = match end_all(host, request) {
        Ok(()) => Answer::empty(204),
        Err(fault) => Answer::fault(fault, false),
    };
    answer.cookies(Policy::of(host).delete(&ALL))
}

/// Ends what the good tokens prove. All tokens are revoked before the first session is
/// ended, and one failure does not keep the others from it.
fn end_all<H: Host>(host: &H, request: &Request) -> Result<(), Fault> {
    // The body is optional; a broken one must not keep anybody logged in.
    let body: Option<Body> = request.json().ok();
    let token = body.and_then(|body| body.token);
    let logins = good(host, &all_presented(token.as_deref(), request));
    let mut done = Ok(());
    for login in &logins {
        if host
            .revoke_token(&login.token_sha256, login.expires_at)
            .is_err()
        {
            done = Err(Fault::ServiceUnavailable);
        }
    }
    for login in distinct(&logins) {
        let change = Change {
            kind: Kind::Logout,
            user_id: login.user_id,
            email: &login.email,
            role: login.role,
            session_id: Some(&login.session_id),
            token: Some(login),
            now: host.now(),
        };
        done = carry_out(host, &change, "api", "{}").map(|_| ()).and(done);
    }
    done
}

/// The tokens of any endpoint, and the cookie `refresh_token`.
fn all_presented<'a>(body: Option<&'a str>, request: &'a Request) -> Vec<Presented<'a>> {
    let mut list = presented(body, request);
    for token in request.cookies("refresh_token").map(trim) {
        if !token.is_empty() && list.iter().all(|earlier| earlier.token != token) {
            list.push(Presented {
                source: Source::Cookie,
                token,
            });
        }
    }
    list.truncate(MOST);
    list
}

/// Those that verify for either use and are not revoked yet.
fn good<H: Host>(host: &H, sent: &[Presented<'_>]) -> Vec<Login> {
    sent.iter()
        .filter_map(|sent| {
            verify(host, sent, Usage::Access)
                .or_else(|_| verify(host, sent, Usage::Refresh))
                .ok()
        })
        .filter(|login| !host.revocation_check(&login.subject()).revoked)
        .collect()
}

/// One login for each session; access tokens come before refresh tokens.
fn distinct(logins: &[Login]) -> Vec<&Login> {
    let mut list: Vec<&Login> = Vec::new();
    for login in logins {
        let known =
            |other: &&Login| other.user_id == login.user_id && other.session_id == login.session_id;
        if !list.iter().any(known) {
            list.push(login);
        }
    }
    list
}
