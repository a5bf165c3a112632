//! How log lines are written: to stderr, as text or one JSON object a line. It sets
//! up the one global subscriber and owns nothing else.

use tracing::Level;
use tracing_subscriber::EnvFilter;

use crate::config::Log;

/// Starts logging. Libraries never log below information: their debug lines may
/// hold what Lockgate's own never do. A second call changes nothing.
pub fn start(log: Log) {
    let filter = EnvFilter::new(directives(log.level));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // It fails only if there is a subscriber already, as in tests.
    let _ = if log.json {
        lines.json().flatten_event(true).try_init()
    } else {
        lines.with_ansi(false).try_init()
    };
}

fn directives(level: Level) -> String {
    let libraries = level.min(Level::INFO);
    format!("{libraries},lockgate={level}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_stay_quiet() {
        assert_eq!(directives(Level::DEBUG), "INFO,lockgate=DEBUG");
        assert_eq!(directives(Level::ERROR), "ERROR,lockgate=ERROR");
    }
}
