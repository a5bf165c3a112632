//! What a Lockgate plugin is written with.
//!
//! It owns what all services share: the bindings to the host, routing, the form of
//! answers and errors, where tokens come from, who is logged in. It must not know
//! what any one service does.
//!
//! A plugin is a table of routes and one line that registers it:
//!
//! ```
//! use lockgate_sdk::{Answer, Host, Request, Route, health};
//!
//! fn hello<H: Host>(_host: &H, request: &Request) -> Answer {
//!     let name = request.query().unwrap_or("world");
//!     Answer::json(200, &serde_json::json!({ "hello": name }))
//! }
//!
//! fn basic_health<H: Host>(host: &H, _request: &Request) -> Answer {
//!     health::answer(&health::head(host, &["redis"]))
//! }
//!
//! fn routes<H: Host>() -> Vec<Route<H>> {
//!     vec![Route::get("/hello", hello), Route::get("/health", basic_health)]
//! }
//!
//! lockgate_sdk::register!(routes);
//! ```
//!
//! Handlers are generic over [`Host`], never `dyn Host`: then a component imports
//! only the host functions that its code can reach, as its grants demand. Unit
//! tests run natively against [`double::Double`] (feature `double`, as a
//! dev-dependency), with [`serve`] as the way in.
//!
//! | module | what |
//! |---|---|
//! | [`http`] | [`Request`]: headers, cookies, JSON bodies |
//! | [`answer`] | [`Answer`] and [`Fault`]: every status, header and error object |
//! | [`router`] | [`Route`], [`serve`]: 404, 405 with `Allow`, HEAD |
//! | [`token`] | where tokens come from, in order |
//! | [`authenticate`] | [`authenticate()`]: whose token it is, revoked or not, user active or not |
//! | [`session`] | the bodies of valid and invalid sessions |
//! | [`health`] | the head of every health answer |
//! | [`guard`] | Origin and CSRF checks |
//! | [`cookie`] | `Set-Cookie` values |
//! | [`clock`] | RFC 3339 times |
//! | [`socket`] | the events and actions of sockets; [`register_sockets!`] exports them |
//! | [`host`] | [`Host`], and [`host::Wasm`] in a component |

pub mod answer;
pub mod authenticate;
pub mod clock;
pub mod cookie;
#[cfg(feature = "double")]
pub mod double;
pub mod guard;
pub mod health;
pub mod host;
pub mod http;
mod register;
pub mod router;
pub mod session;
pub mod token;

/// The Rust side of `wit/`, generated. Records and errors of the host functions are
/// at `wit::jwt`, `wit::redis` and so on.
#[allow(
    missing_docs,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "generated from wit/, which is documented"
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "service",
        pub_export_macro: true,
        export_macro_name: "export_service",
        default_bindings_module: "lockgate_sdk::bindings",
        additional_derives: [PartialEq],
    });
}

/// As [`bindings`], for what only plugins that serve sockets export.
#[allow(
    missing_docs,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "generated from wit/, which is documented"
)]
pub mod socket_bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "socket-events",
        pub_export_macro: true,
        export_macro_name: "export_socket_events",
        default_bindings_module: "lockgate_sdk::socket_bindings",
        additional_derives: [PartialEq],
        with: {
            "lockgate:plugin/types@0.1.0": crate::bindings::lockgate::plugin::types,
        },
    });
}

pub use answer::{Answer, Fault};
pub use authenticate::{Login, Refusal, authenticate};
pub use bindings::lockgate::plugin as wit;
pub use host::Host;
pub use http::Request;
pub use lockgate_identity as identity;
pub use register::self_test;
pub use router::{Route, serve};
pub use socket_bindings::exports::lockgate::plugin::websocket as socket;
