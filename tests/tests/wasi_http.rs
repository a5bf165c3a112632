//! Components of `wasi:http`, as they are made for other hosts, on a port of this one: what
//! they answer, how each bad conduct ends, and that swaps, limits and trials hold for them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lockgate_tests::component::{self, Probe, wasi_http};
use lockgate_tests::metrics::Metrics;
use lockgate_tests::wait::eventually;
use lockgate_tests::{Answer, Host, Service, User, place};
use reqwest::Method;
use serde_json::Value;

const HERE: Service = Service::Coordinator;

/// A host whose coordinator is the component; `more` follows the table of its limits.
async fn host(limits: &str, more: &str) -> Host {
    let folder = component::folder();
    let file = write(folder.path(), &wasi_http(1));
    let config = allowed(limits) + more;
    Host::builder()
        .plugin(HERE, file)
        .config(config)
        .start()
        .await
}

/// The configuration that allows the contract. Failures have tests of their own.
fn allowed(limits: &str) -> String {
    let name = HERE.name();
    format!(
        "[quarantine]\ntimeouts = 10000\n[probation]\nfailures = 10000\n\
         [services.{name}]\ncontract = \"wasi-http\"\n[services.{name}.limits]\n{limits}\n"
    )
}

fn write(folder: &Path, bytes: &[u8]) -> PathBuf {
    let path = folder.join(format!("{}.wasm", component::digest(bytes)));
    std::fs::write(&path, bytes).expect("write a component");
    path
}

async fn ask(host: &Host, path: &str) -> Answer {
    host.get(HERE, path).send().await
}

async fn text(host: &Host, path: &str) -> String {
    ask(host, path).await.expect(200).text()
}

#[tokio::test]
async fn a_request_comes_in_as_it_was_sent_and_the_answer_goes_out() {
    let host = host("", "").await;
    let call = host
        .call(Method::PATCH, HERE, "/hello?a=b&c")
        .header("x-one", "first")
        .header("x-one", "second")
        .header("x-service-secret", "not for components")
        .header("x-request-id", "id-4711")
        .body("body");
    let answer = call.send().await.expect(200);
    let said = answer.text();
    let authority = format!("http://127.0.0.1:{}", host.port(HERE));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["PATCH /hello?a=b&c", &authority]);
    for line in ["x-one: first", "x-one: second", "x-request-id: id-4711"] {
        assert!(lines.contains(&line), "{line}: {said}");
    }
    assert!(!said.contains("not for components"), "{said}");
    assert_eq!(answer.header("content-type"), "text/plain");
    assert_eq!(answer.header("x-component"), "wasi-http");
    assert_eq!(answer.header("x-trailer"), "");
    assert_eq!(answer.header("x-request-id"), "id-4711");

    let purge = Method::from_bytes(b"PURGE").unwrap();
    let said = host.call(purge, HERE, "/hello").send().await.expect(200);
    assert!(said.text().starts_with("PURGE /hello\n"));
    assert_eq!(ask(&host, "/teapot").await.status, 418);
    let head = host.call(Method::HEAD, HERE, "/teapot").send().await;
    assert_eq!((head.status, head.header("content-length")), (418, "15"));
    assert!(head.body.is_empty());
    // The length of a body that is not written.
    let head = host.call(Method::HEAD, HERE, "/short").send().await;
    assert_eq!((head.status, head.header("content-length")), (200, ""));
    ask(&host, "/elsewhere").await.expect(404);
}

#[tokio::test]
async fn a_component_gets_its_settings_and_a_log_and_nothing_else() {
    let env = format!("[services.{}.env]\nGREETING = \"hello\"\n", HERE.name());
    let host = host("", &env).await;
    let settings = text(&host, "/environment").await;
    assert!(settings.contains("GREETING=hello\n"), "{settings}");
    assert!(!settings.contains("PATH="), "{settings}");
    assert_eq!(text(&host, "/folders").await, "0");
    assert_eq!(text(&host, "/log").await, "logged");
    let log = host.log();
    let line = log
        .lines()
        .find(|line| line.contains("said by a wasi:http component"));
    let line = line.expect("a line of the component");
    assert!(
        line.contains("WARN") && line.contains(HERE.name()),
        "{line}"
    );
    assert_eq!(
        text(&host, "/outgoing").await,
        "refused: ErrorCode::HttpRequestDenied"
    );
    assert!(host.log().contains("a host call was denied"));
}

