//! A sighting of a user: what was read where and when, and its form in the shared cache
//! (`lockgate:user:{id}`). It decides nothing.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::inquiry::Word;
use crate::table::Listed;

/// Longest e-mail that is kept (RFC 5321 section 4.5.3.1: 64 + `@` + 255).
const MAX_EMAIL: usize = 320;

/// What the users table said of a user, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sighting {
    /// Unix seconds.
    pub(super) at: u64,
    pub(super) state: Seen,
}

/// What it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// An entry of the shared cache may lack both.
    Active {
        email: Option<String>,
        role: Option<String>,
    },
    Disabled {
        email: Option<String>,
        role: Option<String>,
    },
    /// There is no such row.
    Missing,
}

impl Sighting {
    /// A row of the table, or that there is none.
    pub(super) fn read(row: Option<Listed>, at: u64) -> Sighting {
        let state = match row {
            Some(row) => {
                let (email, role) = (Some(row.email), Some(row.role));
                if row.active {
                    Seen::Active { email, role }
                } else {
                    Seen::Disabled { email, role }
                }
            }
            None => Seen::Missing,
        };
        Sighting { at, state }
    }

    /// What the session normalizer said of a user, whoever asks, if it said anything.
    pub(super) fn heard(word: Word, at: u64) -> Option<Sighting> {
        let state = match word {
            Word::Active { email, role } => Seen::Active {
                email: Some(email),
                role: Some(role),
            },
            Word::Disabled => Seen::Disabled {
                email: None,
                role: None,
            },
            Word::Missing => Seen::Missing,
            Word::OtherEmail | Word::Nothing | Word::WithoutTable => return None,
        };
        Some(Sighting { at, state })
    }

    /// What is not the expected JSON is someone else's and counts as absent.
    pub(super) fn parse(value: &[u8]) -> Option<Sighting> {
        let entry: Entry = serde_json::from_slice(value).ok()?;
        let at = match &entry.checked_at {
            Moment::Seconds(seconds) => *seconds,
            Moment::Text(text) => {
                let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
                u64::try_from(time.unix_timestamp()).ok()?
            }
        };
        let (email, role) = (entry.email, entry.role);
        let state = if entry.is_active {
            Seen::Active { email, role }
        } else {
            Seen::Disabled { email, role }
        };
        Some(Sighting { at, state })
    }

    /// As it is cached and journalled: bounded, whoever wrote it. A missing row has no
    /// form there.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        let (is_active, email, role) = match &self.state {
            Seen::Active { email, role } => (true, email, role),
            Seen::Disabled { email, role } => (false, email, role),
            Seen::Missing => return None,
        };
        let entry = Entry {
            is_active,
            email: email.clone().filter(|email| email.len() <= MAX_EMAIL),
            role: role.clone().filter(|role| known_role(role)),
            checked_at: Moment::Seconds(self.at),
        };
        serde_json::to_vec(&entry).ok()
    }

    pub(super) fn is_disabled(&self) -> bool {
        matches!(self.state, Seen::Disabled { .. })
    }
}

/// True for the two roles there are.
pub(super) fn known_role(role: &str) -> bool {
    matches!(role, "admin" | "user")
}

/// The value of `lockgate:user:{id}`.
#[derive(Debug, Deserialize, Serialize)]
struct Entry {
    is_active: bool,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    role: Option<String>,
    checked_at: Moment,
}

/// Unix seconds, or RFC 3339.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum Moment {
    Seconds(u64),
    Text(String),
}
