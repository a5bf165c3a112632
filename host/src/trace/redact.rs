//! Other tokens and secrets in the place of those of a recorded call: as long, of the same
//! kind of characters, the same for the same. What may be shown is listed; the rest of the
//! headers is not. It changes inputs of a component only: what it makes of them is found out
//! by running it again.

use std::collections::BTreeSet;

use percent_encoding::percent_decode_str;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::bindings::lockgate::plugin::types::Request;
use crate::tape::Entry;

mod names;
mod texts;

pub(super) use names::is_secret;
pub use texts::token_like;
use texts::{is_hex, pairs};

/// A secret of fewer characters is replaced where it stands, but not looked for elsewhere.
const DISTINCT: usize = 8;

/// Parts of a path that are longer may be credentials.
const LONGEST_PART: usize = 40;

/// Replaces the secrets of one call.
pub struct Redactor {
    /// Of this call only; it is never written.
    key: [u8; 32],
    /// Longest first, so that none is cut by a shorter one within it.
    secrets: Vec<String>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").finish_non_exhaustive()
    }
}

impl Redactor {
    /// Finds what is secret in a call's inputs.
    pub fn new(request: &Request, environment: &[(String, String)], calls: &[Entry]) -> Redactor {
        let mut found = BTreeSet::new();
        for (name, value) in &request.headers {
            found.extend(names::secrets_of_header(name, value));
            found.extend(token_like(value));
        }
        found.extend(secrets_of_target(request));
        found.extend(secrets_of_body(&request.body));
        for (name, value) in environment {
            if names::is_secret_setting(name, value) {
                found.insert(value.clone());
            }
        }
        for call in calls {
            collect(&call.result, "", &mut found);
            if call.function == "csrf.issue" {
                found.extend(
                    call.result
                        .get("Ok")
                        .and_then(Value::as_str)
                        .map(str::to_owned),
                );
            }
        }
        let decoded: Vec<String> = found.iter().filter_map(|text| decoded(text)).collect();
        found.extend(decoded);
        let mut secrets: Vec<String> = found
            .into_iter()
            .filter(|text| text.chars().count() >= DISTINCT)
            .collect();
        secrets.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Redactor {
            key: rand::random(),
            secrets,
        }
    }

    /// The request with other secrets.
    pub fn request(&self, request: &Request) -> Request {
        let headers = request.headers.iter().map(|(name, value)| {
            let value = names::change_header(name, value, |text| self.disguise(text));
            (name.clone(), self.replace(&value))
        });
        Request {
            method: request.method.clone(),
            path: self.path(&request.path),
            query: request.query.as_deref().map(|query| self.query(query)),
            headers: headers.collect(),
            body: self.body(&request.body, is_form(request)),
            caller: request.caller.clone(),
            extensions: request.extensions.clone(),
        }
    }

    /// The settings with other secrets.
    pub fn environment(&self, pairs: &[(String, String)]) -> Vec<(String, String)> {
        let change = |(name, value): &(String, String)| {
            let value = match names::is_secret_setting(name, value) {
                true => self.disguise(value),
                false => self.replace(value),
            };
            (name.clone(), value)
        };
        pairs.iter().map(change).collect()
    }

    /// The results of the host with other secrets, and other random bytes: what the
    /// component makes of those may be a secret.
    pub fn calls(&self, calls: &[Entry]) -> Vec<Entry> {
        let change = |call: &Entry| Entry {
            function: call.function.clone(),
            arguments: Value::Null,
            result: match call.function.starts_with("random.") {
                true => random_like(&call.result),
                false => self.value(&call.result, ""),
            },
        };
        calls.iter().map(change).collect()
    }

