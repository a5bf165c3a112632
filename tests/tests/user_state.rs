//! What the cache of the users table means: role, e-mail and "disabled", on every
//! port; and the question of a peer, which writes nothing.

use lockgate_tests::tokens::claims;
use lockgate_tests::{Host, RedisServer, Service, User, now, shape};
use serde_json::{Value, json};

/// Writes an entry of the cache as port 8026 does.
async fn known(redis: &RedisServer, user: &User, active: bool, checked_at: i64) {
    let record = json!({"is_active": active, "email": user.email, "role": user.role,
        "checked_at": checked_at});
    let key = format!("lockgate:user:{}", user.id);
    let _: String = redis
        .run(&["SET", &key, &record.to_string(), "EX", "600"])
        .await;
}

async fn session(host: &Host, token: &str) -> Value {
    let call = host
        .get(Service::Session, "/api/v1/session/validate")
        .cookie("access_token", token);
    call.send().await.expect(200).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_decides_role_and_email() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;

    // The token says user, the table says admin, and the other way round.
    for (listed, claimed) in [
        (User::admin(1), User::new(1)),
        (User::new(2), User::admin(2)),
    ] {
        known(&redis, &listed, true, now()).await;
        assert_eq!(
            session(&host, &host.tokens.access(&claimed)).await["role"],
            listed.role
        );
        let body = json!({"refresh_token": host.tokens.marked_refresh(&claimed)});
        let call = host.post(Service::Jwt, "/api/v1/jwt/refresh").json(&body);
        let answer = call.send().await.expect(200).json();
        assert_eq!(answer["role"], listed.role);
        assert_eq!(
            claims(answer["access_token"].as_str().unwrap())["role"],
            listed.role
        );
    }

    // E-mails are compared without case; another one is another user.
    let upper = User {
        email: "ADA3@EXAMPLE.ORG".to_owned(),
        ..User::new(3)
    };
    known(&redis, &upper, true, now()).await;
    assert_eq!(
        session(&host, &host.tokens.access(&User::new(3))).await["valid"],
        true
    );
    let other = User {
        email: "eve@example.org".to_owned(),
        ..User::new(4)
    };
    known(&redis, &other, true, now()).await;
    let body = session(&host, &host.tokens.access(&User::new(4))).await;
    assert_eq!(
        (&body["valid"], &body["error"]),
        (&json!(false), &json!("consistency_mismatch"))
    );

    // A known "disabled" refuses however old it is.
    known(&redis, &User::new(5), false, now() - 600_000).await;
    let token = host.tokens.access(&User::new(5));
    let call = host
        .get(Service::Session, "/api/v1/session/validate")
        .bearer(&token);
    let answer = call.send().await;
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (401, &json!("user_disabled"))
    );
    for (service, path) in [
        (Service::Fallback, "/api/v1/fallback/create"),
        (Service::Fallback, "/api/v1/fallback/emergency-auth"),
        (Service::Gateway, "/api/v1/ws-auth/authorize"),
    ] {
        let answer = host.post(service, path).bearer(&token).send().await;
        assert_eq!(
            (answer.status, &answer.json()["error"]),
            (401, &json!("user_disabled"))
        );
    }

    // What is not such a record counts as absent.
    for (id, value) in [
        (6, "\u{80}\u{4}pickled"),
        (7, "{}"),
        (8, "[1]"),
        (9, "{\"is_active\":\"no\"}"),
    ] {
        let _: String = redis
            .run(&["SET", &format!("lockgate:user:{id}"), value])
            .await;
        let body = session(&host, &host.tokens.access(&User::new(id))).await;
        assert_eq!(
            (&body["valid"], &body["role"]),
            (&json!(true), &json!("user")),
            "{body}"
        );
    }
}

/// `X-Lockgate-Peer: 1`: the same answer, and not a key is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_asks_without_a_trace() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let token = host.tokens.access(&User::new(42));
    let call = host
        .get(Service::Session, "/api/v1/session/validate")
        .bearer(&token);
    let answer = call.header("x-lockgate-peer", "1").send().await;
    answer.expect_shape(200, shape::S);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(redis.keys().await, Vec::<String>::new());
}
