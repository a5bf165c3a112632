//! Both health answers. The service is degraded while Redis or its own file is away.

use lockgate_sdk::health::{Head, answer, head};
use lockgate_sdk::wit::fallback::Statistics;
use lockgate_sdk::wit::peers::Reachability;
use lockgate_sdk::{Answer, Host, Request};
use serde::Serialize;

#[derive(Serialize)]
struct Details {
    #[serde(flatten)]
    head: Head,
    active_sessions: u32,
    expired_sessions_pending_cleanup: u32,
    redis_connected: bool,
    pending_resync: u32,
    storage_location: String,
    max_sessions: u32,
    session_ttl: u32,
    persistence_enabled: bool,
    stats: Stats,
}

#[derive(Serialize)]
struct Stats {
    sessions_created: u64,
    sessions_retrieved: u64,
    sessions_expired: u64,
    fallback_activations: u64,
    redis_recoveries: u64,
}

/// `GET /health`
pub(crate) fn basic<H: Host>(host: &H, _request: &Request) -> Answer {
    answer(&with_store(head(host, &["redis"]), &host.fallback_report()))
}

/// `GET /api/v1/fallback/health`
pub(crate) fn details<H: Host>(host: &H, _request: &Request) -> Answer {
    let report = host.fallback_report();
    let head = with_store(head(host, &["redis"]), &report);
    let count = |name: &str| {
        report
            .counts
            .iter()
            .find(|(key, _)| key == name)
            .map_or(0, |(_, count)| *count)
    };
    let status = head.http_status();
    let details = Details {
        head,
        active_sessions: report.active,
        expired_sessions_pending_cleanup: report.expired_pending_cleanup,
        redis_connected: host.dependency("redis") == Reachability::Connected,
        pending_resync: report.pending_resync,
        max_sessions: report.max_sessions,
        session_ttl: report.session_ttl,
        persistence_enabled: report.persistent,
        stats: Stats {
            sessions_created: count("sessions_created"),
            sessions_retrieved: count("sessions_retrieved"),
            sessions_expired: count("sessions_expired"),
            fallback_activations: count("fallback_activations"),
            redis_recoveries: count("redis_recoveries"),
        },
        storage_location: report.storage_location,
    };
    Answer::json(status, &details)
}

/// A store that does not keep what it is given makes the service degraded, too.
fn with_store(head: Head, report: &Statistics) -> Head {
    match head.status {
        "healthy" if !report.persistent => Head {
            status: "degraded",
            degraded: true,
            ..head
        },
        _ => head,
    }
}
