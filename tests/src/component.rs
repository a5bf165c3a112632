//! Components for reload tests: variants of the built probe and of the built
//! plugins, and small ones written as text. It needs no compiler at test time.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::host::{Host, HostBuilder, Service};
use crate::place;
use crate::wait::eventually;

/// What the mark of the built probe says.
const MARK: &str = "lockgate-probe-mark;version=00000001;self-test=passes__;handle=answers_;";

/// The built probe with another version and, perhaps, another conduct.
#[derive(Debug, Clone)]
pub struct Probe {
    bytes: Vec<u8>,
    at: usize,
}

impl Probe {
    /// The probe with a version of at most eight digits.
    pub fn version(version: u32) -> Self {
        let bytes = std::fs::read(place::probe()).expect("read the built probe");
        let at = position(&bytes, MARK.as_bytes()).expect("the built probe holds its mark");
        let mut probe = Self { bytes, at };
        probe.set("version=", &format!("{version:08}"));
        probe
    }

    /// `passes__`, `reports_`, `traps___` or `loops___`.
    pub fn self_test(mut self, conduct: &str) -> Self {
        self.set("self-test=", conduct);
        self
    }

    /// What every request does: `answers_`, `traps___`, `loops___`, `invalid_`,
    /// `errors__`, or `writes__` or `reads___` (and traps then). At `/account`, for
    /// administrators only: `stumbles` (500), `falls___` (traps) or `differs_`.
    pub fn handle(mut self, conduct: &str) -> Self {
        self.set("handle=", conduct);
        self
    }

    /// The component's file.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    /// The component in a file of its own, for [`crate::HostBuilder::plugin`].
    pub fn file(&self, folder: &Path) -> PathBuf {
        let path = folder.join(format!("{}.wasm", digest(&self.bytes)));
        std::fs::write(&path, &self.bytes).expect("write a variant of the probe");
        path
    }

    fn set(&mut self, field: &str, value: &str) {
        assert_eq!(value.len(), 8, "a field of the mark has eight bytes");
        let at = self.at + MARK.find(field).expect("a field of the mark") + field.len();
        self.bytes[at..at + 8].copy_from_slice(value.as_bytes());
    }
}

/// A host on which a service runs the probe, version 1, with these limits: lines of its
/// `limits` table.
pub async fn probe_with_limits(service: Service, limits: &str) -> Host {
    let folder = folder();
    let file = Probe::version(1).file(folder.path());
    let config = format!("[services.{}.limits]\n{limits}\n", service.name());
    let host = Host::builder().plugin(service, file).config(config);
    host.start().await
}

/// The service that is the probe on [`echo_host`].
pub const ECHO: Service = Service::Coordinator;
/// Where it serves sockets.
pub const ECHO_PATH: &str = "/ws";

/// A host on which the sockets of a service give every text of up to so many bytes back as
/// it came, without a look at any credential. It sends no pings of its own while a test
/// lasts.
pub async fn echo_host(most: usize) -> Host {
    echo_host_with(most, Host::builder()).await
}

/// The same with further settings.
pub async fn echo_host_with(most: usize, builder: HostBuilder) -> Host {
    let folder = folder();
    let file = Probe::version(1).file(folder.path());
    let name = ECHO.name();
    let config = format!(
        "[sockets]\nmessage_bytes = {most}\nping_seconds = 3600\n\
         [services.{name}]\nsocket_paths = [\"{ECHO_PATH}\"]\n\
         [services.{name}.grants]\nsockets = [\"serve\"]\n\
         interfaces = [\"counters\", \"csrf\", \"jwt\", \"redis\"]\n"
    );
    builder.plugin(ECHO, file).config(config).start().await
}

/// The `wasi:http` component of the tests, with another version of at most eight digits.
pub fn wasi_http(version: u32) -> Vec<u8> {
    let built = std::fs::read(place::wasi_http_guest()).expect("read the wasi:http component");
    let version = format!("wasi-http-mark;version={version:08}");
    patched(&built, "wasi-http-mark;version=00000001", &version)
}

/// What the probe answers for a version.
pub fn version_text(version: u32) -> String {
    format!("{version:08}")
}

/// A folder for variants of the probe.
pub fn folder() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("lockgate-test-wasm-")
        .tempdir()
        .expect("make a folder")
}

/// The same component with a custom section more: another digest, same conduct.
pub fn with_note(component: &[u8], note: &str) -> Vec<u8> {
    let name = b"note";
    assert!(note.len() < 100, "the section's length must fit one byte");
    let mut bytes = component.to_vec();
    bytes.push(0);
    bytes.push((1 + name.len() + note.len()) as u8);
    bytes.push(name.len() as u8);
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(note.as_bytes());
    bytes
}

/// The same component with one import more, of a resource type: it compiles and
/// is well formed, but no host of plugins offers this.
pub fn with_import(component: &[u8], name: &str) -> Vec<u8> {
    assert!(name.len() < 100, "the section's length must fit one byte");
    let mut bytes = component.to_vec();
    bytes.extend_from_slice(&[10, name.len() as u8 + 5, 1, 0, name.len() as u8]);
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(&[3, 1]);
    bytes
}

