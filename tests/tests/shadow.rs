//! Candidates that get copies of live requests: what differs is found, users see nothing of
//! it, nothing is written, and one that never differed may serve.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use lockgate_tests::component::{self, Probe, digest, with_note};
use lockgate_tests::wait::eventually;
use lockgate_tests::{Host, RedisServer, Service, User};
use serde_json::Value;

const HERE: Service = Service::Coordinator;

async fn host(redis: &RedisServer) -> Arc<Host> {
    let folder = component::folder();
    let file = Probe::version(1).file(folder.path());
    let host = Host::builder().plugin(HERE, file).redis(redis);
    Arc::new(host.start().await)
}

async fn report(host: &Host) -> Value {
    let path = format!("/plugins/{}/shadow", HERE.name());
    host.admin(&path).send().await.expect(200).json()
}

/// Waits until so many answers were compared.
async fn compared(host: &Host, number: u64) -> Value {
    eventually(&format!("{number} answers compared"), async || {
        let report = report(host).await;
        if report["compared"] == number {
            Ok(report)
        } else {
            Err(report)
        }
    })
    .await
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of plain text")
}

fn begin(host: &Host, file: &Path, more: &[&str]) -> String {
    let words = [&["shadow", HERE.name(), text(file)], more].concat();
    host.command(&words, true)
}

