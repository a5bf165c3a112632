//! Many sockets that chat: each asks, waits for all its answers, and then hears nothing
//! for a while. Every message is another one, so that an answer tells which it belongs to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::host::Host;
use crate::measure::tally::{Quantiles, histogram, micros};
use crate::socket::{Came, Opening, Socket};
use crate::tokens::User;

/// Sockets that are opened at the same time.
const AT_ONCE: usize = 32;
/// An answer that takes longer is none. The gateway itself gives up earlier.
const NEVER: Duration = Duration::from_secs(150);
/// After the last answer it is listened so long for another one.
const SILENCE: Duration = Duration::from_secs(1);

/// What many sockets heard.
#[derive(Debug)]
pub(super) struct Heard {
    /// Chat messages that were sent.
    pub(super) sent: u64,
    /// `message_received`.
    pub(super) received: u64,
    /// `chat_response` with the right text.
    pub(super) answered: u64,
    /// `error`.
    pub(super) errors: u64,
    /// Messages without any answer.
    pub(super) lost: u64,
    /// Messages that nobody waited for.
    pub(super) doubled: u64,
    /// Answers with another text than that of the oldest message.
    pub(super) wrong: u64,
    /// Ends that the client did not want, by their close code.
    pub(super) closes: BTreeMap<String, u64>,
    /// From the first message of a turn to its last answer, microseconds.
    times: Histogram<u64>,
}

impl Heard {
    fn nothing() -> Self {
        Self {
            sent: 0,
            received: 0,
            answered: 0,
            errors: 0,
            lost: 0,
            doubled: 0,
            wrong: 0,
            closes: BTreeMap::new(),
            times: histogram(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.answered += other.answered;
        self.errors += other.errors;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.wrong += other.wrong;
        for (code, count) in &other.closes {
            *self.closes.entry(code.clone()).or_default() += count;
        }
        self.times
            .add(&other.times)
            .expect("histograms of one form");
    }

    /// How long turns took.
    pub(super) fn times(&self) -> Quantiles {
        Quantiles::of(&self.times)
    }

    /// Ends that the client did not want.
    pub(super) fn closed(&self) -> u64 {
        self.closes.values().sum()
    }

    /// The close codes in a few words.
    pub(super) fn why(&self) -> String {
        let codes = self.closes.iter();
        let codes = codes.map(|(code, count)| format!("{count} of {code}"));
        codes.collect::<Vec<_>>().join(", ")
    }
}

/// The sockets, while they chat.
#[derive(Debug)]
pub(super) struct Flock {
    sockets: JoinSet<Heard>,
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
}

impl Flock {
    /// Opens as many sockets, each of a user of its own; it chats after a pause of
    /// `pause` on average.
    pub(super) async fn start(host: &Host, count: u32, pause: Duration) -> Self {
        let mut flock = Self {
            sockets: JoinSet::new(),
            stop: Arc::default(),
            answers: Arc::default(),
        };
        for (number, socket) in (0..).zip(open(host, 1, count).await) {
            let (stop, answers) = (flock.stop.clone(), flock.answers.clone());
            let member = Member {
                socket,
                number,
                turn: 0,
                pause,
                heard: Heard::nothing(),
            };
            flock.sockets.spawn(member.chat(stop, answers));
        }
        flock
    }

    /// Answers of all sockets so far, errors too.
    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Lets each socket end its turn and closes it.
    pub(super) async fn end(self) -> Heard {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Heard::nothing();
        for heard in self.sockets.join_all().await {
            all.add(&heard);
        }
        all
    }
}

/// Opens as many sockets, the first one of user `first`, each of another user.
pub(super) async fn open(host: &Host, first: u32, count: u32) -> Vec<Socket> {
    let openings: Vec<Opening> = (first..first + count)
        .map(|id| host.chat_socket(&host.tokens.access(&User::new(id))))
        .collect();
    let mut sockets = Vec::with_capacity(openings.len());
    for batch in openings.chunks(AT_ONCE) {
        let batch = batch.iter().map(Opening::confirmed);
        let opened = futures_util::future::join_all(batch).await;
        sockets.extend(opened.into_iter().map(|(socket, _)| socket));
    }
    sockets
}

/// A chat message as the front end sends it.
pub(super) fn message(text: &str) -> Value {
    json!({
        "type": "chat_message", "message": text, "session_id": "1935651600000",
        "mode": "smart-router",
    })
}

/// One of the sockets.
struct Member {
    socket: Socket,
    number: u32,
    turn: u64,
    pause: Duration,
    heard: Heard,
}

impl Member {
    async fn chat(mut self, stop: Arc<AtomicBool>, answers: Arc<AtomicU64>) -> Heard {
        // They do not all begin at once.
        if !self.silent(self.pause.mul_f64(rand::random())).await {
            return self.heard;
        }
        while !stop.load(Ordering::Relaxed) {
            let before = self.heard.answered + self.heard.errors;
            let on = self.ask().await;
            let after = self.heard.answered + self.heard.errors;
            answers.fetch_add(after - before, Ordering::Relaxed);
            let pause = self.pause.mul_f64(rand::random_range(0.5..1.5));
            if !on || !self.silent(pause).await {
                return self.heard;
            }
        }
        if self.silent(SILENCE).await {
            let end = self.socket.close().await;
            if !matches!(end, Came::Closed(1000, _)) {
                *self.heard.closes.entry(format!("{end:?}")).or_default() += 1;
            }
        }
        self.heard
    }

    /// One message, or three at once, and all their answers. False: the socket is gone.
    async fn ask(&mut self) -> bool {
        let burst = if self.turn.is_multiple_of(3) { 3 } else { 1 };
        let mut open: VecDeque<String> = (0..burst)
            .map(|part| format!("w{}-{}-{part}", self.number, self.turn))
            .collect();
        self.turn += 1;
        let begun = Instant::now();
        for text in &open {
            let sent = self.socket.try_say(&message(text)).await;
            self.heard.sent += u64::from(sent);
        }
        let mut receipts = burst;
        while receipts > 0 || !open.is_empty() {
            let said = match self.socket.came_within(NEVER).await {
                Some(Came::Said(said)) => said,
                Some(end) => {
                    self.heard.lost += open.len() as u64;
                    self.ended(&end);
                    return false;
                }
                None => {
                    self.heard.lost += open.len() as u64;
                    return true;
                }
            };
            match said["type"].as_str().unwrap_or_default() {
                "message_received" if receipts > 0 => {
                    receipts -= 1;
                    self.heard.received += 1;
                }
                "chat_response" if !open.is_empty() => {
                    let text = open.pop_front().unwrap_or_default();
                    match said["content"] == format!("echo: {text}") {
                        true => self.heard.answered += 1,
                        false => self.heard.wrong += 1,
                    }
                }
                "error" if !open.is_empty() => {
                    open.pop_front();
                    self.heard.errors += 1;
                }
                _ => self.heard.doubled += 1,
            }
        }
        self.heard.times.saturating_record(micros(begun.elapsed()));
        true
    }

    /// Hears nothing for a time. False: the socket is gone.
    async fn silent(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.socket.came_within(left).await {
                None => return true,
                Some(Came::Said(_)) => self.heard.doubled += 1,
                Some(end) => {
                    self.ended(&end);
                    return false;
                }
            }
        }
    }

    fn ended(&mut self, end: &Came) {
        let code = match end {
            Came::Closed(code, reason) => format!("{code} {reason}"),
            other => format!("{other:?}"),
        };
        *self.heard.closes.entry(code).or_default() += 1;
    }
}
