//! The endpoints that only look. They ask the host for what it knows already, and wait
//! for nobody.

use lockgate_sdk::health::{Head, answer, head};
use lockgate_sdk::wit::peers::Status as Probed;
use lockgate_sdk::{Answer, Host, Request};

use crate::integration::{Facts, Picture};
use crate::report::{self, Counted};

/// `GET /health`. The peers are shown, but do not make this service degraded.
pub(crate) fn basic<H: Host>(host: &H, _request: &Request) -> Answer {
    let peers = host
        .peers()
        .into_iter()
        .map(|peer| (peer.name.replace('_', "-"), reached(peer.status)));
    let head = head(host, &["redis"]);
    let dependencies = head.dependencies.iter().cloned().chain(peers).collect();
    answer(&Head {
        dependencies,
        ..head
    })
}

/// `GET /api/v1/health/integration`
pub(crate) fn integration<H: Host>(host: &H, _request: &Request) -> Answer {
    Answer::json(200, &report::integration(&picture(host), host.now()))
}

/// `GET /api/v1/coordinator/status`
pub(crate) fn status<H: Host>(host: &H, _request: &Request) -> Answer {
    let counts = host.counters();
    let count = |name: &str| {
        counts
            .iter()
            .find(|(key, _)| key == name)
            .map_or(0, |(_, count)| *count)
    };
    let counted = Counted {
        state_changes: count("state_changes_processed"),
        errors: count("coordination_errors"),
        syncs: count("sync_operations"),
        probes: host.peer_probes(),
    };
    Answer::json(200, &report::status(&picture(host), counted, host.now()))
}

/// `GET /api/v1/coordinator/services`
pub(crate) fn services<H: Host>(host: &H, _request: &Request) -> Answer {
    Answer::json(200, &report::services(&picture(host), host.now()))
}

fn picture<H: Host>(host: &H) -> Picture {
    Picture::of(Facts {
        peers: host.peers(),
        breakers: host.breakers(),
        redis: host.dependency("redis"),
        ready: host.jwt_ready(),
        port: host
            .setting("SERVICE_PORT")
            .and_then(|port| port.parse().ok())
            .unwrap_or(8029),
        now: host.now(),
    })
}

fn reached(status: Probed) -> &'static str {
    match status {
        Probed::Healthy | Probed::Degraded => "connected",
        Probed::Error | Probed::CircuitOpen | Probed::Unknown => "disconnected",
    }
}
