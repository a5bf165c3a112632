//! What one call into a guest asked of the host and got: written while it runs, or played
//! back instead of the host. It knows functions by name and values as JSON; what they mean
//! is decided elsewhere, and nothing here touches a file.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod bytes;
mod changes;
mod difference;

pub use bytes::{of_bytes, readable, unreadable};
pub use changes::Changes;
pub use difference::Difference;

use changes::{OUTSIDE, for_shadow, is_change, stand_in};
use difference::{parted, shown};

/// Most that is kept of one call, bytes: a component must not fill the host's memory.
const MOST: usize = 8 << 20;

/// One call of a host function. `clock.*` and `random.*` stand for WASI's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Interface and function, as in `wit/`: `redis.get-many`.
    pub function: String,
    /// The arguments, a list.
    pub arguments: Value,
    /// What the guest got.
    pub result: Value,
}

/// Where results come from.
#[derive(Debug)]
enum Source {
    /// From the host.
    Host,
    /// From the recording, whose calls are to be made again in their order; what it does not
    /// hold, from the host.
    Recording(VecDeque<Entry>),
    /// From the recording, by the order of the functions alone: the arguments may differ.
    Order(VecDeque<Entry>),
    /// From the recording, in any order; what it does not hold, from the host, and what
    /// would change something from nowhere.
    Shadow(Vec<Entry>),
}

/// What to do with a call.
#[derive(Debug)]
pub enum Step<T> {
    /// Ask the host, then [`Tape::note`] what it says.
    Ask,
    /// This is the result.
    Result(T),
}

#[derive(Debug)]
struct Inner {
    source: Source,
    made: Vec<Entry>,
    /// What has been asked, kept or not.
    asked: usize,
    /// Bytes of what is kept.
    kept: usize,
    /// Functions that would have changed something, called by a shadow alone.
    strayed: Vec<String>,
    difference: Option<Difference>,
}

/// The tape of one call.
#[derive(Debug)]
pub struct Tape {
    inner: Mutex<Inner>,
    /// Instead of the service's settings.
    environment: Option<Vec<(String, String)>>,
}

impl Tape {
    fn new(source: Source) -> Tape {
        Tape {
            inner: Mutex::new(Inner {
                source,
                made: Vec::new(),
                asked: 0,
                kept: 0,
                strayed: Vec::new(),
                difference: None,
            }),
            environment: None,
        }
    }

    /// Has the component see other settings than its service's.
    #[must_use]
    pub fn with_environment(mut self, environment: Vec<(String, String)>) -> Tape {
        self.environment = Some(environment);
        self
    }

    /// What the component sees instead of its service's settings.
    pub fn environment(&self) -> Option<&[(String, String)]> {
        self.environment.as_deref()
    }

    /// Writes down what the host says.
    pub fn recording() -> Tape {
        Tape::new(Source::Host)
    }

    /// Plays what was recorded, and notes where the guest does otherwise. The host that is
    /// asked then must be one that nobody else uses.
    pub fn replaying(entries: Vec<Entry>) -> Tape {
        Tape::new(Source::Recording(entries.into()))
    }

    /// Plays what was recorded, whatever the arguments are.
    pub fn in_order(entries: Vec<Entry>) -> Tape {
        Tape::new(Source::Order(entries.into()))
    }

    /// Plays what was recorded of another component's call, and changes nothing.
    pub fn shadowing(entries: Vec<Entry>) -> Tape {
        Tape::new(Source::Shadow(entries))
    }

    /// True if nothing may be changed: writes of `redis` belong into an overlay.
    pub fn is_shadow(&self) -> bool {
        matches!(self.lock().source, Source::Shadow(_))
    }

    /// Comes before a call of the host.
    ///
    /// # Errors
    /// [`Difference`]: the tape has no result for it.
    pub fn next<A: Serialize, T: DeserializeOwned>(
        &self,
        function: &str,
        arguments: A,
    ) -> Result<Step<T>, Difference> {
        let arguments = match serde_json::to_value(arguments).unwrap_or_default() {
            Value::Array(arguments) => arguments.into_iter().map(readable).collect(),
            none => none,
        };
        let mut inner = self.lock();
        inner.asked += 1;
        let number = inner.asked;
        let made = Entry {
            function: function.to_owned(),
            arguments,
            result: Value::Null,
        };
        let found = inner.find(&made, number);
        let result = found.inspect_err(|difference| inner.note_difference(difference))?;
        let Some(result) = result else {
            inner.keep(made);
            return Ok(Step::Ask);
        };
        inner.keep(Entry {
            result: result.clone(),
            ..made
        });
        match serde_json::from_value(unreadable(result)) {
            Ok(result) => Ok(Step::Result(result)),
            Err(problem) => {
                let difference = Difference::Form {
                    number,
                    function: function.to_owned(),
                    problem: problem.to_string(),
                };
                inner.note_difference(&difference);
                Err(difference)
            }
        }
    }

