//! Every row of the refresh endpoint, against the scripted host.

use lockgate_sdk::double::{Call, Double, NOW, Reply, claims};
use lockgate_sdk::http::Origin;
use lockgate_sdk::wit::jwt::{Error, ReissueError, Theft, Tokens};
use lockgate_sdk::wit::sockets::Connection;
use serde_json::{Value, json};

use crate::routes;

const REFRESH: &str = "/api/v1/jwt/refresh";

fn tokens() -> Tokens {
    Tokens {
        access_token: "new.access".into(),
        access_expires_at: NOW + 3600,
        refresh_token: Some("new.refresh".into()),
        user_id: 42,
        email: "ada@example.org".into(),
        role: "user".into(),
        session_id: "s-7Qx".into(),
        degraded: false,
    }
}

fn host(result: Result<Tokens, ReissueError>) -> Double {
    let host = Double::new("jwt-token-adapter-service");
    *host.reissue.borrow_mut() = Some(result);
    host
}

fn by_body(host: &Double) -> Reply {
    Call::post(REFRESH)
        .body("{\"refresh_token\":\"old\"}")
        .send(host, &routes())
}

fn by_cookie(host: &Double) -> Reply {
    Call::post(REFRESH)
        .cookie("refresh_token", "old")
        .send(host, &routes())
}

fn body() -> Value {
    json!({
        "access_token": "new.access", "token": "new.access", "token_type": "bearer",
        "expires_in": 3600, "expires_at": "2031-05-04T10:00:00Z", "user_id": 42,
        "email": "ada@example.org", "role": "user", "session_id": "s-7Qx",
        "degraded": false, "message": "Token refreshed successfully"
    })
}

#[test]
fn by_body_or_header_both_tokens_are_in_the_body() {
    let host = host(Ok(tokens()));
    let mut expected = body();
    expected["refresh_token"] = json!("new.refresh");
    let reply = by_body(&host);
    assert_eq!((reply.status(), reply.json()), (200, expected.clone()));
    assert_eq!(reply.header("set-cookie"), "");
    let reply = Call::post(REFRESH).bearer("old").send(&host, &routes());
    assert_eq!((reply.status(), reply.json()), (200, expected));
}

#[test]
fn by_cookie_the_refresh_token_stays_in_the_cookie() {
    let host = host(Ok(tokens()));
    let reply = by_cookie(&host);
    assert_eq!((reply.status(), reply.json()), (200, body()));
    assert_eq!(
        reply.header("set-cookie"),
        "access_token=new.access; Path=/; Max-Age=3600; SameSite=Lax; HttpOnly|\
         refresh_token=new.refresh; Path=/; Max-Age=604800; SameSite=Lax; HttpOnly|\
         csrf_token=1935651600:nonce:signature; Path=/; Max-Age=604800; SameSite=Lax"
    );
    assert_eq!(host.counts.borrow().get("refreshed"), Some(&1));
}

#[test]
fn the_cookie_comes_first() {
    let host = host(Ok(tokens()));
    let call = Call::post(REFRESH)
        .cookie("refresh_token", "c")
        .body("{\"refresh_token\":\"b\"}");
    let _ = call.bearer("h").send(&host, &routes());
    assert_eq!(*host.writes.borrow(), ["reissue c"]);
}

#[test]
fn while_redis_is_away_only_an_access_token_is_given() {
    let host = host(Ok(Tokens {
        refresh_token: None,
        degraded: true,
        ..tokens()
    }));
    host.redis_down();
    let reply = by_cookie(&host);
    assert_eq!(
        (reply.status(), &reply.json()["degraded"]),
        (200, &json!(true))
    );
    let cookies = reply.header("set-cookie");
    assert!(
        cookies.starts_with("access_token=") && !cookies.contains('|'),
        "{cookies}"
    );
    assert_eq!(by_body(&host).json().get("refresh_token"), None);
}

