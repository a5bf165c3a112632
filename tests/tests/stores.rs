//! One walk over every endpoint of every service, on each back end: the embedded store,
//! Redis alone, in a cluster and behind sentinels, and Redis that is configured but away,
//! refuses, or is something else. What may differ between them is said here and nowhere else.

use lockgate_tests::redis_nodes::{RedisCluster, RedisSentinels, TlsRedis};
use lockgate_tests::shape::{H, S};
use lockgate_tests::wait::eventually;
use lockgate_tests::{Answer, Host, RedisServer, Service, User, impostor};
use serde_json::{Value, json};

/// What a back end changes in the answers.
struct Expected {
    degraded: bool,
    /// `dependencies.redis` in health answers.
    dependency: &'static str,
    /// `redis_connection` of the integration health; several where a breaker moves.
    connection: &'static [&'static str],
    /// `source` of a valid session.
    sources: &'static [&'static str],
    /// `propagated.redis` of an event; none where it depends on whether there was
    /// anything to write.
    propagated: Option<bool>,
}

const EMBEDDED: Expected = Expected {
    degraded: false,
    dependency: "not_configured",
    connection: &["ok"],
    sources: &["redis"],
    propagated: Some(true),
};
const REDIS: Expected = Expected {
    dependency: "connected",
    ..EMBEDDED
};
const AWAY: Expected = Expected {
    degraded: true,
    dependency: "disconnected",
    connection: &["error", "unavailable"],
    sources: &["jwt", "fallback"],
    propagated: Some(false),
};
/// It is read, but takes no writes.
const NO_WRITES: Expected = Expected {
    propagated: None,
    ..AWAY
};

/// Waits until the host knows the state of its store and, if that is well, until
/// nothing waits for it any more.
async fn settled(host: &Host, expected: &Expected) {
    eventually("health says what the store is like", async || {
        let body = host
            .get(Service::Jwt, "/health")
            .send()
            .await
            .expect(200)
            .json();
        match body["dependencies"]["redis"] == expected.dependency {
            true => Ok(()),
            false => Err(body),
        }
    })
    .await;
    if expected.degraded {
        return;
    }
    let user = User::new(7);
    let token = host.tokens.access(&user);
    let event = json!({
        "user_id": 7, "email": user.email, "event_type": "token_refresh", "source": "jwt",
    });
    eventually("no event waits", async || {
        let call = host
            .post(Service::Coordinator, "/api/v1/coordinator/sync-auth")
            .bearer(&token);
        let body = call.json(&event).send().await.expect(200).json();
        if body["degraded"] == false {
            Ok(())
        } else {
            Err(body)
        }
    })
    .await;
}

/// Every endpoint once, as a user would.
async fn walk(host: &Host, expected: &Expected, user: &User) {
    let token = host.tokens.access(user);
    jwt(host, expected, user, &token).await;
    session(host, expected, user, &token).await;
    fallback(host, user, &token).await;
    gateway(host, expected, user, &token).await;
    coordinator(host, expected, user, &token).await;
}

fn is_degraded(body: &Value, expected: &Expected) {
    assert_eq!(body["degraded"], expected.degraded, "{body}");
}

fn healthy(answer: &Answer, expected: &Expected) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.conventional();
    assert_eq!(body["dependencies"]["redis"], expected.dependency, "{body}");
    body
}

async fn jwt(host: &Host, expected: &Expected, user: &User, token: &str) {
    let call = host
        .post(Service::Jwt, "/api/v1/jwt/validate")
        .bearer(token);
    let body = call
        .json(&json!({"expected_user_id": user.id}))
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&body["valid"], &body["user_id"]),
        (&json!(true), &json!(user.id))
    );
    is_degraded(&body, expected);
    let call = host
        .get(Service::Jwt, "/api/v1/auth/verify-token")
        .bearer(token);
    is_degraded(&call.send().await.expect(200).json(), expected);
    let refresh = host.tokens.marked_refresh(user);
    let call = host.post(Service::Jwt, "/api/v1/jwt/refresh");
    let body = call
        .json(&json!({"refresh_token": refresh}))
        .send()
        .await
        .expect(200)
        .json();
    is_degraded(&body, expected);
    assert_eq!(
        body["refresh_token"].is_string(),
        !expected.degraded,
        "{body}"
    );
    let body = healthy(&host.get(Service::Jwt, "/health").send().await, expected);
    is_degraded(&body, expected);
    let body = healthy(
        &host.get(Service::Jwt, "/api/v1/jwt/health").send().await,
        expected,
    );
    assert_eq!(body["secret_key_loaded"], true);
    let body = host
        .get(Service::Jwt, "/api/v1/jwt/status")
        .send()
        .await
        .expect(200)
        .json();
    is_degraded(&body, expected);
}

