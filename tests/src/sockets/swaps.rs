//! Swaps of the gateway, bad files among them, under sockets that chat. One socket more
//! asks after each file which code answers it.

use std::time::{Duration, Instant};

use serde_json::json;

use super::flock::{self, Flock, Heard};
use super::{chat_of, quiet};
use crate::bad_files::Kind;
use crate::component::{built, digest, patched};
use crate::host::{Host, Service};
use crate::measure::{Length, Report};
use crate::metrics::Metrics;
use crate::socket::Socket;

/// Files that no host may serve.
const BAD: [Kind; 5] = [
    Kind::Truncated,
    Kind::Random,
    Kind::CoreModule,
    Kind::WrongWorld,
    Kind::ExtraImport,
];
/// What the built gateway says to an empty message; each revision says it otherwise.
const SAYING: &str = "The message is empty";

/// What came of the files.
#[derive(Default)]
struct Course {
    swapped: u64,
    seen: u64,
    refused: u64,
    unchanged: u64,
}

pub(super) async fn run(length: Length, report: &mut Report) {
    let sockets = length.pick(100, 1_000, 1_000);
    let files: usize = length.pick(10, 50, 500);
    report.part(
        "swaps",
        &format!("{sockets} sockets that chat, {files} files of the gateway"),
    );
    let host = quiet().start().await;
    let _chat = chat_of(&host).await;
    let mut watch = flock::open(&host, 900_000, 1).await.remove(0);

    let lull = Duration::from_secs(length.pick(3, 15, 60));
    let pause = Duration::from_millis(length.pick(500, 2_000, 2_000));
    let before = Flock::start(&host, sockets, pause).await;
    tokio::time::sleep(lull).await;
    let before = before.end().await;

    let flock = Flock::start(&host, sockets, pause).await;
    let begun = Instant::now();
    let mut course = Course::default();
    let bad_every = files / BAD.len();
    for number in 0..files {
        match (number % bad_every, number / bad_every) {
            (last, which) if last == bad_every - 1 => {
                course.refuse(&host, &mut watch, BAD[which]).await;
            }
            _ => course.swap(&host, &mut watch, number).await,
        }
        // Each revision gets a share of the traffic.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let lasted = begun.elapsed();
    let answers = flock.answers();
    let heard = flock.end().await;
    course.print(report, (files - BAD.len()) as u64);
    report.figure(
        "answers a second beside them",
        format!("{:.0}", answers as f64 / lasted.as_secs_f64()),
    );
    report.figure("a turn without swaps", before.times());
    report.figure("a turn beside swaps", heard.times());
    print(report, &before, "without swaps");
    print(report, &heard, "beside swaps");
    let opened = 2.0 * f64::from(sockets) + 1.0;
    let closes = Metrics::of(&host).await;
    let wanted = closes.sum("lockgate_socket_closes_total", &[("code", "1000")]);
    report.claim(
        "the host, too, counts only closes that clients wanted",
        closes.sum("lockgate_socket_closes_total", &[]) == wanted && wanted == opened - 1.0,
        format!("{wanted} of {opened} sockets, one still open"),
    );
}

/// The claims about sockets that chat while the chat service is there.
pub(super) fn print(report: &mut Report, heard: &Heard, when: &str) {
    report.none(
        &format!("sockets closed {when}"),
        heard.closed(),
        heard.why(),
    );
    report.claim(
        &format!("each message is answered by its own answer {when}"),
        heard.sent == heard.answered && heard.sent == heard.received && heard.sent > 0,
        format!(
            "{} sent, {} received, {} answered, {} errors",
            heard.sent, heard.received, heard.answered, heard.errors
        ),
    );
    report.none(&format!("messages lost {when}"), heard.lost, "");
    report.none(&format!("messages doubled {when}"), heard.doubled, "");
    report.none(
        &format!("messages with the answer of another {when}"),
        heard.wrong,
        "",
    );
}

impl Course {
    /// Drops a good file; the socket that watches is answered by it.
    async fn swap(&mut self, host: &Host, watch: &mut Socket, number: usize) {
        let saying = saying_of(number);
        host.swap(
            Service::Gateway,
            &patched(&built(Service::Gateway), SAYING, &saying),
        )
        .await;
        self.swapped += 1;
        self.seen += u64::from(who_answers(watch).await == saying);
    }

    /// Drops a bad file: it is refused and the code stays.
    async fn refuse(&mut self, host: &Host, watch: &mut Socket, kind: Kind) {
        let before = who_answers(watch).await;
        let serving = host.plugin_report(Service::Gateway).await.digest;
        let file = kind.file(Service::Gateway, "bad");
        host.install(Service::Gateway, &file);
        host.wait_refused(Service::Gateway, kind.words()).await;
        self.refused += 1;
        let now = host.plugin_report(Service::Gateway).await.digest;
        let same = who_answers(watch).await == before;
        self.unchanged += u64::from(same && now == serving && !digest(&file).starts_with(&now));
    }

    fn print(&self, report: &mut Report, good: u64) {
        let bad = BAD.len() as u64;
        report.claim(
            "each good file serves, and an open socket is answered by it at once",
            self.swapped == good && self.seen == good,
            format!("{} of {good}", self.seen),
        );
        report.claim(
            "each bad file is refused with its sentence and changes nothing",
            self.refused == bad && self.unchanged == bad,
            format!("{} of {bad}", self.unchanged),
        );
    }
}

fn saying_of(number: usize) -> String {
    format!("Revision {number:010}.")
}

/// What the code that serves now says to an empty message.
async fn who_answers(watch: &mut Socket) -> String {
    let empty = json!({"type": "chat_message", "message": " "});
    let said = watch.ask(&empty).await;
    said["message"].as_str().unwrap_or_default().to_owned()
}
