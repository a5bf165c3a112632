//! Resident memory over very many distinct users, addresses and tokens: what is kept of
//! each must be bounded. A row that grows as the ones before it did is a leak.

use std::time::Instant;

use hyper::header::HeaderName;
use serde_json::json;

use super::cluster::connected;
use crate::host::{Host, Service};
use crate::measure::Length;
use crate::measure::Report;
use crate::measure::link::{Link, Shot};
use crate::measure::observe::Process;
use crate::redis::RedisServer;
use crate::tokens::{Tokens, User};

/// Clients that ask at the same time.
const CLIENTS: u32 = 8;
/// Measured so often on the way.
const STEPS: u32 = 4;

const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What is distinct.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Good tokens of users and sessions that were never seen, on two ports.
    Users,
    /// The same while Redis is away.
    Away,
    /// Bad tokens from addresses that were never seen.
    Addresses,
    /// Tokens with a bad signature.
    Tokens,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Users, Self::Addresses, Self::Tokens, Self::Away];

    fn name(self) -> &'static str {
        match self {
            Self::Users => "users and sessions",
            Self::Away => "the same, Redis away",
            Self::Addresses => "addresses",
            Self::Tokens => "bad tokens",
        }
    }

    /// Whom the requests are for.
    fn service(self) -> Service {
        match self {
            Self::Users | Self::Away => Service::Session,
            Self::Addresses => Service::Fallback,
            Self::Tokens => Service::Jwt,
        }
    }

    /// A request that no other is like; its answer must be right.
    fn shot(self, tokens: &Tokens, stranger: &Tokens, number: u32) -> Shot {
        match self {
            Self::Users | Self::Away => {
                let first = if let Self::Users = self { 1 } else { 2 };
                let user = User::new(first * 500_000_000 + number);
                let shot = Shot::get("/api/v1/session/validate");
                shot.bearer(&tokens.access(&user)).holds("\"valid\":true")
            }
            Self::Addresses => {
                let [a, b, c, d] = (0x0a00_0000 + number).to_be_bytes();
                let shot = Shot::post("/api/v1/fallback/emergency-auth", &json!({"token": "none"}));
                // The last of the places for keys are shared by all that come later.
                let shot = shot.any_of(&[401, 429]);
                shot.header(FORWARDED, &format!("{a}.{b}.{c}.{d}"))
            }
            Self::Tokens => {
                let token = stranger.access(&User::new(number + 1));
                let shot = Shot::post("/api/v1/jwt/validate", &json!({"token": token}));
                shot.holds("\"invalid_signature\"")
            }
        }
    }
}

/// What a kind came to.
struct Row {
    kind: Kind,
    /// Resident kB, at first and after each step.
    resident: Vec<u64>,
    wrong: u64,
    why: String,
    seconds: f64,
}

pub(super) async fn run(length: Length, report: &mut Report) {
    let each = length.pick(5_000, 250_000, 1_000_000);
    let title = format!("memory over {each} distinct ones of each kind");
    report.part("bounds", &title);
    // Redis is no part of this: it forgets what it has no room for.
    let mut redis = RedisServer::start_with("maxmemory 64mb\nmaxmemory-policy allkeys-lru").await;
    let host = Host::builder()
        .redis(&redis)
        .env("TRUSTED_PROXIES", "127.0.0.0/8")
        .env("LOG_LEVEL", "ERROR")
        .start()
        .await;
    connected(&host, "connected").await;
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        if let Kind::Away = kind {
            redis.kill();
            connected(&host, "disconnected").await;
        }
        rows.push(measure(&host, kind, each).await);
    }
    print(report, each, &rows);
    report.figure("peak resident kB", Process::now(host.pid()).peak);
}

async fn measure(host: &Host, kind: Kind, each: u32) -> Row {
    // Instances and buffers fill first.
    ask(host, kind, each, each + each / 10).await;
    let mut row = Row {
        kind,
        resident: vec![Process::now(host.pid()).rss],
        wrong: 0,
        why: String::new(),
        seconds: 0.0,
    };
    let begun = Instant::now();
    for step in 0..STEPS {
        let (from, to) = (each / STEPS * step, each / STEPS * (step + 1));
        let (wrong, why) = ask(host, kind, from, to).await;
        row.wrong += wrong;
        if row.why.is_empty() {
            row.why = why;
        }
        row.resident.push(Process::now(host.pid()).rss);
    }
    row.seconds = begun.elapsed().as_secs_f64();
    row
}

/// Sends the requests of these numbers; gives the wrong answers and the first of them.
async fn ask(host: &Host, kind: Kind, from: u32, to: u32) -> (u64, String) {
    let mut clients = tokio::task::JoinSet::new();
    let port = host.port(kind.service());
    for client in 0..CLIENTS {
        let tokens = host.tokens.clone();
        clients.spawn(async move {
            let stranger = Tokens::new(b"a key that the host does not have, of some length");
            let mut link = Link::new(port);
            let (mut wrong, mut why) = (0, String::new());
            for number in (from..to).skip(client as usize).step_by(CLIENTS as usize) {
                let shot = kind.shot(&tokens, &stranger, number);
                if let Err(loss) = link.send(&shot, "bounds").await {
                    wrong += 1;
                    why = format!("{loss:?}");
                }
            }
            (wrong, why)
        });
    }
    let all = clients.join_all().await;
    let why = all
        .iter()
        .map(|one| one.1.clone())
        .find(|why| !why.is_empty());
    (all.iter().map(|one| one.0).sum(), why.unwrap_or_default())
}

fn print(report: &mut Report, each: u32, rows: &[Row]) {
    let cells = |row: &Row| {
        let mut cells = vec![row.kind.name().to_owned()];
        cells.extend(row.resident.iter().map(u64::to_string));
        let (first, last) = (row.resident[0], row.resident[STEPS as usize]);
        let bytes = (last as f64 - first as f64) * 1_024.0 / f64::from(each);
        cells.push(format!("{bytes:.1}"));
        cells.push(format!("{:.0}", f64::from(each) / row.seconds));
        cells
    };
    let rows_of_cells: Vec<_> = rows.iter().map(cells).collect();
    let head = [
        "distinct",
        "resident kB",
        "after 1/4",
        "2/4",
        "3/4",
        "4/4",
        "bytes each",
        "a second",
    ];
    report.table(&head, &rows_of_cells);
    for row in rows {
        let what = format!("wrong answers, {}", row.kind.name());
        report.none(&what, row.wrong, &row.why);
    }
}
