//! The harness of the end-to-end tests: it starts the real binary and a real
//! `redis-server`, mints tokens and speaks HTTP to the listeners.
//!
//! It must not name anything of the host's or the plugins' code: the tests know
//! the contract only. A missing binary, plugin, `redis-server` or browser fails a
//! test; nothing is ever skipped.

pub mod browser;
pub mod component;
pub mod host;
pub mod http;
pub mod memory;
pub mod metrics;
pub mod place;
pub mod ports;
pub mod raw;
pub mod redis;
pub mod shape;
pub mod stress;
pub mod tokens;
pub mod wait;

pub use self::host::{Host, HostBuilder, Service};
pub use self::http::{Answer, Call};
pub use self::redis::RedisServer;
pub use self::tokens::{Tokens, User, now};
