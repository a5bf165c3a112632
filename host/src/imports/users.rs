//! `wit/users.wit`: what is known of a user. No users table is read here yet, so
//! nobody is asked and only the shared cache and this host's memory answer.

use super::Context;
use crate::bindings::lockgate::plugin::users::{Answer, Host, State, User};
use crate::directory::Known;

impl Host for Context {
    async fn lookup(
        &mut self,
        user_id: u32,
        _token: String,
        _cached_only: bool,
    ) -> wasmtime::Result<Answer> {
        self.enter()?;
        let known = self
            .state()
            .directory()
            .lookup(&self.store(), user_id)
            .await;
        let state = match known {
            Known::Active { email, role } => State::Active(User { email, role }),
            Known::Disabled => State::Disabled,
            Known::Unknown => State::Unknown,
        };
        Ok(Answer {
            state,
            degraded: false,
        })
    }
}
