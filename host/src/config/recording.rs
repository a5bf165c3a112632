//! Which calls of a service are recorded. What is written of them stands elsewhere.

use std::path::PathBuf;

/// Which calls of a service are recorded, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// Which of the calls that were watched are kept.
    pub when: RecordWhen,
    /// How many of the calls are watched, 0 to 1. Each runs in an instance of its own.
    pub share: f64,
    /// File with the key that traces are encrypted with; none: secrets are replaced.
    pub key_file: Option<PathBuf>,
    /// Traces that are kept; the oldest go first.
    pub keep: usize,
}

/// Which of the calls that were watched are kept.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, schemars::JsonSchema, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum RecordWhen {
    /// Those without an answer, or with one of 500 or more.
    Failure,
    /// All.
    Always,
}