#[tokio::test]
async fn bodies_go_both_ways_within_their_limits() {
    let host = host(
        "request_body_bytes = 300000\nresponse_body_bytes = 1000000",
        "",
    )
    .await;
    for size in [0, 1, 4096, 4097, 300_000] {
        let sent: Vec<u8> = (0..size).map(|at: u32| (at % 251) as u8).collect();
        let answer = host.post(HERE, "/body").body(sent.clone()).send().await;
        assert!(answer.expect(200).body == sent, "{size} bytes came back");
    }
    let over = host.post(HERE, "/body").body(vec![0; 300_001]);
    over.send().await.expect_error(413, "invalid_request");
    let streamed = ask(&host, "/stream").await.expect(200).body;
    assert_eq!(streamed.len(), 1_000_000);
    let wanted = |at: usize| b'a' + (at / 10_000 % 26) as u8;
    assert!((0..streamed.len()).all(|at| streamed[at] == wanted(at)));
    ask(&host, "/large")
        .await
        .expect_error(503, "service_unavailable");
    assert!(host.log().contains("more than it may"), "{}", host.log());
    assert_eq!(text(&host, "/version").await, "00000001");
}

#[tokio::test]
async fn every_bad_conduct_has_its_end() {
    let host = host("cpu_ms = 30\nwall_ms = 300\nreuse = 100", "").await;
    for (path, kind, words) in [
        ("/trap", "trap", "the component trapped"),
        ("/trap-after-head", "trap", "the component trapped"),
        ("/trap-after-all", "trap", "the component trapped"),
        ("/twice", "trap", "the component trapped"),
        ("/nothing", "bad_answer", "cannot be sent: there is none"),
        (
            "/error",
            "bad_answer",
            "cannot be sent: it is the error ConfigurationError",
        ),
        ("/status", "bad_answer", "the status 999 is not"),
        ("/dropped", "bad_answer", "its body was not finished"),
        ("/open", "bad_answer", "its body was not finished"),
        ("/short", "bad_answer", "its body was not finished"),
        ("/loop", "cpu", "used up its CPU time"),
        ("/loop-after-all", "cpu", "used up its CPU time"),
        ("/sleep", "wall", "took too long"),
    ] {
        let before = faults(&host, kind).await;
        let answer = host
            .get(HERE, path)
            .header("x-request-id", path.trim_start_matches('/'))
            .send()
            .await;
        answer.expect_error(503, "service_unavailable");
        assert_eq!(faults(&host, kind).await, before + 1.0, "{path}");
        let log = host.log();
        let id = format!("request_id={}", path.trim_start_matches('/'));
        let line = log
            .lines()
            .find(|line| line.contains("component failed") && line.contains(&id));
        let line = line.unwrap_or_else(|| panic!("{path} is in the log"));
        assert!(line.contains(words), "{path}: {line}");
        // Whatever it was, the next request is answered.
        assert_eq!(text(&host, "/version").await, "00000001", "{path}");
    }
}

/// Calls of the service that failed so.
async fn faults(host: &Host, kind: &str) -> f64 {
    let metrics = Metrics::of(host).await;
    let labels = [("service", HERE.name()), ("kind", kind)];
    metrics.sum("lockgate_faults_total", &labels)
}

#[tokio::test]
async fn each_request_has_an_instance_of_its_own_unless_the_service_says_otherwise() {
    let fresh = host("", "").await;
    for _ in 0..20 {
        assert_eq!(text(&fresh, "/count").await, "1");
    }
    let reused = host("reuse = 5\nwarm = 1", "").await;
    for count in ["1", "2", "3", "4", "5", "1"] {
        assert_eq!(text(&reused, "/count").await, count);
    }
}