async fn serving(host: &Host) -> String {
    let plugins = host.admin("/plugins").send().await.expect(200).json();
    let list = plugins["plugins"].as_array().unwrap();
    let entry = list
        .iter()
        .find(|entry| entry["service"] == HERE.name())
        .unwrap();
    entry["digest"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_differs_on_one_class_of_tokens_is_caught_and_users_see_nothing() {
    let redis = RedisServer::start().await;
    let host = host(&redis).await;
    let folder = component::folder();
    let candidate = Probe::version(1).handle("differs_").file(folder.path());
    begin(&host, &candidate, &[]);
    let (user, admin) = (User::new(8), User::admin(7));
    for round in 1..=10 {
        for person in [&user, &admin] {
            let token = host.tokens.access(person);
            let answer = host
                .get(HERE, "/account")
                .bearer(&token)
                .send()
                .await
                .expect(200);
            let answer = answer.json();
            assert_eq!(answer["role"], person.role.as_str());
            // Its own visits are counted, and not those of the shadow.
            assert_eq!(answer["visits"], round);
            compared(&host, 2 * round - u64::from(person.id == 8)).await;
        }
    }
    let report = report(&host).await;
    assert_eq!(report["different"], 10, "{report}");
    for difference in report["differences"].as_array().unwrap() {
        assert_eq!(difference["path"], "/account");
        let what = difference["what"].as_str().unwrap();
        assert_eq!(what, "body at /role: \"admin\" became \"root\"");
    }
    let said = host.command(&["shadow", HERE.name()], false);
    assert!(said.contains("20 answers compared, 10 different"), "{said}");
    assert!(said.contains("\"admin\" became \"root\""), "{said}");
    host.command(&["shadow", HERE.name(), "--end"], false);
    let said = host.command(&["shadow", HERE.name()], false);
    assert!(said.contains("no shadow"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_traps_loops_or_writes_changes_nothing() {
    let redis = RedisServer::start().await;
    let host = host(&redis).await;
    let folder = component::folder();
    let token = host.tokens.access(&User::admin(7));
    let mut visits = 0;
    for (conduct, words) in [
        ("falls___", "became no answer (the component trapped"),
        (
            "loops___",
            "became no answer (the component used up its CPU time",
        ),
        ("writes__", "it called redis.set as the other did not"),
        ("stumbles", "it did not call redis.set as the other did"),
    ] {
        let candidate = Probe::version(1).handle(conduct).file(folder.path());
        begin(&host, &candidate, &[]);
        for compares in 1..=3 {
            let answer = host
                .get(HERE, "/account")
                .bearer(&token)
                .send()
                .await
                .expect(200);
            visits += 1;
            assert_eq!(answer.json()["visits"], visits, "{conduct}");
            compared(&host, compares).await;
        }
        let report = report(&host).await;
        assert_eq!(report["different"], 3, "{report}");
        let what = report["differences"][0]["what"].as_str().unwrap();
        assert!(what.contains(words), "{conduct}: {what}");
        let text = report.to_string();
        assert!(!text.contains(&token), "{text}");
    }
    let entry = host.admin("/plugins").send().await.expect(200).json();
    assert!(!entry.to_string().contains("rolled back"), "{entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_never_differs_serves_after_so_many_answers_and_no_request_is_lost() {
    let redis = RedisServer::start().await;
    let host = host(&redis).await;
    let folder = component::folder();
    let new = with_note(&Probe::version(1).bytes(), "the same, built again");
    let file = folder.path().join("new.wasm");
    std::fs::write(&file, &new).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU32::new(0));
    let load = tokio::spawn({
        let (host, stop, answered) = (host.clone(), stop.clone(), answered.clone());
        async move {
            let token = host.tokens.access(&User::admin(7));
            while !stop.load(Ordering::Relaxed) {
                host.get(HERE, "/account")
                    .bearer(&token)
                    .send()
                    .await
                    .expect(200);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let command = tokio::task::spawn_blocking({
        let (host, file) = (host.clone(), file.clone());
        move || begin(&host, &file, &["--promote-after", "200"])
    });
    let said = command.await.unwrap();
    assert!(
        said.contains("0 different") && said.contains("it serves now"),
        "{said}"
    );
    assert_eq!(serving(&host).await, digest(&new));
    let before = answered.load(Ordering::Relaxed);
    eventually("requests go on", async || {
        let now = answered.load(Ordering::Relaxed);
        if now > before + 20 { Ok(()) } else { Err(now) }
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    load.await.expect("no request was lost");
    // A restart finds it in the folder.
    let placed = std::fs::read(host.plugin_path(HERE)).unwrap();
    assert_eq!(digest(&placed), digest(&new));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_promoted_by_hand_and_not_by_itself_after_a_difference() {
    let redis = RedisServer::start().await;
    let host = host(&redis).await;
    let folder = component::folder();
    let first = serving(&host).await;
    let candidate = Probe::version(1).handle("differs_").file(folder.path());
    let path = format!("/plugins/{}/shadow?promote_after=3", HERE.name());
    let body = std::fs::read(&candidate).unwrap();
    host.order(&path)
        .body(body.clone())
        .send()
        .await
        .expect(200);
    let admin = host.tokens.access(&User::admin(7));
    for number in 1..=5 {
        host.get(HERE, "/account")
            .bearer(&admin)
            .send()
            .await
            .expect(200);
        compared(&host, number).await;
    }
    assert_eq!(serving(&host).await, first);
    let (other, mine) = ("0".repeat(12), &digest(&body)[..12]);
    let said = host.command(&["promote", HERE.name(), &other], false);
    assert!(said.contains("another digest"), "{said}");
    assert_eq!(serving(&host).await, first);
    let said = host.command(&["promote", HERE.name(), mine], true);
    assert!(said.contains("it serves now"), "{said}");
    assert_eq!(serving(&host).await, digest(&body));
    let answer = host
        .get(HERE, "/account")
        .bearer(&admin)
        .send()
        .await
        .expect(200);
    assert_eq!(answer.json()["role"], "root");
    host.command(&["promote", HERE.name()], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_candidates_and_bad_orders_are_refused_in_words() {
    let redis = RedisServer::start().await;
    let host = host(&redis).await;
    let folder = component::folder();
    let file: PathBuf = folder.path().join("bad.wasm");
    let order = |query: &str| host.order(&format!("/plugins/{}/shadow{query}", HERE.name()));
    for (contents, words) in [
        (&b""[..], "is empty"),
        (b"text", "this is text"),
        (b"\0asm\x0d\0\x01\0 and no more", "not valid"),
    ] {
        std::fs::write(&file, contents).unwrap();
        let said = host.command(&["shadow", HERE.name(), text(&file)], false);
        assert!(said.contains(words), "{said}");
    }
    let good = Probe::version(1).bytes();
    for query in [
        "?share=2",
        "?share=x",
        "?promote_after=0",
        "?unknown=1",
        "?share=-0.5",
    ] {
        order(query).body(good.clone()).send().await.expect(409);
    }
    order("")
        .header("x-lockgate-signature", "no base64!")
        .body(good)
        .send()
        .await
        .expect(409);
    let wrong = Probe::version(1).self_test("reports_").file(folder.path());
    let said = host.command(&["shadow", HERE.name(), text(&wrong)], false);
    assert!(said.contains("self-test says"), "{said}");
    let said = host.command(&["shadow", HERE.name()], false);
    assert!(said.contains("no shadow"), "{said}");
    host.command(&["shadow", "no-such-service", text(&wrong)], false);
    // Without the admin token nobody begins or ends one.
    let path = format!(
        "http://127.0.0.1:{}/plugins/{}/shadow",
        host.admin_port(),
        HERE.name()
    );
    let client = reqwest::Client::new();
    let begun = client
        .post(&path)
        .body(Probe::version(1).bytes())
        .send()
        .await
        .unwrap();
    assert_eq!(begun.status(), 401);
    assert_eq!(client.delete(&path).send().await.unwrap().status(), 401);
}
