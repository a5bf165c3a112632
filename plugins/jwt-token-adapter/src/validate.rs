//! Whether a token is good, and whose it is. It changes nothing but the counters.

use lockgate_sdk::authenticate::{Login, Policy, Refusal, authenticate, same_email};
use lockgate_sdk::session::{Token, invalid};
use lockgate_sdk::{Answer, Fault, Host, Request, token};
use serde::{Deserialize, Serialize};

/// The token, and whose the caller takes it for.
#[derive(Deserialize)]
struct Body {
    token: Option<String>,
    expected_user_id: Option<i64>,
    expected_email: Option<String>,
}

impl Body {
    /// [`Fault::ConsistencyMismatch`] if the login is another user's.
    fn check(&self, login: Login) -> Result<Login, Refusal> {
        let id_fits = self
            .expected_user_id
            .is_none_or(|id| id == i64::from(login.user_id));
        let email_fits = self
            .expected_email
            .as_deref()
            .is_none_or(|e| same_email(e, &login.email));
        if id_fits && email_fits {
            return Ok(login);
        }
        Err(Refusal {
            fault: Fault::ConsistencyMismatch,
            degraded: login.degraded,
        })
    }
}

/// `POST /api/v1/jwt/validate`
pub(crate) fn validate<H: Host>(host: &H, request: &Request) -> Answer {
    let body: Body = match request.json() {
        Ok(body) => body,
        Err(fault) => return Answer::fault(fault, false),
    };
    let presented = token::presented(body.token.as_deref(), request);
    let checked =
        authenticate(host, &presented, Policy::ACCESS).and_then(|login| body.check(login));
    match counted(host, checked) {
        Ok(login) => Answer::json(200, &Token::new(&login, host.now())),
        Err(refusal) => invalid(refusal.fault, refusal.degraded),
    }
}

#[derive(Serialize)]
struct Verified<'a> {
    valid: bool,
    user_id: u32,
    email: &'a str,
    role: &'static str,
    session_id: &'a str,
    degraded: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_model: Option<String>,
}

/// `GET /api/v1/auth/verify-token`, which the chat service asks.
pub(crate) fn verify_token<H: Host>(host: &H, request: &Request) -> Answer {
    let presented = token::presented(None, request);
    match counted(host, authenticate(host, &presented, Policy::ACCESS)) {
        Ok(login) => {
            let body = Verified {
                valid: true,
                user_id: login.user_id,
                email: &login.email,
                role: login.role.as_str(),
                session_id: &login.session_id,
                degraded: login.degraded,
                chat_model: host.setting("DEFAULT_CHAT_MODEL"),
            };
            Answer::json(200, &body)
        }
        Err(refusal) => Answer::fault(refusal.fault, refusal.degraded),
    }
}

/// Counts what came out, unless nothing could be checked.
fn counted<H: Host>(host: &H, checked: Result<Login, Refusal>) -> Result<Login, Refusal> {
    match &checked {
        Ok(_) => host.counter_add("validated", 1),
        Err(refusal) if refusal.fault == Fault::ServiceUnavailable => {}
        Err(_) => host.counter_add("rejected", 1),
    }
    checked
}

#[cfg(test)]
mod tests {
    use lockgate_sdk::double::{Call, Double, Reply};
    use lockgate_sdk::wit::{jwt, users};
    use serde_json::{Value, json};

    use crate::routes;

    const VALIDATE: &str = "/api/v1/jwt/validate";
    const VERIFY: &str = "/api/v1/auth/verify-token";

    fn host() -> Double {
        let host = Double::new("jwt-token-adapter-service");
        host.good("good", |_| {});
        host
    }

    fn validate(host: &Double, body: &Value) -> Reply {
        Call::post(VALIDATE)
            .body(body.to_string())
            .send(host, &routes())
    }

    #[test]
    fn a_good_token() {
        let host = host();
        let reply = validate(&host, &json!({"token": "good", "expected_user_id": 42}));
        assert_eq!(reply.status(), 200);
        assert_eq!(
            reply.text(),
            "{\"valid\":true,\"user_id\":42,\"email\":\"ada@example.org\",\"role\":\"user\",\
             \"format_type\":\"enhanced\",\"session_id\":\"s-7Qx\",\
             \"expires_at\":\"2031-05-04T10:00:00Z\",\"issued_at\":\"2031-05-04T09:00:00Z\",\
             \"expires_in\":3600,\"degraded\":false,\"normalized\":{\"sub\":\"42\",\
             \"email\":\"ada@example.org\",\"id\":42,\"role\":\"user\",\"session_id\":\"s-7Qx\"}}\n"
        );
        assert_eq!(reply.header("cache-control"), "no-store");
        assert_eq!(reply.header("vary"), "Cookie, Authorization");
        let by_cookie = Call::post(VALIDATE)
            .cookie("auth_token", "good")
            .send(&host, &routes());
        assert_eq!(by_cookie.json()["valid"], true);
        assert!(!host.wrote(""));
    }

