//! How the calls of a replay differ from the recorded ones, in words.

use std::collections::VecDeque;

use serde::Serialize;

use super::Entry;

/// Where a guest left what was recorded.
#[derive(Debug, Clone, PartialEq, Serialize, thiserror::Error)]
pub enum Difference {
    /// Another function, or other arguments.
    #[error("host call {number}: recorded was {expected}, it made {made}")]
    Call {
        /// Counted from 1.
        number: usize,
        /// The call on the tape.
        expected: String,
        /// The call that was made.
        made: String,
    },
    /// A call that is not on the tape.
    #[error("host call {number}: it made {made}, which was not recorded")]
    More {
        /// Counted from 1.
        number: usize,
        /// The call that was made.
        made: String,
    },
    /// Calls that were not made.
    #[error("host call {number}: recorded was {expected}, it made none")]
    Fewer {
        /// Counted from 1.
        number: usize,
        /// The call on the tape.
        expected: String,
    },
    /// The recorded result has another form than this host's function gives.
    #[error("host call {number}: the recorded result of {function} cannot be used: {problem}")]
    Form {
        /// Counted from 1.
        number: usize,
        /// The function.
        function: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// How a call differs from the next one on the tape.
pub(super) fn parted(entries: &VecDeque<Entry>, made: &Entry, number: usize) -> Difference {
    match entries.front() {
        Some(expected) => Difference::Call {
            number,
            expected: shown(expected),
            made: shown(made),
        },
        None => Difference::More {
            number,
            made: shown(made),
        },
    }
}

/// A call in one line, cut to a readable length.
pub(super) fn shown(entry: &Entry) -> String {
    let arguments = entry.arguments.as_array().into_iter().flatten();
    let arguments: Vec<String> = arguments.map(ToString::to_string).collect();
    let line = format!("{}({})", entry.function, arguments.join(", "));
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
        None => line,
    }
}
