//! `sync-auth`: who may report, what each event does, what a loss leaves undone.

use lockgate_sdk::double::{Call, Double, NOW, Reply, sha};
use lockgate_sdk::http::Origin;
use lockgate_sdk::wit::sockets::Connection;
use lockgate_sdk::wit::{fallback, users};
use serde_json::{Value, json};

use super::{error, host, refused};
use crate::routes;

const SYNC: &str = "/api/v1/coordinator/sync-auth";

fn event(event_type: &str, session_id: Option<&str>) -> Value {
    let mut body = json!({"user_id": 42, "email": "ada@example.org", "event_type": event_type, "source": "api"});
    if let Some(id) = session_id {
        body["session_id"] = json!(id);
    }
    body
}

fn send(host: &Double, call: Call, body: &Value) -> Reply {
    call.body(body.to_string()).send(host, &routes())
}

fn by_user(host: &Double, body: &Value) -> Reply {
    send(host, Call::post(SYNC).bearer("good"), body)
}

fn by_service(host: &Double, body: &Value) -> Reply {
    send(host, Call::post(SYNC).service(), body)
}

fn known(role: &str) -> users::State {
    users::State::Active(users::User {
        email: "ada@example.org".into(),
        role: role.into(),
    })
}

fn sessions(host: &Double, user_id: u32, ids: &[&str]) {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    host.sets
        .borrow_mut()
        .insert(format!("user_sessions:{user_id}"), ids);
}

fn record(host: &Double, session_id: &str, user_id: u32, status: &str) {
    let record = json!({
        "session_id": session_id, "user_id": user_id, "email": "ada@example.org", "role": "user",
        "status": status, "created_at": "2031-05-04T08:00:00", "last_activity": "2031-05-04T08:30:00",
        "expires_at": "2031-05-05T08:30:00", "metadata": {"ip": "192.0.2.9"}
    });
    host.values.borrow_mut().insert(
        format!("session:{session_id}"),
        record.to_string().into_bytes(),
    );
}

fn socket(host: &Double, user_id: u32, session_id: &str) {
    host.sockets.borrow_mut().push(Connection {
        connection_id: "ws-1".into(),
        user_id,
        email: "ada@example.org".into(),
        role: "user".into(),
        format_type: "enhanced".into(),
        connected_at: NOW,
        session_id: session_id.into(),
    });
}

fn has(host: &Double, key: &str) -> bool {
    host.values.borrow().contains_key(key)
}

fn member(host: &Double, session_id: &str) -> bool {
    host.sets
        .borrow()
        .get("user_sessions:42")
        .is_some_and(|set| set.contains(session_id))
}

#[test]
fn login_is_written_everywhere() {
    let host = host();
    let reply = by_user(&host, &event("login", None));
    let expected = json!({
        "success": true, "event_id": "ev-1", "event_type": "login", "user_id": 42,
        "timestamp": "2031-05-04T09:00:00Z", "propagated": {"redis": true, "fallback": true, "websocket": 0},
        "degraded": false
    });
    assert_eq!((reply.status(), reply.json()), (200, expected));
    let login = json!({"user_id": 42, "email": "ada@example.org", "role": "user",
        "login_time": "2031-05-04T09:00:00", "token_format": "enhanced"});
    assert_eq!(host.json("session:42"), Some(login));
    let session = json!({"session_id": "s-7Qx", "user_id": 42, "email": "ada@example.org", "role": "user",
        "status": "active", "created_at": "2031-05-04T09:00:00", "last_activity": "2031-05-04T09:00:00",
        "expires_at": "2031-05-05T09:00:00", "metadata": {}});
    assert_eq!(host.json("session:s-7Qx"), Some(session));
    assert!(member(&host, "s-7Qx"));
    let (kept, _) = host.fallback.borrow()[&42].clone();
    assert_eq!(
        (kept.session_id.as_str(), kept.source_sha256),
        ("s-7Qx", sha("good"))
    );
    assert!(host.revoked.borrow().is_empty());
    let counts = host.counts.borrow().clone();
    assert_eq!(
        (counts["sync_operations"], counts["state_changes_processed"]),
        (1, 1)
    );
    assert!(!counts.contains_key("coordination_errors"));
}

