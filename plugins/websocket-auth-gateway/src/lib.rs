//! Authenticates sockets and hands out tickets for them.
//!
//! | file | owns |
//! |---|---|
//! | `routes` | the table of endpoints |
//! | `auth` | `validate`, and why an authorisation is refused |
//! | `authorize` | `authorize`: the ticket for a socket |
//! | `path` | which paths a ticket may open |
//! | `ticket` | what is kept for a ticket |
//! | `connections` | `connection-info`, and what is counted |
//! | `health` | both health answers |

mod auth;
mod authorize;
mod connections;
mod health;
mod path;
mod routes;
mod ticket;

pub use routes::routes;

lockgate_sdk::register!(routes);

#[cfg(test)]
mod tests;
