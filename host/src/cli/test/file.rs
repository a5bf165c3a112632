//! The form of a test file: what may stand in it. It runs nothing.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::Value;

/// A file of scenarios, and what all of them have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// RFC 3339. The clock stands until a step moves it.
    #[serde(default = "a_morning")]
    pub(super) clock: String,
    #[serde(default)]
    pub(super) settings: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) tokens: BTreeMap<String, Token>,
    #[serde(default)]
    pub(super) store: BTreeMap<String, Value>,
    pub(super) scenario: Vec<Scenario>,
}

fn a_morning() -> String {
    "2031-05-04T09:00:00Z".to_owned()
}

/// What happens one after the other on a host of its own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    pub(super) name: String,
    #[serde(default)]
    pub(super) settings: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) tokens: BTreeMap<String, Token>,
    #[serde(default)]
    pub(super) store: BTreeMap<String, Value>,
    /// Without Redis the host has its embedded store.
    #[serde(default = "yes")]
    pub(super) redis: bool,
    /// Without one the host has no JWT secret.
    #[serde(default = "yes")]
    pub(super) secret: bool,
    /// The other services, by name; those that are not named are healthy.
    #[serde(default)]
    pub(super) peers: BTreeMap<String, Peer>,
    /// What the users table says; none: there is none.
    pub(super) user: Option<User>,
    pub(super) step: Vec<Step>,
}

fn yes() -> bool {
    true
}

/// What the users table says of whomever it is asked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct User {
    pub(super) state: UserState,
    #[serde(default = "user_42")]
    pub(super) user_id: u32,
    #[serde(default = "ada")]
    pub(super) email: String,
    #[serde(default = "user")]
    pub(super) role: String,
}

/// Of a user in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum UserState {
    Active,
    Disabled,
    Missing,
}

fn ada() -> String {
    "ada@example.org".to_owned()
}

fn user() -> String {
    "user".to_owned()
}

/// What another service answers, whatever it is asked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Peer {
    /// Nobody listens at its address.
    #[serde(default)]
    pub(super) down: bool,
    /// Of HTTP.
    #[serde(default = "good")]
    pub(super) code: u16,
    /// The word of its health.
    #[serde(default = "healthy")]
    pub(super) status: String,
}

impl Default for Peer {
    fn default() -> Peer {
        Peer {
            down: false,
            code: good(),
            status: healthy(),
        }
    }
}

fn good() -> u16 {
    200
}

fn healthy() -> String {
    "healthy".to_owned()
}

/// A token that is signed with the key of the scenario's host.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct Token {
    /// As of `lockgate token`.
    #[serde(default = "access")]
    pub(in crate::cli) kind: String,
    #[serde(default = "user_42")]
    pub(in crate::cli) user_id: u32,
    pub(in crate::cli) email: Option<String>,
    #[serde(default)]
    pub(in crate::cli) admin: bool,
    pub(in crate::cli) session_id: Option<String>,
    /// Seconds from the scenario's beginning.
    pub(in crate::cli) expires_in: Option<i64>,
    /// Further claims, or others.
    #[serde(default)]
    pub(in crate::cli) claims: BTreeMap<String, Value>,
    /// Claims that it has not.
    #[serde(default)]
    pub(in crate::cli) without: Vec<String>,
    /// Signed with a key of somebody else.
    #[serde(default)]
    pub(in crate::cli) forged: bool,
}

fn access() -> String {
    "access".to_owned()
}

fn user_42() -> u32 {
    42
}

/// One thing that happens.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// The clock first.
    pub(super) clock: Option<String>,
    pub(super) redis: Option<RedisMode>,
    /// Keys that are written into Redis, past the host. `"<absent>"` deletes one.
    #[serde(default)]
    pub(super) store: BTreeMap<String, Value>,
    pub(super) swap: Option<Swap>,
    pub(super) request: Option<Request>,
    pub(super) expect: Option<Expect>,
    /// How often the request is made, each time with this answer.
    pub(super) repeat: Option<u32>,
    /// Names for places of the answer (JSON Pointer, RFC 6901).
    #[serde(default)]
    pub(super) save: BTreeMap<String, String>,
    /// What Redis holds afterwards.
    #[serde(default)]
    pub(super) stored: BTreeMap<String, Value>,
}

