//! The manifest of a new Rust plugin, a small workspace: what its members inherit is taken
//! from the manifest of Lockgate's own workspace, so that no version stands in two places.

use std::collections::BTreeSet;

use anyhow::Context;
use toml::{Table, Value};

const OURS: &str = include_str!("../../../../Cargo.toml");

/// Where the SDK and what it needs lie in the plugin's folder.
const BELOW: &str = "lockgate";

/// `package`, a manifest whose dependencies are inherited, and behind it the workspace that
/// it and `members` inherit from.
///
/// # Errors
/// They inherit what Lockgate's workspace does not have.
pub(super) fn manifest(package: &str, members: &[&str]) -> anyhow::Result<String> {
    let ours: Table = OURS.parse()?;
    let workspace = table(&ours, "workspace")?;
    let shared = table(workspace, "dependencies")?;
    let mut needed = BTreeSet::new();
    for manifest in members.iter().chain([&package]) {
        let manifest: Table = manifest.parse()?;
        for part in ["dependencies", "dev-dependencies"] {
            let part = manifest.get(part).and_then(Value::as_table);
            let inherited = |value: &Value| value.get("workspace").is_some();
            let part = part.into_iter().flatten();
            needed.extend(
                part.filter(|(_, value)| inherited(value))
                    .map(|(name, _)| name.clone()),
            );
        }
    }
    let mut dependencies = Table::new();
    for name in needed {
        let mut dependency = shared
            .get(&name)
            .with_context(|| format!("{name} is not among the shared dependencies"))?
            .clone();
        if let Some(Value::String(path)) = dependency.get_mut("path") {
            *path = format!("{BELOW}/{path}");
        }
        dependencies.insert(name, dependency);
    }
    let mut made = Table::new();
    made.insert("resolver".to_owned(), part(workspace, "resolver")?);
    let paths = ["identity", "sdk"].map(|name| format!("{BELOW}/plugins/{name}"));
    made.insert("members".to_owned(), paths.to_vec().into());
    made.insert("package".to_owned(), part(workspace, "package")?);
    made.insert("dependencies".to_owned(), dependencies.into());
    made.insert("lints".to_owned(), part(workspace, "lints")?);
    let mut profile = table(table(&ours, "profile")?, "plugin")?.clone();
    profile.remove("inherits");
    let whole = Table::from_iter([
        ("workspace".to_owned(), Value::Table(made)),
        (
            "profile".to_owned(),
            Table::from_iter([("release".to_owned(), Value::Table(profile))]).into(),
        ),
    ]);
    let whole = toml::to_string(&whole)?;
    Ok(format!(
        "{package}\n# What the packages in {BELOW}/ are built with, as Lockgate itself has it.\n\n{whole}"
    ))
}

fn part(table: &Table, name: &str) -> anyhow::Result<Value> {
    let part = table.get(name);
    part.cloned().with_context(|| format!("there is no {name}"))
}

fn table<'a>(table: &'a Table, name: &str) -> anyhow::Result<&'a Table> {
    let part = table.get(name).and_then(Value::as_table);
    part.with_context(|| format!("there is no table {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inherited_comes_along() {
        let package = "[package]\nname = \"x\"\n[dependencies]\nlockgate-sdk.workspace = true\n";
        let member = "[dev-dependencies]\nproptest.workspace = true\n[dependencies]\nx = \"1\"\n";
        let text = manifest(package, &[member]).unwrap();
        let made: Table = text.parse().unwrap();
        let dependencies = &made["workspace"]["dependencies"];
        assert_eq!(
            dependencies["lockgate-sdk"]["path"].as_str(),
            Some("lockgate/plugins/sdk")
        );
        let ours: Table = OURS.parse().unwrap();
        assert_eq!(
            dependencies["proptest"],
            ours["workspace"]["dependencies"]["proptest"]
        );
        assert_eq!(dependencies.as_table().unwrap().len(), 2);
        assert_eq!(made["package"]["name"].as_str(), Some("x"));
        assert_eq!(made["profile"]["release"]["lto"].as_str(), Some("fat"));
        let unknown = "[dependencies]\nnobody.workspace = true\n";
        assert!(manifest(package, &[unknown]).is_err());
    }
}
