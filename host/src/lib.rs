//! Lockgate hosts WebAssembly components as HTTP services and swaps them while
//! they serve.
//!
//! The modules stand in the order of the data flow: a module may name only
//! modules that stand below it. A test holds them to it.

pub mod cli;
pub mod app;
pub mod watch;
pub mod admin;
pub mod http;
pub mod websocket;
pub mod server;
pub mod caller;
pub mod respond;
pub mod slot;
pub mod recorder;
pub mod pool;
pub mod instance;
pub mod wasi_http;
pub mod response;
pub mod trace;
pub mod revision;
pub mod signature;
pub mod engine;
pub mod lane;
pub mod sandbox;
pub mod imports;
pub mod state;
pub mod replicas;
pub mod peers;
pub mod chat;
pub mod reissue;
pub mod emergency;
pub mod revocation;
pub mod deferred;
pub mod directory;
pub mod inquiry;
pub mod table;
pub mod csrf;
pub mod limiter;
pub mod counters;
pub mod sockets;
pub mod keys;
pub mod journal;
pub mod shared;
pub mod events;
pub mod backlog;
pub mod tape;
pub mod store;
pub mod dependency;
pub mod breaker;
pub mod password;
pub mod tls;
pub mod bindings;
pub mod clock;
pub mod logging;
pub mod config;
