//! What the service says about itself. It checks no token.

use lockgate_sdk::health::{self, Head};
use lockgate_sdk::{Answer, Host, Request};
use serde::Serialize;

use crate::layer;

/// `GET /health`
pub(crate) fn basic<H: Host>(host: &H, _request: &Request) -> Answer {
    health::answer(&head(host))
}

#[derive(Serialize)]
struct Detailed {
    #[serde(flatten)]
    head: Head,
    features: [&'static str; 3],
}

/// `GET /api/v1/session/health`: status `ok` and the service's older name, which
/// callers know.
pub(crate) fn detailed<H: Host>(host: &H, request: &Request) -> Answer {
    let head = head(host);
    let http_status = head.http_status();
    let status = if head.status == "error" {
        "error"
    } else {
        "ok"
    };
    let head = Head {
        status,
        service: "session_management".to_owned(),
        ..head
    };
    let body = Detailed {
        head,
        features: ["validate", "info", "normalize"],
    };
    layer::echo(request, Answer::json(http_status, &body))
}

fn head<H: Host>(host: &H) -> Head {
    health::head(host, &["redis", "database"])
}

#[cfg(test)]
mod tests {
    use lockgate_sdk::double::{Call, Double};
    use lockgate_sdk::wit::peers::Reachability;
    use serde_json::json;

    use crate::routes;

    fn host() -> Double {
        Double::new("session-validation-normalizer-service")
    }

    fn get(host: &Double, path: &str) -> (u16, serde_json::Value) {
        let reply = Call::get(path).send(host, &routes());
        (reply.status(), reply.json())
    }

    #[test]
    fn healthy() {
        let host = host();
        let mut expected = json!({
            "status": "healthy", "service": "session-validation-normalizer-service",
            "timestamp": "2031-05-04T09:00:00Z",
            "dependencies": {"redis": "connected", "database": "not_configured"},
            "degraded": false
        });
        assert_eq!(get(&host, "/health"), (200, expected.clone()));
        expected["status"] = json!("ok");
        expected["service"] = json!("session_management");
        expected["features"] = json!(["validate", "info", "normalize"]);
        assert_eq!(get(&host, "/api/v1/session/health"), (200, expected));
    }

    #[test]
    fn degraded_is_still_200() {
        let host = host();
        host.dependencies
            .borrow_mut()
            .insert("database".into(), Reachability::Disconnected);
        let (status, body) = get(&host, "/health");
        assert_eq!(
            (status, &body["status"], &body["degraded"]),
            (200, &json!("degraded"), &json!(true))
        );
        let (status, body) = get(&host, "/api/v1/session/health");
        assert_eq!(
            (status, &body["status"], &body["degraded"]),
            (200, &json!("ok"), &json!(true))
        );
        assert_eq!(
            body["dependencies"],
            json!({"redis": "connected", "database": "disconnected"})
        );
    }

    #[test]
    fn without_a_secret_nothing_can_be_served() {
        let host = host();
        host.ready.set(false);
        for path in ["/health", "/api/v1/session/health"] {
            let (status, body) = get(&host, path);
            assert_eq!((status, &body["status"]), (503, &json!("error")), "{path}");
        }
    }

    #[test]
    fn the_layer_header_is_repeated() {
        let host = host();
        let call = || Call::get("/api/v1/session/health");
        let send = |call: Call| call.send(&host, &routes()).header("x-integration-layer");
        assert_eq!(send(call().header("x-integration-layer", "true")), "true");
        assert_eq!(send(call()), "");
        assert_eq!(send(call().header("x-integration-layer", "a\u{e9}")), "");
    }
}