#[tokio::test]
async fn an_instance_that_keeps_something_of_a_request_gets_no_other() {
    let host = host("reuse = 100\nwarm = 1", "").await;
    assert_eq!(text(&host, "/count").await, "1");
    assert_eq!(text(&host, "/count").await, "2");
    assert_eq!(text(&host, "/keeps").await, "kept");
    assert_eq!(text(&host, "/count").await, "1");
}

#[tokio::test]
async fn a_service_takes_components_of_its_own_contract_only() {
    let folder = component::folder();
    let file = Probe::version(1).file(folder.path());
    let plugin = Host::builder().plugin(HERE, file).start().await;
    plugin.install(HERE, &wasi_http(2));
    let setting = format!("set services.{}.contract = \"wasi-http\"", HERE.name());
    let words = ["wasi:http/incoming-handler@0.2", "\"plugin\"", &setting];
    plugin.wait_refused(HERE, &words).await;
    assert_eq!(text(&plugin, "/version").await, "00000001");

    let web = host("", "").await;
    web.install(HERE, &Probe::version(2).bytes());
    let setting = format!("set services.{}.contract = \"plugin\"", HERE.name());
    let words = ["lockgate:plugin/handler@0.1.0", "\"wasi-http\"", &setting];
    web.wait_refused(HERE, &words).await;
    for (import, word) in [
        ("wasi:sockets/tcp@0.2.0", "no sockets"),
        ("wasi:keyvalue/store@0.2.0", "not among the parts"),
        ("lockgate:plugin/redis@0.1.0", "no functions of this host"),
    ] {
        web.install(HERE, &component::with_import(&wasi_http(2), import));
        web.wait_refused(HERE, &[import, word]).await;
    }
    web.install(HERE, &component::constant(1)[..40]);
    web.wait_refused(HERE, &["not valid"]).await;
    assert_eq!(text(&web, "/version").await, "00000001");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_under_load_lose_no_request() {
    let host = Arc::new(host("", "").await);
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = tokio::task::JoinSet::new();
    for path in ["/version", "/version", "/version", "/stream"] {
        let (host, stop) = (host.clone(), stop.clone());
        callers.spawn(async move {
            let (mut count, mut newest) = (0, String::new());
            while !stop.load(Ordering::Relaxed) {
                let said = text(&host, path).await;
                match path {
                    "/version" => assert!(said >= newest, "{said} after {newest}"),
                    _ => assert_eq!(said.len(), 1_000_000),
                }
                newest = said;
                count += 1;
            }
            count
        });
    }
    for version in 2..=5 {
        host.swap(HERE, &wasi_http(version)).await;
        host.install(HERE, b"not a component");
        host.wait_refused(HERE, &[]).await;
    }
    stop.store(true, Ordering::Relaxed);
    let counts: Vec<u32> = callers.join_all().await;
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    assert_eq!(text(&host, "/version").await, "00000005");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_loops_keeps_no_other_port_waiting() {
    let host = Arc::new(host("cpu_ms = 1000\nwall_ms = 3000", "").await);
    let stop = Arc::new(AtomicBool::new(false));
    let mut loops = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (host, stop) = (host.clone(), stop.clone());
        loops.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let answer = ask(&host, "/loop").await;
                answer.expect_error(503, "service_unavailable");
            }
        });
    }
    eventually("the loops are on the slow lane", async || {
        let slow = host.metric(HERE, "lockgate_slow_calls").await;
        if slow > 0.0 { Ok(()) } else { Err(slow) }
    })
    .await;
    // On this port and on another: all of these while at least one call loops.
    let token = host.tokens.access(&User::new(14));
    for _ in 0..100 {
        assert_eq!(text(&host, "/version").await, "00000001");
        let call = host.get(Service::Session, "/api/v1/session/validate");
        let answer = call.bearer(&token).send().await.expect(200);
        assert_eq!(answer.json()["valid"], true);
    }
    assert!(!loops.is_empty());
    stop.store(true, Ordering::Relaxed);
    loops.join_all().await;
}

