//! What a plugin's author does first: `lockgate new`, build, test, check, serve, and
//! `lockgate dev` with a changed word. The plugin lies outside of the repository.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use lockgate_tests::place;
use lockgate_tests::project::{Project, Served, lockgate};
use lockgate_tests::wait::eventually;
use reqwest::Method;
use serde_json::{Value, json};

/// Where cargo builds it, so that a second run is quick.
fn target() -> String {
    let folder = place::target().join("tools/new-rust");
    folder.to_str().expect("a path of plain text").to_owned()
}

/// `lockgate dev` as a process, ended with the test.
struct Dev {
    child: Child,
    log: std::path::PathBuf,
}

impl Dev {
    fn start(project: &Project, served: &Served, log: &Path) -> Dev {
        let file = std::fs::File::create(log).expect("make a log");
        let host = &served.host;
        let child = Command::new(place::binary())
            .arg("dev")
            .arg(project.folder())
            .arg("--plugins")
            .arg(host.plugins_dir())
            .arg("--admin")
            .arg(format!("127.0.0.1:{}", host.admin_port()))
            .arg("--token-file")
            .arg(host.data_dir().join("admin_token"))
            .env("LOCKGATE_CONFIG", project.folder().join("lockgate.toml"))
            .env("CARGO_TARGET_DIR", target())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("share the log"))
            .stderr(file)
            .spawn()
            .expect("start lockgate dev");
        Dev {
            child,
            log: log.to_owned(),
        }
    }

    /// Waits until it has said this so many times.
    async fn says(&self, words: &str, times: usize) -> String {
        eventually(&format!("dev says {words:?}"), async || {
            let text = std::fs::read_to_string(&self.log).expect("the log");
            if text.matches(words).count() >= times {
                Ok(text)
            } else {
                Err(text)
            }
        })
        .await
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn replace(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).expect("a source");
    let with = text.replace(from, to);
    assert_ne!(text, with, "{from} is in {}", file.display());
    std::fs::write(file, with).expect("save a source");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_plugin_is_built_tested_served_and_changed() {
    let place = tempfile::tempdir().expect("make a folder");
    let project = Project::make("greeter", "rust", &place.path().join("greeter"));
    let target = target();
    let component = project.build(&[("CARGO_TARGET_DIR", &target)]);
    let mut test = Command::new("cargo");
    test.args(["test", "--release"])
        .env("CARGO_TARGET_DIR", &target);
    let tested = project.run(&mut test);
    assert!(tested.contains("2 passed"), "{tested}");
    let file = component.to_str().expect("a path of plain text");
    let mut check = Command::new(place::binary());
    check.args(["check", file]);
    let config = project.folder().join("lockgate.toml");
    let checked = project.run(check.env("LOCKGATE_CONFIG", &config));
    assert!(checked.contains("would serve as greeter"), "{checked}");
    let inspected: Value =
        serde_json::from_str(&lockgate(&["inspect", file, "--json"])).expect("JSON");
    assert_eq!(inspected["contract"], "lockgate:plugin");
    assert_eq!(inspected["self_test"], true);
    assert_eq!(inspected["refused"], Value::Null);
    let granted = std::fs::read_to_string(&config).unwrap();
    let needed = format!("interfaces = {}", inspected["grants"]).replace(',', ", ");
    assert!(granted.contains(&needed), "{needed} in {granted}");

    let served = Served::start(&project, &component).await;
    let hello = served.call(Method::GET, "/hello").send().await.expect(200);
    assert_eq!(hello.json(), json!({ "hello": "world" }));
    served.call(Method::GET, "/health").send().await.expect(200);

    let dev = Dev::start(&project, &served, &place.path().join("dev.log"));
    dev.says("waiting for a change", 1).await;
    let source = project.folder().join("src/lib.rs");
    replace(&source, "unwrap_or(\"world\")", "unwrap_or(\"earth\")");
    let said = dev.says("GET /hello: 200 -> 200", 1).await;
    let line = "line 1: `{\"hello\":\"world\"}` -> `{\"hello\":\"earth\"}`";
    assert!(said.contains(line), "{said}");
    assert!(said.contains("greeter serves"), "{said}");
    let hello = served.call(Method::GET, "/hello").send().await.expect(200);
    assert_eq!(hello.json(), json!({ "hello": "earth" }));

    // What does not compile changes nothing, and dev goes on.
    replace(&source, "unwrap_or(\"earth\")", "unwrap_or(\"earth\"");
    dev.says("the build failed", 1).await;
    let hello = served.call(Method::GET, "/hello").send().await.expect(200);
    assert_eq!(hello.json(), json!({ "hello": "earth" }));
    replace(&source, "unwrap_or(\"earth\"", "unwrap_or(\"sea\")");
    dev.says("`{\"hello\":\"earth\"}` -> `{\"hello\":\"sea\"}`", 1)
        .await;
}

#[test]
fn bad_input_makes_nothing() {
    let place = tempfile::tempdir().expect("make a folder");
    let run = |arguments: &[&str]| {
        let output = Command::new(place::binary())
            .arg("new")
            .args(arguments)
            .current_dir(place.path())
            .output()
            .expect("run the binary");
        let said = String::from_utf8(output.stderr).expect("text");
        (output.status.code(), said)
    };
    for (arguments, code, words) in [
        (&["Greeter"][..], 2, "a name is made of a-z"),
        (&["../greeter"], 2, "a name is made of a-z"),
        (&["greeter", "--lang", "cobol"], 2, "rust, python, js"),
        (&["greeter", "--dir", "no/such"], 1, "nothing was made"),
    ] {
        let (exit, said) = run(arguments);
        assert_eq!(exit, Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    std::fs::create_dir(place.path().join("greeter")).unwrap();
    std::fs::write(place.path().join("greeter/mine"), "").unwrap();
    let (exit, said) = run(&["greeter"]);
    assert_eq!(exit, Some(1), "{said}");
    assert!(said.contains("the folder is not empty"), "{said}");
    let left = std::fs::read_dir(place.path().join("greeter")).unwrap();
    assert_eq!(left.count(), 1);
}
