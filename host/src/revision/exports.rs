//! What a component exports: of which contract it is, and whether what the host calls is
//! there with the right type.

use wasmparser::{Encoding, Parser, Payload};
use wasmtime::component::types::{Component as ComponentType, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Resource};
use wasmtime_wasi_http::p2::bindings::ProxyIndices;
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};

use super::{LoadError, words};
use crate::bindings::PluginIndices;
use crate::bindings::lockgate::plugin::types::{Request, Response};
use crate::bindings::socket_events::SocketEventsIndices;
use crate::config::{Contract, ServiceConfig};
use crate::sandbox::HostData;

const HANDLER: &str = "lockgate:plugin/handler@0.1.0";
const SELF_TEST: &str = "lockgate:plugin/self-test@0.1.0";
const WEBSOCKET: &str = "lockgate:plugin/websocket@0.1.0";
/// Its name begins so whatever its version is.
const PLUGIN: &str = "lockgate:plugin/handler";
/// As [`PLUGIN`], of the versions that are served.
const WASI_HTTP: &str = "wasi:http/incoming-handler@0.2.";
/// What the host looks for.
const INCOMING: &str = "wasi:http/incoming-handler@0.2";

/// Where the function is that answers a request.
pub enum Handler {
    /// `handler.handle` of `wit/`.
    Plugin(PluginIndices),
    /// `incoming-handler.handle` of WASI.
    WasiHttp(ProxyIndices),
}

impl Handler {
    /// `linked` are the component's types with the host's in the place of its imports.
    pub(super) fn find(
        contract: Contract,
        engine: &wasmtime::Engine,
        linked: &ComponentType,
        pre: &InstancePre<HostData>,
    ) -> Result<Handler, LoadError> {
        match contract {
            Contract::Plugin => PluginIndices::new(pre)
                .map(Handler::Plugin)
                .map_err(|error| wrong_type(HANDLER, &error)),
            Contract::WasiHttp => {
                check_incoming(engine, linked)?;
                ProxyIndices::new(pre)
                    .map(Handler::WasiHttp)
                    .map_err(|error| wrong_type(INCOMING, &error))
            }
        }
    }
}

/// The contract that a component is of by what it exports; none: it is of neither, or no
/// component.
pub fn contract(bytes: &[u8]) -> Option<Contract> {
    names(bytes).iter().find_map(|name| contract_of(name))
}

fn contract_of(export: &str) -> Option<Contract> {
    match export {
        _ if export.starts_with(PLUGIN) => Some(Contract::Plugin),
        _ if export.starts_with(WASI_HTTP) => Some(Contract::WasiHttp),
        _ => None,
    }
}

/// Refuses a component of another contract than the service's before it is compiled.
pub(super) fn check_contract(bytes: &[u8], service: &ServiceConfig) -> Result<(), LoadError> {
    let names = names(bytes);
    let found = |contract| {
        names
            .iter()
            .find(|name| contract_of(name) == Some(contract))
    };
    let (accepted, other) = match service.contract {
        Contract::Plugin => (Contract::Plugin, Contract::WasiHttp),
        Contract::WasiHttp => (Contract::WasiHttp, Contract::Plugin),
    };
    match (found(accepted), found(other)) {
        (None, Some(export)) => Err(LoadError::WrongContract {
            export: export.clone(),
            of: other.name(),
            service: service.name.clone(),
            accepted: accepted.name(),
        }),
        _ => Ok(()),
    }
}

