//! What is known of a session. It changes nothing.

use lockgate_sdk::authenticate::{Policy, Refusal, authenticate};
use lockgate_sdk::clock::Time;
use lockgate_sdk::identity::usable_session_id;
use lockgate_sdk::session::Source;
use lockgate_sdk::{Answer, Fault, Host, Login, Request, answer, token};
use serde::Serialize;

use crate::layer;
use crate::record::{self, Access, Found, Seen};

#[derive(Serialize)]
struct Info<'a> {
    user_id: u32,
    email: &'a str,
    role: &'static str,
    is_active: bool,
    session_id: &'a str,
    session_created: Time,
    last_activity: Time,
    expires_at: Option<Time>,
    degraded: bool,
    source: Source,
}

/// `GET /api/v1/session/info`
pub(crate) fn info<H: Host>(host: &H, request: &Request) -> Answer {
    let presented = token::presented(None, request);
    let answer = authenticate(host, &presented, Policy::ACCESS)
        .and_then(|login| describe(host, request, &login))
        .unwrap_or_else(refused);
    layer::echo(request, answer)
}

fn describe<H: Host>(host: &H, request: &Request, login: &Login) -> Result<Answer, Refusal> {
    if let Some((session_id, seen)) = picked(host, request, login) {
        let info = Info {
            session_created: Time(seen.created),
            last_activity: Time(seen.last_activity),
            expires_at: Some(Time(seen.expires_at)),
            source: Source::Redis,
            ..of_token(login, session_id, host.now())
        };
        return Ok(Answer::json(200, &info));
    }
    let known = record::consult(host, login, Access::Read).map_err(|fault| Refusal {
        fault,
        degraded: login.degraded,
    })?;
    let info = Info {
        session_created: Time(known.created),
        last_activity: Time(known.last_activity),
        degraded: login.degraded || known.degraded,
        source: known.source,
        ..of_token(login, &login.session_id, host.now())
    };
    Ok(Answer::json(200, &info))
}

fn of_token<'a>(login: &'a Login, session_id: &'a str, now: u64) -> Info<'a> {
    let issued = Time(login.issued_at.unwrap_or(now));
    Info {
        user_id: login.user_id,
        email: &login.email,
        role: login.role.as_str(),
        is_active: true,
        session_id,
        session_created: issued,
        last_activity: issued,
        expires_at: login.expires_at.map(Time),
        degraded: login.degraded,
        source: Source::Jwt,
    }
}

/// Another session of the same user that the caller names; anything else is ignored.
fn picked<'a, H: Host>(host: &H, request: &'a Request, login: &Login) -> Option<(&'a str, Seen)> {
    let named = request.header("x-session-id").map(str::trim);
    let session_id = named.or_else(|| request.cookies("session_id").next())?;
    if !usable_session_id(session_id) || session_id == login.session_id {
        return None;
    }
    let value = host.redis_get(&record::key(session_id)).ok()?;
    match record::judge(value.as_deref(), session_id, login.user_id) {
        Found::Own(_, seen) => Some((session_id, seen)),
        Found::Absent | Found::Foreign | Found::Another | Found::Invalidated => None,
    }
}

fn refused(refusal: Refusal) -> Answer {
    let body = answer::ErrorBody::new(refusal.fault, refusal.degraded);
    let body = match refusal.fault {
        Fault::ServiceUnavailable => body,
        _ => body.detail("Could not validate credentials"),
    };
    Answer::fault_with(refusal.fault, &body)
}

#[cfg(test)]
mod tests {
    use lockgate_sdk::double::{Call, Double, Reply};
    use lockgate_sdk::wit::users;
    use serde_json::{Value, json};

    use crate::routes;

    const INFO: &str = "/api/v1/session/info";

    fn host() -> Double {
        let host = Double::new("session-validation-normalizer-service");
        host.good("good", |_| {});
        host
    }

    fn put(host: &Double, session_id: &str, user_id: u32) {
        let record = json!({
            "session_id": session_id, "user_id": user_id, "email": "ada@example.org",
            "role": "admin", "status": "active", "created_at": "2031-05-04T07:00:00",
            "last_activity": "2031-05-04T08:00:00", "expires_at": "2031-05-04T11:00:00",
            "metadata": {}
        });
        let key = format!("session:{session_id}");
        host.values
            .borrow_mut()
            .insert(key, record.to_string().into_bytes());
    }

    fn info() -> Value {
        json!({
            "user_id": 42, "email": "ada@example.org", "role": "user", "is_active": true,
            "session_id": "s-7Qx", "session_created": "2031-05-04T09:00:00Z",
            "last_activity": "2031-05-04T09:00:00Z", "expires_at": "2031-05-04T10:00:00Z",
            "degraded": false, "source": "jwt"
        })
    }

    fn call() -> Call {
        Call::get(INFO).cookie("access_token", "good")
    }

    fn send(host: &Double, call: Call) -> Reply {
        call.send(host, &routes())
    }

    #[test]
    fn of_the_tokens_own_session() {
        let host = host();
        let reply = send(&host, call().header("x-integration-layer", "true"));
        assert_eq!((reply.status(), reply.json()), (200, info()));
        assert_eq!(reply.header("x-integration-layer"), "true");
        put(&host, "s-7Qx", 42);
        let mut expected = info();
        expected["source"] = json!("redis");
        expected["session_created"] = json!("2031-05-04T07:00:00Z");
        expected["last_activity"] = json!("2031-05-04T08:00:00Z");
        assert_eq!(send(&host, call()).json(), expected);
        assert!(!host.wrote(""));
    }

    #[test]
    fn a_picked_session_must_be_the_users() {
        let host = host();
        put(&host, "s-own", 42);
        put(&host, "s-other", 43);
        let mut expected = info();
        expected["session_id"] = json!("s-own");
        expected["source"] = json!("redis");
        expected["session_created"] = json!("2031-05-04T07:00:00Z");
        expected["last_activity"] = json!("2031-05-04T08:00:00Z");
        expected["expires_at"] = json!("2031-05-04T11:00:00Z");
        assert_eq!(
            send(&host, call().header("x-session-id", "s-own")).json(),
            expected
        );
        assert_eq!(
            send(&host, call().cookie("session_id", "s-own")).json(),
            expected
        );
        for ignored in ["s-other", "s-none", "42", "../x", ""] {
            let reply = send(&host, call().header("x-session-id", ignored));
            assert_eq!(reply.json(), info(), "{ignored}");
        }
    }

    #[test]
    fn refusals() {
        let host = host();
        for token in ["", "junk"] {
            let reply = send(&host, Call::get(INFO).bearer(token));
            let detail = "Could not validate credentials";
            assert_eq!(
                (reply.status(), &reply.json()["detail"]),
                (401, &json!(detail))
            );
            assert_eq!(reply.header("www-authenticate"), "Bearer");
        }
        put(&host, "s-7Qx", 43);
        assert_eq!(send(&host, call()).json()["error"], "consistency_mismatch");
        host.users.borrow_mut().insert(42, users::State::Disabled);
        let reply = send(&host, call());
        assert_eq!(
            (reply.status(), &reply.json()["error"]),
            (401, &json!("user_disabled"))
        );
        host.ready.set(false);
        assert_eq!(send(&host, call()).status(), 503);
    }

    #[test]
    fn degraded() {
        let host = host();
        host.redis_down();
        let mut expected = info();
        expected["degraded"] = json!(true);
        let reply = send(&host, call().header("x-session-id", "s-own"));
        assert_eq!((reply.status(), reply.json()), (200, expected));
    }
}
