//! What is known of the server from how its commands end: whether it can be used, whether
//! it takes writes, and one log line for each change. It sends nothing.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ::redis::{ErrorKind, RedisError, RedisResult};

use crate::breaker::Policy;
use crate::dependency::Dependency;
use crate::store::{Error, Result};

/// Commands that are reported as not permitted.
const MAX_DENIED: usize = 32;

/// The health of one server.
#[derive(Debug)]
pub(super) struct Health {
    /// Whether it can be asked.
    pub(super) server: Dependency,
    refusals: Mutex<Refusals>,
}

/// What a server that is there and well refuses.
#[derive(Debug, Default)]
struct Refusals {
    /// Why the server takes no writes; it may well answer reads.
    writes: Option<String>,
    /// What was reported as not permitted.
    denied: BTreeSet<String>,
}

impl Health {
    pub(super) fn new() -> Health {
        Health {
            server: Dependency::new("redis", Policy::REDIS),
            refusals: Mutex::default(),
        }
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last attempt succeeded, the breaker is closed, and writes are taken.
    pub(super) fn connected(&self) -> bool {
        self.server.connected() && !self.refuses_writes()
    }

    /// The server takes no writes, and it has to be tried whether it does again.
    pub(super) fn refuses_writes(&self) -> bool {
        self.refusals().writes.is_some()
    }

    /// Counts the outcome of a command; `None` is a timeout.
    pub(super) fn judge<T>(&self, outcome: Option<RedisResult<T>>) -> Result<T> {
        let error = match outcome {
            Some(Ok(value)) => {
                self.succeeded();
                return Ok(value);
            }
            Some(Err(error)) => error,
            None => return self.failed("no answer in time"),
        };
        // With these the server is there and well; it is the command that it refused.
        match code(&error).as_deref() {
            Some("WRONGTYPE") => {
                self.succeeded();
                Err(Error::WrongType)
            }
            Some("ERR") if not_an_integer(&error) => {
                self.succeeded();
                Err(Error::WrongType)
            }
            Some("NOPERM") => {
                self.succeeded();
                self.denied(&error);
                Err(Error::Denied)
            }
            Some(code @ ("READONLY" | "OOM" | "MISCONF" | "NOREPLICAS")) => {
                self.writes_refused(code);
                Err(Error::Unavailable)
            }
            _ => self.failed(&describe(&error)),
        }
    }

    /// A write that was sent as a trial has succeeded.
    pub(super) fn takes_writes(&self) {
        if self.refusals().writes.take().is_some() {
            tracing::info!("redis: takes writes again");
        }
    }

    fn succeeded(&self) {
        if self.server.note_success() {
            tracing::info!("redis: reachable again");
        }
    }

    fn failed<T>(&self, fault: &str) -> Result<T> {
        if self.server.note_failure(fault) {
            tracing::warn!(fault, "redis: not usable, running degraded");
            metrics::counter!("lockgate_redis_faults_total").increment(1);
        }
        Err(Error::Unavailable)
    }

    /// Reads still work, so the breaker stays as it is.
    fn writes_refused(&self, code: &str) {
        let mut refusals = self.refusals();
        if refusals.writes.as_deref() != Some(code) {
            tracing::warn!(code, "redis: takes no writes, running degraded");
            metrics::counter!("lockgate_redis_faults_total").increment(1);
            refusals.writes = Some(code.to_owned());
        }
    }

    /// Reports what the user may not do: once, however often it is tried.
    pub(super) fn denied(&self, error: &RedisError) {
        if code(error).as_deref() != Some("NOPERM") {
            return;
        }
        let what = error.detail().unwrap_or_default().to_owned();
        let mut refusals = self.refusals();
        if refusals.denied.len() < MAX_DENIED && refusals.denied.insert(what.clone()) {
            tracing::warn!(what, "redis: NOPERM: the ACL user may not do this");
        }
    }
}

/// What the server called its refusal; of several commands the first refusal counts.
pub(super) fn code(error: &RedisError) -> Option<String> {
    if let Some(code) = error.code() {
        return Some(code.to_owned());
    }
    let refusals = error.clone().into_server_errors()?;
    refusals
        .first()
        .map(|(_, refusal)| refusal.code().to_owned())
}

/// In words, without addresses or credentials.
pub(super) fn describe(error: &RedisError) -> String {
    match code(error).as_deref() {
        Some("NOAUTH") => {
            "NOAUTH: the server wants a password; put it into REDIS_URL or REDIS_PASSWORD_FILE"
                .to_owned()
        }
        Some("WRONGPASS") => "WRONGPASS: the server refuses the user or the password".to_owned(),
        Some(code) => format!("the server answered {code}"),
        None if error.is_timeout() => "no answer in time".to_owned(),
        None if error.kind() == ErrorKind::AuthenticationFailed => {
            "the server refuses the user or the password".to_owned()
        }
        None => error.category().to_owned(),
    }
}

fn not_an_integer(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| {
        detail.contains("not an integer") || detail.contains("would overflow")
    })
}
