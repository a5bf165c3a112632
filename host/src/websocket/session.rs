//! One socket from its opening to its end, in one task: one event at a time goes to
//! the plugin, and its actions are done in order. What is not sent yet is one message,
//! so a slow reader costs no memory; it stops being read from instead.

mod acts;

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use metrics::counter;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Place;
use super::relay::{Relay, Told};
use super::wire::{Heard, Wire};
use crate::bindings::lockgate::plugin::types::Request;
use crate::bindings::socket_events::{Action, Admission, Connection, Ending, Event};
use crate::instance::Job;
use crate::respond::{self, SocketFault};
use crate::slot::Refusal;
use crate::sockets::{Close, Registration};

/// How long the switch of protocols may take.
const SWITCH: Duration = Duration::from_secs(10);
/// An event waits so long for a place in its service.
const PATIENCE: Duration = Duration::from_secs(3);
/// A token counts this long after its `exp`, seconds.
const LEEWAY: u64 = 60;
/// The plugin is told so long before `exp`, seconds.
const NOTICE: u64 = 300;
/// The clock is looked at this often, for it may be set.
const LOOK: Duration = Duration::from_secs(30);
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
    expires_at: Option<u64>,
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
    told_to_close: Option<oneshot::Receiver<Close>>,
    /// Events that the host has made itself.
    pending: VecDeque<Event>,
    noticed: bool,
    pings: u32,
    next_ping: Instant,
    /// When it is closed because the host stops.
    leave: Option<Instant>,
}

impl Session {
    /// Serves the socket to its end.
    pub(super) async fn run(place: Place, upgrade: OnUpgrade, request: Request, id: String) {
        let Ok(Ok(upgraded)) = timeout(SWITCH, upgrade).await else {
            return;
        };
        let hub = place.hub.clone();
        let wire = Wire::new(upgraded, hub.limits.message).await;
        let mut session = Box::new(Session {
            request_id: id,
            facts: Facts {
                id: format!("ws-{:016x}", rand::random::<u64>()),
                opened_at: hub.state.clock().now(),
                expires_at: None,
                state: Vec::new(),
                admitted: None,
            },
            wire,
            relay: Relay::new(hub.upstream.clone()),
            registration: None,
            told_to_close: None,
            pending: VecDeque::new(),
            noticed: false,
            pings: 0,
            next_ping: Instant::now() + hub.limits.ping.mul_f64(rand::random_range(0.5..1.0)),
            leave: None,
            place,
        });
        let end = match session.serve(request).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        session.end(end).await;
    }

