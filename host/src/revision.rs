//! From bytes to a component that may serve: what is it, does it export what the
//! host calls, does it import only what its service was granted, does it compile.
//! It runs no guest code and knows nothing of files or HTTP.

mod cache;
mod exports;
mod imports;
mod survey;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use wasmtime::component::{Component, ComponentExportIndex, InstancePre};

pub use cache::Cache;
pub use exports::{Handler, contract};
pub use imports::{ImportChange, about_contract};
pub use survey::{Item, Survey};

use crate::bindings::socket_events::SocketEventsIndices;
use crate::config::ServiceConfig;
use crate::engine::Engine;
use crate::sandbox::HostData;
use crate::signature::Unsigned;

/// Largest component file, bytes.
pub const MAX_SIZE: usize = 64 << 20;

/// The version of wit/ that this host offers.
pub const CONTRACT: &str = "0.1.0";

/// What was dropped in: a component's file and, where drops must be signed, the
/// signature file beside it.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// Contents of `<service>.wasm`.
    pub component: Bytes,
    /// Contents of `<service>.wasm.sig`; none if there is none or nobody asks for it.
    pub signature: Option<Bytes>,
}

/// Why a file cannot serve. Each is a sentence for the plugin's author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// No bytes.
    #[error("the file is empty")]
    Empty,
    /// Over [`MAX_SIZE`].
    #[error("the file has {0} bytes, more than the {MAX_SIZE} that a component may have")]
    TooLarge(u64),
    /// A module without the component layer.
    #[error(
        "this is a core WebAssembly module, not a component: build it with `--target wasm32-wasip2`"
    )]
    CoreModule,
    /// Native code, e.g. of `wasmtime compile`.
    #[error("this is compiled native code, not a component: Lockgate compiles components itself")]
    Precompiled,
    /// The text format.
    #[error("this is text, not a component in binary form")]
    Text,
    /// Neither of these.
    #[error("this is not WebAssembly: it does not begin with the bytes of a component")]
    NotWasm,
    /// It says that it is a component, but is broken or cut short.
    #[error("the component is not valid: {0}")]
    Invalid(String),
    /// It does not export what the host calls.
    #[error("the component does not export `{export}`{hint}")]
    MissingExport {
        /// What the host looks for.
        export: String,
        /// What it found instead, or nothing.
        hint: String,
    },
    /// The export is there, with another type.
    #[error("the component exports `{export}` with another type than it should have: {problem}")]
    WrongExport {
        /// The export.
        export: String,
        /// The difference.
        problem: String,
    },
    /// It is of a contract that its service does not accept.
    #[error(
        "the component exports `{export}`, and service {service} takes components of the contract \"{accepted}\": set services.{service}.contract = \"{of}\" to have it served"
    )]
    WrongContract {
        /// What it exports.
        export: String,
        /// The contract that this belongs to.
        of: &'static str,
        /// The service.
        service: String,
        /// The contract that the service accepts.
        accepted: &'static str,
    },
    /// It imports a host interface that its service was not granted.
    #[error(
        "the component imports `{import}`, which service {service} is not granted: add \"{interface}\" to services.{service}.grants.interfaces or remove the import{change}"
    )]
    NotGranted {
        /// As the component names it.
        import: String,
        /// The interface without package and version.
        interface: String,
        /// The service.
        service: String,
        /// Against the revision that serves.
        change: Box<ImportChange>,
    },
    /// It imports what no plugin may.
    #[error("the component imports `{import}`, {why}{change}")]
    Forbidden {
        /// As the component names it.
        import: String,
        /// Why not.
        why: &'static str,
        /// Against the revision that serves.
        change: Box<ImportChange>,
    },
    /// An import has another type or version than the host offers.
    #[error("an import does not fit what the host offers: {0}")]
    WrongImport(String),
    /// The compiler refused it.
    #[error("the component does not compile: {0}")]
    Compile(String),
    /// Drops must be signed, and this one is not as it should be.
    #[error("this file is not loaded: {0}")]
    Unsigned(#[from] Unsigned),
    /// It failed its trial before.
    #[error("this file was rolled back and is not tried again until it changes: {0}")]
    RolledBack(String),
    /// An operator keeps another revision.
    #[error("this file is not loaded: the service is pinned to {0}")]
    Pinned(String),
    /// Its own self-test found something.
    #[error("the component's self-test says: {0}")]
    SelfTest(String),
    /// It could not be started, or trapped or ran too long in its self-test.
    #[error("the component failed before it could serve: {0}")]
    Start(String),
}

/// A component that was verified and compiled for one service.
pub struct Revision {
    service: Arc<ServiceConfig>,
    instances: metrics::Gauge,
    digest: String,
    size: usize,
    loaded_at: SystemTime,
    imports: BTreeSet<String>,
    pre: InstancePre<HostData>,
    handler: Handler,
    sockets: Option<SocketEventsIndices>,
    self_test: Option<ComponentExportIndex>,
}

