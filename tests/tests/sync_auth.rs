//! What changes logins through service-boundary-coordinator: `sync-auth` with its
//! events, rights and CSRF rules, and logout.

use std::time::Duration;

use lockgate_tests::shape;
use lockgate_tests::tokens::sha256;
use lockgate_tests::{Answer, Host, RedisServer, Service, Tokens, User, now};
use serde_json::{Value, json};

const SYNC: &str = "/api/v1/coordinator/sync-auth";
const LOGOUT: &str = "/api/v1/auth/logout";

fn event(user: &User, kind: &str) -> Value {
    json!({"user_id": user.id, "email": user.email, "event_type": kind, "source": "api",
        "session_id": user.session_id})
}

async fn sync(host: &Host, token: &str, body: &Value) -> Answer {
    host.post(Service::Coordinator, SYNC)
        .bearer(token)
        .json(body)
        .send()
        .await
}

const SYNCED: &str = "success:true event_id:str event_type:str user_id:int timestamp:time \
    propagated:obj degraded:bool";

/// The four events: what each writes, deletes, revokes and publishes.
#[tokio::test(flavor = "multi_thread")]
async fn sync_auth_events() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let published = first_event(&redis).await;
    let user = User::new(42);
    let token = host.tokens.access(&user);
    let session = format!("session:{}", user.session_id);

    let body = sync(&host, &token, &event(&user, "login"))
        .await
        .expect_shape(200, SYNCED);
    shape::exact(&body["propagated"], "redis:true fallback:true websocket:=0");
    assert_eq!(
        (&body["event_type"], &body["user_id"]),
        (&json!("login"), &json!(42))
    );
    assert_eq!(body["degraded"], false);
    let login: Value = serde_json::from_str(&redis.get("session:42").await.unwrap()).unwrap();
    shape::exact(
        &login,
        "user_id:=42 email:str role:role login_time:str token_format:str",
    );
    assert!((3_500..=3_600).contains(&redis.run::<i64>(&["TTL", "session:42"]).await));
    let record: Value = serde_json::from_str(&redis.get(&session).await.unwrap()).unwrap();
    assert_eq!(record.as_object().unwrap().len(), 9, "{record}");
    let members: Vec<String> = redis.run(&["SMEMBERS", "user_sessions:42"]).await;
    assert_eq!(members, std::slice::from_ref(&user.session_id));
    let fallback: Value =
        serde_json::from_str(&redis.get("lockgate:fallback:42").await.unwrap()).unwrap();
    assert_eq!(fallback["user_id"], 42);
    let published = published.await.unwrap();
    assert_eq!(
        (&published["event_id"], &published["event_type"]),
        (&body["event_id"], &json!("login"))
    );
    for name in ["user_id", "email", "source", "host", "seq"] {
        assert!(!published[name].is_null(), "{name}: {published}");
    }
    assert!(redis.run::<i64>(&["XLEN", "lockgate:events"]).await >= 1);

    let body = sync(&host, &token, &event(&user, "token_refresh"))
        .await
        .expect_shape(200, SYNCED);
    assert_eq!(body["propagated"]["redis"], true);
    let fallback = redis.get("lockgate:fallback:42").await.unwrap();
    assert!(fallback.contains("token_refreshed_at"), "{fallback}");

    let other = User::new(42).session("s-tablet");
    let other_token = host.tokens.access(&other);
    sync(&host, &other_token, &event(&other, "login"))
        .await
        .expect(200);
    // What the main API remembers of the token goes with it.
    let short = sha256(&token)[..32].to_owned();
    let caches = [
        format!("session_validation:{short}"),
        format!("token_validation:{short}"),
        "user_auth:42".to_owned(),
    ];
    for key in &caches {
        let _: String = redis.run(&["SET", key, "1"]).await;
    }
    let body = sync(&host, &token, &event(&user, "logout"))
        .await
        .expect_shape(200, SYNCED);
    shape::exact(&body["propagated"], "redis:true fallback:bool websocket:=0");
    for key in &caches {
        assert_eq!(redis.get(key).await, None, "{key}");
    }
    assert_eq!(redis.get(&session).await, None);
    let members: Vec<String> = redis.run(&["SMEMBERS", "user_sessions:42"]).await;
    assert_eq!(members, ["s-tablet"]);
    let check = async |token: &str| {
        host.get(Service::Session, "/api/v1/session/validate")
            .bearer(token)
            .send()
            .await
            .status
    };
    assert_eq!(check(&token).await, 401, "the session is revoked");
    assert_eq!(check(&other_token).await, 200, "the other session is not");
    sync(&host, &token, &event(&user, "login"))
        .await
        .expect_error(401, "token_revoked");

    // session_expired: the record goes, and the session with it.
    let body = sync(&host, &other_token, &event(&other, "session_expired")).await;
    body.expect_shape(200, SYNCED);
    assert_eq!(redis.get("session:s-tablet").await, None);
    assert_eq!(check(&other_token).await, 401);

    // Without a session id nothing is revoked by session_expired, all by logout.
    let user = User::new(43);
    let (one, two) = (host.tokens.access(&user), host.tokens.legacy(&user));
    let mut body = event(&user, "session_expired");
    body.as_object_mut().unwrap().remove("session_id");
    sync(&host, &one, &body).await.expect_shape(200, SYNCED);
    assert_eq!((check(&one).await, check(&two).await), (200, 200));
    body["event_type"] = json!("logout");
    sync(&host, &one, &body).await.expect_shape(200, SYNCED);
    assert_eq!((check(&one).await, check(&two).await), (401, 401));
    let cut: String = redis.get("lockgate:revoked:user:43").await.unwrap();
    assert!((cut.parse::<i64>().unwrap() - now()).abs() < 60);
}

