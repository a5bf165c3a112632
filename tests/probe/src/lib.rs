//! A hostile guest. It owns every way in which a plugin may misbehave, chosen by
//! the path of the request and by a mark in its data that tests overwrite. It is
//! written against the bindings alone, so that no kindness of the SDK hides a
//! fault of the host, and it must not be used for anything but tests.

mod account;
mod bindings;
mod echo;
mod lanes;
mod mark;
mod misbehave;
mod remains;
mod values;

use bindings::exports::lockgate::plugin::handler::{Guest as Handler, Request, Response};
use bindings::exports::lockgate::plugin::self_test::Guest as SelfTest;

/// The component.
struct Probe;

impl Handler for Probe {
    fn handle(request: Request) -> Response {
        match mark::field("handle=").as_str() {
            "traps___" => misbehave::trap(),
            "loops___" => misbehave::spin(),
            "writes__" => {
                misbehave::write(&request);
                misbehave::trap()
            }
            "reads___" => {
                misbehave::read(&request);
                misbehave::trap()
            }
            "invalid_" => misbehave::text(999, "no such status"),
            "errors__" => misbehave::text(500, "the mark says so"),
            _ => misbehave::answer(&request),
        }
    }
}

impl SelfTest for Probe {
    fn run() -> Vec<String> {
        match mark::field("self-test=").as_str() {
            "reports_" => vec!["the probe was told to report this".to_owned()],
            "traps___" => misbehave::trap(),
            "loops___" => misbehave::spin(),
            _ => Vec::new(),
        }
    }
}

#[cfg(target_arch = "wasm32")]
bindings::export!(Probe with_types_in bindings);
#[cfg(target_arch = "wasm32")]
bindings::socket_events::export_socket_events!(Probe with_types_in bindings::socket_events);
