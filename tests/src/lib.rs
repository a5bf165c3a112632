//! The harness of the end-to-end tests: it starts the real binary, a real `redis-server`,
//! Postgres and PgBouncer, mints tokens and speaks HTTP to the listeners.
//!
//! It must not name anything of the host's or the plugins' code: the tests know
//! the contract only. A missing binary, plugin, server or browser fails a test;
//! nothing is ever skipped.

pub mod attacks;
mod bad_files;
pub mod bench;
pub mod browser;
mod certificates;
pub mod chat;
pub mod collector;
pub mod component;
pub mod frames;
pub mod host;
pub mod http;
pub mod impostor;
pub mod main_api;
pub mod measure;
pub mod memory;
pub mod metrics;
pub mod outage;
pub mod pgbouncer;
pub mod place;
pub mod ports;
pub mod postgres;
pub mod project;
pub mod proxy;
pub mod python;
pub mod raw;
pub mod redis;
pub mod redis_nodes;
pub mod shape;
pub mod socket;
pub mod sockets;
pub mod stress;
pub mod tokens;
pub mod wait;

pub use self::chat::Chat;
pub use self::host::{Host, HostBuilder, Service};
pub use self::http::{Answer, Call};
pub use self::pgbouncer::PgBouncer;
pub use self::postgres::Postgres;
pub use self::redis::RedisServer;
pub use self::tokens::{Tokens, User, now};