/// Listens on `auth.events`; gives the first event.
async fn first_event(redis: &RedisServer) -> tokio::task::JoinHandle<Value> {
    let client = redis::Client::open(redis.url()).unwrap();
    let (ready, listening) = tokio::sync::oneshot::channel();
    let task = tokio::task::spawn_blocking(move || {
        let mut link = client.get_connection().unwrap();
        let mut listener = link.as_pubsub();
        listener.subscribe("auth.events").unwrap();
        listener
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        ready.send(()).unwrap();
        loop {
            let message = listener.get_message().expect("an event");
            let text: String = message.get_payload().unwrap();
            let event: Value = serde_json::from_str(&text).expect("an event of JSON");
            // Hosts also tell each other there which keys to read again.
            if event["event_type"] != "keys_changed" {
                return event;
            }
        }
    });
    listening.await.expect("subscribe to auth.events");
    task
}

/// Who may report what for whom.
#[tokio::test(flavor = "multi_thread")]
async fn sync_auth_rights() {
    let redis = RedisServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("service");
    let secret = "a service secret of more than 32 bytes";
    std::fs::write(&file, secret).unwrap();
    let host = Host::builder()
        .redis(&redis)
        .env("SERVICE_SECRET_FILE", file.display().to_string())
        .start()
        .await;
    let user = User::new(42);
    let token = host.tokens.access(&user);
    let post = || host.post(Service::Coordinator, SYNC);

    post()
        .json(&event(&user, "login"))
        .send()
        .await
        .expect_error(401, "token_missing");
    let expired = host.tokens.expired(&user);
    sync(&host, &expired, &event(&user, "login"))
        .await
        .expect_error(401, "token_expired");
    let refused = async |body: &Value| {
        sync(&host, &token, body)
            .await
            .expect_error(403, "access_forbidden");
    };
    refused(&event(&User::new(43), "logout")).await;
    let mut other_mail = event(&user, "login");
    other_mail["email"] = json!("eve@example.org");
    refused(&other_mail).await;
    refused(&event(&user.clone().session("s-not-mine"), "logout")).await;
    let mut upper = event(&user, "login");
    upper["email"] = json!(user.email.to_uppercase());
    sync(&host, &token, &upper).await.expect(200);

    // A session of the user's list.
    let _: i64 = redis.run(&["SADD", "user_sessions:42", "s-listed"]).await;
    sync(
        &host,
        &token,
        &event(&user.clone().session("s-listed"), "logout"),
    )
    .await
    .expect(200);

    // An admin of unknown state has no rights; one that is known to be active has.
    let admin = User::admin(1);
    let admin_token = host.tokens.access(&admin);
    let mut any = event(&User::new(43), "logout");
    any.as_object_mut().unwrap().remove("session_id");
    sync(&host, &admin_token, &any)
        .await
        .expect_error(403, "access_forbidden");
    let record = json!({"is_active": true, "email": User::admin(2).email, "role": "admin",
        "checked_at": now()});
    let _: String = redis
        .run(&["SET", "lockgate:user:2", &record.to_string(), "EX", "60"])
        .await;
    sync(&host, &host.tokens.access(&User::admin(2)), &any)
        .await
        .expect(200);

    // A service with the secret; not without, with a wrong or a cut one.
    let service = |given: &str| post().header("x-service-secret", given).json(&any);
    service(secret).send().await.expect_shape(200, SYNCED);
    for wrong in ["", "wrong", &secret[1..], &format!("{secret}x")] {
        service(wrong)
            .send()
            .await
            .expect_error(401, "token_missing");
    }

    for (name, body) in [
        (
            "no user",
            json!({"email": user.email, "event_type": "login", "source": "api"}),
        ),
        (
            "no e-mail",
            json!({"user_id": 42, "event_type": "login", "source": "api"}),
        ),
        (
            "no type",
            json!({"user_id": 42, "email": user.email, "source": "api"}),
        ),
        (
            "no source",
            json!({"user_id": 42, "email": user.email, "event_type": "login"}),
        ),
    ] {
        let body = sync(&host, &token, &body)
            .await
            .expect_error(422, "invalid_request");
        assert!(!body["detail"].as_str().unwrap().is_empty(), "{name}");
    }
    for (name, value) in [
        ("user_id", json!("42")),
        ("user_id", json!(42.5)),
        ("user_id", json!(0)),
        ("email", json!(5)),
        ("event_type", json!("explode")),
        ("event_type", json!(null)),
        ("source", json!([])),
        ("session_id", json!("1935651600000")),
        ("session_id", json!("a:b")),
        ("session_id", json!("y".repeat(129))),
        ("session_id", json!(5)),
        ("details", json!("text")),
    ] {
        let mut body = event(&user, "login");
        body[name] = value;
        sync(&host, &token, &body)
            .await
            .expect_error(422, "invalid_request");
    }
    let call = post().bearer(&token).body("{\"user_id\":42,");
    call.send().await.expect_error(400, "invalid_request");

    // Behind a trusted proxy the secret opens nothing; a short one is none at all.
    let host = Host::builder()
        .env("SERVICE_SECRET_FILE", file.display().to_string())
        .env("TRUSTED_PROXIES", "127.0.0.1/32")
        .start()
        .await;
    let call = host
        .post(Service::Coordinator, SYNC)
        .header("x-service-secret", secret);
    let answer = call
        .header("x-forwarded-for", "192.0.2.1")
        .json(&any)
        .send()
        .await;
    answer.expect_error(401, "token_missing");
    std::fs::write(&file, "short").unwrap();
    let host = Host::builder().env("SERVICE_SECRET_FILE", file.display().to_string());
    let host = host.start().await;
    let call = host
        .post(Service::Coordinator, SYNC)
        .header("x-service-secret", "short");
    call.json(&any)
        .send()
        .await
        .expect_error(401, "token_missing");
}

