//! What a guest writes becomes log lines here, within its limits. Nothing is passed
//! on unseen: tokens and control characters are taken out.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{OutputStream, StreamResult};

use crate::config::Limits;
use crate::telemetry;

/// The lines that a guest writes to stdout or stderr, as log lines with the
/// service's name. What is over the limit is counted and dropped.
#[derive(Debug)]
pub struct Lines {
    tags: Tags,
    partial: Vec<u8>,
    lines_left: u32,
    bytes_left: usize,
    dropped: u64,
}

/// Whose lines they are.
#[derive(Debug)]
struct Tags {
    service: String,
    /// The first digits of its digest.
    revision: String,
    request_id: String,
    /// None: the request is not traced.
    trace_id: Option<String>,
}

impl Lines {
    pub(super) fn new(service: &str, revision: &str) -> Lines {
        Lines {
            tags: Tags {
                service: service.to_owned(),
                revision: revision.to_owned(),
                request_id: String::new(),
                trace_id: None,
            },
            partial: Vec::new(),
            lines_left: 0,
            bytes_left: 0,
            dropped: 0,
        }
    }

    /// Starts a call with its own limits.
    pub fn begin(&mut self, request_id: &str, limits: &Limits) {
        request_id.clone_into(&mut self.tags.request_id);
        self.tags.trace_id = telemetry::current_trace_id();
        self.lines_left = limits.log_lines;
        self.bytes_left = limits.log_bytes;
    }

    /// Ends a call: writes what has no newline, and says how much was dropped.
    pub fn end(&mut self) {
        self.flush();
        if self.dropped > 0 {
            let Tags {
                service,
                revision,
                request_id,
                trace_id,
            } = &self.tags;
            tracing::warn!(
                target: "lockgate::plugin", service, revision, request_id, trace_id,
                dropped_bytes = self.dropped, "the plugin wrote more log than it may",
            );
            self.dropped = 0;
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let kept = piece.len().min(self.bytes_left);
            let kept = if self.lines_left == 0 { 0 } else { kept };
            self.bytes_left -= kept;
            self.dropped = self.dropped.saturating_add((piece.len() - kept) as u64);
            self.partial
                .extend_from_slice(piece.get(..kept).unwrap_or_default());
            if self.partial.ends_with(b"\n") {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        let text = String::from_utf8_lossy(&self.partial);
        let text = text.trim_end();
        if !text.is_empty() {
            emit(&self.tags, text);
            self.lines_left = self.lines_left.saturating_sub(1);
        }
        self.partial.clear();
    }
}

/// Writes one line at the level that it names first (`error:`, `warning:`,
/// `debug:`), else as information.
fn emit(tags: &Tags, line: &str) {
    let Tags {
        service,
        revision,
        request_id,
        trace_id,
    } = tags;
    let (level, text) = line.split_once(':').unwrap_or(("", line));
    let text = text.trim_start();
    macro_rules! log {
        ($level:ident, $text:expr) => {
            tracing::$level!(
                target: "lockgate::plugin", service, revision, request_id, trace_id,
                "{}", harmless($text)
            )
        };
    }
    match level.to_ascii_lowercase().as_str() {
        "error" => log!(error, text),
        "warning" | "warn" => log!(warn, text),
        "debug" => log!(debug, text),
        "info" => log!(info, text),
        _ => log!(info, line),
    }
}

/// Without control characters, and without anything that looks like a JSON Web Token.
fn harmless(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find("eyJ") {
        let (before, token) = rest.split_at(start);
        let of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '=');
        let end = token.find(|c| !of_token(c)).unwrap_or(token.len());
        let (token, after) = token.split_at(end);
        out.push_str(before);
        out.push_str(if token.contains('.') {
            "[token]"
        } else {
            token
        });
        rest = after;
    }
    out.push_str(rest);
    out.replace(|c: char| c.is_control(), " ")
}

/// The guest's standard output and standard error.
pub(super) struct Output(pub(super) Arc<Mutex<Lines>>);

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    // Only WASI 0.3 asks for this one, and it is not linked.
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Output(self.0.clone()))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(8192)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(lines: u32, bytes: usize) -> Limits {
        let config = crate::config::Config::from_parts(None, |_| None).unwrap();
        let mut limits = config.services[0].limits.clone();
        (limits.log_lines, limits.log_bytes) = (lines, bytes);
        limits
    }

    #[test]
    fn a_chatty_guest_is_cut_and_the_rest_counted() {
        let mut lines = Lines::new("probe", "0123456789ab");
        lines.begin("r1", &limits(2, 100));
        lines.write(b"one\ntwo\nthree\n");
        assert_eq!((lines.lines_left, lines.dropped), (0, 6));
        lines.end();
        lines.begin("r2", &limits(10, 4));
        lines.write(&[b'x'; 1000]);
        assert_eq!((lines.partial.len(), lines.dropped), (4, 996));
    }

    #[test]
    fn tokens_and_control_characters_do_not_reach_the_log() {
        assert_eq!(
            harmless("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2ln, ok\u{1b}[31m\nfake"),
            "got [token], ok [31m fake"
        );
        assert_eq!(harmless("keyJar is fine"), "keyJar is fine");
    }
}
