//! What may stand in the configuration, told from the code that reads it: names, types and
//! meanings from `file`, the variables by trying them, the defaults from
//! `lockgate.example.toml`, which a test holds to the code. It reads no setting.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{Schema, generate::Contract};
use serde_json::{Map, Value};

use super::file::{File, Grants, Service};
use super::services::SERVICES;
use super::{ConfigError, environment};

const EXAMPLE: &str = include_str!("../../../lockgate.example.toml");
/// The service that stands for all in the example.
const SHOWN: &str = "services.jwt-token-adapter.";
const ANY: &str = "services.<name>.";
/// Variables of the process that are no key of the file.
const NO_KEY: [(&str, &str); 2] = [
    (
        "LOCKGATE_CONFIG",
        "the configuration file; without it `lockgate.toml`, if it is there",
    ),
    (
        "JWT_SECRET_KEY",
        "the JWT secret itself, tried after all files",
    ),
];
/// Values of which each variable takes one.
const TRIALS: [&str; 4] = ["127.0.0.9:9", "127.0.0.9", "9", "true"];

const INTRODUCTION: &str = "\
# Configuration

<!-- Written by `lockgate config reference`; host/tests/documents.rs compares. -->

One optional file, `lockgate.toml` (`LOCKGATE_CONFIG` names another), and the environment,
which beats it. An unknown key is an error; an empty variable counts as unset. Where a default
depends on the service it is that of jwt-token-adapter: [`limits.md`](limits.md) names the
others. `lockgate config schema` prints the JSON Schema of the file, for editors; with it as
`lockgate.schema.json`, the file begins with `#:schema ./lockgate.schema.json`.

Keys without a table stand before the first one.
";

/// The JSON Schema (draft 7) of `lockgate.toml`, with defaults, and the variable of a key as
/// `x-environment`.
///
/// # Errors
/// The shipped example is not what it must be: a fault of the build.
pub fn schema() -> Result<Value, ConfigError> {
    let mut settings = SchemaSettings::draft07();
    settings.inline_subschemas = true;
    settings.contract = Contract::Deserialize;
    let mut schema = settings.into_generator().into_root_schema_for::<File>();
    NoNull.transform(&mut schema);
    schema.insert("title".to_owned(), "lockgate.toml".into());
    let mut schema = schema.to_value();
    let (defaults, variables) = (defaults()?, variables()?);
    annotate(&mut schema, "", &defaults, &variables);
    Ok(schema)
}

/// `docs/configuration.md`.
///
/// # Errors
/// As of [`schema`].
pub fn reference() -> Result<String, ConfigError> {
    let schema = schema()?;
    let mut text = INTRODUCTION.to_owned();
    table(&mut text, &schema, "");
    let _ = writeln!(text, "\n## Only in the environment\n");
    text.push_str("| Variable | Meaning |\n|---|---|\n");
    for (name, meaning) in NO_KEY {
        let _ = writeln!(text, "| `{name}` | {meaning} |");
    }
    Ok(text)
}

/// TOML has no null: an optional key is left out.
struct NoNull;

impl Transform for NoNull {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::Array(types)) = schema.get_mut("type") {
            types.retain(|kind| kind != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                schema.insert("type".to_owned(), only);
            }
        }
        if schema.get("default").is_some_and(Value::is_null) {
            schema.remove("default");
        }
        transform_subschemas(self, schema);
    }
}

/// The defaults by key, as the example shows them; those of grants are the least.
fn defaults() -> Result<BTreeMap<String, Value>, ConfigError> {
    let shown: Vec<&str> = EXAMPLE
        .lines()
        .filter_map(|line| line.strip_prefix("#: "))
        .collect();
    let shown: Value = toml::from_str(&shown.join("\n"))
        .map_err(|error| ConfigError::Syntax(error.message().to_owned()))?;
    let mut found = BTreeMap::new();
    leaves(&shown, "", &mut found);
    let mut least = BTreeMap::new();
    leaves(
        &json(&Grants::default()),
        &format!("{SHOWN}grants."),
        &mut least,
    );
    found.extend(least);
    let general = |(key, value): (String, Value)| (any_service(&key, SHOWN), value);
    Ok(found.into_iter().map(general).collect())
}

