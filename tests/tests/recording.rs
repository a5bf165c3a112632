//! Recorded calls: what is kept of them, that no secret is, and that they can be made again,
//! with the component that failed and with a mended one.

use std::path::{Path, PathBuf};

use lockgate_tests::component::{self, Probe};
use lockgate_tests::wait::eventually;
use lockgate_tests::{Host, RedisServer, Service, User, place};
use serde_json::{Value, json};

const HERE: Service = Service::Coordinator;

/// A host whose coordinator is the probe with this conduct, and records.
async fn host(conduct: &str, recording: &str, redis: Option<&RedisServer>) -> Host {
    let folder = component::folder();
    let file = Probe::version(1).handle(conduct).file(folder.path());
    let mut host = Host::builder().plugin(HERE, file).config(config(recording));
    if let Some(redis) = redis {
        host = host.redis(redis);
    }
    host.start().await
}

fn config(recording: &str) -> String {
    let name = HERE.name();
    format!(
        "[services.{name}.recording]\n{recording}\n[services.{name}.env]\n\
         API_KEY = \"sesame-open-4711\"\nGREETING = \"hello\"\n"
    )
}

fn traces(host: &Host) -> Vec<PathBuf> {
    let folder = host.data_dir().join("traces").join(HERE.name());
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of traces")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.'))
        .collect();
    found.sort();
    found
}

/// Waits until so many traces are there.
async fn kept(host: &Host, number: usize) -> Vec<PathBuf> {
    eventually(&format!("{number} traces"), async || {
        let found = traces(host);
        if found.len() == number {
            Ok(found)
        } else {
            Err(found)
        }
    })
    .await
}

/// Runs `lockgate replay`; what it printed.
fn replay(trace: &Path, plugin: &Path, more: &[&str], success: bool) -> String {
    let [trace, plugin] = [trace, plugin].map(|path| path.to_str().expect("plain text"));
    let words = [&["replay", trace, "--plugin", plugin], more].concat();
    place::run(&words, success)
}

