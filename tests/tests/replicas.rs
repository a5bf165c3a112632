//! Several hosts on one Redis: what one of them ends is ended on all, also on those
//! that never asked about it, and also when Redis is gone afterwards.

use lockgate_tests::host::Secret;
use lockgate_tests::metrics::{metric, reaches};
use lockgate_tests::proxy::Proxy;
use lockgate_tests::{Host, RedisServer, Service, Tokens, User, now};
use serde_json::{Value, json};

const KEY: &[u8] = b"a key that several hosts share, line one\nline two";
const LEARNT: &str = "lockgate_replica_learnt_total";
const REREADS: &str = "lockgate_replica_rereads_total";
const LINK: &str = "lockgate_replica_link";

async fn host_at(url: String) -> Host {
    let host = Host::builder()
        .secret(Secret::Bytes(KEY.to_vec()))
        .env("REDIS_URL", url)
        .start()
        .await;
    reaches(&host, LINK, |link| link == 1.0).await;
    host
}

async fn host(redis: &RedisServer) -> Host {
    host_at(redis.url()).await
}

async fn logout(host: &Host, token: &str) {
    let call = host.post(Service::Coordinator, "/api/v1/auth/logout");
    call.cookie("access_token", token).send().await.expect(204);
}

async fn sync(host: &Host, token: &str, body: Value) -> Value {
    let call = host.post(Service::Coordinator, "/api/v1/coordinator/sync-auth");
    call.bearer(token)
        .json(&body)
        .send()
        .await
        .expect(200)
        .json()
}

fn event(user: &User, kind: &str, session: Option<&str>) -> Value {
    json!({"user_id": user.id, "email": user.email, "event_type": kind, "source": "api",
        "session_id": session})
}

async fn verify(host: &Host, token: &str) -> (u16, Value) {
    let call = host.get(Service::Jwt, "/api/v1/auth/verify-token");
    let answer = call.bearer(token).send().await;
    (answer.status, answer.json())
}

async fn refused(host: &Host, token: &str, error: &str) {
    let (status, body) = verify(host, token).await;
    assert_eq!((status, &body["error"]), (401, &json!(error)), "{body}");
}

async fn accepted(host: &Host, token: &str) {
    let (status, body) = verify(host, token).await;
    assert_eq!(status, 200, "{body}");
}