/// What the component itself exports, without those that it is made of. A file that is
/// broken has no more names from there on.
fn names(bytes: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(Payload::Version { encoding, .. }) => {
                depth += 1;
                if depth == 1 && encoding != Encoding::Component {
                    break;
                }
            }
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(Payload::ComponentExportSection(exports)) if depth == 1 => {
                let exports = exports.into_iter().map_while(Result::ok);
                names.extend(exports.map(|export| export.name.name.to_owned()));
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    names
}

/// Refuses a component without the handler of its contract.
pub(super) fn check(
    engine: &wasmtime::Engine,
    types: &ComponentType,
    contract: Contract,
) -> Result<(), LoadError> {
    match contract {
        Contract::Plugin => check_plugin(engine, types),
        Contract::WasiHttp => {
            let mut names = types.exports(engine).map(|(name, _)| name);
            if names.any(|name| name.starts_with(WASI_HTTP)) {
                return Ok(());
            }
            let names = types.exports(engine).map(|(name, _)| name);
            Err(LoadError::MissingExport {
                export: INCOMING.to_owned(),
                hint: hint(names, "wasi:http/"),
            })
        }
    }
}

fn check_plugin(engine: &wasmtime::Engine, types: &ComponentType) -> Result<(), LoadError> {
    let missing = |hint: String| LoadError::MissingExport {
        export: HANDLER.to_owned(),
        hint,
    };
    let Some(found) = types.get_export(engine, HANDLER) else {
        return Err(missing(hint(
            types.exports(engine).map(|(name, _)| name),
            PLUGIN,
        )));
    };
    let ComponentItem::ComponentInstance(handler) = found.ty else {
        return Err(missing(
            ": it exports the name as something else".to_owned(),
        ));
    };
    match handler.get_export(engine, "handle").map(|item| item.ty) {
        Some(ComponentItem::ComponentFunc(handle)) => handle
            .typecheck::<(&Request,), (Response,)>(&types.instance_type())
            .map_err(|error| wrong_type(&format!("{HANDLER}#handle"), &error))?,
        _ => return Err(missing(" with a function `handle`".to_owned())),
    }
    if let Some(ComponentItem::ComponentInstance(test)) =
        types.get_export(engine, SELF_TEST).map(|item| item.ty)
        && let Some(ComponentItem::ComponentFunc(run)) =
            test.get_export(engine, "run").map(|item| item.ty)
    {
        run.typecheck::<(), (Vec<String>,)>(&types.instance_type())
            .map_err(|error| wrong_type(&format!("{SELF_TEST}#run"), &error))?;
    }
    Ok(())
}

/// The type of `incoming-handler.handle`.
fn check_incoming(engine: &wasmtime::Engine, linked: &ComponentType) -> Result<(), LoadError> {
    let handlers = linked
        .exports(engine)
        .filter(|(name, _)| name.starts_with(WASI_HTTP));
    for (name, found) in handlers {
        let handle = match found.ty {
            ComponentItem::ComponentInstance(handler) => {
                handler.get_export(engine, "handle").map(|item| item.ty)
            }
            _ => None,
        };
        let Some(ComponentItem::ComponentFunc(handle)) = handle else {
            return Err(LoadError::MissingExport {
                export: name.to_owned(),
                hint: " with a function `handle`".to_owned(),
            });
        };
        type Given = (
            Resource<HostIncomingRequest>,
            Resource<HostResponseOutparam>,
        );
        handle
            .typecheck::<Given, ()>(&linked.instance_type())
            .map_err(|error| wrong_type(&format!("{name}#handle"), &error))?;
    }
    Ok(())
}

/// Where its socket events are, if it serves sockets.
pub(super) fn sockets(
    engine: &wasmtime::Engine,
    types: &ComponentType,
    pre: &InstancePre<HostData>,
) -> Result<Option<SocketEventsIndices>, LoadError> {
    let sockets = types
        .get_export(engine, WEBSOCKET)
        .map(|_| SocketEventsIndices::new(pre));
    sockets
        .transpose()
        .map_err(|error| wrong_type(WEBSOCKET, &error))
}

/// Its `self-test.run`, if it exports one.
pub(super) fn self_test(component: &Component) -> Option<ComponentExportIndex> {
    let instance = component.get_export_index(None, SELF_TEST)?;
    component.get_export_index(Some(&instance), "run")
}

fn wrong_type(export: &str, error: &wasmtime::Error) -> LoadError {
    LoadError::WrongExport {
        export: export.to_owned(),
        problem: words(error),
    }
}

/// What it exports instead, to spot a wrong version or a wrong world.
fn hint<'a>(exports: impl Iterator<Item = &'a str>, wanted: &str) -> String {
    let names: Vec<&str> = exports.take(5).collect();
    let plain = |name: &&&str| name.starts_with(wanted);
    match names.iter().find(plain) {
        Some(other) => format!(": it exports `{other}`, another version"),
        None if names.is_empty() => ": it exports nothing".to_owned(),
        None => format!(": it exports only `{}`", names.join("`, `")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_version_is_named() {
        assert_eq!(
            hint(["lockgate:plugin/handler@0.2.0"].into_iter(), PLUGIN),
            ": it exports `lockgate:plugin/handler@0.2.0`, another version"
        );
        assert_eq!(
            hint(["wasi:cli/run@0.2.6"].into_iter(), PLUGIN),
            ": it exports only `wasi:cli/run@0.2.6`"
        );
        assert_eq!(hint(std::iter::empty(), PLUGIN), ": it exports nothing");
    }

    #[test]
    fn a_contract_is_told_by_what_is_exported_outside() {
        let component = |inner: &str| wat::parse_str(format!("(component {inner})")).unwrap();
        let export =
            |name: &str| component(&format!(r#"(instance $i) (export "{name}" (instance $i))"#));
        for (name, of) in [
            ("wasi:http/incoming-handler@0.2.0", Some(Contract::WasiHttp)),
            (
                "wasi:http/incoming-handler@0.2.12",
                Some(Contract::WasiHttp),
            ),
            ("lockgate:plugin/handler@0.1.0", Some(Contract::Plugin)),
            ("lockgate:plugin/handler@0.2.0", Some(Contract::Plugin)),
            ("wasi:http/handler@0.3.0", None),
            ("wasi:cli/run@0.2.6", None),
        ] {
            assert_eq!(contract(&export(name)), of, "{name}");
        }
        let inside = r#"(component $c (instance $i)
            (export "wasi:http/incoming-handler@0.2.0" (instance $i)))"#;
        assert_eq!(contract(&component(inside)), None);
        let mut cut = export("wasi:http/incoming-handler@0.2.0");
        cut.truncate(20);
        for bytes in [&b""[..], b"junk", b"\0asm\x01\0\0\0", &cut] {
            assert_eq!(contract(bytes), None);
        }
    }
}
