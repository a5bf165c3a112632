//! The stream under an HTTP/1 connection. hyper refuses what it cannot read with an
//! empty answer of its own, or with none at all if the headers are too slow; here
//! these become answers in the contract's form. And a connection that ends before all
//! of a request was read ends in two steps, so that the answer arrives. It changes
//! nothing else.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_io_timeout::TimeoutStream;

use super::body::Exchange;
use crate::respond::{self, Fault};

/// Unread bytes that are thrown away at the end, so that closing does not reset the
/// connection before the client has read the answer (RFC 9112 section 9.6).
const LINGER: usize = 1 << 20;

/// A client that was told of the end has this long to close its side.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// A TCP stream that speaks HTTP/1.
pub(super) struct Wire {
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    exchange: Arc<Exchange>,
    /// Bytes came in that belong to no handled request.
    head_begun: bool,
    /// The client has closed its side, or the stream is broken.
    ended: bool,
    /// What is written instead of hyper's refusal, and how far it is written.
    instead: Option<(Vec<u8>, usize)>,
    refused: bool,
    /// After the end was told: until when, and how many bytes more, the client may send.
    linger: Option<(Pin<Box<Sleep>>, usize)>,
    /// The connection speaks another protocol now.
    upgraded: bool,
}

/// How the answer begins after which it does (RFC 9110 section 15.2.2).
const SWITCHING: &[u8] = b"HTTP/1.1 101 ";

impl Wire {
    /// `exchange.handled` is to be set when a request reaches the handler.
    pub(super) fn new(stream: TimeoutStream<TcpStream>, exchange: Arc<Exchange>) -> Wire {
        Wire {
            stream: Box::pin(stream),
            exchange,
            head_begun: false,
            ended: false,
            instead: None,
            refused: false,
            linger: None,
            upgraded: false,
        }
    }

    /// Writes the answer in place of hyper's; then hyper's counts as written.
    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((answer, written)) = &mut self.instead {
            let rest = answer.get(*written..).unwrap_or_default();
            if rest.is_empty() {
                self.instead = None;
                break;
            }
            match ready!(self.stream.as_mut().poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => *written += more,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads on until the client has closed its side, sent too much or taken too long.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (time, left) = self
            .linger
            .get_or_insert_with(|| (Box::pin(tokio::time::sleep(LINGER_TIME)), LINGER));
        let mut scrap = [0; 8192];
        while time.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut scrap);
            let read = ready!(self.stream.as_mut().poll_read(cx, &mut buffer));
            let length = buffer.filled().len();
            match left.checked_sub(length) {
                Some(less) if read.is_ok() && length > 0 => *left = less,
                _ => break,
            }
        }
        Poll::Ready(())
    }

    /// What has arrived by now, for the end without a goodbye.
    fn discard_unread(&self) {
        let mut scrap = [0; 8192];
        let mut left = LINGER;
        while let Ok(length @ 1..) = self.stream.get_ref().try_read(&mut scrap) {
            match left.checked_sub(length) {
                Some(less) => left = less,
                None => return,
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(self.stream.as_mut().poll_read(cx, buffer));
        if result.is_ok() && buffer.filled().len() > before {
            self.head_begun = true;
        } else {
            self.ended = true;
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let handled = self.exchange.handled.swap(false, Ordering::Relaxed);
        self.head_begun = false;
        self.upgraded |= handled && bytes.starts_with(SWITCHING);
        if self.instead.is_none()
            && !handled
            && !self.upgraded
            && let Some(fault) = refusal(bytes)
        {
            self.instead = Some((answer(&fault), 0));
            self.refused = true;
        }
        if self.instead.is_some() {
            ready!(self.poll_instead(cx))?;
            return Poll::Ready(Ok(bytes.len()));
        }
        self.stream.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(self.stream.as_mut().poll_shutdown(cx))?;
        }
        if !self.ended && (self.refused || self.exchange.unread.load(Ordering::Relaxed)) {
            ready!(self.poll_linger(cx));
        }
        self.ended = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // hyper gave up on a head that did not arrive in time.
        let handled = self.exchange.handled.load(Ordering::Relaxed);
        if self.head_begun && !self.upgraded && !self.ended && !handled {
            let _ = self
                .stream
                .get_ref()
                .try_write(&answer(&Fault::SlowHeaders));
            self.refused = true;
        }
        if self.refused {
            self.discard_unread();
        }
    }
}

/// The fault if these bytes are an answer that hyper made up: a 4xx head without
/// body and without the request id that every answer of ours carries.
fn refusal(bytes: &[u8]) -> Option<Fault> {
    let head = std::str::from_utf8(bytes).ok()?;
    let head = head.strip_suffix("\r\n\r\n")?;
    if head.contains("\r\n\r\n") || head.contains("x-request-id:") {
        return None;
    }
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| head.strip_prefix("HTTP/1.0 "))?;
    match status.get(..4)? {
        "400 " => Some(Fault::Malformed),
        "414 " => Some(Fault::TargetTooLong),
        "431 " => Some(Fault::HeadersTooLarge),
        _ => None,
    }
}

/// The whole answer as bytes; the connection ends with it.
fn answer(fault: &Fault) -> Vec<u8> {
    let response = respond::fault(fault, false);
    let mut bytes = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    for (name, value) in response.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    let length = response.body().len();
    bytes.extend_from_slice(
        format!("content-length: {length}\r\nconnection: close\r\n\r\n").as_bytes(),
    );
    bytes.extend_from_slice(response.body());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hypers_own_refusals_are_replaced() {
        let bare = |status: &str| {
            format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        };
        assert_eq!(
            refusal(bare("400 Bad Request").as_bytes()),
            Some(Fault::Malformed)
        );
        assert_eq!(
            refusal(bare("414 URI Too Long").as_bytes()),
            Some(Fault::TargetTooLong)
        );
        assert_eq!(
            refusal(bare("431 Request Header Fields Too Large").as_bytes()),
            Some(Fault::HeadersTooLarge)
        );
        for other in [
            bare("200 OK"),
            "HTTP/1.1 100 Continue\r\n\r\n".to_owned(),
            bare("400 Bad Request\r\nx-request-id: 1"),
            format!("{}{{}}", bare("400 Bad Request")),
        ] {
            assert_eq!(refusal(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn the_answer_is_whole() {
        let answer = String::from_utf8(answer(&Fault::Malformed)).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"));
        assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())));
        assert!(body.contains("\"code\":\"REQ_001\"") && body.ends_with("}\n"));
    }
}