/// Waits until a host has learnt so many entries since it was at `before`.
async fn learnt(host: &Host, before: f64, more: f64) {
    reaches(host, LEARNT, |count| count >= before + more).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_host_revokes_the_others_keep() {
    let mut redis = RedisServer::start().await;
    let one = host(&redis).await;
    let (two, three) = (host(&redis).await, host(&redis).await);
    let token = one.tokens.access(&User::new(14));
    let of_all = one.tokens.access(&User::new(15));
    let untouched = one.tokens.access(&User::new(16));
    logout(&one, &token).await;
    let user = User::new(15);
    assert_eq!(
        sync(&one, &of_all, event(&user, "logout", None)).await["success"],
        true
    );
    for other in [&two, &three] {
        // The token, its session, and the cut-off.
        learnt(other, 0.0, 3.0).await;
    }
    // The other way round: each follows each.
    let later = one.tokens.access(&User::new(17));
    logout(&three, &later).await;
    learnt(&two, 3.0, 2.0).await;
    learnt(&one, 0.0, 2.0).await;
    assert_eq!(metric(&one, LEARNT).await, 2.0, "its own it has not learnt");
    let own = metric(&one, r#"lockgate_events_heard_total{result="own"}"#).await;
    assert!(own >= 3.0, "{own}");

    redis.kill();
    for host in [&one, &two, &three] {
        for token in [&token, &of_all, &later] {
            refused(host, token, "token_revoked").await;
        }
        accepted(host, &untouched).await;
        // Issued after the cut-off.
        let mut claims = Tokens::unified_claims(&user, 3_600);
        claims["iat"] = json!(now() + 10);
        accepted(host, &one.tokens.sign(&claims)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_known_to_all() {
    let mut redis = RedisServer::start().await;
    let (one, two) = (host(&redis).await, host(&redis).await);
    let body = json!({"refresh_token": one.tokens.marked_refresh(&User::new(14))});
    let refresh = async |host: &Host| {
        let call = host.post(Service::Jwt, "/api/v1/jwt/refresh").json(&body);
        call.send().await.expect(200).json()
    };
    let first = refresh(&one).await;
    learnt(&two, 0.0, 1.0).await;
    redis.kill();
    let second = refresh(&two).await;
    for name in ["access_token", "refresh_token"] {
        assert_eq!(first[name], second[name], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_host_learns_all_there_is() {
    let mut redis = RedisServer::start().await;
    let one = host(&redis).await;
    let [token, of_all, disabled, forever] =
        [14, 15, 16, 18].map(|id| one.tokens.access(&User::new(id)));
    logout(&one, &token).await;
    sync(&one, &of_all, event(&User::new(15), "logout", None)).await;
    let entry = json!({"is_active": false, "email": "ada16@example.org", "role": "user",
        "checked_at": now()});
    for (key, value) in [
        ("lockgate:user:16", entry.to_string()),
        // Without an end, and things that are no entries of any list.
        ("lockgate:revoked:session:18:s-18Qx", "1".to_owned()),
        ("lockgate:revoked:token:short", "1".to_owned()),
        ("lockgate:revoked:user:19", "never".to_owned()),
        ("lockgate:rotated:x", "{}".to_owned()),
        ("lockgate:fallback:19", "\u{80}\u{4}pickled".to_owned()),
    ] {
        redis.run::<()>(&["SET", key, &value]).await;
    }
    redis
        .run::<()>(&["RPUSH", "lockgate:revoked:user:20", "x"])
        .await;
    // As on a server that others use as well.
    let filler = "for i = 1, 5000 do redis.call('SET', 'other:' .. i, 'x', 'EX', 600) end";
    redis.run::<()>(&["EVAL", filler, "0"]).await;
    // Nobody tells the new host.
    redis.run::<()>(&["DEL", "lockgate:events"]).await;
    let two = host(&redis).await;
    learnt(&two, 0.0, 4.0).await;
    // The disabled user is not counted; the host goes on while it reads.
    reaches(&two, REREADS, |count| count >= 1.0).await;
    lockgate_tests::wait::eventually("user 16 is known", async || {
        let (status, body) = verify(&two, &disabled).await;
        (status == 401).then_some(()).ok_or(body)
    })
    .await;
    redis.kill();
    for token in [&token, &of_all, &forever] {
        refused(&two, token, "token_revoked").await;
    }
    refused(&two, &disabled, "user_disabled").await;
    accepted(&two, &one.tokens.access(&User::new(19))).await;
    accepted(&two, &one.tokens.access(&User::new(20))).await;
}

/// The link of one host breaks: closed, or silent. It reads what it missed.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_is_read_from_the_stream() {
    let mut redis = RedisServer::start().await;
    let proxy = Proxy::to(redis.port()).await;
    let one = host(&redis).await;
    // Where nothing was ever told there is no place to go on from.
    logout(&one, &one.tokens.access(&User::new(19))).await;
    let two = host_at(redis.url_at(proxy.port())).await;
    learnt(&two, 0.0, 2.0).await;
    let mut tokens = Vec::new();
    for (round, breaks) in [Proxy::cut, Proxy::hang].into_iter().enumerate() {
        let before = metric(&two, LEARNT).await;
        breaks(&proxy);
        reaches(&two, LINK, |link| link == 0.0).await;
        let token = one.tokens.access(&User::new(20 + round as u32));
        logout(&one, &token).await;
        proxy.heal();
        learnt(&two, before, 2.0).await;
        tokens.push(token);
    }
    assert_eq!(metric(&two, REREADS).await, 1.0, "only at its start");
    redis.kill();
    for token in &tokens {
        refused(&two, token, "token_revoked").await;
    }
}

/// Where the stream cannot tell what was missed, everything is read again.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_stream_means_reading_everything() {
    let mut redis = RedisServer::start().await;
    let proxy = Proxy::to(redis.port()).await;
    let one = host(&redis).await;
    let two = host_at(redis.url_at(proxy.port())).await;
    let mut tokens = Vec::new();
    for (round, gone) in [
        &["DEL", "lockgate:events"][..],
        &["XTRIM", "lockgate:events", "MAXLEN", "1"],
    ]
    .into_iter()
    .enumerate()
    {
        let before = metric(&two, LEARNT).await;
        let rereads = metric(&two, REREADS).await;
        proxy.cut();
        reaches(&two, LINK, |link| link == 0.0).await;
        let token = one.tokens.access(&User::new(30 + round as u32));
        logout(&one, &token).await;
        redis.run::<i64>(gone).await;
        proxy.heal();
        learnt(&two, before, 2.0).await;
        assert_eq!(metric(&two, REREADS).await, rereads + 1.0, "{gone:?}");
        tokens.push(token);
    }
    redis.kill();
    for token in &tokens {
        refused(&two, token, "token_revoked").await;
    }
}

/// Redis loses everything; whoever still knows tells those who never did.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_revoked_while_redis_was_away_reaches_the_others() {
    let mut redis = RedisServer::start().await;
    let (one, two) = (host(&redis).await, host(&redis).await);
    let token = one.tokens.access(&User::new(14));
    redis.kill();
    logout(&one, &token).await;
    redis.start_empty().await;
    learnt(&two, 0.0, 2.0).await;
    redis.kill();
    refused(&two, &token, "token_revoked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn emergency_sessions_are_on_every_host() {
    let mut redis = RedisServer::start().await;
    let (one, two) = (host(&redis).await, host(&redis).await);
    let secret = async |id: u32| {
        let token = one.tokens.access(&User::new(id));
        let call = one.post(Service::Fallback, "/api/v1/fallback/create");
        let body = call.bearer(&token).send().await.expect(201).json();
        body["fallback_token"].as_str().unwrap().to_owned()
    };
    let (kept, ended) = (secret(14).await, secret(15).await);
    let active = async |wanted: u64| {
        lockgate_tests::wait::eventually("the other host has them", async || {
            let call = two.get(Service::Fallback, "/api/v1/fallback/health");
            let body = call.send().await.expect(200).json();
            (body["active_sessions"] == wanted)
                .then_some(())
                .ok_or(body)
        })
        .await;
    };
    active(2).await;
    let token = one.tokens.access(&User::new(15));
    sync(&one, &token, event(&User::new(15), "session_expired", None)).await;
    active(1).await;
    redis.kill();
    for (secret, valid) in [(&kept, true), (&ended, false)] {
        let call = two.post(Service::Fallback, "/api/v1/fallback/validate");
        let body = json!({"fallback_token": secret});
        let answer = call.json(&body).send().await.expect(200).json();
        assert_eq!(answer["valid"], valid, "{answer}");
    }
}

/// Whoever can write to Redis can say anything; it is a hint at most.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_true_is_not_believed() {
    let redis = RedisServer::start().await;
    let (one, two) = (host(&redis).await, host(&redis).await);
    let good = one.tokens.access(&User::new(14));
    accepted(&two, &good).await;
    let keys = [
        "lockgate:revoked:session:14:s-14Qx",
        "lockgate:revoked:user:14",
        "session:s-14Qx",
    ];
    let lies = [
        json!({"host": "x", "seq": 1, "event_type": "logout", "user_id": 14, "session_id": "s-14Qx"})
            .to_string(),
        json!({"host": "x", "seq": 2, "event_type": "keys_changed", "keys": keys}).to_string(),
        json!({"host": "x", "seq": 3, "event_type": "all_changed"}).to_string(),
        json!({"host": "x", "seq": u64::MAX, "event_type": "logout", "user_id": 14, "session_id": 7})
            .to_string(),
        "x".repeat(1_000_000),
        "{\"host\":".to_owned(),
        "\u{0}".to_owned(),
        String::new(),
    ];
    for lie in &lies {
        redis.run::<i64>(&["PUBLISH", "auth.events", lie]).await;
        redis
            .run::<String>(&["XADD", "lockgate:events", "*", "event", lie])
            .await;
        redis
            .run::<String>(&["XADD", "lockgate:events", "*", "other", lie])
            .await;
    }
    reaches(
        &two,
        r#"lockgate_events_heard_total{result="unusable"}"#,
        |count| count >= 8.0,
    )
    .await;
    reaches(&two, REREADS, |count| count == 2.0).await;
    accepted(&two, &good).await;
    // It follows on.
    let token = one.tokens.access(&User::new(15));
    logout(&one, &token).await;
    learnt(&two, 0.0, 2.0).await;
    accepted(&two, &good).await;
    assert_eq!(metric(&two, LINK).await, 1.0);
}

/// A user without the right to listen: the hosts work on, what is asked of Redis counts,
/// and the stream tells the rest.
#[tokio::test(flavor = "multi_thread")]
async fn without_events_redis_is_asked() {
    let redis = RedisServer::start().await;
    redis
        .run::<()>(&["ACL", "SETUSER", "lwe-app", "resetchannels"])
        .await;
    let builder = || {
        Host::builder()
            .secret(Secret::Bytes(KEY.to_vec()))
            .redis(&redis)
    };
    let (one, two) = (builder().start().await, builder().start().await);
    let token = one.tokens.access(&User::new(14));
    accepted(&two, &token).await;
    assert_eq!(metric(&two, LINK).await, 0.0);
    logout(&one, &token).await;
    refused(&two, &token, "token_revoked").await;
    // Not because it was asked: this host has never seen this token.
    let unseen = one.tokens.access(&User::new(15));
    let before = metric(&two, LEARNT).await;
    logout(&one, &unseen).await;
    learnt(&two, before, 1.0).await;
}
