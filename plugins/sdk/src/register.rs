//! Turns a table of routes into a component: the exports, and the self-test that runs
//! before a swap.

use crate::host::Host;
use crate::http::{Origin, Request};
use crate::router::{Route, serve};
use crate::wit::types;

/// Exports a plugin: `register!(routes)`, where `routes` is a function
/// `fn routes<H: Host>() -> Vec<Route<H>>` in scope. It does nothing in native builds,
/// so that unit tests link.
#[macro_export]
macro_rules! register {
    ($routes:ident) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::exports::lockgate::plugin::{handler, self_test};
            use $crate::wit::types;

            struct Plugin;

            impl handler::Guest for Plugin {
                fn handle(request: types::Request) -> types::Response {
                    let routes = $routes::<$crate::host::Wasm>();
                    $crate::serve(&$crate::host::Wasm, &routes, &request.into()).into()
                }
            }

            impl self_test::Guest for Plugin {
                fn run() -> Vec<String> {
                    let routes = $routes::<$crate::host::Wasm>();
                    $crate::self_test(&$crate::host::Wasm, &routes)
                }
            }

    $crate::bindings::export_service!(Plugin with_types_in $crate::bindings);
        };
        // A use of the table, so that native builds check it too.
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            fn _checked<H: $crate::Host>() -> Vec<$crate::Route<H>> {
                $routes::<H>()
            }
        };
    };
}

/// Exports the events of sockets: `register_sockets!(open, message, closed)`, three
/// functions in scope that are generic over [`Host`](crate::Host) and take what
/// `wit/websocket.wit` says, the request as [`Request`](crate::Request).
#[macro_export]
macro_rules! register_sockets {
    ($open:path, $message:path, $closed:path) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::socket::{Action, Connection, Ending, Event, Guest};

            struct Sockets;

            impl Guest for Sockets {
                fn open(
                    connection: Connection,
                    request: $crate::wit::types::Request,
                ) -> Vec<Action> {
                    $open(&$crate::host::Wasm, &connection, &request.into())
                }

                fn message(connection: Connection, event: Event) -> Vec<Action> {
                    $message(&$crate::host::Wasm, &connection, event)
                }

                fn closed(connection: Connection, ending: Ending) {
                    $closed(&$crate::host::Wasm, &connection, &ending)
                }
            }

            $crate::socket_bindings::export_socket_events!(Sockets with_types_in $crate::socket_bindings);
        };
        // A use of the functions, so that native builds check them too.
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            use $crate::socket::{Action, Connection, Ending, Event};

            fn _checked<H: $crate::Host>(
                host: &H,
                connection: &Connection,
                request: &$crate::Request,
                event: Event,
                ending: &Ending,
            ) -> Vec<Action> {
                let opened = $open(host, connection, request);
                let happened = $message(host, connection, event);
                $closed(host, connection, ending);
                opened.into_iter().chain(happened).collect()
            }
        };
    };
}

/// What is wrong with a plugin, in words; nothing if it is ready. It writes nothing.
pub fn self_test<H: Host>(host: &H, routes: &[Route<H>]) -> Vec<String> {
    let mut findings = Vec::new();
    if host
        .setting("SERVICE_NAME")
        .is_none_or(|name| name.is_empty())
    {
        findings.push("the setting SERVICE_NAME is missing".to_owned());
    }
    let mut names: Vec<String> = routes.iter().map(Route::name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    if names.len() < count {
        findings.push("two routes have the same method and path".to_owned());
    }
    let health = serve(host, routes, &probe("GET", "/health"));
    if !matches!(health.status(), 200 | 503) {
        findings.push(format!("GET /health answers {}", health.status()));
    } else if serde_json::from_slice::<serde::de::IgnoredAny>(health.body()).is_err() {
        findings.push("GET /health does not answer JSON".to_owned());
    }
    let wrong_verb = serve(host, routes, &probe("DELETE", "/health")).status();
    if wrong_verb != 405 {
        findings.push(format!("DELETE /health answers {wrong_verb}"));
    }
    findings
}

fn probe(method: &str, path: &str) -> Request {
    let caller = types::Caller {
        address: "self-test".into(),
        origin: Origin::Absent,
        service: false,
    };
    Request::from(types::Request {
        method: method.into(),
        path: path.into(),
        query: None,
        headers: Vec::new(),
        body: Vec::new(),
        caller,
        extensions: Vec::new(),
    })
}
