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

/// The path for the log. No path of a service has a part longer than 40 bytes; a
/// credential that someone put there is cut.
pub fn shown_path(path: &str) -> String {
    let parts = path
        .split('/')
        .map(|part| if part.len() > 40 { "..." } else { part });
    parts.take(16).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_in_a_path_is_shown() {
        for path in ["/", "/health", "/api/v1/session/validate", "", "/ä/b"] {
            assert_eq!(shown_path(path), path);
        }
        let token = "x".repeat(43);
        assert_eq!(shown_path(&format!("/a/{token}/b")), "/a/.../b");
        assert_eq!(shown_path(&"/a".repeat(100)).len(), "/a".repeat(15).len());
    }

    #[test]
    fn libraries_stay_quiet() {
        assert_eq!(directives(Level::DEBUG), "INFO,lockgate=DEBUG");
        assert_eq!(directives(Level::ERROR), "ERROR,lockgate=ERROR");
    }
}
