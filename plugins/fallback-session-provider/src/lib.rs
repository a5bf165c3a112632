//! Sessions while the primary services are away: checks tokens with what is at
//! hand, and keeps one emergency session for each user in the host's store.
//!
//! | file | owns |
//! |---|---|
//! | `routes` | the table of endpoints |
//! | `settings` | what the operator chose |
//! | `auth` | decisions: who may, whose session it is |
//! | `sessions` | `create` and `validate` |
//! | `emergency` | `emergency-auth` |
//! | `health` | both health answers |

mod auth;
mod emergency;
mod health;
mod routes;
mod sessions;
mod settings;

pub use routes::routes;

lockgate_sdk::register!(routes);

#[cfg(test)]
mod tests;
