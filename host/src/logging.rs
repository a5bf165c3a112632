//! How log lines are written: to stderr, as text or one JSON object a line. It sets
//! up the one global subscriber and owns nothing else.

use tracing::{Level, Subscriber};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt};

use crate::config::Log;

/// The target of spans, which are no log lines.
pub const SPANS: &str = "lockgate::spans";

/// Starts logging, and hands spans to `spans` if there is one. Libraries never log below
/// information: their debug lines may hold what Lockgate's own never do. A second call
/// changes nothing.
pub fn start(log: Log, spans: Option<Box<dyn Layer<Registry> + Send + Sync>>) {
    let filter = EnvFilter::new(directives(log.level));
    let registry = tracing_subscriber::registry();
    // It fails only if there is a subscriber already, as in tests.
    let _ = match spans {
        Some(spans) => {
            let lines = lines(log).with_filter(filter);
            registry.with(spans).with(lines).try_init()
        }
        None => registry.with(filter).with(lines(log)).try_init(),
    };
}

fn lines<S>(log: Log) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = fmt::layer().with_writer(std::io::stderr);
    match log.json {
        true => lines.json().flatten_event(true).boxed(),
        false => lines.with_ansi(false).boxed(),
    }
}

fn directives(level: Level) -> String {
    let libraries = level.min(Level::INFO);
    format!("{libraries},lockgate={level},{SPANS}=off")
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
        let of = |level| directives(level).replace(&format!(",{SPANS}=off"), "");
        assert_eq!(of(Level::DEBUG), "INFO,lockgate=DEBUG");
        assert_eq!(of(Level::ERROR), "ERROR,lockgate=ERROR");
    }
}
