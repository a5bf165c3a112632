//! Swaps while requests run: none is lost, each ends on the code that it began
//! on, and a new revision that traps costs nobody an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lockgate_tests::component::{self, Probe, version_text};
use lockgate_tests::{Host, RedisServer, Service, User};

const HERE: Service = Service::Coordinator;

async fn host() -> Host {
    let folder = component::folder();
    Host::builder()
        .plugin(HERE, Probe::version(1).file(folder.path()))
        .start()
        .await
}

async fn answered(host: &Host) -> String {
    host.get(HERE, "/version").send().await.expect(200).text()
}

/// Asks again and again until told to stop; counts the answers, and fails on any
/// that is not 200 or goes back to an older version.
async fn steady(host: Arc<Host>, stop: Arc<AtomicBool>) -> u64 {
    let (mut count, mut newest) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let text = host.get(HERE, "/version").send().await.expect(200).text();
        let version: u32 = text.parse().expect("a version");
        assert!(version >= newest, "{version} after {newest}");
        newest = version;
        count += 1;
    }
    count
}

/// The same for a shipped service.
async fn sessions(host: Arc<Host>, stop: Arc<AtomicBool>) -> u64 {
    let token = host.tokens.access(&User::new(14));
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let call = host
            .get(Service::Session, "/api/v1/session/validate")
            .bearer(&token);
        assert_eq!(call.send().await.expect(200).json()["valid"], true);
        count += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_under_load_lose_no_request() {
    let host = Arc::new(host().await);
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..6 {
        callers.spawn(steady(Arc::clone(&host), Arc::clone(&stop)));
        callers.spawn(sessions(Arc::clone(&host), Arc::clone(&stop)));
    }
    for version in 2..=6 {
        host.swap(HERE, &Probe::version(version).bytes()).await;
        let note = format!("swap {version}");
        let session = component::with_note(&component::built(Service::Session), &note);
        host.swap(Service::Session, &session).await;
        // A bad file in between changes nothing.
        host.install(HERE, b"not a component");
        host.wait_refused(HERE, &[]).await;
    }
    stop.store(true, Ordering::Relaxed);
    let counts = callers.join_all().await;
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    assert_eq!(answered(&host).await, version_text(6));
}

#[tokio::test]
async fn a_started_request_ends_on_the_old_code() {
    let host = Arc::new(host().await);
    // Both are compiled once, so that the swap below is short.
    let [first, second] = [1, 2].map(|version| Probe::version(version).bytes());
    host.swap(HERE, &second).await;
    host.swap(HERE, &first).await;
    let slow = Arc::clone(&host);
    let slow =
        tokio::spawn(async move { slow.get(HERE, "/sleep?ms=3000").send().await.expect(200) });
    // The slow request is running when a later one on the same listener is answered.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(answered(&host).await, version_text(1));
    host.swap(HERE, &second).await;
    assert_eq!(answered(&host).await, version_text(2));
    assert_eq!(slow.await.unwrap().text(), version_text(1));
}

#[tokio::test]
async fn a_trap_on_the_new_revision_is_answered_by_the_previous_one() {
    let host = host().await;
    for conduct in ["traps___", "reads___"] {
        host.swap(HERE, &Probe::version(1).bytes()).await;
        assert_eq!(answered(&host).await, version_text(1));
        host.swap(HERE, &Probe::version(2).handle(conduct).bytes())
            .await;
        for _ in 0..100 {
            assert_eq!(answered(&host).await, version_text(1), "{conduct}");
        }
        assert!(
            host.log().contains("trap"),
            "{conduct}: the trap is in the log"
        );
    }
}

#[tokio::test]
async fn a_post_without_a_write_is_answered_by_the_previous_one() {
    let host = host().await;
    host.swap(HERE, &Probe::version(2).handle("traps___").bytes())
        .await;
    let answer = host
        .post(HERE, "/echo")
        .body("the body comes along")
        .send()
        .await
        .expect(200);
    assert!(
        answer.text().contains("body the body comes along"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn a_loop_on_the_new_revision_is_answered_by_the_previous_one() {
    let host = host().await;
    host.swap(HERE, &Probe::version(2).handle("loops___").bytes())
        .await;
    assert_eq!(answered(&host).await, version_text(1));
}

#[tokio::test]
async fn an_answer_that_cannot_be_sent_is_replaced_by_the_previous_ones() {
    let host = host().await;
    host.swap(HERE, &Probe::version(2).handle("invalid_").bytes())
        .await;
    for _ in 0..10 {
        assert_eq!(answered(&host).await, version_text(1));
    }
}

#[tokio::test]
async fn a_request_that_has_written_is_not_run_again() {
    let redis = RedisServer::start().await;
    let folder = component::folder();
    let file = Probe::version(1).file(folder.path());
    let host = Host::builder()
        .redis(&redis)
        .plugin(HERE, file)
        .start()
        .await;
    host.swap(HERE, &Probe::version(2).handle("writes__").bytes())
        .await;
    let answer = host.post(HERE, "/?key=session:written").send().await;
    answer.expect_error(503, "service_unavailable");
    assert!(
        redis.get("session:written").await.is_some(),
        "it had written"
    );
}

#[tokio::test]
async fn an_error_status_is_an_answer_and_no_trap() {
    let host = host().await;
    host.swap(HERE, &Probe::version(2).handle("errors__").bytes())
        .await;
    let answer = host.get(HERE, "/version").send().await.expect(500);
    assert_eq!(answer.text(), "the mark says so");
}

#[tokio::test]
async fn without_a_previous_revision_a_trap_is_503_and_the_next_file_heals_it() {
    let folder = component::folder();
    let file = Probe::version(1).handle("traps___").file(folder.path());
    let host = Host::builder().plugin(HERE, file).start_unready().await;
    host.wait_loaded(HERE, &Probe::version(1).handle("traps___").bytes())
        .await;
    host.get(HERE, "/version")
        .send()
        .await
        .expect_error(503, "service_unavailable");
    host.swap(HERE, &Probe::version(2).bytes()).await;
    assert_eq!(answered(&host).await, version_text(2));
}
