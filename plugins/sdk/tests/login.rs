//! Routing, tokens and logins through the front door, against the scripted host.

#![allow(clippy::indexing_slicing, reason = "a missing field fails the test")]

use lockgate_sdk::authenticate::Policy;
use lockgate_sdk::double::{Call, Double, NOW};
use lockgate_sdk::wit::{jwt, peers, users};
use lockgate_sdk::{
    Answer, Fault, Host, Request, Route, authenticate, guard, health, session, token,
};
use serde_json::json;

#[derive(serde::Deserialize)]
struct Body {
    token: Option<String>,
}

fn who<H: Host>(host: &H, request: &Request) -> Answer {
    let body: Body = match request.json() {
        Ok(body) => body,
        Err(fault) => return Answer::fault(fault, false),
    };
    let tokens = token::presented(body.token.as_deref(), request);
    match authenticate(host, &tokens, Policy::ACCESS) {
        Ok(login) => Answer::json(200, &session::Token::new(&login, host.now())),
        Err(refusal) => session::invalid(refusal.fault, refusal.degraded),
    }
}

fn change<H: Host>(host: &H, request: &Request) -> Answer {
    let tokens = token::presented(None, request);
    let checked = guard::same_origin(request)
        .and_then(|()| authenticate(host, &tokens, Policy::ACCESS).map_err(|r| r.fault))
        .and_then(|login| guard::csrf(host, request, login.source));
    checked.map_or_else(|fault| Answer::fault(fault, false), |()| Answer::empty(204))
}

fn basic_health<H: Host>(host: &H, _request: &Request) -> Answer {
    health::answer(&health::head(host, &["redis"]))
}

fn routes<H: Host>() -> Vec<Route<H>> {
    vec![
        Route::get("/who", who),
        Route::post("/who", who),
        Route::post("/change", change),
        Route::get("/health", basic_health),
    ]
}

lockgate_sdk::register!(routes);

fn finding(host: &Double, call: Call) -> String {
    let reply = call.send(host, &routes());
    let body = reply.json();
    body["error"]
        .as_str()
        .map_or_else(|| format!("user {}", body["user_id"]), str::to_owned)
}

#[test]
fn unknown_paths_and_verbs() {
    let host = Double::new("test");
    assert_eq!(Call::get("/nowhere").send(&host, &routes()).status(), 404);
    assert_eq!(Call::get("/who/").send(&host, &routes()).status(), 404);
    let reply = Call::new("PUT", "/who").send(&host, &routes());
    assert_eq!(
        (reply.status(), reply.header("allow").as_str()),
        (405, "GET, HEAD, POST")
    );
    assert_eq!(reply.json()["code"], "REQ_001");
    let reply = Call::new("HEAD", "/health").send(&host, &routes());
    let body = Call::get("/health").send(&host, &routes()).text();
    assert_eq!((reply.status(), reply.text()), (200, body));
    assert_eq!(
        Call::new("HEAD", "/change")
            .send(&host, &routes())
            .header("allow"),
        "POST"
    );
}

#[test]
fn bodies() {
    let host = Double::new("test");
    host.good("good", |_| {});
    assert_eq!(
        Call::post("/who").body("{").send(&host, &routes()).status(),
        400
    );
    assert_eq!(
        Call::post("/who")
            .body("{\"token\":1}")
            .send(&host, &routes())
            .status(),
        422
    );
    assert_eq!(
        Call::post("/who")
            .body("[]")
            .send(&host, &routes())
            .status(),
        422
    );
    assert_eq!(finding(&host, Call::post("/who")), "token_missing");
    let reply = Call::post("/who")
        .body("{\"token\":\"\\\"Bearer good\\\"\"}")
        .send(&host, &routes());
    let expected = json!({
        "valid": true, "user_id": 42, "email": "ada@example.org", "role": "user",
        "format_type": "enhanced", "session_id": "s-7Qx",
        "expires_at": "2031-05-04T10:00:00Z", "issued_at": "2031-05-04T09:00:00Z",
        "expires_in": 3600, "degraded": false,
        "normalized": {
            "sub": "42", "email": "ada@example.org", "id": 42, "role": "user", "session_id": "s-7Qx"
        }
    });
    assert_eq!(reply.json(), expected);
}