#[tokio::test]
async fn a_new_revision_that_fails_is_rolled_back_and_one_that_loops_rests() {
    let name = HERE.name();
    let folder = component::folder();
    let file = write(folder.path(), &wasi_http(1));
    let config = format!(
        "[quarantine]\ntimeouts = 3\nrest_seconds = 3600\n[probation]\nfailures = 4\n\
         [services.{name}]\ncontract = \"wasi-http\"\n[services.{name}.limits]\ncpu_ms = 20\n"
    );
    let host = Host::builder().plugin(HERE, file).config(config);
    let host = host.start().await;
    assert_eq!(text(&host, "/version").await, "00000001");
    host.swap(HERE, &wasi_http(2)).await;
    assert_eq!(text(&host, "/version").await, "00000002");
    for _ in 0..4 {
        ask(&host, "/trap")
            .await
            .expect_error(503, "service_unavailable");
    }
    assert_eq!(text(&host, "/version").await, "00000001");
    for _ in 0..3 {
        ask(&host, "/loop")
            .await
            .expect_error(503, "service_unavailable");
    }
    assert_eq!(host.plugin_report(HERE).await.state, "quarantined");
    let answer = ask(&host, "/version").await;
    let body = answer.expect_error(503, "service_unavailable");
    assert!(body["message"].as_str().unwrap().contains("resting"));
}

#[tokio::test]
async fn a_recorded_call_is_made_again() {
    let name = HERE.name();
    let recording = format!("[services.{name}.recording]\nwhen = \"always\"\n");
    let host = host("", &recording).await;
    text(&host, "/now").await;
    let folder = host.data_dir().join("traces").join(name);
    let trace = eventually("a trace", async || {
        let entries = std::fs::read_dir(&folder).expect("the folder of traces");
        let mut found = entries.map(|entry| entry.expect("an entry").path());
        let whole = |path: &PathBuf| path.extension().is_some_and(|end| end == "json");
        found.find(whole).ok_or(())
    })
    .await;
    let recorded = std::fs::read_to_string(&trace).expect("a trace");
    let recorded: Value = serde_json::from_str(&recorded).expect("JSON");
    assert_eq!(recorded["outcome"]["answer"]["status"], 200);
    let calls = recorded["calls"].as_array().expect("a list");
    for function in ["clock.wall", "clock.monotonic", "random.secure"] {
        let made = |call: &Value| call["function"] == function;
        assert!(calls.iter().any(made), "{function}: {recorded}");
    }
    let file = write(host.root(), &wasi_http(1));
    let mut replay = Command::new(place::binary());
    replay.arg("replay").arg(&trace).arg("--plugin").arg(file);
    let output = replay.output().expect("run the binary");
    let words = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{words}");
    assert!(words.contains("equal: "), "{words}");
}

#[tokio::test]
async fn a_shadow_is_compared() {
    let host = host("", "").await;
    let file = write(host.root(), &wasi_http(2));
    let file = file.to_str().expect("a plain path");
    host.command(&["shadow", HERE.name(), file], true);
    let path = format!("/plugins/{}/shadow", HERE.name());
    for (asked, compared, different) in [("/teapot", 1, 0), ("/version", 2, 1)] {
        ask(&host, asked).await;
        eventually("the answers are compared", async || {
            let report = host.admin(&path).send().await.expect(200).json();
            let seen = (report["compared"] == compared) && (report["different"] == different);
            if seen { Ok(()) } else { Err(report) }
        })
        .await;
    }
    assert_eq!(text(&host, "/version").await, "00000001");
}

#[test]
fn check_says_whether_the_service_takes_it() {
    let folder = component::folder();
    let web = write(folder.path(), &wasi_http(1));
    let plugin = Probe::version(1).file(folder.path());
    let configuration = folder.path().join("lockgate.toml");
    let check = |file: &Path, config: &str| {
        std::fs::write(&configuration, config).expect("write a configuration");
        let output = Command::new(place::binary())
            .args(["check", "--service", HERE.name()])
            .arg(file)
            .env("LOCKGATE_CONFIG", &configuration)
            .output()
            .expect("run the binary");
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = check(&web, &allowed(""));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("a component of wasi:http"), "{said}");
    for (file, config, setting) in [
        (&web, String::new(), "contract = \"wasi-http\""),
        (&plugin, allowed(""), "contract = \"plugin\""),
    ] {
        let (code, said) = check(file, &config);
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("would be refused") && said.contains(setting),
            "{said}"
        );
    }
}
