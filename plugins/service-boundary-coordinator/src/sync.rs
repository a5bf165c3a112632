//! `sync-auth`: another service, or a user, reports what happened to a login, and all
//! places that keep logins learn of it.

use lockgate_sdk::answer::ErrorBody;
use lockgate_sdk::authenticate::{Policy, Refusal, authenticate};
use lockgate_sdk::clock::Time;
use lockgate_sdk::token::presented;
use lockgate_sdk::wit::events;
use lockgate_sdk::{Answer, Fault, Host, Request, guard};
use serde::{Deserialize, Serialize};

use crate::auth::{self, Caller, Standing};
use crate::event::{Body, Event};
use crate::propagate::{Change, Propagated, propagate};
use crate::records::{self, Held, SessionRecord};

#[derive(Deserialize)]
struct Credentials {
    token: Option<String>,
}

/// The answer of `sync-auth`.
#[derive(Serialize)]
struct Synced {
    success: bool,
    event_id: String,
    event_type: &'static str,
    user_id: u32,
    timestamp: Time,
    propagated: Propagated,
    degraded: bool,
}

/// `POST /api/v1/coordinator/sync-auth`
pub(crate) fn sync_auth<H: Host>(host: &H, request: &Request) -> Answer {
    match synced(host, request) {
        Ok(synced) => Answer::json(200, &synced),
        Err(refused) => {
            let Refusal { fault, degraded } = refused.refusal;
            let body = ErrorBody::new(fault, degraded);
            let body = match refused.detail {
                Some(detail) => body.detail(detail),
                None => body,
            };
            Answer::fault_with(fault, &body)
        }
    }
}

/// Why a report was refused.
struct Refused {
    refusal: Refusal,
    /// In words, where there is more to say than the fault does.
    detail: Option<&'static str>,
}

impl<R: Into<Refusal>> From<R> for Refused {
    fn from(refusal: R) -> Self {
        Self {
            refusal: refusal.into(),
            detail: None,
        }
    }
}

impl Refused {
    fn malformed(detail: &'static str) -> Self {
        Self {
            refusal: Fault::Unprocessable.into(),
            detail: Some(detail),
        }
    }
}

fn synced<H: Host>(host: &H, request: &Request) -> Result<Synced, Refused> {
    guard::same_origin(request)?;
    let caller = caller(host, request)?;
    let body: Body = request.json()?;
    let event = Event::checked(body).map_err(Refused::malformed)?;
    caller.may_report(&event)?;
    if let Some(session_id) = &event.session_id {
        standing(host, &caller, event.user_id, session_id).admits(&caller)?;
    }
    let known = host.user_lookup(event.user_id, "", true).state;
    auth::may_happen(event.kind, &known)?;
    let token = caller.token_of(event.user_id);
    let change = Change {
        kind: event.kind,
        user_id: event.user_id,
        email: auth::email(&known, token, &event.email),
        role: auth::role(&known, token),
        session_id: event.session_id.as_deref(),
        token,
        now: host.now(),
    };
    let (propagated, published) = carry_out(host, &change, &event.source, &event.details)?;
    let degraded = caller.degraded() || !complete(propagated, &published);
    Ok(Synced {
        success: true,
        event_id: published.event_id,
        event_type: event.kind.name(),
        user_id: event.user_id,
        timestamp: Time(published.time),
        propagated,
        degraded,
    })
}

/// Makes the change, tells all hosts, and counts it.
///
/// # Errors
/// [`Fault::ServiceUnavailable`] if a revocation could not be kept, or the event not
/// be published.
pub(crate) fn carry_out<H: Host>(
    host: &H,
    change: &Change<'_>,
    source: &str,
    details: &str,
) -> Result<(Propagated, events::Published), Fault> {
    host.counter_add("sync_operations", 1);
    let done = propagate(host, change)
        .map_err(|_| Fault::ServiceUnavailable)
        .and_then(|propagated| {
            let event = events::Event {
                event_type: change.kind.name().to_owned(),
                user_id: change.user_id,
                email: change.email.to_owned(),
                source: source.to_owned(),
                session_id: change.session_id.map(str::to_owned),
                details: details.to_owned(),
            };
            let published = host.event_publish(&event).map_err(|error| match error {
                events::Error::Invalid => Fault::Unprocessable,
                events::Error::Denied => Fault::ServiceUnavailable,
            })?;
            Ok((propagated, published))
        });
    match &done {
        Ok((propagated, published)) if complete(*propagated, published) => {
            host.counter_add("state_changes_processed", 1);
        }
        Ok(_) => {
            host.counter_add("state_changes_processed", 1);
            host.counter_add("coordination_errors", 1);
        }
        Err(_) => host.counter_add("coordination_errors", 1),
    }
    done
}

fn complete(propagated: Propagated, published: &events::Published) -> bool {
    propagated.redis && propagated.fallback && published.delivered
}

/// Who is calling: a service, or else the holder of a good token.
fn caller<H: Host>(host: &H, request: &Request) -> Result<Caller, Refusal> {
    let credentials: Credentials = request.json()?;
    let sent = presented(credentials.token.as_deref(), request);
    if request.from_service() {
        let login = if sent.is_empty() {
            None
        } else {
            authenticate(host, &sent, Policy::ACCESS).ok()
        };
        return Ok(Caller::Service(login));
    }
    let login = authenticate(host, &sent, Policy::ACCESS)?;
    guard::csrf(host, request, login.source)?;
    Ok(Caller::User(login))
}

/// Whose session it is, as far as anybody knows.
fn standing<H: Host>(host: &H, caller: &Caller, user_id: u32, session_id: &str) -> Standing {
    if caller
        .token_of(user_id)
        .is_some_and(|token| token.session_id == session_id)
    {
        return Standing::Own;
    }
    match host.redis_set_contains(&records::sessions_key(user_id), session_id) {
        Ok(true) => return Standing::Listed,
        Ok(false) => {}
        Err(_) => return Standing::NotAsked,
    }
    let Some(key) = records::session_key(session_id) else {
        return Standing::OfAnotherUser;
    };
    match host.redis_get(&key) {
        Ok(held) => match Held::<SessionRecord>::read(held.as_deref(), user_id) {
            Held::OfAnotherUser => Standing::OfAnotherUser,
            Held::Absent | Held::Own(_) | Held::Foreign => Standing::Unlisted,
        },
        Err(_) => Standing::NotAsked,
    }
}
