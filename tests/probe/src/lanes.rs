//! Work that says when it ran, so that a test can tell which calls computed at the
//! same time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::bindings::exports::lockgate::plugin::handler::Response;
use crate::misbehave::text;

/// A longer pause between two looks at the clock is not its own work.
const BREAK: Duration = Duration::from_millis(1);

/// Computes for so many milliseconds, pauses not counted. Answers with two moments in
/// microseconds: when the first half was done, and the end.
pub(crate) fn work(milliseconds: u64) -> Response {
    let all = Duration::from_millis(milliseconds);
    let mut done = Duration::ZERO;
    let mut half = None;
    let mut last = SystemTime::now();
    while done < all {
        let now = SystemTime::now();
        let step = now.duration_since(last).unwrap_or_default();
        last = now;
        if step < BREAK {
            done += step;
        }
        if half.is_none() && done >= all / 2 {
            half = Some(now);
        }
    }
    let half = micros(half.unwrap_or(last));
    text(200, &format!("{half} {}", micros(last)))
}

fn micros(at: SystemTime) -> u128 {
    at.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_micros()
}
