//! Authenticates sockets, relays them to the chat service, and hands out tickets for them.
//!
//! | file | owns |
//! |---|---|
//! | `routes` | the table of endpoints |
//! | `auth` | `validate`, and why an authorisation is refused |
//! | `authorize` | `authorize`: the ticket for a socket |
//! | `path` | which paths a ticket may open |
//! | `ticket` | what is kept for a ticket |
//! | `connections` | `connection-info`, and what is counted |
//! | `sockets` | the events of sockets |
//! | `credentials` | where a socket's credentials come from |
//! | `frames` | the messages of clients and of the chat service |
//! | `health` | both health answers |

mod auth;
mod authorize;
mod connections;
mod credentials;
mod frames;
mod health;
mod path;
mod routes;
mod sockets;
mod ticket;

pub use routes::routes;
pub use sockets::{closed, message, open};

lockgate_sdk::register!(routes);
lockgate_sdk::register_sockets!(open, message, closed);

#[cfg(test)]
mod tests;
