//! `docs/limits.md` and `docs/security-model.md` name defaults, constants, tests and files;
//! these tests hold them to it, and `docs/configuration.md` to what the code writes. They read
//! text and settings, and start nothing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lockgate::config::{
    Config, Limits, Probation, Quarantine, Reload, SERVICES, Server, ServiceConfig, Sockets,
};

/// A service that is none of the five, so that its limits are the plain defaults.
const CONFIG: &str = "[redis]
url = \"redis://127.0.0.1:1\"
[telemetry]
endpoint = \"http://127.0.0.1:1\"
[services.greeter]
port = 9000
[services.greeter.recording]
when = \"always\"
";

type Numbers = BTreeMap<String, u64>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn document(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

fn config() -> Config {
    Config::from_parts(Some(CONFIG), |_| None).unwrap()
}

// --- what the documents say --------------------------------------------------------

/// The rows of all tables whose first column has this name.
fn rows(text: &str, first: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut wanted = None;
    for line in text.lines() {
        let Some(line) = line
            .strip_prefix('|')
            .and_then(|line| line.strip_suffix('|'))
        else {
            wanted = None;
            continue;
        };
        let cells: Vec<String> = line.split('|').map(|cell| cell.trim().to_owned()).collect();
        match wanted {
            None => wanted = Some(cells[0] == first),
            Some(true) if !cells[0].starts_with("---") => found.push(cells),
            Some(_) => {}
        }
    }
    found
}

/// What stands between backquotes.
fn code(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The number that a cell begins with.
fn number(cell: &str) -> u64 {
    let digits = cell.find(|c: char| !c.is_ascii_digit());
    let digits = &cell[..digits.unwrap_or(cell.len())];
    digits
        .parse()
        .unwrap_or_else(|_| panic!("{cell:?} begins with no number"))
}

/// By the name in the first column the number in the second.
fn numbers(rows: &[Vec<String>]) -> Numbers {
    let pairs = rows
        .iter()
        .map(|row| (code(&row[0])[0].to_owned(), number(&row[1])));
    let found: Numbers = pairs.collect();
    assert_eq!(found.len(), rows.len(), "a name stands there twice");
    found
}

// --- what the code says ------------------------------------------------------------

fn count<T: TryInto<u64, Error: Debug>>(value: T) -> u64 {
    value.try_into().unwrap()
}

fn millis(time: Duration) -> u64 {
    count(time.as_millis())
}

fn named<const N: usize>(pairs: [(&str, u64); N]) -> Numbers {
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Each field by its name, without `..`: a new one must be written down here, and then
/// the document lacks it.
fn of_service(service: &ServiceConfig) -> Numbers {
    let Limits {
        memory,
        table_elements,
        cpu,
        wall,
        host_calls,
        request_body,
        response_body,
        response_headers,
        value,
        log_lines,
        log_bytes,
        slow_calls,
        in_flight,
        queue,
        reuse,
        warm,
    } = service.limits.clone();
    named([
        ("memory_bytes", count(memory)),
        ("table_elements", count(table_elements)),
        ("cpu_ms", millis(cpu)),
        ("wall_ms", millis(wall)),
        ("host_calls", count(host_calls)),
        ("request_body_bytes", count(request_body)),
        ("response_body_bytes", count(response_body)),
        ("response_headers", count(response_headers)),
        ("value_bytes", count(value)),
        ("log_lines", count(log_lines)),
        ("log_bytes", count(log_bytes)),
        ("slow_calls", count(slow_calls)),
        ("in_flight", count(in_flight)),
        ("queue", count(queue)),
        ("reuse", count(reuse)),
        ("warm", count(warm)),
    ])
}

fn of_host(config: &Config) -> Numbers {
    let Server {
        header_read,
        body_read,
        max_headers,
        max_header_bytes,
        max_connections,
        drain,
    } = config.server.clone();
    let Sockets {
        most,
        most_per_user,
        message,
        ping,
    } = config.sockets;
    let Reload { poll, settle } = config.reload.clone();
    let Probation {
        requests,
        time,
        failures,
    } = config.probation;
    let Quarantine {
        timeouts,
        window,
        rest,
    } = config.quarantine;
    named([
        ("server.header_read_ms", millis(header_read)),
        ("server.body_read_ms", millis(body_read)),
        ("server.max_headers", count(max_headers)),
        ("server.max_header_bytes", count(max_header_bytes)),
        ("server.max_connections", count(max_connections)),
        ("server.drain_ms", millis(drain)),
        ("sockets.most", count(most)),
        ("sockets.most_per_user", count(most_per_user)),
        ("sockets.message_bytes", count(message)),
        ("sockets.ping_seconds", ping.as_secs()),
        ("reload.poll_ms", millis(poll)),
        ("reload.settle_ms", millis(settle)),
        ("probation.requests", count(requests)),
        ("probation.seconds", time.as_secs()),
        ("probation.failures", count(failures)),
        ("quarantine.timeouts", count(timeouts)),
        ("quarantine.window_seconds", window.as_secs()),
        ("quarantine.rest_seconds", rest.as_secs()),
    ])
}

/// Those that stand among other settings.
fn others(config: &Config, service: &ServiceConfig) -> Numbers {
    let (redis, jwt) = (config.redis.as_ref().unwrap(), &config.jwt);
    let telemetry = config.telemetry.as_ref().unwrap();
    let fallback = config.service("fallback-session-provider").unwrap();
    let rate = fallback
        .env
        .iter()
        .find(|(name, _)| name == "FALLBACK_RATE_LIMIT");
    let keep = service.recording.as_ref().unwrap().keep;
    named([
        ("engine.stack_bytes", count(config.stack)),
        (
            "chat.reply_timeout_seconds",
            config.chat_reply_timeout.as_secs(),
        ),
        ("redis.command_timeout_ms", millis(redis.command_timeout)),
        ("redis.request_budget_ms", millis(redis.request_budget)),
        ("telemetry.timeout_ms", millis(telemetry.timeout)),
        ("telemetry.delay_ms", millis(telemetry.delay)),
        ("telemetry.queue", count(telemetry.queue)),
        ("jwt.overlap_seconds", jwt.overlap.as_secs()),
        ("jwt.access_max_seconds", jwt.access_max.as_secs()),
        ("jwt.refresh_grace_seconds", jwt.refresh_grace.as_secs()),
        ("jwt.verified_bytes", jwt.verified_bytes),
        ("fallback.rate_limit", number(&rate.unwrap().1)),
        (
            "grants.access_seconds",
            service.grants.access_life.as_secs(),
        ),
        (
            "grants.refresh_seconds",
            service.grants.refresh_life.as_secs(),
        ),
        ("recording.keep", count(keep)),
    ])
}

/// The value of a constant, from the text of its file: a number, a product, a shift, and
/// of a `Duration` the number of its own unit.
fn constant(text: &str, name: &str) -> Option<u64> {
    let (_, rest) = text.split_once(&format!("const {name}: "))?;
    let (_, value) = rest.split(';').next()?.split_once(" = ")?;
    let value = value.trim_end_matches(')').rsplit('(').next()?;
    let product = |factors: &str| -> Option<u64> {
        let numbers = factors
            .split('*')
            .map(|factor| factor.trim().replace('_', "").parse::<u64>().ok());
        numbers.product()
    };
    match value.split_once("<<") {
        Some((left, right)) => Some(product(left)? << product(right)?),
        None => product(value),
    }
}

/// The files that a name such as `slot/admission` may mean.
fn files(place: &str) -> Vec<String> {
    let candidates = [
        format!("tests/tests/{place}.rs"),
        format!("host/tests/{place}.rs"),
        format!("host/src/{place}.rs"),
        format!("host/src/{place}/tests.rs"),
    ];
    let texts = candidates
        .iter()
        .map(|path| fs::read_to_string(root().join(path)));
    texts.filter_map(Result::ok).collect()
}

fn has_function(text: &str, name: &str) -> bool {
    text.contains(&format!("fn {name}("))
}

fn has_test(text: &str, name: &str) -> bool {
    let declared = [format!("fn {name}()"), format!("async fn {name}()")];
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let found = lines
        .iter()
        .position(|line| declared.iter().any(|fits| line.starts_with(fits)));
    found.is_some_and(|at| {
        let before = &lines[at.saturating_sub(1)..at];
        before
            .iter()
            .any(|line| *line == "#[test]" || line.starts_with("#[tokio::test"))
    })
}

/// `place::name`, if that is what it is.
fn reference(code: &str) -> Option<(&str, &str)> {
    let (place, name) = code.split_once("::")?;
    let plain =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '/' | '-');
    (place.chars().all(plain) && !name.contains(':')).then_some((place, name))
}

// --- the tests ---------------------------------------------------------------------

#[test]
fn the_configuration_reference_is_what_the_code_says() {
    let written = lockgate::config::reference().unwrap();
    assert!(
        document("configuration.md") == written,
        "docs/configuration.md is out of date: \
         lockgate config reference > docs/configuration.md"
    );
}

#[test]
fn the_defaults_are_those_of_the_code() {
    let config = config();
    let greeter = config.service("greeter").unwrap();
    let mut expected = of_service(greeter);
    expected.extend(of_host(&config));
    expected.extend(others(&config, greeter));
    let shown = numbers(&rows(&document("limits.md"), "Setting"));
    assert_eq!(shown, expected);
}

#[test]
fn the_five_services_differ_where_it_is_said_and_nowhere_else() {
    let config = config();
    let plain = of_service(config.service("greeter").unwrap());
    let shown = rows(&document("limits.md"), "Service");
    assert_eq!(shown.len(), SERVICES.len());
    for row in shown {
        let name = code(&row[0])[0];
        let mut expected = plain.clone();
        for (setting, cell) in ["cpu_ms", "wall_ms", "queue"].into_iter().zip(&row[1..]) {
            expected.insert(setting.to_owned(), number(cell));
        }
        assert_eq!(
            of_service(config.service(name).unwrap()),
            expected,
            "{name}"
        );
    }
}

#[test]
fn the_constants_are_those_of_the_code() {
    let shown = numbers(&rows(&document("limits.md"), "Constant"));
    assert!(shown.len() > 40, "{shown:?}");
    for (name, value) in shown {
        let (place, constant_name) = name.split_once("::").unwrap();
        let path = root().join(format!("host/src/{place}.rs"));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(constant(&text, constant_name), Some(value), "{name}");
    }
}

#[test]
fn each_limit_names_a_test_that_is_one_or_says_that_there_is_none() {
    let text = document("limits.md");
    for first in ["Setting", "Constant"] {
        for row in rows(&text, first) {
            assert_eq!(row.len(), 5, "{row:?}");
            let named = code(&row[4]);
            assert_eq!(named.is_empty(), row[4] == "none", "{row:?}");
            for test in named {
                let (place, name) = reference(test).unwrap_or_else(|| panic!("{test}"));
                let found = files(place).iter().any(|text| has_test(text, name));
                assert!(found, "there is no test {test}");
            }
        }
    }
}

#[test]
fn what_the_documents_name_is_there() {
    for name in ["limits.md", "security-model.md"] {
        let text = document(name);
        let mut seen = 0;
        for code in code(&text) {
            if let Some((place, item)) = reference(code) {
                let found = files(place)
                    .iter()
                    .any(|text| has_function(text, item) || constant(text, item).is_some());
                assert!(found, "{name}: there is no {code}");
                seen += 1;
            } else if code.ends_with(".rs") {
                assert!(root().join(code).is_file(), "{name}: there is no {code}");
                seen += 1;
            }
        }
        assert!(seen > 40, "{name} names {seen} tests and files");
    }
}

#[test]
fn the_readers_of_these_tests_tell_right_from_wrong() {
    assert_eq!(constant("const A: usize = 16 * 1_024;", "A"), Some(16_384));
    assert_eq!(
        constant("const AB: u8 = 1;\npub const A: usize = 64 << 20;", "A"),
        Some(64 << 20)
    );
    assert_eq!(
        constant("const A: Duration = Duration::from_millis(1_000);", "A"),
        Some(1000)
    );
    assert_eq!(constant("const AB: u8 = 1;", "A"), None);
    assert_eq!(constant("const A: &str = \"x\";", "A"), None);
    assert!(has_test("#[test]\nfn a() {", "a"));
    assert!(has_test("    #[tokio::test]\n    async fn a() {", "a"));
    assert!(!has_test("async fn a() {", "a"));
    assert!(!has_test("#[test]\nfn ab() {", "a"));
    let table = "| A | B |\n|---|---|\n| `x` | 1 |\n\n| C | D |\n|---|---|\n| `y` | 2 |\n";
    assert_eq!(rows(table, "C"), [["`y`", "2"]]);
}
