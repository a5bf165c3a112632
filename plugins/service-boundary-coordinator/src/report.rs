//! The answers that only look: health, integration, status and services. They are
//! built from one [`Picture`]; nothing here writes or waits.

use lockgate_sdk::clock::Time;
use serde::Serialize;

use crate::integration::{BreakerReport, Named, Picture, RedisConnection, ServiceReport, Status};

/// Answer of `GET /api/v1/health/integration`. The front end reads the first five
/// fields, as plain strings.
#[derive(Serialize)]
pub(crate) struct Integration<'a> {
    jwt_token_adapter: Status,
    session_validation_normalizer: Status,
    fallback_session_provider: Status,
    websocket_auth_gateway: Status,
    service_boundary_coordinator: Status,
    status: &'static str,
    redis_connection: RedisConnection,
    degraded: bool,
    timestamp: Time,
    services: Named<'static, ServiceReport>,
    circuit_breakers: Named<'a, BreakerReport>,
}

/// Makes the answer of `GET /api/v1/health/integration`.
pub(crate) fn integration(picture: &Picture, now: u64) -> Integration<'_> {
    let degraded = picture.degraded();
    Integration {
        jwt_token_adapter: picture.status_of("jwt_token_adapter"),
        session_validation_normalizer: picture.status_of("session_validation_normalizer"),
        fallback_session_provider: picture.status_of("fallback_session_provider"),
        websocket_auth_gateway: picture.status_of("websocket_auth_gateway"),
        service_boundary_coordinator: picture.status_of("service_boundary_coordinator"),
        status: if degraded { "degraded" } else { "ok" },
        redis_connection: picture.redis,
        degraded,
        timestamp: Time(now),
        services: picture.services(),
        circuit_breakers: picture.circuit_breakers(),
    }
}

/// What this service has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Events whose changes were made.
    pub(crate) state_changes: u64,
    /// Events of which a part failed.
    pub(crate) errors: u64,
    /// Events reported.
    pub(crate) syncs: u64,
    /// Probes made by the host.
    pub(crate) probes: u64,
}

/// Answer of `GET /api/v1/coordinator/status`.
#[derive(Serialize)]
pub(crate) struct CoordinatorStatus<'a> {
    status: &'static str,
    services: Named<'static, ServiceReport>,
    circuit_breakers: Named<'a, BreakerReport>,
    coordination_stats: Stats<'a>,
    degraded: bool,
    timestamp: Time,
}

#[derive(Serialize)]
struct Stats<'a> {
    state_changes_processed: u64,
    health_checks_performed: u64,
    circuit_breaker_activations: u64,
    coordination_errors: u64,
    sync_operations: u64,
    service_count: usize,
    healthy_services: usize,
    failed_services: usize,
    circuit_breaker_states: Named<'a, &'static str>,
    overall_health: &'static str,
}

/// Makes the answer of `GET /api/v1/coordinator/status`.
pub(crate) fn status(picture: &Picture, counted: Counted, now: u64) -> CoordinatorStatus<'_> {
    CoordinatorStatus {
        status: picture.overall(),
        services: picture.services(),
        circuit_breakers: picture.circuit_breakers(),
        coordination_stats: Stats {
            state_changes_processed: counted.state_changes,
            health_checks_performed: counted.probes,
            circuit_breaker_activations: picture.activations(),
            coordination_errors: counted.errors,
            sync_operations: counted.syncs,
            service_count: picture.entries.len(),
            healthy_services: picture.count(|status| status == Status::Healthy),
            failed_services: picture.count(Status::is_failed),
            circuit_breaker_states: picture.breaker_states(),
            overall_health: picture.overall(),
        },
        degraded: picture.degraded(),
        timestamp: Time(now),
    }
}

/// Answer of `GET /api/v1/coordinator/services`.
#[derive(Serialize)]
pub(crate) struct Services<'a> {
    services: Vec<Service<'a>>,
    count: usize,
    healthy: usize,
    degraded_count: usize,
    failed: usize,
    unknown: usize,
    degraded: bool,
    timestamp: Time,
}

#[derive(Serialize)]
struct Service<'a> {
    name: &'static str,
    url: &'a str,
    port: u16,
    status: Status,
    critical: bool,
    last_check: Option<Time>,
    response_time_ms: Option<f64>,
    error_count: u32,
    error_message: Option<&'a str>,
}

/// Makes the answer of `GET /api/v1/coordinator/services`.
pub(crate) fn services(picture: &Picture, now: u64) -> Services<'_> {
    Services {
        services: picture
            .entries
            .iter()
            .map(|entry| Service {
                name: entry.name,
                url: &entry.url,
                port: entry.port,
                status: entry.status,
                critical: entry.critical,
                last_check: entry.check.last_check,
                response_time_ms: entry.check.response_time_ms,
                error_count: entry.check.error_count,
                error_message: entry.check.error_message.as_deref(),
            })
            .collect(),
        count: picture.entries.len(),
        healthy: picture.count(|status| status == Status::Healthy),
        degraded_count: picture.count(|status| status == Status::Degraded),
        failed: picture.count(Status::is_failed),
        unknown: picture.count(|status| status == Status::Unknown),
        degraded: picture.degraded(),
        timestamp: Time(now),
    }
}
