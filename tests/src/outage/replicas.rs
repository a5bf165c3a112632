//! Logins that are ended on one of three hosts: how long until the other two refuse the
//! token, with all of them on Redis and with one cut off from it.

use std::time::{Duration, Instant};

use serde_json::json;

use super::cluster::Cluster;
use crate::host::{Host, Service};
use crate::measure::Length;
use crate::measure::Report;
use crate::measure::link::{Link, Shot};
use crate::measure::report::ms;
use crate::tokens::User;

/// After so long it counts as never.
const NEVER: Duration = Duration::from_secs(60);
/// Pause between two questions.
const PAUSE: Duration = Duration::from_micros(500);

pub(super) async fn run(length: Length, report: &mut Report) {
    let count = length.pick(50, 1_000, 10_000);
    report.part(
        "replicas",
        &format!("{count} logins ended on one of three hosts"),
    );
    let cluster = Cluster::start(|host| host).await;
    let hosts: Vec<&Host> = cluster.hosts.iter().collect();
    let mut course = Course::default();
    for number in 0..count {
        // Each host in turn.
        let first = number as usize % hosts.len();
        let (at, others) = (hosts[first], without(&hosts, first));
        let user = User::new(100_000 + number);
        let token = valid_on(&hosts, &user).await;
        end(at, &user, &token, number).await;
        course.wait(&others, &token, Instant::now()).await;
    }
    course.print(report, "by the others");
    emergency(&hosts, report).await;
    apart(&cluster, length, report).await;
}

/// Logins that are ended while one host is cut off: on the others, and on itself.
async fn apart(cluster: &Cluster, length: Length, report: &mut Report) {
    let lasts = Duration::from_secs(length.pick(3, 10, 10));
    let each = length.pick(10, 100, 100);
    let hosts: Vec<&Host> = cluster.hosts.iter().collect();
    let (near, other, far) = (hosts[0], hosts[1], hosts[2]);
    let mut tokens = Vec::new();
    for number in 0..2 * each {
        let user = User::new(200_000 + number);
        tokens.push((valid_on(&hosts, &user).await, user));
    }
    cluster.cut().await;
    let cut = Instant::now();
    let mut beside = Course::default();
    for (number, (token, user)) in (0..each).zip(&tokens) {
        end(near, user, token, number).await;
        beside.wait(&[other], token, Instant::now()).await;
    }
    for (number, (token, user)) in (each..2 * each).zip(&tokens[each as usize..]) {
        end(far, user, token, number).await;
    }
    let mut link = Link::new(far.port(Service::Jwt));
    let mut unknown = 0;
    for (token, _) in &tokens[..each as usize] {
        unknown += u64::from(!refuses(&mut link, token).await);
    }
    tokio::time::sleep((cut + lasts).saturating_duration_since(Instant::now())).await;
    cluster.proxy.heal();
    let healed = Instant::now();
    let (mut there, mut back) = (Course::default(), Course::default());
    for (token, _) in &tokens[..each as usize] {
        there.wait(&[far], token, healed).await;
    }
    for (token, _) in &tokens[each as usize..] {
        back.wait(&[near, other], token, healed).await;
    }
    beside.print(report, "by the other, one cut off");
    let what = "of these accepted by the one cut off";
    report.figure(what, format!("{unknown} of {each}"));
    there.print(report, "by the one cut off, once back");
    back.print(report, "by the others, ended on the one cut off");
}

