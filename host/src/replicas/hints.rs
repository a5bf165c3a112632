//! What events mean for the keys that hosts keep for themselves. Pure: it reads nothing.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::directory;
use crate::emergency::{mirror_key, mirrored_user};
use crate::events::{Kind, Said};
use crate::reissue;
use crate::revocation::{self, Revoked};

/// Keys that begin in this way may be answered from memory.
pub(super) const CACHED: [&str; 3] = ["lockgate:revoked:", "lockgate:user:", "session:"];

/// What a batch of events asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hints {
    /// Keys whose answers are of no more use.
    pub(super) stale: BTreeSet<String>,
    /// Keys to read again.
    pub(super) read: BTreeSet<String>,
    /// Read all that hosts keep.
    pub(super) everything: bool,
    /// Users whose sessions have ended, whichever they are, and when: no key says so.
    pub(super) expired: Vec<(u32, Option<u64>)>,
}

impl Hints {
    pub(super) fn add(&mut self, said: Said) {
        match said {
            Said::Everything => self.everything = true,
            Said::Keys(keys) => {
                let (read, stale) = keys.into_iter().partition::<Vec<_>, _>(|key| kept(key));
                self.read.extend(read);
                self.stale.extend(stale);
            }
            Said::Login {
                kind,
                user_id,
                session_id,
                at,
            } => {
                if kind == Kind::SessionExpired && session_id.is_none() {
                    self.expired.push((user_id, at));
                }
                let session = session_id.as_deref();
                self.stale.insert(format!("session:{user_id}"));
                self.stale.extend(session.map(|id| format!("session:{id}")));
                if matches!(kind, Kind::Logout | Kind::SessionExpired) {
                    self.read.insert(revocation::user_key(user_id));
                    self.read.insert(mirror_key(user_id));
                    let session = session.map(|id| revocation::session_key(user_id, id));
                    self.read.extend(session);
                }
            }
        }
    }
}

/// True for a key that may be answered from memory.
pub fn cached(key: &str) -> bool {
    CACHED.iter().any(|prefix| key.starts_with(prefix))
}

/// True for a key of which each host keeps what others write.
pub(super) fn kept(key: &str) -> bool {
    Revoked::covers(key)
        || reissue::is_record_key(key)
        || mirrored_user(key).is_some()
        || directory::cached_user(key).is_some()
}

/// True if all hosts must know of a write: they keep it. A user who is active is not
/// kept by anybody.
pub fn matters(key: &str, value: Option<&[u8]>) -> bool {
    if directory::cached_user(key).is_some() {
        return value.is_some_and(disabled);
    }
    kept(key)
}

/// True if an entry of the users' cache says that the user is disabled.
pub(super) fn disabled(value: &[u8]) -> bool {
    let entry = serde_json::from_slice::<Value>(value);
    entry.is_ok_and(|entry| entry.get("is_active") == Some(&Value::Bool(false)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(said: Vec<Said>) -> Hints {
        let mut hints = Hints::default();
        said.into_iter().for_each(|said| hints.add(said));
        hints
    }

    fn login(kind: Kind, session_id: Option<&str>) -> Said {
        Said::Login {
            kind,
            user_id: 4,
            session_id: session_id.map(str::to_owned),
            at: Some(7),
        }
    }

    fn keys(hints: &Hints) -> Vec<&str> {
        hints.read.iter().map(String::as_str).collect()
    }

    #[test]
    fn the_end_of_a_login_names_what_may_have_been_written() {
        let user = ["lockgate:fallback:4", "lockgate:revoked:user:4"];
        let hints = |kind, session| hints(vec![login(kind, session)]);
        assert_eq!(keys(&hints(Kind::Logout, None)), user);
        assert_eq!(
            keys(&hints(Kind::SessionExpired, Some("s-1"))),
            [user[0], "lockgate:revoked:session:4:s-1", user[1]]
        );
        // What ends without a session is written nowhere.
        assert_eq!(hints(Kind::SessionExpired, None).expired, [(4, Some(7))]);
        assert!(hints(Kind::Logout, None).expired.is_empty());
        let login = hints(Kind::Login, Some("s-1"));
        assert!(keys(&login).is_empty());
        let stale: Vec<_> = login.stale.iter().collect();
        assert_eq!(stale, ["session:4", "session:s-1"]);
    }

    #[test]
    fn only_keys_that_are_kept_are_read() {
        let named = [
            "lockgate:revoked:user:4",
            "lockgate:rotated:ab",
            "lockgate:user:4",
            "lockgate:user:x",
            "lockgate:fallback:4",
            "session:s-1",
            "other",
        ];
        let found = hints(vec![
            Said::Keys(named.map(str::to_owned).to_vec()),
            Said::Everything,
        ]);
        assert!(found.everything);
        assert_eq!(
            keys(&found),
            [named[4], named[0], named[1], named[2]],
            "in the order of their names"
        );
        assert_eq!(found.stale.len(), 3);
    }

    #[test]
    fn a_write_matters_if_hosts_keep_it() {
        let active = Some(&br#"{"is_active":true}"#[..]);
        let disabled = Some(&br#"{"is_active":false}"#[..]);
        for (key, value, expected) in [
            ("lockgate:revoked:token:ab", active, true),
            ("lockgate:rotated:ab", active, true),
            ("lockgate:fallback:4", None, true),
            ("lockgate:user:4", active, false),
            ("lockgate:user:4", disabled, true),
            ("lockgate:user:4", None, false),
            ("lockgate:user:4", Some(b"pickled"), false),
            ("session:s-1", active, false),
            ("lockgate:ws-ticket:ab", active, false),
        ] {
            assert_eq!(matters(key, value), expected, "{key}");
        }
    }
}
