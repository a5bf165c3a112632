//! `wit/csrf.wit`: values of the `csrf_token` cookie. The keys stay in the host.

use super::Context;
use crate::bindings::lockgate::plugin::csrf::{Error, Host};

impl Host for Context {
    fn issue(&mut self) -> wasmtime::Result<Result<String, Error>> {
        self.enter()?;
        let state = self.state();
        let keys = state.keys();
        let value = state
            .csrf()
            .issue(|message| keys.authenticate(message), state.clock().now());
        Ok(value.ok_or(Error::NoSecret))
    }

    fn check(&mut self, header: String, cookies: Vec<String>) -> wasmtime::Result<bool> {
        self.enter()?;
        let state = self.state();
        Ok(state.csrf().check(&header, &cookies, state.clock().now()))
    }
}