/// The CSRF cookie, for a login by cookie.
#[tokio::test(flavor = "multi_thread")]
async fn csrf() {
    use base64::Engine as _;
    let host = Host::start().await;
    let user = User::new(42);
    let token = host.tokens.access(&user);
    let create = "/api/v1/fallback/create";
    let calls = |host: &Host, header: Option<&str>, cookies: &[&str]| {
        [
            (Service::Coordinator, SYNC, event(&user, "login")),
            (Service::Fallback, create, json!({})),
        ]
        .map(|(service, path, body)| {
            let mut call = host
                .post(service, path)
                .cookie("access_token", &token)
                .json(&body);
            for cookie in cookies {
                call = call.cookie("csrf_token", cookie);
            }
            match header {
                Some(text) => call.header("x-csrf-token", text),
                None => call,
            }
        })
    };
    for (header, cookies) in [
        (None, vec![]),
        (None, vec!["abc"]),
        (Some("abc"), vec![]),
        (Some("abc"), vec!["abd"]),
        (Some(""), vec![""]),
    ] {
        for call in calls(&host, header, &cookies) {
            call.send().await.expect_error(403, "csrf_failed");
        }
    }
    for cookies in [vec!["abc"], vec!["other", "abc"], vec!["abc", "other"]] {
        for call in calls(&host, Some("abc"), &cookies) {
            let answer = call.send().await;
            assert!(
                matches!(answer.status, 200 | 201),
                "{}: {}",
                answer.label(),
                answer.text()
            );
        }
    }

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("csrf");
    let secret = b"a csrf secret of its own, long enough";
    std::fs::write(&file, secret).unwrap();
    let checked = Host::builder()
        .secret(lockgate_tests::host::Secret::Bytes(
            host.tokens.key().to_vec(),
        ))
        .env("CSRF_SECRET_FILE", file.display().to_string())
        .start()
        .await;
    let nonce = "n".repeat(43);
    let made = |key: &[u8], time: i64| {
        let message = format!("{time}:{nonce}");
        let sealed = Tokens::new(key).seal(&message);
        let mac = sealed.rsplit('.').next().unwrap();
        let mac = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(mac)
            .unwrap();
        format!("{message}:{}", hex::encode(mac))
    };
    let good = made(secret, now());
    for call in calls(&checked, Some(&good), &["stale", &good]) {
        let answer = call.send().await;
        assert!(
            matches!(answer.status, 200 | 201),
            "{}: {}",
            answer.label(),
            answer.text()
        );
    }
    for bad in [
        "abc".to_owned(),
        made(host.tokens.key(), now()),
        made(secret, now() - 604_900),
        made(secret, now()).replace(&nonce, &"m".repeat(43)),
        format!("{good}:x"),
    ] {
        for call in calls(&checked, Some(&bad), &[&bad]) {
            call.send().await.expect_error(403, "csrf_failed");
        }
    }
}

