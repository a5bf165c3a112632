//! Every limit on a plugin, tested by exceeding it: the caller gets an answer, the
//! other services do not notice, and the next request works.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockgate_tests::component::{self, Probe, version_text};
use lockgate_tests::{Answer, Host, Service, User};

const HERE: Service = Service::Coordinator;

async fn host() -> Host {
    let folder = component::folder();
    Host::builder()
        .plugin(HERE, Probe::version(1).file(folder.path()))
        // What too many timeouts lead to has tests of its own.
        .config("[quarantine]\ntimeouts = 10000")
        .start()
        .await
}

async fn ask(host: &Host, path: &str) -> Answer {
    host.get(HERE, path).send().await
}

/// The service itself and another one answer as ever.
async fn unharmed(host: &Host) {
    assert_eq!(
        ask(host, "/version").await.expect(200).text(),
        version_text(1)
    );
    let token = host.tokens.access(&User::new(14));
    let call = host
        .get(Service::Session, "/api/v1/session/validate")
        .bearer(&token);
    let body = call.send().await.expect(200).json();
    assert_eq!(body["valid"], true, "{body}");
    host.get(Service::Jwt, "/health").send().await.expect(200);
}

/// Each of these paths is answered 503 E, again and again, and harms nobody.
async fn each_is_503(paths: &[&str]) {
    let host = host().await;
    for path in paths {
        for _ in 0..3 {
            ask(&host, path)
                .await
                .expect_error(503, "service_unavailable");
        }
        unharmed(&host).await;
    }
}

#[tokio::test]
async fn traps_and_panics() {
    each_is_503(&["/trap", "/panic", "/read-then-trap", "/write-then-trap"]).await;
}

#[tokio::test]
async fn a_loop() {
    each_is_503(&["/loop"]).await;
}

#[tokio::test]
async fn recursion() {
    each_is_503(&["/recurse"]).await;
}

#[tokio::test]
async fn memory_taken_until_it_ends() {
    each_is_503(&["/allocate"]).await;
}

#[tokio::test]
async fn memory_growth_stops_at_the_limit() {
    let toml = format!(
        "[services.{}.limits]\nmemory_bytes = {}\n",
        HERE.name(),
        8 << 20
    );
    let folder = component::folder();
    let file = Probe::version(1).file(folder.path());
    let host = Host::builder()
        .plugin(HERE, file)
        .config(toml)
        .start()
        .await;
    for _ in 0..20 {
        let size: u64 = ask(&host, "/grow")
            .await
            .expect(200)
            .text()
            .parse()
            .unwrap();
        assert!(size > 1 << 20, "it could grow at all: {size}");
        assert!(size <= 8 << 20, "{size} bytes are more than 8 MiB");
    }
    unharmed(&host).await;
}

#[tokio::test]
async fn a_sleep_in_a_host_call() {
    each_is_503(&["/sleep?ms=60000"]).await;
}

#[tokio::test]
async fn a_flood_of_host_calls() {
    each_is_503(&["/host-calls?n=100000000", "/host-calls?n=100000"]).await;
}

#[tokio::test]
async fn a_huge_body() {
    each_is_503(&["/body?bytes=2000000"]).await;
    each_is_503(&["/body?bytes=20000000"]).await;
}

#[tokio::test]
async fn a_large_body_within_the_limit_arrives_whole() {
    let host = host().await;
    let answer = ask(&host, "/body?bytes=1000000").await.expect(200);
    assert_eq!(answer.body.len(), 1_000_000);
    assert!(answer.body.iter().all(|byte| *byte == b'b'));
}

#[tokio::test]
async fn ten_thousand_headers() {
    each_is_503(&["/headers?n=10000"]).await;
}

#[tokio::test]
async fn a_status_outside_of_200_to_599() {
    each_is_503(&[
        "/status?code=0",
        "/status?code=99",
        "/status?code=100",
        "/status?code=101",
        "/status?code=199",
        "/status?code=600",
        "/status?code=999",
        "/status?code=65535",
    ])
    .await;
}

#[tokio::test]
async fn any_status_from_200_to_599_is_passed_on() {
    let host = host().await;
    for code in [200, 201, 204, 299, 304, 400, 418, 429, 500, 503, 599] {
        assert_eq!(
            ask(&host, &format!("/status?code={code}")).await.status,
            code
        );
    }
}

#[tokio::test]
async fn header_bytes_that_http_does_not_know() {
    each_is_503(&[
        "/bad-header?kind=newline",
        "/bad-header?kind=nul",
        "/bad-header?kind=empty-name",
        "/bad-header?kind=space-name",
        "/bad-header?kind=newline-name",
    ])
    .await;
}

#[tokio::test]
async fn hop_by_hop_headers_are_the_hosts() {
    let host = host().await;
    for kind in ["length", "chunked", "connection"] {
        let answer = ask(&host, &format!("/bad-header?kind={kind}"))
            .await
            .expect(200);
        assert_eq!(answer.text(), "bad header", "{kind}");
        assert_eq!(answer.header("transfer-encoding"), "", "{kind}");
        assert_ne!(answer.header("content-length"), "3", "{kind}");
    }
    unharmed(&host).await;
}