/// How soon an emergency session that was made on one host opens on the others.
async fn emergency(hosts: &[&Host], report: &mut Report) {
    let (mut opened, mut asked, mut worst) = (0, 0, Duration::ZERO);
    for (number, host) in (0_u32..).zip(hosts) {
        let token = host.tokens.access(&User::new(300_000 + number));
        let call = host.post(Service::Fallback, "/api/v1/fallback/create");
        let made = call.bearer(&token).send().await.expect(201).json();
        let begin = Instant::now();
        let body = json!({"fallback_token": made["fallback_token"]});
        for other in without(hosts, number as usize) {
            asked += 1;
            while begin.elapsed() < NEVER {
                let call = other.post(Service::Fallback, "/api/v1/fallback/validate");
                let answer = call.json(&body).send().await.expect(200).json();
                if answer["valid"] == true {
                    opened += 1;
                    worst = worst.max(begin.elapsed());
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    let seen = format!(
        "{opened} of {asked}, {} at worst",
        ms(worst.as_secs_f64() * 1_000.0)
    );
    report.claim(
        "emergency sessions of one host open on the others",
        opened == asked,
        seen,
    );
}

fn without<'a>(hosts: &[&'a Host], left_out: usize) -> Vec<&'a Host> {
    let hosts = hosts.iter().enumerate();
    hosts
        .filter(|(at, _)| *at != left_out)
        .map(|(_, host)| *host)
        .collect()
}

/// A token that every host has accepted: what they keep of it is warm.
pub(super) async fn valid_on(hosts: &[&Host], user: &User) -> String {
    let token = hosts[0].tokens.access(user);
    for host in hosts {
        let call = host.get(Service::Session, "/api/v1/session/validate");
        let answer = call.bearer(&token).send().await;
        assert_eq!(answer.expect(200).json()["valid"], true);
        let call = host.get(Service::Jwt, "/api/v1/auth/verify-token");
        call.bearer(&token).send().await.expect(200);
    }
    token
}

/// Ends a login by logout or by an event.
pub(super) async fn end(host: &Host, user: &User, token: &str, number: u32) {
    if number.is_multiple_of(2) {
        let call = host.post(Service::Coordinator, "/api/v1/auth/logout");
        call.bearer(token).send().await.expect(204);
        return;
    }
    let event = json!({
        "user_id": user.id, "email": user.email, "event_type": "logout", "source": "api",
        "session_id": user.session_id,
    });
    let call = host.post(Service::Coordinator, "/api/v1/coordinator/sync-auth");
    call.bearer(token).json(&event).send().await.expect(200);
}

/// Does this host refuse the token now?
async fn refuses(link: &mut Link, token: &str) -> bool {
    let shot = Shot::get("/api/v1/auth/verify-token").bearer(token);
    let shot = shot.status(401).holds("token_revoked");
    link.send(&shot, "replicas").await.is_ok()
}

/// How long hosts took to refuse.
#[derive(Default)]
pub(super) struct Course {
    times: Vec<f64>,
    never: u64,
    /// Hosts that accepted a token again that they had refused.
    again: u64,
}

impl Course {
    /// Asks the hosts until each refuses.
    pub(super) async fn wait(&mut self, hosts: &[&Host], token: &str, since: Instant) {
        for host in hosts {
            self.wait_for(host.port(Service::Jwt), token, since, PAUSE)
                .await;
        }
    }

    /// Asks one host, by the port of its token adapter.
    pub(super) async fn wait_for(
        &mut self,
        port: u16,
        token: &str,
        since: Instant,
        pause: Duration,
    ) {
        let mut link = Link::new(port);
        let mut refused = refuses(&mut link, token).await;
        while !refused && since.elapsed() < NEVER {
            tokio::time::sleep(pause).await;
            refused = refuses(&mut link, token).await;
        }
        match refused {
            true => self.times.push(since.elapsed().as_secs_f64() * 1e3),
            false => self.never += 1,
        }
        self.again += u64::from(refused && !refuses(&mut link, token).await);
    }

    /// Takes what another one saw into this one.
    pub(super) fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.never += other.never;
        self.again += other.again;
    }

    pub(super) fn print(&self, report: &mut Report, name: &str) {
        let mut times = self.times.clone();
        times.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let last = times.len().saturating_sub(1);
            let place = (last as f64 * share).round() as usize;
            ms(times.get(place).copied().unwrap_or(0.0))
        };
        let [p50, p99, worst] = [0.5, 0.99, 1.0].map(at);
        report.figure(
            &format!("refused {name}, ms"),
            format!(
                "p50 {p50}, p99 {p99}, worst {worst} ({} answers)",
                times.len()
            ),
        );
        report.none(&format!("never refused {name}"), self.never, "");
        report.none(&format!("accepted again {name}"), self.again, "");
    }
}
