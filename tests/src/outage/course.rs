//! One fault of Redis under load on three ports: what the callers get, how long it takes,
//! what is kept, and whether a revoked token is accepted again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Length;
use super::barred::Barred;
use super::fault::{Kind, Rig};
use super::made::{self, Calls, Found, Made};
use super::watch::{LOOKED_AT, Watch};
use crate::host::{Host, Service};
use crate::measure::load::Load;
use crate::measure::report::ms;
use crate::measure::tally::Window;
use crate::measure::{Report, mix};
use crate::wait::{GUARD, eventually};

/// Requests a second, over three ports.
const RATE: u32 = 300;
/// Connections to each port: as many users, so that none waits for another.
const CONNECTIONS: usize = 64;
/// Revoked before the fault, and while it lasts.
const REVOKED: u32 = 30;
/// A request that took longer, in milliseconds, has waited for Redis in vain.
const TIMEOUT: u64 = 100;
/// What is under way when the breaker opens has ended after this long.
const AFTER: Duration = Duration::from_millis(500);

/// The load is steady after this long.
const SETTLES: Duration = Duration::from_millis(500);
/// Emergency sessions that are there before the fault.
const EARLY: u32 = 20;
/// A kill takes a moment to be felt: sessions are made after it.
const STARTING: Duration = Duration::from_millis(100);
/// A host that is degraded so long after the end of a fault stays so.
const RECOVERY: Duration = Duration::from_secs(30);

/// What the load saw.
struct Windows {
    before: Window,
    /// Until the breaker was open and a little longer.
    opening: Window,
    during: Window,
    after: Window,
}

pub(super) async fn run(kind: Kind, length: Length, report: &mut Report) {
    let lasts = kind.lasts(length);
    report.part(kind.name(), &format!("{}, {lasts:?}", kind.title()));
    let mut rig = Rig::new(kind).await;
    let mut host = Host::builder()
        .env("REDIS_URL", rig.url())
        .env("LOG_LEVEL", "WARNING")
        .start()
        .await;
    let watch = Watch::start(&host);
    assert!(well(&watch).await, "the host is well before");
    let calls = Calls::of(&host);
    let barred = Barred::start(&host);
    let early = Made::before(&calls, EARLY).await;
    barred.revoke(&host, 20_000, REVOKED).await;
    let load = Load::wide(CONNECTIONS, RATE, mix::of(&host, &LOOKED_AT));
    tokio::time::sleep(SETTLES).await;
    let before = load.measure(length.pick(SETTLES, lasts / 6, lasts / 6));
    let before = before.await;

    let begun = Instant::now();
    rig.begin().await;
    let stop = Arc::new(AtomicBool::new(false));
    let made = Made::until(Arc::clone(&stop), calls.clone(), lasts);
    let wait = kind.makes_after(lasts);
    let making = tokio::spawn(async move {
        tokio::time::sleep(wait + STARTING).await;
        made.await
    });
    while watch.opened_after(begun).is_none() && begun.elapsed() < lasts / 4 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let opened = watch.opened_after(begun);
    tokio::time::sleep(AFTER).await;
    let opening = load.window();
    barred.revoke(&host, 30_000, REVOKED).await;
    sleep_until(begun + lasts / 2).await;
    rig.half();
    sleep_until(begun + lasts).await;
    let (moves, turns) = (watch.moves(begun), watch.turns(begun));
    stop.store(true, Ordering::Relaxed);
    let made = making.await.expect("sessions are made to the end");
    let during = load.window();
    let degraded = watch.degraded_after(begun);
    let lasted = begun.elapsed();

    rig.end().await;
    let back = Instant::now();
    let recovered = well(&watch).await;
    let again = watch.well_after(back);
    tokio::time::sleep(length.pick(SETTLES, lasts / 6, lasts / 6)).await;
    let after = load.stop();
    if !recovered {
        host.kill().await;
        host.start_again().await;
        well(&watch).await;
    }
    // Without a lost connection they are carried over every half minute only.
    if kind.is_outage() || length != Length::Quick {
        carried(&host).await;
    }
    let early_there = made::emergency(&rig.redis, &early).await;
    let found = made.found(&calls, &rig.redis).await;

    let windows = Windows {
        before,
        opening,
        during,
        after,
    };
    report.figure("requests a second, three ports", RATE);
    let times = |times: &[(Service, Option<Duration>)]| each(times);
    report.figure("until the first degraded answer, ms", times(&degraded));
    report.figure("until the breaker was open, ms", millis(opened));
    report.figure("from the return to the last degraded answer", times(&again));
    let minutes = lasted.as_secs_f64() / 60.0;
    let each_minute = format!("{moves} ({:.1} a minute)", moves as f64 / minutes);
    let seen = match recovered {
        true => "",
        false => "not until it is started anew",
    };
    report.claim("the host finds Redis again by itself", recovered, seen);
    report.figure("moves of the breaker that were seen", each_minute);
    report.figure("changes to or from degraded, three ports", turns);
    let log = host.log();
    let lines = log
        .lines()
        .filter(|line| line.contains("lockgate::store::redis"));
    report.figure("warnings about Redis in the log", lines.count());
    print_windows(report, &windows);
    print_made(report, kind, recovered, &made, &found);
    let seen = format!("{early_there} of {EARLY}");
    report.figure("older emergency sessions in Redis after", seen);
    set_again(report, kind, length, &barred, &rig).await;
    let revoked = barred.len();
    let count = barred.end(&host).await;
    report.figure("revoked tokens, before and meanwhile", revoked);
    report.figure("questions about them, three ports", count.asked);
    report.none(
        "revoked tokens accepted again",
        count.accepted,
        &count.first,
    );
    report.none("other wrong answers about them", count.odd, &count.first);
}

