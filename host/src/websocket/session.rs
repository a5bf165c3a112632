//! One socket from its opening to its end, in one task: one event at a time goes to
//! the plugin, and its actions are done in order. What is not sent yet is one message,
//! so a slow reader costs no memory; it stops being read from instead.

mod acts;
mod ends;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use metrics::counter;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::ends::{Ends, LOOK};
use super::relay::{Relay, Told};
use super::wire::{Heard, Wire, gone};
use super::{Hub, Place};
use crate::bindings::lockgate::plugin::types::Request;
use crate::bindings::socket_events::{Action, Admission, Connection, Ending, Event};
use crate::instance::Job;
use crate::respond::{self, SocketFault};
use crate::slot::{Refusal, Slot};
use crate::sockets::{Close, Registration};
use crate::telemetry;

/// How long the switch of protocols may take.
const SWITCH: Duration = Duration::from_secs(10);
/// The opening of a socket waits so long for a place in its service.
const PATIENCE: Duration = Duration::from_secs(3);
/// An event of an admitted one waits so long; meanwhile nothing is read from it.
const ADMITTED_PATIENCE: Duration = Duration::from_secs(60);
/// Events that the host makes itself, one after the other, before it reads again.
const MADE: u32 = 64;
/// The plugin is told so long before `exp`, seconds.
const NOTICE: u64 = 300;
/// Close codes that are counted each for itself: those of RFC 6455 section 7.4.1 and ours.
const KNOWN: [u16; 13] = [
    1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1013, 4001,
];
/// Unanswered pings after which a client counts as gone.
const SILENT_PINGS: u32 = 3;

/// How a socket ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// With a close frame of ours.
    Ours(Close),
    /// By the client, or by the network.
    Theirs(Close),
}

impl From<SocketFault> for End {
    fn from(fault: SocketFault) -> End {
        End::Ours(respond::close(fault))
    }
}

type Step = Result<(), End>;

/// What a socket is, beside its wire and its upstream.
struct Facts {
    id: String,
    opened_at: u64,
    state: Vec<u8>,
    admitted: Option<Admission>,
}

/// One socket.
pub(super) struct Session {
    place: Place,
    request_id: String,
    facts: Facts,
    wire: Wire,
    relay: Relay,
    registration: Option<Registration>,
    ends: Ends,
    /// Events that the host has made itself.
    pending: VecDeque<Event>,
    /// So many of them were decided one after the other.
    made: u32,
    noticed: bool,
    pings: u32,
    next_ping: Instant,
}

impl Session {
    /// Serves the socket to its end.
    pub(super) async fn run(place: Place, upgrade: OnUpgrade, request: Request, id: String) {
        let Ok(Ok(upgraded)) = timeout(SWITCH, upgrade).await else {
            count_close(&place.hub, &End::Theirs(gone()));
            return;
        };
        let hub = place.hub.clone();
        let wire = Wire::new(upgraded, hub.limits.message).await;
        let mut session = Box::new(Session {
            request_id: id,
            facts: Facts {
                id: format!("ws-{:016x}", rand::random::<u64>()),
                opened_at: hub.state.clock().now(),
                state: Vec::new(),
                admitted: None,
            },
            wire,
            relay: Relay::new(hub.upstream.clone()),
            registration: None,
            ends: Ends::new(hub.clone()),
            pending: VecDeque::new(),
            made: 0,
            noticed: false,
            pings: 0,
            next_ping: Instant::now() + hub.limits.ping.mul_f64(rand::random_range(0.5..1.0)),
            place,
        });
        let end = match session.serve(request).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        session.end(end).await;
    }

    async fn serve(&mut self, request: Request) -> Result<std::convert::Infallible, End> {
        let opened = Job::Open(self.connection(), request);
        let actions = self.decide(opened).await?;
        self.act(actions, true).await?;
        if self.facts.admitted.is_none() {
            return Err(SocketFault::Undecided.into());
        }
        loop {
            let event = match self.pending.pop_front() {
                Some(event) if self.made < MADE => {
                    self.made += 1;
                    event
                }
                Some(_) => return Err(SocketFault::Undecided.into()),
                None => {
                    self.made = 0;
                    self.next().await?
                }
            };
            let happened = Job::Message(self.connection(), event);
            let actions = self.decide(happened).await?;
            self.act(actions, false).await?;
        }
    }

    /// The next event for the plugin.
    async fn next(&mut self) -> Result<Event, End> {
        loop {
            let due = self.due();
            tokio::select! {
                biased;
                end = self.ends.come() => return Err(end),
                () = sleep_until(due) => {
                    if let Some(event) = self.timers().await? {
                        return Ok(event);
                    }
                }
                heard = self.wire.next() => match heard {
                    Heard::Text(text) => {
                        self.pings = 0;
                        counter!("lockgate_socket_messages_total", "direction" => "in").increment(1);
                        return Ok(Event::Text(text));
                    }
                    Heard::Alive => self.pings = 0,
                    Heard::Closed(close) => return Err(End::Theirs(close)),
                    Heard::Fault(fault) => return Err(fault.into()),
                },
                told = self.relay.next() => return Ok(match told {
                    Told::Text(text) => Event::Upstream(text),
                    Told::Unanswered(why) => Event::Unanswered(why),
                }),
            }
        }
    }

