//! `wit/users.wit`: what is known of a user. Only a service with the grant reads the
//! users table; for others the session normalizer is asked.

use super::Context;
use crate::bindings::lockgate::plugin::users::{Answer, Host, State, User};
use crate::directory::{Known, Reach};
use crate::inquiry::Question;

impl Host for Context {
    async fn lookup(
        &mut self,
        user_id: u32,
        token: String,
        quiet: bool,
    ) -> wasmtime::Result<Answer> {
        self.enter()?;
        let reach = if self.in_self_test() {
            Reach::Cache
        } else if self.grants().database {
            Reach::Table { quiet }
        } else if quiet {
            Reach::Cache
        } else {
            Reach::Normalizer(Question {
                token: &token,
                request_id: self.request_id(),
            })
        };
        let directory = self.state().directory();
        let answer = directory.lookup(&self.store(), user_id, reach).await;
        let state = match answer.known {
            Known::Active { email, role } => State::Active(User { email, role }),
            Known::Disabled => State::Disabled,
            Known::Missing => State::Missing,
            // Which one is not known here; the empty one is no token's either.
            Known::OtherEmail => State::Active(User {
                email: String::new(),
                role: "user".to_owned(),
            }),
            Known::Unknown => State::Unknown,
        };
        Ok(Answer {
            state,
            degraded: answer.degraded,
        })
    }
}