#[test]
fn a_stale_header_hides_no_good_cookie() {
    let host = Double::new("test");
    host.good("good", |_| {});
    host.bad("stale", jwt::Error::Expired);
    let both = || {
        Call::get("/who")
            .bearer("stale")
            .cookie("access_token", "good")
    };
    assert_eq!(finding(&host, both()), "user 42");
    let last = Call::get("/who")
        .cookie("access_token", "junk")
        .cookie("auth_token", "good");
    assert_eq!(finding(&host, last), "user 42");
    host.good("gone", |_| {});
    host.revoked
        .borrow_mut()
        .insert(format!("token:{}", lockgate_sdk::double::sha("gone")));
    let revoked = || Call::get("/who").bearer("gone");
    assert_eq!(
        finding(&host, revoked().cookie("access_token", "good")),
        "user 42"
    );
    assert_eq!(
        finding(&host, revoked().cookie("access_token", "stale")),
        "token_revoked"
    );
}

#[test]
fn the_first_fault_is_reported_unless_something_is_revoked() {
    let host = Double::new("test");
    host.bad("stale", jwt::Error::Expired);
    host.bad("forged", jwt::Error::InvalidSignature);
    host.good("gone", |_| {});
    host.revoked.borrow_mut().insert("user:42".into());
    let call = || Call::get("/who").bearer("stale");
    assert_eq!(
        finding(&host, call().cookie("access_token", "forged")),
        "token_expired"
    );
    assert_eq!(
        finding(&host, call().cookie("access_token", "gone")),
        "token_revoked"
    );
    assert_eq!(
        finding(&host, Call::get("/who").header("authorization", "Basic x")),
        "token_missing"
    );
}

#[test]
fn users_are_never_mixed() {
    let host = Double::new("test");
    host.good("ada", |_| {});
    host.good("bob", |claims| claims.sub = Some(jwt::Scalar::Integer(43)));
    let call = Call::get("/who").bearer("ada").cookie("auth_token", "bob");
    assert_eq!(finding(&host, call), "consistency_mismatch");
}

#[test]
fn the_users_table_has_the_last_word() {
    let host = Double::new("test");
    host.good("good", |_| {});
    let call = || Call::get("/who").bearer("good");
    let rows = [
        (users::State::Disabled, "user_disabled"),
        (users::State::Missing, "user_not_found"),
        (user("bob@example.org", "user"), "consistency_mismatch"),
        (user("ADA@example.org", "user"), "user 42"),
        (user("", "user"), "consistency_mismatch"),
        (users::State::Unknown, "user 42"),
    ];
    for (state, expected) in rows {
        host.users.borrow_mut().insert(42, state);
        assert_eq!(finding(&host, call()), expected);
    }
    host.users
        .borrow_mut()
        .insert(42, user("Ada@example.org", "admin"));
    let body = call().send(&host, &routes()).json();
    assert_eq!(
        (&body["role"], &body["email"]),
        (&json!("admin"), &json!("Ada@example.org"))
    );
}

fn user(email: &str, role: &str) -> users::State {
    users::State::Active(users::User {
        email: email.into(),
        role: role.into(),
    })
}

#[test]
fn only_known_admins_are_admins() {
    let host = Double::new("test");
    host.good("root", |claims| claims.role = Some("admin".into()));
    let sent = [token::Presented {
        source: token::Source::Bearer,
        token: "root",
    }];
    assert!(
        !authenticate(&host, &sent, Policy::ACCESS)
            .unwrap()
            .is_admin()
    );
    host.users
        .borrow_mut()
        .insert(42, user("ada@example.org", "admin"));
    assert!(
        authenticate(&host, &sent, Policy::ACCESS)
            .unwrap()
            .is_admin()
    );
    host.users
        .borrow_mut()
        .insert(42, user("ada@example.org", "user"));
    assert!(
        !authenticate(&host, &sent, Policy::ACCESS)
            .unwrap()
            .is_admin()
    );
}