    /// What the host has said to the call that was made last.
    pub fn note<T: Serialize>(&self, result: &T) {
        let result = readable(serde_json::to_value(result).unwrap_or_default());
        let mut inner = self.lock();
        inner.kept = inner.kept.saturating_add(weight(&result));
        if let Some(last) = inner.made.last_mut() {
            last.result = result;
        }
        inner.trim();
    }

    /// The call asked for more than is kept: what was made is not whole.
    pub fn is_cut(&self) -> bool {
        self.lock().kept > MOST
    }

    /// A value that cannot be refused: a clock or random bytes. `argument` is a list, or
    /// `()`. Where the tape ends, a clock stands and random bytes come from `host`.
    pub fn value<T: Serialize + DeserializeOwned>(
        &self,
        function: &str,
        argument: impl Serialize,
        host: impl FnOnce() -> T,
    ) -> T {
        match self.next(function, argument) {
            Ok(Step::Result(value)) => value,
            Ok(Step::Ask) => {
                // A clock that stands is better than one that jumps.
                let value = self.last(function).unwrap_or_else(host);
                self.note(&value);
                value
            }
            Err(_) => host(),
        }
    }

    fn last<T: DeserializeOwned>(&self, function: &str) -> Option<T> {
        let inner = self.lock();
        let plays = !matches!(inner.source, Source::Host);
        let last = |entry: &&Entry| {
            plays
                && entry.function == function
                && function.starts_with("clock.")
                && !entry.result.is_null()
        };
        let entry = inner.made.iter().rev().find(last)?;
        serde_json::from_value(entry.result.clone()).ok()
    }

    /// The calls that were made, in their order.
    pub fn made(&self) -> Vec<Entry> {
        self.lock().made.clone()
    }

    /// In what a shadow would have changed something else than the other component.
    pub fn alone(&self) -> Changes {
        let inner = self.lock();
        let left = match &inner.source {
            Source::Shadow(left) => left.as_slice(),
            _ => &[],
        };
        let names = left.iter().map(|entry| &entry.function);
        Changes {
            more: inner.strayed.clone(),
            fewer: names.filter(|name| is_change(name)).cloned().collect(),
        }
    }

    /// Where the guest left the recording; after the call, for it may end too early.
    pub fn difference(&self) -> Option<Difference> {
        let inner = self.lock();
        let left = match &inner.source {
            Source::Recording(left) => left.front(),
            _ => None,
        };
        inner.difference.clone().or_else(|| {
            left.map(|expected| Difference::Fewer {
                number: inner.asked + 1,
                expected: shown(expected),
            })
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn keep(&mut self, made: Entry) {
        let weight = weight(&made.arguments).saturating_add(weight(&made.result));
        self.kept = self.kept.saturating_add(weight);
        self.made.push(made);
        self.trim();
    }

    fn trim(&mut self) {
        if self.kept > MOST {
            self.made = Vec::new();
        }
    }

    fn note_difference(&mut self, difference: &Difference) {
        self.difference.get_or_insert_with(|| difference.clone());
    }

    /// The result of a call; none: the host is to be asked.
    fn find(&mut self, made: &Entry, number: usize) -> Result<Option<Value>, Difference> {
        let same = |entry: &Entry| entry.function == made.function;
        let equal = |entry: &Entry| same(entry) && entry.arguments == made.arguments;
        let entries = match &mut self.source {
            Source::Host => return Ok(None),
            Source::Order(entries) if entries.front().is_some_and(same) => entries,
            Source::Recording(entries) if entries.front().is_some_and(equal) => entries,
            Source::Shadow(entries) => {
                if let Some(at) = entries.iter().position(equal) {
                    return Ok(Some(entries.remove(at).result));
                }
                return Ok(self.stray(made));
            }
            // A component that was mended makes some of its calls otherwise: what it asks
            // again is answered, the rest is asked of the host, and the difference is told.
            Source::Recording(entries) => {
                let difference = parted(entries, made, number);
                let later = entries.iter().position(equal);
                let later = later.and_then(|at| entries.remove(at));
                self.note_difference(&difference);
                return Ok(match later {
                    Some(entry) => Some(entry.result),
                    None => stand_in(&OUTSIDE, &made.function),
                });
            }
            Source::Order(entries) => return Err(parted(entries, made, number)),
        };
        Ok(entries.pop_front().map(|entry| entry.result))
    }

    /// What a shadow gets for a call that the other component did not make.
    fn stray(&mut self, made: &Entry) -> Option<Value> {
        let name = made.function.as_str();
        if is_change(name) {
            self.strayed.push(name.to_owned());
        }
        for_shadow(name)
    }
}

/// Bytes that a value takes, roughly.
fn weight(value: &Value) -> usize {
    const NODE: usize = 64;
    let inner: usize = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(fields) => fields.iter().map(|(name, v)| name.len() + weight(v)).sum(),
        _ => 0,
    };
    inner.saturating_add(NODE)
}

#[cfg(test)]
mod tests;
