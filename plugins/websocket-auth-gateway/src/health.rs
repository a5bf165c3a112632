//! Both health answers. The service is degraded while Redis or the chat service is away.

use lockgate_sdk::health::{Head, answer, head};
use lockgate_sdk::{Answer, Host, Request};
use serde::Serialize;

use crate::connections::Stats;

const DEPENDENCIES: [&str; 2] = ["redis", "chat_service"];

#[derive(Serialize)]
struct Details {
    #[serde(flatten)]
    head: Head,
    active_connections: u32,
    stats: Stats,
    bypass_disabled: bool,
    authentication_required: bool,
}

/// `GET /health`
pub(crate) fn basic<H: Host>(host: &H, _request: &Request) -> Answer {
    answer(&head(host, &DEPENDENCIES))
}

/// `GET /api/v1/ws-auth/health`
pub(crate) fn details<H: Host>(host: &H, _request: &Request) -> Answer {
    let head = head(host, &DEPENDENCIES);
    let status = head.http_status();
    let details = Details {
        head,
        active_connections: host.sockets_active(),
        stats: Stats::of(&host.counters()),
        bypass_disabled: true,
        authentication_required: true,
    };
    Answer::json(status, &details)
}