async fn session(host: &Host, expected: &Expected, user: &User, token: &str) {
    let path = "/api/v1/session/validate";
    // The first call makes the record, the second finds it.
    for call in [
        host.get(Service::Session, path),
        host.post(Service::Session, path),
    ] {
        let body = call
            .cookie("access_token", token)
            .send()
            .await
            .expect_shape(200, S);
        is_degraded(&body, expected);
        assert_eq!(body["user_id"], user.id);
        assert_eq!(body["session_id"], user.session_id);
    }
    let call = host
        .get(Service::Session, path)
        .cookie("access_token", token);
    let body = call.send().await.expect_shape(200, S);
    let source = body["source"].as_str().unwrap();
    assert!(expected.sources.contains(&source), "{body}");
    let call = host
        .get(Service::Session, "/api/v1/session/info")
        .bearer(token);
    is_degraded(&call.send().await.expect(200).json(), expected);
    let call = host
        .post(Service::Session, "/api/v1/session/normalize")
        .bearer(token);
    let body = call.send().await.expect(200).json();
    assert_eq!(body["verified"], true);
    is_degraded(&body, expected);
    let body = healthy(
        &host.get(Service::Session, "/health").send().await,
        expected,
    );
    is_degraded(&body, expected);
    let body = healthy(
        &host
            .get(Service::Session, "/api/v1/session/health")
            .send()
            .await,
        expected,
    );
    assert_eq!(body["status"], "ok");
}

async fn fallback(host: &Host, user: &User, token: &str) {
    let call = host
        .post(Service::Fallback, "/api/v1/fallback/create")
        .bearer(token);
    let answer = call.json(&json!({"ttl_seconds": 600})).send().await;
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
    let body = answer.json();
    let secret = body["fallback_token"].as_str().expect("a fallback token");
    let path = "/api/v1/fallback/validate";
    for given in [json!({"fallback_token": secret}), json!({"token": token})] {
        let call = host.post(Service::Fallback, path).json(&given);
        let body = call
            .send()
            .await
            .expect_shape(200, &format!("{S} fallback:true"));
        assert_eq!(
            (&body["user_id"], &body["source"]),
            (&json!(user.id), &json!("fallback"))
        );
        assert_eq!(body["degraded"], true);
    }
    let call = host
        .post(Service::Fallback, "/api/v1/fallback/emergency-auth")
        .bearer(token);
    assert_eq!(call.send().await.expect(200).json()["mode"], "fallback");
    let call = host.get(Service::Fallback, "/api/v1/fallback/health");
    let body = call.send().await.expect(200).json();
    assert!(body["active_sessions"].as_u64() >= Some(1), "{body}");
    host.get(Service::Fallback, "/health")
        .send()
        .await
        .expect_shape_of(H);
}

async fn gateway(host: &Host, expected: &Expected, user: &User, token: &str) {
    let call = host
        .post(Service::Gateway, "/api/v1/ws-auth/validate")
        .bearer(token);
    let body = call.send().await.expect(200).json();
    assert_eq!(
        (&body["valid"], &body["user_id"]),
        (&json!(true), &json!(user.id))
    );
    is_degraded(&body, expected);
    let call = host
        .post(Service::Gateway, "/api/v1/ws-auth/authorize")
        .bearer(token);
    let body = call
        .json(&json!({"path": "/ws/chat"}))
        .send()
        .await
        .expect(200)
        .json();
    is_degraded(&body, expected);
    assert_eq!(body["ticket"].is_string(), !expected.degraded, "{body}");
    let call = host
        .get(Service::Gateway, "/api/v1/ws-auth/connection-info")
        .bearer(token);
    is_degraded(&call.send().await.expect(200).json(), expected);
    for path in ["/health", "/api/v1/ws-auth/health"] {
        healthy(&host.get(Service::Gateway, path).send().await, expected);
    }
}