#[tokio::test]
async fn a_flood_of_log_lines_is_cut() {
    let host = host().await;
    for path in ["/log?lines=100000&bytes=20", "/log?lines=3&bytes=5000000"] {
        let before = host.log().len();
        let answer = ask(&host, path).await;
        assert!(
            matches!(answer.status, 200 | 503),
            "{path}: {}",
            answer.text()
        );
        let grown = host.log().len() - before;
        assert!(grown < 256 * 1024, "{path}: the log grew by {grown} bytes");
        unharmed(&host).await;
    }
}

#[tokio::test]
async fn log_lines_keep_the_name_and_cannot_forge_others() {
    let host = host().await;
    ask(&host, "/log?lines=2&bytes=10").await.expect(200);
    let log = host.log();
    let line = log.lines().find(|line| line.contains("probe 1 xxxxxxxxxx"));
    assert!(
        line.expect("the guest's line is in the log")
            .contains(HERE.name()),
        "{line:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loops_at_once_starve_no_other_service() {
    let host = Arc::new(host().await);
    let mut loops = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let host = Arc::clone(&host);
        loops.spawn(async move { ask(&host, "/loop").await });
    }
    let token = host.tokens.access(&User::new(14));
    for _ in 0..200 {
        let call = host
            .get(Service::Session, "/api/v1/session/validate")
            .bearer(&token);
        assert_eq!(call.send().await.expect(200).json()["valid"], true);
    }
    for answer in loops.join_all().await {
        answer.expect_error(503, "service_unavailable");
    }
    unharmed(&host).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_requests_than_places_are_refused_with_a_time_to_come_back() {
    let host = Arc::new(host().await);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..600 {
        let host = Arc::clone(&host);
        calls.spawn(async move { ask(&host, "/sleep?ms=1500").await });
    }
    let mut seen = BTreeMap::<u16, u32>::new();
    for answer in calls.join_all().await {
        *seen.entry(answer.status).or_default() += 1;
        if answer.status == 503 {
            answer.expect_error(503, "service_unavailable");
            if answer.header("retry-after").is_empty() {
                continue;
            }
            let seconds: u32 = answer.header("retry-after").parse().expect("whole seconds");
            assert!(seconds >= 1);
            *seen.entry(0).or_default() += 1;
        }
    }
    assert!(seen.get(&200).is_some_and(|count| *count > 0), "{seen:?}");
    assert!(
        seen.get(&0).is_some_and(|count| *count > 0),
        "none with Retry-After: {seen:?}"
    );
    unharmed(&host).await;
}

#[tokio::test]
async fn an_instance_is_used_again_but_not_for_ever() {
    let host = host().await;
    let mut largest = 0;
    for _ in 0..600 {
        let count: u32 = ask(&host, "/count")
            .await
            .expect(200)
            .text()
            .parse()
            .unwrap();
        largest = largest.max(count);
    }
    assert!(largest > 1, "instances are used again");
    assert!(largest <= 128, "an instance served {largest} requests");
}

#[tokio::test]
async fn with_reuse_1_every_request_has_fresh_state() {
    let toml = format!("[services.{}.limits]\nreuse = 1\n", HERE.name());
    let folder = component::folder();
    let file = Probe::version(1).file(folder.path());
    let host = Host::builder()
        .plugin(HERE, file)
        .config(toml)
        .start()
        .await;
    for _ in 0..50 {
        assert_eq!(ask(&host, "/count").await.expect(200).text(), "1");
    }
}

#[tokio::test]
async fn a_guest_reaches_no_file_and_only_its_own_settings() {
    let host = Host::builder()
        .env("REDIS_USERNAME", "someone")
        .env("HOME", "/root");
    let folder = component::folder();
    let host = host
        .plugin(HERE, Probe::version(1).file(folder.path()))
        .start()
        .await;
    let files = ask(&host, "/files").await.expect(200).text();
    assert!(
        files.contains("root false") && files.contains("passwd false"),
        "{files}"
    );
    let environment = ask(&host, "/environment").await.expect(200).text();
    assert!(
        environment.contains("SERVICE_NAME=service-boundary-coordinator"),
        "{environment}"
    );
    for line in environment.lines() {
        let name = line.split('=').next().unwrap();
        let foreign = [
            "PATH",
            "HOME",
            "PWD",
            "REDIS_",
            "JWT_SECRET",
            "LOCKGATE_",
            "CSRF_",
        ];
        assert!(!foreign.iter().any(|part| name.starts_with(part)), "{line}");
    }
}

#[tokio::test]
async fn a_key_outside_of_its_grants_is_denied() {
    let host = host().await;
    for key in [
        "lockgate:revoked:user:14",
        "jwt:rotation:1",
        "",
        "other",
        "session",
    ] {
        let text = ask(&host, &format!("/redis?key={key}"))
            .await
            .expect(200)
            .text();
        assert!(text.contains("set Err(Error::Denied)"), "{key}: {text}");
        assert!(text.contains("get Err(Error::Denied)"), "{key}: {text}");
    }
    let text = ask(&host, "/redis?key=session:mine")
        .await
        .expect(200)
        .text();
    assert!(text.contains("set Ok(true)"), "{text}");
}

#[tokio::test]
async fn the_host_answers_for_the_service_header_itself() {
    let host = host().await;
    let call = host
        .get(HERE, "/echo")
        .header("x-service-secret", "guessed");
    let text = call.send().await.expect(200).text();
    assert!(text.contains("service false"), "{text}");
    assert!(!text.contains("guessed"), "{text}");
}
