//! Waiting for something that happens by itself. The guard is generous: it tells
//! a hang from a slow machine and says nothing about speed.

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up.
pub const GUARD: Duration = Duration::from_secs(90);

/// Asks again and again until the answer is `Ok`; panics with the last `Err`
/// after the guard.
pub async fn eventually<T, E: std::fmt::Debug>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let begin = Instant::now();
    loop {
        match ask().await {
            Ok(value) => return value,
            Err(last) if begin.elapsed() > GUARD => {
                panic!("waited {GUARD:?} until {what}; at last: {last:?}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
