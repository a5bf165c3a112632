//! `auth/logout`.

use lockgate_sdk::double::{Call, Double, Reply, claims, sha};
use lockgate_sdk::http::Origin;
use lockgate_sdk::wit::users;

use super::{error, host, refused};
use crate::routes;

const LOGOUT: &str = "/api/v1/auth/logout";

fn refresh_token(host: &Double, token: &str) {
    host.tokens
        .borrow_mut()
        .insert(token.into(), Ok((claims(token), true)));
}

fn send(host: &Double, call: Call) -> Reply {
    call.send(host, &routes())
}

fn deleted(reply: &Reply) -> Vec<String> {
    reply
        .header("set-cookie")
        .split('|')
        .map(str::to_owned)
        .collect()
}

#[test]
fn revokes_every_good_token_and_ends_its_session_once() {
    let host = host();
    refresh_token(&host, "renew");
    host.sets.borrow_mut().insert(
        "user_sessions:42".into(),
        ["s-7Qx".to_owned()].into_iter().collect(),
    );
    host.values
        .borrow_mut()
        .insert("session:42".into(), b"{}".to_vec());
    let call = Call::post(LOGOUT)
        .cookie("access_token", "good")
        .cookie("refresh_token", "renew");
    let reply = send(&host, call);
    assert_eq!((reply.status(), reply.text()), (204, String::new()));
    assert_eq!(reply.header("cache-control"), "no-store");
    let revoked = host.revoked.borrow().clone();
    assert!(revoked.contains(&format!("token:{}", sha("good"))));
    assert!(revoked.contains(&format!("token:{}", sha("renew"))));
    assert!(revoked.contains("session:42:s-7Qx"));
    assert!(!revoked.contains("user:42"));
    assert!(host.values.borrow().is_empty());
    assert_eq!(host.events.borrow().len(), 1);
    let event = host.events.borrow()[0].clone();
    assert_eq!(
        (event.event_type.as_str(), event.session_id.as_deref()),
        ("logout", Some("s-7Qx"))
    );
}

#[test]
fn cookies_are_deleted_in_any_case() {
    let host = host();
    let names = ["access_token", "refresh_token", "auth_token", "csrf_token"];
    for call in [
        Call::post(LOGOUT),
        Call::post(LOGOUT).bearer("junk"),
        Call::post(LOGOUT).cookie("access_token", "expired"),
        Call::post(LOGOUT).body("{\"token\":"),
    ] {
        let reply = send(&host, call);
        assert_eq!(reply.status(), 204);
        let cookies = deleted(&reply);
        assert_eq!(cookies.len(), 4);
        for (cookie, name) in cookies.iter().zip(names) {
            assert!(
                cookie.starts_with(&format!("{name}=; ")) && cookie.contains("Max-Age=0"),
                "{cookie}"
            );
            assert!(!cookie.contains("Domain"), "{cookie}");
        }
    }
    assert!(host.writes.borrow().is_empty());
    host.ready.set(false);
    assert_eq!(send(&host, Call::post(LOGOUT).bearer("good")).status(), 204);
}

#[test]
fn cookies_with_a_domain_go_too_in_production() {
    let host = host();
    host.set("ENVIRONMENT", "production");
    host.set("DOMAIN", "example.org");
    let cookies = deleted(&send(&host, Call::post(LOGOUT)));
    assert_eq!(cookies.len(), 8);
    assert_eq!(
        cookies
            .iter()
            .filter(|cookie| cookie.contains("Domain=.example.org"))
            .count(),
        4
    );
    assert!(cookies.iter().all(|cookie| cookie.contains("Secure")));
}

#[test]
fn a_refresh_token_alone_ends_its_session() {
    let host = host();
    refresh_token(&host, "renew");
    let call = Call::post(LOGOUT)
        .cookie("access_token", "expired")
        .cookie("refresh_token", "renew");
    assert_eq!(send(&host, call).status(), 204);
    assert!(host.revoked.borrow().contains("session:42:s-7Qx"));
    assert!(
        host.revoked
            .borrow()
            .contains(&format!("token:{}", sha("renew")))
    );
}

#[test]
fn tokens_of_two_users_are_both_revoked() {
    let host = host();
    let call = Call::post(LOGOUT)
        .bearer("eve")
        .cookie("access_token", "good");
    assert_eq!(send(&host, call).status(), 204);
    let revoked = host.revoked.borrow();
    assert!(revoked.contains("session:7:s-eve") && revoked.contains("session:42:s-7Qx"));
}

#[test]
fn a_revoked_token_ends_nothing() {
    let host = host();
    host.revoked.borrow_mut().insert("user:42".into());
    assert_eq!(send(&host, Call::post(LOGOUT).bearer("good")).status(), 204);
    assert!(host.writes.borrow().is_empty());
}

#[test]
fn a_disabled_user_can_log_out() {
    let host = host();
    host.users.borrow_mut().insert(42, users::State::Disabled);
    assert_eq!(send(&host, Call::post(LOGOUT).bearer("good")).status(), 204);
    assert!(host.revoked.borrow().contains("session:42:s-7Qx"));
}

#[test]
fn a_session_without_a_name_is_revoked_by_its_token() {
    let host = host();
    host.good("unnamed", |claims| claims.session_id = None);
    assert_eq!(
        send(&host, Call::post(LOGOUT).bearer("unnamed")).status(),
        204
    );
    let session = format!("jwt-{}", &sha("unnamed")[..32]);
    let revoked = host.revoked.borrow();
    assert!(revoked.contains(&format!("token:{}", sha("unnamed"))));
    assert!(revoked.contains(&format!("session:42:{session}")));
    assert!(
        !revoked.contains("user:42"),
        "other logins of the user stay"
    );
}

#[test]
fn foreign_pages_cannot_log_anybody_out() {
    let host = host();
    let reply = send(
        &host,
        Call::post(LOGOUT)
            .cookie("access_token", "good")
            .origin(Origin::Foreign),
    );
    assert_eq!(error(&reply), refused(403, "origin_refused"));
    assert_eq!(reply.header("set-cookie"), "");
    assert!(host.writes.borrow().is_empty());
}

#[test]
fn without_redis_the_journal_revokes() {
    let host = host();
    host.redis_down();
    assert_eq!(send(&host, Call::post(LOGOUT).bearer("good")).status(), 204);
    assert!(host.revoked.borrow().contains("session:42:s-7Qx"));
}