    fn value(&self, value: &Value, name: &str) -> Value {
        match value {
            Value::String(text) if names::is_secret(name) => Value::from(self.disguise(text)),
            Value::String(text) if name == "base64" => Value::from(other_bytes(text)),
            Value::String(text) => Value::from(self.text_of_host(text)),
            Value::Array(items) => items.iter().map(|item| self.value(item, name)).collect(),
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| (name.clone(), self.value(value, name)))
                .collect(),
            other => other.clone(),
        }
    }

    /// A text, in which fields of JSON may be secret that are nowhere else.
    fn text(&self, text: &str) -> String {
        let mut changed = self.replace(text);
        for (name, value) in pairs(text).unwrap_or_default() {
            if names::is_secret(&name) && !value.is_empty() {
                let (was, is) = (
                    format!("\"{value}\""),
                    format!("\"{}\"", self.disguise(&value)),
                );
                changed = changed.replace(&was, &is);
            }
        }
        changed
    }

    /// As [`Redactor::text`]; what still holds a secret then, hidden by escapes, is
    /// disguised as a whole.
    fn text_of_host(&self, text: &str) -> String {
        let changed = self.text(text);
        match self.hides(text, &changed) {
            true => self.disguise(text),
            false => changed,
        }
    }

    fn hides(&self, text: &str, changed: &str) -> bool {
        let secret = |(name, value): &(String, String)| {
            names::is_secret(name) && !value.is_empty() && texts::holds(text, name, value)
                || self.secrets.iter().any(|secret| value.contains(secret))
        };
        pairs(changed).is_some_and(|pairs| pairs.iter().any(secret))
    }

    fn path(&self, path: &str) -> String {
        let part = |part: &str| match part.len() > LONGEST_PART {
            true => self.disguise(part),
            false => self.replace(part),
        };
        path.split('/').map(part).collect::<Vec<_>>().join("/")
    }

    fn query(&self, query: &str) -> String {
        let pair = |pair: &str| match pair.split_once('=') {
            Some((name, value)) if names::is_secret(name) => {
                format!("{name}={}", self.disguise(value))
            }
            _ => self.replace(pair),
        };
        query.split('&').map(pair).collect::<Vec<_>>().join("&")
    }

    fn body(&self, body: &[u8], form: bool) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(body) else {
            return body.iter().map(|_| rand::random::<u8>()).collect();
        };
        if form {
            return self.query(text).into_bytes();
        }
        let changed = self.text(text);
        // What is no JSON may hold anything anywhere; what is may hide a secret in escapes.
        let hides = pairs(&changed).is_none() || self.hides(text, &changed);
        match hides {
            true => self.disguise(text).into_bytes(),
            false => changed.into_bytes(),
        }
    }

    fn replace(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            if text.contains(secret) {
                text = text.replace(secret, &self.disguise(secret));
            }
        }
        text
    }

    /// Another text with the same shape. What follows a `%` stays, or it would be no
    /// percent-encoding.
    fn disguise(&self, text: &str) -> String {
        let mut stream = Stream::new(&self.key, text);
        let hex = is_hex(text);
        // Percent-encoded bytes become others, or they would spell the secret.
        let mut escaped = 0;
        let other = |c: char| {
            if escaped > 0 || c == '%' {
                let second = escaped == 1;
                escaped = if c == '%' { 2 } else { escaped - 1 };
                return match c {
                    '%' => c,
                    // 0x61 to 0x69: plain letters.
                    _ if !second => '6',
                    _ => stream.one_of(b"123456789"),
                };
            }
            match c {
                c if c.len_utf8() == 2 => stream.one_of_wide(),
                c if !c.is_ascii() => stream.one_as_long_as(c),
                _ if hex => stream.one_of(b"0123456789abcdef"),
                'a'..='z' => stream.one_of(b"abcdefghijklmnopqrstuvwxyz"),
                'A'..='Z' => stream.one_of(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
                '0'..='9' => stream.one_of(b"0123456789"),
                c => c,
            }
        };
        text.chars().map(other).collect()
    }
}

/// True for a short text without a token in it.
pub(super) fn is_plain_value(text: &str) -> bool {
    text.len() <= LONGEST_PART && token_like(text).is_empty()
}

/// Bytes that follow from a key and a text: SHA-256 in counter mode.
struct Stream {
    seed: [u8; 32],
    block: u64,
    left: Vec<u8>,
}

