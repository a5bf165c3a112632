//! The authenticated sockets that this process holds. They belong to the host, so
//! a swap never closes one. It owns who is connected and how to ask for a close;
//! it must not read or write a socket.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Longest reason of a close frame, bytes (RFC 6455 section 5.5: 125 less the code).
const MAX_REASON: usize = 123;
/// Close code for what should not have happened (RFC 6455 section 7.4.1).
const INTERNAL_ERROR: u16 = 1011;
/// Private use (RFC 6455 section 7.4.2).
const SESSION_ENDED: u16 = 4001;

/// One socket and who is at its other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Unique on this host.
    pub id: String,
    /// The user.
    pub user_id: u32,
    /// The user's e-mail.
    pub email: String,
    /// `admin` or `user`.
    pub role: String,
    /// `enhanced`, `legacy` or `mixed`.
    pub format_type: String,
    /// Unix seconds.
    pub connected_at: u64,
    /// The session that the credentials named.
    pub session_id: String,
    /// The session that the token itself names, if it is another one.
    pub token_session_id: Option<String>,
    /// SHA-256 of the token that it rests on, in hex.
    pub token_sha256: String,
    /// When that token was issued, unix seconds.
    pub issued_at: Option<u64>,
}

/// What a close frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// A code that may be sent (RFC 6455 section 7.4).
    pub code: u16,
    /// At most 123 bytes.
    pub reason: String,
}

impl Close {
    /// Of a socket whose session was revoked, or ended, while it was open.
    pub fn session_ended() -> Close {
        Close::new(SESSION_ENDED, "Session ended")
    }

    /// A code that must not be sent becomes 1011; a long reason is cut.
    pub fn new(code: u16, reason: &str) -> Close {
        let code = match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => code,
            _ => INTERNAL_ERROR,
        };
        let end = reason.floor_char_boundary(MAX_REASON);
        Close {
            code,
            reason: reason.get(..end).unwrap_or_default().to_owned(),
        }
    }
}

/// Why a socket is not registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The id is in use.
    #[error("a socket with this connection id is already registered")]
    Taken,
    /// The user has as many as one may have.
    #[error("the user has as many sockets as one may have")]
    Crowded,
}

/// All sockets of this process.
#[derive(Debug, Default)]
pub struct Sockets {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    by_id: HashMap<String, Entry>,
    /// The open ones, by user.
    by_user: HashMap<u32, BTreeSet<String>>,
    /// The open ones, by the token that they rest on: whose they are.
    by_token: HashMap<String, BTreeSet<String>>,
}

#[derive(Debug)]
struct Entry {
    connection: Connection,
    /// None: it was told to close and is no longer counted.
    close: Option<oneshot::Sender<Close>>,
}

/// Keeps a socket registered; dropping it takes the socket out.
#[derive(Debug)]
pub struct Registration {
    sockets: Arc<Sockets>,
    id: String,
}

impl Registration {
    /// Lists the socket, under its id, as another connection. An order to close that was
    /// given before still holds.
    pub fn renew(&self, connection: Connection) {
        self.sockets.lock().replace(&self.id, connection);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.sockets.lock().remove(&self.id);
    }
}

impl Sockets {
    /// Adds a socket. `close` is sent to at most once; whoever holds the other end
    /// closes the socket then. `most` is how many one user may have.
    ///
    /// # Errors
    /// [`Refused`]: nothing was added.
    pub fn register(
        self: &Arc<Self>,
        connection: Connection,
        close: oneshot::Sender<Close>,
        most: usize,
    ) -> Result<Registration, Refused> {
        let id = connection.id.clone();
        self.lock().insert(connection, close, most)?;
        Ok(Registration {
            sockets: Arc::clone(self),
            id,
        })
    }

    /// The open sockets of one user, or of all, oldest first.
    pub fn list(&self, user_id: Option<u32>) -> Vec<Connection> {
        let tables = self.lock();
        let mut found: Vec<Connection> = match user_id {
            Some(user_id) => tables
                .ids(user_id)
                .filter_map(|id| tables.by_id.get(id))
                .map(|entry| entry.connection.clone())
                .collect(),
            None => tables
                .by_id
                .values()
                .filter(|entry| entry.close.is_some())
                .map(|entry| entry.connection.clone())
                .collect(),
        };
        drop(tables);
        found.sort_by(|left, right| {
            (left.connected_at, &left.id).cmp(&(right.connected_at, &right.id))
        });
        found
    }

