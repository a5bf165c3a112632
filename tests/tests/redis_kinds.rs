//! What `REDIS_URL` may name: a server with TLS, a cluster, sentinels. Each is used,
//! lost and found again; logins stay meanwhile.

use lockgate_tests::host::Secret;
use lockgate_tests::metrics::{metric, reaches};
use lockgate_tests::redis_nodes::{RedisCluster, RedisSentinels, TlsRedis};
use lockgate_tests::wait::eventually;
use lockgate_tests::{Host, HostBuilder, RedisServer, Service, User};
use serde_json::{Value, json};

const KEY: &[u8] = b"a key that several hosts share, line one\nline two";
const LEARNT: &str = "lockgate_replica_learnt_total";
const LINK: &str = "lockgate_replica_link";

fn builder(url: &str) -> HostBuilder {
    Host::builder()
        .secret(Secret::Bytes(KEY.to_vec()))
        .env("REDIS_URL", url)
}

async fn validate(host: &Host, token: &str) -> Value {
    let call = host.get(Service::Session, "/api/v1/session/validate");
    let body = call.bearer(token).send().await.expect(200).json();
    assert_eq!(body["valid"], true, "{body}");
    body
}

/// Waits until sessions are read from Redis.
async fn healthy(host: &Host) {
    let token = host.tokens.access(&User::new(1));
    eventually("sessions are read from Redis", async || {
        let body = validate(host, &token).await;
        let healthy = body["degraded"] == false && body["source"] == "redis";
        healthy.then_some(()).ok_or(body)
    })
    .await;
}

async fn degraded(host: &Host) {
    let token = host.tokens.access(&User::new(1));
    eventually("the host is degraded", async || {
        let body = validate(host, &token).await;
        (body["degraded"] == true).then_some(()).ok_or(body)
    })
    .await;
}

async fn sync(host: &Host, user: &User, kind: &str) -> Value {
    let event = json!({"user_id": user.id, "email": user.email, "event_type": kind,
        "source": "api", "session_id": user.session_id});
    let call = host.post(Service::Coordinator, "/api/v1/coordinator/sync-auth");
    let call = call.bearer(&host.tokens.access(user)).json(&event);
    call.send().await.expect(200).json()
}

async fn refused(host: &Host, user: &User) {
    let call = host.get(Service::Jwt, "/api/v1/auth/verify-token");
    let call = call.bearer(&host.tokens.access(user));
    call.send().await.expect_error(401, "token_revoked");
}

