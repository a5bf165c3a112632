//! Every number of `limits` in the configuration, tested at its edge: what it allows
//! passes, one more does not, and the service goes on.

use lockgate_tests::component::{self, Probe, version_text};
use lockgate_tests::metrics::Metrics;
use lockgate_tests::{Answer, Host, Service};

const HERE: Service = Service::Coordinator;

/// Starts the probe with these limits.
async fn probe(limits: &str) -> Host {
    let folder = component::folder();
    let file = Probe::version(1).file(folder.path());
    with_limits(limits).plugin(HERE, file).start().await
}

/// Starts a component with these limits.
async fn small(limits: &str, bytes: &[u8]) -> Host {
    let folder = component::folder();
    let file = folder.path().join("small.wasm");
    std::fs::write(&file, bytes).unwrap();
    with_limits(limits).plugin(HERE, file).start().await
}

fn with_limits(limits: &str) -> lockgate_tests::HostBuilder {
    // What too many timeouts lead to has tests of its own.
    Host::builder().config(format!(
        "[quarantine]\ntimeouts = 10000\n[services.{}.limits]\n{limits}\n",
        HERE.name()
    ))
}

async fn ask(host: &Host, path: &str) -> Answer {
    host.get(HERE, path).send().await
}

async fn text(host: &Host, path: &str) -> String {
    ask(host, path).await.expect(200).text()
}

async fn is_503(host: &Host, path: &str) {
    ask(host, path)
        .await
        .expect_error(503, "service_unavailable");
}

/// The number that a small component answers.
async fn number(host: &Host) -> u32 {
    let answer = ask(host, "/").await.expect(200);
    u32::from_le_bytes(answer.body.try_into().expect("four bytes"))
}

/// Drops the file onto a host that serves: it is refused in one sentence with these
/// words, and the old revision answers.
async fn refused(host: &Host, bytes: &[u8], words: &[&str]) {
    let before = host.plugin_report(HERE).await;
    host.install(HERE, bytes);
    let error = host.wait_refused(HERE, words).await;
    assert!(!error.contains('\n') && error.len() < 500, "{error}");
    let after = host.plugin_report(HERE).await;
    assert_eq!(after.digest, before.digest, "the old revision serves");
    assert_eq!(number(host).await, 7);
    // The next refusal is another one.
    host.swap(HERE, &component::constant(7)).await;
}

/// A component that grows its table by one until the host refuses, and answers with
/// the size that it has then.
fn table(elements: u32) -> Vec<u8> {
    let core = format!(
        "(table $t {elements} funcref)
         (func (export \"handle\") (param i32) (result i32)
           (loop $more
             (br_if $more (i32.ge_s (table.grow $t (ref.null func) (i32.const 1)) (i32.const 0))))
           (call $answer (table.size $t)))"
    );
    component::small(1, &core, "")
}

/// The same with its memory, in pages of 64 KiB.
fn memory(pages: u32) -> Vec<u8> {
    let core = "(func (export \"handle\") (param i32) (result i32)
           (loop $more
             (br_if $more (i32.ge_s (memory.grow (i32.const 1)) (i32.const 0))))
           (call $answer (memory.size)))";
    component::small(pages, core, "")
}

/// Modules that a component brings along and instantiates, each of these fields.
fn modules(fields: &[&str]) -> Vec<u8> {
    let more: String = fields
        .iter()
        .enumerate()
        .map(|(n, fields)| {
            format!(
                "(core module $module-{n} {fields})\n(core instance (instantiate $module-{n}))\n"
            )
        })
        .collect();
    let core = "(func (export \"handle\") (param i32) (result i32) (call $answer (i32.const 7)))";
    component::small(1, core, &more)
}

#[tokio::test]
async fn a_table_grows_to_its_limit() {
    let host = small("table_elements = 1000", &table(10)).await;
    for _ in 0..3 {
        assert_eq!(number(&host).await, 1000);
    }
    host.swap(HERE, &table(1000)).await;
    assert_eq!(number(&host).await, 1000);
}

#[tokio::test]
async fn a_table_that_begins_over_its_limit_is_refused() {
    let host = small("table_elements = 1000", &component::constant(7)).await;
    // Over this service's limit, and over every service's.
    refused(&host, &table(1001), &["table", "1001"]).await;
    refused(&host, &table(20_001), &["table", "20001"]).await;
    refused(&host, &table(u32::MAX), &["table"]).await;
}

#[tokio::test]
async fn a_memory_grows_to_its_limit() {
    let host = small("memory_bytes = 1048576", &memory(1)).await;
    for _ in 0..3 {
        assert_eq!(number(&host).await, 16);
    }
    host.swap(HERE, &memory(16)).await;
    assert_eq!(number(&host).await, 16);
}

