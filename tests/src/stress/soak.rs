//! Load, a swap every few seconds and a Redis that dies every minute, for a long time:
//! what grows, and whether any answer is wrong.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::{Settings, memory, swaps};
use crate::host::Host;
use crate::measure::load::Load;
use crate::measure::observe::Process;
use crate::measure::report::slope;
use crate::measure::tally::{Quantiles, Window};
use crate::measure::{Report, mix};
use crate::redis::RedisServer;

/// Requests a second.
const RATE: u32 = 300;

/// Seconds from one swap, and one sample, to the next.
const STEP: u64 = 5;

/// In each minute Redis is killed at this second, and started again at the other.
const DOWN: (u64, u64) = (30, 33);

/// The process and the load at one time.
struct Sample {
    seconds: f64,
    process: Process,
    requests: u64,
    wrong: u64,
    latency: Quantiles,
    swaps: usize,
    redis: bool,
}

pub(super) async fn run(settings: &Settings, report: &mut Report) {
    let minutes = settings.minutes;
    report.part("soak", &format!("{minutes} minutes of load and swaps"));
    let mut redis = RedisServer::start().await;
    let host = Host::builder()
        .redis(&redis)
        .env("LOG_LEVEL", "WARNING")
        .start()
        .await;
    let files = memory::pairs(&host).await;
    let load = Load::start(RATE, mix::shipped(&host));
    let begun = Instant::now();
    let (mut samples, mut total) = (Vec::new(), Window::empty());
    let (mut up, mut outages, mut swapped) = (true, 0, 0);
    for second in 0..minutes * 60 {
        let due = begun + Duration::from_secs(second);
        tokio::time::sleep(due.saturating_duration_since(Instant::now())).await;
        if up && second % 60 == DOWN.0 {
            redis.kill();
            (up, outages) = (false, outages + 1);
        } else if !up && second % 60 >= DOWN.1 {
            redis.start_again().await;
            up = true;
        }
        if second % STEP == 0 {
            memory::next(&host, &files, swapped).await;
            swapped += 1;
            let window = load.window();
            let (seconds, process) = (begun.elapsed().as_secs_f64(), Process::now(host.pid()));
            samples.push(Sample {
                seconds,
                process,
                requests: window.sent(),
                wrong: window.losses(),
                latency: window.all(),
                swaps: swapped,
                redis: up,
            });
            total.add(&window);
        }
    }
    total.add(&load.stop());
    report.figure("requests a second, five ports", RATE);
    report.figure("swaps", swapped);
    report.figure("outages of Redis", outages);
    print(report, &samples, &total);
    swaps::print_revisions(report, &host).await;
    if let Some(file) = &settings.csv {
        std::fs::write(file, csv(&samples)).expect("write the samples");
        report.figure("samples", file.display());
    }
}

fn print(report: &mut Report, samples: &[Sample], total: &Window) {
    let Some(last) = samples.last() else {
        return;
    };
    // Until then caches and pools fill.
    let settled = f64::min(300.0, last.seconds / 4.0);
    let steady: Vec<&Sample> = samples
        .iter()
        .filter(|sample| sample.seconds >= settled)
        .collect();
    let points: Vec<(f64, f64)> = steady
        .iter()
        .map(|sample| (sample.seconds / 60.0, sample.process.rss as f64))
        .collect();
    let name = format!("slope of resident memory after {settled:.0} s");
    report.figure(&name, format!("{:.1} kB a minute", slope(&points)));
    let first = steady.first().copied().unwrap_or(last);
    let row = |name: &str, sample: &Sample| {
        let process = sample.process;
        vec![
            name.to_owned(),
            format!("{:.0}", sample.seconds),
            process.rss.to_string(),
            process.descriptors.to_string(),
            process.threads.to_string(),
        ]
    };
    let rows = [
        row("first", &samples[0]),
        row("settled", first),
        row("last", last),
    ];
    let head = ["sample", "at s", "resident kB", "descriptors", "threads"];
    report.table(&head, &rows);
    report.figure("requests", total.sent());
    report.figure("latency", total.all());
    report.figure("lateness of the generator itself", total.lag());
    report.none("wrong answers", total.losses(), total.why());
}

fn csv(samples: &[Sample]) -> String {
    let mut text = String::from(
        "seconds,resident_kb,descriptors,threads,requests,wrong,p50_ms,p99_ms,max_ms,swaps,redis_up\n",
    );
    for sample in samples {
        let (process, latency) = (sample.process, sample.latency);
        let _ = writeln!(
            text,
            "{:.1},{},{},{},{},{},{:.3},{:.3},{:.3},{},{}",
            sample.seconds,
            process.rss,
            process.descriptors,
            process.threads,
            sample.requests,
            sample.wrong,
            latency.p50,
            latency.p99,
            latency.max,
            sample.swaps,
            u8::from(sample.redis),
        );
    }
    text
}
