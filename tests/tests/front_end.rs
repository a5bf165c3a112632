//! The existing front end, as a double in a real browser, against the running
//! services behind one origin: it must keep people logged in, show faults, and let
//! nobody in who is not. What no right service answers is put in its place, to show
//! that the double reads answers as the front end does, mistakes included.

use lockgate_tests::browser::{self, Act, Browser, Played, Reply, Site};
use lockgate_tests::tokens::{claims, set, without};
use lockgate_tests::wait::eventually;
use lockgate_tests::{Host, HostBuilder, RedisServer, Service, Tokens, User, now};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const HEALTH: &str = "/api/v1/health/integration";
const VALIDATE: &str = "/api/v1/session/validate";
const MAIN: &str = "/api/v1/auth/validate";
const GREEN: [&str; 5] = ["green"; 5];
const GREY: [&str; 5] = ["grey"; 5];

/// As it is deployed: behind a proxy on this machine that replaces the forwarding headers.
fn behind_a_proxy() -> HostBuilder {
    Host::builder().env("TRUSTED_PROXIES", "127.0.0.1/32")
}

/// Accepts connections like a chat service that is there.
async fn chat_service(host: &Host) {
    let listener = TcpListener::bind(("127.0.0.1", host.spare_port(1)))
        .await
        .unwrap();
    tokio::spawn(async move {
        loop {
            let _ = listener.accept().await;
        }
    });
}

/// Waits until integration health says of Redis, and so of everything, what is so.
async fn settled(host: &Host, redis_up: bool) {
    eventually("integration health has noticed", async || {
        let call = host.get(Service::Coordinator, HEALTH);
        let body = call.send().await.expect(200).json();
        let word = if redis_up { "healthy" } else { "degraded" };
        let all = Service::ALL.iter().all(|s| body[s.key()] == word);
        let ok = (body["redis_connection"] == "ok") == redis_up;
        if all && ok { Ok(()) } else { Err(body) }
    })
    .await;
}

/// The page shows a user's home, whom the token names, and got it from the session check.
#[track_caller]
fn logged_in(played: &Played, user: &User, what: &str) {
    let state = &played.report["state"];
    assert_eq!(
        state["user"],
        json!({"id": user.id, "email": user.email, "role": user.role}),
        "{what}: {state}"
    );
    let seen = (&state["screen"], &state["authenticated"], &state["by"]);
    assert_eq!(
        seen,
        (&json!("home"), &json!(true), &json!("session")),
        "{what}: {state}"
    );
    let shown = &played.report["shown"];
    assert_eq!(
        (&shown["screen"], &shown["user"]),
        (&json!("home"), &json!(user.email)),
        "{what}"
    );
}

#[track_caller]
fn logged_out(played: &Played, why: &str, what: &str) {
    let state = &played.report["state"];
    let seen = (&state["screen"], &state["authenticated"], &state["user"]);
    assert_eq!(
        seen,
        (&json!("login"), &json!(false), &Value::Null),
        "{what}: {state}"
    );
    assert_eq!(state["error"], why, "{what}: {state}");
}

/// Five words of the services, as integration health gives them.
fn words(words: [&str; 5]) -> Value {
    let pairs = Service::ALL
        .iter()
        .zip(words)
        .map(|(s, word)| (s.key(), json!(word)));
    Value::Object(pairs.collect())
}

