//! Many uses of one refresh token at once on three hosts: one successor for all, and none
//! for who comes after the grace.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cluster::Cluster;
use crate::host::{Host, Service};
use crate::http::Answer;
use crate::measure::Length;
use crate::measure::Report;
use crate::tokens::User;
use crate::wait::eventually;

/// A use that is answered with 503 for want of room comes again, so often.
const TRIES: u32 = 20;

/// One use of the token.
struct Use {
    /// From the first use on.
    ended: Duration,
    answer: Answer,
    /// How often there was no room.
    refused: u64,
}

pub(super) async fn run(length: Length, report: &mut Report) {
    let uses = length.pick(100, 1_000, 5_000);
    let grace = length.pick(4, 10, 30);
    report.part(
        "refresh",
        &format!("{uses} uses of one refresh token at once on three hosts"),
    );
    let cluster = Cluster::start(|host| {
        let grace = grace.to_string();
        host.env("REFRESH_GRACE_SECONDS", grace)
    })
    .await;
    let hosts = &cluster.hosts;
    let user = User::new(42);
    let token = hosts[0].tokens.marked_refresh(&user);
    let begun = Instant::now();
    let all = use_at_once(hosts, &token, uses, begun).await;
    // The grace is counted in whole seconds.
    let within = Duration::from_secs(grace - 1);
    let (early, late): (Vec<_>, Vec<_>) = all.iter().partition(|one| one.ended < within);
    let successor = print(report, &early, &late);
    tokio::time::sleep(
        (begun + Duration::from_secs(grace + 2)).saturating_duration_since(Instant::now()),
    )
    .await;
    for host in hosts {
        let answer = refresh(host, &token).await;
        let body = answer.json();
        let holds = answer.status == 401 && body["error"] == "token_revoked";
        let seen = format!("{} {}", answer.status, body["error"]);
        report.claim("a use after the grace is theft", holds, seen);
    }
    theft(report, hosts, &successor).await;
}

/// Uses the token so often, in turn on the hosts, all at the same time.
async fn use_at_once(hosts: &[Host], token: &str, uses: usize, begun: Instant) -> Vec<Use> {
    let mut using = tokio::task::JoinSet::new();
    for number in 0..uses {
        let call = hosts[number % hosts.len()].post(Service::Jwt, "/api/v1/jwt/refresh");
        let call = call.json(&json!({"refresh_token": token}));
        using.spawn(async move {
            let mut refused = 0;
            loop {
                let answer = call.clone().send().await;
                if answer.status != 503 || refused == u64::from(TRIES) {
                    return Use {
                        ended: begun.elapsed(),
                        answer,
                        refused,
                    };
                }
                refused += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }
    using.join_all().await
}

/// Prints what came of the uses; gives the successor.
fn print(report: &mut Report, early: &[&Use], late: &[&Use]) -> Value {
    let mut statuses = BTreeMap::<u16, usize>::new();
    let mut successors = BTreeSet::new();
    let mut degraded = 0;
    for one in early {
        *statuses.entry(one.answer.status).or_default() += 1;
        if one.answer.status == 200 {
            let body = one.answer.json();
            degraded += u64::from(body["degraded"] == true);
            let parts = ["access_token", "refresh_token", "expires_at"];
            successors.insert(parts.map(|part| body[part].to_string()));
        }
    }
    let words = statuses
        .iter()
        .map(|(status, count)| format!("{count} x {status}"));
    report.figure(
        "answers within the grace",
        words.collect::<Vec<_>>().join(", "),
    );
    report.figure("answers after it, which may be either", late.len());
    let refused = early.iter().map(|one| one.refused).sum::<u64>();
    report.figure("came again because there was no room", refused);
    let last = early.iter().map(|one| one.ended).max().unwrap_or_default();
    report.figure("until the last answer, ms", last.as_millis());
    let good = statuses.get(&200).copied().unwrap_or(0);
    let holds = good == early.len() && good > 0;
    let seen = format!("{good} of {}", early.len());
    report.claim("every use within the grace is good", holds, seen);
    report.none("of these degraded", degraded, "");
    let holds = successors.len() == 1;
    let what = "all have the same successor, byte for byte";
    report.claim(what, holds, format!("{} successors", successors.len()));
    let first = early.iter().find(|one| one.answer.status == 200);
    first.map_or(Value::Null, |one| one.answer.json())
}

/// The session is revoked on every host: both successors, and whatever else it has.
async fn theft(report: &mut Report, hosts: &[Host], successor: &Value) {
    for host in hosts {
        let access = successor["access_token"].as_str().unwrap_or_default();
        let refused = eventually("the session is revoked", async || {
            let call = host.get(Service::Session, "/api/v1/session/validate");
            let answer = call.bearer(access).send().await;
            match answer.status == 401 && answer.json()["error"] == "token_revoked" {
                true => Ok(answer.status),
                false => Err(answer.text()),
            }
        })
        .await;
        let next = successor["refresh_token"].as_str().unwrap_or_default();
        let answer = refresh(host, next).await;
        let holds = refused == 401 && answer.status == 401;
        let seen = format!("access {refused}, refresh {}", answer.status);
        report.claim("after it the successors are refused", holds, seen);
    }
}

async fn refresh(host: &Host, token: &str) -> Answer {
    let call = host.post(Service::Jwt, "/api/v1/jwt/refresh");
    call.json(&json!({"refresh_token": token})).send().await
}