#[tokio::test]
async fn a_memory_that_begins_over_its_limit_is_refused() {
    let host = small("memory_bytes = 1048576", &component::constant(7)).await;
    // Over this service's limit, and over every service's.
    refused(&host, &memory(17), &["memory"]).await;
    refused(&host, &memory(513), &["memory"]).await;
    refused(&host, &memory(65_536), &["memory"]).await;
}

#[tokio::test]
async fn tables_memories_and_instances_are_counted() {
    let host = small("", &component::constant(7)).await;
    host.swap(HERE, &modules(&["(table 1 funcref)"; 8])).await;
    assert_eq!(number(&host).await, 7);
    host.swap(HERE, &modules(&[""; 23])).await;
    assert_eq!(number(&host).await, 7);
    host.swap(HERE, &modules(&["(memory 1)"])).await;
    assert_eq!(number(&host).await, 7);
    refused(&host, &modules(&["(table 1 funcref)"; 9]), &["9 tables"]).await;
    let both = "(table 1 funcref)".repeat(2);
    refused(&host, &modules(&[&both]), &["tables", "2"]).await;
    refused(&host, &modules(&["(memory 1)"; 2]), &["3", "memories"]).await;
    refused(&host, &modules(&[""; 24]), &["25", "instances"]).await;
}

#[tokio::test]
async fn a_start_function_that_never_ends_is_refused() {
    let host = small("", &component::constant(7)).await;
    let loops = "(func $loops (loop $again (br $again))) (start $loops)";
    refused(&host, &modules(&[loops]), &["before it could serve"]).await;
    let traps = "(func $traps unreachable) (start $traps)";
    refused(&host, &modules(&[traps]), &["before it could serve"]).await;
}

#[tokio::test]
async fn a_value_has_at_most_its_size() {
    let host = probe("value_bytes = 1000").await;
    for path in ["/set", "/compare-and-set"] {
        let name = &path[1..];
        for bytes in [0, 999, 1000] {
            let text = text(&host, &format!("{path}?bytes={bytes}")).await;
            assert!(text.starts_with(&format!("{name} Ok(")), "{bytes}: {text}");
        }
        for bytes in [1001, 5000, 500_000] {
            let text = text(&host, &format!("{path}?bytes={bytes}")).await;
            assert_eq!(text, format!("{name} Err(Error::TooLarge)"), "{bytes}");
        }
    }
}

#[tokio::test]
async fn two_values_of_the_largest_size_fit_into_one_call() {
    let host = probe("value_bytes = 4000000").await;
    for path in ["/set", "/compare-and-set"] {
        let text = text(&host, &format!("{path}?bytes=4000000")).await;
        assert!(text.contains(" Ok("), "{path}: {text}");
    }
    let over = text(&host, "/set?bytes=4000001").await;
    assert_eq!(over, "set Err(Error::TooLarge)");
}

#[tokio::test]
async fn a_key_has_at_most_512_bytes() {
    let host = probe("").await;
    let key = |length: usize| format!("session:{}", "k".repeat(length - 8));
    let longest = text(&host, &format!("/redis?key={}", key(512))).await;
    assert!(longest.starts_with("set Ok(true)"), "{longest}");
    let over = text(&host, &format!("/redis?key={}", key(513))).await;
    assert_eq!(over, "set Err(Error::TooLarge)\nget Err(Error::TooLarge)");
}

#[tokio::test]
async fn a_call_names_at_most_64_keys() {
    let host = probe("").await;
    let most = text(&host, "/many?n=64").await;
    assert_eq!(most, "get-many Ok(64)\ndelete Ok(0)");
    for keys in [65, 5000] {
        let over = text(&host, &format!("/many?n={keys}")).await;
        let wanted = "get-many Err(Error::TooLarge)\ndelete Err(Error::TooLarge)";
        assert_eq!(over, wanted, "{keys}");
    }
}

/// How many calls of the service ended in this way.
async fn faults(host: &Host, kind: &str) -> f64 {
    let labels = [("service", HERE.name()), ("kind", kind)];
    let metrics = Metrics::of(host).await;
    metrics.sum("lockgate_faults_total", &labels)
}

#[tokio::test]
async fn computing_is_limited_and_waiting_is_not_computing() {
    let host = probe("cpu_ms = 50\nwall_ms = 4000").await;
    is_503(&host, "/loop").await;
    assert_eq!(faults(&host, "cpu").await, 1.0);
    assert_eq!(text(&host, "/sleep?ms=1000").await, version_text(1));
    assert_eq!(faults(&host, "cpu").await, 1.0);
    assert_eq!(faults(&host, "wall").await, 0.0);
}

