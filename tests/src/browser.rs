//! A real headless Chromium that plays acts on the front end's double, behind one
//! origin as users have it. It says what a page saw and did; what is right, the
//! tests say.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::host::{Host, signal};
use crate::place;

mod passage;
mod site;
mod tab;

pub use site::{Hold, Reply, Seen, Site};
pub use tab::Tab;

/// Names under which systems install it.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// A browser on a loaded machine is slow to start, and a page may wait 8 s twice.
const ACT_GUARD: Duration = Duration::from_secs(120);
const END_GUARD: Duration = Duration::from_secs(10);

/// What is to be played on one load of the page.
#[derive(Debug, Clone)]
pub struct Act {
    fresh: bool,
    cookies: Vec<(String, String)>,
    storage: BTreeMap<String, String>,
    steps: Vec<Value>,
}

impl Act {
    /// A browser without cookies and storage loads the page.
    pub fn load() -> Self {
        Self {
            fresh: true,
            ..Self::reload()
        }
    }

    /// The page is loaded again, with what the browser has kept.
    pub fn reload() -> Self {
        Self {
            fresh: false,
            cookies: Vec::new(),
            storage: BTreeMap::new(),
            steps: vec![json!(["load"])],
        }
    }

    /// The page is there, but does nothing by itself.
    pub fn idle() -> Self {
        let mut act = Self::load();
        act.steps.clear();
        act
    }

    /// Gives the browser an HttpOnly cookie, as the login does.
    pub fn cookie(mut self, name: &str, value: &str) -> Self {
        self.cookies.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts a token into the browser's storage.
    pub fn stored(mut self, token: &str) -> Self {
        self.storage.insert("auth_token".into(), token.into());
        self
    }

    /// A further step. Of the login: `health`, `validate`, `login`, `logout`, `ahead`
    /// (seconds), `fetch` (URL, init). Of the chat: `open` (URL or nothing), `chat` (text,
    /// mode), `say` (the same, without waiting), `large` (letters), `close`, `closed`
    /// (waits for it). `hold` waits for [`Site::held`].
    pub fn then(mut self, name: &str, values: &[Value]) -> Self {
        self.steps
            .push(Value::Array([&[json!(name)], values].concat()));
        self
    }

    /// The next load happens so many seconds later by the page's clock.
    pub fn after(mut self, seconds: u32) -> Self {
        self.steps.insert(0, json!(["ahead", seconds]));
        self
    }
}

/// What an act came to.
#[derive(Debug, Clone)]
pub struct Played {
    /// The page's own words: `state`, `shown`, `chat`, `results`, `failing`,
    /// `stored_token`, `kept` and `script_cookies`.
    pub report: Value,
    /// What the origin was asked meanwhile, without the page itself.
    pub seen: Vec<Seen>,
}

impl Played {
    /// A member of the page's state.
    pub fn state(&self, name: &str) -> &Value {
        &self.report["state"][name]
    }

    /// Paths asked, in order.
    pub fn paths(&self) -> Vec<&str> {
        self.seen.iter().map(|seen| seen.path.as_str()).collect()
    }
}

/// A browser with a profile of its own, at the stage of a [`Site`]. Dropping it ends
/// the process.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    profile: tempfile::TempDir,
    number: u64,
}

impl Browser {
    /// Starts it; installs it first where that is possible.
    pub fn open(site: &Site) -> Self {
        Self::launch(&site.url("/stage"))
    }

    fn launch(url: &str) -> Self {
        let profile = tempfile::Builder::new()
            .prefix("lockgate-test-browser-")
            .tempdir()
            .expect("make a profile");
        let log = File::create(profile.path().join("log")).expect("a log file");
        let data = profile.path().join("data");
        let child = Command::new(program())
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-dev-shm-usage",
                "--remote-debugging-port=0",
            ])
            .arg(format!("--user-data-dir={}", data.display()))
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start the browser");
        Self {
            child,
            profile,
            number: 0,
        }
    }

    /// Plays an act and waits for its end.
    pub async fn play(&mut self, site: &Site, act: Act) -> Played {
        self.number += 1;
        site.forget();
        let what = json!({
            "number": self.number, "fresh": act.fresh, "storage": act.storage, "steps": act.steps,
        });
        let played = site.play(what, act.fresh, act.cookies);
        let Ok(report) = tokio::time::timeout(ACT_GUARD, played).await else {
            let log = std::fs::read_to_string(self.profile.path().join("log"));
            panic!(
                "no report after {ACT_GUARD:?}; asked so far: {:?}; the browser's log:\n{}",
                site.seen(),
                log.unwrap_or_default()
            );
        };
        assert_eq!(report["fault"], Value::Null, "a fault in the page");
        assert_eq!(
            report["act"], self.number,
            "the report of another act: {report}"
        );
        Played {
            report,
            seen: site.seen(),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // With SIGTERM it takes its own children with it.
        signal(self.child.id(), "TERM");
        let begin = Instant::now();
        while begin.elapsed() < END_GUARD {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program's name; installs Debian's package if there is none.
fn program() -> &'static str {
    let lock = File::create(place::scratch().join("browser-lock")).expect("make a lock");
    lock.lock().expect("wait for the browser's installation");
    if let Some(found) = installed() {
        return found;
    }
    let done = Command::new("sh")
        .args([
            "-c",
            "apt-get update -qq && \
             DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium",
        ])
        .stdout(Stdio::null())
        .status();
    installed().unwrap_or_else(|| {
        panic!("no browser: install one of {NAMES:?} (apt-get install chromium: {done:?})")
    })
}

fn installed() -> Option<&'static str> {
    NAMES.into_iter().find(|name| {
        let asked = Command::new(name)
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        asked.is_ok_and(|status| status.success())
    })
}

/// An origin before a host, and a browser at its stage.
pub async fn open(host: &Host) -> (Site, Browser) {
    let site = Site::start(host).await;
    let browser = Browser::open(&site);
    (site, browser)
}
