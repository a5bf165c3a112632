//! Plugins that `lockgate new` makes: made, built by their own build.sh, and served by a
//! host under a service of their own. What is missing for a build is a failure that says so.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::Method;

use crate::http::{self, Call};
use crate::wait::eventually;
use crate::{Host, component, place};

/// The folder of a plugin.
#[derive(Debug)]
pub struct Project {
    /// Of the plugin and of its service.
    pub name: String,
    folder: PathBuf,
}

impl Project {
    /// Has the binary make a plugin in this folder.
    pub fn make(name: &str, language: &str, folder: &Path) -> Self {
        let folder_text = folder.to_str().expect("a path of plain text");
        lockgate(&["new", name, "--lang", language, "--dir", folder_text]);
        Self {
            name: name.to_owned(),
            folder: folder.to_owned(),
        }
    }

    /// The same below the target folder, where what a build installs stays between runs.
    pub fn make_kept(name: &str, language: &str) -> Self {
        let folder = place::target().join("tools").join(name);
        std::fs::create_dir_all(&folder).expect("make a folder");
        let fresh = tempfile::tempdir().expect("make a folder");
        let made = Self::make(name, language, &fresh.path().join(name));
        place::copy_folder(&made.folder, &folder).expect("copy a plugin");
        Self { folder, ..made }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs build.sh; gives what it made. One at a time: builds of one language share what
    /// they install.
    pub fn build(&self, environment: &[(&str, &str)]) -> PathBuf {
        let lock = File::create(place::scratch().join("project-lock")).expect("make a lock");
        lock.lock().expect("wait for another build");
        let mut build = Command::new("./build.sh");
        build.envs(environment.iter().copied());
        self.run(&mut build);
        let file = self.folder.join(format!("dist/{}.wasm", self.name));
        assert!(file.is_file(), "no {}", file.display());
        file
    }

    /// Runs a command in the folder; gives what it printed.
    pub fn run(&self, command: &mut Command) -> String {
        let program = command.get_program().to_string_lossy().into_owned();
        let output = command.current_dir(&self.folder).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(output.status.success(), "{program}: {text}");
        text
    }

    /// The plugin's lockgate.toml with another port.
    pub fn config(&self, port: u16) -> String {
        let file = self.folder.join("lockgate.toml");
        let text = std::fs::read_to_string(file).expect("the plugin's lockgate.toml");
        let with = text.replace("port = 9000", &format!("port = {port}"));
        assert_ne!(text, with, "the port is named");
        with
    }
}

/// Runs the binary; gives what it printed.
pub fn lockgate(arguments: &[&str]) -> String {
    let output = Command::new(place::binary()).args(arguments).output();
    let output = output.expect("run the binary");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("text");
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

/// A host that serves a plugin besides the five.
#[derive(Debug)]
pub struct Served {
    /// The host.
    pub host: Host,
    /// Of the plugin's service.
    pub name: String,
    port: u16,
    client: reqwest::Client,
}

impl Served {
    /// Starts it with this component.
    pub async fn start(project: &Project, component: &Path) -> Self {
        let builder = Host::builder().further_plugin(&project.name, component);
        let mut host = builder.prepare();
        let port = host.spare_port(0);
        std::fs::write(host.root().join("lockgate.toml"), project.config(port))
            .expect("write the configuration");
        host.start_again().await;
        Self {
            host,
            name: project.name.clone(),
            port,
            client: http::client(),
        }
    }

    /// A request to the plugin.
    pub fn call(&self, method: Method, path: &str) -> Call {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        Call::new(self.client.clone(), method, url)
    }

    /// Digest of the revision that serves.
    pub async fn digest(&self) -> String {
        let all = self.host.admin("/plugins").send().await.expect(200).json();
        let list = all["plugins"].as_array().expect("a list of plugins");
        let entry = list.iter().find(|entry| entry["service"] == *self.name);
        let entry = entry.expect("the plugin's service");
        entry["digest"].as_str().unwrap_or_default().to_owned()
    }

    /// Drops a component in and waits until it serves.
    pub async fn swap(&self, bytes: &[u8]) {
        let part = self.host.root().join("part");
        std::fs::write(&part, bytes).expect("write a component");
        let place = self.host.plugins_dir().join(format!("{}.wasm", self.name));
        std::fs::rename(part, place).expect("put a component in place");
        let wanted = component::digest(bytes);
        eventually(&format!("{} loads {wanted}", self.name), async || {
            let digest = self.digest().await;
            (digest == wanted).then_some(()).ok_or(digest)
        })
        .await;
    }
}
