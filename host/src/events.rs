//! Events for all hosts: what happened to a login, and which keys of the shared store
//! should be read again. It owns their form and those that wait for the store to come
//! back; it must not decide when an event happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rand::Rng as _;
use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::backlog::Backlog;
use crate::clock::Clock;
use crate::store::file::{File, FileError};
use crate::store::{self, Store};

mod heard;

pub use heard::{Heard, Said};

/// Pub/sub channel that all services listen on.
pub const CHANNEL: &str = "auth.events";
/// Stream for those who lost the link.
pub const STREAM: &str = "lockgate:events";
/// Keys that one event names.
pub const MAX_KEYS: usize = 64;
/// Events that wait for the shared store; then the oldest is dropped.
const MAX_WAITING: usize = 1_000;
/// Longest `details`, bytes.
const MAX_DETAILS: usize = 16 * 1024;
/// Longest e-mail (RFC 5321 section 4.5.3.1: 64 + `@` + 255).
const MAX_EMAIL: usize = 320;
/// Longest source, bytes.
const MAX_SOURCE: usize = 64;
/// Longest session id, characters.
const MAX_SESSION: usize = 128;

/// What happened to a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A user logged in.
    Login,
    /// A token was replaced.
    TokenRefresh,
    /// A user logged out.
    Logout,
    /// A session ended by itself.
    SessionExpired,
}

impl Kind {
    /// From the word in the event.
    pub fn parse(word: &str) -> Option<Kind> {
        match word {
            "login" => Some(Kind::Login),
            "token_refresh" => Some(Kind::TokenRefresh),
            "logout" => Some(Kind::Logout),
            "session_expired" => Some(Kind::SessionExpired),
            _ => None,
        }
    }
}

/// One event, as its maker knows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    event_type: Kind,
    user_id: u32,
    email: String,
    source: String,
    session_id: Option<String>,
    details: Map<String, Value>,
}

/// A field of the event is over its limit, or `details` is no JSON object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the event's {0} cannot be used")]
pub struct Invalid(pub &'static str);

impl Event {
    /// Checks the fields.
    ///
    /// # Errors
    /// [`Invalid`] names the first field that cannot be used.
    pub fn new(
        event_type: Kind,
        user_id: u32,
        email: String,
        source: String,
        session_id: Option<String>,
        details: &str,
    ) -> Result<Event, Invalid> {
        if email.len() > MAX_EMAIL {
            return Err(Invalid("e-mail"));
        }
        if source.len() > MAX_SOURCE {
            return Err(Invalid("source"));
        }
        if session_id.as_ref().is_some_and(|id| id.len() > MAX_SESSION) {
            return Err(Invalid("session id"));
        }
        if details.len() > MAX_DETAILS {
            return Err(Invalid("details"));
        }
        let details = serde_json::from_str(details).map_err(|_| Invalid("details"))?;
        Ok(Event {
            event_type,
            user_id,
            email,
            source,
            session_id,
            details,
        })
    }
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Unique over all hosts.
    pub event_id: String,
    /// Unix seconds.
    pub time: u64,
    /// False: it waits for the shared store.
    pub delivered: bool,
}

/// The form on the wire. Readers may get an event twice, when the answer of the store
/// was lost or this host was killed while it sent, and know it by host and number.
#[derive(Serialize)]
struct Wire<'a, Body> {
    event_id: &'a str,
    host: &'a str,
    seq: u64,
    timestamp: String,
    #[serde(flatten)]
    body: &'a Body,
}

/// Tells hosts to read again.
#[derive(Serialize)]
#[serde(tag = "event_type", rename_all = "snake_case")]
enum Hint<'a> {
    /// These keys.
    KeysChanged { keys: &'a [String] },
    /// All that hosts keep for themselves.
    AllChanged {},
}

/// Sends events and keeps those that could not be sent, in order.
#[derive(Debug)]
pub struct Events {
    host: String,
    clock: Clock,
    seq: AtomicU64,
    waiting: Backlog,
    /// A hint could not be sent: the others must read everything again.
    owed: AtomicBool,
    /// The store refuses events for good, which was said.
    refused: AtomicBool,
    /// One sender of waiting events at a time.
    sending: tokio::sync::Mutex<()>,
}

impl Events {
    /// A new sender with a name of its own, and with what waits in the file.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be read.
    pub async fn open(file: Arc<File>, clock: Clock) -> Result<Events, FileError> {
        Ok(Events {
            host: random_hex::<8>(),
            clock,
            seq: AtomicU64::new(0),
            waiting: Backlog::open(file, "events", MAX_WAITING).await?,
            owed: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            sending: tokio::sync::Mutex::default(),
        })
    }

