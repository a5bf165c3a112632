//! `scripts/run --with-chat` as a newcomer uses it: one command, one address to open in a
//! browser, a chat through the gateway, and nothing that is left over at the end.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use lockgate_tests::browser::Tab;
use lockgate_tests::place;
use lockgate_tests::ports::Ports;
use lockgate_tests::wait::eventually;
use serde_json::json;
use tokio::net::TcpListener;

const CHAT: &str = env!("CARGO_BIN_EXE_lockgate-chat");
const SERVICES: [&str; 5] = [
    "JWT_TOKEN_ADAPTER_PORT",
    "SESSION_VALIDATION_NORMALIZER_PORT",
    "FALLBACK_SESSION_PROVIDER_PORT",
    "WEBSOCKET_AUTH_GATEWAY_PORT",
    "SERVICE_BOUNDARY_COORDINATOR_PORT",
];
const STATE: &str = "document.getElementById('state').textContent";
const LINES: &str = "[...document.getElementById('lines').children].map((l) => l.textContent)";

/// The script in a process group of its own, as a terminal gives it. Dropping it kills
/// all of them.
struct Run {
    child: Child,
    ports: Ports,
    folder: tempfile::TempDir,
}

fn script(folder: &Path, ports: &Ports) -> Command {
    let path = |name: &str| folder.join(name).display().to_string();
    std::fs::write(path("jwt_secret"), "a secret for a test\nof two lines").unwrap();
    let mut command = Command::new(place::repository().join("scripts/run"));
    command
        .args(["--with-chat", "--no-build"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LOCKGATE_BIN", place::binary())
        .env("LOCKGATE_CHAT_BIN", CHAT)
        .env("LOCKGATE_PLUGINS_DIR", place::plugins())
        .env("LOCKGATE_DATA_DIR", path("data"))
        .env("LOCKGATE_ADMIN", format!("127.0.0.1:{}", ports.at(5)))
        .env("JWT_SECRET_FILE", path("jwt_secret"))
        .env("CHAT_PORT", ports.at(6).to_string())
        .env("CHAT_PAGE_PORT", ports.at(7).to_string())
        .stdin(Stdio::null())
        .process_group(0);
    for (name, index) in SERVICES.into_iter().zip(0..) {
        command.env(name, ports.at(index).to_string());
    }
    command
}

impl Run {
    /// Runs it until the host is ready.
    async fn start() -> Self {
        let (ports, folder) = (Ports::take(), tempfile::tempdir().unwrap());
        let log = File::create(folder.path().join("log")).unwrap();
        let child = script(folder.path(), &ports)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("start scripts/run");
        let mut run = Self {
            child,
            ports,
            folder,
        };
        let ready = format!("http://127.0.0.1:{}/readyz", run.ports.at(5));
        eventually("the host is ready", async || {
            let left = run.child.try_wait().unwrap();
            assert!(left.is_none(), "{left:?}: {}", run.log());
            match reqwest::get(&ready).await {
                Ok(answer) if answer.status().is_success() => Ok(()),
                _ => Err(run.log()),
            }
        })
        .await;
        let names = processes_of(run.child.id());
        assert_eq!(names.len(), 2, "the host and the chat service: {names:?}");
        run
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// The one address that it prints for the browser.
    fn address(&self) -> String {
        let log = self.log();
        let mut words = log
            .split_whitespace()
            .filter(|word| word.contains("#token="));
        let (Some(address), None) = (words.next(), words.next()) else {
            panic!("no address, or more than one: {log}");
        };
        address.to_owned()
    }

    fn token(&self) -> String {
        let address = self.address();
        let token = address.split("#token=").nth(1).expect("a token");
        token.split('&').next().expect("a token").to_owned()
    }

    /// A signal to the script alone, which is the host by now, or to all, as Ctrl-C.
    fn signal(&self, name: &str, all: bool) {
        let sign = if all { "-" } else { "" };
        let to = format!("kill -s {name} -- {sign}{}", self.child.id());
        let done = Command::new("bash").args(["-c", &to]).status().unwrap();
        assert!(done.success(), "{to}");
    }

    /// Waits until none of its processes runs and its ports can be bound.
    async fn gone(&mut self) {
        eventually("scripts/run has left", async || {
            self.child.try_wait().unwrap().map(drop).ok_or("it runs")
        })
        .await;
        nothing_left_of(self.child.id()).await;
        for index in 0..8 {
            let bound = TcpListener::bind(("127.0.0.1", self.ports.at(index))).await;
            assert!(bound.is_ok(), "port {index} is still taken");
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !processes_of(self.child.id()).is_empty() {
            self.signal("KILL", true);
        }
        let _ = self.child.wait();
    }
}

/// The processes of a group that have not ended, by `/proc/<pid>/stat`.
fn processes_of(group: u32) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats
        .filter(|stat| {
            // After the name, which may hold anything: state, parent, group.
            let rest = stat.rsplit(')').next().unwrap_or_default();
            let mut words = rest.split_whitespace();
            let (state, found) = (words.next(), words.nth(1));
            state != Some("Z") && found == Some(&group.to_string())
        })
        .collect()
}

/// Waits until no process of a group runs: what has been told to end takes a moment.
async fn nothing_left_of(group: u32) {
    eventually("nothing is left over", async || match processes_of(group) {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    })
    .await;
}

async fn says(tab: &mut Tab, text: &str) {
    tab.types(text).await;
    tab.enter().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_address_chats_and_ctrl_c_ends_everything() {
    let mut run = Run::start().await;
    let address = run.address();
    let mut tab = Tab::open(&address).await;
    tab.becomes(STATE, json!("Connected as user 42")).await;
    // The message's field has the focus.
    says(&mut tab, "Hi <b>there</b>").await;
    let mut lines = vec!["You: Hi <b>there</b>", "Answer: echo: Hi <b>there</b>"];
    tab.becomes(LINES, json!(lines)).await;
    tab.becomes(STATE, json!("Connected")).await;
    says(&mut tab, "fail").await;
    lines.extend(["You: fail", "Error: The model is away"]);
    tab.becomes(LINES, json!(lines)).await;
    // Nothing to say is nothing sent.
    says(&mut tab, "  ").await;
    says(&mut tab, "again").await;
    lines.extend(["You: again", "Answer: echo: again"]);
    tab.becomes(LINES, json!(lines)).await;

    let told = tab.told().await;
    for (role, name) in [
        ("heading", "Chat through Lockgate"),
        ("textbox", "Message"),
        ("button", "Send"),
        ("log", "Conversation"),
        ("status", ""),
    ] {
        let wanted = (role.to_owned(), name.to_owned());
        assert!(told.contains(&wanted), "{wanted:?}: {told:?}");
    }

    let logout = format!("http://127.0.0.1:{}/api/v1/auth/logout", run.ports.at(4));
    let logout = reqwest::Client::new().post(logout);
    let answer = logout.bearer_auth(run.token()).send().await.unwrap();
    assert_eq!(answer.status(), 204);
    tab.becomes(&format!("{STATE}.startsWith('Closed (4001')"), json!(true))
        .await;
    let locked = "document.getElementById('text').disabled";
    assert_eq!(tab.value(locked).await, Ok(json!(true)));
    tab.go(&address).await;
    let refused = "Closed (1008: Session validation failed). Reload the page to connect again.";
    tab.becomes(STATE, json!(refused)).await;

    let page = address.split('#').next().expect("the page");
    tab.go(page).await;
    let none = "There is no token: the address of this page must end in #token=...";
    tab.becomes(STATE, json!(none)).await;
    tab.go(&format!("{page}#token=x&gateway=none://such")).await;
    tab.becomes(
        &format!("{STATE}.startsWith('Cannot connect: ')"),
        json!(true),
    )
    .await;

    // It is printed once, for the browser, and logged by nobody.
    assert_eq!(run.log().matches(&run.token()).count(), 1);
    run.signal("INT", true);
    run.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chat_service_ends_with_the_host_however_that_ends() {
    for name in ["TERM", "INT", "KILL"] {
        let mut run = Run::start().await;
        run.signal(name, false);
        run.gone().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_three_files_and_nothing_else() {
    let folder = place::repository().join("examples/chat");
    let any = ([127, 0, 0, 1], 0).into();
    let page = lockgate_tests::chat::Page::serve(any, &folder)
        .await
        .unwrap();
    let client = reqwest::Client::new();
    let url = |path: &str| format!("http://{}{path}", page.address());
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/?x=1", "text/html; charset=utf-8"),
        ("/chat.js", "text/javascript; charset=utf-8"),
        ("/chat.css", "text/css; charset=utf-8"),
    ] {
        let answer = client.get(url(path)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["content-type"], kind);
        assert!(
            answer.headers()["content-security-policy"]
                .to_str()
                .unwrap()
                .contains("'none'")
        );
        assert!(!answer.bytes().await.unwrap().is_empty());
    }
    for path in [
        "/README.md",
        "/..%2f..%2fCargo.toml",
        "/%2e%2e/README.md",
        "//",
        "/chat.js/",
    ] {
        assert_eq!(
            client.get(url(path)).send().await.unwrap().status(),
            404,
            "{path}"
        );
    }
    assert_eq!(client.post(url("/")).send().await.unwrap().status(), 405);
}

fn failed(output: &Output, code: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_started_says_why_and_leaves_nothing() {
    let ports = Ports::take();
    let taken = format!("127.0.0.1:{}", ports.at(6));
    let other = TcpListener::bind(&taken).await.unwrap();
    let program = |arguments: &[&str]| Command::new(CHAT).args(arguments).output().unwrap();
    failed(
        &program(&["--listen", &taken]),
        1,
        &["cannot listen at", &taken],
    );
    let any = "127.0.0.1:0";
    let page = ["--listen", any, "--page", &taken];
    let files = place::repository()
        .join("examples/chat")
        .display()
        .to_string();
    let known = [&page[..], &["--files", &files]].concat();
    failed(&program(&known), 1, &["cannot serve the page at", &taken]);
    let unknown = ["--listen", any, "--page", any, "--files", "/nowhere"];
    failed(&program(&unknown), 1, &["/nowhere/index.html"]);
    for wrong in [
        "https://127.0.0.1",
        "127.0.0.1:8025",
        "http://",
        "http://x/y",
        "x",
    ] {
        failed(
            &program(&["--listen", any, "--verify", wrong]),
            2,
            &["--verify"],
        );
    }
    failed(&program(&["--listen", "8007"]), 2, &["--listen"]);

    let folder = tempfile::tempdir().unwrap();
    let start = |change: &dyn Fn(&mut Command)| {
        let mut command = script(folder.path(), &ports);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        change(&mut command);
        let child = command.spawn().unwrap();
        let group = child.id();
        (child.wait_with_output().unwrap(), group)
    };
    // The chat service's port is taken; no host is started without it.
    let (output, group) = start(&|_| {});
    failed(&output, 1, &["lockgate-chat: cannot listen at", &taken]);
    nothing_left_of(group).await;
    // Without a usable secret there is no token, and no chat service stays.
    drop(other);
    let (output, group) = start(&|command| {
        std::fs::write(folder.path().join("short"), "short").unwrap();
        command.env("JWT_SECRET_FILE", folder.path().join("short"));
    });
    failed(&output, 1, &["no usable JWT secret"]);
    nothing_left_of(group).await;
    let one = |command: &mut Command| {
        command.env("SERVICE_NAME", "websocket-auth-gateway");
    };
    failed(&start(&one).0, 2, &["unset SERVICE_NAME"]);
    let odd = |command: &mut Command| {
        command.arg("--with-chats");
    };
    failed(&start(&odd).0, 2, &["Usage: scripts/run"]);
}
