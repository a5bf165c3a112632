//! The answers while something that was configured is not there: Redis, its
//! password, the key, or a component. Degraded keeps users logged in.

use lockgate_tests::host::Secret;
use lockgate_tests::ports::Ports;
use lockgate_tests::shape::{self, H};
use lockgate_tests::{Answer, Host, HostBuilder, RedisServer, Service, User};
use serde_json::{Value, json};

/// Every endpoint with a good token: what a lost Redis makes of it.
async fn all_degraded(host: &Host) {
    let user = User::new(42);
    let token = host.tokens.access(&user);
    let get = async |service, path: &str| -> Answer {
        host.get(service, path)
            .bearer(&token)
            .send()
            .await
            .expect(200)
    };
    let post = async |service, path: &str, body: Value| -> Answer {
        host.post(service, path)
            .bearer(&token)
            .json(&body)
            .send()
            .await
    };

    let body = post(Service::Jwt, "/api/v1/jwt/validate", json!({}))
        .await
        .expect(200)
        .auth();
    assert_eq!(
        (&body["valid"], &body["degraded"]),
        (&json!(true), &json!(true))
    );
    let body = get(Service::Jwt, "/api/v1/auth/verify-token").await.auth();
    assert_eq!(
        (&body["valid"], &body["degraded"]),
        (&json!(true), &json!(true))
    );

    // Only an access token, and the refresh cookie stays.
    let refresh = host.tokens.marked_refresh(&user);
    let call = host
        .post(Service::Jwt, "/api/v1/jwt/refresh")
        .cookie("refresh_token", &refresh);
    let answer = call.send().await.expect(200);
    let body = answer.auth();
    assert_eq!(body["degraded"], true);
    assert!(body["access_token"].is_string());
    assert!(body.get("refresh_token").is_none(), "{body}");
    assert_eq!(answer.set_cookie("refresh_token"), None);
    assert!(
        answer
            .set_cookie("access_token")
            .is_some_and(|t| !t.is_empty())
    );
    let call = host.post(Service::Jwt, "/api/v1/jwt/refresh");
    let body = call
        .json(&json!({"refresh_token": refresh}))
        .send()
        .await
        .expect(200)
        .auth();
    assert!(body.get("refresh_token").is_none(), "{body}");

    let answer = get(Service::Session, "/api/v1/session/validate").await;
    let body = answer.expect_shape(200, shape::S);
    assert_eq!(body["degraded"], true);
    assert!(
        ["jwt", "fallback"].contains(&body["source"].as_str().unwrap()),
        "{body}"
    );
    assert_eq!(answer.header("x-degraded-mode"), "true");
    assert_eq!(answer.header("x-session-valid"), "true");
    let body = get(Service::Session, "/api/v1/session/info").await.auth();
    assert_eq!(
        (&body["degraded"], &body["user_id"]),
        (&json!(true), &json!(42))
    );
    let session = json!({"session": {"user_id": 42, "email": user.email, "role": "user"}});
    let call = host
        .post(Service::Session, "/api/v1/session/normalize")
        .json(&session);
    assert_eq!(
        call.send().await.expect(200).auth()["normalized"]["valid"],
        true
    );
    let body = post(Service::Session, "/api/v1/session/normalize", json!({}))
        .await
        .expect(200);
    assert_eq!(body.auth()["verified"], true);

    let made = post(Service::Fallback, "/api/v1/fallback/create", json!({})).await;
    assert!([200, 201].contains(&made.status), "{}", made.text());
    let body = json!({"fallback_token": made.auth()["fallback_token"]});
    let call = host
        .post(Service::Fallback, "/api/v1/fallback/validate")
        .json(&body);
    assert_eq!(call.send().await.expect(200).auth()["valid"], true);
    let body = post(
        Service::Fallback,
        "/api/v1/fallback/emergency-auth",
        json!({}),
    )
    .await;
    assert_eq!(body.expect(200).auth()["valid"], true);

    let body = post(Service::Gateway, "/api/v1/ws-auth/validate", json!({}))
        .await
        .expect(200);
    assert_eq!(body.auth()["degraded"], true);
    let body = post(Service::Gateway, "/api/v1/ws-auth/authorize", json!({}))
        .await
        .expect(200);
    let body = body.auth();
    assert_eq!(
        (&body["authorized"], &body["degraded"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(body["ticket"], json!(null), "a ticket cannot be kept");
    let body = get(Service::Gateway, "/api/v1/ws-auth/connection-info")
        .await
        .auth();
    assert_eq!(body["degraded"], true);

    let event = json!({"user_id": 42, "email": user.email, "event_type": "login", "source": "api"});
    let body = post(Service::Coordinator, "/api/v1/coordinator/sync-auth", event)
        .await
        .expect(200);
    let body = body.auth();
    assert_eq!(
        (&body["success"], &body["degraded"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(body["propagated"]["redis"], false, "{body}");

    for service in Service::ALL {
        let body = get(service, "/health").await.conventional();
        shape::exact(&body, H);
        assert_eq!(
            (&body["status"], &body["degraded"]),
            (&json!("degraded"), &json!(true))
        );
        assert_eq!(body["dependencies"]["redis"], "disconnected", "{body}");
    }
    for (service, path) in [
        (Service::Jwt, "/api/v1/jwt/health"),
        (Service::Jwt, "/api/v1/jwt/status"),
        (Service::Fallback, "/api/v1/fallback/health"),
        (Service::Gateway, "/api/v1/ws-auth/health"),
    ] {
        let body = get(service, path).await.conventional();
        assert_eq!(
            (&body["status"], &body["degraded"]),
            (&json!("degraded"), &json!(true)),
            "{path}"
        );
    }
    let body = get(Service::Fallback, "/api/v1/fallback/health")
        .await
        .json();
    assert_eq!(body["redis_connected"], false);
    let body = get(Service::Session, "/api/v1/session/health")
        .await
        .conventional();
    assert_eq!(
        (&body["status"], &body["degraded"]),
        (&json!("ok"), &json!(true))
    );
    let body = get(Service::Coordinator, "/api/v1/health/integration")
        .await
        .conventional();
    assert_eq!(
        (&body["status"], &body["degraded"]),
        (&json!("degraded"), &json!(true))
    );
    let word = body["redis_connection"].as_str().unwrap();
    assert!(["error", "unavailable"].contains(&word), "{word}");

    // Logout holds although Redis cannot hear of it.
    host.post(Service::Coordinator, "/api/v1/auth/logout")
        .bearer(&token)
        .send()
        .await
        .expect(204);
    let answer = host
        .get(Service::Session, "/api/v1/session/validate")
        .bearer(&token)
        .send()
        .await;
    assert_eq!(answer.status, 401, "{}", answer.text());
    let body = json!({"token": token});
    let answer = host
        .post(Service::Jwt, "/api/v1/jwt/validate")
        .json(&body)
        .send()
        .await;
    assert_eq!(answer.json()["error"], "token_revoked");
}

/// Nothing listens at `REDIS_URL`: the host starts, becomes ready and serves.
#[tokio::test(flavor = "multi_thread")]
async fn redis_refuses() {
    let ports = Ports::take();
    let url = format!("redis://lwe-app:x@127.0.0.1:{}", ports.at(0));
    let host = Host::builder().env("REDIS_URL", url).start().await;
    all_degraded(&host).await;
}

/// Something listens, but never says a word.
#[tokio::test(flavor = "multi_thread")]
async fn redis_hangs() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://lwe-app:x@{}", silent.local_addr().unwrap());
    let host = Host::builder().env("REDIS_URL", url).start().await;
    all_degraded(&host).await;
}

/// Redis is there, but the host has no password (NOAUTH), or a wrong one.
#[tokio::test(flavor = "multi_thread")]
async fn redis_without_credentials() {
    let redis = RedisServer::start().await;
    let missing = redis.password_file().with_file_name("missing");
    let bare = |host: HostBuilder| host.env("REDIS_URL", redis.bare_url());
    let host = bare(Host::builder()).env("REDIS_PASSWORD_FILE", missing.display().to_string());
    let host = host.start().await;
    all_degraded(&host).await;
    assert!(redis.keys().await.is_empty());

    let wrong = redis.password_file().with_file_name("wrong");
    std::fs::write(&wrong, "wrong").unwrap();
    let host = bare(Host::builder()).env("REDIS_PASSWORD_FILE", wrong.display().to_string());
    all_degraded(&host.start().await).await;

    // With the right file all is well.
    let file = redis.password_file().display().to_string();
    let host = bare(Host::builder())
        .env("REDIS_PASSWORD_FILE", file)
        .start()
        .await;
    let token = host.tokens.access(&User::new(42));
    let call = host
        .get(Service::Session, "/api/v1/session/validate")
        .bearer(&token);
    assert_eq!(
        call.send().await.expect_shape(200, shape::S)["degraded"],
        false
    );
    assert!(redis.keys().await.contains(&"session:s-42Qx".to_owned()));
}

/// No key, or one that is too short: 503 where a token must be checked.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret() {
    for secret in [
        Secret::Missing,
        Secret::Bytes(b"  only-thirty-one-bytes-of-a-key \n".to_vec()),
    ] {
        let mut host = Host::builder().secret(secret).start_unready().await;
        let token = host.tokens.access(&User::new(42));
        let user = User::new(42);
        let event =
            json!({"user_id": 42, "email": user.email, "event_type": "login", "source": "api"});
        for (service, path, body) in [
            (Service::Jwt, "/api/v1/jwt/validate", json!({})),
            (
                Service::Jwt,
                "/api/v1/jwt/refresh",
                json!({"refresh_token": token}),
            ),
            (Service::Session, "/api/v1/session/validate", json!({})),
            (Service::Session, "/api/v1/session/normalize", json!({})),
            (Service::Fallback, "/api/v1/fallback/create", json!({})),
            (Service::Fallback, "/api/v1/fallback/validate", json!({})),
            (
                Service::Fallback,
                "/api/v1/fallback/emergency-auth",
                json!({}),
            ),
            (Service::Gateway, "/api/v1/ws-auth/validate", json!({})),
            (Service::Gateway, "/api/v1/ws-auth/authorize", json!({})),
            (Service::Coordinator, "/api/v1/coordinator/sync-auth", event),
        ] {
            let answer = host
                .post(service, path)
                .bearer(&token)
                .json(&body)
                .send()
                .await;
            let more = if path.ends_with("authorize") {
                "authorized?:false close_code?:int reason?:str"
            } else {
                ""
            };
            answer.expect_error_with(503, "service_unavailable", more);
        }
        for (service, path) in [
            (Service::Session, "/api/v1/session/validate"),
            (Service::Session, "/api/v1/session/info"),
            (Service::Jwt, "/api/v1/auth/verify-token"),
            (Service::Gateway, "/api/v1/ws-auth/connection-info"),
        ] {
            let answer = host.get(service, path).bearer(&token).send().await;
            answer.expect_error(503, "service_unavailable");
            if path.ends_with("session/validate") {
                assert_eq!(answer.header("x-session-valid"), "false");
                assert_eq!(answer.header("x-session-format"), "none");
            }
        }
        // What needs no key works.
        let session = json!({"session": {"user_id": 42, "email": user.email, "role": "user"}});
        let call = host
            .post(Service::Session, "/api/v1/session/normalize")
            .json(&session);
        call.send().await.expect(200);
        let call = host.post(Service::Fallback, "/api/v1/fallback/validate");
        let answer = call
            .json(&json!({"fallback_token": "x"}))
            .send()
            .await
            .expect(200);
        assert_eq!(answer.json()["valid"], false);
        let logout = host.post(Service::Coordinator, "/api/v1/auth/logout");
        logout.bearer(&token).send().await.expect(204);

        for service in Service::ALL {
            let answer = host.get(service, "/health").send().await.expect(503);
            let body = answer.conventional();
            shape::exact(&body, H);
            assert_eq!(body["status"], "error");
        }
        for (service, path) in [
            (Service::Jwt, "/api/v1/jwt/health"),
            (Service::Session, "/api/v1/session/health"),
            (Service::Fallback, "/api/v1/fallback/health"),
            (Service::Gateway, "/api/v1/ws-auth/health"),
        ] {
            let body = host
                .get(service, path)
                .send()
                .await
                .expect(503)
                .conventional();
            assert_eq!(body["status"], "error", "{path}: {body}");
            for name in ["service", "timestamp", "dependencies", "degraded"] {
                assert!(!body[name].is_null(), "{path}: {name}: {body}");
            }
            if service == Service::Jwt {
                shape::exact(
                    &body,
                    &format!("{H} secret_key_loaded:false algorithm:=HS256"),
                );
            }
        }
        let call = host.get(Service::Coordinator, "/api/v1/health/integration");
        let body = call.send().await.expect(200).conventional();
        assert_eq!(body["service_boundary_coordinator"], "error", "{body}");
        assert!(host.is_running());
        let log = host.log();
        assert!(
            !log.contains("only-thirty-one-bytes"),
            "the key is in the log"
        );
    }
}

/// A service without a component is away; the other four are not touched.
#[tokio::test(flavor = "multi_thread")]
async fn no_component() {
    for absent in [Service::Session, Service::Coordinator] {
        let host = Host::builder().without_plugin(absent).start_unready().await;
        for service in Service::ALL {
            let mut answer = host.get(service, "/health").send().await;
            for _ in 0..600 {
                if service == absent || answer.status == 200 {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                answer = host.get(service, "/health").send().await;
            }
            if service == absent {
                let body = answer.expect(503).conventional();
                shape::exact(&body, H);
                assert_eq!(body["status"], "error");
                assert_eq!(body["service"], format!("{}-service", service.name()));
            } else {
                answer.expect(200);
            }
        }
        let path = match absent {
            Service::Session => "/api/v1/session/validate",
            _ => "/api/v1/health/integration",
        };
        let answer = host.get(absent, path).send().await;
        answer.expect_error(503, "service_unavailable");
    }
}
