//! What a component may import: the interfaces that its service was granted and a
//! part of WASI. A refusal says what the running revision does otherwise.

use std::collections::BTreeSet;
use std::fmt;

use wasmtime::component::types::Component as ComponentType;

use super::{LoadError, Revision, one_line};
use crate::config::{Contract, Grants, ServiceConfig};

/// How a version begins that fits wit/: before 1.0 the second number tells.
const VERSION: &str = "0.1.";
/// How an import of wit/ begins.
const PACKAGE: &str = "lockgate:plugin/";
const WASI: [&str; 5] = ["cli", "clocks", "filesystem", "io", "random"];

/// Most names of each kind that a difference shows.
const SHOWN: usize = 8;

/// How a refused component's imports differ from those of the revision that serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportChange {
    /// Short digest of the revision that serves; none: there is none.
    pub running: Option<String>,
    /// Imports that only the refused component has.
    pub added: Vec<String>,
    /// Imports that only the running one has.
    pub removed: Vec<String>,
}

impl ImportChange {
    fn new(names: &BTreeSet<String>, running: Option<&Revision>) -> ImportChange {
        let Some(running) = running else {
            return ImportChange::default();
        };
        let only = |these: &BTreeSet<String>, others| these.difference(others).cloned().collect();
        ImportChange {
            running: Some(running.short_digest().to_owned()),
            added: only(names, running.imports()),
            removed: only(running.imports(), names),
        }
    }
}

impl fmt::Display for ImportChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(running) = &self.running else {
            return Ok(());
        };
        write!(f, " (against the running revision {running}: ")?;
        if self.added.is_empty() && self.removed.is_empty() {
            f.write_str("the same imports")?;
        }
        for (names, sign) in [(&self.added, '+'), (&self.removed, '-')] {
            for (index, name) in names.iter().take(SHOWN).enumerate() {
                let gap = if index == 0 && sign == '+' { "" } else { " " };
                write!(f, "{gap}{sign}{name}")?;
            }
            match names.len().saturating_sub(SHOWN) {
                0 => {}
                more => write!(f, " and {more} more")?,
            }
        }
        f.write_str(")")
    }
}

/// All that the component imports, by name.
pub(super) fn names(engine: &wasmtime::Engine, types: &ComponentType) -> BTreeSet<String> {
    let imports = types.imports(engine);
    imports.map(|(name, _)| name.to_owned()).collect()
}

/// Refuses every import that the linker would not offer, with the reason.
pub(super) fn check(
    names: &BTreeSet<String>,
    service: &ServiceConfig,
    running: Option<&Revision>,
) -> Result<(), LoadError> {
    let change = || ImportChange::new(names, running);
    let mut names = names.iter();
    names.try_for_each(|name| match service.contract {
        Contract::Plugin => check_one(name, &service.name, &service.grants, change),
        Contract::WasiHttp => check_wasi(name, change),
    })
}

/// The same for one import, with nothing to compare it with.
pub(super) fn judge(
    name: &str,
    service: &str,
    contract: Contract,
    grants: &Grants,
) -> Result<(), LoadError> {
    match contract {
        Contract::Plugin => check_one(name, service, grants, ImportChange::default),
        Contract::WasiHttp => check_wasi(name, ImportChange::default),
    }
}

/// The interface of wit/ that an import names, of whatever version.
pub(super) fn interface(name: &str) -> Option<&str> {
    let rest = name.strip_prefix(PACKAGE)?;
    Some(
        rest.split_once('@')
            .map_or(rest, |(interface, _)| interface),
    )
}

/// What is to be known of imports that were made from another wit/ of the version that this
/// host offers, `offered`; nothing if there are none.
pub fn about_contract(names: &BTreeSet<String>, offered: &str) -> Option<String> {
    let ours = names.iter().filter(|name| name.starts_with(PACKAGE));
    let versions = ours.filter_map(|name| Some(name.split_once('@')?.1));
    let other = versions
        .filter(|version| *version != offered)
        .max_by_key(|v| numbers(v))?;
    Some(if numbers(other) > numbers(offered) {
        format!(
            "Note: it was built against wit/ {other}, newer than this host's {offered}, and uses \
             nothing that this host lacks."
        )
    } else {
        format!("Note: it was built against wit/ {other} and uses nothing of what {offered} adds.")
    })
}

/// A version's numbers; what is no number counts as 0.
fn numbers(version: &str) -> Vec<u64> {
    let parts = version.split('.');
    parts.map(|part| part.parse().unwrap_or_default()).collect()
}

