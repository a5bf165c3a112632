//! The upstream of one socket: questions go up one at a time and each gets one answer
//! or is said to have none. It connects when there is a question, backs off when it is
//! refused, and reads no message.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use metrics::counter;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::wire::GOODBYE;
use crate::bindings::socket_events::Failure;

mod upstream;

pub(super) use upstream::Settings;
use upstream::{Open, REACHED, Upstream, connect, with_pass};

/// Questions of one socket that wait, and the bytes in them. One question may be longer.
const MOST: usize = 16;
const MOST_BYTES: usize = 128 << 10;
/// First wait after a connection that failed; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// Close code of an upstream that has not accepted the credential.
const REFUSED: u16 = 4001;

type Connecting = Pin<Box<dyn Future<Output = Result<Box<Upstream>, Failure>> + Send>>;

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
    Open(Box<Upstream>, Open),
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
        let bytes: usize = self.waiting.iter().map(|waits| waits.text.len()).sum();
        let crowded = self.waiting.len() >= MOST || bytes + text.len() > MOST_BYTES;
        if crowded && !self.waiting.is_empty() {
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
                Line::Open(..) => tokio::select! {
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
            let url = self.settings.target.url();
            Some(with_pass(url, &made?, &pass.session_id))
        });
        let Some(url) = url else {
            return self.give_up(Failure::Unreachable);
        };
        let target = Arc::clone(&self.settings.target);
        self.line = Line::Connecting(Box::pin(connect(target, url)));
        None
    }

    fn give_up(&mut self, why: Failure) -> Option<Told> {
        self.waiting.pop_front().map(|_| Told::Unanswered(why))
    }

    fn connected(&mut self, connected: Result<Box<Upstream>, Failure>) -> Option<Told> {
        self.settings.note(match &connected {
            Ok(_) => REACHED,
            Err(Failure::Refused) => "refused",
            Err(_) => "unreachable",
        });
        self.asked = false;
        self.unflushed = false;
        match connected {
            Ok(upstream) => self.line = Line::Open(upstream, Open::new()),
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
        let Line::Open(upstream, _) = &mut self.line else {
            return None;
        };
        if !self.asked
            && let Some(question) = self.waiting.front()
        {
            // What is there already answers nothing that is still to be asked.
            if let Some(came) = upstream.next().now_or_never() {
                return self.came(came);
            }
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
        let came = upstream.next().await;
        self.came(came)
    }

    fn came(&mut self, came: Option<Result<Message, Error>>) -> Option<Told> {
        // A pong may have to be sent.
        self.unflushed = true;
        match came {
            Some(Ok(Message::Text(text))) => {
                if let Line::Open(_, open) = &mut self.line {
                    open.spoke = true;
                }
                self.rest = None;
                self.failures = 0;
                Some(Told::Text(text.as_str().to_owned()))
            }
            Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) == REFUSED => {
                self.settings.note("refused");
                self.lost(Failure::Refused)
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => self.lost(Failure::Lost),
            Some(Ok(_)) => None,
        }
    }

    /// The connection is gone, and with it the answer to what was asked. One that has said
    /// nothing is not tried again sooner than one that refuses.
    fn lost(&mut self, why: Failure) -> Option<Told> {
        counter!("lockgate_upstream_losses_total").increment(1);
        let line = std::mem::replace(&mut self.line, Line::Idle);
        let silent = matches!(line, Line::Open(_, Open { spoke: false }));
        if silent || why == Failure::Refused {
            self.back_off(why);
        }
        if std::mem::take(&mut self.asked) {
            self.waiting.pop_front();
            return Some(Told::Unanswered(why));
        }
        None
    }

    /// Ends the connection, if there is one.
    pub(super) async fn end(self) {
        if let Line::Open(mut upstream, _) = self.line {
            let _ = timeout(GOODBYE, upstream.send(Message::Close(None))).await;
        }
    }
}

async fn until_or_never(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
