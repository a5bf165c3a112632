//! The guest side of `wit/`, generated. It owns nothing and decides nothing.

#![allow(missing_docs, reason = "generated from wit/, which is documented")]
#![allow(clippy::all, unreachable_pub, dead_code, reason = "generated")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "generated"
)]

wit_bindgen::generate!({
    path: "../../wit",
    world: "service",
});

/// What a plugin that serves sockets exports besides.
pub(crate) mod socket_events {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "socket-events",
        export_macro_name: "export_socket_events",
        with: {
            "lockgate:plugin/types@0.1.0": crate::bindings::lockgate::plugin::types,
        },
    });
}