async fn sleep_until(time: Instant) {
    tokio::time::sleep(time.saturating_duration_since(Instant::now())).await;
}

/// Waits until no answer says degraded; false if that does not happen.
async fn well(watch: &Watch) -> bool {
    let begun = Instant::now();
    while !watch.is_well() && begun.elapsed() < RECOVERY {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    watch.is_well()
}

/// Waits until no emergency session waits for Redis.
pub(super) async fn carried(host: &Host) {
    eventually("all emergency sessions are carried over", async || {
        let call = host.get(Service::Fallback, "/api/v1/fallback/health");
        let body = call.send().await.expect(200).json();
        match body["pending_resync"] == 0 {
            true => Ok(()),
            false => Err(body),
        }
    })
    .await;
}

fn millis(time: Option<Duration>) -> String {
    time.map_or("-".to_owned(), |time| ms(time.as_secs_f64() * 1e3))
}

/// One time for each port.
fn each(times: &[(Service, Option<Duration>)]) -> String {
    let one = |(service, time): &(Service, Option<Duration>)| {
        format!("{} {}", port(*service), millis(*time))
    };
    times.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The port that a service has in a deployment.
fn port(service: Service) -> u16 {
    let at = Service::ALL.iter().position(|other| *other == service);
    8_025 + at.unwrap_or(0) as u16
}

fn print_windows(report: &mut Report, windows: &Windows) {
    let mut during = windows.opening.clone();
    during.add(&windows.during);
    let row = |name: &str, window: &Window| {
        let all = window.all();
        let mut row = vec![name.to_owned(), all.count.to_string()];
        row.extend([all.p50, all.p99, all.max].map(ms));
        row.push(window.above(TIMEOUT).to_string());
        row
    };
    let rows = [
        row("before", &windows.before),
        row("until the breaker is open", &windows.opening),
        row("during", &during),
        row("after", &windows.after),
    ];
    let head = [
        "load",
        "requests",
        "p50 ms",
        "p99 ms",
        "worst ms",
        "over 100 ms",
    ];
    report.table(&head, &rows);
    let mut all = windows.before.clone();
    all.add(&during);
    all.add(&windows.after);
    report.figure("lateness of the generator itself", all.lag());
    report.figure("requests", all.sent());
    report.none("wrong answers", all.losses(), all.why());
    let other = all.statuses();
    report.none(
        "answers other than 200 where 200 is right",
        other,
        all.why(),
    );
}

fn print_made(report: &mut Report, kind: Kind, recovered: bool, made: &Made, found: &Found) {
    let [created, logins, validated] = made.counts();
    let row = |name: &str, there: usize, made: usize| {
        vec![name.to_owned(), made.to_string(), there.to_string()]
    };
    let rows = [
        row("emergency sessions", found.emergency, created),
        row("copies of validated sessions", found.copies, validated),
        row("records of logins", found.logins, logins),
        row("records of validated sessions", found.sessions, validated),
        row(
            "the same after the next check",
            found.sessions_then,
            validated,
        ),
    ];
    report.table(&["made meanwhile", "made", "in Redis after"], &rows);
    let first = made.failed.first().cloned().unwrap_or_default();
    report.none("sessions refused", made.failed.len() as u64, first);
    let of = |count: usize, all: usize| (count == all, format!("{count} of {all}"));
    let (holds, seen) = of(found.opened, created);
    report.claim("emergency sessions made meanwhile hold", holds, seen);
    let (holds, seen) = of(found.validated, validated);
    report.claim("sessions validated meanwhile are valid", holds, seen);
    // A host that had to be started anew has forgotten what waited for Redis.
    if kind.is_outage() && recovered {
        let (holds, seen) = of(found.emergency + found.copies, created + validated);
        report.claim("emergency sessions are carried to Redis", holds, seen);
        let (holds, seen) = of(found.logins, logins);
        report.claim("logins are carried to Redis", holds, seen);
        let (holds, seen) = of(found.sessions_then, validated);
        report.claim(
            "session records are there after the next check",
            holds,
            seen,
        );
    }
}

/// Waits until Redis has the keys of all revocations again.
async fn set_again(report: &mut Report, kind: Kind, length: Length, barred: &Barred, rig: &Rig) {
    let keys = barred.keys();
    let missing = keys.len() - rig.redis.count(&keys).await;
    report.figure("keys of revocations that Redis has not", missing);
    // Without a lost connection they are set again every half minute only.
    if !kind.forgets() || (kind == Kind::Full && length == Length::Quick) {
        return;
    }
    let begun = Instant::now();
    let mut count = rig.redis.count(&keys).await;
    while count < keys.len() && begun.elapsed() < GUARD {
        tokio::time::sleep(Duration::from_millis(100)).await;
        count = rig.redis.count(&keys).await;
    }
    let seen = format!("{count} of {}", keys.len());
    report.claim(
        "revocations are set again in Redis",
        count == keys.len(),
        seen,
    );
}