/// Everything that writes and reads, over all kinds of commands.
async fn used(host: &Host) {
    healthy(host).await;
    let user = User::new(42);
    let body = sync(host, &user, "login").await;
    assert_eq!(
        (&body["degraded"], &body["propagated"]["redis"]),
        (&json!(false), &json!(true))
    );
    let token = host.tokens.access(&user);
    let call = host
        .post(Service::Fallback, "/api/v1/fallback/create")
        .bearer(&token);
    let made = call.send().await;
    assert!([200, 201].contains(&made.status), "{}", made.text());
    let call = host.post(Service::Jwt, "/api/v1/jwt/refresh");
    let body = json!({"refresh_token": host.tokens.marked_refresh(&user)});
    let body = call.json(&body).send().await.expect(200).json();
    assert!(
        body["refresh_token"].is_string() && body["degraded"] == false,
        "{body}"
    );
    let call = host.post(Service::Gateway, "/api/v1/ws-auth/authorize");
    let body = call.bearer(&token).send().await.expect(200).json();
    assert!(body["ticket"].is_string(), "{body}");
    let body = sync(host, &user, "logout").await;
    assert_eq!(
        (&body["degraded"], &body["propagated"]["redis"]),
        (&json!(false), &json!(true))
    );
    refused(host, &user).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_tls() {
    let mut redis = TlsRedis::start().await;
    let ca = redis.ca_file().display().to_string();
    let host = builder(&redis.url())
        .env("REDIS_CA_FILE", &ca)
        .start()
        .await;
    used(&host).await;
    assert!(
        redis
            .cli(&["KEYS", "*"])
            .contains("lockgate:revoked:session:42:s-42Qx")
    );
    reaches(&host, LINK, |link| link == 1.0).await;
    redis.node.kill();
    degraded(&host).await;
    redis.node.start_again();
    healthy(&host).await;

    // A server whose certificate is not trusted, or is for another name, or no TLS at all.
    let other = TlsRedis::start().await;
    let plain = RedisServer::start().await;
    let foreign = other.url();
    let unnamed = redis.url().replace("localhost", "127.0.0.1");
    let no_tls = plain.url().replace("redis://", "rediss://");
    for url in [foreign, unnamed, no_tls] {
        let host = builder(&url).env("REDIS_CA_FILE", &ca).start().await;
        degraded(&host).await;
        assert_eq!(host.log().matches("running degraded").count(), 1, "{url}");
    }
    let host = builder(&redis.url()).start().await;
    degraded(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_file_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    for content in [None, Some("no certificate")] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let output = std::process::Command::new(lockgate_tests::place::binary())
            .arg("serve")
            .env_clear()
            .env("LOCKGATE_DATA_DIR", folder.path())
            .env("LOCKGATE_ADMIN", "127.0.0.1:0")
            .env("REDIS_URL", "rediss://user:hidden-word@127.0.0.1:1")
            .env("REDIS_CA_FILE", &file)
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(
            !output.status.success() && text.contains("REDIS_CA_FILE"),
            "{text}"
        );
        assert!(!text.contains("hidden-word"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster() {
    let mut cluster = RedisCluster::start().await;
    let one = builder(&cluster.url()).start().await;
    used(&one).await;
    // The keys are spread over the masters, and the other hosts hear of all of them.
    let full = cluster.nodes[..3]
        .iter()
        .filter(|node| node.cli(&["DBSIZE"]) != "0\n");
    assert!(full.count() >= 2, "{:?}", cluster.keys());
    let two = builder(&cluster.url()).start().await;
    learnt(&two, 1.0).await;
    reaches(&two, LINK, |link| link == 1.0).await;
    let before = metric(&two, LEARNT).await;
    for id in 50..58 {
        assert_eq!(sync(&one, &User::new(id), "logout").await["success"], true);
    }
    learnt(&two, before + 8.0).await;

    // A master is lost: degraded until its replica has taken over.
    cluster.nodes[0].kill();
    degraded(&one).await;
    let call = one.post(Service::Coordinator, "/api/v1/auth/logout");
    let token = one.tokens.access(&User::new(60));
    call.bearer(&token).send().await.expect(204);
    refused(&one, &User::new(60)).await;
    healthy(&one).await;
    refused(&one, &User::new(60)).await;
    for node in &mut cluster.nodes {
        node.kill();
    }
    for id in [42, 50, 57, 60] {
        refused(&one, &User::new(id)).await;
    }
    for id in [42, 50, 57] {
        refused(&two, &User::new(id)).await;
    }
}

async fn learnt(host: &Host, count: f64) {
    reaches(host, LEARNT, |learnt| learnt >= count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels() {
    let mut redis = RedisSentinels::start().await;
    let one = builder(&redis.url()).start().await;
    let two = builder(&redis.url()).start().await;
    reaches(&two, LINK, |link| link == 1.0).await;
    used(&one).await;
    learnt(&two, 2.0).await;
    // The master is lost: degraded until the sentinels have made another one.
    redis.servers[0].kill();
    degraded(&one).await;
    healthy(&one).await;
    healthy(&two).await;
    refused(&two, &User::new(42)).await;
    reaches(&two, LINK, |link| link == 1.0).await;
    let before = metric(&two, LEARNT).await;
    assert_eq!(
        sync(&one, &User::new(43), "logout").await["propagated"]["redis"],
        true
    );
    learnt(&two, before + 1.0).await;
    // What was the master comes back as a replica, and nobody minds.
    redis.servers[0].start_again();
    eventually("it is a replica", async || {
        let role = redis.servers[0].cli(&["ROLE"]);
        role.contains("slave").then_some(()).ok_or(role)
    })
    .await;
    healthy(&one).await;
    // Without sentinels the connection stays; without any server all is degraded.
    for sentinel in &mut redis.sentinels {
        sentinel.kill();
    }
    healthy(&one).await;
    redis.servers[1].kill();
    degraded(&one).await;
    refused(&one, &User::new(43)).await;
}