    /// The random name of this process in its events.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Tells all hosts. While earlier events wait this one waits behind them.
    pub async fn publish(&self, store: &dyn Store, event: &Event) -> Published {
        let event_id = new_id();
        let time = self.clock.now();
        let payload = self.wire(&event_id, time, event);
        let delivered = self.send_or_keep(store, payload).await;
        Published {
            event_id,
            time,
            delivered,
        }
    }

    /// Tells all hosts which keys to read again, at most [`MAX_KEYS`] in one event.
    /// What cannot be sent is owed.
    pub async fn changed(&self, store: &dyn Store, keys: &[String]) {
        for keys in keys.chunks(MAX_KEYS) {
            self.hint(store, &Hint::KeysChanged { keys }).await;
        }
    }

    /// Something changed and it is not known what, or whom it reached.
    pub fn owe(&self) {
        self.owed.store(true, Ordering::SeqCst);
    }

    /// If hints were lost, tells all hosts to read everything again. Comes after what
    /// the store missed was written there.
    pub async fn settle(&self, store: &dyn Store) {
        if self.owed.swap(false, Ordering::SeqCst) {
            self.hint(store, &Hint::AllChanged {}).await;
        }
    }

    async fn hint(&self, store: &dyn Store, hint: &Hint<'_>) {
        let payload = self.wire(&new_id(), self.clock.now(), hint);
        match self.announce(store, &payload).await {
            Err(store::Error::Unavailable) => self.owe(),
            // What the store refuses for good it would refuse again.
            Err(error) => self.refused(error),
            Ok(()) => {}
        }
    }

    fn wire(&self, event_id: &str, time: u64, body: &impl Serialize) -> String {
        let wire = Wire {
            event_id,
            host: &self.host,
            seq: self.seq.fetch_add(1, Ordering::Relaxed) + 1,
            timestamp: rfc3339(time),
            body,
        };
        // Maps with text keys always serialise.
        serde_json::to_string(&wire).unwrap_or_default()
    }

    /// Sends what waits, until the store fails again; run once a second.
    pub async fn flush(&self, store: &dyn Store) {
        let Ok(_only) = self.sending.try_lock() else {
            return;
        };
        let mut sent = Vec::new();
        // They stay in their places meanwhile, so that later ones wait behind them.
        while let Some((number, payload)) = self.waiting.after(sent.last().copied()) {
            let payload = String::from_utf8_lossy(&payload);
            match self.announce(store, &payload).await {
                Ok(()) => {}
                Err(store::Error::Unavailable) => break,
                Err(error) => self.refused(error),
            }
            sent.push(number);
        }
        self.waiting.remove(sent).await;
    }

    async fn announce(&self, store: &dyn Store, payload: &str) -> store::Result<()> {
        let outcome = store.announce(CHANNEL, STREAM, payload).await;
        if outcome.is_ok() {
            self.refused.store(false, Ordering::Relaxed);
        }
        outcome
    }

    /// The store is there and will never take it: trying again would only send it again
    /// and again. Reported once.
    fn refused(&self, error: store::Error) {
        metrics::counter!("lockgate_events_dropped_total").increment(1);
        if !self.refused.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "events do not reach all hosts: the store refuses them");
        }
    }

    /// Number of events that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    async fn send_or_keep(&self, store: &dyn Store, payload: String) -> bool {
        if self.waiting() == 0 {
            match self.announce(store, &payload).await {
                Ok(()) => return true,
                Err(store::Error::Unavailable) => {}
                Err(error) => {
                    self.refused(error);
                    return false;
                }
            }
        }
        if !self.waiting.push(payload.into_bytes(), None).await {
            metrics::counter!("lockgate_events_dropped_total").increment(1);
            tracing::error!("an event was dropped: {MAX_WAITING} already wait for Redis");
        }
        false
    }
}

fn new_id() -> String {
    format!("ev-{}", random_hex::<16>())
}

fn random_hex<const BYTES: usize>() -> String {
    let mut bytes = [0; BYTES];
    rand::rng().fill_bytes(&mut bytes);
    hex::encode(bytes)
}

