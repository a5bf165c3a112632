//! A component that misbehaves in every way beside four services that must not notice:
//! what its callers get, and the others' latency with the attack and without it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::Settings;
use super::behaviours::{self, Behaviour, LOOP};
use crate::bad_files::PROBED;
use crate::component::{self, Probe, version_text};
use crate::host::Host;
use crate::measure::link::{Answer, Link, Loss, Shot, first_right};
use crate::measure::load::Load;
use crate::measure::observe::Process;
use crate::measure::report::ms;
use crate::measure::tally::Window;
use crate::measure::{Report, mix};
use crate::metrics::Metrics;

/// Requests a second to the other four services.
const RATE: u32 = 400;

/// Callers of the component at once.
const CALLERS: usize = 4;

/// Callers at once of the last attack.
const MANY: usize = 20;

/// So many that every call really runs.
const NO_QUARANTINE: &str = "[quarantine]\ntimeouts = 1000000";

pub(super) async fn run(settings: &Settings, report: &mut Report) {
    report.part("hostile", "a component that misbehaves beside four others");
    everything(settings, report).await;
    quarantine(settings, report).await;
}

async fn host(config: &str) -> Host {
    let folder = component::folder();
    Host::builder()
        .plugin(PROBED, Probe::version(1).file(folder.path()))
        .config(config)
        .env("LOG_LEVEL", "WARNING")
        .start()
        .await
}

/// What the callers of an attack got.
#[derive(Default)]
struct Attack {
    statuses: BTreeMap<u16, u64>,
    resting: u64,
    wrong: Vec<String>,
    lost: Vec<Loss>,
}

impl Attack {
    fn note(&mut self, behaviour: &Behaviour, answer: Result<Answer, Loss>) {
        match answer {
            Ok(answer) => {
                *self.statuses.entry(answer.status).or_default() += 1;
                self.resting += u64::from(answer.text().contains("resting"));
                if !behaviour.allows(&answer) {
                    let (status, length) = (answer.status, answer.body.len());
                    let what = format!("{}: {status}, {length} bytes", behaviour.name);
                    self.wrong.push(what);
                }
            }
            Err(loss) => self.lost.push(loss),
        }
    }

    fn add(&mut self, other: Self) {
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.resting += other.resting;
        self.wrong.extend(other.wrong);
        self.lost.extend(other.lost);
    }

    fn answers(&self) -> String {
        let counts = self.statuses.iter();
        let counts = counts.map(|(status, count)| format!("{status} x {count}"));
        counts.collect::<Vec<_>>().join(", ")
    }
}

/// How hard a behaviour is called.
#[derive(Debug, Clone, Copy)]
struct Force {
    /// At least so many calls.
    times: usize,
    /// For at least so long, or there is nothing to compare.
    least: Duration,
    /// At once.
    callers: usize,
}

/// Calls a behaviour with some force.
async fn attack(host: &Host, behaviour: &Behaviour, force: Force) -> Attack {
    let begun = Instant::now();
    let called = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..force.callers {
        let (called, behaviour, port) = (Arc::clone(&called), behaviour.clone(), host.port(PROBED));
        tasks.spawn(async move {
            let (mut link, mut attack) = (Link::new(port), Attack::default());
            while called.fetch_add(1, Ordering::Relaxed) < force.times
                || begun.elapsed() < force.least
            {
                let answer = link.exchange(&behaviour.shot, "attack").await;
                attack.note(&behaviour, answer);
            }
            attack
        });
    }
    let mut all = Attack::default();
    for one in tasks.join_all().await {
        all.add(one);
    }
    all
}

