//! Keys and values of the shared store in every size and number.

use crate::bindings::exports::lockgate::plugin::handler::{Request, Response};
use crate::bindings::lockgate::plugin::redis::{self, Condition};
use crate::misbehave::{clamp, number, parameter, text};

/// Sets the key of the query to a value of `bytes` bytes; says what came of it.
pub(crate) fn set(request: &Request) -> Response {
    let value = vec![b'v'; clamp(number(request, "bytes", 0))];
    let done = redis::set(key(request), &value, 60, Condition::Always);
    text(200, &format!("set {done:?}"))
}

/// Replaces a value of `bytes` bytes by another of that size.
pub(crate) fn compare_and_set(request: &Request) -> Response {
    let old = vec![b'v'; clamp(number(request, "bytes", 0))];
    let new = vec![b'w'; old.len()];
    let done = redis::compare_and_set(key(request), &old, &new, 60);
    text(200, &format!("compare-and-set {done:?}"))
}

/// Gets and deletes so many keys at once.
pub(crate) fn many(keys: u64) -> Response {
    let keys: Vec<String> = (0..keys).map(|n| format!("session:many-{n}")).collect();
    let got = redis::get_many(&keys).map(|values| values.len());
    let deleted = redis::delete(&keys);
    text(200, &format!("get-many {got:?}\ndelete {deleted:?}"))
}

fn key(request: &Request) -> &str {
    parameter(request, "key").unwrap_or("session:probe")
}
