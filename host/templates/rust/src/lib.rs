//! A service for Lockgate: `GET /hello` and `GET /health`.

use lockgate_sdk::{Answer, Host, Request, Route, health};
use serde_json::json;

/// Greets by what stands in the query.
fn hello<H: Host>(_host: &H, request: &Request) -> Answer {
    let name = request.query().unwrap_or("world");
    Answer::json(200, &json!({ "hello": name }))
}

/// Says that the service is up, and how Redis is.
fn basic_health<H: Host>(host: &H, _request: &Request) -> Answer {
    health::answer(&health::head(host, &["redis"]))
}

fn routes<H: Host>() -> Vec<Route<H>> {
    vec![Route::get("/hello", hello), Route::get("/health", basic_health)]
}

lockgate_sdk::register!(routes);

#[cfg(test)]
mod tests {
    use lockgate_sdk::double::{Call, Double};
    use serde_json::json;

    use super::routes;

    #[test]
    fn it_greets() {
        let host = Double::new("rust-example-service");
        let reply = Call::get("/hello").send(&host, &routes());
        assert_eq!((reply.status(), reply.json()), (200, json!({ "hello": "world" })));
        let reply = Call::get("/hello").query("ada").send(&host, &routes());
        assert_eq!(reply.json()["hello"], "ada");
    }

    #[test]
    fn it_is_up_without_redis() {
        let host = Double::new("rust-example-service");
        host.redis_down();
        let reply = Call::get("/health").send(&host, &routes());
        assert_eq!((reply.status(), &reply.json()["degraded"]), (200, &json!(true)));
    }
}
