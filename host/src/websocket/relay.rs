//! The upstream of one socket: questions go up one at a time and each gets one answer
//! or is said to have none. It connects when there is a question, backs off when it is
//! refused, and reads no message.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use metrics::counter;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::bindings::socket_events::Failure;

/// Questions of one socket that wait.
const MOST: usize = 16;
/// Connecting, with the handshake.
const CONNECT: Duration = Duration::from_secs(5);
/// First wait after a connection that failed; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// One message of the upstream, bytes.
const MESSAGE: usize = 256 << 10;
const READ_BUFFER: usize = 4 << 10;
/// Close code of an upstream that has not accepted the credential.
const REFUSED: u16 = 4001;

type Upstream = WebSocketStream<TcpStream>;
type Connecting = Pin<Box<dyn Future<Output = Result<Box<Upstream>, Failure>> + Send>>;

/// Where the upstream is, and how long an answer may take.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) url: String,
    pub(super) patience: Duration,
}

/// How the upstream is shown who is connected.
pub(super) enum Credential {
    /// This token.
    Token(SecretString),
    /// A new token for each connection; none if none can be made.
    Made(Box<dyn Fn() -> Option<String> + Send + Sync>),
}

struct Pass {
    credential: Credential,
    session_id: String,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// A message of the upstream.
    Text(String),
    /// The oldest question has no answer and waits no more.
    Unanswered(Failure),
}

struct Question {
    text: String,
    until: Instant,
}

enum Line {
    Idle,
    Connecting(Connecting),
    Open(Box<Upstream>),
}

/// One socket's way to the upstream.
pub(super) struct Relay {
    settings: Arc<Settings>,
    waiting: VecDeque<Question>,
    /// The oldest question was sent.
    asked: bool,
    unflushed: bool,
    line: Line,
    pass: Option<Pass>,
    failures: u32,
    /// Not before, and why not.
    rest: Option<(Instant, Failure)>,
}

impl Relay {
    pub(super) fn new(settings: Arc<Settings>) -> Relay {
        Relay {
            settings,
            waiting: VecDeque::new(),
            asked: false,
            unflushed: false,
            line: Line::Idle,
            pass: None,
            failures: 0,
            rest: None,
        }
    }

    /// Questions without an answer.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a question. False: too many wait already.
    pub(super) fn ask(&mut self, text: String) -> bool {
        if self.waiting.len() >= MOST {
            return false;
        }
        let until = Instant::now() + self.settings.patience;
        self.waiting.push_back(Question { text, until });
        true
    }

    /// The oldest question is answered. False: none was asked.
    pub(super) fn answered(&mut self) -> bool {
        std::mem::take(&mut self.asked) && self.waiting.pop_front().is_some()
    }

    /// The credential for the next connection, which may be tried at once.
    pub(super) fn renew(&mut self, credential: Credential, session_id: String) {
        self.pass = Some(Pass {
            credential,
            session_id,
        });
        self.rest = None;
        self.failures = 0;
    }

    /// The next thing that happens. May be dropped before its end.
    pub(super) async fn next(&mut self) -> Told {
        loop {
            if self.expired() {
                return Told::Unanswered(Failure::Late);
            }
            let until = self.waiting.front().map(|question| question.until);
            let told = match &mut self.line {
                Line::Idle if until.is_none() => pending().await,
                Line::Idle => self.begin(),
                Line::Connecting(connecting) => {
                    let connected = tokio::select! {
                        connected = connecting => Some(connected),
                        () = until_or_never(until) => None,
                    };
                    connected.and_then(|connected| self.connected(connected))
                }
                Line::Open(_) => tokio::select! {
                    told = self.talk() => told,
                    () = until_or_never(until) => None,
                },
            };
            if let Some(told) = told {
                return told;
            }
        }
    }

    /// Takes the oldest question out if it has waited too long. What was sent and may
    /// still be answered would be taken for the answer to the next one, so that
    /// connection ends.
    fn expired(&mut self) -> bool {
        let now = Instant::now();
        if self.waiting.front().is_none_or(|first| first.until > now) {
            return false;
        }
        self.waiting.pop_front();
        if std::mem::take(&mut self.asked) {
            self.line = Line::Idle;
        }
        true
    }

