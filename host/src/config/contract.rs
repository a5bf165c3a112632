//! The contracts between the host and a component. Each service takes components of one.

/// What a component exports to be asked, and what it may import.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    schemars::JsonSchema,
    serde::Deserialize,
    serde::Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Contract {
    /// `lockgate:plugin`, as in `wit/`.
    #[default]
    Plugin,
    /// `wasi:http/incoming-handler` of WASI 0.2, as other hosts serve it.
    WasiHttp,
}

impl Contract {
    /// As the configuration spells it.
    pub fn name(self) -> &'static str {
        match self {
            Contract::Plugin => "plugin",
            Contract::WasiHttp => "wasi-http",
        }
    }
}