#[test]
fn login_keeps_what_is_there() {
    let host = host();
    record(&host, "s-7Qx", 42, "expired");
    by_user(&host, &event("login", Some("s-7Qx")));
    let written = host.json("session:s-7Qx").unwrap();
    assert_eq!(
        (&written["status"], &written["created_at"]),
        (&json!("active"), &json!("2031-05-04T08:00:00"))
    );
    assert_eq!(written["metadata"], json!({"ip": "192.0.2.9"}));
}

#[test]
fn login_leaves_other_programs_values_alone() {
    let host = host();
    let pickled = b"\x80\x04\x95pickled".to_vec();
    host.values
        .borrow_mut()
        .insert("session:42".into(), pickled.clone());
    host.values
        .borrow_mut()
        .insert("session:s-7Qx".into(), pickled.clone());
    let reply = by_user(&host, &event("login", None)).json();
    assert_eq!(
        (&reply["propagated"]["redis"], &reply["degraded"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(host.values.borrow()["session:42"], pickled);
    assert_eq!(host.values.borrow()["session:s-7Qx"], pickled);
}

#[test]
fn login_does_not_bring_an_invalidated_session_back() {
    let host = host();
    record(&host, "s-7Qx", 42, "invalidated");
    let reply = by_user(&host, &event("login", None)).json();
    assert_eq!(reply["propagated"]["redis"], false);
    assert_eq!(host.json("session:s-7Qx").unwrap()["status"], "invalidated");
}

#[test]
fn a_service_reports_a_login_without_a_token() {
    let host = host();
    let reply = by_service(&host, &event("login", Some("s-new"))).json();
    assert_eq!(
        (&reply["success"], &reply["degraded"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(host.json("session:s-new").unwrap()["role"], "user");
    let (kept, _) = host.fallback.borrow()[&42].clone();
    assert_eq!(
        (kept.session_id.as_str(), kept.source_issued_at),
        ("s-new", Some(NOW))
    );
    let unnamed = by_service(&host, &event("login", None)).json();
    assert_eq!(
        unnamed["propagated"],
        json!({"redis": true, "fallback": true, "websocket": 0})
    );
}

#[test]
fn roles_come_from_the_table_or_the_users_own_token() {
    let host = host();
    host.users.borrow_mut().insert(42, known("admin"));
    by_service(&host, &event("login", Some("s-new")));
    assert_eq!(host.json("session:42").unwrap()["role"], "admin");
    let host = super::host();
    host.good("root", |claims| {
        claims.sub = Some(lockgate_sdk::wit::jwt::Scalar::Text("1".into()));
        claims.id = None;
        claims.role = Some("admin".into());
        claims.email = Some("root@example.org".into());
    });
    let root = users::User {
        email: "root@example.org".into(),
        role: "admin".into(),
    };
    host.users
        .borrow_mut()
        .insert(1, users::State::Active(root));
    let reply = send(
        &host,
        Call::post(SYNC).bearer("root"),
        &event("login", None),
    );
    assert_eq!(reply.status(), 200);
    assert_eq!(
        host.json("session:42").unwrap()["role"],
        "user",
        "an admin's role is not lent"
    );
    assert!(!has(&host, "session:s-7Qx"), "nor is the admin's session");
}

#[test]
fn a_refresh_is_noted() {
    let host = host();
    record(&host, "s-7Qx", 42, "active");
    by_user(&host, &event("login", None));
    host.now.set(NOW + 60);
    let reply = by_user(&host, &event("token_refresh", None)).json();
    assert_eq!(
        reply["propagated"],
        json!({"redis": true, "fallback": true, "websocket": 0})
    );
    assert_eq!(
        host.json("session:s-7Qx").unwrap()["last_activity"],
        "2031-05-04T09:01:00"
    );
    assert!(host.wrote("expire session:42"));
    let (kept, _) = host.fallback.borrow()[&42].clone();
    let data: Value = serde_json::from_str(&kept.session_data).unwrap();
    assert_eq!(
        data,
        json!({"token_refreshed_at": "2031-05-04T09:01:00Z", "token_format": "enhanced"})
    );
}

#[test]
fn a_refresh_without_records_makes_none() {
    let host = host();
    let reply = by_user(&host, &event("token_refresh", None)).json();
    assert_eq!(
        (&reply["degraded"], &reply["propagated"]["redis"]),
        (&json!(false), &json!(true))
    );
    assert!(host.values.borrow().is_empty() && host.fallback.borrow().is_empty());
}

#[test]
fn logout_of_one_session() {
    let host = host();
    by_user(&host, &event("login", None));
    record(&host, "s-other", 42, "active");
    sessions(&host, 42, &["s-7Qx", "s-other"]);
    socket(&host, 42, "s-7Qx");
    socket(&host, 42, "s-other");
    let half = &sha("good")[..32];
    let caches = [
        "user_auth:42".to_owned(),
        format!("session_validation:{half}"),
        format!("token_validation:{half}"),
    ];
    for key in &caches {
        host.values.borrow_mut().insert(key.clone(), b"x".to_vec());
    }
    let reply = by_user(&host, &event("logout", Some("s-7Qx"))).json();
    assert_eq!(
        reply["propagated"],
        json!({"redis": true, "fallback": true, "websocket": 1})
    );
    assert!(
        !has(&host, "session:42") && !has(&host, "session:s-7Qx") && has(&host, "session:s-other")
    );
    assert!(!member(&host, "s-7Qx") && member(&host, "s-other"));
    assert!(caches.iter().all(|key| !has(&host, key)));
    assert!(host.fallback.borrow().is_empty());
    assert_eq!(
        host.revoked.borrow().iter().collect::<Vec<_>>(),
        ["session:42:s-7Qx"]
    );
    assert!(host.wrote("sockets_close 42 s-7Qx 4001"));
}

#[test]
fn logout_of_all_sessions() {
    let host = host();
    by_user(&host, &event("login", None));
    record(&host, "s-other", 42, "active");
    record(&host, "s-eve", 7, "active");
    host.values
        .borrow_mut()
        .insert("session:7".into(), b"{}".to_vec());
    sessions(&host, 42, &["s-other", "7", "s-eve"]);
    socket(&host, 42, "s-7Qx");
    socket(&host, 42, "s-other");
    let reply = by_user(&host, &event("logout", None)).json();
    assert_eq!(
        reply["propagated"],
        json!({"redis": true, "fallback": true, "websocket": 2})
    );
    assert!(
        !has(&host, "session:42") && !has(&host, "session:s-7Qx") && !has(&host, "session:s-other")
    );
    assert!(
        has(&host, "session:7"),
        "an id of digits is another user's key"
    );
    assert!(
        has(&host, "session:s-eve"),
        "a record of another user stays"
    );
    assert!(!host.sets.borrow().contains_key("user_sessions:42"));
    assert!(host.wrote(&format!("revoke_user 42 {NOW}")));
}

#[test]
fn an_expired_session_revokes_only_itself() {
    let host = host();
    socket(&host, 42, "s-7Qx");
    let reply = by_user(&host, &event("session_expired", None)).json();
    assert_eq!(reply["propagated"]["websocket"], 1);
    assert!(host.revoked.borrow().is_empty());
    by_user(&host, &event("session_expired", Some("s-7Qx")));
    assert_eq!(
        host.revoked.borrow().iter().collect::<Vec<_>>(),
        ["session:42:s-7Qx"]
    );
}

#[test]
fn a_derived_session_is_revoked_through_its_token_or_the_user() {
    let host = host();
    host.good("unnamed", |claims| claims.session_id = None);
    let derived = format!("jwt-{}", &sha("unnamed")[..32]);
    let reply = send(
        &host,
        Call::post(SYNC).bearer("unnamed"),
        &event("logout", Some(&derived)),
    );
    assert_eq!(reply.status(), 200);
    assert!(
        host.revoked
            .borrow()
            .contains(&format!("token:{}", sha("unnamed")))
    );
    assert!(!host.revoked.borrow().contains("user:42"));
    by_service(&host, &event("logout", Some(&derived)));
    assert!(host.revoked.borrow().contains("user:42"));
}

#[test]
fn nobody_reports_without_credentials() {
    let host = host();
    let body = event("logout", None);
    assert_eq!(
        error(&send(&host, Call::post(SYNC), &body)),
        refused(401, "token_missing")
    );
    assert_eq!(
        error(&send(&host, Call::post(SYNC).bearer("expired"), &body)),
        refused(401, "token_expired")
    );
    let two = Call::post(SYNC)
        .bearer("eve")
        .cookie("access_token", "good");
    assert_eq!(
        error(&send(&host, two, &body)),
        refused(401, "consistency_mismatch")
    );
    host.ready.set(false);
    assert_eq!(
        error(&by_user(&host, &body)),
        refused(503, "service_unavailable")
    );
    assert!(host.writes.borrow().is_empty() && host.counts.borrow().is_empty());
}

#[test]
fn users_report_only_themselves() {
    let host = host();
    let eve = |body: &Value| error(&send(&host, Call::post(SYNC).bearer("eve"), body));
    assert_eq!(
        eve(&event("logout", None)),
        refused(403, "access_forbidden")
    );
    let mut other_email = event("logout", None);
    other_email["email"] = json!("eve@example.org");
    assert_eq!(
        error(&by_user(&host, &other_email)),
        refused(403, "access_forbidden")
    );
    other_email["email"] = json!("ADA@example.org");
    assert_eq!(by_user(&host, &other_email).status(), 200);
}

#[test]
fn e_mails_are_written_as_they_are_known() {
    let host = host();
    let mut body = event("login", None);
    body["email"] = json!("ADA@example.org");
    by_user(&host, &body);
    assert_eq!(host.json("session:42").unwrap()["email"], "ada@example.org");
    by_service(&host, &body);
    assert_eq!(host.json("session:42").unwrap()["email"], "ADA@example.org");
    host.users.borrow_mut().insert(42, known("user"));
    by_service(&host, &body);
    assert_eq!(host.json("session:42").unwrap()["email"], "ada@example.org");
    assert_eq!(host.events.borrow()[2].email, "ada@example.org");
}

#[test]
fn admin_rights_need_a_known_state() {
    let host = host();
    host.good("root", |claims| {
        claims.sub = Some(lockgate_sdk::wit::jwt::Scalar::Text("1".into()));
        claims.id = None;
        claims.role = Some("admin".into());
        claims.email = Some("root@example.org".into());
    });
    let root = || {
        send(
            &host,
            Call::post(SYNC).bearer("root"),
            &event("logout", None),
        )
    };
    assert_eq!(error(&root()), refused(403, "access_forbidden"));
    let admin = users::User {
        email: "root@example.org".into(),
        role: "admin".into(),
    };
    host.users
        .borrow_mut()
        .insert(1, users::State::Active(admin));
    assert_eq!(root().status(), 200);
}

#[test]
fn cookies_need_csrf_and_an_own_origin() {
    let host = host();
    let body = event("login", None);
    let call = || Call::post(SYNC).cookie("access_token", "good");
    assert_eq!(
        error(&send(&host, call(), &body)),
        refused(403, "csrf_failed")
    );
    let right = call().cookie("csrf_token", "a").header("x-csrf-token", "a");
    assert_eq!(send(&host, right, &body).status(), 200);
    let foreign = Call::post(SYNC).bearer("good").origin(Origin::Foreign);
    assert_eq!(
        error(&send(&host, foreign, &body)),
        refused(403, "origin_refused")
    );
}

#[test]
fn session_ids_must_be_the_users() {
    let host = host();
    sessions(&host, 42, &["s-mine"]);
    record(&host, "s-eve", 7, "active");
    let user = |id: &str| by_user(&host, &event("token_refresh", Some(id))).status();
    assert_eq!(
        (
            user("s-mine"),
            user("s-7Qx"),
            user("s-eve"),
            user("s-guess")
        ),
        (200, 200, 403, 403)
    );
    let host = super::host();
    record(&host, "s-eve", 7, "active");
    let service = |id: &str| by_service(&host, &event("logout", Some(id))).status();
    assert_eq!((service("s-eve"), service("s-guess")), (403, 200));
    for id in ["", "42", "a b", "s:1", "ä"] {
        assert_eq!((user(id), service(id)), (422, 422), "{id}");
    }
    assert_eq!(service(&"x".repeat(129)), 422);
}

#[test]
fn fields_are_checked() {
    let host = host();
    let with = |name: &str, value: Value| {
        let mut body = event("logout", None);
        body[name] = value;
        body
    };
    let mut without_email = event("logout", None);
    without_email.as_object_mut().unwrap().remove("email");
    for body in [
        json!({}),
        without_email,
        with("event_type", json!("password_change")),
        with("user_id", json!("42")),
        with("user_id", json!(0)),
        with("user_id", json!(-1)),
        with("user_id", json!(4_294_967_297_u64)),
        with("user_id", json!(42.5)),
        with("email", json!("nobody")),
        with("source", json!("")),
        with("source", json!(null)),
        with("details", json!([])),
        with("details", json!({"large": "x".repeat(17_000)})),
        with("session_id", json!(5)),
    ] {
        assert_eq!(
            error(&by_user(&host, &body)),
            refused(422, "invalid_request"),
            "{body}"
        );
    }
    let broken = Call::post(SYNC)
        .bearer("good")
        .body("{\"user_id\":")
        .send(&host, &routes());
    assert_eq!(error(&broken), refused(400, "invalid_request"));
    assert!(host.writes.borrow().is_empty());
}

#[test]
fn a_disabled_user_begins_nothing() {
    let host = host();
    host.users.borrow_mut().insert(42, users::State::Disabled);
    assert_eq!(
        error(&by_service(&host, &event("login", Some("s-new")))),
        refused(403, "access_forbidden")
    );
    assert_eq!(by_service(&host, &event("logout", None)).status(), 200);
}

#[test]
fn without_redis_the_rest_is_done() {
    let host = host();
    host.redis_down();
    by_service(&host, &event("login", Some("s-7Qx")));
    socket(&host, 42, "s-7Qx");
    let reply = by_user(&host, &event("logout", Some("s-7Qx")));
    assert_eq!(reply.status(), 200);
    let body = reply.json();
    assert_eq!(
        body["propagated"],
        json!({"redis": false, "fallback": true, "websocket": 1})
    );
    assert_eq!(body["degraded"], true);
    assert!(host.revoked.borrow().contains("session:42:s-7Qx"));
    assert!(host.counts.borrow()["coordination_errors"] >= 1);
}

#[test]
fn without_the_emergency_store_the_rest_is_done() {
    let host = host();
    host.fallback_error.set(Some(fallback::Error::Unavailable));
    for kind in ["login", "token_refresh", "logout"] {
        let body = by_user(&host, &event(kind, Some("s-7Qx"))).json();
        assert_eq!(body["propagated"]["fallback"], false, "{kind}");
        assert_eq!(
            (&body["propagated"]["redis"], &body["degraded"]),
            (&json!(true), &json!(true)),
            "{kind}"
        );
        host.revoked.borrow_mut().clear();
    }
}

#[test]
fn events_tell_all_hosts() {
    let host = host();
    let mut body = event("token_refresh", Some("s-7Qx"));
    body["details"] = json!({"device": "d-1"});
    by_user(&host, &body);
    let published = host.events.borrow()[0].clone();
    assert_eq!(
        (published.event_type.as_str(), published.user_id),
        ("token_refresh", 42)
    );
    assert_eq!(
        (published.source.as_str(), published.session_id.as_deref()),
        ("api", Some("s-7Qx"))
    );
    assert_eq!(published.details, "{\"device\":\"d-1\"}");
}

#[test]
fn another_programs_value_in_place_of_the_set_stops_no_logout() {
    for session_id in [None, Some("s-7Qx")] {
        let host = host();
        by_user(&host, &event("login", None));
        host.sets.borrow_mut().clear();
        host.values
            .borrow_mut()
            .insert("user_sessions:42".into(), b"pickled".to_vec());
        let reply = by_user(&host, &event("logout", session_id)).json();
        assert_eq!(reply["propagated"]["redis"], true);
        assert!(!has(&host, "session:42") && !has(&host, "session:s-7Qx"));
    }
}
