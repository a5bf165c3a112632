//! Frames to and from the client: whole text messages, close frames, and what a broken
//! stream means. It knows neither plugins nor upstreams.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, error::ProtocolError};

use crate::respond::SocketFault;
use crate::sockets::Close;

/// The buffer that each socket reads into, bytes: most sockets are idle.
const READ_BUFFER: usize = 4 << 10;
/// How long the other end may take for its part of the closing handshake.
pub(super) const GOODBYE: Duration = Duration::from_millis(500);
/// Unread bytes that are thrown away so that the close frame is not lost in a reset.
const LINGER: usize = 16 << 20;
/// Thrown away at a time, bytes.
const SCRAP: usize = 8 << 10;
/// No frame was seen at the end (RFC 6455 section 7.1.5).
const ABNORMAL: u16 = 1006;
/// A close frame without a code (RFC 6455 section 7.1.5).
const NO_CODE: u16 = 1005;

/// What the client did.
#[derive(Debug)]
pub(super) enum Heard {
    /// A whole text message.
    Text(String),
    /// A sign of life that is nobody's business.
    Alive,
    /// It closed, with this code and reason.
    Closed(Close),
    /// It did what ends the connection.
    Fault(SocketFault),
}

/// The client's socket.
pub(super) struct Wire(WebSocketStream<TokioIo<Upgraded>>);

impl Wire {
    /// After the handshake; `most` is the size of a message.
    pub(super) async fn new(upgraded: Upgraded, most: usize) -> Wire {
        let config = config(most);
        let io = TokioIo::new(upgraded);
        Wire(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await)
    }

    /// The next thing that the client does. Nothing is read while the client does not take
    /// what it was sent, a pong for instance, so that nothing piles up. May be dropped
    /// before its end.
    pub(super) async fn next(&mut self) -> Heard {
        if self.0.flush().await.is_err() {
            return Heard::Closed(gone());
        }
        match self.0.next().await {
            Some(Ok(Message::Text(text))) => Heard::Text(text.as_str().to_owned()),
            Some(Ok(Message::Binary(_))) => Heard::Fault(SocketFault::Binary),
            Some(Ok(Message::Close(frame))) => Heard::Closed(of_frame(frame)),
            Some(Ok(_)) => Heard::Alive,
            Some(Err(error)) => match error {
                Error::Capacity(_) => Heard::Fault(SocketFault::TooLarge),
                Error::Utf8(_) => Heard::Fault(SocketFault::NotUtf8),
                Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                    Heard::Closed(gone())
                }
                Error::Protocol(_) => Heard::Fault(SocketFault::Protocol),
                _ => Heard::Closed(gone()),
            },
            None => Heard::Closed(gone()),
        }
    }

    /// Sends a text message; waits until the system has taken it. False: the client
    /// is gone, or takes nothing.
    pub(super) async fn send(&mut self, text: String) -> bool {
        self.0.send(Message::text(text)).await.is_ok()
    }

    /// Asks the client for a sign of life.
    pub(super) async fn ping(&mut self) -> bool {
        self.0.send(Message::Ping(Vec::new().into())).await.is_ok()
    }

    /// Ends the connection from this side.
    pub(super) async fn close(mut self, close: &Close) {
        let frame = CloseFrame {
            code: CloseCode::from(close.code),
            reason: close.reason.as_str().into(),
        };
        if !matches!(
            timeout(GOODBYE, self.0.close(Some(frame))).await,
            Ok(Ok(()))
        ) {
            return;
        }
        self.leave().await;
    }

    /// Answers the client's close frame, if it was one that ended the connection.
    pub(super) async fn closed(self) {
        self.leave().await;
    }

    /// The end of a connection whose close frame is sent or about to be (RFC 6455
    /// sections 7.1.1 and 7.1.7): the client's close frame is waited for, if frames can
    /// still be read; then it is told at once that nothing more comes, and what it
    /// still sends is thrown away for a while.
    async fn leave(mut self) {
        let answered = async { while let Some(Ok(_)) = self.0.next().await {} };
        let _ = timeout(GOODBYE, answered).await;
        // The client waits for this side to end the connection (RFC 6455 section 7.1.1).
        let _ = timeout(GOODBYE, self.0.get_mut().shutdown()).await;
        let _ = timeout(GOODBYE, self.linger()).await;
    }

    async fn linger(&mut self) {
        let mut scrap = vec![0; SCRAP];
        let mut left = LINGER;
        while let Ok(length @ 1..) = self.0.get_mut().read(&mut scrap).await {
            left = left.saturating_sub(length);
            if left == 0 {
                return;
            }
        }
    }
}

/// How frames are read and written on either side; `most` is the size of a message, bytes.
pub(super) fn config(most: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_frame_size(Some(most))
        .max_message_size(Some(most))
}

/// The end of a client that said nothing.
pub(super) fn gone() -> Close {
    Close {
        code: ABNORMAL,
        reason: String::new(),
    }
}

fn of_frame(frame: Option<CloseFrame>) -> Close {
    frame.map_or(
        Close {
            code: NO_CODE,
            reason: String::new(),
        },
        |frame| Close {
            code: frame.code.into(),
            reason: frame.reason.as_str().to_owned(),
        },
    )
}
