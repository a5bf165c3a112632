//! `wit/counters.wit`: counts of the calling service.

use super::Context;
use crate::bindings::lockgate::plugin::counters::Host;

impl Host for Context {
    fn add(&mut self, name: String, by: u64) -> wasmtime::Result<()> {
        self.enter()?;
        if !self.in_self_test() {
            self.state().counters().add(&self.service().name, &name, by);
        }
        Ok(())
    }

    fn read(&mut self) -> wasmtime::Result<Vec<(String, u64)>> {
        self.enter()?;
        Ok(self.state().counters().read(&self.service().name))
    }
}
