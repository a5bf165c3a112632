//! Brings a session of any form into one. An object proves nothing; only a token is
//! checked.

use lockgate_sdk::authenticate::{Policy, authenticate};
use lockgate_sdk::clock::Time;
use lockgate_sdk::session::minutes_left;
use lockgate_sdk::{Answer, Fault, Host, Login, Request, token};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::record::{self, Access};
use crate::{forms, layer};

/// Where a session object comes from, as its sender says or its form shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Origin {
    /// The shared store.
    Redis,
    /// Claims of a token.
    Jwt,
    /// An answer of a service.
    Api,
    /// The emergency store.
    Fallback,
    /// A row of the users table.
    Database,
}

#[derive(Deserialize)]
struct Body {
    session: Option<Map<String, Value>>,
    source: Option<Origin>,
    token: Option<String>,
}

/// The one form of a session.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Normalised {
    /// Complete and not expired; no proof.
    pub(crate) valid: bool,
    /// 1 to 2147483647.
    pub(crate) user_id: u32,
    /// Holds an `@`.
    pub(crate) email: String,
    /// `admin` or `user`.
    pub(crate) role: &'static str,
    /// If there is a usable one.
    pub(crate) session_id: Option<String>,
    /// If there is one.
    pub(crate) expires_at: Option<Time>,
    /// Whole minutes left; 0 if expired.
    pub(crate) expires_in_minutes: Option<u64>,
    /// What else the session carries.
    pub(crate) metadata: Map<String, Value>,
}

#[derive(Serialize)]
struct Answered {
    normalized: Normalised,
    source: Origin,
    format_type: &'static str,
    verified: bool,
    degraded: bool,
}

/// `POST /api/v1/session/normalize`
pub(crate) fn normalize<H: Host>(host: &H, request: &Request) -> Answer {
    let answer = match request.json::<Body>() {
        Ok(Body {
            session: Some(session),
            source,
            ..
        }) => of_object(&session, source, host.now()),
        Ok(body) => of_token(host, request, &body),
        Err(fault) => Answer::fault(fault, false),
    };
    layer::echo(request, answer)
}

fn of_object(session: &Map<String, Value>, source: Option<Origin>, now: u64) -> Answer {
    let Some(read) = forms::read(session, now) else {
        return Answer::fault(Fault::Unprocessable, false);
    };
    let body = Answered {
        normalized: read.session,
        source: source.unwrap_or(read.origin),
        format_type: read.format.as_str(),
        verified: false,
        degraded: false,
    };
    Answer::json(200, &body)
}

fn of_token<H: Host>(host: &H, request: &Request, body: &Body) -> Answer {
    let presented = token::presented(body.token.as_deref(), request);
    if presented.is_empty() {
        return Answer::fault(Fault::Unprocessable, false);
    }
    let login = match authenticate(host, &presented, Policy::ACCESS) {
        Ok(login) => login,
        Err(refusal) => return Answer::fault(refusal.fault, refusal.degraded),
    };
    let known = match record::consult(host, &login, Access::Read) {
        Ok(known) => known,
        Err(fault) => return Answer::fault(fault, login.degraded),
    };
    let answered = Answered {
        source: body.source.unwrap_or(Origin::Jwt),
        format_type: login.format.as_str(),
        verified: true,
        degraded: login.degraded || known.degraded,
        normalized: of_login(login, host.now()),
    };
    Answer::json(200, &answered)
}

fn of_login(login: Login, now: u64) -> Normalised {
    Normalised {
        valid: true,
        user_id: login.user_id,
        role: login.role.as_str(),
        expires_in_minutes: login.expires_at.map(|end| minutes_left(Some(end), now)),
        expires_at: login.expires_at.map(Time),
        session_id: Some(login.session_id),
        email: login.email,
        metadata: Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use lockgate_sdk::double::{Call, Double, Reply};
    use serde_json::{Value, json};

    use crate::routes;

    const NORMALIZE: &str = "/api/v1/session/normalize";

    fn host() -> Double {
        let host = Double::new("session-validation-normalizer-service");
        host.good("good", |_| {});
        host
    }

    fn post(host: &Double, body: &Value) -> Reply {
        Call::post(NORMALIZE)
            .body(body.to_string())
            .send(host, &routes())
    }

    #[test]
    fn an_object_proves_nothing() {
        let host = host();
        let session =
            json!({"valid": true, "user": {"id": 42, "email": "ada@example.org", "role": "user"}});
        let reply = post(&host, &json!({"session": session, "source": "api"}));
        assert_eq!(reply.status(), 200);
        assert_eq!(
            reply.text(),
            "{\"normalized\":{\"valid\":true,\"user_id\":42,\"email\":\"ada@example.org\",\
             \"role\":\"user\",\"session_id\":null,\"expires_at\":null,\
             \"expires_in_minutes\":null,\"metadata\":{}},\"source\":\"api\",\
             \"format_type\":\"legacy\",\"verified\":false,\"degraded\":false}\n"
        );
        host.redis_down();
        host.ready.set(false);
        assert_eq!(
            post(&host, &json!({"session": session})).json()["degraded"],
            false
        );
        assert!(!host.wrote(""));
    }

    #[test]
    fn a_token_is_checked() {
        let host = host();
        let expected = json!({
            "normalized": {
                "valid": true, "user_id": 42, "email": "ada@example.org", "role": "user",
                "session_id": "s-7Qx", "expires_at": "2031-05-04T10:00:00Z",
                "expires_in_minutes": 60, "metadata": {}
            },
            "source": "jwt", "format_type": "enhanced", "verified": true, "degraded": false
        });
        assert_eq!(post(&host, &json!({"token": "good"})).json(), expected);
        let by_cookie = Call::post(NORMALIZE).cookie("access_token", "good");
        assert_eq!(by_cookie.send(&host, &routes()).json(), expected);
        host.redis_down();
        let body = post(&host, &json!({"token": "good"})).json();
        assert_eq!(
            (&body["verified"], &body["degraded"]),
            (&json!(true), &json!(true))
        );
        assert!(!host.wrote(""));
    }

    #[test]
    fn refusals() {
        let host = host();
        assert_eq!(
            Call::post(NORMALIZE)
                .body("{")
                .send(&host, &routes())
                .status(),
            400
        );
        let unusable = [
            json!({}),
            json!({"session": {}}),
            json!({"session": []}),
            json!({"session": "s"}),
            json!({"session": {"user_id": 42}, "token": "good"}),
            json!({"session": {"user_id": 42, "email": "a@b.c", "role": "user"}, "source": "moon"}),
        ];
        for body in unusable {
            assert_eq!(post(&host, &body).status(), 422, "{body}");
        }
        let reply = post(&host, &json!({"token": "junk"}));
        assert_eq!(
            (reply.status(), &reply.json()["error"]),
            (401, &json!("invalid_token"))
        );
        host.ready.set(false);
        assert_eq!(post(&host, &json!({"token": "good"})).status(), 503);
        assert_eq!(post(&host, &json!({})).status(), 422);
    }
}
