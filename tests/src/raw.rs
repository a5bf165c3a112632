//! Raw TCP to a listener, for what no HTTP client would send.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Opens a connection.
pub async fn connect(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("connect to a listener")
}

/// Sends bytes on a new connection and reads until the peer closes it. The
/// request should ask for `Connection: close`. What came until an error (such as
/// a reset) counts; the guard panics.
pub async fn exchange(port: u16, request: &[u8]) -> Vec<u8> {
    let mut stream = connect(port).await;
    // The peer may refuse early and close: what it has said still counts.
    let _ = stream.write_all(request).await;
    read_to_close(&mut stream, Duration::from_secs(60)).await
}

/// Reads until the peer closes the connection; panics after the guard.
pub async fn read_to_close(stream: &mut TcpStream, guard: Duration) -> Vec<u8> {
    let mut all = Vec::new();
    let reading = async {
        let mut part = [0_u8; 16 * 1024];
        while let Ok(count @ 1..) = stream.read(&mut part).await {
            all.extend_from_slice(&part[..count]);
        }
    };
    let done = tokio::time::timeout(guard, reading).await;
    let text = String::from_utf8_lossy(&all);
    assert!(
        done.is_ok(),
        "the connection was still open after {guard:?}; so far: {text}"
    );
    all
}

/// One answer, taken apart.
#[derive(Debug)]
pub struct RawAnswer {
    /// Status code.
    pub status: u16,
    /// Lines of the head below the status line.
    pub headers: Vec<String>,
    /// All after the head.
    pub body: Vec<u8>,
}

impl RawAnswer {
    /// Takes the first answer of a connection apart; none if it was closed without one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.map(str::to_owned).collect();
        Some(Self {
            status,
            headers,
            body: bytes[end + 4..].to_vec(),
        })
    }

    /// The body as JSON (without transfer encoding).
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }
}
