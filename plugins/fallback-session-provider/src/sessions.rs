//! `create` and `validate`: an emergency session is made from a good token, and
//! proved by one or by its own fallback token.

use lockgate_sdk::authenticate::{Policy, Refusal, authenticate, judge};
use lockgate_sdk::clock::Time;
use lockgate_sdk::session::{Facts, Invalid, Source, Valid};
use lockgate_sdk::token::{presented, trim};
use lockgate_sdk::wit::fallback::{Created, Error, Session};
use lockgate_sdk::wit::revocations::Subject;
use lockgate_sdk::{Answer, Fault, Host, Request, guard};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::auth::{self, Narrowed, Proved};

#[derive(Deserialize)]
struct CreateBody {
    token: Option<String>,
    additional_data: Option<Map<String, Value>>,
    ttl_seconds: Option<i64>,
}

#[derive(Serialize)]
struct CreatedBody {
    session_key: String,
    fallback_token: String,
    session_id: String,
    user_id: u32,
    email: String,
    role: String,
    session_created: Time,
    expires_at: Time,
    format_type: String,
    fallback: bool,
    degraded: bool,
}

/// `POST /api/v1/fallback/create`
pub(crate) fn create<H: Host>(host: &H, request: &Request) -> Answer {
    match created(host, request) {
        Ok(created) => {
            let status = if created.replaced { 200 } else { 201 };
            Answer::json(status, &created_body(created))
        }
        Err(refusal) => Answer::fault(refusal.fault, refusal.degraded),
    }
}

fn created<H: Host>(host: &H, request: &Request) -> Result<Created, Refusal> {
    guard::same_origin(request)?;
    let body: CreateBody = request.json()?;
    let ttl = auth::life(body.ttl_seconds)?;
    let login = authenticate(
        host,
        &presented(body.token.as_deref(), request),
        Policy::ACCESS,
    )?;
    guard::csrf(host, request, login.source)?;
    let data = Value::Object(body.additional_data.unwrap_or_default()).to_string();
    Ok(host
        .fallback_create(&auth::draft(&login, ttl, data)?)
        .map_err(unkept)?)
}

/// What it means that the store did not take a record.
pub(crate) fn unkept(error: Error) -> Fault {
    match error {
        Error::Invalid => Fault::Unprocessable,
        Error::Unavailable | Error::Denied => Fault::ServiceUnavailable,
    }
}

fn created_body(created: Created) -> CreatedBody {
    let Created { session, token, .. } = created;
    CreatedBody {
        session_key: auth::session_key(session.user_id),
        fallback_token: token,
        session_id: session.session_id,
        user_id: session.user_id,
        email: session.email,
        role: session.role,
        session_created: Time(session.created_at),
        expires_at: Time(session.expires_at),
        format_type: session.token_format,
        fallback: true,
        degraded: true,
    }
}

#[derive(Deserialize)]
struct ValidateBody {
    token: Option<String>,
    fallback_token: Option<String>,
    session_key: Option<String>,
    user_id: Option<i64>,
    email: Option<String>,
}

#[derive(Serialize)]
struct Marked<T> {
    #[serde(flatten)]
    session: T,
    fallback: bool,
}

/// `POST /api/v1/fallback/validate`
pub(crate) fn validate<H: Host>(host: &H, request: &Request) -> Answer {
    let start = host.uptime();
    let body: ValidateBody = match request.json() {
        Ok(body) => body,
        Err(fault) => return Answer::fault(fault, false),
    };
    match proved(host, request, &body) {
        Ok(proved) => {
            let facts = facts(host, proved);
            let session = Valid::new(facts, host.now(), host.uptime().saturating_sub(start));
            Answer::json(
                200,
                &Marked {
                    session,
                    fallback: true,
                },
            )
        }
        Err(refusal) => refused(refusal),
    }
}

/// Not valid is an answer, not a failure, also for the revoked and the disabled; only
/// that nobody could look is one.
fn refused(refusal: Refusal) -> Answer {
    match refusal.fault {
        Fault::ServiceUnavailable => Answer::fault(refusal.fault, refusal.degraded),
        fault => {
            let session = Invalid::new(fault, refusal.degraded);
            Answer::json(
                200,
                &Marked {
                    session,
                    fallback: true,
                },
            )
        }
    }
}

fn proved<H: Host>(host: &H, request: &Request, body: &ValidateBody) -> Result<Proved, Refusal> {
    let fallback_token = body
        .fallback_token
        .as_deref()
        .map(trim)
        .filter(|token| !token.is_empty());
    let sent = presented(body.token.as_deref(), request);
    let token = (!sent.is_empty() || fallback_token.is_none())
        .then(|| authenticate(host, &sent, Policy::ACCESS));
    let record = fallback_token.map(|token| live_record(host, token));
    let proved = auth::weigh(token, record)?;
    let narrowed = Narrowed {
        session_key: body.session_key.as_deref(),
        user_id: body.user_id,
        email: body.email.as_deref(),
    };
    let (user_id, email) = match &proved {
        Proved::Token(login) => (login.user_id, &login.email),
        Proved::Record(session) => (session.user_id, &session.email),
    };
    if narrowed.matches(user_id, email) {
        Ok(proved)
    } else {
        Err(Fault::ConsistencyMismatch.into())
    }
}

/// The record of a fallback token, unless its source is revoked or its user disabled.
fn live_record<H: Host>(host: &H, token: &str) -> Result<Session, Refusal> {
    let found = host.fallback_find_by_token(token).map_err(unkept)?;
    let session = found.ok_or(Fault::InvalidToken)?;
    let verdict = host.revocation_check(&Subject {
        user_id: session.user_id,
        session_id: session.session_id.clone(),
        token_sha256: session.source_sha256.clone(),
        issued_at: session.source_issued_at,
    });
    if verdict.revoked {
        return Err(Refusal {
            fault: Fault::TokenRevoked,
            degraded: !verdict.asked,
        });
    }
    // There is no token here that 8026 could be asked with.
    let user = host.user_lookup(session.user_id, "", true);
    match judge(&session.email, user.state) {
        Ok(Some(listed)) => Ok(Session {
            email: listed.email,
            role: listed.role.as_str().to_owned(),
            ..session
        }),
        Ok(None) => Ok(session),
        Err(fault) => Err(Refusal {
            fault,
            degraded: user.degraded || !verdict.asked,
        }),
    }
}

fn facts<H: Host>(host: &H, proved: Proved) -> Facts {
    let now = host.now();
    let facts = match proved {
        Proved::Token(login) => {
            let facts = Facts::of_login(&login, now);
            match host.fallback_find(login.user_id) {
                Ok(Some(session)) if session.session_id == login.session_id => Facts {
                    created: session.created_at,
                    last_activity: session.last_accessed,
                    ..facts
                },
                // A session is as good without a record.
                _ => facts,
            }
        }
        Proved::Record(session) => Facts {
            user_id: session.user_id,
            email: session.email,
            role: session.role,
            session_id: session.session_id,
            format_type: session.token_format,
            expires_at: Some(session.expires_at),
            created: session.created_at,
            last_activity: session.last_accessed,
            source: Source::Fallback,
            degraded: true,
        },
    };
    Facts {
        source: Source::Fallback,
        degraded: true,
        ..facts
    }
}
