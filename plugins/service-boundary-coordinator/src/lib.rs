//! Health of all services, and login state kept in step between them.
//!
//! | file | owns |
//! |---|---|
//! | `routes` | the table of endpoints |
//! | `health` | gathers what the looking endpoints need |
//! | `integration` | the status of each service; decisions only |
//! | `report` | the bodies of the looking endpoints |
//! | `auth` | who may report what; decisions only |
//! | `event` | the report of a login event |
//! | `records` | the records of a login in the shared store |
//! | `propagate` | carries an event to store, emergency sessions, sockets, revocations |
//! | `sync` | `sync-auth` |
//! | `logout` | `auth/logout` |

mod auth;
mod event;
mod health;
mod integration;
mod logout;
mod propagate;
mod records;
mod report;
mod routes;
mod sync;

pub use routes::routes;

lockgate_sdk::register!(routes);

#[cfg(test)]
mod tests;
