//! The Rust side of `wit/`, generated. It owns nothing and decides nothing.

#![allow(missing_docs, reason = "generated from wit/, which is documented")]
#![allow(clippy::all, unreachable_pub, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "plugin",
    // What waits for nothing is called without a future.
    imports: {
        "lockgate:plugin/breakers": trappable,
        "lockgate:plugin/counters": trappable,
        "lockgate:plugin/csrf": trappable,
        "lockgate:plugin/fallback.copy": trappable,
        "lockgate:plugin/fallback.find-by-token": trappable,
        "lockgate:plugin/fallback.report": trappable,
        "lockgate:plugin/jwt.ready": trappable,
        "lockgate:plugin/jwt.verify": trappable,
        "lockgate:plugin/limiter": trappable,
        "lockgate:plugin/peers": trappable,
        "lockgate:plugin/sockets": trappable,
        default: async | trappable,
    },
    exports: { default: async },
    additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
});

/// What only plugins that serve sockets export.
pub mod socket_events {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "socket-events",
        imports: { default: async | trappable },
        exports: { default: async },
        additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
        with: {
            "lockgate:plugin/types": crate::bindings::lockgate::plugin::types,
        },
    });

    pub use exports::lockgate::plugin::websocket::{
        Action, Admission, Connection, Credential, Ending, Event, Failure, Link,
    };
}