    /// Number of open sockets.
    pub fn count(&self) -> usize {
        self.lock().by_user.values().map(BTreeSet::len).sum()
    }

    /// Tells the sockets of a user, or of one session of the user, to close. The
    /// number of those that were told and still there.
    pub fn close(&self, user_id: u32, session_id: Option<&str>, close: &Close) -> usize {
        let meant = |connection: &Connection| {
            session_id.is_none_or(|session| {
                session == connection.session_id
                    || Some(session) == connection.token_session_id.as_deref()
            })
        };
        self.close_where(user_id, meant, close)
    }

    /// Tells the sockets of a user that were opened at `until` (unix seconds) or before
    /// to close. The number of those that were told and still there.
    pub fn close_until(&self, user_id: u32, until: u64, close: &Close) -> usize {
        self.close_where(
            user_id,
            |connection| connection.connected_at <= until,
            close,
        )
    }

    /// Tells the sockets of a user to close whose token was issued at a time (unix
    /// seconds, if it says so) that `covers` covers. The number of those that were told and
    /// still there.
    pub fn close_issued(
        &self,
        user_id: u32,
        covers: impl Fn(Option<u64>) -> bool,
        close: &Close,
    ) -> usize {
        self.close_where(user_id, |connection| covers(connection.issued_at), close)
    }

    /// Tells the sockets that rest on a token to close. The number of those that were
    /// told and still there.
    pub fn close_token(&self, token_sha256: &str, close: &Close) -> usize {
        let senders = self.lock().begin_closing_of(token_sha256);
        tell(senders, close)
    }

