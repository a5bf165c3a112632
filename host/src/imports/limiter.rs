//! `wit/limiter.wit`: rate limits of the calling service.

use super::Context;
use crate::bindings::lockgate::plugin::limiter::Host;
use crate::limiter::NEVER;

impl Host for Context {
    fn take(
        &mut self,
        bucket: String,
        key: String,
        per_minute: u32,
    ) -> wasmtime::Result<Result<(), u32>> {
        self.enter()?;
        if self.in_self_test() {
            return Ok(Err(NEVER));
        }
        let limiter = self.state().limiter();
        Ok(limiter.take(&self.service().name, &bucket, &key, per_minute))
    }
}
