//! What the programs that measure share: a load ([`load`]) of requests that know their
//! right answers ([`link`], [`mix`]), what came of them ([`tally`]), what can be seen from
//! outside ([`observe`]), and how it is printed ([`report`]). What is done to the host
//! meanwhile stands in the parts of each program.

pub(crate) mod link;
pub(crate) mod load;
pub(crate) mod mix;
pub(crate) mod observe;
pub(crate) mod report;
pub(crate) mod tally;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

pub use report::Report;

/// How long the parts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// For a check.
    Quick,
    /// For figures.
    Normal,
    /// For a night.
    Full,
}

impl Length {
    /// One of three numbers.
    pub(crate) fn pick<T>(self, quick: T, normal: T, full: T) -> T {
        match self {
            Self::Quick => quick,
            Self::Normal => normal,
            Self::Full => full,
        }
    }
}

/// What all programs with three lengths are asked on the command line.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A short version of every part
    #[arg(long)]
    quick: bool,
    /// A long version of every part
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// Writes all figures to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Options {
    /// How long the parts are.
    pub fn length(&self) -> Length {
        match (self.quick, self.full) {
            (true, _) => Length::Quick,
            (_, true) => Length::Full,
            _ => Length::Normal,
        }
    }

    /// Ends the program.
    pub fn finish(&self, report: &Report) -> ExitCode {
        report.finish(self.json.as_deref())
    }
}

/// What the figures were measured on and with.
pub(crate) fn headline(program: &str) -> String {
    let binary = crate::place::binary();
    let made = std::fs::read(&binary).expect("read the host");
    let digest = crate::component::digest(&made);
    let now = time::OffsetDateTime::now_utc().truncate_to_second();
    let date = now
        .format(&time::format_description::well_known::Rfc3339)
        .expect("a date");
    format!(
        "{program}, {date}\nmachine: {}\nhost: {} bytes, SHA-256 {}",
        observe::machine(),
        made.len(),
        &digest[..16],
    )
}

/// Runs one part of a program to its end. That it ends, without a panic and within its
/// guard, is a claim too.
pub(crate) fn run(
    name: &str,
    guard: Duration,
    report: &mut Report,
    part: impl AsyncFnOnce(&mut Report),
) {
    let begun = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("start a runtime");
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async { tokio::time::timeout(guard, part(report)).await.is_ok() })
    }));
    let seconds = begun.elapsed().as_secs();
    let what = format!("the part {name} ran to its end");
    match ended {
        Ok(true) => report.claim(&what, true, format!("{seconds} s")),
        Ok(false) => report.claim(&what, false, format!("not in {guard:?}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let first = text.unwrap_or("a panic").lines().next().unwrap_or_default();
            report.claim(&what, false, first);
        }
    }
}
