//! The wasmtime engine: how components are compiled, where their instances live and
//! how they are interrupted. One for the process. It knows nothing of services.

use std::sync::Arc;

use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::config::{Grants, Limits};
use crate::imports;
use crate::lane::SlowLane;
use crate::sandbox::{self, HostData, TICK};

/// Stack of the host functions that a guest calls, besides the guest's own.
const HOST_STACK: usize = 1536 << 10;

/// Room of the pool for revisions that are loading or draining, in instances.
const SPARE: usize = 64;

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Wasmtime cannot run on this machine.
    #[error("cannot set up the WebAssembly engine: {0}")]
    Engine(wasmtime::Error),
    /// No thread could be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// The engine, its ticker and its slow lane.
pub struct Engine {
    inner: wasmtime::Engine,
    lane: SlowLane,
    pooled: bool,
}

impl Engine {
    /// Builds the engine with room for the instances that these limits allow. `stack`
    /// is what a guest may use, bytes; Rust's own for wasm is 1 MiB of linear memory
    /// besides.
    ///
    /// # Errors
    /// [`EngineError`] if wasmtime or the threads cannot be set up.
    pub fn new<'a>(
        limits: impl Iterator<Item = &'a Limits>,
        stack: usize,
    ) -> Result<Arc<Engine>, EngineError> {
        let (mut instances, mut memory, mut elements) = (SPARE, 1 << 20, 1000);
        for limits in limits {
            // The current revision and the one before may both be full.
            instances += 2 * limits.in_flight + limits.warm;
            memory = memory.max(limits.memory);
            elements = elements.max(limits.table_elements);
        }
        let mut config = base_config(stack);
        config.allocation_strategy(pooling(instances, memory, elements));
        let (inner, pooled) = match wasmtime::Engine::new(&config) {
            Ok(engine) => (engine, true),
            Err(error) => {
                tracing::warn!(%error, "no pooling allocator here: instances are made on demand");
                let engine = wasmtime::Engine::new(&base_config(stack));
                (engine.map_err(EngineError::Engine)?, false)
            }
        };
        start_ticker(&inner)?;
        Ok(Arc::new(Engine {
            inner,
            lane: SlowLane::new()?,
            pooled,
        }))
    }

    /// The engine itself.
    pub fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner
    }

    /// Where calls run.
    pub fn lane(&self) -> &SlowLane {
        &self.lane
    }

    /// True if instances come from the pooling allocator.
    pub fn is_pooled(&self) -> bool {
        self.pooled
    }

    /// The imports that these grants allow, and no others.
    ///
    /// # Errors
    /// An interface was linked twice.
    pub fn linker(&self, grants: &Grants) -> wasmtime::Result<Linker<HostData>> {
        let mut linker = Linker::new(&self.inner);
        sandbox::add_to_linker(&mut linker)?;
        imports::add_to_linker(&mut linker, grants, |data| &mut data.tap)?;
        Ok(linker)
    }
}

fn base_config(stack: usize) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(false)
        .gc_support(false)
        .wasm_memory64(false)
        .memory_init_cow(true)
        .max_wasm_stack(stack)
        .async_stack_size(stack + HOST_STACK);
    config
}

fn pooling(instances: usize, memory: usize, elements: usize) -> InstanceAllocationStrategy {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(count(instances))
        // A component of the usual tools is the program, a shim, its fix-up and
        // perhaps an adapter.
        .total_core_instances(count(instances * 4))
        .max_core_instances_per_component(16)
        .total_memories(count(instances))
        .max_memories_per_component(1)
        .max_memory_size(memory)
        .total_tables(count(instances * 3))
        .max_tables_per_component(8)
        .table_elements(elements)
        .total_stacks(count(instances))
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(16 << 10)
        .pagemap_scan(if PoolingAllocationConfig::is_pagemap_scan_available() {
            Enabled::Yes
        } else {
            Enabled::No
        });
    InstanceAllocationStrategy::Pooling(pool)
}

/// One thread advances the epoch until the engine is gone.
fn start_ticker(engine: &wasmtime::Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new()
        .name("lockgate-epoch".to_owned())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        })?;
    Ok(())
}