/// A file in which every occurrence of a text is replaced by another of its length.
pub fn patched(component: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "a patched file keeps its layout");
    let mut bytes = component.to_vec();
    let mut start = 0;
    while let Some(at) = position(&bytes[start..], from.as_bytes()) {
        bytes[start + at..start + at + to.len()].copy_from_slice(to.as_bytes());
        start += at + to.len();
    }
    assert!(start > 0, "the file does not hold {from}");
    bytes
}

/// A built plugin's bytes.
pub fn built(service: Service) -> Vec<u8> {
    std::fs::read(place::plugin(service.name())).expect("read a built plugin")
}

/// A component or core module from WebAssembly text.
pub fn text(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).expect("valid WebAssembly text")
}

/// A small plugin in WebAssembly text, whose memory begins with so many pages of 64 KiB.
/// `wat/handler.wat` says what `core` and `more` are.
pub fn small(pages: u32, core: &str, more: &str) -> Vec<u8> {
    let frame = include_str!("../wat/handler.wat");
    let (_, frame) = frame.split_once("(component").expect("a component");
    let whole = format!("(component{frame}")
        .replace("{pages}", &pages.to_string())
        .replace("{core}", core)
        .replace("{more}", more);
    text(&whole)
}

/// A small plugin that answers every request with this number.
pub fn constant(number: u32) -> Vec<u8> {
    let core = format!(
        "(func (export \"handle\") (param i32) (result i32) (call $answer (i32.const {number})))"
    );
    small(1, &core, "")
}

/// SHA-256 as lower-case hex.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// What the admin listener says about the component of a service.
#[derive(Debug, Clone)]
pub struct PluginReport {
    /// Changes with every swap.
    pub revision: serde_json::Value,
    /// SHA-256 of the file.
    pub digest: String,
    /// E.g. that it serves, or that there is none.
    pub state: String,
    /// An operator keeps the revision.
    pub pinned: bool,
    /// Digests that can be gone back to, the newest first.
    pub kept: Vec<String>,
    /// Why the last file was refused, if it was.
    pub last_error: Option<String>,
}

impl PluginReport {
    /// Is it of the file with this digest?
    pub fn is_of(&self, digest: &str) -> bool {
        self.digest.contains(&digest[..16])
    }
}

fn strings(list: &serde_json::Value) -> Vec<String> {
    let list = list.as_array().expect("a list");
    list.iter()
        .map(|one| one.as_str().expect("a string").to_owned())
        .collect()
}

impl Host {
    /// Where the component of a service lies.
    pub fn plugin_path(&self, service: Service) -> PathBuf {
        self.plugins_dir().join(format!("{}.wasm", service.name()))
    }

    /// Puts a component in place in one step.
    pub fn install(&self, service: Service, bytes: &[u8]) {
        let part = self.root().join(format!("{}.part", service.name()));
        std::fs::write(&part, bytes).expect("write a component");
        std::fs::rename(part, self.plugin_path(service)).expect("put a component in place");
    }

    /// What `/plugins` of the admin listener says about a service.
    pub async fn plugin_report(&self, service: Service) -> PluginReport {
        let all = self.admin("/plugins").send().await.expect(200).json();
        let list = all
            .as_array()
            .or_else(|| all["plugins"].as_array())
            .expect("a list of plugins");
        let entry = list
            .iter()
            .find(|entry| entry["service"] == service.name())
            .unwrap_or_else(|| panic!("/plugins does not name {}: {all}", service.name()));
        PluginReport {
            revision: entry["revision"].clone(),
            digest: entry["digest"].as_str().unwrap_or_default().to_owned(),
            state: entry["state"].as_str().unwrap_or_default().to_owned(),
            pinned: entry["pinned"].as_bool().expect("pinned is a boolean"),
            kept: strings(&entry["kept"]),
            last_error: entry["last_error"].as_str().map(str::to_owned),
        }
    }

    /// Waits until the component with these bytes serves.
    pub async fn wait_loaded(&self, service: Service, bytes: &[u8]) {
        let wanted = digest(bytes);
        eventually(&format!("{} loads {wanted}", service.name()), async || {
            let report = self.plugin_report(service).await;
            report
                .is_of(&wanted)
                .then_some(())
                .ok_or(format!("{report:?}"))
        })
        .await;
    }

    /// Installs a component and waits until it serves.
    pub async fn swap(&self, service: Service, bytes: &[u8]) {
        self.install(service, bytes);
        self.wait_loaded(service, bytes).await;
    }

    /// Waits until the last file of a service is refused with an error that holds
    /// all of these words (in any case); gives the error.
    pub async fn wait_refused(&self, service: Service, words: &[&str]) -> String {
        eventually(
            &format!("{} refuses a file with {words:?}", service.name()),
            async || {
                let report = self.plugin_report(service).await;
                let Some(error) = report.last_error.clone() else {
                    return Err(format!("{report:?}"));
                };
                let lower = error.to_lowercase();
                match words
                    .iter()
                    .all(|word| lower.contains(&word.to_lowercase()))
                {
                    true => Ok(error),
                    false => Err(error),
                }
            },
        )
        .await
    }
}
