//! How much an instance may have: memories, tables, core instances.

use wasmtime::ResourceLimiter;

use crate::config::{Contract, ServiceConfig};

/// Memories of one component, which share its limit. A component that is composed of two, as
/// those of Python are, has an empty one besides the program's.
pub const MEMORIES: usize = 2;

/// Core instances of one component. The Rust tools make three or four, those of Python, a
/// library each, seventeen.
pub fn core_instances(contract: Contract) -> usize {
    match contract {
        Contract::Plugin => 24,
        Contract::WasiHttp => 64,
    }
}

/// Keeps an instance within its memory and table limits. The limit of the memory is one for
/// all memories of the instance together.
#[derive(Debug)]
pub struct Limiter {
    memory: usize,
    used: usize,
    /// What `used` has grown by last, to be taken back if there was no memory.
    grown: usize,
    table_elements: usize,
    instances: usize,
    refused: bool,
}

impl Limiter {
    pub(super) fn new(service: &ServiceConfig) -> Limiter {
        Limiter {
            memory: service.limits.memory,
            used: 0,
            grown: 0,
            table_elements: service.limits.table_elements,
            instances: core_instances(service.contract),
            refused: false,
        }
    }

    /// Starts a call.
    pub fn begin(&mut self) {
        self.refused = false;
    }

    /// True if the instance asked for more than it may have since then.
    pub fn refused(&self) -> bool {
        self.refused
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grown = desired.saturating_sub(current);
        let used = self.used.saturating_add(self.grown);
        let fits = used <= self.memory;
        if fits {
            self.used = used;
        } else {
            self.grown = 0;
            self.refused = true;
        }
        Ok(fits)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.used -= std::mem::take(&mut self.grown);
        Ok(())
    }

    fn table_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let fits = desired <= self.table_elements;
        self.refused |= !fits;
        Ok(fits)
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        8
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memories_of_an_instance_share_one_limit() {
        let config = crate::config::Config::from_parts(None, |_| None).unwrap();
        let mut service = config.services[0].clone();
        service.limits.memory = 100;
        let mut limiter = Limiter::new(&service);
        let mut grow = |from, to| limiter.memory_growing(from, to, None).unwrap();
        assert!(grow(0, 60));
        assert!(
            !grow(0, 41),
            "the second memory gets what the first has left"
        );
        assert!(grow(0, 30));
        assert!(grow(60, 70));
        assert!(!grow(70, 71));
        assert!(limiter.refused());
        // What could not be had is not used.
        let mut limiter = Limiter::new(&service);
        assert!(limiter.memory_growing(0, 80, None).unwrap());
        let none = wasmtime::Error::msg("no memory");
        limiter.memory_grow_failed(none).unwrap();
        assert!(limiter.memory_growing(0, 100, None).unwrap());
    }
}
