//! One fault of Redis under load on three ports: what the callers get, how long it takes,
//! what is kept, and whether a revoked token is accepted again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::barred::Barred;
use super::fault::{Kind, Rig};
use super::made::{self, Calls, Found, Made};
use super::watch::{LOOKED_AT, Watch};
use crate::host::{Host, Service};
use crate::measure::Length;
use crate::measure::load::Load;
use crate::measure::report::ms;
use crate::measure::tally::Window;
use crate::measure::{Report, mix};
use crate::tokens::User;
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

/// When the answers of each service did something.
type Times = Vec<(Service, Option<Duration>)>;

/// All that stands when the fault begins.
struct Bench {
    kind: Kind,
    length: Length,
    rig: Rig,
    host: Host,
    watch: Watch,
    barred: Barred,
    calls: Calls,
    early: Vec<User>,
    /// Until a little after the end.
    load: Option<Load>,
    /// What the load saw before.
    window: Window,
}

/// What was seen while it lasted.
struct During {
    opened: Option<Duration>,
    degraded: Times,
    moves: usize,
    turns: usize,
    lasted: Duration,
    made: Made,
    /// Until the breaker was open and a little longer.
    opening: Window,
    rest: Window,
}

/// What was seen after its end.
struct After {
    recovered: bool,
    well: Times,
    early: usize,
    found: Found,
    window: Window,
}

pub(super) async fn run(kind: Kind, length: Length, report: &mut Report) {
    let lasts = kind.lasts(length);
    report.part(kind.name(), &format!("{}, {lasts:?}", kind.title()));
    let mut bench = Bench::set_up(kind, length).await;
    let during = bench.during().await;
    let after = bench.after(&during.made).await;
    bench.print(report, &during, &after);
    bench.set_again(report).await;
    let revoked = bench.barred.len();
    let count = bench.barred.end(&bench.host).await;
    report.figure("revoked tokens, before and meanwhile", revoked);
    report.figure("questions about them, three ports", count.asked);
    let first = &count.first;
    report.none("revoked tokens accepted again", count.accepted, first);
    report.none("other wrong answers about them", count.odd, first);
}

impl Bench {
    async fn set_up(kind: Kind, length: Length) -> Self {
        let rig = Rig::new(kind).await;
        let host = Host::builder()
            .env("REDIS_URL", rig.url())
            .env("LOG_LEVEL", "WARNING")
            .start()
            .await;
        let watch = Watch::start(&host);
        assert!(well(&watch).await, "the host is well before");
        let calls = Calls::of(&host);
        let early = Made::before(&calls, EARLY).await;
        let barred = Barred::start(&host);
        barred.revoke(&host, 20_000, REVOKED).await;
        let load = Load::wide(CONNECTIONS, RATE, mix::of(&host, &LOOKED_AT));
        tokio::time::sleep(SETTLES).await;
        let window = load.measure(aside(kind, length)).await;
        Self {
            kind,
            length,
            rig,
            host,
            watch,
            barred,
            calls,
            early,
            load: Some(load),
            window,
        }
    }

