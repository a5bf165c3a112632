//! Swaps under load: good files on all services, files that must be refused, and
//! components that pass every check and trap when they are called.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use super::Settings;
use crate::bad_files::{Kind, PROBED};
use crate::component::{Probe, built, digest, with_note};
use crate::host::{Host, Service};
use crate::measure::load::Load;
use crate::measure::observe::answers_by_revision;
use crate::measure::report::ms;
use crate::measure::tally::{Quantiles, Window};
use crate::measure::{Report, mix};
use crate::metrics::Metrics;
use crate::wait::eventually;

/// What the host's log shows of a digest.
const SHORT: usize = 12;

/// How the components that trap go about it.
const CONDUCTS: [&str; 3] = ["traps___", "reads___", "invalid_"];

/// One file that is dropped in.
#[derive(Debug, Clone, Copy)]
enum Step {
    Good(Service),
    Bad(Kind, Service),
    Trapping(&'static str),
}

/// What came of all steps.
struct Course {
    host: Host,
    load: Load,
    window: Window,
    swapped: u64,
    refused: BTreeMap<Kind, (u64, u64)>,
    refused_digests: Vec<String>,
    trapping: Vec<Trapping>,
}

/// What came of one revision that traps.
struct Trapping {
    conduct: &'static str,
    digest: String,
    rolled_back: f64,
    by_previous: f64,
    faults: f64,
    lost: u64,
    back_after: Duration,
}

pub(super) async fn run(settings: &Settings, report: &mut Report) {
    let steps = plan(
        settings.pick(75, 6),
        settings.pick(20, 7),
        settings.pick(5, 1),
    );
    let title = format!("{} files dropped in under load", steps.len());
    report.part("swaps", &title);
    let host = Host::start().await;
    let load = Load::start(settings.rate, mix::shipped(&host));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = load.measure(settings.pick(Duration::from_secs(10), Duration::from_secs(2)));
    let before = before.await;
    let mut course = Course::new(host, load);
    for (number, step) in steps.into_iter().enumerate() {
        course.take(number, step).await;
    }
    course.end();
    report.figure("requests a second, five ports", settings.rate);
    print_load(report, &before, &course);
    print_refused(report, &course);
    print_trapping(report, &course);
    print_revisions(report, &course.host).await;
}

/// All steps, the three kinds spread evenly.
fn plan(good: usize, bad: usize, trapping: usize) -> Vec<Step> {
    let goods = (0..good).map(|number| Step::Good(Service::ALL[number % Service::ALL.len()]));
    let bads = (0..bad).map(|number| {
        let kind = Kind::ALL[number % Kind::ALL.len()];
        // Another service each time that a kind comes round.
        Step::Bad(kind, kind.service(number + number / Kind::ALL.len()))
    });
    let traps = (0..trapping).map(|number| Step::Trapping(CONDUCTS[number % CONDUCTS.len()]));
    let mut placed = Vec::new();
    for (steps, count) in [
        (goods.collect::<Vec<_>>(), good),
        (bads.collect(), bad),
        (traps.collect(), trapping),
    ] {
        let place = |(number, step)| ((number as f64 + 0.5) / count as f64, step);
        placed.extend(steps.into_iter().enumerate().map(place));
    }
    placed.sort_by(|one, other| one.0.total_cmp(&other.0));
    placed.into_iter().map(|(_, step)| step).collect()
}

impl Course {
    fn new(host: Host, load: Load) -> Self {
        load.window();
        Self {
            host,
            load,
            window: Window::empty(),
            swapped: 0,
            refused: BTreeMap::new(),
            refused_digests: Vec::new(),
            trapping: Vec::new(),
        }
    }

    async fn take(&mut self, number: usize, step: Step) {
        let note = format!("stress-{number}");
        match step {
            Step::Good(service) => {
                let file = with_note(&built(service), &note);
                self.host.swap(service, &file).await;
                self.swapped += 1;
            }
            Step::Bad(kind, service) => self.refuse(kind, service, &note).await,
            Step::Trapping(conduct) => self.trap(conduct, &note).await,
        }
        self.window.add(&self.load.window());
    }

    /// Drops a file that must change nothing but the record.
    async fn refuse(&mut self, kind: Kind, service: Service, note: &str) {
        let file = kind.file(service, note);
        let serving = self.host.plugin_report(service).await.digest;
        let failed = Metrics::of(&self.host).await.swaps(service, "failed");
        let half = match kind {
            Kind::HalfWritten => Some(begin_copy(&self.host, service, &file)),
            _ => {
                self.host.install(service, &file);
                None
            }
        };
        let judged = async || {
            let now = Metrics::of(&self.host).await.swaps(service, "failed");
            if now > failed { Ok(()) } else { Err(now) }
        };
        eventually(&format!("a file is refused: {}", kind.name()), judged).await;
        let sentence = self.host.wait_refused(service, kind.words()).await;
        let one_line = !sentence.contains('\n');
        let after = self.host.plugin_report(service).await.digest;
        let (count, right) = self.refused.entry(kind).or_default();
        *count += 1;
        *right += u64::from(one_line && after == serving);
        self.refused_digests.push(digest(&file));
        if let Some(mut copy) = half {
            // The writer goes on: the whole file is as good as any.
            let whole = with_note(&built(service), note);
            copy.write_all(&whole[file.len()..]).expect("end the copy");
            drop(copy);
            self.host.wait_loaded(service, &whole).await;
            self.swapped += 1;
        }
    }

