//! What the service says about itself. It checks no token.

use std::collections::BTreeMap;

use lockgate_sdk::health::{self, Head};
use lockgate_sdk::{Answer, Host, Request};
use serde::Serialize;

/// Counts since the host started, as the status shows them.
pub(crate) const COUNTERS: [&str; 4] = ["validated", "rejected", "refreshed", "reuse_detected"];

const ALGORITHM: &str = "HS256";

/// `GET /health`
pub(crate) fn basic<H: Host>(host: &H, _request: &Request) -> Answer {
    health::answer(&head(host))
}

#[derive(Serialize)]
struct Detailed {
    #[serde(flatten)]
    head: Head,
    secret_key_loaded: bool,
    algorithm: &'static str,
}

/// `GET /api/v1/jwt/health`
pub(crate) fn detailed<H: Host>(host: &H, _request: &Request) -> Answer {
    let head = head(host);
    let status = head.http_status();
    let secret_key_loaded = host.jwt_ready();
    Answer::json(
        status,
        &Detailed {
            head,
            secret_key_loaded,
            algorithm: ALGORITHM,
        },
    )
}

#[derive(Serialize)]
struct Status {
    status: &'static str,
    algorithm: &'static str,
    leeway_seconds: u32,
    supported_formats: [&'static str; 3],
    access_token_expire_minutes: u32,
    refresh_token_expire_days: u32,
    counters: BTreeMap<&'static str, u64>,
    degraded: bool,
}

/// `GET /api/v1/jwt/status`
pub(crate) fn status<H: Host>(host: &H, _request: &Request) -> Answer {
    let head = head(host);
    let counts = host.counters();
    let count = |name: &str| {
        counts
            .iter()
            .find(|(known, _)| known == name)
            .map_or(0, |(_, n)| *n)
    };
    let body = Status {
        status: head.status,
        algorithm: ALGORITHM,
        leeway_seconds: 60,
        supported_formats: ["enhanced", "legacy", "mixed"],
        access_token_expire_minutes: 60,
        refresh_token_expire_days: 7,
        counters: COUNTERS
            .into_iter()
            .map(|name| (name, count(name)))
            .collect(),
        degraded: head.degraded,
    };
    Answer::json(200, &body)
}

fn head<H: Host>(host: &H) -> Head {
    health::head(host, &["redis"])
}

#[cfg(test)]
mod tests {
    use lockgate_sdk::double::{Call, Double};
    use lockgate_sdk::wit::peers::Reachability;
    use serde_json::json;

    use crate::routes;

    fn get(host: &Double, path: &str) -> (u16, serde_json::Value) {
        let reply = Call::get(path).send(host, &routes());
        (reply.status(), reply.json())
    }

    #[test]
    fn healthy() {
        let host = Double::new("jwt-token-adapter-service");
        let mut head = json!({
            "status": "healthy", "service": "jwt-token-adapter-service",
            "timestamp": "2031-05-04T09:00:00Z", "dependencies": {"redis": "connected"},
            "degraded": false
        });
        assert_eq!(get(&host, "/health"), (200, head.clone()));
        head["secret_key_loaded"] = json!(true);
        head["algorithm"] = json!("HS256");
        assert_eq!(get(&host, "/api/v1/jwt/health"), (200, head));
        host.redis.set(Reachability::NotConfigured);
        assert_eq!(
            get(&host, "/health").1["dependencies"],
            json!({"redis": "not_configured"})
        );
    }

    #[test]
    fn degraded_is_still_200() {
        let host = Double::new("jwt-token-adapter-service");
        host.redis_down();
        for path in ["/health", "/api/v1/jwt/health", "/api/v1/jwt/status"] {
            let (status, body) = get(&host, path);
            assert_eq!(
                (status, &body["status"]),
                (200, &json!("degraded")),
                "{path}"
            );
            assert_eq!(body["degraded"], true);
        }
    }

    #[test]
    fn without_a_secret_nothing_can_be_served() {
        let host = Double::new("jwt-token-adapter-service");
        host.ready.set(false);
        assert_eq!(get(&host, "/health").0, 503);
        let (status, body) = get(&host, "/api/v1/jwt/health");
        assert_eq!((status, &body["status"]), (503, &json!("error")));
        assert_eq!(body["secret_key_loaded"], false);
    }

    #[test]
    fn status_shows_the_counters() {
        let host = Double::new("jwt-token-adapter-service");
        host.good("good", |_| {});
        let _ = Call::get("/api/v1/auth/verify-token")
            .bearer("good")
            .send(&host, &routes());
        let _ = Call::get("/api/v1/auth/verify-token")
            .bearer("bad")
            .send(&host, &routes());
        let expected = json!({
            "status": "healthy", "algorithm": "HS256", "leeway_seconds": 60,
            "supported_formats": ["enhanced", "legacy", "mixed"],
            "access_token_expire_minutes": 60, "refresh_token_expire_days": 7,
            "counters": {"validated": 1, "rejected": 1, "refreshed": 0, "reuse_detected": 0},
            "degraded": false
        });
        assert_eq!(get(&host, "/api/v1/jwt/status"), (200, expected));
    }
}
