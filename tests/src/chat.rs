//! A double of the chat service: it speaks the upstream side of the contract, the call
//! to verify-token included. What it does with a message, the message says.
//!
//! | message | answer |
//! |---|---|
//! | `fail ...` | `error` |
//! | `empty` | `response` without text |
//! | `silent` | none |
//! | `slow` | `response` after 1.5 s |
//! | `late` | `response` after 3 s |
//! | `drop` | closes without an answer |
//! | `twice` | two times the same `response` |
//! | any other | `response` with `echo: ` and the message |

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::certificates;

mod page;

pub use page::Page;

/// How long the token adapter may take.
const VERIFY: Duration = Duration::from_secs(10);
/// After a connection that could not be accepted.
const BREATH: Duration = Duration::from_millis(50);

/// What the double has seen.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Opening handshakes, whatever came of them.
    pub handshakes: usize,
    /// Token and session id of each connection, in order.
    pub connections: Vec<(String, String)>,
    /// Each `chat` message as it came.
    pub messages: Vec<Value>,
}

/// How it greets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Asks verify-token and lets in whom it names.
    Verify,
    /// Refuses the handshake with 403.
    Forbid,
    /// Accepts and closes with 4001.
    CloseAtOnce,
}

#[derive(Debug)]
struct Record {
    /// False for one that runs for long: it only counts.
    kept: bool,
    count: u64,
    seen: Seen,
    manner: Manner,
}

/// A running double; dropped, it is gone with all its connections.
#[derive(Debug)]
pub struct Chat {
    address: SocketAddr,
    record: Arc<Mutex<Record>>,
    tls: Option<Tls>,
    task: Option<tokio::task::JoinHandle<()>>,
}

/// What a double with TLS shows.
#[derive(Clone)]
struct Tls(TlsAcceptor);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Chat {
    /// Listens on a port of this machine and writes down what it sees; `verify` is the
    /// base URL of the token adapter.
    pub async fn start(port: u16, verify: &str) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Self::listen_at(address, verify, true, None).expect("bind the chat double")
    }

    /// The same over TLS, with a new certificate that names `localhost` only; its CA is
    /// `ca.pem` in the folder then.
    pub async fn start_tls(port: u16, verify: &str, folder: &Path) -> Self {
        let tls = Tls(certificates::acceptor(folder));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Self::listen_at(address, verify, true, Some(tls)).expect("bind the chat double")
    }

    /// Listens at an address and writes nothing down, for those who let it run.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn serve(address: SocketAddr, verify: &str) -> io::Result<Self> {
        Self::listen_at(address, verify, false, None)
    }

    fn listen_at(
        address: SocketAddr,
        verify: &str,
        kept: bool,
        tls: Option<Tls>,
    ) -> io::Result<Self> {
        let listener = bind(address)?;
        let record = Record {
            kept,
            count: 0,
            seen: Seen::default(),
            manner: Manner::Verify,
        };
        let mut chat = Self {
            address: listener.local_addr()?,
            record: Arc::new(Mutex::new(record)),
            tls,
            task: None,
        };
        chat.listen(listener, verify);
        Ok(chat)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        locked(&self.record).seen.clone()
    }

    /// Greets in another manner from now on.
    pub fn greet(&self, manner: Manner) {
        locked(&self.record).manner = manner;
    }

    /// Ends at once, as a killed process does.
    pub async fn kill(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// Listens again at the same port.
    pub async fn start_again(&mut self, verify: &str) {
        let listener = bind(self.address).expect("bind the chat double");
        self.listen(listener, verify);
    }

    fn listen(&mut self, listener: TcpListener, verify: &str) {
        let (record, tls) = (self.record.clone(), self.tls.clone());
        let verify = format!("{verify}/api/v1/auth/verify-token");
        self.task = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        // Several small messages follow one another.
                        let _ = stream.set_nodelay(true);
                        let (record, verify) = (record.clone(), verify.clone());
                        match tls.clone() {
                            None => connections.spawn(serve(stream, record, verify)),
                            Some(Tls(acceptor)) => connections.spawn(async move {
                                if let Ok(stream) = acceptor.accept(stream).await {
                                    serve(stream, record, verify).await;
                                }
                            }),
                        };
                    }
                    Err(_) => tokio::time::sleep(BREATH).await,
                }
                while connections.try_join_next().is_some() {}
            }
        }));
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

fn locked(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

#[allow(
    clippy::result_large_err,
    reason = "the library's type for a refused handshake"
)]
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    record: Arc<Mutex<Record>>,
    verify: String,
) {
    let manner = locked(&record).manner;
    let mut query = String::new();
    let greet = |request: &Request, response: Response| {
        query = request.uri().query().unwrap_or_default().to_owned();
        locked(&record).seen.handshakes += 1;
        if manner == Manner::Forbid {
            let mut refusal = ErrorResponse::new(None);
            *refusal.status_mut() = hyper::StatusCode::FORBIDDEN;
            return Err(refusal);
        }
        Ok(response)
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, greet).await else {
        return;
    };
    let (token, session) = (parameter(&query, "token"), parameter(&query, "session_id"));
    let verified = reqwest::Client::new()
        .get(verify)
        .bearer_auth(&token)
        .timeout(VERIFY)
        .send()
        .await
        .is_ok_and(|answer| answer.status().is_success());
    if manner == Manner::CloseAtOnce || !verified {
        let frame = CloseFrame {
            code: 4001.into(),
            reason: "Authentication failed".into(),
        };
        let _ = socket.close(Some(frame)).await;
        return;
    }
    {
        let mut record = locked(&record);
        if record.kept {
            record.seen.connections.push((token, session));
        }
    }
    for greeting in [
        json!({"type": "welcome", "message": "Connected"}),
        json!({"type": "history", "messages": []}),
    ] {
        let _ = socket.send(Message::text(greeting.to_string())).await;
    }
    let _ = socket.send(Message::text("no JSON")).await;
    converse(&mut socket, &record).await;
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    record: &Mutex<Record>,
) {
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else {
            continue;
        };
        let said: Value = serde_json::from_str(&text).unwrap_or_default();
        let number = {
            let mut record = locked(record);
            record.count += 1;
            if record.kept {
                record.seen.messages.push(said.clone());
            }
            record.count
        };
        let Some(message) = said["message"].as_str() else {
            let fault = json!({"type": "error", "message": "That is no message"}).to_string();
            let _ = socket.send(Message::text(fault)).await;
            continue;
        };
        let answer = |text: &str| {
            json!({
                "type": "response", "response": text, "message_id": format!("m{number}"),
                "model": "small", "status": "ok",
            })
            .to_string()
        };
        let echo = answer(&format!("echo: {message}"));
        let answers = match message {
            "silent" => vec![],
            "drop" => return,
            "empty" => vec![answer("")],
            "twice" => vec![echo.clone(), echo],
            "slow" | "late" => {
                let wait = if message == "slow" { 1_500 } else { 3_000 };
                tokio::time::sleep(Duration::from_millis(wait)).await;
                vec![echo]
            }
            failed if failed.starts_with("fail") => {
                vec![json!({"type": "error", "message": "The model is away"}).to_string()]
            }
            _ => vec![echo],
        };
        for answer in answers {
            if socket.send(Message::text(answer)).await.is_err() {
                return;
            }
        }
    }
}

fn parameter(query: &str, name: &str) -> String {
    let value = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map_or("", |(_, value)| value);
    percent_encoding::percent_decode_str(value)
        .decode_utf8_lossy()
        .into_owned()
}
