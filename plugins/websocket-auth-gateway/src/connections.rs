//! `connection-info`, and the counts that it shows. A user sees its own sockets; all
//! of them only an admin whose state is known.

use lockgate_sdk::authenticate::{Policy, Refusal, authenticate};
use lockgate_sdk::clock::Time;
use lockgate_sdk::token::presented;
use lockgate_sdk::wit::sockets::Connection;
use lockgate_sdk::{Answer, Fault, Host, Request};
use serde::Serialize;

#[derive(Serialize)]
struct Info {
    active_connections: usize,
    connections: Vec<Row>,
    stats: Stats,
    degraded: bool,
}

#[derive(Serialize)]
struct Row {
    connection_id: String,
    user_id: u32,
    email: String,
    role: String,
    format_type: String,
    connected_at: Time,
    session_id: String,
}

/// Counts since the host started.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(crate) struct Stats {
    total_connections: u64,
    authenticated_connections: u64,
    failed_authentications: u64,
    bypass_attempts: u64,
}

impl Stats {
    /// Reads them out of all counts of the service.
    pub(crate) fn of(counts: &[(String, u64)]) -> Self {
        let count = |name: &str| {
            counts
                .iter()
                .find(|(key, _)| key == name)
                .map_or(0, |(_, count)| *count)
        };
        Self {
            total_connections: count("total_connections"),
            authenticated_connections: count("authenticated_connections"),
            failed_authentications: count("failed_authentications"),
            bypass_attempts: count("bypass_attempts"),
        }
    }
}

/// Counts a refused authentication; one without a token is an attempt to get past it.
/// A service that cannot check has refused nobody.
pub(crate) fn count_failure<H: Host>(host: &H, fault: Fault) {
    if fault == Fault::ServiceUnavailable {
        return;
    }
    host.counter_add("failed_authentications", 1);
    if fault == Fault::TokenMissing {
        host.counter_add("bypass_attempts", 1);
    }
}

/// `GET /api/v1/ws-auth/connection-info`
pub(crate) fn info<H: Host>(host: &H, request: &Request) -> Answer {
    match shown(host, request) {
        Ok(info) => Answer::json(200, &info),
        Err(refusal) => Answer::fault(refusal.fault, refusal.degraded),
    }
}

fn shown<H: Host>(host: &H, request: &Request) -> Result<Info, Refusal> {
    let login = authenticate(host, &presented(None, request), Policy::ACCESS)?;
    let whose = if login.is_admin() {
        None
    } else {
        Some(login.user_id)
    };
    let connections = host
        .socket_connections(whose)
        .map_err(|_| Fault::ServiceUnavailable)?;
    Ok(Info {
        active_connections: connections.len(),
        connections: connections.into_iter().map(row).collect(),
        stats: Stats::of(&host.counters()),
        degraded: login.degraded,
    })
}

fn row(connection: Connection) -> Row {
    Row {
        connection_id: connection.connection_id,
        user_id: connection.user_id,
        email: connection.email,
        role: connection.role,
        format_type: connection.format_type,
        connected_at: Time(connection.connected_at),
        session_id: connection.session_id,
    }
}
