//! Frames of RFC 6455, written and read byte by byte: for what no WebSocket library would
//! send, and to see exactly what comes back. It judges nothing but how a frame of the host
//! is built.

use std::fmt;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::raw;

/// A frame that goes on with a message (section 5.4).
pub const CONTINUATION: u8 = 0x0;
/// A text (section 5.6).
pub const TEXT: u8 = 0x1;
/// Bytes (section 5.6).
pub const BINARY: u8 = 0x2;
/// Section 5.5.1.
pub const CLOSE: u8 = 0x8;
/// Section 5.5.2.
pub const PING: u8 = 0x9;
/// Section 5.5.3.
pub const PONG: u8 = 0xa;

/// The sample key of section 1.3, and the answer to it.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// See [`KEY`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// How long the host may take to send something; it tells a hang only.
const GUARD: Duration = Duration::from_secs(30);
/// The longest frame that any test expects of the host, bytes.
const LONGEST: u64 = 2 << 20;

/// How the length of a payload is written (section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// In as few bytes as it can be.
    Least,
    /// In two bytes, whatever it is.
    Two,
    /// In eight bytes, whatever it is.
    Eight,
    /// In eight bytes, another one than that of the payload.
    Announced(u64),
}

/// A frame to be sent: final and masked unless it is said otherwise.
#[derive(Debug, Clone)]
pub struct Frame {
    first: u8,
    mask: Option<[u8; 4]>,
    length: Length,
    payload: Vec<u8>,
}

impl Frame {
    /// A frame of any opcode below 16.
    pub fn new(opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        assert!(opcode < 16, "an opcode has four bits");
        Self {
            first: 0x80 | opcode,
            mask: Some([0x37, 0xfa, 0x21, 0x3d]),
            length: Length::Least,
            payload: payload.as_ref().to_vec(),
        }
    }

    /// A text, whether it is UTF-8 or not.
    pub fn text(payload: impl AsRef<[u8]>) -> Self {
        Self::new(TEXT, payload)
    }

    /// A close frame with a code and a reason.
    pub fn close(code: u16, reason: impl AsRef<[u8]>) -> Self {
        let payload = [&code.to_be_bytes(), reason.as_ref()].concat();
        Self::new(CLOSE, payload)
    }

    /// Without FIN: more of the message comes (section 5.4).
    pub fn unfinished(mut self) -> Self {
        self.first &= 0x7f;
        self
    }

    /// With these of the reserved bits: 4, 2 and 1 are RSV1, RSV2 and RSV3.
    pub fn reserved(mut self, bits: u8) -> Self {
        assert!(bits < 8, "there are three reserved bits");
        self.first |= bits << 4;
        self
    }

    /// With another mask, or without one (section 5.3).
    pub fn mask(mut self, mask: Option<[u8; 4]>) -> Self {
        self.mask = mask;
        self
    }

    /// With its length written so.
    pub fn length(mut self, length: Length) -> Self {
        self.length = length;
        self
    }

    /// What it says that it is.
    pub fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.first];
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        let length = self.payload.len() as u64;
        match (self.length, length) {
            (Length::Least, 0..126) => bytes.push(masked | length as u8),
            (Length::Two, _) | (Length::Least, 126..65_536) => {
                bytes.push(masked | 126);
                bytes.extend(u16::try_from(length).expect("two bytes").to_be_bytes());
            }
            (Length::Announced(said), _) => {
                bytes.push(masked | 127);
                bytes.extend(said.to_be_bytes());
            }
            (Length::Eight | Length::Least, _) => {
                bytes.push(masked | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
        let mask = self.mask.unwrap_or_default();
        bytes.extend(self.mask.iter().flatten());
        let payload = self.payload.iter().zip(mask.iter().cycle());
        bytes.extend(payload.map(|(byte, key)| byte ^ key));
        bytes
    }
}

/// What came from the host.
#[derive(Clone, PartialEq, Eq)]
pub enum Came {
    /// A whole frame: opcode and payload.
    Frame(u8, Vec<u8>),
    /// The end of what the host sends, in order (not by a reset).
    End,
}

impl Came {
    /// A text.
    pub fn text(payload: impl AsRef<[u8]>) -> Self {
        Self::Frame(TEXT, payload.as_ref().to_vec())
    }

    /// A pong.
    pub fn pong(payload: impl AsRef<[u8]>) -> Self {
        Self::Frame(PONG, payload.as_ref().to_vec())
    }

    /// A close frame with a code and a reason.
    pub fn close(code: u16, reason: &str) -> Self {
        let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
        Self::Frame(CLOSE, payload)
    }

    /// True for a close frame.
    pub fn is_close(&self) -> bool {
        matches!(self, Self::Frame(CLOSE, _))
    }
}

impl fmt::Debug for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Frame(opcode, payload) = self else {
            return f.write_str("end");
        };
        let start = &payload[..payload.len().min(48)];
        match (*opcode, payload.as_slice()) {
            (CLOSE, [high, low, reason @ ..]) => {
                let code = u16::from_be_bytes([*high, *low]);
                write!(f, "close {code} {:?}", String::from_utf8_lossy(reason))
            }
            _ => write!(
                f,
                "opcode {opcode}, {} bytes, {:?}",
                payload.len(),
                String::from_utf8_lossy(start)
            ),
        }
    }
}

