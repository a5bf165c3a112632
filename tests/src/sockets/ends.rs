//! Sockets whose login ends on another host, and sockets whose token expires.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{flock, quiet};
use crate::host::{Host, Secret, Service};
use crate::measure::tally::{Quantiles, histogram, micros};
use crate::measure::{Length, Report};
use crate::outage::cluster::connected;
use crate::proxy::Proxy;
use crate::redis::RedisServer;
use crate::socket::{Came, Socket};
use crate::tokens::{Tokens, User, now};

/// The key of both hosts.
const KEY: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef";
/// A token counts so long after its `exp`, seconds.
const LEEWAY: i64 = 60;
/// After so long it counts as never.
const NEVER: Duration = Duration::from_secs(60);

/// How a login is ended.
#[derive(Debug, Clone, Copy)]
enum Way {
    Logout,
    LogoutEvent,
    ExpiredEvent,
}

impl Way {
    const ALL: [Self; 3] = [Self::Logout, Self::LogoutEvent, Self::ExpiredEvent];

    fn name(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::LogoutEvent => "event logout",
            Self::ExpiredEvent => "event session_expired",
        }
    }

    async fn end(self, host: &Host, user: &User) {
        let token = host.tokens.access(user);
        let event = |event: &str| {
            json!({
                "user_id": user.id, "email": user.email, "event_type": event, "source": "api",
                "session_id": user.session_id,
            })
        };
        let sync = "/api/v1/coordinator/sync-auth";
        match self {
            Self::Logout => {
                let call = host.post(Service::Coordinator, "/api/v1/auth/logout");
                call.bearer(&token).send().await.expect(204);
            }
            Self::LogoutEvent | Self::ExpiredEvent => {
                let name = match self {
                    Self::ExpiredEvent => "session_expired",
                    _ => "logout",
                };
                let call = host.post(Service::Coordinator, sync);
                let call = call.bearer(&token).json(&event(name));
                call.send().await.expect(200);
            }
        }
    }
}

/// What was seen of the ends.
struct Seen {
    times: Histogram<u64>,
    closed: u64,
    other: Vec<Came>,
}

impl Seen {
    fn nothing() -> Self {
        Self {
            times: histogram(),
            closed: 0,
            other: Vec::new(),
        }
    }

    /// Takes what a socket says first.
    async fn first(&mut self, socket: &mut Socket, since: Instant) {
        let came = socket.came_within(NEVER).await;
        self.times.saturating_record(micros(since.elapsed()));
        match came {
            Some(Came::Closed(4001, _)) => self.closed += 1,
            other => self.other.push(other.unwrap_or(Came::Gone)),
        }
    }

    fn print(&self, report: &mut Report, what: &str, count: u64) {
        report.figure(
            &format!("{what} -> close frame"),
            Quantiles::of(&self.times),
        );
        let first = self.other.first();
        report.claim(
            &format!("{what}: each socket is closed with 4001"),
            self.closed == count,
            first.map_or_else(
                || format!("{} of {count}", self.closed),
                |first| format!("{} of {count}, first other: {first:?}", self.closed),
            ),
        );
    }
}

/// Logins that end on the other host.
pub(super) async fn revoked(length: Length, report: &mut Report) {
    let each = length.pick(20, 500, 2_000);
    report.part(
        "revoked",
        &format!("{each} sockets whose login ends on another host, for each way"),
    );
    let redis = RedisServer::start().await;
    let proxy = Proxy::to(redis.port()).await;
    let start = async |url: String| {
        let host = quiet()
            .secret(Secret::Bytes(KEY.to_vec()))
            .env("REDIS_URL", url);
        let host = host.start().await;
        connected(&host, "connected").await;
        host
    };
    let here = start(redis.url_at(proxy.port())).await;
    let there = start(redis.url()).await;
    let mut bystanders = flock::open(&here, 800_000, 20).await;
    for (way, first) in Way::ALL.into_iter().zip((0_u32..).step_by(100_000)) {
        let mut sockets = flock::open(&here, first + 1, each).await;
        let mut seen = Seen::nothing();
        for (socket, id) in sockets.iter_mut().zip(first + 1..) {
            let (user, begun) = (User::new(id), Instant::now());
            tokio::join!(way.end(&there, &user), seen.first(socket, begun));
        }
        seen.print(report, way.name(), u64::from(each));
    }
    cut_off(&here, &there, &proxy, report).await;
    let mut alive = 0;
    for socket in &mut bystanders {
        alive += u64::from(socket.ask(&json!({"type": "ping"})).await["type"] == "pong");
    }
    report.claim(
        "sockets of other logins stay open",
        alive == 20,
        format!("{alive} of 20"),
    );
}

/// The same while the sockets' host is cut off from Redis: from its return on.
async fn cut_off(here: &Host, there: &Host, proxy: &Proxy, report: &mut Report) {
    let mut sockets = flock::open(here, 700_001, 50).await;
    proxy.cut();
    connected(here, "disconnected").await;
    for id in 700_001..700_051 {
        Way::Logout.end(there, &User::new(id)).await;
    }
    let healed = Instant::now();
    proxy.heal();
    let mut seen = Seen::nothing();
    for socket in &mut sockets {
        seen.first(socket, healed).await;
    }
    seen.print(report, "cut off meanwhile, from its return", 50);
}

/// Tokens that end while their sockets are open.
pub(super) async fn expired(length: Length, report: &mut Report) {
    let count: u32 = length.pick(20, 200, 1_000);
    report.part(
        "expired",
        &format!("{count} sockets whose token ends while they are open"),
    );
    let host = quiet().start().await;
    let mut ends = tokio::task::JoinSet::new();
    // They end over ten seconds, the first so late that all are open by then.
    let first = now() + 5;
    for id in 1..=count {
        let end = first + i64::from(id % 10);
        let opening = host.chat_socket(&ending(&host.tokens, id, end - LEEWAY));
        let (mut socket, _) = opening.confirmed().await;
        ends.spawn(async move {
            // A token that is nearly over is asked to be replaced.
            let came = loop {
                match socket.came_within(NEVER).await {
                    Some(Came::Said(said)) if said["type"] == "token_refresh_request" => {}
                    other => break other,
                }
            };
            (came, unix_ms() - 1_000 * end)
        });
    }
    let (mut seen, mut early) = (Seen::nothing(), 0);
    for (came, late) in ends.join_all().await {
        early += u64::from(late < 0);
        let late = Duration::from_millis(u64::try_from(late).unwrap_or(0));
        seen.times.saturating_record(micros(late));
        match came {
            Some(Came::Closed(4001, _)) => seen.closed += 1,
            other => seen.other.push(other.unwrap_or(Came::Gone)),
        }
    }
    seen.print(report, "exp and 60 s", u64::from(count));
    report.none("sockets closed before their time", early, "");
}

/// A token of a user with this `exp`, which may lie in the past.
fn ending(tokens: &Tokens, id: u32, exp: i64) -> String {
    let mut claims: Value = Tokens::unified_claims(&User::new(id), 0);
    claims["exp"] = json!(exp);
    claims["iat"] = json!(exp - 3_600);
    claims["nbf"] = json!(exp - 3_600);
    tokens.sign(&claims)
}

fn unix_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is after 1970");
    i64::try_from(since.as_millis()).expect("a date")
}
