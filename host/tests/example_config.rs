//! `lockgate.example.toml` promises every key with its default; these tests hold it
//! to that.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;

use lockgate::config::Config;

fn example() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::read_to_string(root.join("lockgate.example.toml")).unwrap()
}

/// The example with the lines behind one of these marks made real.
fn with(marks: &[&str]) -> String {
    let text = example();
    let real = |line: &str| {
        marks
            .iter()
            .find_map(|mark| line.strip_prefix(mark))
            .map(str::to_owned)
    };
    text.lines().filter_map(real).collect::<Vec<_>>().join("\n")
}

fn loaded(text: &str) -> Config {
    Config::from_parts(Some(text), |_| None).unwrap()
}

#[test]
fn as_it_stands_it_changes_nothing() {
    let plain = Config::from_parts(None, |_| None).unwrap();
    assert_eq!(format!("{:?}", loaded(&example())), format!("{plain:?}"));
}

#[test]
fn the_values_it_shows_are_the_defaults() {
    let plain = Config::from_parts(None, |_| None).unwrap();
    let shown = with(&["#: "]);
    assert!(shown.lines().count() > 50, "{shown}");
    assert_eq!(format!("{:?}", loaded(&shown)), format!("{plain:?}"));
}

#[test]
fn the_keys_without_a_default_exist() {
    let text = example();
    let lines = text.lines().filter_map(|line| {
        let line = line
            .strip_prefix("#: ")
            .or_else(|| line.strip_prefix("# "))?;
        let code = line.starts_with('[') || line.split(' ').nth(1) == Some("=");
        code.then(|| line.to_owned())
    });
    // `service = ...` keeps one service only and is tried by itself.
    let all = lines
        .filter(|line| !line.starts_with("service = "))
        .collect::<Vec<_>>();
    let config = loaded(&all.join("\n"));
    assert_eq!(config.services.len(), 7);
    assert!(config.redis.is_some());
    assert_eq!(loaded("service = \"jwt-token-adapter\"").services.len(), 1);
}
