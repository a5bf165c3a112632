//! Which requests a plugin's own tests make: those of the steps in `tests/*.toml`. What is
//! expected of the answers is not looked at here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;

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

/// A file of steps. Steps may do other things than ask, and may say more of a request.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    step: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    request: Option<Ask>,
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
        let steps: File = toml::from_str(&text).with_context(|| format!("{shown} has no steps"))?;
        for request in steps.step.into_iter().filter_map(|step| step.request) {
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
            "[[step]]\nrequest = { path = \"/b\" }\nexpect = { status = 200 }\n\
             [[step]]\nrequest = { path = \"/b\" }\n[[step]]\nswap = \"x\"\n",
        )
        .unwrap();
        std::fs::write(
            tests.join("a.toml"),
            "title = \"x\"\n[[step]]\nrequest = { method = \"POST\", path = \"/a\", \
             headers = { accept = \"x\" }, body = \"{}\" }\n",
        )
        .unwrap();
        std::fs::write(tests.join("notes.txt"), "not toml").unwrap();
        let requests = of(folder.path()).unwrap();
        let shown: Vec<String> = requests.iter().map(Ask::to_string).collect();
        assert_eq!(shown, ["POST /a", "GET /b"]);
        assert_eq!(requests[0].headers["accept"], "x");
        std::fs::write(tests.join("c.toml"), "[[step]\n").unwrap();
        let error = of(folder.path()).unwrap_err().to_string();
        assert!(error.contains("c.toml"), "{error}");
    }
}