/// Logout: 204, four cookies deleted, every good token dead.
#[tokio::test(flavor = "multi_thread")]
async fn logout() {
    for production in [false, true] {
        let mut builder = Host::builder();
        if production {
            builder = builder
                .env("ENVIRONMENT", "production")
                .env("DOMAIN", "example.org");
        }
        let host = builder.start().await;
        let user = User::new(42);
        let access = host.tokens.access(&user);
        let refresh = host.tokens.marked_refresh(&user.clone().session("s-other"));
        let bystander = host.tokens.access(&user.clone().session("s-third"));
        let call = host
            .post(Service::Coordinator, LOGOUT)
            .cookie("access_token", &access);
        let answer = call
            .cookie("refresh_token", &refresh)
            .send()
            .await
            .expect(204);
        assert!(answer.body.is_empty());
        let lines = answer.all("set-cookie");
        for name in ["access_token", "refresh_token", "auth_token", "csrf_token"] {
            let prefix = format!("{name}=;");
            let of_name: Vec<_> = lines.iter().filter(|l| l.starts_with(&prefix)).collect();
            assert_eq!(
                of_name.len(),
                if production { 2 } else { 1 },
                "{name}: {lines:?}"
            );
            for line in &of_name {
                let line = line.to_lowercase();
                assert!(
                    line.contains("max-age=0") && line.contains("path=/"),
                    "{line}"
                );
            }
            let domains = of_name
                .iter()
                .filter(|l| l.contains("Domain=.example.org"))
                .count();
            assert_eq!(domains, usize::from(production), "{lines:?}");
        }
        let check = async |token: &str| {
            host.get(Service::Session, "/api/v1/session/validate")
                .bearer(token)
                .send()
                .await
                .status
        };
        assert_eq!(check(&access).await, 401);
        assert_eq!(
            check(&bystander).await,
            200,
            "only the sessions of the tokens"
        );
        let body = json!({"refresh_token": refresh});
        let again = host
            .post(Service::Jwt, "/api/v1/jwt/refresh")
            .json(&body)
            .send()
            .await;
        again.expect_error(401, "token_revoked");

        // Nothing good, or nothing at all: still 204, still deleting.
        for token in [
            None,
            Some(host.tokens.expired(&user)),
            Some("garbage".into()),
            Some(access),
        ] {
            let mut call = host.post(Service::Coordinator, LOGOUT);
            if let Some(token) = token {
                call = call.cookie("access_token", &token);
            }
            let answer = call.send().await.expect(204);
            assert!(answer.all("set-cookie").len() >= 4);
        }
        // A Bearer works too.
        let token = host.tokens.access(&User::new(43));
        host.post(Service::Coordinator, LOGOUT)
            .bearer(&token)
            .send()
            .await
            .expect(204);
        assert_eq!(check(&token).await, 401);
        // Foreign origins log nobody out.
        let token = host.tokens.access(&User::new(44));
        let call = host
            .post(Service::Coordinator, LOGOUT)
            .cookie("access_token", &token);
        let call = call.header("origin", "https://evil.example");
        call.send().await.expect_error(403, "origin_refused");
        assert_eq!(check(&token).await, 200);
    }
}
