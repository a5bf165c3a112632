//! Which requests a plugin's own tests make: those of the steps in `tests/*.toml` that need
//! no token of a test's host. What is expected of the answers is not looked at here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Ask {
    #[serde(default = "get")]
    pub(super) method: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) body: String,
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

fn get() -> String {
    "GET".to_owned()
}

/// A file of scenarios. Steps may do other things than ask, and may say more of a request.
#[derive(Deserialize)]
struct File {
    scenario: Vec<Scenario>,
}

#[derive(Deserialize)]
struct Scenario {
    #[serde(default)]
    step: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    request: Option<Request>,
}

#[derive(Deserialize)]
struct Request {
    #[serde(flatten)]
    ask: Ask,
    json: Option<Value>,
    bearer: Option<Value>,
    cookies: Option<Value>,
}

impl Request {
    /// What can be asked of any host.
    fn plain(mut self) -> Option<Ask> {
        if self.bearer.is_some() || self.cookies.is_some() {
            return None;
        }
        if let Some(json) = self.json {
            self.ask.body = json.to_string();
        }
        let named = |text: &String| text.contains("{") && !text.starts_with("{\"");
        let named = named(&self.ask.path) || self.ask.headers.values().any(named);
        // A name in a body stands where a text begins.
        (!named && !self.ask.body.contains("\"{")).then_some(self.ask)
    }
}

/// The requests of all files in the order of their names, each once; the health of the
/// service if there are none.
///
/// # Errors
/// A file cannot be read or is not TOML of steps.
pub(super) fn of(dir: &Path) -> anyhow::Result<Vec<Ask>> {
    let folder = dir.join("tests");
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    let mut requests = Vec::new();
    for file in files {
        let shown = file.display();
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {shown}"))?;
        let file: File =
            toml::from_str(&text).with_context(|| format!("{shown} has no scenarios"))?;
        let steps = file.scenario.into_iter().flat_map(|scenario| scenario.step);
        for request in steps.filter_map(|step| step.request?.plain()) {
            if !requests.contains(&request) {
                requests.push(request);
            }
        }
    }
    if requests.is_empty() {
        requests.push(Ask {
            method: get(),
            path: "/health".to_owned(),
            headers: BTreeMap::new(),
            body: String::new(),
        });
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_from_the_steps() {
        let folder = tempfile::tempdir().unwrap();
        let health = of(folder.path()).unwrap();
        assert_eq!(health[0].to_string(), "GET /health");
        let tests = folder.path().join("tests");
        std::fs::create_dir(&tests).unwrap();
        std::fs::write(
            tests.join("b.toml"),
            "[[scenario]]\nname = \"x\"\n[[scenario.step]]\nrequest = { path = \"/b\" }\n\
             expect = { status = 200 }\n[[scenario.step]]\nrequest = { path = \"/b\" }\n\
             [[scenario.step]]\nswap = \"x\"\n[[scenario]]\n[[scenario.step]]\n\
             request = { path = \"/c\", bearer = \"{ada}\" }\n[[scenario.step]]\n\
             request = { path = \"/c\", json = { token = \"{ada}\" } }\n[[scenario.step]]\n\
             request = { path = \"/d\", json = { a = 1 } }\n",
        )
        .unwrap();
        std::fs::write(
            tests.join("a.toml"),
            "[tokens.ada]\n[[scenario]]\n[[scenario.step]]\nrequest = { method = \"POST\", path = \"/a\", \
             headers = { accept = \"x\" }, body = \"{}\" }\n",
        )
        .unwrap();
        std::fs::write(tests.join("notes.txt"), "not toml").unwrap();
        let requests = of(folder.path()).unwrap();
        let shown: Vec<String> = requests.iter().map(Ask::to_string).collect();
        assert_eq!(shown, ["POST /a", "GET /b", "GET /d"]);
        assert_eq!(requests[2].body, "{\"a\":1}");
        assert_eq!(requests[0].headers["accept"], "x");
        std::fs::write(tests.join("c.toml"), "[[scenario]\n").unwrap();
        let error = of(folder.path()).unwrap_err().to_string();
        assert!(error.contains("c.toml"), "{error}");
    }
}