/// Why the linker finds no match, in words: which function of which import.
pub(super) fn misfit(error: &wasmtime::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    // Wasmtime names the import in its first words, its export in the next, then the reason.
    let quoted = |at: usize| causes.get(at)?.split('`').nth(1);
    let whole = causes.join(": ");
    let (Some(import), Some(function), Some(reason)) = (quoted(0), quoted(1), causes.get(2..))
    else {
        return one_line(&whole);
    };
    let ours = import.starts_with(PACKAGE);
    one_line(&match reason {
        [missing] if missing.ends_with("is missing") && ours => format!(
            "`{import}` has no `{function}` here, so the plugin was built against a newer wit/ \
             than this host's"
        ),
        [_, ..] if ours => format!(
            "`{function}` of `{import}` has another type here, so the plugin was built against \
             another wit/ than this host's: {}",
            reason.join(": ")
        ),
        _ => whole,
    })
}

fn check_one(
    name: &str,
    service: &str,
    grants: &Grants,
    change: impl Fn() -> ImportChange,
) -> Result<(), LoadError> {
    let forbidden = |why| {
        Err(LoadError::Forbidden {
            import: name.to_owned(),
            why,
            change: Box::new(change()),
        })
    };
    let Some((package, rest)) = name.split_once('/') else {
        return forbidden("which is not an interface of wit/ or of WASI");
    };
    let (interface, version) = rest.split_once('@').unwrap_or((rest, ""));
    match package.split_once(':') {
        // The linker looks at versions of functions only.
        Some(("lockgate", "plugin")) if !version.starts_with(VERSION) => {
            forbidden(if numbers(version) > numbers(VERSION) {
                "but this host offers version 0.1 of the package: the plugin was built against a newer wit/"
            } else {
                "but this host offers version 0.1 of the package: the plugin was built against an older wit/, or against none"
            })
        }
        // Types only: nothing to call.
        Some(("lockgate", "plugin")) if interface == "types" => Ok(()),
        Some(("lockgate", "plugin")) if matches!(interface, "handler" | "self-test") => {
            forbidden("which a plugin exports and the host calls")
        }
        Some(("lockgate", "plugin")) if grants.interfaces.contains(interface) => Ok(()),
        Some(("lockgate", "plugin")) => Err(LoadError::NotGranted {
            import: name.to_owned(),
            interface: interface.to_owned(),
            service: service.to_owned(),
            change: Box::new(change()),
        }),
        Some(("wasi", package)) if WASI.contains(&package) => Ok(()),
        Some(("wasi", "sockets")) => {
            forbidden("but a plugin gets no sockets: the host makes connections")
        }
        Some(("wasi", "http")) => {
            forbidden("but a plugin makes no HTTP requests: the host hands them in")
        }
        Some(("wasi", _)) => forbidden(
            "which is not among the parts of WASI that plugins get: cli, clocks, filesystem, io, random",
        ),
        _ => forbidden("which is not an interface of wit/ or of WASI"),
    }
}

