//! Damaged files in the folder of a host that serves: each is reported, what answers
//! is the old revision or one that was accepted, and the host lives on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lockgate_tests::component::{self, Probe, version_text};
use lockgate_tests::wait::eventually;
use lockgate_tests::{Host, Service, User};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

const HERE: Service = Service::Coordinator;

/// Files that are dropped.
const FILES: usize = 40;

/// An answer as a caller saw it.
struct Seen {
    request: String,
    status: u16,
    text: String,
}

/// Asks again and again until told to stop.
async fn callers(host: Arc<Host>, stop: Arc<AtomicBool>) -> Vec<Seen> {
    let mut seen = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let answer = host.get(HERE, "/version").send().await;
        seen.push(Seen {
            request: answer.header("x-request-id").to_owned(),
            status: answer.status,
            text: answer.text(),
        });
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    seen
}

/// One damaged file. Every third is a large one, whose code changes.
fn damaged(random: &mut StdRng, number: usize) -> Vec<u8> {
    let mut file = match number % 3 {
        0 => Probe::version(2).bytes(),
        _ => component::constant(u32::try_from(number).unwrap()),
    };
    let at = random.random_range(8..file.len());
    match number % 5 {
        0 | 1 => file[at] ^= 1 << random.random_range(0..8),
        2 => file.truncate(at),
        3 => {
            let end = (at + random.random_range(1..16)).min(file.len());
            file.drain(at..end);
        }
        _ => {
            let other = component::built(Service::Coordinator);
            file.truncate(at);
            file.extend_from_slice(&other[at.min(other.len())..]);
        }
    }
    file
}

/// Waits until `/plugins` says what became of the file. True: it was accepted.
async fn verdict(host: &Host, file: &[u8]) -> bool {
    let digest = component::digest(file);
    eventually("the file is judged", async || {
        let all = host.admin("/plugins").send().await.expect(200).json();
        let list = all.as_array().or_else(|| all["plugins"].as_array());
        let entry = list
            .and_then(|list| list.iter().find(|entry| entry["service"] == HERE.name()))
            .expect("the service is reported");
        let events = entry["history"].as_array().expect("a history");
        let event = events.iter().find(|event| event["digest"] == *digest);
        let event = event.ok_or_else(|| format!("{digest}: {entry}"))?;
        if let Some(error) = event["error"].as_str() {
            assert!(!error.contains('\n') && error.len() > 10, "{error}");
        }
        Ok::<bool, String>(event["error"].is_null())
    })
    .await
}

/// Which revision answered each request, by the log.
fn revisions(log: &str) -> BTreeMap<String, String> {
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    log.lines()
        .filter(|line| line.contains("lockgate::http: request "))
        .filter_map(|line| Some((field(line, "request_id")?, field(line, "revision")?)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_files_under_load_change_nothing_but_the_report() {
    let folder = component::folder();
    let host = Host::builder()
        .plugin(HERE, Probe::version(1).file(folder.path()))
        .config("[reload]\nsettle_ms = 20\npoll_ms = 100");
    let mut host = Arc::new(host.start().await);
    let stop = Arc::new(AtomicBool::new(false));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..3 {
        calls.spawn(callers(Arc::clone(&host), Arc::clone(&stop)));
    }
    let mut random = StdRng::seed_from_u64(0x10c6_a7e0);
    let mut good = vec![component::digest(&Probe::version(1).bytes())];
    let mut accepted = Vec::new();
    for number in 0..FILES {
        let file = damaged(&mut random, number);
        host.install(HERE, &file);
        if verdict(&host, &file).await {
            accepted.push(component::digest(&file));
            let note = format!("after file {number}");
            let back = component::with_note(&Probe::version(1).bytes(), &note);
            host.swap(HERE, &back).await;
            good.push(component::digest(&back));
        } else {
            let report = host.plugin_report(HERE).await;
            assert_eq!(Some(&report.digest), good.last(), "file {number}");
        }
    }
    stop.store(true, Ordering::Relaxed);
    let seen: Vec<Seen> = calls.join_all().await.into_iter().flatten().collect();
    assert!(accepted.len() < FILES / 2, "most are refused: {accepted:?}");
    assert!(seen.len() > FILES, "there was load: {}", seen.len());
    let revisions = revisions(&host.log());
    for one in &seen {
        let by = revisions.get(&one.request).expect("the log names it");
        let is_one_of = |digests: &[String]| digests.iter().any(|digest| digest.starts_with(by));
        if is_one_of(&good) {
            assert_eq!((one.status, one.text.as_str()), (200, &*version_text(1)));
        } else {
            // What an accepted one says is its own affair.
            assert!(is_one_of(&accepted), "{} answered {}", by, one.text);
        }
    }
    let token = host.tokens.access(&User::new(14));
    let call = host.get(Service::Session, "/api/v1/session/validate");
    let body = call.bearer(&token).send().await.expect(200).json();
    assert_eq!(body["valid"], true);
    host.swap(HERE, &Probe::version(3).bytes()).await;
    let last = host.get(HERE, "/version").send().await.expect(200);
    assert_eq!(last.text(), version_text(3));
    assert!(
        Arc::get_mut(&mut host)
            .expect("all callers left")
            .is_running()
    );
}