/// The variable of each key, found by setting one after the other.
fn variables() -> Result<BTreeMap<String, String>, ConfigError> {
    let asked = RefCell::new(BTreeSet::new());
    environment::apply(&mut all_services(), &|name| {
        asked.borrow_mut().insert(name.to_owned());
        None
    })?;
    let mut before = BTreeMap::new();
    leaves(&json(&all_services()), "", &mut before);
    let mut found = BTreeMap::new();
    for name in asked.into_inner() {
        for trial in TRIALS {
            let mut file = all_services();
            let set = |asked: &str| (asked == name).then(|| trial.to_owned());
            if environment::apply(&mut file, &set).is_err() {
                continue;
            }
            let mut after = BTreeMap::new();
            leaves(&json(&file), "", &mut after);
            let changed = after
                .into_iter()
                .find(|(key, value)| before.get(key) != Some(value));
            if let Some((key, _)) = changed {
                let (key, name) = of_any_service(key, name.clone());
                found.insert(key, name);
                break;
            }
        }
    }
    Ok(found)
}

fn all_services() -> File {
    let service = |(name, _): (&str, u16)| (name.to_owned(), Service::default());
    File {
        services: SERVICES.into_iter().map(service).collect(),
        ..File::default()
    }
}

/// `<NAME>_PORT` of `services.<name>.port`, and the like.
fn of_any_service(key: String, variable: String) -> (String, String) {
    for (name, _) in SERVICES {
        let prefix = name.replace('-', "_").to_ascii_uppercase();
        let general = any_service(&key, &format!("services.{name}."));
        if let (true, Some(rest)) = (general != key, variable.strip_prefix(&prefix)) {
            return (general, format!("<NAME>{rest}"));
        }
    }
    (key, variable)
}