#[test]
fn a_lost_dependency_degrades() {
    let host = Double::new("test");
    host.good("good", |_| {});
    host.users_away.set(true);
    let call = || {
        Call::get("/who")
            .bearer("good")
            .send(&host, &routes())
            .json()
    };
    assert_eq!(call()["degraded"], true);
    host.users_away.set(false);
    assert_eq!(call()["degraded"], false);
    host.redis_down();
    let body = call();
    assert_eq!(
        (&body["valid"], &body["degraded"]),
        (&json!(true), &json!(true))
    );
}

#[test]
fn no_secret_is_no_answer() {
    let host = Double::new("test");
    host.ready.set(false);
    for call in [Call::get("/who"), Call::get("/who").bearer("good")] {
        let reply = call.send(&host, &routes());
        assert_eq!(
            (reply.status(), &reply.json()["error"]),
            (503, &json!("service_unavailable"))
        );
    }
    let reply = Call::get("/health").send(&host, &routes());
    assert_eq!(
        (reply.status(), &reply.json()["status"]),
        (503, &json!("error"))
    );
}

#[test]
fn health_is_a_head() {
    let host = Double::new("jwt-token-adapter-service");
    let reply = Call::get("/health").send(&host, &routes());
    assert_eq!(
        reply.text(),
        "{\"status\":\"healthy\",\"service\":\"jwt-token-adapter-service\",\
         \"timestamp\":\"2031-05-04T09:00:00Z\",\"dependencies\":{\"redis\":\"connected\"},\
         \"degraded\":false}\n"
    );
    host.redis.set(peers::Reachability::NotConfigured);
    assert_eq!(
        Call::get("/health").send(&host, &routes()).json()["status"],
        "healthy"
    );
    host.redis_down();
    let reply = Call::get("/health").send(&host, &routes());
    assert_eq!(
        (reply.status(), &reply.json()["status"]),
        (200, &json!("degraded"))
    );
}

#[test]
fn changes_need_the_right_origin_and_csrf() {
    use lockgate_sdk::http::Origin;
    let host = Double::new("test");
    host.good("good", |_| {});
    let status = |call: Call| call.send(&host, &routes()).status();
    let cookie = || Call::post("/change").cookie("access_token", "good");
    assert_eq!(status(Call::post("/change").bearer("good")), 204);
    assert_eq!(
        status(Call::post("/change").bearer("good").origin(Origin::Foreign)),
        403
    );
    assert_eq!(status(cookie()), 403);
    assert_eq!(status(cookie().header("x-csrf-token", "a")), 403);
    assert_eq!(
        status(
            cookie()
                .header("x-csrf-token", "a")
                .cookie("csrf_token", "b")
        ),
        403
    );
    let two = cookie().cookie("csrf_token", "b").cookie("csrf_token", "a");
    assert_eq!(
        status(two.header("x-csrf-token", "a").origin(Origin::Trusted)),
        204
    );
}

#[test]
fn expiry_never_turns_negative() {
    let host = Double::new("test");
    host.good("leeway", |claims| claims.expires_at = Some(NOW - 30));
    let body = Call::get("/who")
        .bearer("leeway")
        .send(&host, &routes())
        .json();
    assert_eq!(body["expires_in"], 0);
    assert_eq!(session::minutes_left(Some(NOW - 30), NOW), 1);
    assert_eq!(session::minutes_left(Some(NOW + 179), NOW), 2);
    assert_eq!(session::minutes_left(None, NOW), 60);
}

#[test]
fn the_self_test_finds_faults() {
    let host = Double::new("test");
    assert_eq!(
        lockgate_sdk::self_test(&host, &routes()),
        Vec::<String>::new()
    );
    let nothing: Vec<Route<Double>> = Vec::new();
    assert_eq!(lockgate_sdk::self_test(&Double::new(""), &nothing).len(), 3);
    assert!(!host.wrote(""));
    let twice = vec![
        Route::get("/health", basic_health),
        Route::get("/health", basic_health),
    ];
    assert_eq!(lockgate_sdk::self_test(&host, &twice).len(), 1);
    assert_eq!(Fault::NotFound.status(), 404);
}
