//! Who may report what. Pure: it asks nobody and writes nothing.

use lockgate_sdk::Fault;
use lockgate_sdk::authenticate::{Login, same_email};
use lockgate_sdk::identity::Role;
use lockgate_sdk::wit::users;

use crate::event::{Event, Kind};

/// Who reports an event.
#[derive(Debug)]
pub(crate) enum Caller {
    /// Another service, perhaps with the user's token.
    Service(Option<Login>),
    /// The holder of a good token.
    User(Login),
}

impl Caller {
    /// The caller's token, if it is that of the event's user.
    pub(crate) fn token_of(&self, user_id: u32) -> Option<&Login> {
        match self {
            Self::Service(Some(login)) | Self::User(login) => {
                Some(login).filter(|login| login.user_id == user_id)
            }
            Self::Service(None) => None,
        }
    }

    /// A service may report anything, a user what concerns itself, an admin whose
    /// state is known anything.
    pub(crate) fn may_report(&self, event: &Event) -> Result<(), Fault> {
        let Self::User(login) = self else {
            return Ok(());
        };
        let own = login.user_id == event.user_id && same_email(&login.email, &event.email);
        if own || login.is_admin() {
            Ok(())
        } else {
            Err(Fault::AccessForbidden)
        }
    }

    /// A dependency could not be asked about the caller.
    pub(crate) fn degraded(&self) -> bool {
        match self {
            Self::Service(_) => false,
            Self::User(login) => login.degraded,
        }
    }
}

/// What is known of a session id that an event names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is the session of the caller's own token.
    Own,
    /// It is in the user's set of sessions.
    Listed,
    /// It is not in the set, and no record says whose it is.
    Unlisted,
    /// Its record is another user's.
    OfAnotherUser,
    /// The shared store could not be asked.
    NotAsked,
}

impl Standing {
    /// Whether the caller may name the session. Only a service may name one that
    /// nobody knows yet: it reports a login before anything is written, and a logout
    /// must not fail because the set has ended.
    pub(crate) fn admits(self, caller: &Caller) -> Result<(), Fault> {
        match (self, caller) {
            (Self::Own | Self::Listed, _)
            | (Self::Unlisted | Self::NotAsked, Caller::Service(_)) => Ok(()),
            _ => Err(Fault::AccessForbidden),
        }
    }
}

/// The user's role: from the users table where known, else from the user's own token,
/// else the least. Never from the token of somebody else.
pub(crate) fn role(known: &users::State, own: Option<&Login>) -> Role {
    let listed = match known {
        users::State::Active(user) => Role::parse(&user.role),
        users::State::Disabled | users::State::Missing | users::State::Unknown => None,
    };
    listed.or(own.map(|login| login.role)).unwrap_or(Role::User)
}

/// The user's e-mail as it is written elsewhere: from the users table where known, else
/// from the user's own token, else as reported.
pub(crate) fn email<'a>(
    known: &'a users::State,
    own: Option<&'a Login>,
    reported: &'a str,
) -> &'a str {
    match known {
        users::State::Active(user) => &user.email,
        _ => own.map_or(reported, |login| &login.email),
    }
}

/// A user who is known to be disabled, or not to exist, cannot begin or renew a session.
pub(crate) fn may_happen(kind: Kind, known: &users::State) -> Result<(), Fault> {
    let gone = matches!(known, users::State::Disabled | users::State::Missing);
    let begins = matches!(kind, Kind::Login | Kind::TokenRefresh);
    if gone && begins {
        Err(Fault::AccessForbidden)
    } else {
        Ok(())
    }
}
