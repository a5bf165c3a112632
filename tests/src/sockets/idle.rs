//! Memory of sockets that say nothing, and of those that have chatted once and keep their
//! connection to the chat service.

use serde_json::json;

use super::{chat_of, flock, quiet};
use crate::measure::observe::Process;
use crate::measure::{Length, Report};
use crate::metrics::metric;
use crate::socket::Socket;

/// Measured so often on the way.
const STEPS: u32 = 4;
/// Sockets that fill instances and buffers first.
const FIRST: u32 = 100;

pub(super) async fn run(length: Length, report: &mut Report) {
    let count = length.pick(400, 5_000, 5_000);
    report.part("idle", &format!("{count} sockets that say nothing"));
    let host = quiet().start().await;
    let _chat = chat_of(&host).await;
    let resident = || Process::now(host.pid()).rss;
    let mut first = flock::open(&host, 900_000, FIRST).await;
    for socket in &mut first {
        socket.chat("Hi").await;
    }
    let mut row = vec!["opened".to_owned(), resident().to_string()];
    let before = resident();
    let mut sockets = Vec::new();
    for step in 0..STEPS {
        let each = count / STEPS;
        sockets.extend(flock::open(&host, 1 + step * each, each).await);
        row.push(resident().to_string());
    }
    let opened = resident();
    let bytes = |from: u64, to: u64| {
        let more = (to as f64 - from as f64) * 1_024.0;
        format!("{:.0}", more / f64::from(count))
    };
    row.push(bytes(before, opened));
    let mut rows = vec![row];
    let mut row = vec!["chatted once".to_owned(), opened.to_string()];
    let mut answered = 0;
    for part in sockets.chunks_mut((count / STEPS) as usize) {
        for socket in part {
            answered += u32::from(socket.chat("Hi").await["type"] == "chat_response");
        }
        row.push(resident().to_string());
    }
    let chatted = resident();
    row.push(bytes(opened, chatted));
    rows.push(row);
    let head = [
        "sockets",
        "resident kB",
        "after 1/4",
        "2/4",
        "3/4",
        "4/4",
        "bytes each",
    ];
    report.table(&head, &rows);
    let open = metric(&host, "lockgate_sockets_open").await;
    report.claim(
        "all are open, and each has chatted",
        open == f64::from(count + FIRST) && answered == count,
        format!("{open} open, {answered} answered"),
    );
    let mut alive = 0;
    for socket in &mut sockets {
        alive += u32::from(is_alive(socket).await);
    }
    report.claim(
        "each still answers",
        alive == count,
        format!("{alive} of {count}"),
    );
    drop((sockets, first));
    crate::metrics::reaches(&host, "lockgate_sockets_open", |open| open == 0.0).await;
    report.figure("resident kB when all have gone", resident());
    // What is kept for the next ones must serve them: a leak would show here.
    let sockets = flock::open(&host, 1, count).await;
    report.figure("the same with as many open again", resident());
    drop(sockets);
    report.figure("peak resident kB", Process::now(host.pid()).peak);
}

async fn is_alive(socket: &mut Socket) -> bool {
    socket.ask(&json!({"type": "ping"})).await["type"] == "pong"
}
