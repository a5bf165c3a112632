//! The users table in Postgres: one row at a time, read only, never waited for longer
//! than a second. It looks at the columns that exist and asks for no others, so
//! passwords and second factors are never read. What a row means for a login the
//! directory decides.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_postgres::Row;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::Type;

use crate::breaker::Policy;
use crate::config;
use crate::dependency::Dependency;
use crate::telemetry;

mod columns;
mod link;
mod target;
mod tls;

pub use target::SetupError;

use columns::{COLUMNS, Columns};
use link::Link;

/// One look at a user, connecting included.
const LIMIT: Duration = Duration::from_secs(1);
/// The columns are looked at again after this long: a `status` that is added later
/// counts too.
const COLUMNS_LIFE: Duration = Duration::from_secs(60);

/// What the table says of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// As it is written there; empty if it is null.
    pub email: String,
    /// `admin` or `user`.
    pub role: String,
    /// `is_active` is missing or true, and `status` is missing or `active`.
    pub active: bool,
}

/// The table could not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the users table could not be asked")]
pub struct Away;

/// The users table.
#[derive(Debug)]
pub struct Table {
    link: Link,
    /// The query for the columns that were there, and since when it is known.
    query: Mutex<Option<(String, Instant)>>,
    dependency: Dependency,
}

/// Why one attempt failed.
#[derive(Debug)]
struct Fault {
    /// For the log; without addresses or credentials.
    words: String,
    /// A second attempt at once may succeed.
    passing: bool,
}

impl Table {
    /// Nothing is connected before the first look.
    ///
    /// # Errors
    /// [`SetupError`] if the settings are wrong; never because the server is away.
    pub fn open(config: &config::Database) -> Result<Table, SetupError> {
        Ok(Table {
            link: Link::new(target::target(config)?),
            query: Mutex::new(None),
            dependency: Dependency::new("users table", Policy::TABLE),
        })
    }

    /// True if the last look succeeded.
    pub fn connected(&self) -> bool {
        self.dependency.connected()
    }

    /// The user's row, if there is one.
    ///
    /// # Errors
    /// [`Away`], at once if the table is known to be away, else within 1 s.
    pub async fn find(&self, user_id: u32) -> Result<Option<Listed>, Away> {
        if !self.dependency.usable() {
            return Err(Away);
        }
        let span = telemetry::users_table();
        telemetry::within(span, self.attempt(user_id), |_| "unavailable").await
    }

    /// Looks for a user that cannot be there, so that the way, the table and the rights
    /// to it are all tried; run once a second.
    pub async fn probe(&self) {
        if self.dependency.may_probe() {
            // The outcome is noted.
            let _ = self.attempt(0).await;
        }
    }

    async fn attempt(&self, user_id: u32) -> Result<Option<Listed>, Away> {
        let words = match timeout(LIMIT, self.look(user_id)).await {
            Ok(Ok(row)) => {
                self.link.answered();
                self.dependency.succeeded();
                return Ok(row);
            }
            Ok(Err(fault)) => fault.words,
            Err(_) => {
                self.link.silent().await;
                "no answer in time".to_owned()
            }
        };
        self.dependency.failed(&words);
        Err(Away)
    }

    /// A connection that was closed while it was idle, or a column that is gone, is no
    /// fault until it happens again.
    async fn look(&self, user_id: u32) -> Result<Option<Listed>, Fault> {
        match self.look_once(user_id).await {
            Err(fault) if fault.passing => self.look_once(user_id).await,
            found => found,
        }
    }

    async fn look_once(&self, user_id: u32) -> Result<Option<Listed>, Fault> {
        let client = self.link.client().await.map_err(|error| Fault {
            words: describe(&error),
            passing: false,
        })?;
        let found = async {
            let query = match self.known_query() {
                Some(query) => query,
                None => self.learn(&client).await?,
            };
            // An unnamed statement whose types are given: behind a pool that hands out
            // connections by the transaction, named ones may be another's.
            let id = i64::from(user_id);
            let rows = client.query_typed(&query, &[(&id, Type::INT8)]).await;
            rows.and_then(|rows| rows.first().map(listed).transpose())
                .map_err(Trouble::Postgres)
        };
        match found.await {
            Ok(row) => Ok(row),
            Err(Trouble::Columns(words)) => Err(Fault {
                words,
                passing: false,
            }),
            Err(Trouble::Postgres(error)) => Err(self.judge(&error).await),
        }
    }

    /// Looks at the columns and makes the query for them.
    async fn learn(&self, client: &tokio_postgres::Client) -> Result<String, Trouble> {
        let rows = client.query_typed(COLUMNS, &[]).await;
        let rows = rows.map_err(Trouble::Postgres)?;
        let names: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        let columns = Columns::of(&names.map_err(Trouble::Postgres)?).map_err(Trouble::Columns)?;
        let query = columns.query();
        *self.query.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((query.clone(), Instant::now()));
        Ok(query)
    }

    fn known_query(&self) -> Option<String> {
        let known = self.query.lock().unwrap_or_else(PoisonError::into_inner);
        let (query, since) = known.as_ref()?;
        (since.elapsed() < COLUMNS_LIFE).then(|| query.clone())
    }

    async fn judge(&self, error: &tokio_postgres::Error) -> Fault {
        let answer = error.as_db_error();
        let refused = answer.is_some_and(|answer| {
            let missing = [SqlState::UNDEFINED_COLUMN, SqlState::UNDEFINED_TABLE];
            missing.contains(answer.code())
        });
        if refused {
            *self.query.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        let over = answer.is_none_or(|answer| answer.parsed_severity() != Some(Severity::Error));
        if over {
            self.link.drop_current().await;
        }
        Fault {
            words: describe(error),
            passing: refused || over,
        }
    }
}

/// What kept a look from its answer.
enum Trouble {
    Postgres(tokio_postgres::Error),
    /// The table lacks a column without which it is of no use.
    Columns(String),
}

fn listed(row: &Row) -> Result<Listed, tokio_postgres::Error> {
    let email: Option<String> = row.try_get(0)?;
    let role: Option<String> = row.try_get(1)?;
    let is_active: Option<bool> = row.try_get(2)?;
    let status: Option<String> = row.try_get(3)?;
    // Any other word gives the least rights.
    let admin = role.is_some_and(|role| role.trim().eq_ignore_ascii_case("admin"));
    Ok(Listed {
        email: email.unwrap_or_default(),
        role: if admin { "admin" } else { "user" }.to_owned(),
        // Null is neither true nor `active`.
        active: is_active == Some(true) && status.as_deref() == Some("active"),
    })
}

/// In words, without addresses, credentials or what stands in the table.
fn describe(error: &tokio_postgres::Error) -> String {
    let Some(answer) = error.as_db_error() else {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        return match cause {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
    };
    let code = answer.code();
    let words = if code.code().starts_with("28") {
        "the server refuses the user or the password"
    } else if *code == SqlState::UNDEFINED_TABLE {
        "there is no table users"
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        "the user may not read the table users"
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        "there is no such database"
    } else {
        "the server refuses"
    };
    format!("{words} ({})", code.code())
}
