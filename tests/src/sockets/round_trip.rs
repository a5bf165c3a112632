//! A message through the gateway against the same message straight to the chat service,
//! by turns in one run.

use std::time::Instant;

use futures_util::{SinkExt as _, StreamExt as _};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::{chat_of, flock, quiet};
use crate::host::Host;
use crate::measure::tally::{Quantiles, histogram, micros};
use crate::measure::{Length, Report};
use crate::socket::Socket;
use crate::tokens::User;

/// Messages of each way that follow one another.
const TURN: u32 = 50;

pub(super) async fn run(length: Length, report: &mut Report) {
    let messages = length.pick(200, 5_000, 50_000);
    report.part(
        "round-trip",
        &format!("{messages} messages through the gateway and straight, by turns"),
    );
    let host = quiet().start().await;
    let _chat = chat_of(&host).await;
    let mut rows = Vec::new();
    let mut wrong = 0;
    for sockets in [1, length.pick(8, 32, 32)] {
        let mut through = Vec::new();
        for socket in flock::open(&host, 1 + sockets, sockets).await {
            through.push(Way::Gateway(Box::new(socket)));
        }
        let mut straight = Vec::new();
        for _ in 0..sockets {
            straight.push(Way::Straight(Box::new(direct(&host).await)));
        }
        let (mut at_gateway, mut at_chat) = (histogram(), histogram());
        // What opens connections and fills caches is not measured.
        for ways in [&mut through, &mut straight] {
            turn(ways, 5).await;
        }
        for _ in 0..(messages / TURN / sockets).max(1) {
            for (ways, times) in [
                (&mut through, &mut at_gateway),
                (&mut straight, &mut at_chat),
            ] {
                let (turn, missed) = turn(ways, TURN).await;
                times.add(turn).expect("histograms of one form");
                wrong += missed;
            }
        }
        let (gateway, chat) = (Quantiles::of(&at_gateway), Quantiles::of(&at_chat));
        for (name, times) in [("gateway", gateway), ("straight", chat)] {
            rows.push(vec![
                name.to_owned(),
                sockets.to_string(),
                times.count.to_string(),
                format!("{:.3}", times.p50),
                format!("{:.3}", times.p99),
                format!("{:.2}", times.max),
            ]);
        }
        let ratio = |of: fn(&Quantiles) -> f64| of(&gateway) / of(&chat);
        report.figure(
            &format!("gateway to straight, {sockets} at a time"),
            format!(
                "p50 {:.2}x, p99 {:.2}x",
                ratio(|times| times.p50),
                ratio(|times| times.p99)
            ),
        );
    }
    let head = ["way", "sockets", "messages", "p50 ms", "p99 ms", "max ms"];
    report.table(&head, &rows);
    report.none("wrong answers", wrong, "");
}

/// One way to the chat service.
enum Way {
    Gateway(Box<Socket>),
    Straight(Box<WebSocketStream<TcpStream>>),
}

/// Each way sends so many messages, one after the other, all ways at the same time.
async fn turn(ways: &mut [Way], count: u32) -> (Histogram<u64>, u64) {
    let turns = ways.iter_mut().map(|way| way.turn(count));
    let (mut all, mut wrong) = (histogram(), 0);
    for (times, missed) in futures_util::future::join_all(turns).await {
        all.add(times).expect("histograms of one form");
        wrong += missed;
    }
    (all, wrong)
}

impl Way {
    async fn turn(&mut self, count: u32) -> (Histogram<u64>, u64) {
        let (mut times, mut wrong) = (histogram(), 0);
        for number in 0..count {
            let text = format!("Hi {number}");
            let begun = Instant::now();
            let content = match self {
                Self::Gateway(socket) => socket.chat(&text).await["content"].clone(),
                Self::Straight(socket) => answer(socket, &text).await["response"].clone(),
            };
            times.saturating_record(micros(begun.elapsed()));
            wrong += u64::from(content != format!("echo: {text}"));
        }
        (times, wrong)
    }
}

/// A connection as the gateway makes one.
async fn direct(host: &Host) -> WebSocketStream<TcpStream> {
    let token = host.tokens.access(&User::new(1));
    let port = host.spare_port(1);
    let url = format!("ws://127.0.0.1:{port}/ws/chat?token={token}&session_id=s-1Qx");
    let stream = TcpStream::connect(("127.0.0.1", port)).await;
    let stream = stream.expect("the chat service listens");
    stream.set_nodelay(true).expect("a socket");
    let opened = tokio_tungstenite::client_async(url, stream).await;
    opened.expect("the chat service accepts").0
}

/// Asks as the gateway does; what is no answer is left out.
async fn answer(socket: &mut WebSocketStream<TcpStream>, text: &str) -> Value {
    let question = json!({"type": "chat", "message": text});
    let question = Message::text(question.to_string());
    socket.send(question).await.expect("send a question");
    loop {
        let came = socket.next().await.expect("an answer").expect("an answer");
        let said = came.to_text().expect("text");
        match serde_json::from_str::<Value>(said) {
            Ok(said) if said["type"] == "response" => return said,
            _ => {}
        }
    }
}