fn read(trace: &Path) -> Value {
    let text = std::fs::read_to_string(trace).expect("read a trace");
    serde_json::from_str(&text).expect("a trace is JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_500_is_made_again_and_a_mended_component_answers() {
    let redis = RedisServer::start().await;
    let host = host("stumbles", "when = \"failure\"", Some(&redis)).await;
    let admin = host.tokens.access(&User::admin(7));
    let user = host.tokens.access(&User::new(8));
    for token in [&user, &user] {
        host.get(HERE, "/account")
            .bearer(token)
            .send()
            .await
            .expect(200);
    }
    host.get(HERE, "/account")
        .bearer(&admin)
        .send()
        .await
        .expect(500);
    let found = kept(&host, 1).await;
    let trace = read(&found[0]);
    assert_eq!(trace["outcome"]["answer"]["status"], 500);
    assert_eq!(trace["redacted"], true);
    let functions: Vec<&str> = trace["calls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|call| call["function"].as_str().unwrap())
        .filter(|name| !name.starts_with("random") && !name.starts_with("clock"))
        .collect();
    assert_eq!(functions, ["jwt.verify", "counters.add", "redis.get"]);

    let folder = component::folder();
    let broken = Probe::version(1).handle("stumbles").file(folder.path());
    let said = replay(&found[0], &broken, &[], true);
    assert!(said.contains("now:      an answer 500"), "{said}");
    assert!(
        said.contains("equal: ") && said.contains("byte for byte"),
        "{said}"
    );

    // The mended one goes on where the other stopped.
    let mended = Probe::version(2).file(folder.path());
    let said = replay(&found[0], &mended, &[], false);
    assert!(said.contains("now:      an answer 200"), "{said}");
    assert!(said.contains("which was not recorded"), "{said}");
    assert!(said.contains("status: recorded was 500, now 200"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mended_component_answers_right_from_what_was_recorded() {
    let host = host("answers_", "when = \"always\"", None).await;
    let token = host.tokens.access(&User::admin(7));
    let answer = host
        .get(HERE, "/account")
        .bearer(&token)
        .send()
        .await
        .expect(200);
    assert_eq!(answer.json()["role"], "admin");
    let found = kept(&host, 1).await;
    let folder = component::folder();
    let same = Probe::version(1).file(folder.path());
    let said = replay(&found[0], &same, &[], true);
    assert!(said.contains("an answer 200"), "{said}");
    // The same calls, another answer.
    let differs = Probe::version(1).handle("differs_").file(folder.path());
    let said = replay(&found[0], &differs, &[], false);
    assert!(said.contains("host calls are equal"), "{said}");
    assert!(said.contains("body: from character"), "{said}");
    // It fails before it has asked everything.
    let stumbles = Probe::version(1).handle("stumbles").file(folder.path());
    let said = replay(&found[0], &stumbles, &[], false);
    assert!(said.contains("it made none"), "{said}");
    assert!(said.contains("recorded was 200, now 500"), "{said}");
    // It falls.
    let falls = Probe::version(1).handle("falls___").file(folder.path());
    let said = replay(&found[0], &falls, &[], false);
    assert!(said.contains("no answer (the component trapped"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_trap_is_made_again() {
    let host = host("falls___", "when = \"failure\"", None).await;
    let admin = host.tokens.access(&User::admin(7));
    host.get(HERE, "/account")
        .bearer(&admin)
        .send()
        .await
        .expect(503);
    let found = kept(&host, 1).await;
    assert_eq!(read(&found[0])["outcome"]["fault"]["kind"], "trap");
    let folder = component::folder();
    let falls = Probe::version(1).handle("falls___").file(folder.path());
    let said = replay(&found[0], &falls, &[], true);
    assert!(said.contains("no answer (the component trapped"), "{said}");
    let mended = Probe::version(1).file(folder.path());
    replay(&found[0], &mended, &[], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_no_token_is_in_a_trace() {
    let redis = RedisServer::start().await;
    let host = host("answers_", "when = \"always\"\nkeep = 50", Some(&redis)).await;
    let jwt_secret = std::fs::read_to_string(host.secret_file()).unwrap();
    let mut secrets: Vec<String> = jwt_secret.lines().map(str::to_owned).collect();
    secrets.push("sesame-open-4711".to_owned());
    let mut sent = 0;
    for id in 1..6 {
        let token = host.tokens.access(&User::admin(id));
        let opaque = format!("opaque-credential-{id}-of-no-known-form");
        let body = json!({"token": token, "password": opaque}).to_string();
        let calls = [
            host.get(HERE, "/account").bearer(&token),
            host.get(HERE, "/account").bearer(&opaque),
            host.get(HERE, "/account").cookie("access_token", &token),
            host.get(HERE, "/account").header("x-api-key", &opaque),
            host.get(HERE, &format!("/account?token={token}&page=1")),
            host.post(HERE, "/account")
                .header("content-type", "application/json")
                .body(body.as_str()),
            host.post(HERE, "/account")
                .body(format!("password={opaque}&token={token}")),
            host.post(HERE, "/echo")
                .bearer(&token)
                .body(format!("see {token}")),
        ];
        for call in calls {
            let answer = call.send().await;
            sent += 1;
            // What the guest made for this user is secret too.
            if answer.status == 200 && answer.text().contains("\"ticket\"") {
                let ticket = answer.json()["ticket"].as_str().unwrap().to_owned();
                assert_eq!(ticket.len(), 32);
                secrets.push(ticket);
                let cookie = answer.headers["set-cookie"].to_str().unwrap();
                let value = cookie.strip_prefix("csrf_token=").unwrap();
                assert!(value.len() >= 16, "{cookie}");
                secrets.push(value.to_owned());
            }
            kept(&host, sent).await;
        }
        secrets.extend([token, opaque]);
    }
    assert!(secrets.len() > 20, "tickets and cookies were made");
    let folder = component::folder();
    let same = Probe::version(1).file(folder.path());
    for trace in kept(&host, sent).await {
        let text = std::fs::read_to_string(&trace).unwrap();
        for secret in &secrets {
            assert!(
                !text.contains(secret.as_str()),
                "{secret} in {}",
                trace.display()
            );
            if let Some(signature) = secret.rsplit('.').next().filter(|part| part.len() > 20) {
                assert!(
                    !text.contains(signature),
                    "{signature} in {}",
                    trace.display()
                );
            }
        }
        assert!(text.contains("\"GREETING\": \"hello\""), "{text}");
        replay(&trace, &same, &[], true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_traces_hold_everything_and_nobody_else_reads_them() {
    let folder = component::folder();
    let key = folder.path().join("traces.key");
    std::fs::write(&key, format!("{}\n", "0123456789abcdef".repeat(4))).unwrap();
    let recording = format!("when = \"always\"\nkey_file = {:?}", key.to_str().unwrap());
    let host = host("answers_", &recording, None).await;
    let token = host.tokens.access(&User::admin(7));
    host.get(HERE, "/account")
        .bearer(&token)
        .send()
        .await
        .expect(200);
    let found = kept(&host, 1).await;
    let bytes = std::fs::read(&found[0]).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains("account") && !text.contains(&token));
    let same = Probe::version(1).file(folder.path());
    let with = |key: &Path| ["--key-file".to_owned(), key.to_str().unwrap().to_owned()];
    let with_key = with(&key);
    let with_key: Vec<&str> = with_key.iter().map(String::as_str).collect();
    replay(&found[0], &same, &with_key, true);
    let said = replay(&found[0], &same, &[], false);
    assert!(said.contains("--key-file"), "{said}");
    let other = folder.path().join("other.key");
    std::fs::write(&other, "f".repeat(64)).unwrap();
    let with_other = with(&other);
    let with_other: Vec<&str> = with_other.iter().map(String::as_str).collect();
    let said = replay(&found[0], &same, &with_other, false);
    assert!(said.contains("cannot be decrypted"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_are_private_and_the_oldest_go() {
    use std::os::unix::fs::PermissionsExt as _;
    let host = host("answers_", "when = \"always\"\nkeep = 3", None).await;
    for _ in 0..6 {
        host.get(HERE, "/echo").send().await.expect(200);
    }
    let name = "lockgate_traces_total";
    eventually("six traces were written", async || {
        let written = host.metric(HERE, name).await;
        if written == 6.0 { Ok(()) } else { Err(written) }
    })
    .await;
    let found = traces(&host);
    assert_eq!(found.len(), 3, "{found:?}");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&found[0]), 0o600);
    assert_eq!(mode(found[0].parent().unwrap()), 0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_trace_is_refused_in_words() {
    let folder = component::folder();
    let plugin = Probe::version(1).file(folder.path());
    let file = folder.path().join("x.json");
    for (contents, words) in [
        ("", "not a trace"),
        ("{}", "not a trace"),
        ("{\"format\": 99}", "format 99"),
        ("\u{0}\u{1}", "not a trace"),
    ] {
        std::fs::write(&file, contents).unwrap();
        let said = replay(&file, &plugin, &[], false);
        assert!(said.contains(words), "{said}");
    }
    let said = replay(&folder.path().join("none.json"), &plugin, &[], false);
    assert!(said.contains("cannot read"), "{said}");
}
