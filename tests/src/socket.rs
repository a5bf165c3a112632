//! A WebSocket client for tests: it opens a socket of a host and says what came, with
//! a guard on every wait.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::host::{Host, Service};
use crate::wait::GUARD;

/// A socket to be opened.
#[derive(Debug, Clone)]
pub struct Opening {
    port: u16,
    target: String,
    headers: Vec<(&'static str, String)>,
}

/// An open socket.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    /// The host's answer to the handshake.
    pub answer: Response,
}

/// What came.
#[derive(Debug, Clone, PartialEq)]
pub enum Came {
    /// A JSON message.
    Said(Value),
    /// A close frame.
    Closed(u16, String),
    /// The end without a close frame.
    Gone,
}

impl Host {
    /// A socket of the gateway at `/ws/chat`, with this query.
    pub fn socket(&self, query: &str) -> Opening {
        self.socket_at("/ws/chat", query)
    }

    /// A socket of the gateway with the token in the query, as the front end opens it.
    pub fn chat_socket(&self, token: &str) -> Opening {
        self.socket(&format!("token={token}"))
    }

    /// A socket at another path.
    pub fn socket_at(&self, path: &str, query: &str) -> Opening {
        self.socket_of(Service::Gateway, path, query)
    }

    /// A socket of any service.
    pub fn socket_of(&self, service: Service, path: &str, query: &str) -> Opening {
        let mark = if query.is_empty() { "" } else { "?" };
        Opening {
            port: self.port(service),
            target: format!("{path}{mark}{query}"),
            headers: Vec::new(),
        }
    }
}

impl Opening {
    /// A socket of any server, at a path with its query.
    pub fn at(port: u16, target: &str) -> Self {
        Self {
            port,
            target: target.to_owned(),
            headers: Vec::new(),
        }
    }

    /// With a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Opens it; the error of a refused handshake.
    pub async fn try_open(&self) -> Result<Socket, Error> {
        let url = format!("ws://127.0.0.1:{}{}", self.port, self.target);
        let mut request = url.into_client_request()?;
        for (name, value) in &self.headers {
            let value = value.parse().expect("a header's value");
            request.headers_mut().append(*name, value);
        }
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        let opened = tokio_tungstenite::client_async(request, stream);
        let (stream, answer) = timeout(GUARD, opened).await.expect("a handshake ends")?;
        Ok(Socket { stream, answer })
    }

    /// Opens it.
    pub async fn open(&self) -> Socket {
        self.try_open().await.expect("the handshake is accepted")
    }

    /// Opens it and takes the `connection_confirmed`.
    pub async fn confirmed(&self) -> (Socket, Value) {
        let mut socket = self.open().await;
        let confirmed = socket.said().await;
        assert_eq!(confirmed["type"], "connection_confirmed", "{confirmed}");
        (socket, confirmed)
    }

    /// Opens it and takes the close frame that must come first.
    pub async fn refused(&self) -> (u16, String) {
        self.open().await.closed().await
    }
}

impl Socket {
    /// The next thing that comes.
    pub async fn came(&mut self) -> Came {
        timeout(GUARD, self.read())
            .await
            .expect("something comes in time")
    }

    /// What comes within a time, if anything does.
    pub async fn came_within(&mut self, time: Duration) -> Option<Came> {
        timeout(time, self.read()).await.ok()
    }

    async fn read(&mut self) -> Came {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => {
                    return Came::Said(serde_json::from_str(&text).expect("JSON comes"));
                }
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Came::Closed(frame.code.into(), frame.reason.as_str().to_owned());
                }
                Some(Ok(Message::Close(None))) => return Came::Closed(1005, String::new()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Came::Gone,
            }
        }
    }

    /// The next message, which must come before any end.
    pub async fn said(&mut self) -> Value {
        match self.came().await {
            Came::Said(said) => said,
            other => panic!("{other:?} instead of a message"),
        }
    }

    /// Code and reason of the close frame, which must come before any message.
    pub async fn closed(&mut self) -> (u16, String) {
        match self.came().await {
            Came::Closed(code, reason) => (code, reason),
            other => panic!("{other:?} instead of a close frame"),
        }
    }

    /// Sends a JSON message.
    pub async fn say(&mut self, message: &Value) {
        self.text(&message.to_string()).await;
    }

    /// The same; false if the socket takes nothing more.
    pub async fn try_say(&mut self, message: &Value) -> bool {
        self.send(Message::text(message.to_string())).await.is_ok()
    }

    /// Sends a text.
    pub async fn text(&mut self, text: &str) {
        self.send(Message::text(text)).await.expect("send a text");
    }

    /// Sends any message.
    pub async fn send(&mut self, message: Message) -> Result<(), Error> {
        self.stream.send(message).await
    }

    /// Sends a message and takes what comes.
    pub async fn ask(&mut self, message: &Value) -> Value {
        self.say(message).await;
        self.said().await
    }

    /// Chats: takes `message_received` and gives the answer.
    pub async fn chat(&mut self, message: &str) -> Value {
        let sent = serde_json::json!({
            "type": "chat_message", "message": message, "session_id": "1935651600000",
            "mode": "smart-router",
        });
        let received = self.ask(&sent).await;
        assert_eq!(received["type"], "message_received", "{received}");
        self.said().await
    }

    /// Closes with 1000 and takes the answer.
    pub async fn close(mut self) -> Came {
        let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame {
            code: 1000.into(),
            reason: "done".into(),
        };
        self.stream.close(Some(frame)).await.expect("send a close");
        self.came().await
    }
}
