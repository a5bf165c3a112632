//! Every way in which the probe misbehaves, as a request, and what the host may answer
//! its caller. It sends nothing.

use crate::measure::link::{Answer, Shot};

/// One way to misbehave.
#[derive(Debug, Clone)]
pub(crate) struct Behaviour {
    /// In words.
    pub(crate) name: &'static str,
    /// The request that asks for it.
    pub(crate) shot: Shot,
    /// It takes all the time that a call may take.
    pub(crate) slow: bool,
    answers: &'static [u16],
    at_most: usize,
}

impl Behaviour {
    /// Is this answer one that the host may give its caller?
    pub(crate) fn allows(&self, answer: &Answer) -> bool {
        self.answers.contains(&answer.status) && answer.body.len() <= self.at_most
    }
}

const REFUSED: &[u16] = &[503];
const FINE: &[u16] = &[200];
const EITHER: &[u16] = &[200, 503];

/// Name, request, and the statuses that the host may answer.
const GETS: [(&str, &str, &[u16]); 29] = [
    ("a right answer, to compare", "/version", FINE),
    ("trap", "/trap", REFUSED),
    ("panic", "/panic", REFUSED),
    ("read, then trap", "/read-then-trap", REFUSED),
    (
        "write, then trap",
        "/write-then-trap?key=session:stress",
        REFUSED,
    ),
    ("endless recursion", "/recurse", REFUSED),
    ("memory until it ends", "/allocate", REFUSED),
    ("memory growth to the limit", "/grow", FINE),
    ("20,000 log lines", "/log?lines=20000&bytes=20", EITHER),
    ("log lines of 5 MB", "/log?lines=3&bytes=5000000", EITHER),
    ("100,000 host calls", "/host-calls?n=100000", REFUSED),
    ("body of 2 MB", "/body?bytes=2000000", REFUSED),
    ("body of 20 MB", "/body?bytes=20000000", REFUSED),
    ("10,000 headers", "/headers?n=10000", REFUSED),
    (
        "line end in a header value",
        "/bad-header?kind=newline",
        REFUSED,
    ),
    ("NUL in a header value", "/bad-header?kind=nul", REFUSED),
    ("empty header name", "/bad-header?kind=empty-name", REFUSED),
    (
        "space in a header name",
        "/bad-header?kind=space-name",
        REFUSED,
    ),
    (
        "line end in a header name",
        "/bad-header?kind=newline-name",
        REFUSED,
    ),
    ("false content-length", "/bad-header?kind=length", FINE),
    ("transfer-encoding", "/bad-header?kind=chunked", FINE),
    ("connection: close", "/bad-header?kind=connection", FINE),
    ("status 0", "/status?code=0", REFUSED),
    ("status 99", "/status?code=99", REFUSED),
    ("status 101", "/status?code=101", REFUSED),
    ("status 999", "/status?code=999", REFUSED),
    ("a key that is not granted", "/redis?key=other", FINE),
    (
        "its own memory, 256 kB",
        "/memory?from=1&length=262144",
        FINE,
    ),
    ("files and arguments", "/files", FINE),
];

/// The name of the endless loop.
pub(crate) const LOOP: &str = "endless loop";

/// Those that take all their time.
const SLOW: [(&str, &str); 2] = [(LOOP, "/loop"), ("sleep of 60 s", "/sleep?ms=60000")];

/// All of them.
pub(crate) fn all() -> Vec<Behaviour> {
    let quick = GETS.iter().map(|(name, path, answers)| Behaviour {
        name,
        shot: Shot::get(path),
        slow: false,
        answers,
        at_most: 300_000,
    });
    let slow = SLOW.iter().map(|(name, path)| Behaviour {
        name,
        shot: Shot::get(path),
        slow: true,
        answers: REFUSED,
        at_most: 10_000,
    });
    quick.chain(slow).collect()
}
