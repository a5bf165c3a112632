//! The endpoints that only look.

use lockgate_sdk::double::{Call, Double, NOW};
use lockgate_sdk::wit::breakers::{Breaker, State};
use lockgate_sdk::wit::peers::{Peer, Reachability, Status};
use serde_json::{Value, json};

use super::host;
use crate::routes;

const NAMES: [&str; 4] = [
    "jwt_token_adapter",
    "session_validation_normalizer",
    "fallback_session_provider",
    "websocket_auth_gateway",
];

/// A host whose four peers have this status.
fn peers(status: Status) -> Double {
    let host = host();
    for (name, port) in NAMES.into_iter().zip(8025..) {
        host.peers.borrow_mut().push(Peer {
            name: name.into(),
            url: format!("http://127.0.0.1:{port}"),
            port,
            status,
            response_time_ms: Some(1.499_999_9),
            error_count: 0,
            last_check: Some(NOW - 5),
            error_message: None,
        });
    }
    host
}

fn set(host: &Double, name: &str, change: impl FnOnce(&mut Peer)) {
    let mut peers = host.peers.borrow_mut();
    change(peers.iter_mut().find(|peer| peer.name == name).unwrap());
}

fn breaker(host: &Double, name: &str, state: State) {
    host.breakers.borrow_mut().push(Breaker {
        name: name.into(),
        state,
        failures: 5,
        opened_at: Some(NOW - 9),
        retry_at: Some(NOW + 51),
        activations: 2,
    });
}

fn get(host: &Double, path: &str) -> Value {
    let reply = Call::get(path).send(host, &routes());
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.header("cache-control"), "no-store");
    reply.json()
}

fn integration(host: &Double) -> Value {
    get(host, "/api/v1/health/integration")
}

#[test]
fn all_is_well() {
    let body = integration(&peers(Status::Healthy));
    for name in NAMES.iter().chain(&["service_boundary_coordinator"]) {
        assert_eq!(body[name], "healthy");
    }
    assert_eq!(
        (&body["status"], &body["redis_connection"]),
        (&json!("ok"), &json!("ok"))
    );
    assert_eq!(
        (&body["degraded"], &body["timestamp"]),
        (&json!(false), &json!("2031-05-04T09:00:00Z"))
    );
    assert_eq!(
        body["services"]["jwt_token_adapter"],
        json!({"status": "healthy", "response_time_ms": 1.5, "error_count": 0,
            "last_check": "2031-05-04T08:59:55Z", "error_message": null})
    );
    assert_eq!(body["services"].as_object().unwrap().len(), 5);
}

#[test]
fn one_fault_is_one_word_and_degrades_the_whole() {
    for (status, word) in [
        (Status::Degraded, "degraded"),
        (Status::Error, "error"),
        (Status::CircuitOpen, "circuit_open"),
    ] {
        let host = peers(Status::Healthy);
        set(&host, "fallback_session_provider", |peer| {
            peer.status = status
        });
        let body = integration(&host);
        assert_eq!(body["fallback_session_provider"], word);
        assert_eq!(
            (&body["status"], &body["degraded"]),
            (&json!("degraded"), &json!(true))
        );
    }
}

#[test]
fn what_is_not_known_is_no_fault() {
    let host = peers(Status::Unknown);
    let body = integration(&host);
    assert_eq!(
        (&body["jwt_token_adapter"], &body["status"]),
        (&json!("unknown"), &json!("ok"))
    );
    host.peers.borrow_mut().clear();
    assert_eq!(integration(&host)["websocket_auth_gateway"], "unknown");
    assert_eq!(
        get(&host, "/api/v1/coordinator/status")["status"],
        "unknown"
    );
}

#[test]
fn old_results_say_nothing_unless_a_breaker_is_open() {
    let host = peers(Status::Healthy);
    set(&host, "jwt_token_adapter", |peer| {
        peer.last_check = Some(NOW - 30)
    });
    assert_eq!(integration(&host)["jwt_token_adapter"], "healthy");
    set(&host, "jwt_token_adapter", |peer| {
        peer.last_check = Some(NOW - 31)
    });
    assert_eq!(integration(&host)["jwt_token_adapter"], "unknown");
    breaker(&host, "jwt_token_adapter", State::Open);
    assert_eq!(integration(&host)["jwt_token_adapter"], "circuit_open");
}

#[test]
fn breakers_outweigh_results() {
    let host = peers(Status::Healthy);
    breaker(&host, "websocket_auth_gateway", State::Open);
    breaker(&host, "fallback_session_provider", State::HalfOpen);
    let body = integration(&host);
    assert_eq!(body["websocket_auth_gateway"], "circuit_open");
    assert_eq!(body["fallback_session_provider"], "degraded");
    assert_eq!(
        body["circuit_breakers"]["websocket_auth_gateway"],
        json!({"state": "open", "failures": 5, "opened_at": "2031-05-04T08:59:51Z", "retry_at": "2031-05-04T09:00:51Z"})
    );
    assert_eq!(
        body["circuit_breakers"]["fallback_session_provider"]["state"],
        "half_open"
    );
}

