//! The Rust side of `wit/`, generated. It owns nothing and decides nothing.

#![allow(missing_docs, reason = "generated from wit/, which is documented")]
#![allow(clippy::all, unreachable_pub, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "plugin",
    imports: { default: async | trappable },
    exports: { default: async },
    additional_derives: [PartialEq],
});