    /// Drops a component that passes every check and traps when it is called.
    async fn trap(&mut self, conduct: &'static str, note: &str) {
        let file = with_note(&Probe::version(667).handle(conduct).bytes(), note);
        self.window.add(&self.load.window());
        let before = Metrics::of(&self.host).await;
        let begun = Instant::now();
        self.host.install(PROBED, &file);
        let rolled_back = |metrics: &Metrics| metrics.swaps(PROBED, "rolled_back");
        let back = async || {
            let now = Metrics::of(&self.host).await;
            if rolled_back(&now) > rolled_back(&before) {
                Ok(begun.elapsed())
            } else {
                Err(rolled_back(&now))
            }
        };
        let back_after = eventually("a component that traps is rolled back", back).await;
        // What was on the way has ended by then.
        let lost = self.load.measure(Duration::from_millis(500)).await;
        let after = Metrics::of(&self.host).await;
        let labels = [("service", PROBED.name())];
        let more = |name: &str| after.sum(name, &labels) - before.sum(name, &labels);
        self.trapping.push(Trapping {
            conduct,
            digest: digest(&file),
            rolled_back: rolled_back(&after) - rolled_back(&before),
            by_previous: more("lockgate_runs_again_total"),
            faults: more("lockgate_faults_total"),
            lost: lost.losses(),
            back_after,
        });
        self.window.add(&lost);
    }

    fn end(&mut self) {
        self.window.add(&self.load.window());
    }
}

/// Writes the first part of a copy in place.
fn begin_copy(host: &Host, service: Service, half: &[u8]) -> std::fs::File {
    let mut file = std::fs::File::create(host.plugin_path(service)).expect("begin a copy");
    file.write_all(half).expect("begin a copy");
    file
}

fn print_load(report: &mut Report, before: &Window, course: &Course) {
    let window = &course.window;
    report.figure("swaps done", course.swapped);
    report.figure("requests beside them", window.sent());
    report.figure("requests a second reached", format!("{:.0}", window.rate()));
    report.figure("latency without swaps", before.all());
    report.figure("latency beside them", window.all());
    report.figure("lateness of the generator itself", window.lag());
    let row = |(service, latency): (Service, Quantiles)| {
        let times = [latency.p50, latency.p99, latency.max].map(ms);
        let mut row = vec![service.name().to_owned(), latency.count.to_string()];
        row.extend(times);
        row
    };
    let rows: Vec<_> = window.by_service().map(row).collect();
    report.table(
        &["beside swaps", "requests", "p50 ms", "p99 ms", "max ms"],
        &rows,
    );
    report.none("requests lost", window.losses(), window.why());
}

fn print_refused(report: &mut Report, course: &Course) {
    let row = |(kind, (count, right)): (&Kind, &(u64, u64))| {
        vec![
            kind.name().to_owned(),
            count.to_string(),
            right.to_string(),
            kind.words().join(" ... "),
        ]
    };
    let rows: Vec<_> = course.refused.iter().map(row).collect();
    let head = ["refused file", "files", "rightly", "the sentence holds"];
    report.table(&head, &rows);
    let (files, right) = course
        .refused
        .values()
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    report.claim(
        "each bad file is refused with its sentence and changes nothing",
        files == right,
        format!("{right} of {files}"),
    );
    let log = course.host.log();
    let answers = answers_by_revision(&log);
    let by = |digest: &String| answers.get(&digest[..SHORT]).copied().unwrap_or(0);
    let wrong: u64 = course.refused_digests.iter().map(by).sum();
    let logged: u64 = answers.values().sum();
    report.claim(
        "the log names the revision of each answer",
        logged >= course.window.sent(),
        format!("{logged} answers"),
    );
    report.none("answers from a file that failed its checks", wrong, "");
    let trapped: u64 = course.trapping.iter().map(|one| by(&one.digest)).sum();
    report.none("answers from a component that traps", trapped, "");
}

fn print_trapping(report: &mut Report, course: &Course) {
    let row = |one: &Trapping| {
        vec![
            one.conduct.trim_end_matches('_').to_owned(),
            one.faults.to_string(),
            one.by_previous.to_string(),
            one.lost.to_string(),
            format!("{:.2}", one.back_after.as_secs_f64()),
        ]
    };
    let rows: Vec<_> = course.trapping.iter().map(row).collect();
    let head = [
        "trapping revision",
        "faults",
        "answered by the previous one",
        "failed",
        "file to roll-back s",
    ];
    report.table(&head, &rows);
    let back = course.trapping.iter().filter(|one| one.rolled_back == 1.0);
    let back = back.count();
    report.claim(
        "each trapping revision is rolled back once",
        back == course.trapping.len(),
        format!("{back} of {}", course.trapping.len()),
    );
    let failed: u64 = course.trapping.iter().map(|one| one.lost).sum();
    report.none("requests that failed because of a trap", failed, "");
}

/// Old revisions are freed when their last request has ended.
pub(super) async fn print_revisions(report: &mut Report, host: &Host) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let alive = loop {
        let alive = Metrics::of(host).await.alive();
        if alive.values().all(|count| *count <= 2.0) || Instant::now() > deadline {
            break alive;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let holds = alive.values().all(|count| (1.0..=2.0).contains(count));
    let counts: Vec<String> = alive.values().map(f64::to_string).collect();
    report.claim(
        "revisions alive are at most two for each service at the end",
        holds,
        counts.join(" "),
    );
}