    #[test]
    fn a_token_that_ends_never() {
        let host = host();
        host.good("endless", |claims| {
            claims.expires_at = None;
            claims.issued_at = None;
        });
        let body = validate(&host, &json!({"token": "endless"})).json();
        assert_eq!(
            (
                &body["valid"],
                &body["expires_at"],
                &body["issued_at"],
                &body["expires_in"]
            ),
            (&json!(true), &Value::Null, &Value::Null, &Value::Null)
        );
    }

    #[test]
    fn expectations() {
        let host = host();
        let rows = [
            (
                json!({"expected_user_id": 42, "expected_email": "ADA@Example.org"}),
                true,
            ),
            (json!({"expected_user_id": 43}), false),
            (json!({"expected_user_id": -42}), false),
            (json!({"expected_email": "bob@example.org"}), false),
            (json!({"expected_email": ""}), false),
        ];
        for (mut body, valid) in rows {
            body["token"] = json!("good");
            let answer = validate(&host, &body).json();
            assert_eq!(answer["valid"], valid, "{body}");
            assert_eq!(answer["error"] == "consistency_mismatch", !valid, "{body}");
        }
    }

    #[test]
    fn bad_tokens_are_200_and_invalid() {
        let host = host();
        host.bad("old", jwt::Error::Expired);
        host.bad("forged", jwt::Error::InvalidSignature);
        host.good("strange", |claims| claims.role = None);
        host.good("gone", |claims| claims.session_id = Some("s-gone".into()));
        host.revoked.borrow_mut().insert("session:42:s-gone".into());
        let rows = [
            ("old", "token_expired", "AUTH_003"),
            ("forged", "invalid_signature", "AUTH_005"),
            ("junk", "invalid_token", "AUTH_005"),
            ("strange", "unsupported_format", "AUTH_005"),
            ("gone", "token_revoked", "AUTH_002"),
            ("", "token_missing", "AUTH_001"),
        ];
        for (token, error, code) in rows {
            let reply = validate(&host, &json!({"token": token}));
            let body = reply.json();
            assert_eq!(
                (reply.status(), &body["valid"]),
                (200, &json!(false)),
                "{token}"
            );
            assert_eq!(
                (&body["error"], &body["code"]),
                (&json!(error), &json!(code))
            );
            assert_eq!(body["user_id"], Value::Null);
        }
    }

    #[test]
    fn wrong_types_and_broken_json() {
        let host = host();
        for body in [
            json!({"token": 1}),
            json!({"expected_user_id": "42"}),
            json!([]),
        ] {
            assert_eq!(validate(&host, &body).status(), 422, "{body}");
        }
        assert_eq!(
            Call::post(VALIDATE)
                .body("{\"token\":")
                .send(&host, &routes())
                .status(),
            400
        );
    }

    #[test]
    fn degraded_and_without_a_secret() {
        let host = host();
        host.redis_down();
        let body = validate(&host, &json!({"token": "good"})).json();
        assert_eq!(
            (&body["valid"], &body["degraded"]),
            (&json!(true), &json!(true))
        );
        host.revoked.borrow_mut().insert("user:42".into());
        assert_eq!(
            validate(&host, &json!({"token": "good"})).json()["error"],
            "token_revoked"
        );
        host.ready.set(false);
        let reply = validate(&host, &json!({"token": "good"}));
        assert_eq!(
            (reply.status(), &reply.json()["code"]),
            (503, &json!("AUTH_004"))
        );
    }

    #[test]
    fn verify_token_for_the_chat_service() {
        let host = host();
        let reply = Call::get(VERIFY).bearer("good").send(&host, &routes());
        let mut expected = json!({
            "valid": true, "user_id": 42, "email": "ada@example.org", "role": "user",
            "session_id": "s-7Qx", "degraded": false
        });
        assert_eq!((reply.status(), reply.json()), (200, expected.clone()));
        host.set("DEFAULT_CHAT_MODEL", "small");
        host.redis_down();
        expected["chat_model"] = json!("small");
        expected["degraded"] = json!(true);
        let reply = Call::get(VERIFY)
            .cookie("access_token", "good")
            .send(&host, &routes());
        assert_eq!((reply.status(), reply.json()), (200, expected));
    }

    #[test]
    fn verify_token_refuses_with_401() {
        let host = host();
        let call = |token: &str| Call::get(VERIFY).bearer(token).send(&host, &routes());
        assert_eq!((call("junk").status(), call("").status()), (401, 401));
        assert_eq!(call("junk").header("www-authenticate"), "Bearer");
        host.users.borrow_mut().insert(42, users::State::Disabled);
        assert_eq!(call("good").json()["error"], "user_disabled");
        host.ready.set(false);
        assert_eq!(call("good").status(), 503);
    }
}
