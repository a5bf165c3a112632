//! SIGKILL at random points while emergency sessions are made and Redis is away: whether
//! each that was acknowledged is there after the start, and whether the file opens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::host::{Host, Service};
use crate::http::{Call, client};
use crate::measure::Length;
use crate::measure::Report;
use crate::measure::report::{median, worst};
use crate::tokens::{Tokens, User};

/// Users who make their sessions at the same time.
const CLIENTS: u32 = 4;
/// The host lives so long at most once sessions are made, milliseconds.
const LIVES: u64 = 200;

/// Most sessions that one client makes: those of two lives have room in a host, which
/// keeps a thousand.
const MOST: u32 = 120;

/// A session that was acknowledged: its user and the token that opens it.
type Kept = (u32, String);

pub(super) async fn run(length: Length, report: &mut Report) {
    let rounds = length.pick(10, 200, 1_000);
    let title = format!("{rounds} times SIGKILL while emergency sessions are made");
    report.part("crash", &title);
    let mut host = Host::builder().env("LOG_LEVEL", "WARNING").prepare();
    let away = format!("redis://lwe-app:x@127.0.0.1:{}", host.spare_port(0));
    host.set_env("REDIS_URL", away);
    host.start_again().await;
    let (mut lost, mut acknowledged, mut twice) = (Vec::new(), 0, Vec::new());
    let mut starts = Vec::new();
    for round in 0..rounds {
        let made = one(&mut host, round).await;
        acknowledged += made.len();
        let begun = Instant::now();
        host.start_again().await;
        starts.push(begun.elapsed().as_secs_f64() * 1e3);
        // What the life before has seen must outlive this kill too.
        for kept in twice.iter().chain(&made) {
            if let Err(answer) = opens(&host, kept).await {
                lost.push(format!("round {round}, user {}: {answer}", kept.0));
            }
        }
        twice = made;
    }
    let starting = format!(
        "median {:.0} ms, worst {:.0} ms",
        median(&starts),
        worst(&starts)
    );
    report.figure("from the start to readiness", starting);
    report.figure("emergency sessions acknowledged", acknowledged);
    let first = lost.first().cloned().unwrap_or_default();
    report.none("of these lost", lost.len() as u64, first);
    let aside = set_aside(&host);
    let first = aside.first().cloned().unwrap_or_default();
    report.none("files that did not open", aside.len() as u64, first);
}

/// Has sessions made until the host is killed; gives the acknowledged ones.
async fn one(host: &mut Host, round: u32) -> Vec<Kept> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut makers = tokio::task::JoinSet::new();
    for client_number in 0..CLIENTS {
        // No user twice: an answer that was cut off may have replaced a session.
        let first = 100_000 + (round * CLIENTS + client_number) * 1_000;
        let call = host.post(Service::Fallback, "/api/v1/fallback/create");
        let call = call.over(&client());
        makers.spawn(make(call, host.tokens.clone(), first, Arc::clone(&stop)));
    }
    let lives = Duration::from_micros(rand::random_range(1..LIVES * 1_000));
    tokio::time::sleep(lives).await;
    host.kill().await;
    stop.store(true, Ordering::Relaxed);
    makers.join_all().await.into_iter().flatten().collect()
}

/// One session after the other, until the host is gone.
async fn make(call: Call, tokens: Tokens, first: u32, stop: Arc<AtomicBool>) -> Vec<Kept> {
    let mut made = Vec::new();
    for id in first..first + MOST {
        let call = call.clone().bearer(&tokens.access(&User::new(id)));
        match call.try_send().await {
            Ok(answer) => {
                let body = answer.expect(201).json();
                let token = body["fallback_token"].as_str().expect("a token");
                made.push((id, token.to_owned()));
            }
            Err(_) => break,
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    made
}

async fn opens(host: &Host, (user, token): &Kept) -> Result<(), String> {
    let call = host.post(Service::Fallback, "/api/v1/fallback/validate");
    let answer = call.json(&json!({"fallback_token": token})).send().await;
    let body = answer.json();
    match body["valid"] == true && body["user_id"] == *user {
        true => Ok(()),
        false => Err(answer.text()),
    }
}

/// Files that the host has set aside because it could not open them.
fn set_aside(host: &Host) -> Vec<String> {
    let files = std::fs::read_dir(host.data_dir()).expect("list the data folder");
    let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    names.filter(|name| name.contains(".damaged-")).collect()
}
