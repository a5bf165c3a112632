//! A recorded call: the request, everything that the component asked of the host with what
//! it got, and what came of it. Its form as a file, plain or encrypted. It runs nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::bindings::lockgate::plugin::types::Request;
use crate::clock::timestamp;
use crate::config::Limits;
use crate::tape::{Entry, of_bytes, readable, unreadable};

mod compare;
mod redact;
mod seal;

pub use compare::shown_difference;
pub use redact::{Redactor, token_like};
pub use seal::{Key, KeyError};

/// Of the form of the file.
const FORMAT: u32 = 1;

/// Longest file, bytes.
pub const MAX_SIZE: usize = 8 << 20;

/// What one call was and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    format: u32,
    /// Which service.
    pub service: String,
    /// SHA-256 of the component, 64 hex digits.
    pub digest: String,
    /// When it ended, RFC 3339.
    pub recorded_at: String,
    /// As in the log.
    pub request_id: String,
    /// Tokens and secrets stand for others, and the component was run again with those.
    pub redacted: bool,
    /// What the component may use up.
    pub limits: Limits,
    /// Its settings.
    pub environment: BTreeMap<String, String>,
    /// As the component saw it.
    request: Value,
    /// What it asked of the host, in this order.
    pub calls: Vec<Entry>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// An answer that can be sent.
    Answer {
        /// Of HTTP.
        status: u16,
        /// In order.
        headers: Vec<(String, String)>,
        /// Its text, or base64 if it is none.
        body: Value,
    },
    /// None.
    Fault {
        /// The word that metrics count it under.
        kind: String,
        /// The sentence of the log.
        words: String,
    },
}

type Headers = [(String, String)];

/// Why a file is no trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It needs a key.
    #[error("the trace is encrypted: name its key with --key-file")]
    Encrypted,
    /// The key is another one, or the file was changed.
    #[error("the trace cannot be decrypted with this key")]
    Key,
    /// Not JSON, or not that of a trace.
    #[error("this is not a trace: {0}")]
    Form(String),
    /// Of a later host.
    #[error("the trace has format {0}; this program reads {FORMAT}")]
    Format(u32),
}

impl Outcome {
    /// Of an answer.
    pub fn of_answer(answer: &http::Response<Bytes>) -> Outcome {
        let headers = answer.headers().iter();
        let pair = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.as_str().to_owned(), value.into_owned())
        };
        Outcome::Answer {
            status: answer.status().as_u16(),
            headers: headers.map(pair).collect(),
            body: of_bytes(answer.body()),
        }
    }

    /// Neither an answer below 500 nor none.
    pub fn is_failure(&self) -> bool {
        match self {
            Outcome::Answer { status, .. } => *status >= 500,
            Outcome::Fault { .. } => true,
        }
    }

    /// The same status, or the same kind of fault.
    pub fn is_alike(&self, other: &Outcome) -> bool {
        match (self, other) {
            (Outcome::Answer { status, .. }, Outcome::Answer { status: its, .. }) => status == its,
            (Outcome::Fault { kind, .. }, Outcome::Fault { kind: its, .. }) => kind == its,
            _ => false,
        }
    }

    /// The first thing in which another outcome differs; none if it is the same, byte for byte.
    pub fn difference(&self, other: &Outcome) -> Option<String> {
        if self == other {
            return None;
        }
        let (Some((status, headers, body)), Some((its_status, its_headers, its_body))) =
            (self.answer(), other.answer())
        else {
            return Some(format!(
                "recorded was {}, now {}",
                self.shown(),
                other.shown()
            ));
        };
        if status != its_status {
            return Some(format!("status: recorded was {status}, now {its_status}"));
        }
        if headers != its_headers {
            let shown = |headers: &[(String, String)]| {
                let lines = headers
                    .iter()
                    .map(|(name, value)| format!("{name}: {value}"));
                lines.collect::<Vec<_>>().join(", ")
            };
            let (was, is) = (shown(headers), shown(its_headers));
            return Some(format!("headers: recorded was [{was}], now [{is}]"));
        }
        Some(format!(
            "body: {}",
            first_difference(&text(body), &text(its_body))
        ))
    }

    /// Status, headers and body, if it is an answer.
    fn answer(&self) -> Option<(u16, &Headers, &Value)> {
        match self {
            Outcome::Answer {
                status,
                headers,
                body,
            } => Some((*status, headers, body)),
            Outcome::Fault { .. } => None,
        }
    }

    /// In a few words.
    pub fn shown(&self) -> String {
        match self {
            Outcome::Answer { status, .. } => format!("an answer {status}"),
            Outcome::Fault { words, .. } => format!("no answer ({words})"),
        }
    }
}

fn text(body: &Value) -> String {
    let inner = body.get("text").or_else(|| body.get("base64"));
    inner.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Where two texts part, with a little around it.
fn first_difference(was: &str, is: &str) -> String {
    let same = was
        .chars()
        .zip(is.chars())
        .take_while(|(a, b)| a == b)
        .count();
    let around = |text: &str| {
        text.chars()
            .skip(same.saturating_sub(20))
            .take(80)
            .collect::<String>()
    };
    let (was, is) = (around(was), around(is));
    format!("from character {same} on, recorded was {was:?}, now {is:?}")
}

impl Trace {
    /// Of a call that has ended now.
    pub fn new(
        component: (&str, &str),
        limits: &Limits,
        environment: &[(String, String)],
        request_id: &str,
        request: &Request,
        calls: Vec<Entry>,
        outcome: Outcome,
    ) -> Trace {
        Trace {
            format: FORMAT,
            service: component.0.to_owned(),
            digest: component.1.to_owned(),
            recorded_at: timestamp(OffsetDateTime::now_utc()),
            request_id: request_id.to_owned(),
            redacted: false,
            limits: limits.clone(),
            environment: environment.iter().cloned().collect(),
            request: readable(serde_json::to_value(request).unwrap_or_default()),
            calls,
            outcome,
        }
    }

    /// The request as the component saw it.
    ///
    /// # Errors
    /// It is none of this host's form.
    pub fn request(&self) -> Result<Request, TraceError> {
        let request = unreadable(self.request.clone());
        serde_json::from_value(request).map_err(|error| TraceError::Form(error.to_string()))
    }

    /// The component's settings.
    pub fn environment(&self) -> Vec<(String, String)> {
        let pairs = self.environment.iter();
        pairs
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// As a file, encrypted if there is a key.
    ///
    /// # Errors
    /// It cannot be encrypted.
    pub fn to_file(&self, key: Option<&Key>) -> Result<Vec<u8>, KeyError> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        match key {
            Some(key) => key.seal(text),
            None => Ok(text),
        }
    }

    /// From a file.
    ///
    /// # Errors
    /// [`TraceError`].
    pub fn from_file(file: Vec<u8>, key: Option<&Key>) -> Result<Trace, TraceError> {
        let text = match (seal::is_sealed(&file), key) {
            (false, _) => file,
            (true, None) => return Err(TraceError::Encrypted),
            (true, Some(key)) => key.open(file).ok_or(TraceError::Key)?,
        };
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let form = |error: serde_json::Error| TraceError::Form(error.to_string());
        let head: Head = serde_json::from_slice(&text).map_err(form)?;
        if head.format != FORMAT {
            return Err(TraceError::Format(head.format));
        }
        let trace: Trace = serde_json::from_slice(&text).map_err(form)?;
        trace.request()?;
        Ok(trace)
    }
}

#[cfg(test)]
mod tests;