async fn coordinator(host: &Host, expected: &Expected, user: &User, token: &str) {
    for (kind, more) in [
        ("login", true),
        ("token_refresh", true),
        ("session_expired", false),
    ] {
        let mut body = json!({
            "user_id": user.id, "email": user.email, "event_type": kind, "source": "jwt",
        });
        if more {
            body["session_id"] = json!(user.session_id);
        }
        let call = host
            .post(Service::Coordinator, "/api/v1/coordinator/sync-auth")
            .bearer(token);
        let body = call.json(&body).send().await.expect(200).json();
        assert_eq!(
            (&body["success"], &body["event_type"]),
            (&json!(true), &json!(kind))
        );
        is_degraded(&body, expected);
        if let Some(propagated) = expected.propagated {
            assert_eq!(body["propagated"]["redis"], propagated, "{body}");
        }
    }
    let call = host.get(Service::Coordinator, "/api/v1/health/integration");
    let body = call.send().await.expect(200).json();
    let connection = body["redis_connection"].as_str().unwrap();
    assert!(expected.connection.contains(&connection), "{body}");
    for path in ["/api/v1/coordinator/status", "/api/v1/coordinator/services"] {
        host.get(Service::Coordinator, path)
            .send()
            .await
            .expect(200);
    }
    let body = healthy(
        &host.get(Service::Coordinator, "/health").send().await,
        expected,
    );
    is_degraded(&body, expected);
    let token = host.tokens.access(&user.clone().session("s-to-end"));
    let call = host.post(Service::Coordinator, "/api/v1/auth/logout");
    call.cookie("access_token", &token).send().await.expect(204);
    let call = host
        .get(Service::Session, "/api/v1/session/validate")
        .bearer(&token);
    assert_eq!(
        call.send().await.expect(401).json()["error"],
        "token_revoked"
    );
}

/// A health answer of any kind.
trait HealthShape {
    fn expect_shape_of(self, shape: &str);
}

impl HealthShape for Answer {
    #[track_caller]
    fn expect_shape_of(self, shape: &str) {
        assert_eq!(self.status, 200, "{}", self.text());
        lockgate_tests::shape::exact(&self.conventional(), shape);
    }
}

#[tokio::test]
async fn every_endpoint_on_the_embedded_store() {
    let host = Host::start().await;
    settled(&host, &EMBEDDED).await;
    walk(&host, &EMBEDDED, &User::new(14)).await;
}

#[tokio::test]
async fn every_endpoint_on_redis_with_credentials_in_the_url() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    settled(&host, &REDIS).await;
    walk(&host, &REDIS, &User::new(14)).await;
}

#[tokio::test]
async fn every_endpoint_on_redis_with_a_password_file() {
    let redis = RedisServer::start().await;
    let host = Host::builder()
        .env("REDIS_URL", redis.bare_url())
        .env(
            "REDIS_PASSWORD_FILE",
            redis.password_file().display().to_string(),
        )
        .start()
        .await;
    settled(&host, &REDIS).await;
    walk(&host, &REDIS, &User::new(14)).await;
}

#[tokio::test]
async fn every_endpoint_without_credentials_is_degraded_and_no_error() {
    // As the given deployment has it: the server answers NOAUTH.
    let redis = RedisServer::start().await;
    let host = Host::builder()
        .env("REDIS_URL", redis.bare_url())
        .env("REDIS_PASSWORD_FILE", "/nowhere/REDIS_PASSWORD")
        .start()
        .await;
    settled(&host, &AWAY).await;
    walk(&host, &AWAY, &User::new(14)).await;
    assert!(
        host.log().to_lowercase().contains("redis"),
        "the log says so:\n{}",
        host.log()
    );
}

#[tokio::test]
async fn every_endpoint_with_a_wrong_password_is_degraded_and_no_error() {
    let redis = RedisServer::start().await;
    let url = format!("redis://lwe-app:wrong-password@127.0.0.1:{}", redis.port());
    let host = Host::builder().env("REDIS_URL", url).start().await;
    settled(&host, &AWAY).await;
    walk(&host, &AWAY, &User::new(14)).await;
    assert!(
        !host.log().contains("wrong-password"),
        "no password in the log"
    );
}

