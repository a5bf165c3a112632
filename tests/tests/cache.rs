//! What Redis said is remembered for a second at most: it spares Redis most questions,
//! a change by anybody counts at once, and without news of changes Redis is asked.

use std::time::{Duration, Instant};

use lockgate_tests::metrics::{metric, reaches};
use lockgate_tests::tokens::sha256;
use lockgate_tests::wait::eventually;
use lockgate_tests::{Host, RedisServer, Service, User};
use serde_json::{Value, json};

const HITS: &str = r#"lockgate_cache_lookups_total{result="hit"}"#;
const LINK: &str = "lockgate_replica_link";

async fn host(redis: &RedisServer) -> Host {
    let host = Host::builder().redis(redis).start().await;
    reaches(&host, LINK, |link| link == 1.0).await;
    host
}

async fn validate(host: &Host, token: &str) -> Value {
    let call = host.get(Service::Session, "/api/v1/session/validate");
    call.bearer(token).send().await.json()
}

/// Calls of a command that the server has counted.
async fn calls(redis: &RedisServer, command: &str) -> u64 {
    let text = redis.run::<String>(&["INFO", "commandstats"]).await;
    let start = format!("cmdstat_{command}:calls=");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    let count = line.and_then(|line| line.split(',').next());
    count.map_or(0, |count| count.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_a_moment_ago_is_not_asked_again() {
    let redis = RedisServer::start().await;
    let host = host(&redis).await;
    let token = host.tokens.access(&User::new(14));
    validate(&host, &token).await;
    let asked = async || calls(&redis, "mget").await + calls(&redis, "get").await;
    let (before, hits) = (asked().await, metric(&host, HITS).await);
    for _ in 0..200 {
        let body = validate(&host, &token).await;
        assert_eq!(
            (&body["valid"], &body["degraded"]),
            (&json!(true), &json!(false))
        );
    }
    let more = asked().await - before;
    let hits = metric(&host, HITS).await - hits;
    println!("200 checks of a known session: {more} questions to Redis, {hits} answers kept");
    assert!(more < 200 && hits >= 200.0, "{more} asked, {hits} kept");
}

/// Writes that no host announces: each counts long before an answer would be too old.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_anybody_counts_at_once() {
    const ROUNDS: u32 = 30;
    let redis = RedisServer::start().await;
    let host = host(&redis).await;
    let mut waited = Duration::ZERO;
    for id in 100..100 + ROUNDS {
        let token = host.tokens.access(&User::new(id));
        for _ in 0..3 {
            assert_eq!(validate(&host, &token).await["valid"], true);
        }
        let session = format!("session:s-{id}Qx");
        let record = redis.get(&session).await.expect("the session is kept");
        let mut record: Value = serde_json::from_slice(record.as_bytes()).unwrap();
        let change = match id % 3 {
            0 => [
                format!("lockgate:revoked:token:{}", sha256(&token)),
                "1".to_owned(),
            ],
            1 => [format!("lockgate:revoked:user:{id}"), u32::MAX.to_string()],
            _ => {
                record["status"] = json!("invalidated");
                [session, record.to_string()]
            }
        };
        redis.run::<()>(&["SET", &change[0], &change[1]]).await;
        let begin = Instant::now();
        eventually("the change counts", async || {
            let body = validate(&host, &token).await;
            (body["error"] == "token_revoked").then_some(()).ok_or(body)
        })
        .await;
        waited += begin.elapsed();
    }
    println!(
        "{ROUNDS} changes counted after {:?} on average",
        waited / ROUNDS
    );
    // If only their age ended the answers it would be a second for each.
    assert!(waited < Duration::from_millis(500) * ROUNDS, "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_news_of_changes_nothing_is_kept() {
    let redis = RedisServer::start().await;
    redis
        .run::<()>(&["ACL", "SETUSER", "lwe-app", "-client|tracking"])
        .await;
    let host = host(&redis).await;
    let token = host.tokens.access(&User::new(14));
    for _ in 0..20 {
        assert_eq!(validate(&host, &token).await["degraded"], false);
    }
    assert_eq!(metric(&host, HITS).await, 0.0);
    let key = format!("lockgate:revoked:token:{}", sha256(&token));
    redis.run::<()>(&["SET", &key, "1"]).await;
    assert_eq!(validate(&host, &token).await["error"], "token_revoked");
}