/// The windows with an attack and those without, all in all.
struct Beside {
    quiet: Window,
    attacked: Window,
    answers: Attack,
    dead: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

async fn everything(settings: &Settings, report: &mut Report) {
    let mut host = host(NO_QUARANTINE).await;
    let load = Load::start(RATE, mix::without(&host, PROBED));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let pause = settings.pick(Duration::from_secs(3), Duration::from_millis(400));
    let mut beside = Beside {
        quiet: Window::empty(),
        attacked: Window::empty(),
        answers: Attack::default(),
        dead: Vec::new(),
        rows: Vec::new(),
    };
    let mut before = load.measure(pause).await;
    for behaviour in behaviours::all() {
        let force = Force {
            times: match behaviour.slow {
                true => settings.pick(50, 4),
                false => settings.pick(1_000, 30),
            },
            least: pause,
            callers: CALLERS,
        };
        before = beside.one(&host, &load, before, &behaviour, force).await;
        if behaviour.name == LOOP {
            let mut many = behaviour;
            many.name = "endless loop, 20 callers";
            let force = Force {
                times: MANY * settings.pick(5, 1),
                callers: MANY,
                ..force
            };
            before = beside.one(&host, &load, before, &many, force).await;
        }
    }
    beside.attacked.add(&load.stop());
    print(report, &beside);
    report.claim("the host survives", host.is_running(), "");
    report.figure("peak resident kB", Process::now(host.pid()).peak);
}

impl Beside {
    /// One attack between two quiet windows; gives the second one.
    async fn one(
        &mut self,
        host: &Host,
        load: &Load,
        before: Window,
        behaviour: &Behaviour,
        force: Force,
    ) -> Window {
        load.window();
        let begun = Instant::now();
        let attack = attack(host, behaviour, force).await;
        let took = begun.elapsed();
        let attacked = load.window();
        let version = Shot::get("/version").holds(&version_text(1));
        let guard = Duration::from_secs(10);
        if first_right(host.port(PROBED), &version, guard)
            .await
            .is_err()
        {
            self.dead.push(behaviour.name);
        }
        let after = load.measure(force.least).await;
        let mut quiet = before;
        quiet.add(&after);
        let mut row = vec![
            behaviour.name.to_owned(),
            attack.answers(),
            format!("{:.1}", took.as_secs_f64()),
        ];
        row.extend(compared(&quiet, &attacked));
        self.rows.push(row);
        self.quiet.add(&after);
        self.attacked.add(&attacked);
        self.answers.add(attack);
        after
    }
}

/// Median and p99 without and with, and what the attack adds to p99.
fn compared(quiet: &Window, attacked: &Window) -> [String; 6] {
    let (quiet, attacked) = (quiet.all(), attacked.all());
    [
        ms(quiet.p50),
        ms(attacked.p50),
        ms(quiet.p99),
        ms(attacked.p99),
        format!("{:.2}", attacked.p99 / quiet.p99),
        format!("{:+.2}", attacked.p99 - quiet.p99),
    ]
}

fn print(report: &mut Report, beside: &Beside) {
    report.figure("requests a second to the other four", RATE);
    report.figure("callers of the component at once", CALLERS);
    let head = [
        "behaviour",
        "answers",
        "s",
        "p50 ms",
        "attacked",
        "p99 ms",
        "attacked",
        "ratio",
        "more ms",
    ];
    let mut rows = beside.rows.clone();
    let mut total = vec!["all".to_owned(), String::new(), String::new()];
    total.extend(compared(&beside.quiet, &beside.attacked));
    rows.push(total);
    report.table(&head, &rows);
    let (quiet, attacked) = (&beside.quiet, &beside.attacked);
    let (sent, lost) = (attacked.sent(), attacked.losses());
    report.figure("requests to the others meanwhile", sent);
    report.figure("lateness of the generator itself", attacked.lag());
    report.none(
        "wrong answers of the others, attacked",
        lost,
        attacked.why(),
    );
    report.none(
        "wrong answers of the others, quiet",
        quiet.losses(),
        quiet.why(),
    );
    let answers = &beside.answers;
    let calls: u64 = answers.statuses.values().sum();
    report.figure("calls of the component", calls);
    let first = answers.wrong.first().cloned().unwrap_or_default();
    let wrong = answers.wrong.len() as u64;
    report.none("answers to the callers that may not be", wrong, first);
    let first = answers.lost.first().map(|loss| format!("{loss:?}"));
    let lost = answers.lost.len() as u64;
    report.none("callers without an answer", lost, first.unwrap_or_default());
    let dead = beside.dead.len() as u64;
    let names = beside.dead.join(", ");
    report.none(
        "attacks after which the service did not answer",
        dead,
        names,
    );
}

/// With the default settings a service that loops is left alone.
async fn quarantine(settings: &Settings, report: &mut Report) {
    let host = host("").await;
    let load = Load::start(RATE, mix::without(&host, PROBED));
    let mut behaviours = behaviours::all();
    behaviours.retain(|behaviour| behaviour.name == LOOP);
    let behaviour = behaviours.pop().expect("the loop is a behaviour");
    let begun = Instant::now();
    let times = settings.pick(1_000, 100);
    let force = Force {
        times,
        least: Duration::ZERO,
        callers: MANY,
    };
    let attack = attack(&host, &behaviour, force).await;
    let took = begun.elapsed();
    let window = load.stop();
    let metrics = Metrics::of(&host).await;
    let service = ("service", PROBED.name());
    let late = |kind| metrics.sum("lockgate_faults_total", &[service, ("kind", kind)]);
    let ran = late("cpu") + late("wall");
    let calls = format!("{times} in {:.1} s", took.as_secs_f64());
    report.figure("loops with the default quarantine", calls);
    report.figure("of these ran to their limit", ran);
    report.figure("refused at once, as it rests", attack.resting);
    report.figure("answers", attack.answers());
    report.figure("the others meanwhile", window.all());
    let entered = metrics.sum("lockgate_quarantines_total", &[service]);
    report.claim("the component comes into quarantine", entered >= 1.0, "");
    let wrong = (attack.wrong.len() + attack.lost.len()) as u64;
    let first = attack.wrong.first().cloned().unwrap_or_default();
    report.none("answers that may not be", wrong, first);
    report.none("wrong answers of the others", window.losses(), window.why());
    let version = Shot::get("/version").holds(&version_text(1));
    let guard = Duration::from_secs(30);
    let again = first_right(host.port(PROBED), &version, guard).await;
    let seen = again.as_ref().err().map(Loss::kind).unwrap_or_default();
    report.claim("after its rest it answers again", again.is_ok(), seen);
}
