//! The cases: data only. How each is made and asked for stands one level up.

use Ask::{Check, Emergency, Opens, OpensElsewhere, OpensLater, Session, Value as Kept};

/// What is asked afterwards, on the host that was cut off unless it is said.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    /// What the session check answers to the user's token from before.
    Check,
    /// Whether Redis has the record of the session.
    Session,
    /// Whose session Redis has as the user's emergency session.
    Emergency,
    /// Whether the emergency session from before opens.
    Opens,
    /// Whether the later one does.
    OpensLater,
    /// The same where it was made: another host has it once it has asked for the user.
    OpensElsewhere,
    /// Whether the value of another program is as it was.
    Value,
}

/// One case: what was on either side meanwhile, and what should come of it.
pub(super) struct Case {
    /// Of its user.
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) redis: &'static str,
    pub(super) host: &'static str,
    pub(super) asked: &'static [Ask],
    pub(super) expected: &'static str,
}

/// All of them, in the order in which `Sides::apart` makes them.
pub(super) const CASES: [Case; 14] = [
    Case {
        number: 1,
        name: "ended on the host",
        redis: "session, emergency session",
        host: "logout",
        asked: &[Check, Session, Emergency, Opens],
        expected: "token_revoked, gone, none, closed",
    },
    Case {
        number: 2,
        name: "ended elsewhere",
        redis: "revocation of the session",
        host: "emergency session",
        asked: &[Check, Emergency, Opens],
        expected: "token_revoked, none, closed",
    },
    Case {
        number: 3,
        name: "all of the user ended elsewhere",
        redis: "cut-off of the user",
        host: "emergency session",
        asked: &[Check, Emergency, Opens],
        expected: "token_revoked, none, closed",
    },
    Case {
        number: 4,
        name: "Redis has the later record",
        redis: "emergency session, later",
        host: "emergency session",
        asked: &[Emergency, Opens, OpensLater],
        expected: "s-later, closed, opens",
    },
    Case {
        number: 5,
        name: "the host has the later record",
        redis: "emergency session",
        host: "emergency session, later",
        asked: &[Emergency, Opens, OpensLater],
        expected: "s-later, closed, opens",
    },
    Case {
        number: 6,
        name: "only the host has a record",
        redis: "nothing",
        host: "emergency session",
        asked: &[Emergency, Opens],
        expected: "s-80006Qx, opens",
    },
    Case {
        number: 7,
        name: "it ends before the return",
        redis: "nothing",
        host: "emergency session of 1 s",
        asked: &[Emergency],
        expected: "none",
    },
    Case {
        number: 8,
        name: "expired on the host",
        redis: "session, emergency session",
        host: "session_expired",
        asked: &[Session, Emergency],
        expected: "gone, none",
    },
    Case {
        number: 9,
        name: "marked invalid by another server",
        redis: "session, invalidated",
        host: "session, active",
        asked: &[Check],
        expected: "token_revoked",
    },
    Case {
        number: 10,
        name: "ended on the host, then a login elsewhere",
        redis: "emergency session, later",
        host: "logout",
        asked: &[Check, Emergency, Opens, OpensElsewhere],
        expected: "token_revoked, s-later, closed, opens",
    },
    Case {
        number: 11,
        name: "ended on the host, then a login there",
        redis: "session, emergency session",
        host: "logout, emergency session",
        asked: &[Check, Emergency, Opens, OpensLater],
        expected: "token_revoked, s-later, closed, opens",
    },
    Case {
        number: 12,
        name: "disabled elsewhere",
        redis: "user, not active",
        host: "emergency session",
        asked: &[Check, Opens],
        expected: "user_disabled, closed",
    },
    Case {
        number: 13,
        name: "another program's value",
        redis: "not JSON",
        host: "login",
        asked: &[Kept],
        expected: "left alone",
    },
    Case {
        number: 14,
        name: "a login and its end on the host",
        redis: "nothing",
        host: "login, logout",
        asked: &[Check, Session],
        expected: "token_revoked, gone",
    },
];

/// What another program keeps under the key of a session.
pub(super) const FOREIGN: &str = "\u{1}not ours";
