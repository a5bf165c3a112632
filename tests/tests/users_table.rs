//! The users table: every variant, every finding, outages, TLS, and what the services
//! without a database know.

use lockgate_tests::postgres::{PASSWORD, Tls};
use lockgate_tests::tokens::claims;
use lockgate_tests::wait::eventually;
use lockgate_tests::{
    Answer, Host, HostBuilder, PgBouncer, Postgres, RedisServer, Service, User, now, shape,
};
use serde_json::{Value, json};

const VALIDATE: &str = "/api/v1/session/validate";

/// The full table, and the rights of the host's user: what it need not read, it may not.
const FULL: &str = "CREATE TYPE user_role AS ENUM ('admin', 'user');
     CREATE TABLE users (id serial PRIMARY KEY, email varchar(255) UNIQUE NOT NULL,
        username varchar(50), password_hash text NOT NULL DEFAULT 'x', totp_secret text,
        role user_role NOT NULL DEFAULT 'user', is_active boolean NOT NULL DEFAULT true,
        status varchar(20) NOT NULL DEFAULT 'active');
     GRANT SELECT (id, email, username, role, is_active, status) ON users TO app_user;";

async fn full_table(postgres: &Postgres) {
    postgres.sql(FULL).await;
}

/// Puts the user into the table as [`User`] has it.
async fn add(postgres: &Postgres, user: &User) {
    let User {
        id, email, role, ..
    } = user;
    let row = format!("INSERT INTO users (id, email, role) VALUES ({id}, '{email}', '{role}')");
    postgres.sql(&row).await;
}

fn with_table(postgres: &Postgres) -> HostBuilder {
    Host::builder().env("DATABASE_URL", postgres.url())
}

async fn validate(host: &Host, user: &User) -> Answer {
    let token = host.tokens.access(user);
    let call = host
        .get(Service::Session, VALIDATE)
        .cookie("access_token", &token);
    call.send().await
}

/// Status, and `valid`, `error` or the role, and `degraded`.
async fn finding(host: &Host, user: &User) -> String {
    let answer = validate(host, user).await;
    let body = answer.json();
    let mark = answer.header("x-degraded-mode") == "true";
    assert_eq!(body["degraded"], mark, "{body}");
    let word = body["error"]
        .as_str()
        .or(body["role"].as_str())
        .unwrap_or("?");
    let degraded = if mark { " degraded" } else { "" };
    format!("{} {word}{degraded}", answer.status)
}

async fn database(host: &Host) -> (String, Value) {
    let health = host
        .get(Service::Session, "/health")
        .send()
        .await
        .expect(200);
    let body = health.json();
    let word = body["dependencies"]["database"].as_str().unwrap_or("?");
    (word.to_owned(), body["status"].clone())
}

