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

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::certificates;

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

/// A running double; dropped, it is gone with all its connections.
#[derive(Debug)]
pub struct Chat {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    manner: Arc<Mutex<Manner>>,
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
    /// Listens on a port; `verify` is the base URL of the token adapter.
    pub async fn start(port: u16, verify: &str) -> Self {
        Self::start_with(port, verify, None).await
    }

    /// The same over TLS, with a new certificate that names `localhost` only; its CA is
    /// `ca.pem` in the folder then.
    pub async fn start_tls(port: u16, verify: &str, folder: &Path) -> Self {
        certificates::make(folder);
        let chain = CertificateDer::from_pem_file(folder.join("server.pem"));
        let chain = vec![chain.expect("the certificate that was made")];
        let key = PrivateKeyDer::from_pem_file(folder.join("server.key"));
        let key = key.expect("the key that was made");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate and its key");
        let tls = Tls(TlsAcceptor::from(Arc::new(config)));
        Self::start_with(port, verify, Some(tls)).await
    }

    async fn start_with(port: u16, verify: &str, tls: Option<Tls>) -> Self {
        let listener = bind(port).await;
        let mut chat = Self {
            address: listener.local_addr().expect("the double's address"),
            seen: Arc::default(),
            manner: Arc::new(Mutex::new(Manner::Verify)),
            tls,
            task: None,
        };
        chat.listen(listener, verify);
        chat
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().expect("no panic held it").clone()
    }

    /// Greets in another manner from now on.
    pub fn greet(&self, manner: Manner) {
        *self.manner.lock().expect("no panic held it") = manner;
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
        let listener = bind(self.address.port()).await;
        self.listen(listener, verify);
    }

    fn listen(&mut self, listener: TcpListener, verify: &str) {
        let (seen, manner) = (self.seen.clone(), self.manner.clone());
        let tls = self.tls.clone();
        let verify = format!("{verify}/api/v1/auth/verify-token");
        self.task = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                // Several small messages follow one another.
                let _ = stream.set_nodelay(true);
                let manner = *manner.lock().expect("no panic held it");
                let (seen, verify) = (seen.clone(), verify.clone());
                match tls.clone() {
                    None => connections.spawn(serve(stream, seen, manner, verify)),
                    Some(Tls(acceptor)) => connections.spawn(async move {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            serve(stream, seen, manner, verify).await;
                        }
                    }),
                };
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

async fn bind(port: u16) -> TcpListener {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("reuse the address");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    socket.bind(address).expect("bind the chat double");
    socket.listen(1024).expect("listen")
}

#[allow(
    clippy::result_large_err,
    reason = "the library's type for a refused handshake"
)]
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    seen: Arc<Mutex<Seen>>,
    manner: Manner,
    verify: String,
) {
    let mut query = String::new();
    let greet = |request: &Request, response: Response| {
        query = request.uri().query().unwrap_or_default().to_owned();
        seen.lock().expect("no panic held it").handshakes += 1;
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
        let mut seen = seen.lock().expect("no panic held it");
        seen.connections.push((token, session));
    }
    for greeting in [
        json!({"type": "welcome", "message": "Connected"}),
        json!({"type": "history", "messages": []}),
    ] {
        let _ = socket.send(Message::text(greeting.to_string())).await;
    }
    let _ = socket.send(Message::text("no JSON")).await;
    converse(&mut socket, &seen).await;
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    seen: &Mutex<Seen>,
) {
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else {
            continue;
        };
        let said: Value = serde_json::from_str(&text).expect("the gateway sends JSON");
        let number = {
            let mut seen = seen.lock().expect("no panic held it");
            seen.messages.push(said.clone());
            seen.messages.len()
        };
        let message = said["message"].as_str().unwrap_or_default();
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
