//! Every endpoint against a scripted host: success, each refusal, each loss.

use lockgate_sdk::double::{Call, Double, NOW, Reply, sha};
use lockgate_sdk::http::Origin;
use lockgate_sdk::wit::peers::Reachability;
use lockgate_sdk::wit::sockets::Connection;
use lockgate_sdk::wit::{jwt, users};
use serde_json::{Value, json};

use crate::routes;
use crate::ticket::Ticket;

const VALIDATE: &str = "/api/v1/ws-auth/validate";
const AUTHORIZE: &str = "/api/v1/ws-auth/authorize";
const INFO: &str = "/api/v1/ws-auth/connection-info";
const HEALTH: &str = "/api/v1/ws-auth/health";

fn host() -> Double {
    let host = Double::new("websocket-auth-gateway-service");
    host.dependencies
        .borrow_mut()
        .insert("chat_service".into(), Reachability::Connected);
    host.good("good", |_| {});
    host.good("admin", |claims| {
        claims.sub = Some(jwt::Scalar::Text("1".into()));
        claims.id = None;
        claims.email = Some("root@example.org".into());
        claims.role = Some("admin".into());
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

fn socket(user_id: u32, session_id: &str) -> Connection {
    Connection {
        connection_id: format!("ws-{user_id}"),
        user_id,
        email: format!("{user_id}@example.org"),
        role: "user".into(),
        format_type: "enhanced".into(),
        connected_at: NOW,
        session_id: session_id.into(),
    }
}

#[test]
fn validate_a_good_token() {
    let host = host();
    let reply = post(&host, VALIDATE, &json!({"token": "good"}));
    let expected = json!({
        "valid": true, "user_id": 42, "email": "ada@example.org", "role": "user",
        "format_type": "enhanced", "session_id": "s-7Qx", "expires_at": "2031-05-04T10:00:00Z",
        "issued_at": "2031-05-04T09:00:00Z", "expires_in": 3600, "degraded": false,
        "normalized": {"sub": "42", "email": "ada@example.org", "id": 42, "role": "user", "session_id": "s-7Qx"}
    });
    assert_eq!((reply.status(), reply.json()), (200, expected));
    host.redis_down();
    let reply = Call::post(VALIDATE)
        .cookie("auth_token", "good")
        .send(&host, &routes())
        .json();
    assert_eq!(
        (&reply["valid"], &reply["degraded"]),
        (&json!(true), &json!(true))
    );
}

#[test]
fn validate_a_bad_token() {
    let host = host();
    let reply = post(&host, VALIDATE, &json!({"token": "expired"}));
    let expected = json!({
        "valid": false, "authenticated": false, "user_id": null, "email": null, "role": null,
        "session_id": null, "expires_at": null, "expires_in_minutes": null, "error": "token_expired",
        "code": "AUTH_003", "message": "The token has expired", "degraded": false
    });
    assert_eq!((reply.status(), reply.json()), (200, expected));
    assert_eq!(
        error(&post(&host, VALIDATE, &json!({}))),
        refused(200, "token_missing")
    );
    host.revoked.borrow_mut().insert("user:42".into());
    assert_eq!(
        error(&post(&host, VALIDATE, &json!({"token": "good"}))),
        refused(200, "token_revoked")
    );
    let counts = host.counts.borrow().clone();
    assert_eq!(
        (counts["failed_authentications"], counts["bypass_attempts"]),
        (3, 1)
    );
}

#[test]
fn validate_refuses_bad_requests() {
    let host = host();
    assert_eq!(
        error(&post(&host, VALIDATE, &json!({"token": ["good"]}))),
        refused(422, "invalid_request")
    );
    let broken = Call::post(VALIDATE).body("{").send(&host, &routes());
    assert_eq!(error(&broken), refused(400, "invalid_request"));
    host.ready.set(false);
    assert_eq!(
        error(&post(&host, VALIDATE, &json!({"token": "good"}))),
        refused(503, "service_unavailable")
    );
    assert!(
        host.counts.borrow().is_empty(),
        "none of these was an authentication"
    );
}

#[test]
fn authorize_gives_a_ticket() {
    let host = host();
    let reply = post(
        &host,
        AUTHORIZE,
        &json!({"token": "good", "path": "/ws/chat"}),
    );
    let body = reply.json();
    let ticket = Ticket::of(&[7; 32]);
    let expected = json!({
        "authorized": true, "connection_id": "ws-0707070707070707", "user_id": 42,
        "email": "ada@example.org", "role": "user", "session_id": "s-7Qx",
        "expires_at": "2031-05-04T10:00:00Z", "degraded": false, "ticket": ticket.value
    });
    assert_eq!((reply.status(), body), (200, expected));
    assert_eq!(ticket.value.len(), 43);
    let kept = host.json(&ticket.key).unwrap();
    let expected = json!({
        "user_id": 42, "email": "ada@example.org", "role": "user", "session_id": "s-7Qx",
        "connection_id": "ws-0707070707070707", "path": "/ws/chat", "token_sha256": sha("good"),
        "token_iat": NOW, "token_exp": NOW + 3600
    });
    assert_eq!(kept, expected);
    assert!(!kept.to_string().contains(&ticket.value));
    assert!(
        host.lines
            .borrow()
            .iter()
            .all(|line| !line.contains(&ticket.value) && !line.contains("good"))
    );
}

#[test]
fn authorize_without_redis_gives_no_ticket() {
    let host = host();
    host.redis_down();
    let reply = Call::post(AUTHORIZE).bearer("good").send(&host, &routes());
    let body = reply.json();
    assert_eq!((reply.status(), &body["authorized"]), (200, &json!(true)));
    assert_eq!(
        (&body["ticket"], &body["degraded"]),
        (&Value::Null, &json!(true))
    );
}

#[test]
fn authorize_checks_the_path() {
    let host = host();
    for path in ["/api/v1/chat/ws", "/api/v1/ws/anything", "/ws/x"] {
        assert_eq!(
            post(&host, AUTHORIZE, &json!({"token": "good", "path": path})).status(),
            200,
            "{path}"
        );
    }
    for path in ["/api/v1/users", "/ws/../api/v1/users", ""] {
        let reply = post(&host, AUTHORIZE, &json!({"token": "good", "path": path}));
        assert_eq!(error(&reply), refused(403, "access_forbidden"), "{path}");
        let body = reply.json();
        assert_eq!(
            (&body["authorized"], &body["close_code"]),
            (&json!(false), &json!(1008))
        );
        assert_eq!(body["reason"], "Path not allowed");
    }
}

#[test]
fn authorize_says_how_the_socket_will_close() {
    let host = host();
    let check = |call: Call, status: u16, name: &str, reason: &str| {
        let reply = call.send(&host, &routes());
        assert_eq!(error(&reply), refused(status, name));
        let body = reply.json();
        assert_eq!(
            (&body["authorized"], &body["close_code"]),
            (&json!(false), &json!(1008))
        );
        assert_eq!(body["reason"], reason);
        assert!(
            body["detail"].is_string() && body["code"].is_string() && body["message"].is_string()
        );
    };
    let call = || Call::post(AUTHORIZE);
    check(
        call(),
        401,
        "token_missing",
        "Authentication token required - no bypass allowed",
    );
    check(
        call().bearer("junk"),
        401,
        "invalid_token",
        "Invalid authentication token format",
    );
    check(
        call().bearer("expired"),
        401,
        "token_expired",
        "Invalid authentication token format",
    );
    let two = call().bearer("good").cookie("access_token", "admin");
    check(
        two,
        401,
        "consistency_mismatch",
        "User authentication failed",
    );
    let foreign = call()
        .cookie("access_token", "good")
        .origin(Origin::Foreign);
    check(foreign, 403, "origin_refused", "Origin not allowed");
    host.users.borrow_mut().insert(42, users::State::Disabled);
    check(
        call().bearer("good"),
        401,
        "user_disabled",
        "User authentication failed",
    );
    host.revoked.borrow_mut().insert("session:42:s-7Qx".into());
    check(
        call().bearer("good"),
        401,
        "token_revoked",
        "Session validation failed",
    );
    assert!(host.values.borrow().is_empty());
}

#[test]
fn authorize_refuses_bad_requests() {
    let host = host();
    for body in [
        json!({"path": 1}),
        json!({"session_id": {}}),
        json!({"client_ip": 1}),
        json!({"token": false}),
    ] {
        let reply = post(&host, AUTHORIZE, &body);
        assert_eq!(error(&reply), refused(422, "invalid_request"), "{body}");
        assert!(reply.json().get("authorized").is_none());
    }
    let broken = Call::post(AUTHORIZE).body("[").send(&host, &routes());
    assert_eq!(error(&broken), refused(400, "invalid_request"));
    host.ready.set(false);
    assert_eq!(
        error(&post(&host, AUTHORIZE, &json!({"token": "good"}))),
        refused(503, "service_unavailable")
    );
}

#[test]
fn authorize_takes_only_the_users_own_session() {
    let host = host();
    let members = ["s-other".to_owned(), "s-dead".to_owned(), "1234".to_owned()];
    host.sets
        .borrow_mut()
        .insert("user_sessions:42".into(), members.into_iter().collect());
    host.sets.borrow_mut().insert(
        "user_sessions:1".into(),
        ["s-root".to_owned()].into_iter().collect(),
    );
    host.revoked.borrow_mut().insert("session:42:s-dead".into());
    let session = |wanted: &str| {
        post(
            &host,
            AUTHORIZE,
            &json!({"token": "good", "session_id": wanted}),
        )
        .json()["session_id"]
            .clone()
    };
    assert_eq!(session("s-other"), "s-other");
    for wanted in ["s-root", "s-dead", "1234", "", "no such", "s-7Qx"] {
        assert_eq!(session(wanted), "s-7Qx", "{wanted}");
    }
}

#[test]
fn authorize_logs_only_addresses() {
    let host = host();
    post(
        &host,
        AUTHORIZE,
        &json!({"token": "good", "client_ip": "203.0.113.9"}),
    );
    post(
        &host,
        AUTHORIZE,
        &json!({"token": "good", "client_ip": "x\nERROR forged"}),
    );
    let line = |client: &str| {
        format!("socket authorised user=42 connection=ws-0707070707070707 client={client}")
    };
    assert_eq!(
        *host.lines.borrow(),
        [line("203.0.113.9"), line("192.0.2.1")]
    );
}

#[test]
fn connections_are_ones_own() {
    let host = host();
    host.counts
        .borrow_mut()
        .insert("total_connections".into(), 7);
    host.sockets
        .borrow_mut()
        .extend([socket(42, "s-7Qx"), socket(7, "s-eve")]);
    let reply = Call::get(INFO).bearer("good").send(&host, &routes());
    let expected = json!({
        "active_connections": 1,
        "connections": [{"connection_id": "ws-42", "user_id": 42, "email": "42@example.org", "role": "user",
            "format_type": "enhanced", "connected_at": "2031-05-04T09:00:00Z", "session_id": "s-7Qx"}],
        "stats": {"total_connections": 7, "authenticated_connections": 0, "failed_authentications": 0,
            "bypass_attempts": 0},
        "degraded": false
    });
    assert_eq!((reply.status(), reply.json()), (200, expected));
}

#[test]
fn only_a_known_admin_sees_all_connections() {
    let host = host();
    host.sockets
        .borrow_mut()
        .extend([socket(42, "s-7Qx"), socket(7, "s-eve")]);
    let seen = || {
        Call::get(INFO)
            .bearer("admin")
            .send(&host, &routes())
            .json()
    };
    assert_eq!(seen()["active_connections"], 0, "the state is unknown");
    host.users_away.set(true);
    assert_eq!(
        (&seen()["active_connections"], &seen()["degraded"]),
        (&json!(0), &json!(true))
    );
    host.users_away.set(false);
    let known = |role: &str| {
        users::State::Active(users::User {
            email: "root@example.org".into(),
            role: role.into(),
        })
    };
    host.users.borrow_mut().insert(1, known("user"));
    assert_eq!(seen()["active_connections"], 0, "no longer an admin");
    host.users.borrow_mut().insert(1, known("admin"));
    assert_eq!(seen()["active_connections"], 2);
}

#[test]
fn connections_need_a_token() {
    let host = host();
    let call = |call: Call| error(&call.send(&host, &routes()));
    assert_eq!(call(Call::get(INFO)), refused(401, "token_missing"));
    assert_eq!(
        call(Call::get(INFO).bearer("expired")),
        refused(401, "token_expired")
    );
    host.redis_down();
    let degraded = Call::get(INFO).bearer("good").send(&host, &routes());
    assert_eq!(
        (degraded.status(), &degraded.json()["degraded"]),
        (200, &json!(true))
    );
    host.ready.set(false);
    assert_eq!(
        call(Call::get(INFO).bearer("good")),
        refused(503, "service_unavailable")
    );
}

#[test]
fn health_in_full() {
    let host = host();
    host.counts
        .borrow_mut()
        .insert("failed_authentications".into(), 2);
    host.sockets.borrow_mut().push(socket(42, "s-7Qx"));
    let reply = Call::get(HEALTH).send(&host, &routes());
    let expected = json!({
        "status": "healthy", "service": "websocket-auth-gateway-service", "timestamp": "2031-05-04T09:00:00Z",
        "dependencies": {"redis": "connected", "chat_service": "connected"}, "degraded": false,
        "active_connections": 1,
        "stats": {"total_connections": 0, "authenticated_connections": 0, "failed_authentications": 2,
            "bypass_attempts": 0},
        "bypass_disabled": true, "authentication_required": true
    });
    assert_eq!((reply.status(), reply.json()), (200, expected));
}

#[test]
fn health_degrades_and_fails() {
    let host = host();
    let both =
        |host: &Double| ["/health", HEALTH].map(|path| Call::get(path).send(host, &routes()));
    host.dependencies
        .borrow_mut()
        .insert("chat_service".into(), Reachability::Disconnected);
    for reply in both(&host) {
        assert_eq!(
            (reply.status(), &reply.json()["status"]),
            (200, &json!("degraded"))
        );
        assert_eq!(
            reply.json()["dependencies"],
            json!({"redis": "connected", "chat_service": "disconnected"})
        );
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