async fn until_database(host: &Host, expected: &str) {
    let what = format!("the database reads {expected}");
    eventually(&what, async || {
        let (word, _) = database(host).await;
        if word == expected { Ok(()) } else { Err(word) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_variant_of_the_table() {
    let postgres = Postgres::start().await;
    let enums = "CREATE TYPE user_role AS ENUM ('admin', 'user');";
    // Role as an enum or not, `is_active`, `status`, `username`.
    let variants = [
        (enums, "user_role", true, "", true),
        ("", "varchar(20)", false, "varchar(20)", false),
        (enums, "user_role", true, "varchar(20)", true),
        (
            "CREATE TYPE user_role AS ENUM ('admin', 'user');
             CREATE TYPE user_status AS ENUM ('pending_approval', 'active', 'disabled');",
            "user_role",
            false,
            "user_status",
            true,
        ),
        ("", "varchar(20)", false, "", false),
        ("", "text", true, "text", false),
    ];
    for (number, (types, role, is_active, status, username)) in variants.into_iter().enumerate() {
        let name = format!("variant_{number}");
        postgres
            .sql_in("postgres", &format!("CREATE DATABASE {name}"))
            .await;
        let mut columns = format!(
            "password_hash text DEFAULT 'x', email varchar(255), role {role}, id integer PRIMARY KEY"
        );
        if is_active {
            columns += ", is_active boolean DEFAULT true";
        }
        if !status.is_empty() {
            columns += &format!(", status {status} DEFAULT 'active'");
        }
        if username {
            columns += ", username varchar(50)";
        }
        let mut script = format!(
            "{types} CREATE TABLE users ({columns}); GRANT SELECT (id, email, role) ON users TO app_user;
             INSERT INTO users (id, email, role) SELECT n, 'ada' || n || '@example.org', 'user'
             FROM generate_series(1, 9) AS n; UPDATE users SET role = 'admin' WHERE id = 2;
             UPDATE users SET email = 'ADA3@Example.ORG' WHERE id = 3;
             UPDATE users SET email = 'eve@example.org' WHERE id = 4;
             UPDATE users SET email = NULL WHERE id = 9;"
        );
        if is_active {
            script += "GRANT SELECT (is_active) ON users TO app_user;
                 UPDATE users SET is_active = false WHERE id = 5;
                 UPDATE users SET is_active = NULL WHERE id = 6;";
        }
        if !status.is_empty() {
            script += "GRANT SELECT (status) ON users TO app_user;
                 UPDATE users SET status = 'disabled' WHERE id = 7;
                 UPDATE users SET status = 'pending_approval' WHERE id = 8;";
        }
        postgres.sql_in(&name, &script).await;
        let url = postgres.url_to(&name);
        let host = Host::builder().env("DATABASE_URL", url).start().await;
        let off = |there| {
            if there {
                "401 user_disabled"
            } else {
                "200 user"
            }
        };
        for (id, expected) in [
            (1, "200 user"),
            (2, "200 admin"),
            (3, "200 user"),
            (4, "200 consistency_mismatch"),
            (5, off(is_active)),
            (6, off(is_active)),
            (7, off(!status.is_empty())),
            (8, off(!status.is_empty())),
            (9, "200 consistency_mismatch"),
            (10, "200 user_not_found"),
        ] {
            // Twice: as read, and as cached.
            for _ in 0..2 {
                assert_eq!(
                    finding(&host, &User::new(id)).await,
                    expected,
                    "{columns}: user {id}"
                );
            }
        }
        // The table's spelling of an e-mail counts.
        let body = validate(&host, &User::new(3)).await.json();
        assert_eq!(body["email"], "ADA3@Example.ORG");
        assert_eq!(
            database(&host).await,
            ("connected".to_owned(), json!("healthy"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_is_shared_and_a_disabled_user_is_refused_everywhere() {
    let (postgres, redis) = (Postgres::start().await, RedisServer::start().await);
    full_table(&postgres).await;
    for user in [User::admin(1), User::new(2), User::new(3)] {
        add(&postgres, &user).await;
    }
    postgres
        .sql("UPDATE users SET status = 'disabled' WHERE id = 2")
        .await;
    let host = with_table(&postgres).redis(&redis).start().await;
    assert_eq!(finding(&host, &User::new(1)).await, "200 admin");
    assert_eq!(finding(&host, &User::new(2)).await, "401 user_disabled");
    assert_eq!(finding(&host, &User::new(4)).await, "200 user_not_found");
    assert_eq!(redis.get("lockgate:user:4").await, None);
    for (id, active, role, longest) in [(1, true, "admin", 60), (2, false, "user", 604_860)] {
        let key = format!("lockgate:user:{id}");
        let value = redis.get(&key).await.expect("the user is cached");
        let mut entry: Value = serde_json::from_str(&value).unwrap();
        let checked_at = entry["checked_at"].take().as_i64().unwrap();
        assert!((now() - 60..=now()).contains(&checked_at));
        let email = format!("ada{id}@example.org");
        let expected =
            json!({"is_active": active, "email": email, "role": role, "checked_at": null});
        assert_eq!(entry, expected);
        let ttl: i64 = redis.run(&["TTL", &key]).await;
        assert!((1..=longest).contains(&ttl) && ttl > longest - 60, "{ttl}");
    }
    // On all five services, in this process and in one without a database.
    let secret = lockgate_tests::host::Secret::Bytes(host.tokens.key().to_vec());
    let other = Host::builder().redis(&redis).secret(secret).start().await;
    for host in [&host, &other] {
        refused_on_all_five(host, &User::new(2)).await;
    }
    // Until a newer reading says active; times are whole seconds, and of two readings of
    // the same second "disabled" counts.
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    postgres
        .sql("UPDATE users SET status = 'active' WHERE id = 2")
        .await;
    let old = json!({"is_active": false, "email": "ada2@example.org", "role": "user",
        "checked_at": now() - 120})
    .to_string();
    let _: String = redis
        .run(&["SET", "lockgate:user:2", &old, "EX", "604800"])
        .await;
    let mut fresh = with_table(&postgres).redis(&redis).start().await;
    assert_eq!(finding(&fresh, &User::new(2)).await, "200 user");
    let value: Value = serde_json::from_str(&redis.get("lockgate:user:2").await.unwrap()).unwrap();
    assert_eq!(value["is_active"], true);
    assert_eq!(finding(&other, &User::new(2)).await, "200 user");
    // A value of others is neither believed nor overwritten.
    let _: String = redis
        .run(&["SET", "lockgate:user:3", "\u{80}\u{4}pickled"])
        .await;
    assert_eq!(finding(&fresh, &User::new(3)).await, "200 user");
    assert_eq!(
        redis.get("lockgate:user:3").await.as_deref(),
        Some("\u{80}\u{4}pickled")
    );
    fresh.stop().await;
}

async fn refused_on_all_five(host: &Host, user: &User) {
    let token = host.tokens.access(user);
    let refused = |answer: Answer| {
        let body = answer.json();
        assert_eq!(body["error"], "user_disabled", "{}: {body}", answer.label());
        answer.status
    };
    for (service, path, status) in [
        (Service::Jwt, "/api/v1/jwt/validate", 200),
        (Service::Session, VALIDATE, 401),
        (Service::Fallback, "/api/v1/fallback/create", 401),
        (Service::Fallback, "/api/v1/fallback/validate", 200),
        (Service::Fallback, "/api/v1/fallback/emergency-auth", 401),
        (Service::Gateway, "/api/v1/ws-auth/authorize", 401),
        (Service::Gateway, "/api/v1/ws-auth/validate", 200),
    ] {
        let answer = host.post(service, path).bearer(&token).send().await;
        assert_eq!(refused(answer), status, "{path}");
    }
    for (service, path) in [
        (Service::Jwt, "/api/v1/auth/verify-token"),
        (Service::Session, "/api/v1/session/info"),
        (Service::Gateway, "/api/v1/ws-auth/connection-info"),
    ] {
        assert_eq!(
            refused(host.get(service, path).bearer(&token).send().await),
            401,
            "{path}"
        );
    }
    let body = json!({"refresh_token": host.tokens.marked_refresh(user)});
    let refresh = host.post(Service::Jwt, "/api/v1/jwt/refresh").json(&body);
    assert_eq!(refused(refresh.send().await), 401);
    let event =
        json!({"user_id": user.id, "email": user.email, "event_type": "login", "source": "jwt"});
    let sync = host.post(Service::Coordinator, "/api/v1/coordinator/sync-auth");
    assert_eq!(refused(sync.bearer(&token).json(&event).send().await), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_in_the_middle_keeps_users_logged_in() {
    let mut postgres = Postgres::start().await;
    full_table(&postgres).await;
    for id in 1..30 {
        let user = if id % 2 == 0 {
            User::new(id)
        } else {
            User::admin(id)
        };
        add(&postgres, &user).await;
    }
    let host = with_table(&postgres).start().await;
    assert_eq!(finding(&host, &User::new(1)).await, "200 admin");
    assert!(
        reports_for_others(&host, 3).await,
        "an admin whose state is known"
    );

    postgres.stop();
    for id in 10..20 {
        assert_eq!(finding(&host, &User::new(id)).await, "200 user degraded");
    }
    let answer = validate(&host, &User::new(20)).await;
    answer.expect_shape(200, shape::S);
    until_database(&host, "disconnected").await;
    assert_eq!(database(&host).await.1, "degraded");
    let detailed = host
        .get(Service::Session, "/api/v1/session/health")
        .send()
        .await;
    let body = detailed.expect(200).json();
    assert_eq!(
        (&body["status"], &body["degraded"]),
        (&json!("ok"), &json!(true))
    );
    // What was read a moment ago still counts, but not unmarked.
    assert_eq!(finding(&host, &User::new(1)).await, "200 admin degraded");
    // No admin rights for a claim that nobody can check.
    assert!(!reports_for_others(&host, 21).await);
    let token = host.tokens.access(&User::admin(23));
    let call = host
        .post(Service::Jwt, "/api/v1/jwt/validate")
        .bearer(&token);
    let body = call.send().await.expect(200).json();
    assert_eq!(
        (&body["valid"], &body["degraded"]),
        (&json!(true), &json!(true))
    );

    postgres.start_again().await;
    until_database(&host, "connected").await;
    assert_eq!(finding(&host, &User::new(25)).await, "200 admin");
    assert_eq!(finding(&host, &User::new(11)).await, "200 admin");
    assert_eq!(finding(&host, &User::new(40)).await, "200 user_not_found");
    assert!(reports_for_others(&host, 27).await);
}

/// Whether an admin may report what happened to another user's login.
async fn reports_for_others(host: &Host, admin: u32) -> bool {
    let token = host.tokens.access(&User::admin(admin));
    let event =
        json!({"user_id": 2, "email": "ada2@example.org", "event_type": "logout", "source": "api"});
    let call = host.post(Service::Coordinator, "/api/v1/coordinator/sync-auth");
    match call.bearer(&token).json(&event).send().await {
        answer if answer.status == 200 => true,
        answer => {
            let body = answer.expect(403).json();
            assert_eq!(body["error"], "access_forbidden");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_not_waited_for() {
    let postgres = Postgres::start().await;
    full_table(&postgres).await;
    for id in 1..40 {
        add(&postgres, &User::admin(id)).await;
    }
    let pool = PgBouncer::start(&postgres, 2).await;
    let direct = with_table(&postgres).start().await;
    let pooled = Host::builder()
        .env("DATABASE_URL", pool.url())
        .start()
        .await;
    for host in [&direct, &pooled] {
        assert_eq!(finding(host, &User::new(1)).await, "200 admin");
    }
    for round in 0..2 {
        if round == 0 {
            postgres.pause();
        } else {
            pool.pause();
        }
        let first = 10 + round * 10;
        let hung: &[&Host] = if round == 0 {
            &[&direct, &pooled]
        } else {
            &[&pooled]
        };
        for &host in hung {
            for id in first..first + 6 {
                assert_eq!(finding(host, &User::new(id)).await, "200 user degraded");
            }
            until_database(host, "disconnected").await;
        }
        // A host that starts now does not wait either.
        let late = Host::builder()
            .env("DATABASE_URL", pool.url())
            .start()
            .await;
        assert_eq!(database(&late).await.0, "disconnected");
        postgres.resume();
        pool.resume();
        for (host, id) in [(&direct, 7), (&pooled, 8), (&late, 9)] {
            until_database(host, "connected").await;
            assert_eq!(finding(host, &User::new(first + id)).await, "200 admin");
        }
    }
}

/// Two server connections for eight clients that ask at once, and a server that is
/// started anew behind the pool.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pool_that_hands_out_connections_by_the_transaction() {
    let mut postgres = Postgres::start().await;
    full_table(&postgres).await;
    postgres
        .sql("INSERT INTO users (id, email, role, is_active)
             SELECT n, 'ada' || n || '@example.org', 'admin', n % 2 = 1 FROM generate_series(1, 400) AS n")
        .await;
    let pool = PgBouncer::start(&postgres, 2).await;
    let mut hosts = Vec::new();
    for _ in 0..2 {
        hosts.push(
            Host::builder()
                .env("DATABASE_URL", pool.url())
                .start()
                .await,
        );
    }
    for restart in [false, true] {
        if restart {
            postgres.stop();
            postgres.start_again().await;
            for host in &hosts {
                until_database(host, "connected").await;
            }
        }
        for base in (1..=96).step_by(8) {
            let base = base + if restart { 200 } else { 0 };
            let calls = (base..base + 8).map(|id| {
                let host = &hosts[id as usize / 2 % 2];
                let token = host.tokens.access(&User::new(id));
                let call = host.get(Service::Session, VALIDATE).bearer(&token);
                (id, tokio::spawn(call.send()))
            });
            for (id, call) in calls.collect::<Vec<_>>() {
                let mut answer = call.await.expect("a call ends");
                // On a busy machine a look may run into its limit; any other fault counts.
                while answer.json()["response_time_ms"].as_f64() >= Some(1_000.0) {
                    let host = &hosts[id as usize / 2 % 2];
                    let token = host.tokens.access(&User::new(id));
                    let call = host.get(Service::Session, VALIDATE).bearer(&token);
                    answer = call.send().await;
                }
                let body = answer.json();
                let found = (answer.status, &body["role"], &body["degraded"]);
                let role = if id % 2 == 1 {
                    json!("admin")
                } else {
                    Value::Null
                };
                let status = if id % 2 == 1 { 200 } else { 401 };
                assert_eq!(found, (status, &role, &json!(false)), "user {id}: {body}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sslmode_is_obeyed() {
    let postgres = Postgres::start_with(Tls::Demanded).await;
    full_table(&postgres).await;
    add(&postgres, &User::admin(1)).await;
    let ca = postgres.ca_file();
    let ca = ca.display();
    let named = postgres.url().replace("127.0.0.1", "localhost");
    let rows = [
        ("", true),
        ("?sslmode=prefer", true),
        ("?sslmode=require", true),
        ("?sslmode=disable", false),
        // The system does not know the issuer.
        ("?sslmode=verify-full", false),
        // The certificate names localhost, not its address.
        (&*format!("?sslmode=verify-ca&sslrootcert={ca}"), true),
        (&*format!("?sslmode=require&sslrootcert={ca}"), true),
        (&*format!("?sslmode=verify-full&sslrootcert={ca}"), false),
    ]
    .map(|(parameters, good)| (format!("{}{parameters}", postgres.url()), good));
    let by_name = format!("{named}?sslmode=verify-full&sslrootcert={ca}");
    for (url, good) in rows.into_iter().chain([(by_name, true)]) {
        let host = Host::builder()
            .env("DATABASE_URL", &url)
            .env("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
            .env("SERVICE_NAME", Service::Session.name())
            .start()
            .await;
        let expected = if good {
            "200 admin"
        } else {
            "200 user degraded"
        };
        let shown = url.rsplit('@').next().unwrap_or_default();
        assert_eq!(
            finding(&host, &User::new(1)).await,
            expected,
            "{shown}: {}",
            host.log()
        );
        let word = if good { "connected" } else { "disconnected" };
        assert_eq!(database(&host).await.0, word, "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_not_done_without_where_it_is_required() {
    let postgres = Postgres::start().await;
    full_table(&postgres).await;
    add(&postgres, &User::admin(1)).await;
    for (mode, expected) in [("require", "200 user degraded"), ("prefer", "200 admin")] {
        let url = format!("{}?sslmode={mode}", postgres.url());
        let host = Host::builder().env("DATABASE_URL", url).start().await;
        assert_eq!(finding(&host, &User::new(1)).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_may_stand_in_a_file_and_is_never_shown() {
    let postgres = Postgres::start().await;
    full_table(&postgres).await;
    add(&postgres, &User::admin(1)).await;
    let file = postgres.password_file();
    let host = Host::builder()
        .env("DATABASE_URL", postgres.bare_url())
        .env("POSTGRES_PASSWORD_FILE", file.display().to_string())
        .env("LOG_LEVEL", "DEBUG")
        .start()
        .await;
    assert_eq!(finding(&host, &User::new(1)).await, "200 admin");
    assert!(!host.log().contains(PASSWORD));

    std::fs::write(&file, "wrong-password").unwrap();
    let host = Host::builder()
        .env("DATABASE_URL", postgres.bare_url())
        .env("POSTGRES_PASSWORD_FILE", file.display().to_string())
        .start()
        .await;
    assert_eq!(finding(&host, &User::new(1)).await, "200 user degraded");
    assert_eq!(database(&host).await.0, "disconnected");
    let log = host.log();
    assert!(log.contains("refuses the user or the password"), "{log}");
    assert!(!log.contains("wrong-password"));
}

/// A table that cannot be read, is not there, or changes while the host runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_changes() {
    let postgres = Postgres::start().await;
    let host = with_table(&postgres).start().await;
    assert_eq!(finding(&host, &User::new(1)).await, "200 user degraded");
    assert_eq!(database(&host).await.0, "disconnected");
    full_table(&postgres).await;
    for id in 1..10 {
        add(&postgres, &User::admin(id)).await;
    }
    until_database(&host, "connected").await;
    assert_eq!(finding(&host, &User::new(1)).await, "200 admin");
    postgres.sql("ALTER TABLE users DROP COLUMN status").await;
    assert_eq!(finding(&host, &User::new(2)).await, "200 admin");
    postgres
        .sql("ALTER TABLE users ALTER COLUMN role TYPE varchar(20)")
        .await;
    assert_eq!(finding(&host, &User::new(3)).await, "200 admin");
    postgres
        .sql("REVOKE SELECT (is_active) ON users FROM app_user")
        .await;
    assert_eq!(finding(&host, &User::new(4)).await, "200 user degraded");
    until_database(&host, "disconnected").await;
    postgres
        .sql("GRANT SELECT (is_active) ON users TO app_user")
        .await;
    until_database(&host, "connected").await;
    assert_eq!(finding(&host, &User::new(5)).await, "200 admin");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_claim_reaches_the_database_as_sql() {
    let postgres = Postgres::start().await;
    full_table(&postgres).await;
    add(&postgres, &User::admin(1)).await;
    let host = with_table(&postgres).start().await;
    let evil = "1; DROP TABLE users; --";
    for (sub, email) in [
        (json!(evil), "ada1@example.org"),
        (json!("1 OR 1=1"), "ada1@example.org"),
        (json!("1'--"), "ada1@example.org"),
        (json!("1"), "x' OR '1'='1@example.org"),
        (json!("1"), "ada1@example.org'; DROP TABLE users; --"),
        (json!("1"), "%@example.org"),
        (json!("2147483647"), "ada1@example.org"),
        (json!("2147483648"), "ada1@example.org"),
        (json!("4294967297"), "ada1@example.org"),
    ] {
        let token = host
            .tokens
            .sign(&json!({"sub": sub, "email": email, "role": "admin",
            "session_id": evil, "exp": now() + 600, "iat": now()}));
        let call = host.get(Service::Session, VALIDATE).bearer(&token);
        let body = call.send().await.expect(200).json();
        assert_eq!(body["valid"], false, "{sub} {email}: {body}");
    }
    assert_eq!(finding(&host, &User::new(1)).await, "200 admin");
    assert_eq!(
        postgres.ask("SELECT count(*) FROM users").await.as_deref(),
        Some("1")
    );
}

/// Hosts of single services, each with a store of its own, so that only asking helps.
#[tokio::test(flavor = "multi_thread")]
async fn services_without_a_database_ask_the_session_normalizer() {
    let mut postgres = Postgres::start().await;
    full_table(&postgres).await;
    for id in 1..20 {
        add(&postgres, &User::admin(id)).await;
    }
    postgres
        .sql(
            "UPDATE users SET is_active = false WHERE id = 2;
             UPDATE users SET email = 'eve@example.org' WHERE id = 3;",
        )
        .await;
    let mut normalizer = with_table(&postgres).start().await;
    let alone = |service: Service, url: String| {
        let key = normalizer.tokens.key().to_vec();
        Host::builder()
            .secret(lockgate_tests::host::Secret::Bytes(key))
            .env("SERVICE_NAME", service.name())
            .env("SESSION_VALIDATION_NORMALIZER_URL", url)
            // Not for this service.
            .env("DATABASE_URL", postgres.url())
    };
    let url = format!("http://127.0.0.1:{}", normalizer.port(Service::Session));
    let adapter = alone(Service::Jwt, url.clone()).start_unready().await;
    let coordinator = alone(Service::Coordinator, url).start_unready().await;
    for (id, expected) in [
        (1, "admin"),
        (2, "user_disabled"),
        (3, "consistency_mismatch"),
        (30, "user_not_found"),
    ] {
        for _ in 0..2 {
            assert_eq!(
                verified(&adapter, &User::new(id)).await,
                expected,
                "user {id}"
            );
        }
    }
    // New tokens too, for which the refresh token itself could not be asked with.
    let refresh = |user: User| {
        let body = json!({"refresh_token": adapter.tokens.marked_refresh(&user)});
        adapter
            .post(Service::Jwt, "/api/v1/jwt/refresh")
            .json(&body)
            .send()
    };
    let answer = refresh(User::new(5)).await.expect(200).json();
    assert_eq!(
        (&answer["role"], &answer["degraded"]),
        (&json!("admin"), &json!(false))
    );
    let access = answer["access_token"].as_str().unwrap();
    assert_eq!(claims(access)["role"], "admin");
    for (id, error) in [
        (2, "user_disabled"),
        (3, "consistency_mismatch"),
        (31, "user_not_found"),
    ] {
        assert_eq!(
            refresh(User::new(id)).await.expect(401).json()["error"],
            error
        );
    }
    assert!(reports_for_others(&coordinator, 6).await);

    // The database away, then the normalizer.
    postgres.stop();
    until_database(&normalizer, "disconnected").await;
    assert_eq!(verified(&adapter, &User::new(7)).await, "user degraded");
    assert!(!reports_for_others(&coordinator, 8).await);
    normalizer.kill().await;
    for id in 9..15 {
        assert_eq!(verified(&adapter, &User::new(id)).await, "user degraded");
    }
    assert_eq!(
        verified(&adapter, &User::new(2)).await,
        "user_disabled",
        "known, so refused"
    );
    postgres.start_again().await;
    normalizer.start_again().await;
    eventually("the normalizer is asked again", async || {
        match verified(&adapter, &User::new(16)).await.as_str() {
            "admin" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
}

/// The finding of port 8025.
async fn verified(host: &Host, user: &User) -> String {
    let token = host.tokens.access(user);
    let call = host
        .post(Service::Jwt, "/api/v1/jwt/validate")
        .bearer(&token);
    let body = call.send().await.expect(200).json();
    let word = body["error"]
        .as_str()
        .or(body["role"].as_str())
        .unwrap_or("?");
    let degraded = if body["degraded"] == true {
        " degraded"
    } else {
        ""
    };
    format!("{word}{degraded}")
}

/// Where no database is configured nothing is away, in one process or in two; and
/// nobody has admin rights.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_nothing_is_degraded() {
    let mut normalizer = Host::start().await;
    assert_eq!(finding(&normalizer, &User::admin(1)).await, "200 admin");
    assert_eq!(verified(&normalizer, &User::admin(1)).await, "admin");
    assert_eq!(
        database(&normalizer).await,
        ("not_configured".to_owned(), json!("healthy"))
    );
    assert!(!reports_for_others(&normalizer, 1).await);
    let url = format!("http://127.0.0.1:{}", normalizer.port(Service::Session));
    let adapter = Host::builder()
        .secret(lockgate_tests::host::Secret::Bytes(
            normalizer.tokens.key().to_vec(),
        ))
        .env("SERVICE_NAME", Service::Jwt.name())
        .env("SESSION_VALIDATION_NORMALIZER_URL", url)
        .start_unready()
        .await;
    assert_eq!(verified(&adapter, &User::admin(1)).await, "admin");
    normalizer.kill().await;
    assert_eq!(verified(&adapter, &User::admin(2)).await, "admin");
}

/// A peer's question: the table is read, but not a key is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_asks_the_table_without_a_trace() {
    let (postgres, redis) = (Postgres::start().await, RedisServer::start().await);
    full_table(&postgres).await;
    add(&postgres, &User::admin(1)).await;
    let host = with_table(&postgres).redis(&redis).start().await;
    let token = host.tokens.access(&User::new(1));
    let ask = || host.get(Service::Session, VALIDATE).bearer(&token);
    let answer = ask().header("x-lockgate-peer", "1").send().await;
    assert_eq!(answer.header("x-lockgate-user"), "active");
    answer.expect_shape(200, shape::S);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(redis.keys().await, Vec::<String>::new());
    // What it learnt is written with the next question of a client.
    let answer = ask().send().await.expect(200);
    assert_eq!(
        (answer.header("x-lockgate-user"), &answer.json()["role"]),
        ("", &json!("admin"))
    );
    assert!(redis.get("lockgate:user:1").await.is_some());
}
