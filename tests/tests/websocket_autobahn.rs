//! The Autobahn test suite for WebSocket servers, run as it is (by `kosoku`, which drives
//! its case files) against a plugin that gives every text back. What this host does by
//! design is no failure, but has to be that and nothing else: binary messages are closed
//! with 1003, messages over the limit with 1009, compression is not agreed to.

use std::collections::BTreeMap;
use std::process::Command;

use lockgate_tests::component::{ECHO, ECHO_PATH, echo_host};
use lockgate_tests::place;
use serde_json::Value;

/// The longest message that can be configured, bytes.
const MOST: usize = 1 << 20;
/// Cases that the suite has.
const CASES: usize = 517;

/// What a case has to come to: how it behaves, how it closes, the host's close code (none:
/// whichever).
type Verdict = (&'static [&'static str], &'static str, Option<u64>);

fn expected(case: &str) -> Verdict {
    let numbers: Vec<u32> = case.split('.').filter_map(|n| n.parse().ok()).collect();
    match numbers[..] {
        // Permessage-deflate (RFC 7692).
        [12 | 13, ..] => (&["UNIMPLEMENTED"], "OK", Some(1000)),
        // Binary messages, the last ones of 4 MiB and more.
        [1, 2, _] | [9, 2, 1..=3] | [9, 6 | 8, _] => (&["FAILED"], "FAILED", Some(1003)),
        // Over 1 MiB.
        [9, 1 | 2, 4..=6] | [9, 3 | 4, _] => (&["FAILED"], "FAILED", Some(1009)),
        // Whether a fault is told before the frame is whole is left open.
        [6, 4, _] => (&["OK", "NON-STRICT"], "OK", Some(1007)),
        // What is sent after a close frame, and codes without a meaning.
        [7, 1, 6] | [7, 13, _] => (&["INFORMATIONAL"], "INFORMATIONAL", None),
        _ => (&["OK"], "OK", None),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_of_the_suite() {
    let host = echo_host(MOST).await;
    let url = format!("ws://127.0.0.1:{}{ECHO_PATH}", host.port(ECHO));
    let folder = tempfile::tempdir().expect("make a folder");
    let reports = folder.path().join("reports");
    let run = Command::new(place::kosoku())
        .args([&url, "--parallelism", "4", "--outdir"])
        .arg(&reports)
        .output()
        .expect("run the suite");
    let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
    let index = std::fs::read(reports.join("index.json"))
        .unwrap_or_else(|error| panic!("the suite wrote no reports ({error}): {said}"));
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    let agents = index.as_object().expect("an object");
    let cases = agents.values().next().and_then(Value::as_object);
    let cases = cases.expect("the cases of the one server");
    let mut wrong = Vec::new();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for (case, report) in cases {
        let (behaviors, close, code) = expected(case);
        let behavior = report["behavior"].as_str().expect("a word");
        let found = report["remoteCloseCode"].as_u64();
        if !behaviors.contains(&behavior)
            || report["behaviorClose"] != close
            || code.is_some_and(|code| found != Some(code))
        {
            wrong.push(format!("{case}: {report}"));
        }
        let kind = match (behavior, code) {
            ("FAILED", Some(1003)) => "of binary messages closed with 1003",
            ("FAILED", _) => "of messages over the limit closed with 1009",
            ("UNIMPLEMENTED", _) => "of compression not agreed to",
            _ => "passed",
        };
        *counts.entry(kind).or_default() += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(cases.len(), CASES, "{said}");
    println!("Autobahn: {} cases, {counts:?}", cases.len());
}