/// Of the contract `wasi-http`: the same part of WASI, and its HTTP.
fn check_wasi(name: &str, change: impl Fn() -> ImportChange) -> Result<(), LoadError> {
    let (package, rest) = name.split_once('/').unwrap_or((name, ""));
    let (interface, version) = rest.split_once('@').unwrap_or((rest, ""));
    let why = match package.split_once(':') {
        Some(("wasi", "http")) if !version.starts_with("0.2.") => {
            "but this host offers version 0.2 of the package"
        }
        Some(("wasi", "http")) if matches!(interface, "types" | "outgoing-handler") => {
            return Ok(());
        }
        Some(("wasi", package)) if WASI.contains(&package) => return Ok(()),
        Some(("wasi", "sockets")) => "but a component of wasi:http gets no sockets",
        Some(("lockgate", "plugin")) => {
            "which is for components of the contract \"plugin\": one of wasi:http gets no functions of this host"
        }
        _ => {
            "which is not among the parts of WASI that a component of wasi:http gets: cli, clocks, filesystem, http, io, random"
        }
    };
    Err(LoadError::Forbidden {
        import: name.to_owned(),
        why,
        change: Box::new(change()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_refused_with_the_reason() {
        let grants = Grants {
            interfaces: ["redis".to_owned()].into(),
            ..Grants::default()
        };
        let said = |name| {
            check_one(name, "probe", &grants, ImportChange::default)
                .err()
                .map(|e| e.to_string())
        };
        for fine in [
            "lockgate:plugin/redis@0.1.0",
            "lockgate:plugin/types@0.1.0",
            "lockgate:plugin/types@0.1.1",
            "wasi:io/poll@0.2.6",
        ] {
            assert_eq!(said(fine), None, "{fine}");
        }
        assert_eq!(
            said("lockgate:plugin/jwt@0.1.0").unwrap(),
            "the component imports `lockgate:plugin/jwt@0.1.0`, which service probe is not granted: \
             add \"jwt\" to services.probe.grants.interfaces or remove the import"
        );
        for (name, expected) in [
            ("wasi:sockets/tcp@0.2.6", "no sockets"),
            ("wasi:http/outgoing-handler@0.2.6", "no HTTP requests"),
            ("wasi:keyvalue/store@0.2.0", "not among the parts"),
            ("acme:thing/x@1.0.0", "not an interface of wit/"),
            ("env", "not an interface of wit/"),
            ("lockgate:plugin/redis@0.2.0", "offers version 0.1"),
            ("lockgate:plugin/redis@0.2.0", "against a newer wit/"),
            ("lockgate:plugin/redis@0.0.9", "against an older wit/"),
            ("lockgate:plugin/types@1.1.0", "offers version 0.1"),
            ("lockgate:plugin/types", "offers version 0.1"),
        ] {
            assert!(said(name).unwrap().contains(expected), "{name}");
        }
    }

    #[test]
    fn a_component_of_wasi_http_gets_a_part_of_wasi() {
        let said = |name| {
            let refused = check_wasi(name, ImportChange::default);
            refused.err().map(|error| error.to_string())
        };
        for fine in [
            "wasi:http/types@0.2.0",
            "wasi:http/outgoing-handler@0.2.12",
            "wasi:io/streams@0.2.6",
            "wasi:clocks/wall-clock@0.2.6",
        ] {
            assert_eq!(said(fine), None, "{fine}");
        }
        for (name, expected) in [
            ("wasi:http/types@0.3.0", "offers version 0.2"),
            ("wasi:http/types", "offers version 0.2"),
            ("wasi:http/proxy@0.2.0", "not among the parts"),
            ("wasi:sockets/tcp@0.2.6", "no sockets"),
            ("wasi:keyvalue/store@0.2.0", "not among the parts"),
            ("lockgate:plugin/redis@0.1.0", "no functions of this host"),
            ("fermyon:spin/sqlite@2.0.0", "not among the parts"),
            ("env", "not among the parts"),
        ] {
            assert!(said(name).unwrap().contains(expected), "{name}");
        }
    }

    #[test]
    fn another_version_of_the_contract_is_a_note() {
        let said = |version: &str| {
            let names = [
                "wasi:io/poll@0.2.6".to_owned(),
                format!("lockgate:plugin/jwt@{version}"),
            ];
            about_contract(&names.into(), "0.1.2").unwrap_or_default()
        };
        assert_eq!(said("0.1.2"), "");
        let older = said("0.1.0");
        assert!(older.contains("nothing of what 0.1.2 adds"), "{older}");
        let newer = said("0.1.10");
        assert!(newer.contains("newer than this host's 0.1.2"), "{newer}");
    }

    /// Links a component with these exports of an import.
    fn linked(import: &str, exports: &str) -> String {
        let limits = crate::config::Config::from_parts(None, |_| None).unwrap();
        let limits = &limits.services[0].limits;
        let engine = crate::engine::Engine::new(std::iter::once(limits), 512 << 10).unwrap();
        let linker = engine.linker(&Grants::of_a_replay()).unwrap();
        let text = format!("(component (import \"{import}\" (instance {exports})))");
        let binary = wat::parse_str(text).unwrap();
        let component = wasmtime::component::Component::new(engine.wasmtime(), binary).unwrap();
        let linked = linker.instantiate_pre(&component).map(|_| ());
        linked
            .err()
            .map_or_else(String::new, |error| misfit(&error))
    }

    #[tokio::test]
    async fn a_function_that_is_missing_or_of_another_type_is_named() {
        let jwt = "lockgate:plugin/jwt@0.1.0";
        assert_eq!(
            linked(jwt, "(export \"ready\" (func (result bool)))"),
            "",
            "it fits"
        );
        let said = linked(jwt, "(export \"sign\" (func (result bool)))");
        assert_eq!(
            said,
            "`lockgate:plugin/jwt@0.1.0` has no `sign` here, so the plugin was built against a \
             newer wit/ than this host's"
        );
        let said = linked(jwt, "(export \"ready\" (func (result string)))");
        assert!(
            said.starts_with("`ready` of `lockgate:plugin/jwt@0.1.0` has another type here"),
            "{said}"
        );
        assert!(said.contains("expected `bool` found `string`"), "{said}");
        let said = linked("wasi:io/poll@0.2.0", "(export \"x\" (func))");
        assert!(said.contains("wasi:io/poll@0.2.0"), "{said}");
    }

    #[test]
    fn a_difference_names_what_came_and_what_went() {
        let change = |added: &[&str], removed: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let change = ImportChange {
                running: Some("3f9a".to_owned()),
                added: owned(added),
                removed: owned(removed),
            };
            change.to_string()
        };
        let against = " (against the running revision 3f9a: ";
        assert_eq!(ImportChange::default().to_string(), "");
        assert_eq!(change(&[], &[]), format!("{against}the same imports)"));
        assert_eq!(change(&["a", "b"], &["c"]), format!("{against}+a +b -c)"));
        let many: Vec<String> = (0..10).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let shown = change(&many, &[]);
        assert!(shown.ends_with("+6 +7 and 2 more)"), "{shown}");
    }
}
