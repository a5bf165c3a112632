//! Every row of the session check, against the scripted host.

use lockgate_sdk::double::{Call, Double, NOW, Reply};
use lockgate_sdk::wit::peers::Reachability;
use lockgate_sdk::wit::{jwt, users};
use serde_json::{Value, json};

use crate::routes;

const VALIDATE: &str = "/api/v1/session/validate";

fn host() -> Double {
    let host = Double::new("session-validation-normalizer-service");
    host.good("good", |_| {});
    host
}

fn get(host: &Double, token: &str) -> Reply {
    Call::get(VALIDATE)
        .cookie("access_token", token)
        .send(host, &routes())
}

fn valid() -> Value {
    json!({
        "valid": true, "authenticated": true, "user_id": 42, "id": 42,
        "email": "ada@example.org", "role": "user", "session_id": "s-7Qx",
        "expires_in_minutes": 60, "expires_at": "2031-05-04T10:00:00Z",
        "session_created": "2031-05-04T09:00:00Z", "last_activity": "2031-05-04T09:00:00Z",
        "message": "Session is valid", "is_active": true, "degraded": false,
        "source": "redis", "format_type": "enhanced", "response_time_ms": 0.0
    })
}

fn marks(reply: &Reply) -> String {
    let names = ["x-session-format", "x-session-valid", "x-degraded-mode"];
    names.map(|name| reply.header(name)).join(" ")
}

#[test]
fn a_good_session_as_the_front_end_asks() {
    let host = host();
    for method in ["GET", "POST"] {
        let reply = Call::new(method, VALIDATE)
            .header("cookie", "theme=dark; access_token=good")
            .header("content-type", "application/json")
            .header("cache-control", "no-cache")
            .header("x-integration-layer", "true")
            .send(&host, &routes());
        assert_eq!((reply.status(), reply.json()), (200, valid()), "{method}");
        assert_eq!(marks(&reply), "enhanced true false");
        assert_eq!(reply.header("x-integration-layer"), "true");
        assert_eq!(reply.header("set-cookie"), "");
    }
    assert!(host.json("session:s-7Qx").is_some());
    assert!(host.wrote("fallback_copy s-7Qx"));
}

#[test]
fn broken_bodies_are_ignored() {
    let host = host();
    for body in ["{", "[]", "{\"token\":5}", "\u{0}", "token=x"] {
        let call = Call::post(VALIDATE).body(body).cookie("auth_token", "good");
        assert_eq!(call.send(&host, &routes()).json()["valid"], true, "{body}");
    }
    let by_body = Call::post(VALIDATE)
        .body("{\"token\":\"good\"}")
        .send(&host, &routes());
    assert_eq!(by_body.json()["valid"], true);
}

#[test]
fn bad_tokens_are_200_and_invalid() {
    let host = host();
    host.bad("old", jwt::Error::Expired);
    host.bad("forged", jwt::Error::InvalidSignature);
    host.good("service", |claims| {
        claims.token_type = Some("service".into())
    });
    let rows = [
        ("", "token_missing", "AUTH_001"),
        ("old", "token_expired", "AUTH_003"),
        ("forged", "invalid_signature", "AUTH_005"),
        ("junk", "invalid_token", "AUTH_005"),
        ("service", "unsupported_format", "AUTH_005"),
    ];
    for (token, error, code) in rows {
        let reply = get(&host, token);
        let body = reply.json();
        assert_eq!(
            (reply.status(), &body["error"], &body["code"]),
            (200, &json!(error), &json!(code))
        );
        assert_eq!(
            (&body["valid"], &body["authenticated"]),
            (&json!(false), &json!(false))
        );
        assert_eq!(marks(&reply), "none false false");
    }
    assert!(!host.wrote(""));
}

#[test]
fn without_cookies_the_whole_body() {
    let expected = json!({
        "valid": false, "authenticated": false, "user_id": null, "email": null, "role": null,
        "session_id": null, "expires_at": null, "expires_in_minutes": null,
        "error": "token_missing", "code": "AUTH_001", "message": "No token was sent",
        "degraded": false
    });
    assert_eq!(
        Call::get(VALIDATE).send(&host(), &routes()).json(),
        expected
    );
}

#[test]
fn revoked_and_disabled_are_401() {
    let host = host();
    host.users.borrow_mut().insert(42, users::State::Disabled);
    let reply = get(&host, "good");
    let body = reply.json();
    assert_eq!(
        (reply.status(), &body["error"]),
        (401, &json!("user_disabled"))
    );
    assert_eq!(
        (&body["valid"], &body["detail"]),
        (&json!(false), &json!("The user is disabled"))
    );
    assert_eq!(reply.header("www-authenticate"), "Bearer");
    host.users.borrow_mut().clear();
    host.revoked.borrow_mut().insert("session:42:s-7Qx".into());
    let reply = get(&host, "good");
    assert_eq!(
        (reply.status(), &reply.json()["error"]),
        (401, &json!("token_revoked"))
    );
    assert_eq!(marks(&reply), "none false false");
    assert!(!host.wrote(""));
}

