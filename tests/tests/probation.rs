//! The trial of a new revision: one that fails its first requests is replaced by the
//! one before it, by itself, and its file is not tried again until it changes.

use std::sync::Arc;

use lockgate_tests::component::{self, Probe, digest, version_text};
use lockgate_tests::wait::eventually;
use lockgate_tests::{Host, Service};

const HERE: Service = Service::Coordinator;

async fn host(config: &str) -> Host {
    let folder = component::folder();
    let host = Host::builder()
        .plugin(HERE, Probe::version(1).file(folder.path()))
        .config(config)
        .start()
        .await;
    assert_eq!(answered(&host).await, version_text(1));
    host
}

async fn answered(host: &Host) -> String {
    host.get(HERE, "/version").send().await.expect(200).text()
}

async fn wait_rolled_back(host: &Host, to: &[u8]) -> String {
    host.wait_loaded(HERE, to).await;
    host.wait_refused(HERE, &["rolled back to revision 1"])
        .await
}

#[tokio::test]
async fn a_revision_that_traps_is_rolled_back_and_costs_no_answer() {
    let host = host("[probation]\nfailures = 3").await;
    let (good, bad) = (
        Probe::version(1).bytes(),
        Probe::version(2).handle("traps___").bytes(),
    );
    host.swap(HERE, &bad).await;
    for _ in 0..3 {
        assert_eq!(answered(&host).await, version_text(1));
    }
    let error = wait_rolled_back(&host, &good).await;
    assert!(
        error.contains("failed 3 of its first 3 requests"),
        "{error}"
    );
    let metrics = host.admin("/metrics").send().await.expect(200).text();
    let counted = metrics.lines().any(|line| {
        line.starts_with("lockgate_swaps_total{")
            && line.contains("rolled_back")
            && line.contains(HERE.name())
            && line.ends_with(" 1")
    });
    assert!(counted, "{metrics}");
    // It serves as if nothing had been: many requests, none a second run.
    for _ in 0..300 {
        assert_eq!(answered(&host).await, version_text(1));
    }
}

