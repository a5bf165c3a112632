//! A server that takes connections and says something else than Redis does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// What it may say: HTTP, an alert of TLS, broken replies, a Redis that is not ready, and
/// nothing before it closes.
pub const ANSWERS: [&[u8]; 5] = [
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    b"\x15\x03\x03\x00\x02\x02\x46",
    b"+OK\r\n*-7\r\n$99999999999999999999\r\n",
    b"-LOADING Redis is loading the dataset in memory\r\n",
    b"",
];

/// Starts it for as long as the runtime lives: its URL, and how often it was asked.
pub async fn start(answer: &'static [u8]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else {
                continue;
            };
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(1..) = stream.read(&mut buffer).await {
                    count.fetch_add(1, Ordering::SeqCst);
                    if answer.is_empty() || stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (format!("redis://lwe-app:x@{address}"), asked)
}