impl Revision {
    /// Verifies and compiles. Takes long: keep it off the threads that serve.
    /// `running` is what a refused component's imports are compared with.
    ///
    /// # Errors
    /// [`LoadError`]: what is wrong with the file, in one sentence.
    pub fn load(
        engine: &Engine,
        service: Arc<ServiceConfig>,
        bytes: &[u8],
        cache: Option<&Cache>,
        running: Option<&Revision>,
    ) -> Result<Revision, LoadError> {
        look(bytes)?;
        exports::check_contract(bytes, &service)?;
        let digest = digest(bytes);
        let component = compile(engine, bytes, &service.name, &digest, cache)?;
        let types = component.component_type();
        let imports = imports::names(engine.wasmtime(), &types);
        imports::check(&imports, &service, running)?;
        exports::check(engine.wasmtime(), &types, service.contract)?;
        let linker = engine.linker(&service.grants);
        let linker = linker.map_err(|error| LoadError::WrongImport(words(&error)))?;
        let pre = linker.instantiate_pre(&component);
        let pre = pre.map_err(|error| LoadError::WrongImport(imports::misfit(&error)))?;
        let linked = linker.substituted_component_type(&component);
        let linked = linked.map_err(|error| LoadError::WrongImport(words(&error)))?;
        let handler = Handler::find(service.contract, engine.wasmtime(), &linked, &pre)?;
        let sockets = exports::sockets(engine.wasmtime(), &types, &pre)?;
        let self_test = exports::self_test(&component);
        let name = service.name.clone();
        let instances = metrics::gauge!("lockgate_instances", "service" => name.clone());
        metrics::gauge!("lockgate_revisions_alive", "service" => name).increment(1.0);
        Ok(Revision {
            service,
            instances,
            digest,
            size: bytes.len(),
            loaded_at: SystemTime::now(),
            imports,
            pre,
            handler,
            sockets,
            self_test,
        })
    }

    /// The service that it was verified for.
    pub fn service(&self) -> &ServiceConfig {
        &self.service
    }

    /// Counts the service's instances.
    pub fn instances(&self) -> &metrics::Gauge {
        &self.instances
    }

    /// SHA-256 of the file, 64 lower-case hex digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The first 12 digits, for logs.
    pub fn short_digest(&self) -> &str {
        self.digest.get(..12).unwrap_or(&self.digest)
    }

    /// Bytes of the file.
    pub fn size(&self) -> usize {
        self.size
    }

    /// When it was verified.
    pub fn loaded_at(&self) -> SystemTime {
        self.loaded_at
    }

    /// All that it imports, by name.
    pub fn imports(&self) -> &BTreeSet<String> {
        &self.imports
    }

    /// Ready to be instantiated.
    pub fn pre(&self) -> &InstancePre<HostData> {
        &self.pre
    }

    /// Where its handler is.
    pub fn handler(&self) -> &Handler {
        &self.handler
    }

    /// Where its socket events are, if it serves sockets.
    pub fn sockets(&self) -> Option<&SocketEventsIndices> {
        self.sockets.as_ref()
    }

    /// Its `self-test.run`, if it exports one.
    pub fn self_test(&self) -> Option<&ComponentExportIndex> {
        self.self_test.as_ref()
    }
}

impl Drop for Revision {
    fn drop(&mut self) {
        let service = self.service.name.clone();
        metrics::gauge!("lockgate_revisions_alive", "service" => service).decrement(1.0);
    }
}

impl std::fmt::Debug for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revision")
            .field("service", &self.service.name)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// SHA-256 in lower-case hex.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// What the first bytes say. The layer field of the preamble tells a component from
/// a core module.
fn look(bytes: &[u8]) -> Result<(), LoadError> {
    if bytes.is_empty() {
        return Err(LoadError::Empty);
    }
    if bytes.len() > MAX_SIZE {
        return Err(LoadError::TooLarge(bytes.len() as u64));
    }
    match bytes {
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', _, _, 0, 0, ..] => Err(LoadError::CoreModule),
        [0, b'a', b's', b'm', ..] => Err(LoadError::Invalid("its header is cut short".to_owned())),
        [0x7f, b'E', b'L', b'F', ..] => Err(LoadError::Precompiled),
        _ if bytes
            .iter()
            .take(512)
            .all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) =>
        {
            Err(LoadError::Text)
        }
        _ => Err(LoadError::NotWasm),
    }
}

fn compile(
    engine: &Engine,
    bytes: &[u8],
    service: &str,
    digest: &str,
    cache: Option<&Cache>,
) -> Result<Component, LoadError> {
    if let Some(component) = cache.and_then(|cache| cache.get(engine.wasmtime(), service, digest)) {
        return Ok(component);
    }
    let component = Component::from_binary(engine.wasmtime(), bytes).map_err(|error| {
        let words = words(&error);
        if words.starts_with("failed to parse") || words.contains("(at offset") {
            LoadError::Invalid(words)
        } else {
            LoadError::Compile(words)
        }
    })?;
    if let Some(cache) = cache {
        cache.put(engine.wasmtime(), service, digest, &component);
    }
    Ok(component)
}

/// An error and its causes on one line, cut to a readable length.
fn words(error: &wasmtime::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    one_line(&causes.join(": "))
}

/// Without control characters, cut to a readable length.
pub fn one_line(text: &str) -> String {
    let line = text.replace(|c: char| c.is_control(), " ");
    match line.char_indices().nth(400) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_what_a_file_is() {
        let cases: [(&[u8], LoadError); 6] = [
            (b"", LoadError::Empty),
            (b"\0asm\x01\0\0\0", LoadError::CoreModule),
            (
                b"\0asm",
                LoadError::Invalid("its header is cut short".to_owned()),
            ),
            (b"\x7fELF\x02\x01", LoadError::Precompiled),
            (b"(component\n)", LoadError::Text),
            (b"\xff\xfe\x00\x01", LoadError::NotWasm),
        ];
        for (bytes, expected) in cases {
            assert_eq!(look(bytes), Err(expected));
        }
        assert_eq!(look(b"\0asm\x0d\0\x01\0"), Ok(()));
    }
}