#[tokio::test]
async fn a_revision_that_answers_500_or_loops_is_rolled_back() {
    for conduct in ["errors__", "loops___", "invalid_"] {
        let host = host("[probation]\nfailures = 2").await;
        host.swap(HERE, &Probe::version(2).handle(conduct).bytes())
            .await;
        for _ in 0..2 {
            let answer = host.get(HERE, "/version").send().await;
            match conduct {
                "errors__" => assert_eq!(answer.status, 500),
                _ => assert_eq!(answer.expect(200).text(), version_text(1)),
            }
        }
        wait_rolled_back(&host, &Probe::version(1).bytes()).await;
        assert_eq!(answered(&host).await, version_text(1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_under_way_at_a_roll_back_are_answered_too() {
    let host = Arc::new(host("[probation]\nfailures = 1").await);
    host.swap(HERE, &Probe::version(2).handle("loops___").bytes())
        .await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let host = Arc::clone(&host);
        calls.spawn(async move { answered(&host).await });
    }
    // The first that fails rolls back; the others fail after it.
    for text in calls.join_all().await {
        assert_eq!(text, version_text(1));
    }
    wait_rolled_back(&host, &Probe::version(1).bytes()).await;
}

#[tokio::test]
async fn a_file_that_was_rolled_back_is_tried_again_only_when_it_changes() {
    let host = host("[probation]\nfailures = 1").await;
    let bad = Probe::version(2).handle("traps___").bytes();
    host.swap(HERE, &bad).await;
    assert_eq!(answered(&host).await, version_text(1));
    wait_rolled_back(&host, &Probe::version(1).bytes()).await;
    std::fs::remove_file(host.plugin_path(HERE)).unwrap();
    host.wait_refused(HERE, &["no such file"]).await;
    host.install(HERE, &bad);
    let error = host
        .wait_refused(HERE, &["not tried again", "failed 1"])
        .await;
    assert!(error.contains("until it changes"), "{error}");
    assert_eq!(answered(&host).await, version_text(1));
    host.swap(HERE, &Probe::version(3).bytes()).await;
    assert_eq!(answered(&host).await, version_text(3));
}

#[tokio::test]
async fn after_its_trial_a_revision_stays() {
    let host = host("[probation]\nrequests = 5\nseconds = 0\nfailures = 2").await;
    let new = Probe::version(2).bytes();
    host.swap(HERE, &new).await;
    for _ in 0..5 {
        assert_eq!(answered(&host).await, version_text(2));
    }
    for _ in 0..4 {
        host.get(HERE, "/trap").send().await;
    }
    let report = host.plugin_report(HERE).await;
    assert_eq!((report.digest, report.last_error), (digest(&new), None));
}

#[tokio::test]
async fn the_first_revision_stays_because_there_is_none_before_it() {
    let host = host("[probation]\nfailures = 1").await;
    for _ in 0..3 {
        host.get(HERE, "/trap").send().await.expect(503);
    }
    assert_eq!(answered(&host).await, version_text(1));
    let first = digest(&Probe::version(1).bytes());
    eventually("the first revision serves", async || {
        let report = host.plugin_report(HERE).await;
        if report.digest == first {
            Ok(())
        } else {
            Err(report)
        }
    })
    .await;
}

#[tokio::test]
async fn a_restart_neither_forgets_a_roll_back_nor_the_last_good_revision() {
    let mut host = host("[probation]\nfailures = 2").await;
    let bad = Probe::version(2).handle("traps___").bytes();
    host.swap(HERE, &bad).await;
    for _ in 0..2 {
        assert_eq!(answered(&host).await, version_text(1));
    }
    wait_rolled_back(&host, &Probe::version(1).bytes()).await;
    // The bad file still lies in the folder.
    for stop_hard in [false, true] {
        kept(&host, 1).await;
        if stop_hard {
            host.kill().await;
        } else {
            host.stop().await;
        }
        host.start_again().await;
        assert_eq!(answered(&host).await, version_text(1));
        let report = host.plugin_report(HERE).await;
        assert_eq!(report.digest, digest(&Probe::version(1).bytes()));
        let error = report.last_error.expect("it says why");
        assert!(error.contains("not tried again"), "{error}");
    }
    host.swap(HERE, &Probe::version(3).bytes()).await;
    assert_eq!(answered(&host).await, version_text(3));
}

#[tokio::test]
async fn a_start_with_a_broken_file_serves_the_last_good_revision() {
    let mut host = host("").await;
    kept(&host, 1).await;
    host.stop().await;
    host.install(HERE, b"not a component");
    host.start_again().await;
    assert_eq!(answered(&host).await, version_text(1));
    let report = host.plugin_report(HERE).await;
    assert!(report.last_error.is_some(), "{report:?}");
}

#[tokio::test]
async fn a_damaged_kept_revision_is_not_served() {
    let mut host = host("").await;
    let file = kept(&host, 1).await;
    host.stop().await;
    std::fs::write(file, b"\0asm damaged").unwrap();
    host.install(HERE, b"not a component");
    host.start_again_unready().await;
    host.get(HERE, "/version").send().await.expect(503);
    host.swap(HERE, &Probe::version(2).bytes()).await;
    assert_eq!(answered(&host).await, version_text(2));
}

/// Waits until the probe of this version is kept for a restart; gives its file.
async fn kept(host: &Host, version: u32) -> std::path::PathBuf {
    let digest = digest(&Probe::version(version).bytes());
    let folder = host.data_dir().join("revisions").join(HERE.name());
    eventually("the revision is kept", async || {
        let known = std::fs::read_to_string(folder.join("known.json")).unwrap_or_default();
        if known.contains(&digest) {
            Ok(())
        } else {
            Err(known)
        }
    })
    .await;
    folder.join(format!("{digest}.wasm"))
}
