//! Tokens that are guessed at the emergency login, from one address and from many: how
//! many are judged, how many are refused unjudged, and what the session check beside it
//! feels.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hyper::header::HeaderName;
use serde_json::json;

use crate::host::{Host, Service};
use crate::measure::Length;
use crate::measure::link::{Link, Shot};
use crate::measure::load::Load;
use crate::measure::tally::Window;
use crate::measure::{Report, mix};
use crate::tokens::{Tokens, User};

/// Failures a minute from one address.
const LIMIT: u64 = 10;
/// Clients that guess at the same time.
const CLIENTS: u64 = 8;
/// Guesses a second.
const GUESSES: u64 = 1_000;
/// Requests a second to the session check.
const RATE: u32 = 200;

const PATH: &str = "/api/v1/fallback/emergency-auth";
const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What came of the guesses from some addresses.
struct Course {
    addresses: u64,
    statuses: BTreeMap<u16, u64>,
    took: Duration,
    beside: Window,
}

pub(super) async fn run(length: Length, report: &mut Report) {
    let guesses = length.pick(2_000, 10_000, 10_000);
    let title = format!("{guesses} tokens guessed at the emergency login, {GUESSES} a second");
    report.part("guesses", &title);
    let host = Host::builder()
        .env("TRUSTED_PROXIES", "127.0.0.0/8")
        .env("FALLBACK_RATE_LIMIT", LIMIT.to_string())
        .env("LOG_LEVEL", "ERROR")
        .start()
        .await;
    let load = Load::start(RATE, mix::of(&host, &[Service::Session]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let alone = load.measure(Duration::from_secs(length.pick(2, 10, 30)));
    let alone = alone.await;
    let mut courses = Vec::new();
    for addresses in [1, 100] {
        courses.push(guess(&host, &load, addresses, guesses).await);
    }
    let last = load.stop();
    print(report, &alone, &courses);
    let mut all = last;
    for window in courses.iter().map(|course| &course.beside).chain([&alone]) {
        all.add(window);
    }
    report.none(
        "wrong answers of the session check",
        all.losses(),
        all.why(),
    );
    let good = emergency(&host.tokens.access(&User::new(14)));
    let mut link = Link::new(host.port(Service::Fallback));
    let shot = good.header(FORWARDED, &address(1, 0));
    let seen = match link.send(&shot, "good").await {
        Ok(()) => String::new(),
        Err(loss) => format!("{loss:?}"),
    };
    let what = "a good token behind a guesser's address is accepted";
    report.claim(what, seen.is_empty(), &seen);
}

/// The address of a client: those of two courses differ.
fn address(addresses: u64, number: u64) -> String {
    format!("10.{}.0.{}", addresses, number % addresses + 1)
}

fn emergency(token: &str) -> Shot {
    Shot::post(PATH, &json!({"token": token}))
}

/// Sends all guesses, each from the next address.
async fn guess(host: &Host, load: &Load, addresses: u64, guesses: u64) -> Course {
    let stranger = Tokens::new(b"a key that the host does not have, of some length");
    let port = host.port(Service::Fallback);
    let shots: Vec<_> = (0..guesses)
        .map(|number| {
            let user = User::new(1 + number as u32);
            let shot = emergency(&stranger.access(&user));
            shot.header(FORWARDED, &address(addresses, number))
        })
        .collect();
    load.window();
    let begun = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for first in 0..CLIENTS {
        let own = shots.iter().cloned().enumerate();
        let own = own.skip(first as usize).step_by(CLIENTS as usize);
        let due = |number: usize| begun + Duration::from_secs_f64(number as f64 / GUESSES as f64);
        let own = own.map(|(number, shot)| (due(number), shot)).collect();
        clients.spawn(client(port, own));
    }
    let mut statuses = BTreeMap::new();
    for (status, count) in clients.join_all().await.into_iter().flatten() {
        *statuses.entry(status).or_default() += count;
    }
    Course {
        addresses,
        statuses,
        took: begun.elapsed(),
        beside: load.window(),
    }
}

/// One client: each guess when it is due, or after the one before it. Status 0 stands for no answer.
async fn client(port: u16, shots: Vec<(Instant, Shot)>) -> BTreeMap<u16, u64> {
    let mut link = Link::new(port);
    let mut statuses = BTreeMap::new();
    for (due, shot) in shots {
        tokio::time::sleep(due.saturating_duration_since(Instant::now())).await;
        let answer = link.exchange(&shot, "guess").await;
        let status = answer.map_or(0, |answer| answer.status);
        *statuses.entry(status).or_default() += 1;
    }
    statuses
}

fn print(report: &mut Report, alone: &Window, courses: &[Course]) {
    let row = |course: &Course| {
        let count = |status: u16| course.statuses.get(&status).copied().unwrap_or(0);
        let seconds = course.took.as_secs_f64();
        vec![
            course.addresses.to_string(),
            count(401).to_string(),
            count(429).to_string(),
            count(200).to_string(),
            format!("{seconds:.1}"),
            format!("{:.2}", course.beside.all().p99),
        ]
    };
    let rows: Vec<_> = courses.iter().map(row).collect();
    let head = [
        "addresses",
        "judged (401)",
        "refused (429)",
        "accepted",
        "in s",
        "8026 p99 ms beside",
    ];
    report.table(&head, &rows);
    report.figure("8026 alone", alone.all());
    for course in courses {
        report.figure(
            &format!("8026 beside {} addresses", course.addresses),
            course.beside.all(),
        );
    }
    let all = |wanted: &dyn Fn(u16) -> bool| -> u64 {
        let statuses = courses.iter().flat_map(|course| &course.statuses);
        let wanted = statuses.filter(|(status, _)| wanted(**status));
        wanted.map(|(_, count)| count).sum()
    };
    report.none("guesses accepted", all(&|status| status == 200), "200");
    let other = |status| !matches!(status, 200 | 401 | 429);
    report.none("other answers than 401 and 429", all(&other), "see above");
    for course in courses {
        let judged = course.statuses.get(&401).copied().unwrap_or(0);
        // A bucket is full at first and fills evenly.
        let minutes = course.took.as_secs_f64() / 60.0;
        let most = course.addresses * (LIMIT + (LIMIT as f64 * minutes).ceil() as u64 + 1);
        let what = format!(
            "judged from {} addresses: no more than allowed",
            course.addresses
        );
        let seen = format!("{judged}, at most {most}");
        report.claim(&what, judged <= most, seen);
    }
}
