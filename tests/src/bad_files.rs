//! Files that no host may serve, and the words of the sentence with which each is
//! refused. It installs nothing.

use crate::component::{Probe, built, digest, patched, text, with_import, with_note};
use crate::host::Service;

/// The service that is granted all that the probe imports.
pub(crate) const PROBED: Service = Service::Coordinator;

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The second half is missing.
    Truncated,
    /// Noise.
    Random,
    /// A WebAssembly module without the component layer.
    CoreModule,
    /// It exports another version of the handler.
    WrongWorld,
    /// It imports what no plugin may.
    ExtraImport,
    /// Its self-test traps.
    SelfTestTraps,
    /// It is written in place and the writer stops half way.
    HalfWritten,
}

impl Kind {
    /// All kinds.
    pub(crate) const ALL: [Self; 7] = [
        Self::Truncated,
        Self::Random,
        Self::CoreModule,
        Self::WrongWorld,
        Self::ExtraImport,
        Self::SelfTestTraps,
        Self::HalfWritten,
    ];

    /// In words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Random => "random bytes",
            Self::CoreModule => "core module",
            Self::WrongWorld => "wrong world",
            Self::ExtraImport => "extra import",
            Self::SelfTestTraps => "self-test traps",
            Self::HalfWritten => "half-written copy",
        }
    }

    /// What the host's sentence holds.
    pub(crate) fn words(self) -> &'static [&'static str] {
        match self {
            Self::Truncated | Self::HalfWritten => &["the component is not valid"],
            Self::Random => &["this is not WebAssembly"],
            Self::CoreModule => &["this is a core WebAssembly module"],
            Self::WrongWorld => &["does not export", "lockgate:plugin/handler@0.1.0"],
            Self::ExtraImport => &["imports `wasi:sockets/tcp@0.2.0`"],
            Self::SelfTestTraps => &["failed before it could serve", "self-test", "trap"],
        }
    }

    /// Where such a file is dropped: on each service in turn, if it fits any.
    pub(crate) fn service(self, number: usize) -> Service {
        match self {
            Self::SelfTestTraps => PROBED,
            _ => Service::ALL[number % Service::ALL.len()],
        }
    }

    /// The file, another one for each note.
    pub(crate) fn file(self, service: Service, note: &str) -> Vec<u8> {
        let whole = with_note(&built(service), note);
        match self {
            Self::Truncated | Self::HalfWritten => whole[..whole.len() / 2].to_vec(),
            Self::Random => noise(note),
            Self::CoreModule => text(&format!("(module (func (export \"{note}\")))")),
            Self::WrongWorld => patched(&whole, "handler@0.1.0", "handler@9.1.0"),
            Self::ExtraImport => with_import(&whole, "wasi:sockets/tcp@0.2.0"),
            Self::SelfTestTraps => {
                let probe = Probe::version(666).self_test("traps___").bytes();
                with_note(&probe, note)
            }
        }
    }
}

/// Bytes without any form, the same for the same note.
fn noise(note: &str) -> Vec<u8> {
    let seed = digest(note.as_bytes());
    let mut state = u64::from_str_radix(&seed[..15], 16).expect("hex") | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..100_000).map(step).collect()
}