    /// The fault, from its beginning until just before its end.
    async fn during(&mut self) -> During {
        let lasts = self.kind.lasts(self.length);
        let begun = Instant::now();
        self.rig.begin().await;
        let stop = Arc::new(AtomicBool::new(false));
        let made = Made::until(Arc::clone(&stop), self.calls.clone(), lasts);
        let wait = self.kind.makes_after(lasts) + STARTING;
        let making = tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            made.await
        });
        while self.watch.opened_after(begun).is_none() && begun.elapsed() < lasts / 4 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let opened = self.watch.opened_after(begun);
        tokio::time::sleep(AFTER).await;
        let opening = self.seen_by_load();
        self.barred.revoke(&self.host, 30_000, REVOKED).await;
        sleep_until(begun + lasts / 2).await;
        self.rig.half();
        sleep_until(begun + lasts).await;
        let (moves, turns) = (self.watch.moves(begun), self.watch.turns(begun));
        stop.store(true, Ordering::Relaxed);
        During {
            opened,
            degraded: self.watch.degraded_after(begun),
            moves,
            turns,
            made: making.await.expect("sessions are made to the end"),
            lasted: begun.elapsed(),
            opening,
            rest: self.seen_by_load(),
        }
    }

    fn seen_by_load(&self) -> Window {
        self.load.as_ref().map_or_else(Window::empty, Load::window)
    }

    /// Its end, and what there is then of what was made meanwhile.
    async fn after(&mut self, made: &Made) -> After {
        self.rig.end().await;
        let back = Instant::now();
        let recovered = well(&self.watch).await;
        let times = self.watch.well_after(back);
        tokio::time::sleep(aside(self.kind, self.length)).await;
        let window = self.load.take().map(Load::stop);
        if !recovered {
            self.host.kill().await;
            self.host.start_again().await;
            well(&self.watch).await;
        }
        // Without a lost connection they are carried over every half minute only.
        if self.kind.is_outage() || self.length != Length::Quick {
            carried(&self.host).await;
        }
        After {
            recovered,
            well: times,
            early: made::emergency(&self.rig.redis, &self.early).await,
            found: made.found(&self.calls, &self.rig.redis).await,
            window: window.unwrap_or_else(Window::empty),
        }
    }

    fn print(&self, report: &mut Report, during: &During, after: &After) {
        report.figure("requests a second, three ports", RATE);
        let degraded = each(&during.degraded);
        report.figure("until the first degraded answer, ms", degraded);
        report.figure("until the breaker was open, ms", millis(during.opened));
        let well = each(&after.well);
        report.figure("from the return to the last degraded answer", well);
        let seen = match after.recovered {
            true => "",
            false => "not until it is started anew",
        };
        let what = "the host finds Redis again by itself";
        report.claim(what, after.recovered, seen);
        let (moves, minutes) = (during.moves, during.lasted.as_secs_f64() / 60.0);
        let moves = format!("{moves} ({:.1} a minute)", moves as f64 / minutes);
        report.figure("moves of the breaker that were seen", moves);
        let turns = during.turns;
        report.figure("changes to or from degraded, three ports", turns);
        let log = self.host.log();
        let about = |line: &&str| line.contains("lockgate::store::redis");
        let lines = log.lines().filter(about).count();
        report.figure("warnings about Redis in the log", lines);
        print_windows(report, &self.window, during, &after.window);
        self.print_made(report, &during.made, after);
        let (what, seen) = (
            "older emergency sessions in Redis after",
            format!("{} of {EARLY}", after.early),
        );
        if self.kind.is_outage() {
            report.claim(what, after.early == EARLY as usize, seen);
        } else {
            report.figure(what, seen);
        }
    }

    fn print_made(&self, report: &mut Report, made: &Made, after: &After) {
        let found = &after.found;
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
        if self.kind.is_outage() {
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
    async fn set_again(&self, report: &mut Report) {
        let (kind, length) = (self.kind, self.length);
        let keys = self.barred.keys();
        let missing = keys.len() - self.rig.redis.count(&keys).await;
        report.figure("keys of revocations that Redis has not", missing);
        // Without a lost connection they are set again every half minute only.
        if !kind.forgets() || (kind == Kind::Full && length == Length::Quick) {
            return;
        }
        let begun = Instant::now();
        let mut count = self.rig.redis.count(&keys).await;
        while count < keys.len() && begun.elapsed() < GUARD {
            tokio::time::sleep(Duration::from_millis(100)).await;
            count = self.rig.redis.count(&keys).await;
        }
        let seen = format!("{count} of {}", keys.len());
        report.claim(
            "revocations are set again in Redis",
            count == keys.len(),
            seen,
        );
    }
}

/// How long the load is looked at before and after.
fn aside(kind: Kind, length: Length) -> Duration {
    let share = kind.lasts(length) / 6;
    length.pick(SETTLES, share, share)
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
fn each(times: &Times) -> String {
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

fn print_windows(report: &mut Report, before: &Window, seen: &During, after: &Window) {
    let mut during = seen.opening.clone();
    during.add(&seen.rest);
    let row = |name: &str, window: &Window| {
        let all = window.all();
        let mut row = vec![name.to_owned(), all.count.to_string()];
        row.extend([all.p50, all.p99, all.max].map(ms));
        row.push(window.above(TIMEOUT).to_string());
        row
    };
    let rows = [
        row("before", before),
        row("until the breaker is open", &seen.opening),
        row("during", &during),
        row("after", after),
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
    let mut all = before.clone();
    all.add(&during);
    all.add(after);
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
