//! No secret leaves the host: a run with every kind of request, and then a search
//! for every secret of it in logs, metrics, admin pages, answers that are errors,
//! files, and the memory of a guest.

use base64::Engine as _;
use lockgate_tests::component::{self, Probe};
use lockgate_tests::{Answer, Host, RedisServer, Service, User, now};
use reqwest::Method;
use serde_json::json;

const CSRF: &str = "csrf-secret-of-more-than-thirty-two-bytes-8J2k";
const SERVICE: &str = "service-secret-of-more-than-thirty-two-bytes-Q7";

/// Strings that must be found nowhere, with names for messages.
#[derive(Default)]
struct Secrets(Vec<(String, String)>);

impl Secrets {
    fn add(&mut self, name: &str, value: &str) {
        if value.len() >= 12 {
            self.0.push((name.to_owned(), value.to_owned()));
        }
    }

    /// A key: whole, by lines, and as it would look encoded.
    fn add_key(&mut self, name: &str, key: &[u8]) {
        let text = String::from_utf8_lossy(key);
        self.add(name, &text);
        self.add(&format!("{name}, escaped"), &text.replace('\n', "\\n"));
        for line in text.lines() {
            self.add(&format!("{name}, a line"), line);
        }
        self.add(&format!("{name}, hex"), &hex::encode(key));
        let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(key);
        self.add(&format!("{name}, base64"), &encoded[..encoded.len() - 2]);
        self.add(&format!("{name}, bytes"), &format!("{key:?}"));
    }

    /// A token: its signature and its payload betray it.
    fn add_token(&mut self, name: &str, token: &str) {
        for (part, text) in ["header", "payload", "signature"]
            .iter()
            .zip(token.split('.'))
        {
            if *part != "header" {
                self.add(&format!("{name}, {part}"), text);
            }
        }
    }

    #[track_caller]
    fn absent(&self, place: &str, bytes: &[u8]) {
        for (name, secret) in &self.0 {
            let found = bytes
                .windows(secret.len())
                .position(|window| window == secret.as_bytes());
            if let Some(at) = found {
                let from = at.saturating_sub(120);
                let around = String::from_utf8_lossy(&bytes[from..at]);
                panic!("{place} holds {name}, after: {around}");
            }
        }
    }
}

/// Sends a credential in every place where callers put one, wrong ones included.
async fn everywhere(host: &Host, token: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    let paths = [
        (Method::GET, Service::Session, "/api/v1/session/validate"),
        (Method::GET, Service::Session, "/api/v1/session/info"),
        (Method::POST, Service::Session, "/api/v1/session/normalize"),
        (Method::POST, Service::Jwt, "/api/v1/jwt/validate"),
        (Method::GET, Service::Jwt, "/api/v1/auth/verify-token"),
        (Method::POST, Service::Fallback, "/api/v1/fallback/validate"),
        (Method::POST, Service::Gateway, "/api/v1/ws-auth/validate"),
        (
            Method::GET,
            Service::Gateway,
            "/api/v1/ws-auth/connection-info",
        ),
        (Method::DELETE, Service::Gateway, "/api/v1/ws-auth/validate"),
        (Method::GET, Service::Coordinator, "/ws/chat"),
        (Method::GET, Service::Gateway, "/ws/chat"),
        (
            Method::POST,
            Service::Coordinator,
            "/api/v1/coordinator/sync-auth",
        ),
    ];
    for (method, service, path) in paths {
        let call = |path: &str| host.call(method.clone(), service, path);
        answers.push(call(path).bearer(token).send().await);
        answers.push(
            call(path)
                .cookie("access_token", token)
                .cookie("auth_token", token)
                .send()
                .await,
        );
        answers.push(
            call(path)
                .json(&json!({"token": token, "fallback_token": token}))
                .send()
                .await,
        );
        answers.push(
            call(path)
                .body(format!("{{\"token\":\"{token}\""))
                .send()
                .await,
        );
        answers.push(
            call(&format!("{path}?token={token}&ticket={token}"))
                .send()
                .await,
        );
        answers.push(
            call(&format!("/nowhere/{token}"))
                .header("x-auth-token", token)
                .send()
                .await,
        );
    }
    answers
}