#[test]
fn unknown_users_and_mismatches_are_200() {
    let host = host();
    host.users.borrow_mut().insert(42, users::State::Missing);
    let reply = get(&host, "good");
    assert_eq!(
        (reply.status(), &reply.json()["error"]),
        (200, &json!("user_not_found"))
    );
    host.users.borrow_mut().clear();
    let record = "{\"session_id\":\"s-7Qx\",\"user_id\":43,\"email\":\"b@c.d\",\"role\":\"user\",\
        \"status\":\"active\",\"created_at\":\"2031-05-04T08:00:00\",\"metadata\":{},\
        \"last_activity\":\"2031-05-04T08:00:00\",\"expires_at\":\"2031-05-05T08:00:00\"}";
    host.values
        .borrow_mut()
        .insert("session:s-7Qx".into(), record.into());
    let reply = get(&host, "good");
    assert_eq!(
        (reply.status(), &reply.json()["error"]),
        (200, &json!("consistency_mismatch"))
    );
    assert!(!host.wrote(""));
}

#[test]
fn the_role_of_the_users_table_counts() {
    let host = host();
    let user = users::User {
        email: "ada@example.org".into(),
        role: "admin".into(),
    };
    host.users
        .borrow_mut()
        .insert(42, users::State::Active(user));
    assert_eq!(get(&host, "good").json()["role"], "admin");
}

#[test]
fn degraded_keeps_users_logged_in() {
    let host = host();
    let _ = get(&host, "good");
    host.redis_down();
    let reply = get(&host, "good");
    let mut expected = valid();
    expected["degraded"] = json!(true);
    expected["source"] = json!("fallback");
    assert_eq!((reply.status(), reply.json()), (200, expected));
    assert_eq!(marks(&reply), "enhanced true true");
    host.fallback.borrow_mut().clear();
    host.fallback_error
        .set(Some(lockgate_sdk::wit::fallback::Error::Unavailable));
    assert_eq!(get(&host, "good").json()["source"], "jwt");
    assert_eq!(host.lines.borrow().len(), 1);
}

#[test]
fn a_peer_writes_nothing_and_asks_nobody() {
    let host = host();
    let call = || {
        Call::get(VALIDATE)
            .bearer("good")
            .header("x-lockgate-peer", "1")
    };
    let reply = call().send(&host, &routes());
    let body = reply.json();
    assert_eq!(
        (reply.status(), &body["valid"], &body["source"]),
        (200, &json!(true), &json!("jwt"))
    );
    assert!(!host.wrote(""));
    assert_eq!(*host.lookups.borrow(), [(42, true)]);
    assert_eq!(get(&host, "good").header("x-lockgate-user"), "");
    assert_eq!(host.lookups.borrow().last(), Some(&(42, false)));
}

#[test]
fn a_peer_learns_what_is_known_of_the_user() {
    let host = host();
    let said = || {
        let call = Call::get(VALIDATE)
            .bearer("good")
            .header("x-lockgate-peer", "1");
        let answer = call.send(&host, &routes());
        answer.header("x-lockgate-user")
    };
    assert_eq!(said(), "none");
    for state in [Reachability::Connected, Reachability::Disconnected] {
        host.dependencies
            .borrow_mut()
            .insert("database".into(), state);
        assert_eq!(said(), "unknown");
    }
    let ada = users::User {
        email: "ada@example.org".into(),
        role: "user".into(),
    };
    host.users
        .borrow_mut()
        .insert(42, users::State::Active(ada));
    assert_eq!(said(), "active");
}

#[test]
fn no_secret_is_503() {
    let host = host();
    host.ready.set(false);
    for token in ["good", ""] {
        let reply = get(&host, token);
        assert_eq!(
            (reply.status(), &reply.json()["error"]),
            (503, &json!("service_unavailable"))
        );
        assert_eq!(marks(&reply), "none false false");
    }
}

#[test]
fn a_token_without_an_end_or_past_it() {
    let host = host();
    host.good("endless", |claims| {
        claims.expires_at = None;
        claims.session_id = None;
    });
    let body = get(&host, "endless").json();
    assert_eq!(
        (&body["expires_at"], &body["expires_in_minutes"]),
        (&Value::Null, &json!(60))
    );
    assert!(body["session_id"].as_str().unwrap().starts_with("jwt-"));
    host.good("leeway", |claims| claims.expires_at = Some(NOW - 30));
    assert_eq!(get(&host, "leeway").json()["expires_in_minutes"], 1);
}
