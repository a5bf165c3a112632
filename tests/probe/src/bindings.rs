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