/// Requests whose answers hold new credentials; those are secrets from then on.
async fn earn(host: &Host, secrets: &mut Secrets) -> Vec<Answer> {
    let user = User::new(14);
    let refresh = host.tokens.marked_refresh(&user);
    secrets.add_token("the old refresh token", &refresh);
    let mut answers = Vec::new();
    for round in 0..2 {
        let call = host.post(Service::Jwt, "/api/v1/jwt/refresh");
        let body = call
            .json(&json!({"refresh_token": refresh}))
            .send()
            .await
            .expect(200)
            .json();
        secrets.add_token("a new access token", body["access_token"].as_str().unwrap());
        secrets.add_token(
            "a new refresh token",
            body["refresh_token"].as_str().unwrap(),
        );
        answers.extend(everywhere(host, body["access_token"].as_str().unwrap()).await);
        if round == 0 {
            // Past the grace period: the second round finds the theft.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
    let token = host.tokens.access(&User::new(15));
    secrets.add_token("an access token", &token);
    for path in ["/api/v1/fallback/create", "/api/v1/fallback/emergency-auth"] {
        let answer = host
            .post(Service::Fallback, path)
            .bearer(&token)
            .send()
            .await;
        let body = answer.json();
        let fallback = body["fallback_token"]
            .as_str()
            .expect("a fallback token")
            .to_owned();
        secrets.add("a fallback token", &fallback);
        answers.extend(everywhere(host, &fallback).await);
    }
    let call = host
        .post(Service::Gateway, "/api/v1/ws-auth/authorize")
        .bearer(&token);
    let body = call.send().await.expect(200).json();
    secrets.add("a ticket", body["ticket"].as_str().expect("a ticket"));
    let call = host.post(Service::Coordinator, "/api/v1/auth/logout");
    answers.push(call.cookie("access_token", &token).send().await);
    answers
}

fn all_files(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("read a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all_files(&path, found)
        } else {
            found.push(path)
        }
    }
}

#[tokio::test]
async fn no_secret_in_logs_metrics_pages_answers_or_files() {
    let redis = RedisServer::start().await;
    let folder = component::folder();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let mut host = Host::builder()
        .redis(&redis)
        .env("LOG_LEVEL", "DEBUG")
        .env("CSRF_SECRET_FILE", file("csrf", CSRF))
        .env("SERVICE_SECRET_FILE", file("service", SERVICE))
        .env(
            "JWT_TOKEN_ADAPTER_URL",
            "http://probe:peer-password-0123@127.0.0.1:1",
        )
        .start()
        .await;
    let mut secrets = Secrets::default();
    secrets.add_key("the JWT secret", host.tokens.key());
    secrets.add_key("the CSRF secret", CSRF.as_bytes());
    secrets.add_key("the service secret", SERVICE.as_bytes());
    secrets.add("the Redis password", lockgate_tests::redis::PASSWORD);
    secrets.add("the Redis password, encoded", "pw%2Fwith%2Bchars");
    secrets.add("the peer's password", "peer-password-0123");
    let mut answers = earn(&host, &mut secrets).await;
    let user = User::new(16);
    let mut endless = lockgate_tests::Tokens::unified_claims(&user, 3_600);
    endless["exp"] = json!(now() as f64 + 60.5);
    for (name, token) in [
        ("a good token", host.tokens.access(&user)),
        ("an expired token", host.tokens.expired(&user)),
        ("a refresh token", host.tokens.refresh(&user)),
        ("a float token", host.tokens.sign(&endless)),
        (
            "a foreign token",
            lockgate_tests::Tokens::new(&[b'x'; 40]).access(&user),
        ),
        ("a broken token", format!("{}.x", host.tokens.access(&user))),
    ] {
        secrets.add_token(name, &token);
        answers.extend(everywhere(&host, &token).await);
    }
    for path in ["/health", "/echo", "/api/v1/coordinator/services"] {
        let call = host
            .get(Service::Coordinator, path)
            .header("x-service-secret", SERVICE);
        answers.push(call.send().await);
    }
    for answer in &answers {
        secrets.absent(answer.label().split('?').next().unwrap(), &answer.body);
        secrets.absent("a header", format!("{:?}", answer.headers).as_bytes());
    }
    for path in [
        "/plugins", "/metrics", "/livez", "/readyz", "/", "/nowhere", "/config",
    ] {
        let answer = host.admin(path).send().await;
        secrets.absent(path, &answer.body);
    }
    // An outage says much in the log.
    drop(redis);
    for service in Service::ALL {
        host.get(service, "/health").send().await;
    }
    everywhere(&host, &host.tokens.access(&user)).await;
    host.stop().await;
    let log = host.log();
    assert!(log.lines().count() > 20, "DEBUG says something:\n{log}");
    secrets.absent("the log", log.as_bytes());
    let mut files = Vec::new();
    all_files(&host.data_dir(), &mut files);
    assert!(!files.is_empty(), "the host keeps files");
    for file in files {
        secrets.absent(&file.display().to_string(), &std::fs::read(&file).unwrap());
    }
}

#[tokio::test]
async fn no_secret_in_errors_about_bad_settings() {
    let folder = component::folder();
    let short = folder.path().join("short");
    std::fs::write(&short, "short-secret-value").unwrap();
    let host = Host::builder()
        .secret(lockgate_tests::host::Secret::Bytes(
            b"short-jwt-secret".to_vec(),
        ))
        .env("CSRF_SECRET_FILE", short.display().to_string())
        .env("SERVICE_SECRET_FILE", short.display().to_string())
        .env(
            "REDIS_URL",
            "redis://lwe-app:redis-password-1@127.0.0.1:1/0",
        )
        .env(
            "DATABASE_URL",
            "postgresql://app_user:database-password@127.0.0.1:1/db",
        )
        .start_unready()
        .await;
    for service in Service::ALL {
        host.get(service, "/health").send().await;
    }
    let mut secrets = Secrets::default();
    secrets.add("a short secret", "short-secret-value");
    secrets.add("a short JWT secret", "short-jwt-secret");
    secrets.add("the Redis password", "redis-password-1");
    secrets.add("the database password", "database-password");
    secrets.absent("the log", host.log().as_bytes());
    secrets.absent("/plugins", &host.admin("/plugins").send().await.body);
}

#[tokio::test]
async fn no_secret_in_the_memory_of_a_guest() {
    const HERE: Service = Service::Coordinator;
    let redis = RedisServer::start().await;
    let folder = component::folder();
    let csrf = folder.path().join("csrf");
    std::fs::write(&csrf, CSRF).unwrap();
    let service = folder.path().join("service");
    std::fs::write(&service, SERVICE).unwrap();
    let toml = format!(
        "[services.{}.limits]\nreuse = 100000\nin_flight = 1\nwarm = 1\n",
        HERE.name()
    );
    let host = Host::builder()
        .redis(&redis)
        .config(toml)
        .env("CSRF_SECRET_FILE", csrf.display().to_string())
        .env("SERVICE_SECRET_FILE", service.display().to_string())
        .plugin(HERE, Probe::version(1).file(folder.path()))
        .start()
        .await;
    let token = host.tokens.access(&User::new(14));
    let mut dumped = Vec::new();
    for _ in 0..3 {
        // The host works with every key for this guest, and the caller sends a secret.
        let call = host
            .get(HERE, "/verify")
            .bearer(&token)
            .header("x-service-secret", SERVICE);
        let text = call.send().await.expect(200).text();
        assert!(
            text.contains("good ") && text.contains("csrf true"),
            "{text}"
        );
        host.get(HERE, "/redis?key=session:mine")
            .send()
            .await
            .expect(200);
        let mut from = 0;
        loop {
            let path = format!("/memory?from={from}&length=524288");
            let part = host.get(HERE, &path).send().await.expect(200).body;
            if part.is_empty() {
                break;
            }
            from += part.len();
            dumped.extend(part);
        }
    }
    let mark = b"lockgate-probe-mark";
    let seen = dumped.windows(mark.len()).any(|window| window == mark);
    assert!(seen, "the dump is really the guest's memory");
    let signature = token.rsplit('.').next().unwrap().as_bytes();
    let seen = dumped
        .windows(signature.len())
        .any(|window| window == signature);
    assert!(
        seen,
        "it holds what the guest was given: the caller's token"
    );
    let mut secrets = Secrets::default();
    secrets.add_key("the JWT secret", host.tokens.key());
    secrets.add_key("the CSRF secret", CSRF.as_bytes());
    secrets.add_key("the service secret", SERVICE.as_bytes());
    secrets.add("the Redis password", lockgate_tests::redis::PASSWORD);
    secrets.absent("a guest's memory", &dumped);
}