/// What Redis does from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RedisMode {
    /// Answers.
    Up,
    /// Refuses connections, and has closed those there were.
    Down,
    /// Takes every command and answers none.
    Slow,
}

/// A new revision serves.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Swap {
    /// The same component with another digest.
    Same(bool),
    /// The component in a file, relative to the folder of the tests.
    File(String),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    #[serde(default = "get")]
    pub(super) method: String,
    /// With its query.
    pub(super) path: String,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) cookies: BTreeMap<String, String>,
    pub(super) bearer: Option<String>,
    pub(super) json: Option<Value>,
    pub(super) body: Option<String>,
    /// It carries the service secret.
    #[serde(default)]
    pub(super) service: bool,
}

fn get() -> String {
    "GET".to_owned()
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    pub(super) status: u16,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// What the answer holds at least.
    pub(super) json: Option<Value>,
    /// The answer's text.
    pub(super) body: Option<String>,
}

/// Reads and checks a file.
///
/// # Errors
/// It cannot be read, or something in it is not understood: a sentence with the place.
pub(super) fn read(path: &Path) -> anyhow::Result<File> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    parse(&text).with_context(|| shown.to_string())
}

fn parse(text: &str) -> anyhow::Result<File> {
    let file: File = toml::from_str(text)?;
    if file.scenario.is_empty() {
        bail!("it has no scenario");
    }
    for scenario in &file.scenario {
        let name = &scenario.name;
        if !scenario.step.iter().any(|step| step.request.is_some()) {
            bail!("scenario {name:?} makes no request");
        }
        for (index, step) in scenario.step.iter().enumerate() {
            check(step, scenario)
                .with_context(|| format!("scenario {name:?}, step {}", index + 1))?;
        }
    }
    Ok(file)
}

fn check(step: &Step, scenario: &Scenario) -> anyhow::Result<()> {
    if step.request.is_some() != step.expect.is_some() {
        bail!("a request and what is expected of its answer go together");
    }
    if step.request.is_none() && (step.repeat.is_some() || !step.save.is_empty()) {
        bail!("`repeat` and `save` need a request");
    }
    if step.repeat == Some(0) {
        bail!("`repeat` is 1 at least");
    }
    if matches!(step.swap, Some(Swap::Same(false))) {
        bail!("`swap` is true, or the name of a file");
    }
    let touches = step.redis.is_some() || !step.store.is_empty() || !step.stored.is_empty();
    if touches && !scenario.redis {
        bail!("the scenario has no Redis");
    }
    if let Some(request) = &step.request
        && request.json.is_some()
        && request.body.is_some()
    {
        bail!("a request has `json` or `body`, not both");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[[scenario]]\nname = \"x\"\n[[scenario.step]]\n\
                        request = { path = \"/\" }\nexpect = { status = 200 }\n";

    #[test]
    fn what_is_not_understood_is_named() {
        assert_eq!(parse(GOOD).unwrap().scenario.len(), 1);
        for (text, words) in [
            (String::new(), "scenario"),
            ("scenario = []".to_owned(), "no scenario"),
            (
                "[[scenario]]\nname = \"x\"\nstep = []".to_owned(),
                "makes no request",
            ),
            (GOOD.replace("path", "paht"), "unknown field `paht`"),
            (GOOD.replace("status = 200", ""), "missing field `status`"),
            (GOOD.replace("expect = { status = 200 }", ""), "go together"),
            (format!("{GOOD}repeat = 0"), "1 at least"),
            (format!("{GOOD}swap = false"), "`swap` is true"),
            (format!("{GOOD}redis = \"gone\""), "unknown variant `gone`"),
            (
                GOOD.replace("\"x\"", "\"x\"\nredis = false") + "redis = \"down\"",
                "has no Redis",
            ),
            (
                GOOD.replace("path = \"/\"", "path = \"/\", json = 1, body = \"\""),
                "not both",
            ),
        ] {
            let error = format!("{:#}", parse(&text).unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