#[test]
fn redis_away() {
    let host = peers(Status::Healthy);
    host.redis.set(Reachability::NotConfigured);
    assert_eq!(integration(&host)["redis_connection"], "ok");
    host.redis_down();
    let body = integration(&host);
    assert_eq!(
        (&body["redis_connection"], &body["status"]),
        (&json!("error"), &json!("degraded"))
    );
    assert_eq!(body["service_boundary_coordinator"], "degraded");
    breaker(&host, "redis", State::Open);
    assert_eq!(integration(&host)["redis_connection"], "unavailable");
}

#[test]
fn without_a_secret_it_still_answers() {
    let host = peers(Status::Healthy);
    host.ready.set(false);
    let body = integration(&host);
    assert_eq!(
        (&body["service_boundary_coordinator"], &body["status"]),
        (&json!("error"), &json!("degraded"))
    );
    assert_eq!(Call::get("/health").send(&host, &routes()).status(), 503);
}

#[test]
fn status_counts() {
    let host = peers(Status::Healthy);
    set(&host, "fallback_session_provider", |peer| {
        peer.status = Status::Error
    });
    set(&host, "websocket_auth_gateway", |peer| {
        peer.status = Status::Degraded
    });
    breaker(&host, "redis", State::Closed);
    host.counts.borrow_mut().insert("sync_operations".into(), 8);
    host.counts
        .borrow_mut()
        .insert("state_changes_processed".into(), 7);
    host.counts
        .borrow_mut()
        .insert("coordination_errors".into(), 1);
    let body = get(&host, "/api/v1/coordinator/status");
    assert_eq!(
        body["coordination_stats"],
        json!({
            "state_changes_processed": 7, "health_checks_performed": 90, "circuit_breaker_activations": 2,
            "coordination_errors": 1, "sync_operations": 8, "service_count": 5, "healthy_services": 3,
            "failed_services": 1, "circuit_breaker_states": {"redis": "closed"}, "overall_health": "degraded"
        })
    );
    assert_eq!(
        (&body["status"], &body["degraded"]),
        (&json!("degraded"), &json!(true))
    );
    assert_eq!(
        body["services"]["websocket_auth_gateway"]["status"],
        "degraded"
    );
    let well = get(&peers(Status::Healthy), "/api/v1/coordinator/status");
    assert_eq!(
        (&well["status"], &well["degraded"]),
        (&json!("healthy"), &json!(false))
    );
}

#[test]
fn services_are_listed_in_order() {
    let host = peers(Status::Healthy);
    host.set("SERVICE_PORT", "18029");
    set(&host, "jwt_token_adapter", |peer| {
        peer.status = Status::CircuitOpen
    });
    set(&host, "fallback_session_provider", |peer| {
        peer.status = Status::Error;
        peer.error_count = 3;
        peer.error_message = Some("connection refused".into());
    });
    set(&host, "websocket_auth_gateway", |peer| {
        peer.status = Status::Unknown
    });
    let body = get(&host, "/api/v1/coordinator/services");
    let names: Vec<&str> = body["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            NAMES[0],
            NAMES[1],
            NAMES[2],
            NAMES[3],
            "service_boundary_coordinator"
        ]
    );
    assert_eq!(
        body["services"][2],
        json!({"name": "fallback_session_provider", "url": "http://127.0.0.1:8027", "port": 8027,
            "status": "error", "critical": false, "last_check": "2031-05-04T08:59:55Z",
            "response_time_ms": 1.5, "error_count": 3, "error_message": "connection refused"})
    );
    let critical: Vec<bool> = body["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["critical"] == true)
        .collect();
    assert_eq!(critical, [true, true, false, false, false]);
    assert_eq!(body["services"][4]["url"], "http://127.0.0.1:18029");
    let count = |name: &str| body[name].as_u64().unwrap();
    assert_eq!(
        ["count", "healthy", "degraded_count", "failed", "unknown"].map(count),
        [5, 2, 0, 2, 1]
    );
    assert_eq!(body["degraded"], true);
}

#[test]
fn its_own_health_shows_peers_but_does_not_depend_on_them() {
    let host = peers(Status::Healthy);
    set(&host, "jwt_token_adapter", |peer| {
        peer.status = Status::Error
    });
    let body = get(&host, "/health");
    assert_eq!(
        body,
        json!({
            "status": "healthy", "service": "service-boundary-coordinator-service",
            "timestamp": "2031-05-04T09:00:00Z", "degraded": false,
            "dependencies": {"redis": "connected", "jwt-token-adapter": "disconnected",
                "session-validation-normalizer": "connected", "fallback-session-provider": "connected",
                "websocket-auth-gateway": "connected"}
        })
    );
    host.redis_down();
    assert_eq!(get(&host, "/health")["status"], "degraded");
}