#[test]
fn refusals() {
    let rejected = |error| ReissueError::Rejected(error);
    let rows = [
        (
            rejected(Error::Expired),
            401,
            "token_expired",
            "Token expired",
        ),
        (
            rejected(Error::InvalidToken),
            401,
            "invalid_token",
            "Invalid token",
        ),
        (
            rejected(Error::InvalidSignature),
            401,
            "invalid_signature",
            "Invalid token",
        ),
        (
            ReissueError::UnsupportedFormat,
            401,
            "unsupported_format",
            "Invalid token",
        ),
        (
            ReissueError::UserNotFound,
            401,
            "user_not_found",
            "Invalid token",
        ),
        (
            ReissueError::Mismatch,
            401,
            "consistency_mismatch",
            "Invalid token",
        ),
        (ReissueError::Revoked, 401, "token_revoked", "Token revoked"),
        (
            ReissueError::UserDisabled,
            401,
            "user_disabled",
            "User disabled",
        ),
        (
            ReissueError::Unavailable,
            503,
            "service_unavailable",
            "The authentication service is unavailable",
        ),
        (
            rejected(Error::NoSecret),
            503,
            "service_unavailable",
            "The authentication service is unavailable",
        ),
    ];
    for (error, status, name, detail) in rows {
        let host = host(Err(error));
        let reply = by_cookie(&host);
        let body = reply.json();
        assert_eq!((reply.status(), &body["error"]), (status, &json!(name)));
        assert_eq!(
            (&body["detail"], &body["degraded"]),
            (&json!(detail), &json!(false))
        );
        assert_eq!(reply.header("set-cookie"), "");
        assert_eq!(*host.writes.borrow(), ["reissue old"]);
    }
}

#[test]
fn nothing_sent() {
    let host = host(Ok(tokens()));
    let reply = Call::post(REFRESH)
        .body("{\"refresh_token\":\" \"}")
        .send(&host, &routes());
    assert_eq!(
        (reply.status(), &reply.json()["detail"]),
        (401, &json!("Refresh token not found"))
    );
    assert_eq!(reply.json()["error"], "token_missing");
    assert_eq!(reply.header("www-authenticate"), "Bearer");
}

#[test]
fn foreign_pages_bad_bodies_and_no_secret() {
    let host = host(Ok(tokens()));
    let call = || Call::post(REFRESH).cookie("refresh_token", "old");
    let foreign = call().origin(Origin::Foreign).send(&host, &routes());
    assert_eq!(
        (foreign.status(), &foreign.json()["error"]),
        (403, &json!("origin_refused"))
    );
    assert_eq!(call().body("{").send(&host, &routes()).status(), 400);
    assert_eq!(
        call()
            .body("{\"refresh_token\":1}")
            .send(&host, &routes())
            .status(),
        422
    );
    host.ready.set(false);
    assert_eq!(call().send(&host, &routes()).status(), 503);
    assert!(!host.wrote("reissue"));
}

#[test]
fn theft_ends_the_session() {
    let host = host(Err(ReissueError::Reused(Theft {
        user_id: 42,
        session_id: "s-7Qx".into(),
    })));
    host.tokens
        .borrow_mut()
        .insert("old".into(), Ok((claims("old"), true)));
    let socket = |session: &str| Connection {
        connection_id: session.into(),
        user_id: 42,
        email: "ada@example.org".into(),
        role: "user".into(),
        format_type: "enhanced".into(),
        connected_at: NOW,
        session_id: session.into(),
    };
    host.sockets
        .borrow_mut()
        .extend([socket("s-7Qx"), socket("s-other")]);
    let reply = by_cookie(&host);
    assert_eq!(
        (reply.status(), &reply.json()["error"]),
        (401, &json!("token_revoked"))
    );
    assert_eq!(reply.json()["detail"], "Token revoked");
    assert!(host.revoked.borrow().contains("session:42:s-7Qx"));
    assert_eq!(host.sockets.borrow().len(), 1);
    let event = host.events.borrow().first().cloned().unwrap();
    assert_eq!(
        (event.event_type.as_str(), event.email.as_str()),
        ("logout", "ada@example.org")
    );
    let cookies = reply.header("set-cookie");
    for name in ["access_token", "refresh_token", "auth_token", "csrf_token"] {
        assert!(
            cookies.contains(&format!("{name}=; Path=/; Max-Age=0")),
            "{cookies}"
        );
    }
    assert_eq!(host.counts.borrow().get("reuse_detected"), Some(&1));
    assert!(host.lines.borrow().iter().all(|line| !line.contains("old")));
}