#[tokio::test]
async fn every_endpoint_with_redis_down_from_the_start() {
    let mut redis = RedisServer::start().await;
    redis.kill();
    let host = Host::builder().redis(&redis).start().await;
    settled(&host, &AWAY).await;
    walk(&host, &AWAY, &User::new(14)).await;
    redis.start_again().await;
    settled(&host, &REDIS).await;
    walk(&host, &REDIS, &User::new(15)).await;
}

#[tokio::test]
async fn every_endpoint_before_while_and_after_redis_is_stopped() {
    let mut redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    for round in 0..2 {
        settled(&host, &REDIS).await;
        walk(&host, &REDIS, &User::new(100 + round)).await;
        redis.kill();
        settled(&host, &AWAY).await;
        walk(&host, &AWAY, &User::new(200 + round)).await;
        redis.start_again().await;
    }
    settled(&host, &REDIS).await;
    walk(&host, &REDIS, &User::new(300)).await;
}

#[tokio::test]
async fn every_endpoint_while_redis_hangs() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    settled(&host, &REDIS).await;
    redis.pause();
    settled(&host, &AWAY).await;
    walk(&host, &AWAY, &User::new(14)).await;
    redis.resume();
    settled(&host, &REDIS).await;
    walk(&host, &REDIS, &User::new(15)).await;
}

#[tokio::test]
async fn every_endpoint_while_redis_takes_no_writes() {
    let redis = RedisServer::start_with("maxmemory-policy noeviction").await;
    let host = Host::builder().redis(&redis).start().await;
    for (round, (begin, end)) in (0..).zip([
        (
            &["CONFIG", "SET", "maxmemory", "1"][..],
            &["CONFIG", "SET", "maxmemory", "0"][..],
        ),
        (
            &["REPLICAOF", "127.0.0.1", "1"],
            &["REPLICAOF", "NO", "ONE"],
        ),
    ]) {
        settled(&host, &REDIS).await;
        let _: String = redis.run(begin).await;
        // The first write learns it.
        let call = host.post(Service::Session, "/api/v1/session/validate");
        let token = host.tokens.access(&User::new(50 + round));
        call.bearer(&token).send().await.expect(200);
        settled(&host, &NO_WRITES).await;
        walk(&host, &NO_WRITES, &User::new(100 + round)).await;
        let _: String = redis.run(end).await;
        settled(&host, &REDIS).await;
        walk(&host, &REDIS, &User::new(200 + round)).await;
    }
}

#[tokio::test]
async fn every_endpoint_with_something_else_in_the_place_of_redis() {
    for answer in impostor::ANSWERS {
        let (url, _) = impostor::start(answer).await;
        let host = Host::builder().env("REDIS_URL", url).start().await;
        settled(&host, &AWAY).await;
        walk(&host, &AWAY, &User::new(14)).await;
    }
}

#[tokio::test]
async fn every_endpoint_with_and_without_trust_in_the_certificate() {
    let redis = TlsRedis::start().await;
    let ca = redis.ca_file().display().to_string();
    let builder = || Host::builder().env("REDIS_URL", redis.url());
    let host = builder().env("REDIS_CA_FILE", &ca).start().await;
    settled(&host, &REDIS).await;
    walk(&host, &REDIS, &User::new(14)).await;
    let host = builder().start().await;
    settled(&host, &AWAY).await;
    walk(&host, &AWAY, &User::new(15)).await;
}

#[tokio::test]
async fn every_endpoint_on_a_cluster_and_after_the_loss_of_all_of_it() {
    let mut cluster = RedisCluster::start().await;
    let host = Host::builder()
        .env("REDIS_URL", cluster.url())
        .start()
        .await;
    settled(&host, &REDIS).await;
    walk(&host, &REDIS, &User::new(14)).await;
    for node in &mut cluster.nodes {
        node.kill();
    }
    settled(&host, &AWAY).await;
    walk(&host, &AWAY, &User::new(15)).await;
}

#[tokio::test]
async fn every_endpoint_before_and_after_a_failover() {
    let mut redis = RedisSentinels::start().await;
    let host = Host::builder().env("REDIS_URL", redis.url()).start().await;
    settled(&host, &REDIS).await;
    walk(&host, &REDIS, &User::new(14)).await;
    redis.servers[0].kill();
    settled(&host, &AWAY).await;
    settled(&host, &REDIS).await;
    walk(&host, &REDIS, &User::new(15)).await;
}