impl Stream {
    fn new(key: &[u8; 32], text: &str) -> Stream {
        Stream {
            seed: Sha256::new()
                .chain_update(key)
                .chain_update(text)
                .finalize()
                .into(),
            block: 0,
            left: Vec::new(),
        }
    }

    /// A letter of two bytes in UTF-8.
    fn one_of_wide(&mut self) -> char {
        let at = u32::from(self.byte() % 32);
        char::from_u32(0x430 + at).unwrap_or('\u{430}')
    }

    /// A character of three or four bytes, as many as this one has.
    fn one_as_long_as(&mut self, c: char) -> char {
        let at = u32::from(self.byte());
        let from = if c.len_utf8() == 3 { 0x4e00 } else { 0x1f300 };
        char::from_u32(from + at).unwrap_or(c)
    }

    fn one_of(&mut self, alphabet: &[u8]) -> char {
        let byte = usize::from(self.byte());
        let at = byte % alphabet.len().max(1);
        alphabet.get(at).copied().map_or('x', char::from)
    }

    fn byte(&mut self) -> u8 {
        if self.left.is_empty() {
            let block = Sha256::new()
                .chain_update(self.seed)
                .chain_update(self.block.to_le_bytes());
            self.left = block.finalize().to_vec();
            self.block += 1;
        }
        self.left.pop().unwrap_or_default()
    }
}

/// What the content type says it is.
fn is_form(request: &Request) -> bool {
    let form = |(name, value): &(String, String)| {
        name == "content-type" && value.contains("x-www-form-urlencoded")
    };
    request.headers.iter().any(form)
}

fn secrets_of_target(request: &Request) -> Vec<String> {
    let query = request.query.as_deref().unwrap_or_default();
    let mut found: Vec<String> = names::secrets_of_pairs(query);
    found.extend(token_like(query));
    found.extend(token_like(&request.path));
    let long = |part: &&str| part.len() > LONGEST_PART;
    found.extend(request.path.split('/').filter(long).map(str::to_owned));
    found
}

fn secrets_of_body(body: &[u8]) -> Vec<String> {
    let Ok(text) = std::str::from_utf8(body) else {
        return Vec::new();
    };
    let mut found = token_like(text);
    match pairs(text) {
        Some(pairs) => {
            let secret = pairs.into_iter().filter(|(name, _)| names::is_secret(name));
            for (_, value) in secret {
                found.push(value);
            }
        }
        None => found.extend(names::secrets_of_pairs(text)),
    }
    found
}

/// The secrets in a result of the host, those in JSON within its texts too.
fn collect(value: &Value, name: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            if names::is_secret(name) {
                found.insert(text.clone());
            }
            found.extend(token_like(text));
            for (name, value) in pairs(text).unwrap_or_default() {
                if names::is_secret(&name) {
                    found.insert(value);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, name, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                collect(value, name, found);
            }
        }
        _ => {}
    }
}

/// As a plugin would decode it (RFC 3986 section 2.1), if that is another text.
fn decoded(text: &str) -> Option<String> {
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    (decoded != text).then(|| decoded.into_owned())
}

/// As many random bytes as there are in a base64 text.
fn other_bytes(text: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let bytes = STANDARD.decode(text).unwrap_or_default();
    // None of them could be text, so that the form stays the same.
    let other: Vec<u8> = bytes.iter().map(|_| 0x80 | rand::random::<u8>()).collect();
    STANDARD.encode(other)
}

/// Fresh random bytes, or numbers, in the form of the recorded ones.
fn random_like(result: &Value) -> Value {
    use crate::tape::{readable, unreadable};
    match unreadable(result.clone()) {
        Value::Array(items)
            if items
                .iter()
                .all(|item| item.as_u64().is_some_and(|n| n < 256)) =>
        {
            let bytes: Vec<u8> = items.iter().map(|_| rand::random()).collect();
            readable(Value::from(bytes))
        }
        Value::Array(items) => items
            .iter()
            .map(|_| Value::from(rand::random::<u64>()))
            .collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests;
