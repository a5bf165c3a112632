//! A service whose calls run past their time again and again is left alone for a
//! while: refused at once, tried by one request at a time, and healed by a better file.

use std::sync::Arc;

use lockgate_tests::component::{self, Probe, version_text};
use lockgate_tests::shape::H;
use lockgate_tests::wait::eventually;
use lockgate_tests::{Answer, Host, Service, User};

const HERE: Service = Service::Coordinator;

async fn host(config: &str) -> Host {
    let folder = component::folder();
    let limits = "[services.service-boundary-coordinator.limits]\ncpu_ms = 30\nwall_ms = 400";
    Host::builder()
        .plugin(HERE, Probe::version(1).file(folder.path()))
        .config(format!("{config}\n{limits}"))
        .start()
        .await
}

async fn ask(host: &Host, path: &str) -> Answer {
    host.get(HERE, path).send().await
}

async fn state(host: &Host) -> String {
    host.plugin_report(HERE).await.state
}

/// Makes the service rest.
async fn exhaust(host: &Host, timeouts: usize) {
    for _ in 0..timeouts {
        let answer = ask(host, "/loop").await;
        answer.expect_error(503, "service_unavailable");
    }
    assert_eq!(state(host).await, "quarantined");
}

#[tokio::test]
async fn a_service_that_loops_is_left_alone_and_harms_no_other() {
    let host = host("[quarantine]\ntimeouts = 3\nrest_seconds = 3600").await;
    assert_eq!(ask(&host, "/version").await.text(), version_text(1));
    exhaust(&host, 3).await;
    let calls = guest_calls(&host).await;
    for _ in 0..50 {
        let answer = ask(&host, "/version").await;
        let wait: u32 = answer.header("retry-after").parse().expect("seconds");
        assert!((1..=3600).contains(&wait), "{wait}");
        let body = answer.expect_error(503, "service_unavailable");
        assert!(body["message"].as_str().unwrap().contains("resting"));
    }
    assert_eq!(
        guest_calls(&host).await,
        calls,
        "the component was left alone"
    );
    let health = ask(&host, "/health").await.expect_shape(503, H);
    assert_eq!(health["status"], "error");
    let token = host.tokens.access(&User::new(14));
    for _ in 0..20 {
        let path = "/api/v1/session/validate";
        let call = host.get(Service::Session, path).bearer(&token);
        assert_eq!(call.send().await.expect(200).json()["valid"], true);
    }
    // A new file starts anew.
    host.swap(HERE, &Probe::version(2).bytes()).await;
    assert_eq!(
        ask(&host, "/version").await.expect(200).text(),
        version_text(2)
    );
    assert_eq!(state(&host).await, "serving");
}

/// Requests of the service whose call ended in a fault.
async fn guest_calls(host: &Host) -> String {
    let text = host.admin("/metrics").send().await.expect(200).text();
    let faults = text
        .lines()
        .filter(|line| line.starts_with("lockgate_faults_total{") && line.contains(HERE.name()));
    faults.collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_its_rest_one_request_at_a_time_tries_it() {
    let host = Arc::new(host("[quarantine]\ntimeouts = 2\nrest_seconds = 1").await);
    exhaust(&host, 2).await;
    // While the probe is under way everybody else is refused.
    let tried = eventually("a request tries it", async || {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let host = Arc::clone(&host);
            calls.spawn(async move { ask(&host, "/sleep?ms=200").await });
        }
        let answers = calls.join_all().await;
        let good = answers.iter().filter(|answer| answer.status == 200).count();
        if good > 0 { Ok(good) } else { Err(good) }
    })
    .await;
    assert_eq!(tried, 1, "eight at once, one of them tries");
    assert_eq!(
        ask(&host, "/version").await.expect(200).text(),
        version_text(1)
    );
    assert_eq!(state(&host).await, "serving");
    // A probe that loops begins the rest again.
    exhaust(&host, 2).await;
    let faults = guest_calls(&host).await;
    eventually("another probe has failed", async || {
        ask(&host, "/loop")
            .await
            .expect_error(503, "service_unavailable");
        let now = guest_calls(&host).await;
        if now == faults { Err(now) } else { Ok(()) }
    })
    .await;
    assert_eq!(state(&host).await, "quarantined");
    let message = ask(&host, "/version")
        .await
        .expect_error(503, "service_unavailable");
    assert!(message["message"].as_str().unwrap().contains("resting"));
}

#[tokio::test]
async fn the_last_good_revision_answers_meanwhile() {
    let trial = "[probation]\nrequests = 1\nseconds = 0";
    let config = format!("[quarantine]\ntimeouts = 2\nrest_seconds = 3600\n{trial}");
    let host = host(&config).await;
    assert_eq!(ask(&host, "/version").await.text(), version_text(1));
    host.swap(HERE, &Probe::version(2).bytes()).await;
    for _ in 0..3 {
        assert_eq!(ask(&host, "/version").await.text(), version_text(2));
    }
    for _ in 0..2 {
        host.post(HERE, "/loop").send().await;
    }
    assert_eq!(state(&host).await, "quarantined");
    for _ in 0..20 {
        assert_eq!(
            ask(&host, "/version").await.expect(200).text(),
            version_text(1)
        );
    }
}
