//! SIGKILL under load, and the start after it: how long until every port answers, and
//! whether what was promised before the kill still holds.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Settings;
use crate::host::{Host, Service};
use crate::measure::link::first_right;
use crate::measure::load::Load;
use crate::measure::report::{median, worst};
use crate::measure::{Report, mix};
use crate::tokens::User;

/// Requests a second.
const RATE: u32 = 500;

/// How long a start may take before it counts as hanging.
const START: Duration = Duration::from_secs(60);

/// What the host promised before a kill.
struct Promise {
    user: User,
    /// Opens a fallback session.
    secret: String,
    /// Was revoked.
    revoked: String,
}

pub(super) async fn run(settings: &Settings, report: &mut Report) {
    let rounds = settings.pick(10, 2);
    report.part("crash", &format!("{rounds} times SIGKILL under load"));
    let mut host = Host::builder().env("LOG_LEVEL", "WARNING").start().await;
    let load = Load::start(RATE, mix::shipped(&host));
    let mut promises = Vec::new();
    let mut answering = Vec::new();
    let (mut lost, mut broken) = (load.measure(Duration::from_secs(1)).await, Vec::new());
    for round in 0..rounds {
        promises.push(Promise::made(&host, round).await);
        lost.add(&load.window());
        host.kill().await;
        let begun = Instant::now();
        host.launch();
        all_answer(&host, begun).await;
        answering.push(begun.elapsed().as_secs_f64() * 1e3);
        for promise in &promises {
            broken.extend(promise.broken(&host).await);
        }
        // Requests of the dead time have failed; what is due from now on must not.
        tokio::time::sleep(Duration::from_secs(1)).await;
        lost.add(&load.measure(Duration::from_millis(500)).await);
    }
    drop(load);
    report.figure("requests a second, five ports", RATE);
    report.figure("from the start to five good answers", times(&answering));
    let answered = answering.len();
    let seen = format!("{answered} of {rounds}");
    let what = "after each kill every port answers";
    report.claim(what, answered == rounds as usize, seen);
    report.figure("requests before kills and after starts", lost.sent());
    report.none("of these lost", lost.losses(), lost.why());
    let first = broken.first().cloned().unwrap_or_default();
    let count = broken.len() as u64;
    report.figure("fallback sessions and revocations kept", promises.len());
    report.none("promises broken", count, first);
}

/// Median and worst of a few times in milliseconds.
pub(super) fn times(times: &[f64]) -> String {
    let (middle, longest) = (median(times), worst(times));
    format!("median {middle:.0} ms, worst {longest:.0} ms")
}

/// Waits until every service gives its right answer.
async fn all_answer(host: &Host, begun: Instant) {
    let mut asking = tokio::task::JoinSet::new();
    for service in Service::ALL {
        let shot = mix::first(&host.tokens, service);
        let port = host.port(service);
        asking.spawn(async move { (service, first_right(port, &shot, START).await) });
    }
    for (service, answer) in asking.join_all().await {
        let waited = begun.elapsed();
        answer.unwrap_or_else(|loss| panic!("{}: {loss:?} after {waited:?}", service.name()));
    }
}

impl Promise {
    /// Has a fallback session made and a session revoked.
    async fn made(host: &Host, round: u32) -> Self {
        let user = User::new(9_000 + round);
        let create = host.post(Service::Fallback, "/api/v1/fallback/create");
        let create = create.bearer(&host.tokens.access(&user)).json(&json!({}));
        let made = create.send().await.expect(201).json();
        let secret = made["fallback_token"].as_str().expect("a token").to_owned();
        let revoked = host.tokens.access(&User::new(9_500 + round));
        let logout = host.post(Service::Coordinator, "/api/v1/auth/logout");
        let logout = logout.cookie("access_token", &revoked).send();
        logout.await.expect(204);
        Self {
            user,
            secret,
            revoked,
        }
    }

    /// What does not hold any more.
    async fn broken(&self, host: &Host) -> Vec<String> {
        let mut broken = Vec::new();
        let body = json!({"fallback_token": self.secret});
        let validate = host.post(Service::Fallback, "/api/v1/fallback/validate");
        let answer = validate.json(&body).send().await;
        let session = answer.json();
        if session["valid"] != true || session["user_id"] != self.user.id {
            broken.push(format!("fallback session: {session}"));
        }
        let validate = host.get(Service::Session, "/api/v1/session/validate");
        let answer = validate.bearer(&self.revoked).send().await;
        if answer.status != 401 || answer.json()["error"] != "token_revoked" {
            broken.push(format!("revocation: {} {}", answer.status, answer.text()));
        }
        broken
    }
}
