//! `emergency-auth`: a login with nothing but a token, while other ways are closed.
//! The token is checked first, because that is cheap; the limits then count failures
//! by client address and successes by user, so that strangers behind one address
//! cannot lock others out.

use lockgate_sdk::authenticate::{Login, Policy, Refusal, authenticate as check};
use lockgate_sdk::session::{Facts, Source, Valid};
use lockgate_sdk::token::presented;
use lockgate_sdk::wit::fallback::Created;
use lockgate_sdk::wit::peers::Status;
use lockgate_sdk::{Answer, Fault, Host, Request, guard};
use serde::{Deserialize, Serialize};

use crate::auth;
use crate::sessions::unkept;
use crate::settings::{Level, Settings};

#[derive(Deserialize)]
struct Body {
    token: Option<String>,
}

#[derive(Serialize)]
struct EmergencyBody {
    #[serde(flatten)]
    session: Valid,
    mode: &'static str,
    security_level: &'static str,
    fallback: bool,
    fallback_token: String,
}

/// `POST /api/v1/fallback/emergency-auth`
pub(crate) fn authenticate<H: Host>(host: &H, request: &Request) -> Answer {
    let start = host.uptime();
    match admitted(host, request) {
        Ok((login, created)) => {
            log(host, request, &format!("accepted user={}", login.user_id));
            let now = host.now();
            let facts = Facts {
                last_activity: created.session.last_accessed,
                source: Source::Fallback,
                degraded: true,
                ..Facts::of_login(&login, now)
            };
            let body = EmergencyBody {
                session: Valid::new(facts, now, host.uptime().saturating_sub(start)),
                mode: "fallback",
                security_level: "degraded",
                fallback: true,
                fallback_token: created.token,
            };
            Answer::json(200, &body)
        }
        Err(refusal) => {
            log(
                host,
                request,
                &format!("refused error={}", refusal.fault.error()),
            );
            Answer::fault(refusal.fault, refusal.degraded)
        }
    }
}

fn admitted<H: Host>(host: &H, request: &Request) -> Result<(Login, Created), Refusal> {
    guard::same_origin(request)?;
    let settings = Settings::read(|name| host.setting(name));
    let normalizer = if settings.only_on_outage {
        normalizer(host)
    } else {
        None
    };
    auth::open(settings, normalizer)?;
    let body: Body = request.json()?;
    let policy = match settings.level {
        Level::Strict => Policy::STRICT,
        Level::Standard => Policy::ACCESS,
    };
    let login = check(host, &presented(body.token.as_deref(), request), policy)
        .map_err(|refusal| failure(host, request, settings.per_minute, refusal))?;
    limit(
        host,
        "emergency_success",
        &login.user_id.to_string(),
        settings.per_minute,
    )?;
    let created = host
        .fallback_create(&auth::draft(&login, auth::LONGEST_LIFE, "{}".to_owned())?)
        .map_err(unkept)?;
    Ok((login, created))
}

/// Counts a failure; too many of them are told so instead of why.
fn failure<H: Host>(host: &H, request: &Request, per_minute: u32, refusal: Refusal) -> Refusal {
    if refusal.fault == Fault::ServiceUnavailable {
        return refusal;
    }
    match limit(host, "emergency_failure", request.address(), per_minute) {
        Ok(()) => refusal,
        Err(fault) => Refusal { fault, ..refusal },
    }
}

fn limit<H: Host>(host: &H, bucket: &str, key: &str, per_minute: u32) -> Result<(), Fault> {
    host.limiter_take(bucket, key, per_minute)
        .map_err(Fault::RateLimited)
}

/// What the last probe of the session normalizer said.
fn normalizer<H: Host>(host: &H) -> Option<Status> {
    let peers = host.peers();
    peers
        .iter()
        .find(|peer| peer.name == "session_validation_normalizer")
        .map(|peer| peer.status)
}

/// Every use is logged, without tokens.
fn log<H: Host>(host: &H, request: &Request, what: &str) {
    let line = format!(
        "emergency-auth {what} address={} request={}",
        request.address(),
        request.id()
    );
    host.log(&line);
}