    /// When something is to be done although nothing happens.
    fn due(&self) -> Instant {
        let now = self.place.hub.state.clock().now();
        let notice = self.ends.expires_at.filter(|_| !self.noticed);
        let notice = notice.map(|at| at.saturating_sub(NOTICE).saturating_sub(now));
        match notice {
            Some(left) => {
                let left = Duration::from_secs(left).min(LOOK);
                self.next_ping.min(Instant::now() + left)
            }
            None => self.next_ping,
        }
    }

    async fn timers(&mut self) -> Result<Option<Event>, End> {
        let now = Instant::now();
        if self.next_ping <= now {
            self.next_ping = now + self.place.hub.limits.ping;
            self.pings += 1;
            if self.pings > SILENT_PINGS {
                return Err(End::Theirs(gone()));
            }
            // One that takes nothing now is noticed by its silence.
            if let Ok(false) = timeout(Duration::from_millis(100), self.wire.ping()).await {
                return Err(End::Theirs(gone()));
            }
        }
        let Some(expires_at) = self.ends.expires_at else {
            return Ok(None);
        };
        let time = self.place.hub.state.clock().now();
        if !self.noticed && time >= expires_at.saturating_sub(NOTICE) {
            self.noticed = true;
            return Ok(Some(Event::Expiring));
        }
        Ok(None)
    }

    fn connection(&self) -> Connection {
        Connection {
            id: self.facts.id.clone(),
            opened_at: self.facts.opened_at,
            expires_at: self.ends.expires_at,
            state: self.facts.state.clone(),
            waiting: u32::try_from(self.relay.waiting()).unwrap_or(u32::MAX),
        }
    }

    /// Has an event decided, unless the socket is to end before that.
    async fn decide(&mut self, event: Job) -> Result<Vec<Action>, End> {
        let hub = self.place.hub.clone();
        let patience = match self.facts.admitted {
            Some(_) => ADMITTED_PATIENCE,
            None => PATIENCE,
        };
        let decided = tokio::select! {
            biased;
            end = self.ends.come() => return Err(end),
            decided = decided(&hub.slot, event, &self.request_id, patience) => decided,
        };
        decided.map_err(|refusal| {
            tracing::warn!(connection = self.facts.id, %refusal, "a socket's event was not decided");
            SocketFault::Undecided.into()
        })
    }

    async fn end(self: Box<Self>, end: End) {
        let connection = self.connection();
        let job = |close: &Close| {
            let ending = Ending {
                code: close.code,
                reason: close.reason.clone(),
            };
            Job::Closed(connection.clone(), ending)
        };
        let Session {
            place,
            request_id,
            facts,
            wire,
            relay,
            registration,
            ..
        } = *self;
        drop(registration);
        count_close(&place.hub, &end);
        let (close, by) = end.parts();
        tracing::info!(
            request_id,
            connection = facts.id,
            code = close.code,
            by,
            "socket closed"
        );
        let farewell = async {
            match &end {
                End::Ours(close) => wire.close(close).await,
                End::Theirs(_) => wire.closed().await,
            }
        };
        tokio::join!(farewell, relay.end());
        if facts.admitted.is_some() {
            // The socket is gone whatever the plugin makes of it.
            let _ = decided(&place.hub.slot, job(close), &request_id, Duration::ZERO).await;
        }
    }
}

impl End {
    /// The close frame, and whose it is.
    fn parts(&self) -> (&Close, &'static str) {
        match self {
            End::Ours(close) => (close, "host"),
            End::Theirs(close) => (close, "client"),
        }
    }
}

/// Counts an end. Clients can send thousands of codes, so only those of a list stand for
/// themselves.
fn count_close(hub: &Hub, end: &End) {
    let (close, by) = end.parts();
    let code = match close.code {
        code if KNOWN.contains(&code) => code.to_string(),
        _ => String::from("other"),
    };
    let service = hub.slot.service().name.clone();
    counter!("lockgate_socket_closes_total", "service" => service, "code" => code, "by" => by)
        .increment(1);
}

/// Asks the service for a decision; a busy one is asked again for a while.
async fn decided(
    slot: &Slot,
    event: Job,
    request_id: &str,
    patience: Duration,
) -> Result<Vec<Action>, Refusal> {
    let span = telemetry::socket_event(&slot.service().name, event.name(), request_id);
    let event = Arc::new(event);
    let began = Instant::now();
    let deciding = async {
        loop {
            match slot.decide(event.clone(), request_id).await {
                Err(Refusal::Busy { .. } | Refusal::Resting { .. })
                    if began.elapsed() < patience =>
                {
                    sleep(Duration::from_millis(rand::random_range(50..200))).await;
                }
                decided => return decided,
            }
        }
    };
    telemetry::within(span, deciding, |_| "undecided").await
}