struct HealthRow {
    name: &'static str,
    reply: Reply,
    degraded: bool,
    lights: [&'static str; 5],
}

/// What the front end makes of each answer of `health/integration`.
fn health_rows() -> Vec<HealthRow> {
    let row = |name, reply, degraded, lights| HealthRow {
        name,
        reply,
        degraded,
        lights,
    };
    let said =
        |name, body: Value, degraded, lights| row(name, Reply::json(200, &body), degraded, lights);
    let one = |word| words(["healthy", word, "healthy", "healthy", "healthy"]);
    let light = |colour| ["green", colour, "green", "green", "green"];
    vec![
        said("five healthy", words(["healthy"; 5]), false, GREEN),
        said(
            "the main API's own answer",
            json!({"status": "ok", "redis_connection": "ok"}),
            false,
            GREY,
        ),
        said("unhealthy", one("unhealthy"), false, light("grey")),
        said(
            "words that hide the fault",
            words(["unhealthy", "failed", "unavailable", "offline", "HEALTHY"]),
            false,
            GREY,
        ),
        said(
            "objects",
            json!({"jwt_token_adapter": {"status": "error"},
                "session_validation_normalizer": ["degraded"], "fallback_session_provider": null,
                "websocket_auth_gateway": 1, "service_boundary_coordinator": true}),
            false,
            GREY,
        ),
        said(
            "nested below services",
            json!({"services": words(["error"; 5]), "status": "degraded"}),
            false,
            GREY,
        ),
        said("unknown", words(["unknown"; 5]), false, GREY),
        said("one degraded", one("degraded"), true, light("orange")),
        said("one circuit_open", one("circuit_open"), true, light("red")),
        said("one error", one("error"), true, light("grey")),
        row("503", Reply::json(503, &words(["healthy"; 5])), true, GREY),
        row(
            "a page",
            Reply::Answer(200, "text/html", "<p>healthy</p>".into()),
            true,
            GREY,
        ),
        row(
            "broken JSON",
            Reply::Answer(200, "application/json", "{".into()),
            true,
            GREY,
        ),
        row(
            "204",
            Reply::Answer(204, "application/json", String::new()),
            true,
            GREY,
        ),
        row("a connection cut off", Reply::Cut, true, GREY),
        row("no answer", Reply::Silence, true, GREY),
    ]
}

async fn health_table(site: &Site, browser: &mut Browser, mint: &Tokens, user: &User) {
    for row in health_rows() {
        site.replace(HEALTH, row.reply);
        let act = Act::load().cookie("access_token", &mint.access(user));
        let played = browser.play(site, act).await;
        logged_in(&played, user, row.name);
        assert_eq!(played.state("degraded"), row.degraded, "{}", row.name);
        assert_eq!(
            played.report["shown"]["degraded"], row.degraded,
            "{}",
            row.name
        );
        assert_eq!(
            played.report["shown"]["lights"],
            json!(row.lights),
            "{}",
            row.name
        );
        let mut paths = played.paths();
        // A browser asks again when a connection that it has kept is cut off.
        paths.dedup();
        assert_eq!(paths, [HEALTH, VALIDATE], "{}", row.name);
    }
    site.restore();
}

/// Where the front end's double says that a login came from, or why there is none.
enum Came {
    By(&'static str),
    Not(&'static str),
}

struct SessionRow {
    name: &'static str,
    reply: Reply,
    stored: Option<String>,
    came: Came,
    asks_main: bool,
}

/// What the front end makes of answers of `session/validate` that are none of ours.
fn session_rows(token: &str) -> Vec<SessionRow> {
    const REFUSED: &str = "main API: status 401";
    let row = |name, reply, came, asks_main| SessionRow {
        name,
        reply,
        stored: None,
        came,
        asks_main,
    };
    let said =
        |name, body: Value, came, asks_main| row(name, Reply::json(200, &body), came, asks_main);
    let nested = json!({"id": 14, "email": "a@b.c", "role": "user"});
    let mut rows = vec![
        said("false", json!({"valid": false}), Came::Not(REFUSED), true),
        said("no such field", json!({}), Came::Not(REFUSED), true),
        said("null", json!({"valid": null}), Came::Not(REFUSED), true),
        said("empty text", json!({"valid": ""}), Came::Not(REFUSED), true),
        said(
            "text false",
            json!({"valid": "false"}),
            Came::By("session"),
            false,
        ),
        said(
            "text no",
            json!({"valid": "no"}),
            Came::By("session"),
            false,
        ),
        said(
            "user fields nested",
            json!({"valid": true, "user": nested}),
            Came::By("session"),
            false,
        ),
        row(
            "204",
            Reply::Answer(204, "application/json", String::new()),
            Came::Not(REFUSED),
            true,
        ),
        row(
            "200 without JSON",
            Reply::Answer(200, "text/html", "<p>valid</p>".into()),
            Came::Not(REFUSED),
            true,
        ),
        row("cut off", Reply::Cut, Came::Not("Failed to fetch"), false),
        row("no answer", Reply::Silence, Came::Not("aborted"), false),
    ];
    for (status, name, why) in [
        (400, "400", "status 400"),
        (401, "401", "status 401"),
        (405, "405", "status 405"),
        (429, "429", "status 429"),
        (500, "500", "status 500"),
        (503, "503", "status 503"),
    ] {
        // No second way is tried, whatever the answer says and the browser holds.
        let mut row = row(
            name,
            Reply::json(status, &json!({"valid": true})),
            Came::Not(why),
            false,
        );
        row.stored = Some(token.to_owned());
        rows.push(row);
    }
    rows
}

async fn session_table(site: &Site, browser: &mut Browser, mint: &Tokens, user: &User) {
    let token = mint.access(user);
    for row in session_rows(&token) {
        site.replace(VALIDATE, row.reply);
        let mut act = Act::load().cookie("access_token", &token);
        if let Some(stored) = &row.stored {
            act = act.stored(stored);
        }
        let played = browser.play(site, act).await;
        match row.came {
            Came::By(way) => {
                assert_eq!(played.state("by"), way, "{}", row.name);
                assert_eq!(
                    played.state("user"),
                    &json!({}),
                    "{}: data is lost",
                    row.name
                );
            }
            Came::Not(why) => logged_out(&played, why, row.name),
        }
        let paths: &[&str] = match row.asks_main {
            true => &[HEALTH, VALIDATE, MAIN],
            false => &[HEALTH, VALIDATE],
        };
        let mut asked = played.paths();
        asked.dedup();
        assert_eq!(asked, paths, "{}", row.name);
    }
    site.restore();
}

/// Logins as the services judge them, with Redis and without.
async fn real_answers(host: &Host, site: &Site, browser: &mut Browser, redis_up: bool) {
    let mint = &host.tokens;
    let user = User::new(if redis_up { 14 } else { 15 });
    let good = [
        ("access_token", mint.access(&user)),
        ("access_token", mint.enhanced(&user)),
        ("access_token", mint.scoped(&user)),
        ("auth_token", mint.cookie_variant(&user)),
        // Its own check in the browser would refuse this one: it has no `email`.
        ("access_token", mint.legacy(&user)),
    ];
    for (name, token) in good {
        let played = browser.play(site, Act::load().cookie(name, &token)).await;
        logged_in(&played, &user, name);
        assert_eq!(played.paths(), [HEALTH, VALIDATE]);
        assert_eq!(
            played.report["failing"],
            json!([]),
            "no breaker counts anything"
        );
        assert_eq!(played.state("degraded"), !redis_up);
        let lights = [if redis_up { "green" } else { "orange" }; 5];
        assert_eq!(played.report["shown"]["lights"], json!(lights));
    }

    let stranger = Tokens::new(b"another key of at least thirty-two bytes");
    let bad = [
        ("no cookie", None),
        ("expired", Some(mint.expired(&user))),
        ("seven days", Some(mint.refresh(&user))),
        ("wrong key", Some(stranger.access(&user))),
        ("no token", Some("garbage".to_owned())),
    ];
    for (name, token) in bad {
        let act = token
            .iter()
            .fold(Act::load(), |act, token| act.cookie("access_token", token));
        let played = browser.play(site, act).await;
        logged_out(&played, "main API: status 401", name);
        assert_eq!(played.paths(), [HEALTH, VALIDATE, MAIN], "{name}");
        assert_eq!(played.report["failing"], json!(["main"]), "{name}");
    }
    main_api_knows(site, browser).await;
    stored_tokens(host, site, browser).await;
}

/// What the main API says counts when the session check knows nobody.
async fn main_api_knows(site: &Site, browser: &mut Browser) {
    let user = json!({"id": 3, "email": "main@example.org", "role": "user"});
    site.replace(MAIN, Reply::json(200, &user));
    let played = browser.play(site, Act::load()).await;
    assert_eq!(
        (played.state("by"), played.state("user")),
        (&json!("main API"), &user)
    );
    site.restore();
}

/// After `valid:false` the page looks into its own storage, and checks no signature.
async fn stored_tokens(host: &Host, site: &Site, browser: &mut Browser) {
    let user = User::new(16);
    let forger = Tokens::new(b"a key that the forger has made up, of 32 bytes");
    let unified = Tokens::unified_claims(&user, 3_600);
    let mut odd = unified.clone();
    set(&mut odd, "x", json!("~~~???>>>~~~"));
    let odd = forger.sign(&odd);
    assert!(odd.split('.').nth(1).unwrap().contains(['-', '_']));
    let table = [
        ("forged", forger.access(&user), true, true),
        ("expired", host.tokens.expired(&user), false, true),
        (
            "without a session",
            host.tokens.enhanced(&user),
            false,
            true,
        ),
        (
            "legacy, without an e-mail",
            host.tokens.legacy(&user),
            false,
            true,
        ),
        (
            "without a role",
            forger.sign(&without(unified, "role")),
            false,
            true,
        ),
        ("no token", "garbage".to_owned(), false, false),
        ("with a character of base64url", odd, false, false),
    ];
    for (name, token, believed, kept) in table {
        let played = browser.play(site, Act::load().stored(&token)).await;
        if believed {
            assert_eq!(played.state("by"), "stored token", "{name}");
            assert_eq!(played.state("user"), &Value::Null, "{name}");
            assert_eq!(played.paths(), [HEALTH, VALIDATE], "{name}");
            assert_eq!(
                played.report["kept"], false,
                "{name}: asked again at the next load"
            );
        } else {
            logged_out(&played, "main API: status 401", name);
        }
        let left = played.report["stored_token"].is_string();
        assert_eq!(left, kept, "{name}: is it thrown away?");
    }
    // What this host issues can be read there, whatever the e-mail holds.
    for email in [
        "ü?>~\u{7f}@example.org",
        "ÿÿÿ@example.org",
        "a~~?@example.org",
    ] {
        let mut user = user.clone();
        user.email = email.into();
        let call = host.post(Service::Jwt, "/api/v1/jwt/refresh");
        let refresh = host.tokens.marked_refresh(&user);
        let call = call.json(&json!({"refresh_token": refresh})).send().await;
        let issued = call.expect(200).json()["access_token"]
            .as_str()
            .unwrap()
            .to_owned();
        let played = browser.play(site, Act::load().stored(&issued)).await;
        assert_eq!(played.state("by"), "stored token", "{email}");
    }
}

/// Every row of both tables, and what the services themselves answer.
#[tokio::test(flavor = "multi_thread")]
async fn every_answer_with_redis_and_without() {
    let mut redis = RedisServer::start().await;
    let host = behind_a_proxy().redis(&redis).start().await;
    chat_service(&host).await;
    settled(&host, true).await;
    let (site, mut browser) = browser::open(&host).await;
    let (mint, user) = (&host.tokens, User::new(13));
    real_answers(&host, &site, &mut browser, true).await;
    health_table(&site, &mut browser, mint, &user).await;
    session_table(&site, &mut browser, mint, &user).await;

    redis.kill();
    settled(&host, false).await;
    real_answers(&host, &site, &mut browser, false).await;
    health_table(&site, &mut browser, mint, &user).await;
    session_table(&site, &mut browser, mint, &user).await;

    redis.start_again().await;
    settled(&host, true).await;
    let act = Act::load().cookie("access_token", &mint.access(&user));
    let played = browser.play(&site, act).await;
    logged_in(&played, &user, "Redis is back");
    assert_eq!(played.state("degraded"), false);
}

/// What the page sends, in which order, and what comes back to it.
#[tokio::test(flavor = "multi_thread")]
async fn calls_are_made_in_order_and_as_they_are() {
    let host = behind_a_proxy().start().await;
    let (site, mut browser) = browser::open(&host).await;
    let token = host.tokens.access(&User::new(14));
    // A stored token must not get into any call.
    let act = Act::load().cookie("access_token", &token).stored(&token);
    let played = browser.play(&site, act).await;
    logged_in(&played, &User::new(14), "a load");
    let [health, validate] = &played.seen[..] else {
        panic!("{:?}", played.paths());
    };
    assert!(
        health.ended.is_some_and(|end| end < validate.begun),
        "health is awaited: {health:?} {validate:?}"
    );
    for seen in [health, validate] {
        assert_eq!(seen.method, "GET");
        assert!(seen.body.is_empty());
        assert!(!seen.headers.contains_key("authorization"));
        assert!(!seen.headers.contains_key("content-length"));
        assert_eq!(seen.headers["cache-control"], "no-cache");
        assert_eq!(seen.headers["cookie"], format!("access_token={token}"));
        assert_eq!(seen.headers["sec-fetch-site"], "same-origin");
    }
    assert!(!health.headers.contains_key("x-integration-layer"));
    assert_eq!(validate.headers["content-type"], "application/json");
    assert_eq!(validate.headers["x-integration-layer"], "true");
    let (status, headers) = validate.answer.as_ref().unwrap();
    assert_eq!(*status, 200);
    for (name, value) in [
        ("x-integration-layer", "true"),
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("x-session-valid", "true"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }

    // Within ten minutes of a success a reload asks nobody; then it asks again.
    let again = browser.play(&site, Act::reload()).await;
    assert_eq!(again.state("by"), "cache");
    assert_eq!(again.paths(), Vec::<&str>::new());
    assert_eq!(again.state("user"), played.state("user"));
    let later = browser.play(&site, Act::reload().after(601)).await;
    logged_in(&later, &User::new(14), "after ten minutes");
    assert_eq!(later.paths(), [HEALTH, VALIDATE]);
}

/// The most that one page asks, and that it never has to give up on these services.
#[tokio::test(flavor = "multi_thread")]
async fn five_calls_of_a_page_meet_no_fault_whatever_happens_to_redis() {
    let mut redis = RedisServer::start().await;
    let host = behind_a_proxy().redis(&redis).start().await;
    let (site, mut browser) = browser::open(&host).await;
    let user = User::new(14);
    let seven = |token: &str| {
        (0..6).fold(Act::load().cookie("access_token", token), |act, _| {
            act.then("ahead", &[json!(61)])
                .then("health", &[])
                .then("validate", &[])
        })
    };
    let asked = |played: &Played, path| played.paths().iter().filter(|p| **p == path).count();
    for what in ["up", "killed", "back", "paused"] {
        match what {
            "killed" => redis.kill(),
            "back" => redis.start_again().await,
            "paused" => redis.pause(),
            _ => {}
        }
        let played = browser.play(&site, seven(&host.tokens.access(&user))).await;
        assert_eq!(asked(&played, HEALTH), 5, "{what}");
        assert_eq!(asked(&played, VALIDATE), 5, "{what}");
        for seen in &played.seen {
            let status = seen.answer.as_ref().map(|(status, _)| *status);
            assert_eq!(status, Some(200), "{what}: {}", seen.path);
        }
        // The sixth fails in the browser, and the page is dead until a reload.
        logged_out(&played, "call limit", what);
    }
    redis.resume();

    // Calls too close together are not made, and a breaker stops them after three faults.
    let token = host.tokens.access(&user);
    let close = Act::load()
        .cookie("access_token", &token)
        .then("validate", &[]);
    let played = browser.play(&site, close).await;
    assert_eq!(played.paths(), [HEALTH, VALIDATE]);
    logged_in(&played, &user, "the answer before counts");
    site.replace(VALIDATE, Reply::json(500, &json!({})));
    let faulty = (0..3).fold(Act::load().cookie("access_token", &token), |act, _| {
        act.then("ahead", &[json!(6)]).then("validate", &[])
    });
    let played = browser.play(&site, faulty.clone()).await;
    assert_eq!(asked(&played, VALIDATE), 3);
    logged_out(&played, "circuit breaker", "three faults in a row");
    let longer = faulty.then("ahead", &[json!(31)]).then("validate", &[]);
    let played = browser.play(&site, longer).await;
    assert_eq!(
        asked(&played, VALIDATE),
        4,
        "after half a minute it asks again"
    );
}

/// Login, reload, logout: with the browser's own cookies.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_lasts_until_the_logout() {
    let redis = RedisServer::start().await;
    let host = behind_a_proxy().redis(&redis).start().await;
    let (site, mut browser) = browser::open(&host).await;
    let user = User::new(14);
    let (access, refresh) = (host.tokens.access(&user), host.tokens.refresh(&user));
    site.login_gives(&[("access_token", &access), ("refresh_token", &refresh)]);

    let played = browser
        .play(
            &site,
            Act::load().then("ahead", &[json!(61)]).then("login", &[]),
        )
        .await;
    logged_out(&played, "main API: status 401", "before the reload");
    assert_eq!(
        played.paths(),
        [HEALTH, VALIDATE, MAIN, HEALTH, "/auth/login"],
        "health is awaited again before a login"
    );
    let played = browser.play(&site, Act::reload()).await;
    logged_in(&played, &user, "after the reload");
    assert_eq!(
        played.report["script_cookies"], "",
        "scripts see no login cookie"
    );

    // The refresh of these services, by cookie, from the page's own origin.
    let refresh = Act::reload().then(
        "fetch",
        &[json!("/api/v1/jwt/refresh"), json!({"method": "POST"})],
    );
    let played = browser.play(&site, refresh).await;
    assert_eq!(played.report["results"][1], 200, "{:?}", played.seen);
    let script = played.report["script_cookies"].as_str().unwrap();
    assert!(
        script.starts_with("csrf_token=") && !script.contains(';'),
        "{script}"
    );
    let played = browser.play(&site, Act::reload().after(601)).await;
    logged_in(&played, &user, "with the new cookies");
    let cookies = played.seen[1].headers["cookie"]
        .to_str()
        .unwrap()
        .to_owned();
    let renewed = cookies
        .split("; ")
        .find_map(|pair| pair.strip_prefix("access_token="))
        .unwrap();
    assert_ne!(renewed, access);
    assert_eq!(claims(renewed)["token_use"], "access");

    let played = browser.play(&site, Act::reload().then("logout", &[])).await;
    logged_out(&played, "logout: status 204", "the logout");
    assert_eq!(played.report["script_cookies"], "");
    let played = browser.play(&site, Act::reload()).await;
    logged_out(&played, "main API: status 401", "a reload after the logout");
    assert!(
        !played.seen[1].headers.contains_key("cookie"),
        "they are gone"
    );
    // Whoever kept the cookies is thrown out at once, and no second way is tried.
    for token in [access.as_str(), renewed] {
        let act = Act::load().cookie("access_token", token).stored(token);
        let played = browser.play(&site, act).await;
        logged_out(&played, "status 401", "a revoked token");
        assert_eq!(played.paths(), [HEALTH, VALIDATE]);
    }
}

/// Without a key or a component the session check is 503, which logs people out;
/// integration health says so.
#[tokio::test(flavor = "multi_thread")]
async fn services_that_cannot_serve() {
    use lockgate_tests::host::Secret;
    let host = behind_a_proxy()
        .secret(Secret::Missing)
        .start_unready()
        .await;
    let (site, mut browser) = browser::open(&host).await;
    let token = host.tokens.access(&User::new(14));
    let act = || Act::load().cookie("access_token", &token).stored(&token);
    let played = browser.play(&site, act()).await;
    logged_out(&played, "status 503", "no key");
    assert_eq!(played.paths(), [HEALTH, VALIDATE]);
    drop((site, browser, host));

    let host = behind_a_proxy()
        .without_plugin(Service::Coordinator)
        .start_unready()
        .await;
    let (site, mut browser) = browser::open(&host).await;
    eventually("the session check serves", async || {
        let call = host.get(Service::Session, "/health").send().await;
        if call.status == 200 {
            Ok(())
        } else {
            Err(call.text())
        }
    })
    .await;
    let act = Act::load().cookie("access_token", &host.tokens.access(&User::new(14)));
    let played = browser.play(&site, act).await;
    let health = played.seen[0].answer.as_ref().map(|(status, _)| *status);
    assert_eq!(health, Some(503), "there is no coordinator");
    assert_eq!(played.state("degraded"), true);
    assert_eq!(played.state("authenticated"), true, "the login is kept");
}

/// A page of another origin in the same browser, with the user's cookies: a browser
/// sends them to another port of the same host, so only the checks of the services help.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_changes_nothing() {
    let host = behind_a_proxy().start().await;
    let (site, mut browser) = browser::open(&host).await;
    let foreign = Site::start(&host).await;
    let user = User::new(14);
    let access = host.tokens.access(&user);
    let refresh = host.tokens.marked_refresh(&user);
    let event = json!({"user_id": 14, "email": user.email, "event_type": "logout",
        "source": "frontend"});
    let calls = [
        ("/api/v1/auth/logout", ""),
        ("/api/v1/jwt/refresh", ""),
        ("/api/v1/fallback/create", "{}"),
        ("/api/v1/fallback/emergency-auth", "{}"),
        ("/api/v1/ws-auth/authorize", "{}"),
        ("/api/v1/coordinator/sync-auth", &event.to_string()),
    ];
    let cookies = |act: Act| {
        act.cookie("access_token", &access)
            .cookie("refresh_token", &refresh)
            .cookie("csrf_token", "known")
    };
    let act = calls
        .iter()
        .fold(cookies(Act::idle()), |act, (path, body)| {
            // What a form or a simple request can send (W3C Fetch): no preflight is asked for.
            let init = json!({"method": "POST", "mode": "no-cors", "credentials": "include",
            "headers": {"content-type": "text/plain"}, "body": body});
            act.then("fetch", &[json!(foreign.url(path)), init])
        });
    browser.play(&site, act).await;
    let seen = foreign.seen();
    assert_eq!(seen.len(), calls.len());
    for seen in seen {
        assert!(
            seen.headers["cookie"].to_str().unwrap().contains(&access),
            "the browser sends them along: {seen:?}"
        );
        assert_eq!(seen.headers["sec-fetch-site"], "same-site");
        let (status, headers) = seen.answer.unwrap();
        assert_eq!(status, 403, "{}", seen.path);
        assert!(!headers.contains_key("set-cookie"), "{}", seen.path);
    }
    // What is not simple needs a preflight, and no service gives leave.
    let header = json!({"method": "POST", "credentials": "include",
        "headers": {"x-csrf-token": "known", "content-type": "application/json"}, "body": "{}"});
    let read = json!({"credentials": "include"});
    let act = cookies(Act::idle())
        .then(
            "fetch",
            &[json!(foreign.url("/api/v1/coordinator/sync-auth")), header],
        )
        .then("fetch", &[json!(foreign.url(VALIDATE)), read]);
    foreign.forget();
    let played = browser.play(&site, act).await;
    for result in played.report["results"].as_array().unwrap() {
        assert_eq!(
            result, "TypeError: Failed to fetch",
            "the page may not read it"
        );
    }
    let methods: Vec<_> = foreign.seen().iter().map(|s| s.method.clone()).collect();
    assert_eq!(methods, ["OPTIONS", "GET"], "the POST was never sent");

    let played = browser.play(&site, cookies(Act::load())).await;
    logged_in(&played, &user, "nothing has happened to the login");
    assert!(claims(&refresh)["exp"].as_i64() > Some(now()));
}
