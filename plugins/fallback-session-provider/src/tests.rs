//! Every endpoint against a scripted host: success, each refusal, each loss.

use lockgate_sdk::double::{Call, Double, NOW, Reply, sha};
use lockgate_sdk::http::Origin;
use lockgate_sdk::wit::peers::{Peer, Reachability, Status};
use lockgate_sdk::wit::{fallback, jwt, users};
use serde_json::{Value, json};

use crate::routes;

const CREATE: &str = "/api/v1/fallback/create";
const VALIDATE: &str = "/api/v1/fallback/validate";
const EMERGENCY: &str = "/api/v1/fallback/emergency-auth";
const HEALTH: &str = "/api/v1/fallback/health";

fn host() -> Double {
    let host = Double::new("fallback-session-provider-service");
    host.good("good", |_| {});
    host.good("eve", |claims| {
        claims.sub = Some(jwt::Scalar::Text("7".into()));
        claims.id = None;
        claims.email = Some("eve@example.org".into());
        claims.session_id = Some("s-eve".into());
    });
    host.bad("expired", jwt::Error::Expired);
    host
}

fn post(host: &Double, path: &str, body: &Value) -> Reply {
    Call::post(path)
        .body(body.to_string())
        .send(host, &routes())
}

fn error(reply: &Reply) -> (u16, String) {
    (
        reply.status(),
        reply.json()["error"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    )
}

fn refused(status: u16, error: &str) -> (u16, String) {
    (status, error.to_owned())
}

/// Makes an emergency session of user 42 and gives its token.
fn kept(host: &Double) -> String {
    let reply = post(host, CREATE, &json!({"token": "good", "ttl_seconds": 1800}));
    reply.json()["fallback_token"].as_str().unwrap().to_owned()
}

fn normalizer(status: Status) -> Peer {
    Peer {
        name: "session_validation_normalizer".into(),
        url: "http://127.0.0.1:8026".into(),
        port: 8026,
        status,
        response_time_ms: None,
        error_count: 0,
        last_check: Some(NOW),
        error_message: None,
    }
}

#[test]
fn create_makes_and_replaces() {
    let host = host();
    let body = json!({"token": "good", "ttl_seconds": 1800, "additional_data": {"why": "test"}});
    let reply = post(&host, CREATE, &body);
    let expected = json!({
        "session_key": "fallback_session:42", "fallback_token": "fallback-42", "session_id": "s-7Qx",
        "user_id": 42, "email": "ada@example.org", "role": "user",
        "session_created": "2031-05-04T09:00:00Z", "expires_at": "2031-05-04T09:30:00Z",
        "format_type": "enhanced", "fallback": true, "degraded": true
    });
    assert_eq!((reply.status(), reply.json()), (201, expected));
    let (record, _) = host.fallback.borrow()[&42].clone();
    assert_eq!(record.session_data, "{\"why\":\"test\"}");
    assert_eq!(record.source_sha256, sha("good"));
    assert_eq!(
        (record.source_issued_at, record.source_expires_at),
        (Some(NOW), Some(NOW + 3600))
    );
    assert_eq!(post(&host, CREATE, &json!({"token": "good"})).status(), 200);
    assert_eq!(host.fallback.borrow()[&42].0.expires_at, NOW + 3600);
}

#[test]
fn create_refuses_bad_fields() {
    let host = host();
    let large = "x".repeat(17_000);
    for body in [
        json!({"token": "good", "ttl_seconds": 0}),
        json!({"token": "good", "ttl_seconds": 3601}),
        json!({"token": "good", "ttl_seconds": -5}),
        json!({"token": "good", "ttl_seconds": "60"}),
        json!({"token": "good", "additional_data": [1]}),
        json!({"token": "good", "additional_data": {"large": large}}),
        json!({"token": 5}),
    ] {
        assert_eq!(
            error(&post(&host, CREATE, &body)),
            refused(422, "invalid_request"),
            "{body}"
        );
    }
    let broken = Call::post(CREATE)
        .body("{\"token\":")
        .send(&host, &routes());
    assert_eq!(error(&broken), refused(400, "invalid_request"));
    assert!(host.fallback.borrow().is_empty());
}

#[test]
fn create_refuses_bad_tokens() {
    let host = host();
    assert_eq!(
        error(&post(&host, CREATE, &json!({}))),
        refused(401, "token_missing")
    );
    let expired = post(&host, CREATE, &json!({"token": "expired"}));
    assert_eq!(error(&expired), refused(401, "token_expired"));
    assert_eq!(expired.header("www-authenticate"), "Bearer");
    host.revoked.borrow_mut().insert("session:42:s-7Qx".into());
    assert_eq!(
        error(&post(&host, CREATE, &json!({"token": "good"}))),
        refused(401, "token_revoked")
    );
    host.ready.set(false);
    assert_eq!(
        error(&post(&host, CREATE, &json!({"token": "good"}))),
        refused(503, "service_unavailable")
    );
    assert!(host.fallback.borrow().is_empty());
}

#[test]
fn create_by_cookie_needs_the_csrf_header() {
    let host = host();
    let call = || Call::post(CREATE).cookie("access_token", "good");
    assert_eq!(
        error(&call().send(&host, &routes())),
        refused(403, "csrf_failed")
    );
    let wrong = call().cookie("csrf_token", "a").header("x-csrf-token", "b");
    assert_eq!(
        error(&wrong.send(&host, &routes())),
        refused(403, "csrf_failed")
    );
    let right = call().cookie("csrf_token", "a").header("x-csrf-token", "a");
    assert_eq!(right.send(&host, &routes()).status(), 201);
    let foreign = Call::post(CREATE).bearer("good").origin(Origin::Foreign);
    assert_eq!(
        error(&foreign.send(&host, &routes())),
        refused(403, "origin_refused")
    );
}

#[test]
fn create_works_without_redis_but_not_without_the_file() {
    let host = host();
    host.redis_down();
    assert_eq!(post(&host, CREATE, &json!({"token": "good"})).status(), 201);
    host.fallback_error.set(Some(fallback::Error::Unavailable));
    assert_eq!(
        error(&post(&host, CREATE, &json!({"token": "good"}))),
        refused(503, "service_unavailable")
    );
    let health = Call::get(HEALTH).send(&host, &routes());
    assert_eq!(
        (health.status(), &health.json()["status"]),
        (200, &json!("degraded"))
    );
}

#[test]
fn validate_by_fallback_token() {
    let host = host();
    let token = kept(&host);
    let reply = post(&host, VALIDATE, &json!({"fallback_token": token}));
    let expected = json!({
        "valid": true, "authenticated": true, "user_id": 42, "id": 42, "email": "ada@example.org",
        "role": "user", "session_id": "s-7Qx", "expires_in_minutes": 30,
        "expires_at": "2031-05-04T09:30:00Z", "session_created": "2031-05-04T09:00:00Z",
        "last_activity": "2031-05-04T09:00:00Z", "message": "Session is valid", "is_active": true,
        "degraded": true, "source": "fallback", "format_type": "enhanced", "response_time_ms": 0.0,
        "fallback": true
    });
    assert_eq!((reply.status(), reply.json()), (200, expected));
    host.ready.set(false);
    assert_eq!(
        post(&host, VALIDATE, &json!({"fallback_token": token})).json()["valid"],
        true
    );
    host.now.set(NOW + 1800);
    assert_eq!(
        error(&post(&host, VALIDATE, &json!({"fallback_token": token}))),
        refused(200, "invalid_token")
    );
}

#[test]
fn validate_by_token_with_and_without_a_record() {
    let host = host();
    let by_cookie = || {
        Call::post(VALIDATE)
            .cookie("access_token", "good")
            .send(&host, &routes())
            .json()
    };
    let body = by_cookie();
    assert_eq!(
        (&body["valid"], &body["source"]),
        (&json!(true), &json!("fallback"))
    );
    assert_eq!(
        (&body["degraded"], &body["fallback"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(body["expires_at"], "2031-05-04T10:00:00Z");
    host.now.set(NOW + 60);
    kept(&host);
    assert_eq!(by_cookie()["session_created"], "2031-05-04T09:01:00Z");
    host.fallback_error.set(Some(fallback::Error::Unavailable));
    assert_eq!(by_cookie()["session_created"], "2031-05-04T09:00:00Z");
}

#[test]
fn what_is_not_valid_is_still_an_answer() {
    let host = host();
    let token = kept(&host);
    let invalid = |body: &Value, expected: &str| {
        let reply = post(&host, VALIDATE, body);
        assert_eq!(error(&reply), refused(200, expected), "{body}");
        let body = reply.json();
        assert_eq!(
            (&body["valid"], &body["authenticated"]),
            (&json!(false), &json!(false))
        );
        assert_eq!(
            (&body["fallback"], &body["user_id"]),
            (&json!(true), &Value::Null)
        );
    };
    invalid(&json!({}), "token_missing");
    invalid(&json!({"token": "expired"}), "token_expired");
    invalid(&json!({"fallback_token": "guess"}), "invalid_token");
    invalid(
        &json!({"session_key": "fallback_session:42", "user_id": 42, "email": "ada@example.org"}),
        "token_missing",
    );
    host.users.borrow_mut().insert(42, users::State::Disabled);
    invalid(&json!({"token": "good"}), "user_disabled");
    invalid(&json!({"fallback_token": token}), "user_disabled");
    host.users.borrow_mut().clear();
    host.revoked
        .borrow_mut()
        .insert(format!("token:{}", sha("good")));
    invalid(&json!({"token": "good"}), "token_revoked");
    invalid(&json!({"fallback_token": token}), "token_revoked");
    invalid(
        &json!({"token": "expired", "fallback_token": token}),
        "token_revoked",
    );
}

#[test]
fn validate_can_be_narrowed() {
    let host = host();
    let token = kept(&host);
    let valid = |fields: Value| {
        let mut body = fields;
        body["fallback_token"] = json!(token);
        post(&host, VALIDATE, &body).json()["valid"] == true
    };
    assert!(valid(
        json!({"session_key": "fallback_session:42", "user_id": 42, "email": "ADA@example.org"})
    ));
    assert!(!valid(json!({"session_key": "fallback_session:4"})));
    assert!(!valid(json!({"user_id": 43})));
    assert!(!valid(json!({"user_id": -42})));
    assert!(!valid(json!({"email": "eve@example.org"})));
    for body in [
        json!({"user_id": "42"}),
        json!({"fallback_token": 1}),
        json!({"email": {}}),
        json!({"session_key": 1}),
    ] {
        assert_eq!(
            error(&post(&host, VALIDATE, &body)),
            refused(422, "invalid_request"),
            "{body}"
        );
    }
}

#[test]
fn users_are_never_mixed() {
    let host = host();
    let token = kept(&host);
    let both = post(
        &host,
        VALIDATE,
        &json!({"token": "eve", "fallback_token": token}),
    );
    assert_eq!(error(&both), refused(200, "consistency_mismatch"));
    let two = Call::post(VALIDATE)
        .bearer("eve")
        .cookie("access_token", "good");
    let two = two
        .body(json!({"fallback_token": token}).to_string())
        .send(&host, &routes());
    assert_eq!(error(&two), refused(200, "consistency_mismatch"));
    let stale = post(
        &host,
        VALIDATE,
        &json!({"token": "expired", "fallback_token": token}),
    );
    assert_eq!(stale.json()["valid"], true);
}

#[test]
fn validate_without_secret_or_store() {
    let host = host();
    let token = kept(&host);
    host.fallback_error.set(Some(fallback::Error::Unavailable));
    let reply = post(&host, VALIDATE, &json!({"fallback_token": token}));
    assert_eq!(error(&reply), refused(503, "service_unavailable"));
    host.fallback_error.set(None);
    host.ready.set(false);
    assert_eq!(
        error(&post(&host, VALIDATE, &json!({"token": "good"}))),
        refused(503, "service_unavailable")
    );
    assert_eq!(
        error(&post(&host, VALIDATE, &json!({}))),
        refused(503, "service_unavailable")
    );
    let both = post(
        &host,
        VALIDATE,
        &json!({"token": "good", "fallback_token": token}),
    );
    assert_eq!(both.json()["valid"], true);
}

#[test]
fn emergency_login() {
    let host = host();
    let reply = post(
        &host,
        EMERGENCY,
        &json!({"token": "good", "user_id": 7, "role": "admin"}),
    );
    let expected = json!({
        "valid": true, "authenticated": true, "user_id": 42, "id": 42, "email": "ada@example.org",
        "role": "user", "session_id": "s-7Qx", "expires_in_minutes": 60,
        "expires_at": "2031-05-04T10:00:00Z", "session_created": "2031-05-04T09:00:00Z",
        "last_activity": "2031-05-04T09:00:00Z", "message": "Session is valid", "is_active": true,
        "degraded": true, "source": "fallback", "format_type": "enhanced", "response_time_ms": 0.0,
        "mode": "fallback", "security_level": "degraded", "fallback": true, "fallback_token": "fallback-42"
    });
    assert_eq!((reply.status(), reply.json()), (200, expected));
    assert!(host.fallback.borrow().contains_key(&42));
    assert!(host.wrote("limiter_take emergency_success:42 10"));
    assert!(!host.wrote("limiter_take emergency_failure"));
    assert_eq!(*host.lookups.borrow(), [(42, false)]);
    let lines = host.lines.borrow();
    assert_eq!(
        *lines,
        ["emergency-auth accepted user=42 address=192.0.2.1 request=r-1"]
    );
}

#[test]
fn emergency_is_strict_unless_told_otherwise() {
    let host = host();
    host.good("no-iat", |claims| claims.issued_at = None);
    let reply = post(&host, EMERGENCY, &json!({"token": "no-iat"}));
    assert_eq!(error(&reply), refused(401, "invalid_token"));
    host.set("FALLBACK_SECURITY_LEVEL", "standard");
    assert_eq!(
        post(&host, EMERGENCY, &json!({"token": "no-iat"})).status(),
        200
    );
}

#[test]
fn emergency_failures_count_by_address_and_successes_by_user() {
    let host = host();
    host.set("FALLBACK_RATE_LIMIT", "3");
    assert_eq!(
        error(&post(&host, EMERGENCY, &json!({}))),
        refused(401, "token_missing")
    );
    assert_eq!(
        error(&post(&host, EMERGENCY, &json!({"token": "expired"}))),
        refused(401, "token_expired")
    );
    assert!(host.wrote("limiter_take emergency_failure:192.0.2.1 3"));
    assert!(!host.wrote("limiter_take emergency_success"));
    host.limited
        .borrow_mut()
        .insert("emergency_failure:192.0.2.1".into(), 20);
    let limited = post(&host, EMERGENCY, &json!({"token": "expired"}));
    assert_eq!(error(&limited), refused(429, "rate_limited"));
    assert_eq!(limited.header("retry-after"), "20");
    assert_eq!(
        post(&host, EMERGENCY, &json!({"token": "good"})).status(),
        200
    );
    host.limited
        .borrow_mut()
        .insert("emergency_success:42".into(), 7);
    let limited = post(&host, EMERGENCY, &json!({"token": "good"}));
    assert_eq!(
        (limited.status(), limited.header("retry-after")),
        (429, "7".to_owned())
    );
    assert!(
        host.lines
            .borrow()
            .iter()
            .all(|line| !line.contains("good") && !line.contains("expired user"))
    );
}

#[test]
fn emergency_can_be_closed() {
    let host = host();
    let call = |host: &Double| error(&post(host, EMERGENCY, &json!({"token": "good"})));
    host.set("FALLBACK_AUTH_ENABLED", "false");
    assert_eq!(call(&host), refused(403, "access_forbidden"));
    host.set("FALLBACK_AUTH_ENABLED", "true");
    host.set("FALLBACK_ONLY_ON_OUTAGE", "true");
    host.peers.borrow_mut().push(normalizer(Status::Healthy));
    assert_eq!(call(&host), refused(403, "access_forbidden"));
    for status in [
        Status::Degraded,
        Status::Error,
        Status::CircuitOpen,
        Status::Unknown,
    ] {
        *host.peers.borrow_mut() = vec![normalizer(status)];
        assert_eq!(call(&host).0, 200, "{status:?}");
    }
    let foreign = Call::post(EMERGENCY)
        .bearer("good")
        .origin(Origin::Foreign)
        .send(&host, &routes());
    assert_eq!(error(&foreign), refused(403, "origin_refused"));
    assert_eq!(host.lines.borrow().len(), 7, "every use is logged");
}

#[test]
fn emergency_refuses_what_memory_knows() {
    let host = host();
    host.redis_down();
    host.users.borrow_mut().insert(42, users::State::Disabled);
    assert_eq!(
        error(&post(&host, EMERGENCY, &json!({"token": "good"}))),
        refused(401, "user_disabled")
    );
    host.users.borrow_mut().clear();
    host.revoked.borrow_mut().insert("user:42".into());
    assert_eq!(
        error(&post(&host, EMERGENCY, &json!({"token": "good"}))),
        refused(401, "token_revoked")
    );
    host.ready.set(false);
    let writes = host.writes.borrow().len();
    assert_eq!(
        error(&post(&host, EMERGENCY, &json!({"token": "good"}))),
        refused(503, "service_unavailable")
    );
    assert_eq!(
        host.writes.borrow().len(),
        writes,
        "a fault of ours counts against nobody"
    );
}

#[test]
fn health_tells_what_is_kept() {
    let host = host();
    kept(&host);
    let reply = Call::get(HEALTH).send(&host, &routes());
    let expected = json!({
        "status": "healthy", "service": "fallback-session-provider-service",
        "timestamp": "2031-05-04T09:00:00Z", "dependencies": {"redis": "connected"}, "degraded": false,
        "active_sessions": 1, "expired_sessions_pending_cleanup": 0, "redis_connected": true,
        "pending_resync": 0, "storage_location": "/var/lib/lockgate/fallback.redb", "max_sessions": 1000,
        "session_ttl": 3600, "persistence_enabled": true,
        "stats": {"sessions_created": 0, "sessions_retrieved": 0, "sessions_expired": 0,
                  "fallback_activations": 0, "redis_recoveries": 0}
    });
    assert_eq!((reply.status(), reply.json()), (200, expected));
}

#[test]
fn health_degrades_and_fails() {
    let host = host();
    let both =
        |host: &Double| ["/health", HEALTH].map(|path| Call::get(path).send(host, &routes()));
    host.redis.set(Reachability::NotConfigured);
    for reply in both(&host) {
        assert_eq!(
            (reply.status(), &reply.json()["status"]),
            (200, &json!("healthy"))
        );
    }
    host.redis_down();
    for reply in both(&host) {
        assert_eq!(
            (reply.status(), &reply.json()["status"]),
            (200, &json!("degraded"))
        );
        assert_eq!(reply.json()["dependencies"]["redis"], "disconnected");
    }
    host.ready.set(false);
    for reply in both(&host) {
        assert_eq!(
            (reply.status(), &reply.json()["status"]),
            (503, &json!("error"))
        );
    }
}

#[test]
fn ready_for_a_swap() {
    assert_eq!(
        lockgate_sdk::self_test(&host(), &routes()),
        Vec::<String>::new()
    );
}
