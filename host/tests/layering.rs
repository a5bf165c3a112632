//! Conventions as tests: a module of the host names only modules that `lib.rs`
//! declares below it, and what CONTRIBUTING.md says of files holds. It reads
//! source text only; what the compiler can check is left to it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const LINES_BEFORE_TESTS: usize = 400;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// All Rust files under a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every Rust file of the workspace.
fn all_sources() -> Vec<PathBuf> {
    let folders = ["bench/native", "host/src", "host/tests", "plugins", "tests"];
    folders
        .iter()
        .flat_map(|folder| sources(&root().join(folder)))
        .collect()
}

/// True for a file that holds nothing but tests.
fn only_tests(file: &Path) -> bool {
    let place = file.strip_prefix(root()).unwrap();
    place.starts_with("tests/tests")
        || place.starts_with("host/tests")
        || place.ends_with("tests.rs")
        || place.components().any(|part| part.as_os_str() == "tests") && !place.starts_with("tests")
}

/// The part before a file's own unit tests.
fn before_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap()
}

/// The text without line comments. A `//` in a string ends its line too, which can
/// only hide a name, never invent one.
fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

fn leading_name(text: &str) -> &str {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    &text[..end]
}

/// The modules that a text names as `crate::name` or in `crate::{name, ...}`.
fn named_modules(text: &str) -> BTreeSet<String> {
    let text = without_comments(text);
    let mut names = BTreeSet::new();
    for (start, marker) in text.match_indices("crate::") {
        if text[..start].ends_with(|c: char| c == '$' || c == '_' || c.is_alphanumeric()) {
            continue;
        }
        let rest = &text[start + marker.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(leading_name(rest).to_owned());
            continue;
        };
        let mut depth = 0;
        let mut at_start = true;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => at_start = true,
                c if at_start && depth == 0 && !c.is_whitespace() => {
                    names.insert(leading_name(&group[at..]).to_owned());
                    at_start = false;
                }
                _ => {}
            }
        }
    }
    names.remove("");
    names
}

/// The modules that `lib.rs` declares, in its order.
fn declared() -> Vec<String> {
    let text = fs::read_to_string(root().join("host/src/lib.rs")).unwrap();
    text.lines()
        .filter_map(|line| {
            let line = line
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub ");
            Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned())
        })
        .collect()
}

/// The files of one module of the host.
fn files_of(module: &str) -> Vec<PathBuf> {
    let src = root().join("host/src");
    let mut files = Vec::new();
    let file = src.join(format!("{module}.rs"));
    if file.exists() {
        files.push(file);
    }
    let folder = src.join(module);
    if folder.exists() {
        files.extend(sources(&folder));
    }
    files
}

#[test]
fn a_module_names_only_modules_below_it() {
    let order = declared();
    assert!(
        order.len() > 10,
        "lib.rs declares too little to be true: {order:?}"
    );
    let mut wrong = Vec::new();
    for (place, module) in order.iter().enumerate() {
        let files = files_of(module);
        assert!(!files.is_empty(), "{module} has no file");
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            for name in named_modules(before_tests(&text)) {
                match order.iter().position(|other| *other == name) {
                    Some(other) if other < place => {
                        wrong.push(format!(
                            "{} names {name}, which stands above",
                            file.display()
                        ));
                    }
                    Some(_) => {}
                    None => wrong.push(format!(
                        "{} names crate::{name}, which is no module",
                        file.display()
                    )),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn modules_reach_each_other_by_their_full_names() {
    for module in declared() {
        for file in files_of(&module) {
            let text = fs::read_to_string(&file).unwrap();
            let text = without_comments(before_tests(&text));
            assert!(
                !text.contains("super::super::"),
                "{}: super::super",
                file.display()
            );
            let at_top = file.ends_with(format!("src/{module}.rs"))
                || file.ends_with(format!("{module}/mod.rs"));
            assert!(
                !at_top || !text.contains("\nuse super::"),
                "{}: use super:: at the top of a module",
                file.display()
            );
        }
    }
}

#[test]
fn imports_know_nothing_of_http() {
    for module in ["imports", "keys", "store", "breaker", "revocation"] {
        for file in files_of(module) {
            let text = without_comments(&fs::read_to_string(&file).unwrap());
            for name in ["http::", "hyper::", "axum::"] {
                assert!(!text.contains(name), "{} names {name}", file.display());
            }
        }
    }
}

#[test]
fn untyped_errors_stay_at_the_top() {
    for module in declared() {
        if ["app", "cli"].contains(&module.as_str()) {
            continue;
        }
        for file in files_of(&module) {
            let text = fs::read_to_string(&file).unwrap();
            assert!(
                !without_comments(before_tests(&text)).contains("anyhow"),
                "{} uses anyhow",
                file.display()
            );
        }
    }
}

#[test]
fn every_file_says_what_it_owns_and_is_short() {
    let mut wrong = Vec::new();
    for file in all_sources() {
        let text = fs::read_to_string(&file).unwrap();
        if !text.starts_with("//! ") {
            wrong.push(format!(
                "{} does not begin with a module comment",
                file.display()
            ));
        }
        let lines = before_tests(&text).lines().count();
        if lines > LINES_BEFORE_TESTS && !only_tests(&file) {
            wrong.push(format!(
                "{} has {lines} lines before its tests",
                file.display()
            ));
        }
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        if ["util", "utils", "helper", "helpers", "common", "misc"].contains(&name.as_str()) {
            wrong.push(format!("{} has a name that says nothing", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_the_native_twin_names_both_host_and_plugins() {
    let mut wrong = Vec::new();
    let mut folders: Vec<PathBuf> = fs::read_dir(root().join("plugins"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        // Examples in other languages have none.
        .filter(|folder| folder.join("Cargo.toml").exists())
        .collect();
    folders.extend(["host", "tests", "tests/probe"].map(|name| root().join(name)));
    for folder in folders {
        let text = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let own = folder.file_name().unwrap().to_str().unwrap();
        let named = text.lines().filter_map(|line| {
            let (name, _) = line.split_once([' ', '.', '='])?;
            let plugin = root().join("plugins").join(name).is_dir() && name != own;
            (plugin || name == "lockgate").then(|| name.to_owned())
        });
        wrong.extend(named.map(|name| format!("{} names {name}", folder.display())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn names_are_found_in_every_spelling() {
    let text = "use crate::a::B;\nuse crate::{b, c::{d, e}, f::g};\nlet x = crate::h::i();\n\
                // crate::no\nuse $crate::no; pub(in crate::j) mod x; use other_crate::no;";
    let expected = ["a", "b", "c", "f", "h", "j"].map(str::to_owned);
    assert_eq!(named_modules(text), BTreeSet::from(expected));
}