#[tokio::test]
async fn the_whole_time_is_limited_however_it_is_spent() {
    let host = probe("cpu_ms = 4000\nwall_ms = 200").await;
    is_503(&host, "/sleep?ms=60000").await;
    assert_eq!(faults(&host, "wall").await, 1.0);
    is_503(&host, "/loop").await;
    assert_eq!(faults(&host, "wall").await, 2.0);
    assert_eq!(faults(&host, "cpu").await, 0.0);
    assert_eq!(text(&host, "/version").await, version_text(1));
}

#[tokio::test]
async fn an_answer_has_at_most_so_many_headers() {
    // The probe's answers have a content type besides.
    let host = probe("response_headers = 8").await;
    let answer = ask(&host, "/headers?n=7").await.expect(200);
    assert_eq!(answer.header("x-probe-6"), "1");
    is_503(&host, "/headers?n=8").await;
    assert_eq!(text(&host, "/version").await, version_text(1));
}

#[tokio::test]
async fn the_headers_of_an_answer_have_at_most_32_kib() {
    let host = probe("").await;
    let others = "content-typetext/plainx-probe".len();
    let most = 32_768 - others;
    let answer = ask(&host, &format!("/header-bytes?bytes={most}")).await;
    assert_eq!(answer.expect(200).header("x-probe").len(), most);
    is_503(&host, &format!("/header-bytes?bytes={}", most + 1)).await;
    assert_eq!(text(&host, "/version").await, version_text(1));
}

#[tokio::test]
async fn a_body_has_at_most_its_size() {
    let host = probe("response_body_bytes = 100000").await;
    for bytes in [0, 99_999, 100_000] {
        let answer = ask(&host, &format!("/body?bytes={bytes}"))
            .await
            .expect(200);
        assert_eq!(answer.body.len(), bytes);
    }
    for bytes in [100_001, 200_000] {
        is_503(&host, &format!("/body?bytes={bytes}")).await;
    }
    assert_eq!(text(&host, "/version").await, version_text(1));
}

#[tokio::test]
async fn a_request_makes_at_most_so_many_host_calls() {
    let host = probe("host_calls = 10").await;
    for _ in 0..3 {
        // The count begins anew with each request, in the same instance too.
        assert_eq!(text(&host, "/host-calls?n=10").await, "called");
    }
    is_503(&host, "/host-calls?n=11").await;
    assert_eq!(faults(&host, "host_calls").await, 1.0);
    assert_eq!(text(&host, "/host-calls?n=10").await, "called");
}

/// The lines of the log that the guest wrote.
fn written(host: &Host) -> Vec<String> {
    let log = host.log();
    let of_guest = log.lines().filter(|line| line.contains("xx"));
    of_guest.map(str::to_owned).collect()
}

/// The log says so many times that something was dropped.
fn dropped(host: &Host, times: usize) {
    let note = "the plugin wrote more log than it may";
    let found = host.log().matches(note).count();
    assert_eq!(found, times, "{}", host.log());
}

#[tokio::test]
async fn a_request_writes_at_most_so_many_lines() {
    let host = probe("log_lines = 5").await;
    ask(&host, "/log?lines=5&bytes=10").await.expect(200);
    assert_eq!(written(&host).len(), 5);
    dropped(&host, 0);
    ask(&host, "/log?lines=6&bytes=10").await.expect(200);
    assert_eq!(written(&host).len(), 10);
    dropped(&host, 1);
    ask(&host, "/log?lines=2000&bytes=0").await.expect(200);
    dropped(&host, 2);
    // Each request has its own.
    ask(&host, "/log?lines=5&bytes=10").await.expect(200);
    assert_eq!(written(&host).len(), 15);
    dropped(&host, 2);
}

#[tokio::test]
async fn a_request_writes_at_most_so_many_bytes() {
    let host = probe("log_bytes = 1000").await;
    // `probe 0 `, the rest of the line, a line break: 1000 bytes in all.
    ask(&host, "/log?lines=1&bytes=991").await.expect(200);
    assert_eq!(count(&written(&host)), 991);
    dropped(&host, 0);
    ask(&host, "/log?lines=1&bytes=992").await.expect(200);
    assert_eq!(count(&written(&host)), 991 + 992);
    dropped(&host, 1);
    ask(&host, "/log?lines=3&bytes=600").await.expect(200);
    let second = 1000 - (8 + 600 + 1) - 8;
    assert_eq!(count(&written(&host)), 991 + 992 + 600 + second);
    dropped(&host, 2);
}

/// The letters of the guest's lines.
fn count(lines: &[String]) -> usize {
    let letters = |line: &String| {
        let start = line.find("xx").expect("letters");
        line[start..].chars().take_while(|c| *c == 'x').count()
    };
    lines.iter().map(letters).sum()
}
