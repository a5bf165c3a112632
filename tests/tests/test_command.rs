//! `lockgate test`: what passes, what fails and says why, and what is refused in words.

use std::path::{Path, PathBuf};

use lockgate_tests::component::{self, Probe};
use lockgate_tests::place;
use tempfile::TempDir;

/// A plugin's folder with these tests; the component is the probe.
fn plugin(tests: &[(&str, &str)]) -> (TempDir, PathBuf) {
    let folder = component::folder();
    let dir = folder.path().join("probe");
    std::fs::create_dir_all(dir.join("tests")).unwrap();
    let config = "[services.probe]\nport = 9000\n[services.probe.grants]\n\
                  interfaces = [\"counters\", \"csrf\", \"jwt\", \"redis\"]\nverify = [\"access\"]\n\
                  redis_read = [\"session:*\"]\nredis_write = [\"session:*\"]\n";
    std::fs::write(dir.join("lockgate.toml"), config).unwrap();
    std::fs::write(dir.join("probe.wasm"), Probe::version(7).bytes()).unwrap();
    for (name, text) in tests {
        std::fs::write(dir.join("tests").join(name), text).unwrap();
    }
    (folder, dir)
}

/// Runs it; what it printed.
fn run(dir: &Path, more: &[&str], success: bool) -> String {
    let dir = dir.to_str().expect("plain text");
    place::run(&[&["test", dir], more].concat(), success)
}

const GOOD: &str = r#"
[tokens.ada]
user_id = 42

[[scenario]]
name = "it answers with its version, and with another after a swap"
[[scenario.step]]
request = { path = "/" }
expect = { status = 200, body = "00000007" }
[[scenario.step]]
swap = "other.wasm"
request = { path = "/account", bearer = "{ada}" }
expect = { status = 200, json = { user = 42 } }
[[scenario.step]]
request = { path = "/" }
expect = { status = 200, body = "00000008" }

[[scenario]]
name = "the guest's clock is the test's"
[[scenario.step]]
clock = "2031-05-04T09:30:00Z"
request = { path = "/account", bearer = "{ada}" }
expect = { status = 200, json = { at = 1935653400, visits = 1, kept = true } }
stored = { "session:probe-account-42" = { list = ["visit"], ticket = "<string>" } }
[[scenario.step]]
clock = "+30s"
request = { path = "/account", bearer = "{ada}" }
expect = { status = 200, json = { at = 1935653430, visits = 2 } }
[[scenario.step]]
clock = "+60s"
request = { path = "/account", bearer = "{ada}" }
expect = { status = 200, json = { visits = 1 } }

[[scenario]]
name = "Redis goes and comes"
[[scenario.step]]
redis = "down"
request = { path = "/account", bearer = "{ada}" }
expect = { status = 200, json = { kept = false } }
[[scenario.step]]
redis = "slow"
request = { path = "/account", bearer = "{ada}" }
expect = { status = 200, json = { kept = false } }
[[scenario.step]]
redis = "up"
request = { path = "/account", bearer = "{ada}" }
expect = { status = 200, json = { kept = true } }
"#;

#[test]
fn what_is_as_expected_passes() {
    let (_folder, dir) = plugin(&[("all.toml", GOOD)]);
    let other = Probe::version(8).bytes();
    std::fs::write(dir.join("tests/other.wasm"), other).unwrap();
    let said = run(&dir, &[], true);
    assert!(said.contains("3 passed, 0 failed"), "{said}");
    let said = run(&dir, &["--filter", "clock"], true);
    assert!(said.contains("1 passed, 0 failed"), "{said}");
}

#[test]
fn each_wrong_expectation_fails_and_says_what_came() {
    let scenario = |step: &str| {
        format!("[tokens.ada]\nuser_id = 42\n[[scenario]]\nname = \"x\"\n[[scenario.step]]\n{step}")
    };
    for (step, words) in [
        (
            "request = { path = \"/\" }\nexpect = { status = 404 }",
            "expected status 404, got 200 00000007",
        ),
        (
            "request = { path = \"/\" }\nexpect = { status = 200, body = \"8\" }",
            "expected the text \"8\", got 200 00000007",
        ),
        (
            "request = { path = \"/\" }\nexpect = { status = 200, headers = { x-none = \"1\" } }",
            "header x-none: expected \"1\", got []",
        ),
        (
            "request = { path = \"/account\", bearer = \"{ada}\" }\n\
             expect = { status = 200, json = { user = 43 } }",
            "/user: expected 43, found 42",
        ),
        (
            "request = { path = \"/account\", bearer = \"{ada}\" }\nexpect = { status = 200 }\n\
             stored = { \"session:none\" = \"<any>\" }",
            "in Redis, key session:none: the whole: expected <any>, found nothing",
        ),
        (
            "swap = true\nrequest = { path = \"/trap\" }\nexpect = { status = 200 }",
            "during a swap: expected status 200, got 503",
        ),
        (
            "request = { path = \"/\", bearer = \"{eve}\" }\nexpect = { status = 200 }",
            "there is no token or saved text \"eve\"",
        ),
        (
            "request = { path = \"/\" }\nexpect = { status = 200 }\nsave = { x = \"/x\" }",
            "what is to be saved is no JSON",
        ),
        (
            "swap = \"none.wasm\"\nrequest = { path = \"/\" }\nexpect = { status = 200 }",
            "cannot read",
        ),
        (
            "clock = \"tomorrow\"\nrequest = { path = \"/\" }\nexpect = { status = 200 }",
            "is no time",
        ),
    ] {
        let (_folder, dir) = plugin(&[("x.toml", &scenario(step))]);
        let said = run(&dir, &[], false);
        assert!(said.contains(words), "{words}: {said}");
        assert!(
            said.contains("FAILED  x: x") && said.contains("0 passed, 1 failed"),
            "{said}"
        );
    }
}

#[test]
fn no_token_is_printed() {
    let text = "[tokens.ada]\nuser_id = 42\n[[scenario]]\nname = \"x\"\n[[scenario.step]]\n\
                request = { path = \"/echo\", bearer = \"{ada}\" }\nexpect = { status = 201 }";
    let (_folder, dir) = plugin(&[("x.toml", text)]);
    let said = run(&dir, &[], false);
    assert!(said.contains("Bearer {ada}"), "{said}");
    assert!(!said.contains("eyJ"), "{said}");
}

#[test]
fn what_is_no_test_is_refused_in_words() {
    let (_folder, dir) = plugin(&[]);
    assert!(run(&dir, &[], false).contains("there is no test in"));
    let (_folder, dir) = plugin(&[("x.toml", "[[scenario]]\nname = 5\nstep = []")]);
    let said = run(&dir, &[], false);
    assert!(said.contains("x.toml") && said.contains("line 2"), "{said}");
    let (_folder, dir) = plugin(&[("all.toml", GOOD)]);
    assert!(run(&dir, &["--filter", "no such thing"], false).contains("no scenario has that"));
    assert!(run(&dir, &["--service", "nothing"], false).contains("\"nothing\" is no service"));
    assert!(run(&dir, &["--component", "/none.wasm"], false).contains("cannot read"));
    std::fs::remove_file(dir.join("probe.wasm")).unwrap();
    assert!(run(&dir, &[], false).contains("there is no component below"));
    std::fs::write(dir.join("probe.wasm"), "text").unwrap();
    let said = run(&dir, &[], false);
    assert!(
        said.contains("the component is refused: this is text"),
        "{said}"
    );
    assert!(run(&dir.join("none"), &[], false).contains("cannot read"));
}
