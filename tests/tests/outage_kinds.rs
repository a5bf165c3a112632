//! The ways in which Redis can be there and of no use: each is one degraded mode with
//! one line in the log, never an error to a user, and over by itself.

use std::sync::atomic::Ordering;

use lockgate_tests::impostor;
use lockgate_tests::metrics::metric;
use lockgate_tests::shape::S;
use lockgate_tests::tokens::sha256;
use lockgate_tests::wait::eventually;
use lockgate_tests::{Host, RedisServer, Service, User};
use serde_json::{Value, json};

async fn validate(host: &Host, user: u32) -> Value {
    let token = host.tokens.access(&User::new(user));
    let call = host.get(Service::Session, "/api/v1/session/validate");
    call.bearer(&token).send().await.expect_shape(200, S)
}

/// Waits until `/health` says how Redis is.
async fn redis_is(host: &Host, wanted: &str) {
    eventually(&format!("Redis is {wanted}"), async || {
        let call = host.get(Service::Session, "/health");
        let body = call.send().await.expect(200).json();
        let known = body["dependencies"]["redis"] == wanted;
        assert_eq!(
            body["degraded"],
            body["dependencies"]["redis"] == "disconnected"
        );
        known.then_some(()).ok_or(body)
    })
    .await;
}

async fn logout(host: &Host, token: &str) {
    let call = host.post(Service::Coordinator, "/api/v1/auth/logout");
    call.cookie("access_token", token).send().await.expect(204);
}

async fn refused(host: &Host, token: &str) {
    let call = host.get(Service::Jwt, "/api/v1/auth/verify-token");
    call.bearer(token)
        .send()
        .await
        .expect_error(401, "token_revoked");
}

fn lines(host: &Host, what: &str) -> usize {
    host.log()
        .lines()
        .filter(|line| line.contains(what))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_redis() {
    for answer in impostor::ANSWERS {
        let (url, asked) = impostor::start(answer).await;
        let host = Host::builder().env("REDIS_URL", url).start().await;
        redis_is(&host, "disconnected").await;
        let token = host.tokens.access(&User::new(14));
        for _ in 0..30 {
            assert_eq!(validate(&host, 14).await["degraded"], true);
        }
        logout(&host, &token).await;
        refused(&host, &token).await;
        assert!(asked.load(Ordering::SeqCst) > 0);
        // The first fault may be followed by another one, but not by one a request.
        let reported = lines(&host, "running degraded");
        assert!((1..=3).contains(&reported), "{reported} lines");
        let counted = metric(&host, "lockgate_redis_faults_total").await;
        assert_eq!(counted, reported as f64);
    }
}

/// Memory is full, or the server became a replica: reads work, writes do not.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_writes() {
    let redis = RedisServer::start_with("maxmemory-policy noeviction").await;
    let host = Host::builder().redis(&redis).start().await;
    for (round, (begin, end, code)) in [
        (
            &["CONFIG", "SET", "maxmemory", "1"][..],
            &["CONFIG", "SET", "maxmemory", "0"][..],
            "OOM",
        ),
        (
            &["REPLICAOF", "127.0.0.1", "1"],
            &["REPLICAOF", "NO", "ONE"],
            "READONLY",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        redis_is(&host, "connected").await;
        let id = 100 * (round as u32 + 1);
        let token = host.tokens.access(&User::new(id));
        validate(&host, id).await;
        redis.run::<String>(begin).await;
        logout(&host, &token).await;
        refused(&host, &token).await;
        redis_is(&host, "disconnected").await;
        for other in 1..30 {
            // A session that cannot be kept is good all the same.
            validate(&host, id + other).await;
        }
        let event = json!({"user_id": id + 50, "event_type": "login", "source": "api",
            "email": User::new(id + 50).email});
        let call = host.post(Service::Coordinator, "/api/v1/coordinator/sync-auth");
        let call = call
            .bearer(&host.tokens.access(&User::new(id + 50)))
            .json(&event);
        let body = call.send().await.expect(200).json();
        assert_eq!(
            (&body["degraded"], &body["propagated"]["redis"]),
            (&json!(true), &json!(false))
        );
        let call = host.post(Service::Jwt, "/api/v1/jwt/refresh");
        let body = json!({"refresh_token": host.tokens.marked_refresh(&User::new(id + 51))});
        let body = call.json(&body).send().await.expect(200).json();
        assert!(
            body["degraded"] == true && body.get("refresh_token").is_none(),
            "{body}"
        );
        assert_eq!(lines(&host, &format!("code=\"{code}\"")), 1);

        redis.run::<String>(end).await;
        redis_is(&host, "connected").await;
        let key = format!("lockgate:revoked:token:{}", sha256(&token));
        eventually("the revocation is in Redis", async || {
            redis.get(&key).await.map(drop).ok_or("not yet")
        })
        .await;
        eventually("a new session is kept", async || {
            let body = validate(&host, id + 60).await;
            (body["source"] == "redis" && body["degraded"] == false)
                .then_some(())
                .ok_or(body)
        })
        .await;
        refused(&host, &token).await;
    }
    assert_eq!(lines(&host, "takes writes again"), 2);
}

/// What the ACL user may not do is said once, and nothing is tried for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_few_rights() {
    let redis = RedisServer::start().await;
    redis
        .run::<()>(&[
            "ACL",
            "SETUSER",
            "lwe-app",
            "resetchannels",
            "-xadd",
            "-set",
        ])
        .await;
    let host = Host::builder().redis(&redis).start().await;
    let tokens: Vec<String> = (14..24)
        .map(|id| host.tokens.access(&User::new(id)))
        .collect();
    for (id, token) in (14..).zip(&tokens) {
        validate(&host, id).await;
        logout(&host, token).await;
        refused(&host, token).await;
    }
    let reported = lines(&host, "NOPERM");
    assert!((1..=4).contains(&reported), "{reported} lines");
    assert_eq!(redis.run::<i64>(&["XLEN", "lockgate:events"]).await, 0);
    // With the rights back it works on.
    redis
        .run::<()>(&["ACL", "SETUSER", "lwe-app", "allchannels", "+xadd", "+set"])
        .await;
    eventually("a session is kept", async || {
        let body = validate(&host, 30).await;
        (body["source"] == "redis").then_some(()).ok_or(body)
    })
    .await;
}