    async fn serve(&mut self, request: Request) -> Result<std::convert::Infallible, End> {
        if self.place.over {
            return Err(SocketFault::Crowded.into());
        }
        let opened = Job::Open(self.connection(), request);
        let actions = self.decide(opened).await?;
        self.act(actions, true).await?;
        if self.facts.admitted.is_none() {
            return Err(SocketFault::Undecided.into());
        }
        loop {
            let event = match self.pending.pop_front() {
                Some(event) => {
                    self.look_at_order()?;
                    event
                }
                None => self.next().await?,
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
            let stopping = self.leave.is_none();
            tokio::select! {
                biased;
                close = ordered(&mut self.told_to_close) => return Err(End::Ours(close)),
                () = sleep_until(due) => {
                    if let Some(event) = self.timers().await? {
                        return Ok(event);
                    }
                }
                () = self.place.hub.stop.cancelled(), if stopping => self.plan_leaving(),
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
        let mut due = self.next_ping.min(Instant::now() + LOOK);
        if let Some(leave) = self.leave {
            due = due.min(leave);
        }
        if let Some(expires_at) = self.facts.expires_at {
            let next = if self.noticed {
                expires_at.saturating_add(LEEWAY)
            } else {
                expires_at.saturating_sub(NOTICE)
            };
            let left = Duration::from_secs(next.saturating_sub(now));
            due = due.min(Instant::now() + left.min(LOOK));
        }
        due
    }

    async fn timers(&mut self) -> Result<Option<Event>, End> {
        let now = Instant::now();
        if self.leave.is_some_and(|leave| leave <= now) {
            return Err(SocketFault::Stopping.into());
        }
        if self.next_ping <= now {
            self.next_ping = now + self.place.hub.limits.ping;
            self.pings += 1;
            if self.pings > SILENT_PINGS {
                return Err(gone());
            }
            // One that takes nothing now is noticed by its silence.
            if let Ok(false) = timeout(Duration::from_millis(100), self.wire.ping()).await {
                return Err(gone());
            }
        }
        let Some(expires_at) = self.facts.expires_at else {
            return Ok(None);
        };
        let time = self.place.hub.state.clock().now();
        if time >= expires_at.saturating_add(LEEWAY) {
            return Err(SocketFault::Expired.into());
        }
        if !self.noticed && time >= expires_at.saturating_sub(NOTICE) {
            self.noticed = true;
            return Ok(Some(Event::Expiring));
        }
        Ok(None)
    }

    /// All sockets at once would come back at once.
    fn plan_leaving(&mut self) {
        let share = rand::random_range(0.0..1.0);
        self.leave = Some(Instant::now() + self.place.hub.spread.mul_f64(share));
    }

    fn look_at_order(&mut self) -> Step {
        let Some(order) = &mut self.told_to_close else {
            return Ok(());
        };
        match order.try_recv() {
            Ok(close) => Err(End::Ours(close)),
            Err(_) => Ok(()),
        }
    }

    fn connection(&self) -> Connection {
        Connection {
            id: self.facts.id.clone(),
            opened_at: self.facts.opened_at,
            expires_at: self.facts.expires_at,
            state: self.facts.state.clone(),
            waiting: u32::try_from(self.relay.waiting()).unwrap_or(u32::MAX),
        }
    }

    /// Has an event decided; a busy service is asked again for a while.
    async fn decide(&mut self, event: Job) -> Result<Vec<Action>, End> {
        let event = Arc::new(event);
        let began = Instant::now();
        loop {
            let decided = self.place.hub.slot.decide(event.clone(), &self.request_id);
            match decided.await {
                Ok(actions) => return Ok(actions),
                Err(Refusal::Busy { .. } | Refusal::Resting { .. })
                    if began.elapsed() < PATIENCE =>
                {
                    sleep(Duration::from_millis(rand::random_range(50..200))).await;
                }
                Err(refusal) => {
                    tracing::warn!(connection = self.facts.id, %refusal, "a socket's event was not decided");
                    return Err(SocketFault::Undecided.into());
                }
            }
        }
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
            registration,
            ..
        } = *self;
        drop(registration);
        let close = match &end {
            End::Ours(close) | End::Theirs(close) => close,
        };
        let service = place.hub.slot.service().name.clone();
        counter!("lockgate_socket_closes_total", "service" => service, "code" => close.code.to_string())
            .increment(1);
        tracing::info!(
            request_id,
            connection = facts.id,
            code = close.code,
            by = if matches!(end, End::Ours(_)) {
                "host"
            } else {
                "client"
            },
            "socket closed"
        );
        match &end {
            End::Ours(close) => wire.close(close).await,
            End::Theirs(_) => wire.closed().await,
        }
        if facts.admitted.is_some() {
            let told = place.hub.slot.decide(Arc::new(job(close)), &request_id);
            // The socket is gone whatever the plugin makes of it.
            let _ = told.await;
        }
    }
}

/// Waits for an order to close. One whose sender is gone never comes.
async fn ordered(order: &mut Option<oneshot::Receiver<Close>>) -> Close {
    if let Some(receiver) = order
        && let Ok(close) = receiver.await
    {
        return close;
    }
    *order = None;
    pending().await
}

fn gone() -> End {
    End::Theirs(Close {
        code: 1006,
        reason: String::new(),
    })
}
