//! The chat service is killed and started again under sockets that chat.

use std::time::{Duration, Instant};

use super::flock::{self, Flock};
use super::{chat_of, quiet, verifier};
use crate::measure::{Length, Report};
use crate::metrics::Metrics;

pub(super) async fn run(length: Length, report: &mut Report) {
    let sockets = length.pick(50, 300, 1_000);
    let kills = length.pick(2, 5, 20);
    let down = Duration::from_millis(length.pick(1_000, 3_000, 10_000));
    let up = Duration::from_millis(length.pick(2_000, 5_000, 20_000));
    report.part(
        "upstream",
        &format!("{sockets} sockets that chat, the chat service killed {kills} times"),
    );
    let host = quiet().start().await;
    let mut chat = chat_of(&host).await;
    let flock = Flock::start(&host, sockets, Duration::from_secs(1)).await;
    let witnesses = flock::open(&host, 900_000, 20).await;
    for _ in 0..kills {
        tokio::time::sleep(up).await;
        chat.kill().await;
        tokio::time::sleep(down).await;
        chat.start_again(&verifier(&host)).await;
    }
    let begun = Instant::now();
    let mut answered = 0;
    for mut witness in witnesses {
        // Each may still rest from the last refusal.
        while begun.elapsed() < Duration::from_secs(90) {
            if witness.chat("still there?").await["type"] == "chat_response" {
                answered += 1;
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let back = begun.elapsed();
    tokio::time::sleep(up).await;
    let heard = flock.end().await;
    report.figure("messages sent", heard.sent);
    report.figure("of these answered by an error", heard.errors);
    report.figure(
        "until sockets without traffic chat again",
        format!("{:.2} s at worst", back.as_secs_f64()),
    );
    let metrics = Metrics::of(&host).await;
    for result in ["ok", "refused", "unreachable"] {
        let labels = [("result", result)];
        let count = metrics.sum("lockgate_upstream_connects_total", &labels);
        report.figure(&format!("connections to the chat service, {result}"), count);
    }
    report.none("sockets closed", heard.closed(), heard.why());
    report.claim(
        "each message is answered by exactly one chat_response or error",
        heard.sent == heard.answered + heard.errors && heard.sent == heard.received,
        format!("{} and {}", heard.answered, heard.errors),
    );
    report.none("messages without an answer", heard.lost, "");
    report.none("answers too many", heard.doubled, "");
    report.none("messages with the answer of another", heard.wrong, "");
    report.claim(
        "the kills were felt",
        heard.errors > 0,
        format!("{} errors", heard.errors),
    );
    report.claim(
        "sockets chat again afterwards",
        answered == 20,
        format!("{answered} of 20"),
    );
}