    /// Starts to connect, or says that there is no hope for now.
    fn begin(&mut self) -> Option<Told> {
        if let Some((at, why)) = self.rest
            && Instant::now() < at
        {
            return self.give_up(why);
        }
        let url = self.pass.as_ref().and_then(|pass| {
            let made = match &pass.credential {
                Credential::Token(token) => Some(token.expose_secret().to_owned()),
                Credential::Made(make) => make(),
            };
            Some(target(&self.settings.url, &made?, &pass.session_id))
        });
        let Some(url) = url else {
            return self.give_up(Failure::Unreachable);
        };
        self.line = Line::Connecting(Box::pin(async move {
            let connected = timeout(CONNECT, connect(url)).await;
            connected.unwrap_or(Err(Failure::Unreachable))
        }));
        None
    }

    fn give_up(&mut self, why: Failure) -> Option<Told> {
        self.waiting.pop_front().map(|_| Told::Unanswered(why))
    }

    fn connected(&mut self, connected: Result<Box<Upstream>, Failure>) -> Option<Told> {
        let result = match &connected {
            Ok(_) => "ok",
            Err(Failure::Refused) => "refused",
            Err(_) => "unreachable",
        };
        counter!("lockgate_upstream_connects_total", "result" => result).increment(1);
        self.asked = false;
        self.unflushed = false;
        match connected {
            Ok(upstream) => self.line = Line::Open(upstream),
            Err(why) => self.back_off(why),
        }
        None
    }

    fn back_off(&mut self, why: Failure) {
        self.line = Line::Idle;
        let wait = FIRST
            .saturating_mul(1 << self.failures.min(10))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        // Many sockets lose the same upstream at once.
        let wait = wait.mul_f64(rand::random_range(0.5..1.0));
        self.rest = Some((Instant::now() + wait, why));
    }

    /// Sends the oldest question, or reads.
    async fn talk(&mut self) -> Option<Told> {
        let Line::Open(upstream) = &mut self.line else {
            return None;
        };
        if !self.asked
            && let Some(question) = self.waiting.front()
        {
            // Dropped before its end it has taken nothing; at its end all.
            let fed = upstream.feed(Message::text(question.text.clone())).await;
            self.asked = true;
            if fed.is_err() {
                return self.lost(Failure::Lost);
            }
            self.unflushed = true;
        }
        if self.unflushed {
            if upstream.flush().await.is_err() {
                return self.lost(Failure::Lost);
            }
            self.unflushed = false;
        }
        match upstream.next().await {
            Some(Ok(Message::Text(text))) => {
                self.rest = None;
                self.failures = 0;
                Some(Told::Text(text.as_str().to_owned()))
            }
            Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) == REFUSED => {
                self.back_off(Failure::Refused);
                self.lost(Failure::Refused)
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => self.lost(Failure::Lost),
            Some(Ok(_)) => None,
        }
    }

    /// The connection is gone, and with it the answer to what was asked.
    fn lost(&mut self, why: Failure) -> Option<Told> {
        counter!("lockgate_upstream_losses_total").increment(1);
        self.line = Line::Idle;
        if std::mem::take(&mut self.asked) {
            self.waiting.pop_front();
            return Some(Told::Unanswered(why));
        }
        None
    }
}

async fn until_or_never(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => pending().await,
    }
}

/// The upstream's URL with both parameters, percent-encoded (RFC 3986 section 2.1).
fn target(url: &str, token: &str, session_id: &str) -> String {
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let mark = if url.contains('?') { '&' } else { '?' };
    format!(
        "{url}{mark}token={}&session_id={}",
        encoded(token),
        encoded(session_id)
    )
}

async fn connect(url: String) -> Result<Box<Upstream>, Failure> {
    let request = url.into_client_request();
    let request = request.map_err(|_| Failure::Unreachable)?;
    let host = request.uri().host().unwrap_or_default().to_owned();
    let host = host.trim_matches(['[', ']']);
    let port = request.uri().port_u16().unwrap_or(80);
    let stream = TcpStream::connect((host, port)).await;
    let stream = stream.map_err(|_| Failure::Unreachable)?;
    let _ = stream.set_nodelay(true);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_frame_size(Some(MESSAGE))
        .max_message_size(Some(MESSAGE));
    match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
        Ok((upstream, _)) => Ok(Box::new(upstream)),
        Err(Error::Http(answer)) if matches!(answer.status().as_u16(), 401 | 403) => {
            Err(Failure::Refused)
        }
        Err(_) => Err(Failure::Unreachable),
    }
}

#[cfg(test)]
mod tests;