/// A client without any rule.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
}

impl Client {
    /// A connection on which nothing was said.
    pub async fn connect(port: u16) -> Self {
        let stream = raw::connect(port).await;
        stream.set_nodelay(true).expect("send at once");
        Self { stream }
    }

    /// An open socket at this path, with or without a query.
    pub async fn open(port: u16, target: &str) -> Result<Self, String> {
        let mut client = Self::connect(port).await;
        client.write(handshake(target, "").as_bytes()).await;
        let head = client.head().await?;
        let accepted = format!("\r\nsec-websocket-accept: {ACCEPT}\r\n");
        if head.starts_with("HTTP/1.1 101 ") && head.contains(&accepted) {
            return Ok(client);
        }
        Err(format!("the handshake was answered {head:?}"))
    }

    /// Sends bytes at once. The host may have closed the connection: what it has sent
    /// before shows that.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Sends frames at once.
    pub async fn send(&mut self, frames: &[Frame]) {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        self.write(&bytes).await;
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// The head of an answer of HTTP, with its empty line.
    pub async fn head(&mut self) -> Result<String, String> {
        let reading = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match self.stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(error) => return Err(format!("no answer: {error}")),
                }
            }
            Ok(String::from_utf8_lossy(&head).into_owned())
        };
        let read = timeout(GUARD, reading).await;
        read.map_err(|_| "no answer came".to_owned())?
    }

    /// The next frame or the end; an error in words if it is not built as the RFC says.
    pub async fn came(&mut self) -> Result<Came, String> {
        let read = timeout(GUARD, self.read()).await;
        read.map_err(|_| "nothing came".to_owned())?
    }

    async fn read(&mut self) -> Result<Came, String> {
        let cut = |error: std::io::Error| format!("the frame is cut short: {error}");
        let mut first = [0];
        match self.stream.read(&mut first).await {
            Ok(0) => return Ok(Came::End),
            Ok(_) => {}
            Err(error) => return Err(format!("no clean end: {error}")),
        }
        let [first] = first;
        let second = self.stream.read_u8().await.map_err(cut)?;
        let length = match second & 0x7f {
            126 => u64::from(self.stream.read_u16().await.map_err(cut)?),
            127 => self.stream.read_u64().await.map_err(cut)?,
            short => u64::from(short),
        };
        let least = match second & 0x7f {
            126 => 126,
            127 => 65_536,
            _ => 0,
        };
        if first & 0xf0 != 0x80 || second & 0x80 != 0 || length < least || length > LONGEST {
            return Err(format!("a frame begins {first:#x} {second:#x}, {length}"));
        }
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await.map_err(cut)?;
        Ok(Came::Frame(first & 0x0f, payload))
    }

    /// Closes with 1000 and takes the answer and the end of the connection.
    pub async fn close(mut self) -> Result<(), String> {
        self.send(&[Frame::close(1000, "done")]).await;
        for wanted in [Came::close(1000, "done"), Came::End] {
            let came = self.came().await?;
            if came != wanted {
                return Err(format!("{came:?} instead of {wanted:?} when closing"));
            }
        }
        Ok(())
    }
}

/// A whole opening handshake (section 4.1) with more lines of a header, each with its CRLF.
pub fn handshake(target: &str, more: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: lockgate.example.org\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\
         {more}\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        // Section 5.7.
        let hello = Frame::text("Hello");
        let masked = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        assert_eq!(hello.bytes(), masked);
        let plain = hello.mask(None).bytes();
        assert_eq!(plain, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        let part = Frame::text("Hel").unfinished().mask(None).bytes();
        assert_eq!(part, [0x01, 0x03, 0x48, 0x65, 0x6c]);
        let binary = |length: usize| Frame::new(BINARY, vec![0; length]).mask(None).bytes();
        assert_eq!(binary(256)[..4], [0x82, 0x7e, 0x01, 0x00]);
        assert_eq!(binary(65_536)[..10], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn what_no_client_should_send() {
        let text = Frame::text("a").mask(None);
        assert_eq!(text.clone().reserved(4).bytes(), [0xc1, 1, b'a']);
        assert_eq!(
            text.clone().length(Length::Two).bytes(),
            [0x81, 126, 0, 1, b'a']
        );
        let eight = text.clone().length(Length::Eight).bytes();
        assert_eq!(eight, [0x81, 127, 0, 0, 0, 0, 0, 0, 0, 1, b'a']);
        let announced = text.length(Length::Announced(1 << 63)).bytes();
        assert_eq!(announced, [0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0, b'a']);
    }
}