fn any_service(key: &str, prefix: &str) -> String {
    match key.strip_prefix(prefix) {
        Some(rest) => format!("{ANY}{rest}"),
        None => key.to_owned(),
    }
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// All values that are no tables, by their whole keys; what is not set is left out.
fn leaves(value: &Value, prefix: &str, into: &mut BTreeMap<String, Value>) {
    let Value::Object(fields) = value else { return };
    for (name, value) in fields {
        match value {
            Value::Null => {}
            Value::Object(_) => leaves(value, &format!("{prefix}{name}."), into),
            _ => {
                into.insert(format!("{prefix}{name}"), value.clone());
            }
        }
    }
}

/// The keys of a table of the schema, and the tables among them.
fn fields(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let fields = schema.get("properties").and_then(Value::as_object);
    fields.into_iter().flat_map(Map::iter)
}

/// The schema of a table that a key holds, and what stands in its name for any name.
fn inner(schema: &Value) -> Option<(&Value, &'static str)> {
    if schema.get("properties").is_some() {
        return Some((schema, ""));
    }
    let named = schema.get("additionalProperties")?;
    named
        .get("properties")
        .is_some()
        .then_some((named, ".<name>"))
}

fn annotate(
    schema: &mut Value,
    prefix: &str,
    defaults: &BTreeMap<String, Value>,
    variables: &BTreeMap<String, String>,
) {
    let Some(Value::Object(fields)) = schema.get_mut("properties") else {
        return;
    };
    for (name, field) in fields {
        let key = format!("{prefix}{name}");
        if let Value::Object(field) = field {
            match defaults.get(&key) {
                Some(value) => field.insert("default".to_owned(), value.clone()),
                None => field.remove("default"),
            };
            if let Some(variable) = variables.get(&key) {
                field.insert("x-environment".to_owned(), variable.clone().into());
            }
        }
        if field.get("properties").is_some() {
            annotate(field, &format!("{key}."), defaults, variables);
        } else if let Some(named) = field.get_mut("additionalProperties") {
            annotate(named, &format!("{key}.<name>."), defaults, variables);
        }
    }
}

/// One table of the reference and those below it.
fn table(text: &mut String, schema: &Value, name: &str) {
    text.push_str(
        "\n| Key | Type | Default | Unit | Variable | Meaning |\n|---|---|---|---|---|---|\n",
    );
    let mut below = Vec::new();
    for (key, field) in fields(schema) {
        if let Some((schema, any)) = inner(field) {
            let whole = if name.is_empty() {
                key.clone()
            } else {
                format!("{name}.{key}")
            };
            below.push((format!("{whole}{any}"), schema, meaning(field)));
            continue;
        }
        let default = field.get("default").map(|value| format!("`{value}`"));
        let variable = field.get("x-environment").and_then(Value::as_str);
        let _ = writeln!(
            text,
            "| `{key}` | {} | {} | {} | {} | {} |",
            kind(field),
            default.unwrap_or_else(|| "unset".to_owned()),
            unit(key),
            variable.map_or_else(|| "-".to_owned(), |name| format!("`{name}`")),
            meaning(field),
        );
    }
    for (name, schema, meaning) in below {
        let _ = writeln!(text, "\n## `[{name}]`\n\n{meaning}");
        table(text, schema, &name);
    }
}

fn meaning(field: &Value) -> String {
    let said = field.get("description").and_then(Value::as_str);
    said.unwrap_or_default().replace('\n', " ")
}

/// The words that a key may hold, if there are few, else its type in words.
fn kind(field: &Value) -> String {
    if let Some(Value::Array(choices)) = field.get("oneOf") {
        let words = choices.iter().filter_map(|choice| choice.get("const"));
        return words
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(" or ");
    }
    let format = field.get("format").and_then(Value::as_str);
    match field.get("type").and_then(Value::as_str) {
        Some("string") if format == Some("ip") => "address".to_owned(),
        Some("string") => "text".to_owned(),
        Some("integer") => "whole number".to_owned(),
        Some("number") => "number".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("array") => "list of texts".to_owned(),
        Some("object") => "table of texts".to_owned(),
        other => other.unwrap_or("any").to_owned(),
    }
}

/// The unit is in the name.
fn unit(key: &str) -> &'static str {
    match key.rsplit('_').next() {
        Some("ms") => "milliseconds",
        Some("seconds") => "seconds",
        Some("bytes") => "bytes",
        _ => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_variable_has_its_key_and_only_the_secret_has_none() {
        let asked = RefCell::new(BTreeSet::new());
        environment::apply(&mut all_services(), &|name| {
            asked.borrow_mut().insert(name.to_owned());
            None
        })
        .unwrap();
        let mut left = asked.into_inner();
        let variables = variables().unwrap();
        for variable in variables.values() {
            if let Some(rest) = variable.strip_prefix("<NAME>") {
                left.retain(|name| {
                    !name.ends_with(rest)
                        || name.starts_with("REDIS")
                        || name.starts_with("DATABASE")
                });
            }
            left.remove(variable);
        }
        assert_eq!(left, BTreeSet::from(["JWT_SECRET_KEY".to_owned()]));
        assert_eq!(variables["redis.url"], "REDIS_URL");
        assert_eq!(variables["services.<name>.port"], "<NAME>_PORT");
        assert_eq!(variables["bind"], "LOCKGATE_BIND");
    }

    #[test]
    fn every_key_is_explained_and_of_a_known_type() {
        fn look(schema: &Value, name: &str, seen: &mut usize) {
            for (key, field) in fields(schema) {
                assert!(!meaning(field).is_empty(), "{name}.{key}");
                *seen += 1;
                match inner(field) {
                    Some((below, _)) => look(below, key, seen),
                    None => assert!(!["", "any"].contains(&kind(field).as_str()), "{field}"),
                }
            }
        }
        let mut seen = 0;
        look(&schema().unwrap(), "", &mut seen);
        assert!(seen > 100, "{seen}");
    }

    #[test]
    fn every_default_is_of_a_key() {
        let text = reference().unwrap();
        let shown = text
            .lines()
            .filter(|line| line.starts_with("| `") && !line.contains("| unset |"));
        let no_key = NO_KEY.len();
        assert_eq!(shown.count() - no_key, defaults().unwrap().len(), "{text}");
    }

    #[test]
    fn the_schema_takes_no_null_and_no_unknown_key() {
        let schema = schema().unwrap();
        assert!(!schema.to_string().contains("null"), "{schema:#}");
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["redis"]["additionalProperties"], false);
        assert_eq!(
            schema["properties"]["jwt"]["properties"]["overlap_seconds"]["default"],
            604_800
        );
    }
}
