//! How many commands of Redis a check costs: for a session that was never seen, and for
//! one that was.

use std::collections::BTreeMap;

use super::cluster::connected;
use crate::host::{Host, Service};
use crate::http::Call;
use crate::measure::Length;
use crate::measure::Report;
use crate::redis::RedisServer;
use crate::tokens::User;

/// What the host sends without a request, and what the counting itself sends.
const BESIDE: [&str; 8] = [
    "ping", "info", "hello", "auth", "select", "acl", "client", "config",
];

/// Commands by name, as counted by the server.
type Counts = BTreeMap<String, i64>;

pub(super) async fn run(length: Length, report: &mut Report) {
    let checks = length.pick(50, 500, 500);
    report.part("commands", &format!("commands of Redis in {checks} checks"));
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    connected(&host, "connected").await;
    let session = |token: &str| {
        let call = host.get(Service::Session, "/api/v1/session/validate");
        call.bearer(token)
    };
    let jwt = |token: &str| {
        host.post(Service::Jwt, "/api/v1/jwt/validate")
            .bearer(token)
    };
    let mut rows = Vec::new();
    for (name, call) in [
        ("session/validate", &session as &dyn Fn(&str) -> Call),
        ("jwt/validate", &jwt),
    ] {
        for warm in [false, true] {
            let tokens: Vec<_> = (0..checks)
                .map(|number| {
                    let user = User::new(300_000 + if warm { 0 } else { number });
                    host.tokens
                        .access(&user.session(&format!("s-{name}-{number}").replace('/', "-")))
                })
                .collect();
            let tokens = match warm {
                true => vec![tokens[0].clone(); tokens.len()],
                false => tokens,
            };
            let counts = count(&redis, async || {
                for token in &tokens {
                    let answer = call(token).send().await;
                    assert_eq!(answer.expect(200).json()["valid"], true);
                }
            })
            .await;
            let word = if warm { "warm" } else { "cold" };
            rows.push(row(&format!("{name}, {word}"), &counts, checks));
        }
    }
    report.table(&["check", "sent", "of these", "by scripts"], &rows);
}

/// What the server counts while something is done.
async fn count(redis: &RedisServer, work: impl AsyncFnOnce()) -> Counts {
    let before = counts(redis).await;
    work().await;
    // Copies of sessions are made in the background.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let mut after = counts(redis).await;
    for (name, count) in before {
        *after.entry(name).or_default() -= count;
    }
    after.retain(|name, count| *count > 0 && !BESIDE.contains(&name.as_str()));
    after
}

async fn counts(redis: &RedisServer) -> Counts {
    let text: String = redis.run(&["INFO", "commandstats"]).await;
    let line = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let count = rest.split(',').next()?.parse().ok()?;
        Some((name.to_owned(), count))
    };
    text.lines().filter_map(line).collect()
}

/// What one check costs: commands that the host sends, and those that its scripts run.
fn row(name: &str, counts: &Counts, checks: u32) -> Vec<String> {
    let scripted = ["sadd", "expire", "incrby", "ttl"];
    let words = |inside: bool| {
        let chosen = counts
            .iter()
            .filter(|(name, _)| scripted.contains(&name.as_str()) == inside);
        let each = |count: &i64| *count as f64 / f64::from(checks);
        let total: f64 = chosen.clone().map(|(_, count)| each(count)).sum();
        let parts = chosen.map(|(name, count)| format!("{name} {:.2}", each(count)));
        (total, parts.collect::<Vec<_>>().join(", "))
    };
    let (sent, parts) = words(false);
    let (_, inside) = words(true);
    vec![name.to_owned(), format!("{sent:.2}"), parts, inside]
}
