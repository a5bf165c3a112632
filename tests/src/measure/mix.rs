//! What the load asks of each service, and what the right answers hold: requests as
//! the front end and the main API send them. It sends nothing.

use serde_json::json;

use super::link::Shot;
use super::load::Target;
use crate::host::{Host, Service};
use crate::tokens::{Tokens, User};

/// Users whose tokens are used in turn.
const USERS: u32 = 10;

/// Longer than any run, shorter than the longest life of an access token, seconds.
const LIFETIME: i64 = 80_000;

/// `valid` is true.
const VALID: &str = "\"valid\":true";

/// All five services with the plugins that are shipped.
pub(crate) fn shipped(host: &Host) -> Vec<Target> {
    Service::ALL
        .into_iter()
        .map(|service| target(host, service, requests(&host.tokens, service)))
        .collect()
}

/// Some of the services with the plugins that are shipped.
pub(crate) fn of(host: &Host, services: &[Service]) -> Vec<Target> {
    let mut targets = shipped(host);
    targets.retain(|target| services.contains(&target.service));
    targets
}

/// All five, but one service runs the probe.
pub(crate) fn with_probe(host: &Host, probed: Service) -> Vec<Target> {
    let mut targets = without(host, probed);
    targets.push(target(host, probed, vec![Shot::get("/version")]));
    targets
}

/// All services but one.
pub(crate) fn without(host: &Host, left_out: Service) -> Vec<Target> {
    let mut targets = shipped(host);
    targets.retain(|target| target.service != left_out);
    targets
}

/// One request that tells whether a service answers as it should.
pub(crate) fn first(tokens: &Tokens, service: Service) -> Shot {
    requests(tokens, service).swap_remove(0)
}

fn target(host: &Host, service: Service, shots: Vec<Shot>) -> Target {
    Target {
        service,
        port: host.port(service),
        shots,
    }
}

fn requests(tokens: &Tokens, service: Service) -> Vec<Shot> {
    let health = Shot::get("/health").holds("\"status\":\"");
    let mut shots = Vec::new();
    for user in 0..USERS {
        let user = User::new(7_000 + user);
        let token = tokens.sign(&Tokens::unified_claims(&user, LIFETIME));
        let body = json!({"token": token});
        let who = format!("\"user_id\":{}", user.id);
        let valid = |shot: Shot| shot.holds(VALID).holds(&who);
        match service {
            Service::Jwt => {
                shots.push(valid(Shot::post("/api/v1/jwt/validate", &body)));
                shots.push(Shot::get("/api/v1/auth/verify-token").bearer(&token));
            }
            Service::Session => {
                let path = "/api/v1/session/validate";
                shots.push(valid(Shot::get(path).bearer(&token)));
                shots.push(valid(Shot::post(path, &json!({})).cookie(&token)));
            }
            Service::Fallback => {
                shots.push(valid(Shot::post("/api/v1/fallback/validate", &body)));
            }
            Service::Gateway => {
                let path = "/api/v1/ws-auth/validate";
                shots.push(valid(Shot::post(path, &json!({})).bearer(&token)));
            }
            // Only what reads: a component that traps is to cost no answer.
            Service::Coordinator => {
                let words = Shot::get("/api/v1/health/integration");
                shots.push(words.holds("\"jwt_token_adapter\":\""));
                shots.push(Shot::get("/api/v1/coordinator/status"));
            }
        }
        shots.push(health.clone());
    }
    shots
}