    fn close_where(
        &self,
        user_id: u32,
        meant: impl Fn(&Connection) -> bool,
        close: &Close,
    ) -> usize {
        let senders = self.lock().begin_closing(user_id, meant);
        tell(senders, close)
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(senders: Vec<oneshot::Sender<Close>>, close: &Close) -> usize {
    senders
        .into_iter()
        .filter_map(|sender| sender.send(close.clone()).ok())
        .count()
}

impl Tables {
    fn insert(
        &mut self,
        connection: Connection,
        close: oneshot::Sender<Close>,
        most: usize,
    ) -> Result<(), Refused> {
        let id = connection.id.clone();
        if self.by_id.contains_key(&id) {
            return Err(Refused::Taken);
        }
        if self.ids(connection.user_id).count() >= most {
            return Err(Refused::Crowded);
        }
        self.enter(&connection, &id);
        let close = Some(close);
        self.by_id.insert(id, Entry { connection, close });
        Ok(())
    }

    fn replace(&mut self, id: &str, connection: Connection) {
        let Some(mut entry) = self.by_id.remove(id) else {
            return;
        };
        let before = std::mem::replace(&mut entry.connection, connection);
        // One that is told to close is in no list any more.
        if entry.close.is_some() {
            self.leave(&before, id);
            self.enter(&entry.connection, id);
        }
        self.by_id.insert(id.to_owned(), entry);
    }

    fn enter(&mut self, connection: &Connection, id: &str) {
        let users = self.by_user.entry(connection.user_id).or_default();
        users.insert(id.to_owned());
        let token = connection.token_sha256.clone();
        let tokens = self.by_token.entry(token).or_default();
        tokens.insert(id.to_owned());
    }

    fn remove(&mut self, id: &str) {
        if let Some(entry) = self.by_id.remove(id) {
            self.leave(&entry.connection, id);
        }
    }

    fn ids(&self, user_id: u32) -> impl Iterator<Item = &String> {
        self.by_user.get(&user_id).into_iter().flatten()
    }

    /// Takes the matching sockets out of the count and hands out their senders.
    fn begin_closing(
        &mut self,
        user_id: u32,
        meant: impl Fn(&Connection) -> bool,
    ) -> Vec<oneshot::Sender<Close>> {
        let ids: Vec<String> = self.ids(user_id).cloned().collect();
        self.take_senders(ids, meant)
    }

    fn begin_closing_of(&mut self, token_sha256: &str) -> Vec<oneshot::Sender<Close>> {
        let ids = self.by_token.get(token_sha256).into_iter().flatten();
        let ids: Vec<String> = ids.cloned().collect();
        self.take_senders(ids, |_| true)
    }

    fn take_senders(
        &mut self,
        ids: Vec<String>,
        meant: impl Fn(&Connection) -> bool,
    ) -> Vec<oneshot::Sender<Close>> {
        let mut senders = Vec::new();
        for id in ids {
            let Some(entry) = self.by_id.get_mut(&id) else {
                continue;
            };
            if meant(&entry.connection) {
                senders.extend(entry.close.take());
                let connection = entry.connection.clone();
                self.leave(&connection, &id);
            }
        }
        senders
    }

    fn leave(&mut self, connection: &Connection, id: &str) {
        if let Some(ids) = self.by_user.get_mut(&connection.user_id) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_user.remove(&connection.user_id);
            }
        }
        if let Some(ids) = self.by_token.get_mut(&connection.token_sha256) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_token.remove(&connection.token_sha256);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(id: &str, user_id: u32, session_id: &str) -> Connection {
        Connection {
            id: id.into(),
            user_id,
            email: "ada@example.org".into(),
            role: "user".into(),
            format_type: "enhanced".into(),
            connected_at: 1_000,
            session_id: session_id.into(),
            token_session_id: None,
            token_sha256: format!("{id}-token"),
            issued_at: Some(900),
        }
    }

    fn ids(connections: &[Connection]) -> Vec<&str> {
        connections.iter().map(|found| found.id.as_str()).collect()
    }

    fn three() -> (Arc<Sockets>, Vec<(Registration, oneshot::Receiver<Close>)>) {
        let sockets = Arc::new(Sockets::default());
        let held = [("a", 1, "s1"), ("b", 1, "s2"), ("c", 2, "s1")]
            .into_iter()
            .map(|(id, user, session)| {
                let (sender, receiver) = oneshot::channel();
                let connection = connection(id, user, session);
                (sockets.register(connection, sender, 2).unwrap(), receiver)
            })
            .collect();
        (sockets, held)
    }

    #[test]
    fn lists_by_user_and_all_and_forgets_what_is_dropped() {
        let (sockets, mut held) = three();
        assert_eq!(ids(&sockets.list(None)), ["a", "b", "c"]);
        assert_eq!(ids(&sockets.list(Some(1))), ["a", "b"]);
        assert_eq!(ids(&sockets.list(Some(9))), [""; 0]);
        assert_eq!(sockets.count(), 3);
        held.remove(0);
        assert_eq!(ids(&sockets.list(Some(1))), ["b"]);
        assert_eq!(sockets.count(), 2);
        held.clear();
        assert!(sockets.lock().by_id.is_empty() && sockets.lock().by_user.is_empty());
        assert!(sockets.lock().by_token.is_empty());
    }

    #[test]
    fn closes_one_session_of_one_user_once() {
        let (sockets, mut held) = three();
        let close = Close::new(4001, "Session ended");
        assert_eq!(sockets.close(1, Some("s1"), &close), 1);
        assert_eq!(sockets.close(1, Some("s1"), &close), 0);
        assert_eq!(held[0].1.try_recv(), Ok(close));
        assert!(held[1].1.try_recv().is_err() && held[2].1.try_recv().is_err());
        assert_eq!(ids(&sockets.list(None)), ["b", "c"]);
        assert_eq!(sockets.count(), 2);
    }

    #[test]
    fn closes_all_sockets_of_a_user() {
        let (sockets, mut held) = three();
        let close = Close::new(4001, "Logged out");
        assert_eq!(sockets.close(1, None, &close), 2);
        assert_eq!(sockets.close(7, None, &close), 0);
        assert_eq!(held[0].1.try_recv(), Ok(close.clone()));
        assert_eq!(held[1].1.try_recv(), Ok(close));
        assert_eq!(ids(&sockets.list(None)), ["c"]);
    }

    #[test]
    fn closes_what_rests_on_a_token() {
        let (sockets, mut held) = three();
        let close = Close::new(4001, "Logged out");
        assert_eq!(sockets.close_token("a-token", &close), 1);
        assert_eq!(sockets.close_token("a-token", &close), 0);
        assert_eq!(sockets.close_token("x", &close), 0);
        assert_eq!(held[0].1.try_recv(), Ok(close));
        assert_eq!(ids(&sockets.list(Some(1))), ["b"]);
    }

    #[test]
    fn a_user_has_so_many() {
        let (sockets, _held) = three();
        let more = |user| {
            let connection = connection("d", user, "s9");
            sockets.register(connection, oneshot::channel().0, 2)
        };
        assert_eq!(more(1).unwrap_err(), Refused::Crowded);
        assert!(more(2).is_ok());
    }

    #[test]
    fn a_socket_is_listed_anew_and_an_order_to_close_it_holds() {
        let (sockets, mut held) = three();
        let mut other = connection("a", 1, "s3");
        other.token_sha256 = "another".into();
        other.token_session_id = Some("s4".into());
        held[0].0.renew(other.clone());
        let close = Close::session_ended();
        assert_eq!(sockets.close(1, Some("s1"), &close), 0);
        assert_eq!(sockets.close_token("a-token", &close), 0);
        assert_eq!(sockets.close(1, Some("s4"), &close), 1);
        held[0].0.renew(other);
        assert_eq!(held[0].1.try_recv(), Ok(close));
        assert_eq!(ids(&sockets.list(None)), ["b", "c"]);
        held.clear();
        assert!(sockets.lock().by_user.is_empty() && sockets.lock().by_token.is_empty());
    }

    #[test]
    fn a_cut_off_closes_by_the_age_of_the_token() {
        let (sockets, _held) = three();
        let close = Close::session_ended();
        let until = |cut_off| move |issued: Option<u64>| issued.is_none_or(|iat| iat <= cut_off);
        assert_eq!(sockets.close_issued(1, until(899), &close), 0);
        assert_eq!(sockets.close_issued(1, until(900), &close), 2);
        assert_eq!(ids(&sockets.list(None)), ["c"]);
    }

    #[test]
    fn an_end_leaves_the_sockets_that_were_opened_later() {
        let (sockets, _held) = three();
        let close = Close::session_ended();
        assert_eq!(sockets.close_until(1, 999, &close), 0);
        assert_eq!(sockets.close_until(1, 1_000, &close), 2);
        assert_eq!(ids(&sockets.list(None)), ["c"]);
    }

    #[test]
    fn a_socket_that_went_by_itself_is_not_counted_as_closed() {
        let (sockets, held) = three();
        let (_registrations, receivers): (Vec<_>, Vec<_>) = held.into_iter().unzip();
        drop(receivers);
        assert_eq!(sockets.close(2, None, &Close::new(4001, "")), 0);
    }

    #[test]
    fn an_id_is_taken_until_its_socket_is_gone() {
        let (sockets, mut held) = three();
        sockets.close(1, Some("s1"), &Close::new(4001, ""));
        let again = |sockets: &Arc<Sockets>| {
            sockets.register(connection("a", 3, "s9"), oneshot::channel().0, 2)
        };
        assert_eq!(again(&sockets).unwrap_err(), Refused::Taken);
        held.remove(0);
        let registration = again(&sockets).unwrap();
        assert_eq!(ids(&sockets.list(Some(3))), ["a"]);
        drop(registration);
        assert_eq!(sockets.count(), 2);
    }

    #[test]
    fn codes_that_must_not_be_sent_and_long_reasons_are_mended() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, u16::MAX] {
            assert_eq!(Close::new(code, "").code, INTERNAL_ERROR, "{code}");
        }
        for code in [1000, 1001, 1008, 1009, 1011, 3000, 4001, 4999] {
            assert_eq!(Close::new(code, "").code, code);
        }
        let reason = Close::new(1000, &"é".repeat(100)).reason;
        assert_eq!(reason, "é".repeat(61));
    }
}