fn rfc3339(time: u64) -> String {
    i64::try_from(time)
        .ok()
        .and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::store::{Condition, Result as StoreResult};
    use async_trait::async_trait;

    /// Takes events, or fails as it is told.
    #[derive(Debug)]
    struct Wall {
        folder: tempfile::TempDir,
        fails: Mutex<Option<store::Error>>,
        seen: Mutex<Vec<Value>>,
    }

    impl Wall {
        fn new() -> Wall {
            Wall {
                folder: tempfile::tempdir().unwrap(),
                fails: Mutex::default(),
                seen: Mutex::default(),
            }
        }

        async fn events(&self, now: u64) -> Events {
            let file = File::open_again(&self.folder.path().join("x.redb"), now).await;
            Events::open(Arc::new(file), Clock::fixed(now))
                .await
                .unwrap()
        }

        fn fail(&self, error: Option<store::Error>) {
            *self.fails.lock().unwrap() = error;
        }

        fn users(&self) -> Vec<u64> {
            let seen = self.seen.lock().unwrap();
            seen.iter()
                .map(|event| event["user_id"].as_u64().unwrap())
                .collect()
        }
    }

    #[async_trait]
    impl Store for Wall {
        async fn get(&self, _: &str) -> StoreResult<Option<Vec<u8>>> {
            unimplemented()
        }
        async fn get_many(&self, _: &[String]) -> StoreResult<Vec<Option<Vec<u8>>>> {
            unimplemented()
        }
        async fn take(&self, _: &str) -> StoreResult<Option<Vec<u8>>> {
            unimplemented()
        }
        async fn set(&self, _: &str, _: &[u8], _: u32, _: Condition) -> StoreResult<bool> {
            unimplemented()
        }
        async fn compare_and_set(&self, _: &str, _: &[u8], _: &[u8], _: u32) -> StoreResult<bool> {
            unimplemented()
        }
        async fn delete(&self, _: &[String]) -> StoreResult<u32> {
            unimplemented()
        }
        async fn expire(&self, _: &str, _: u32) -> StoreResult<bool> {
            unimplemented()
        }
        async fn increment(&self, _: &str, _: i64, _: u32) -> StoreResult<i64> {
            unimplemented()
        }
        async fn set_add(&self, _: &str, _: &str, _: u32) -> StoreResult<bool> {
            unimplemented()
        }
        async fn set_remove(&self, _: &str, _: &str) -> StoreResult<bool> {
            unimplemented()
        }
        async fn set_contains(&self, _: &str, _: &str) -> StoreResult<bool> {
            unimplemented()
        }
        async fn set_members(&self, _: &str) -> StoreResult<Vec<String>> {
            unimplemented()
        }
        async fn announce(&self, channel: &str, stream: &str, payload: &str) -> StoreResult<()> {
            assert_eq!((channel, stream), ("auth.events", "lockgate:events"));
            if let Some(error) = *self.fails.lock().unwrap() {
                return Err(error);
            }
            self.seen
                .lock()
                .unwrap()
                .push(serde_json::from_str(payload).unwrap());
            Ok(())
        }
    }

    fn unimplemented<T>() -> StoreResult<T> {
        panic!("events only announce")
    }

    fn logout(user_id: u32) -> Event {
        Event::new(
            Kind::Logout,
            user_id,
            "ada@example.org".into(),
            "api".into(),
            Some("s-7Qx".into()),
            r#"{"why":{"n":1}}"#,
        )
        .unwrap()
    }

    #[tokio::test]
    async fn an_event_has_its_fields_and_a_running_number() {
        let wall = Wall::new();
        let events = wall.events(1_935_651_600).await;
        let published = events.publish(&wall, &logout(42)).await;
        assert!(published.delivered);
        assert_eq!(published.time, 1_935_651_600);
        let second = events.publish(&wall, &logout(43)).await;
        assert_ne!(published.event_id, second.event_id);
        let seen = wall.seen.lock().unwrap();
        let expected = serde_json::json!({
            "event_id": published.event_id, "host": events.host(), "seq": 1,
            "timestamp": "2031-05-04T09:00:00Z", "event_type": "logout", "user_id": 42,
            "email": "ada@example.org", "source": "api", "session_id": "s-7Qx",
            "details": {"why": {"n": 1}},
        });
        assert_eq!(seen[0], expected);
        assert_eq!(seen[1]["seq"], 2);
    }

    #[tokio::test]
    async fn events_wait_in_order_while_the_store_is_away() {
        let wall = Wall::new();
        let events = wall.events(1).await;
        wall.fail(Some(store::Error::Unavailable));
        assert!(!events.publish(&wall, &logout(1)).await.delivered);
        assert!(!events.publish(&wall, &logout(2)).await.delivered);
        events.flush(&wall).await;
        assert_eq!(events.waiting(), 2);
        wall.fail(None);
        assert!(!events.publish(&wall, &logout(3)).await.delivered);
        events.flush(&wall).await;
        assert_eq!(wall.users(), [1, 2, 3]);
        assert_eq!(events.waiting(), 0);
        assert!(events.publish(&wall, &logout(4)).await.delivered);
    }

    #[tokio::test]
    async fn what_waits_outlives_the_process() {
        let wall = Wall::new();
        let events = wall.events(1).await;
        wall.fail(Some(store::Error::Unavailable));
        let published = events.publish(&wall, &logout(1)).await;
        wall.fail(None);
        drop(events);
        let events = wall.events(2).await;
        assert!(!events.publish(&wall, &logout(2)).await.delivered);
        events.flush(&wall).await;
        assert_eq!(wall.users(), [1, 2]);
        let seen = wall.seen.lock().unwrap();
        assert_eq!(seen[0]["event_id"], published.event_id);
    }

    #[tokio::test]
    async fn a_full_queue_drops_the_oldest() {
        let wall = Wall::new();
        let events = wall.events(1).await;
        wall.fail(Some(store::Error::Unavailable));
        for user in 0..=MAX_WAITING {
            events
                .publish(&wall, &logout(u32::try_from(user).unwrap()))
                .await;
        }
        assert_eq!(events.waiting(), MAX_WAITING);
        wall.fail(None);
        events.flush(&wall).await;
        assert_eq!(wall.users().first(), Some(&1));
        assert_eq!(wall.users().len(), MAX_WAITING);
    }

    #[tokio::test]
    async fn hints_name_keys_and_what_could_not_be_told_is_owed() {
        let wall = Wall::new();
        let events = wall.events(1).await;
        let keys: Vec<String> = (0..=MAX_KEYS).map(|n| format!("key:{n}")).collect();
        events.changed(&wall, &keys).await;
        wall.fail(Some(store::Error::Unavailable));
        events.changed(&wall, &keys[..1]).await;
        events.settle(&wall).await;
        assert_eq!(events.waiting(), 0);
        wall.fail(None);
        events.settle(&wall).await;
        events.settle(&wall).await;
        let seen = wall.seen.lock().unwrap();
        assert_eq!(seen.len(), 3, "{seen:?}");
        assert_eq!(seen[0]["event_type"], "keys_changed");
        assert_eq!(seen[0]["keys"], serde_json::json!(keys[..MAX_KEYS]));
        assert_eq!(seen[1]["keys"], serde_json::json!(keys[MAX_KEYS..]));
        assert_eq!(seen[2]["event_type"], "all_changed");
        let said: Vec<Said> = seen
            .iter()
            .map(|event| Heard::parse(event.to_string().as_bytes()).unwrap().said)
            .collect();
        assert_eq!(said[1], Said::Keys(keys[MAX_KEYS..].to_vec()));
        assert_eq!(said[2], Said::Everything);
    }

    #[tokio::test]
    async fn what_the_store_refuses_for_good_is_not_kept() {
        let wall = Wall::new();
        let events = wall.events(1).await;
        wall.fail(Some(store::Error::Unavailable));
        events.publish(&wall, &logout(1)).await;
        wall.fail(Some(store::Error::WrongType));
        events.flush(&wall).await;
        assert!(!events.publish(&wall, &logout(2)).await.delivered);
        assert_eq!(events.waiting(), 0);
    }

    #[test]
    fn fields_over_their_limits_are_refused() {
        let make = |email: &str, source: &str, session: &str, details: &str| {
            let session = Some(session.to_owned());
            Event::new(
                Kind::Login,
                1,
                email.into(),
                source.into(),
                session,
                details,
            )
            .err()
        };
        let long = |length: usize| "x".repeat(length);
        assert_eq!(make("", "", "", "{}"), None);
        assert_eq!(make(&long(321), "", "", "{}"), Some(Invalid("e-mail")));
        assert_eq!(make("", &long(65), "", "{}"), Some(Invalid("source")));
        assert_eq!(make("", "", &long(129), "{}"), Some(Invalid("session id")));
        let large = format!("{{\"a\":\"{}\"}}", long(MAX_DETAILS));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(4000), "]".repeat(4000));
        for details in ["", "[]", "null", "1", "{", "{} {}", &large, &deep] {
            assert_eq!(make("", "", "", details), Some(Invalid("details")));
        }
    }

    #[test]
    fn the_four_words_and_no_others() {
        for kind in [
            Kind::Login,
            Kind::TokenRefresh,
            Kind::Logout,
            Kind::SessionExpired,
        ] {
            let word = serde_json::to_value(kind).unwrap();
            assert_eq!(Kind::parse(word.as_str().unwrap()), Some(kind));
        }
        for word in ["", "Login", "logout ", "other"] {
            assert_eq!(Kind::parse(word), None);
        }
    }
}
