//! The wasmtime engines: how components are compiled, where their instances live and
//! how they are interrupted. One for each contract that is served, so that what goes wrong
//! in the one does not reach the other; ticker and slow lane are common.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::config::{Contract, Grants, Limits, ServiceConfig};
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

/// An engine for components of one contract, and the slow lane.
pub struct Engine {
    inner: wasmtime::Engine,
    contract: Contract,
    lane: Arc<SlowLane>,
    pooled: bool,
}

impl Engine {
    /// An engine for plugins alone, with room for the instances that these limits allow.
    /// `stack` is what a guest may use, bytes; Rust's own for wasm is 1 MiB of linear
    /// memory besides.
    ///
    /// # Errors
    /// [`EngineError`] if wasmtime or the threads cannot be set up.
    pub fn new<'a>(
        limits: impl Iterator<Item = &'a Limits>,
        stack: usize,
    ) -> Result<Arc<Engine>, EngineError> {
        let engine = Engine::build(Contract::Plugin, limits, stack, Arc::new(SlowLane::new()?))?;
        start_ticker(vec![engine.inner.weak()])?;
        Ok(Arc::new(engine))
    }

    /// As [`Engine::new`], for the contract of one service.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn for_service(service: &ServiceConfig, stack: usize) -> Result<Arc<Engine>, EngineError> {
        let lane = Arc::new(SlowLane::new()?);
        let limits = std::iter::once(&service.limits);
        let engine = Engine::build(service.contract, limits, stack, lane)?;
        start_ticker(vec![engine.inner.weak()])?;
        Ok(Arc::new(engine))
    }

    /// An engine for each contract that one of the services accepts.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn for_services(
        services: &[ServiceConfig],
        stack: usize,
    ) -> Result<BTreeMap<Contract, Arc<Engine>>, EngineError> {
        let lane = Arc::new(SlowLane::new()?);
        let mut engines = BTreeMap::new();
        for service in services {
            let contract = service.contract;
            if engines.contains_key(&contract) {
                continue;
            }
            let those = services
                .iter()
                .filter(|service| service.contract == contract);
            let limits = those.map(|service| &service.limits);
            let engine = Engine::build(contract, limits, stack, lane.clone())?;
            engines.insert(contract, Arc::new(engine));
        }
        start_ticker(engines.values().map(|engine| engine.inner.weak()).collect())?;
        Ok(engines)
    }

    fn build<'a>(
        contract: Contract,
        limits: impl Iterator<Item = &'a Limits>,
        stack: usize,
        lane: Arc<SlowLane>,
    ) -> Result<Engine, EngineError> {
        let (mut instances, mut memory, mut elements) = (SPARE, 1 << 20, 1000);
        for limits in limits {
            // The current revision and the one before may both be full.
            instances += 2 * limits.in_flight + limits.warm;
            memory = memory.max(limits.memory);
            elements = elements.max(limits.table_elements);
        }
        let mut config = base_config(stack);
        config.allocation_strategy(pooling(contract, instances, memory, elements));
        let (inner, pooled) = match wasmtime::Engine::new(&config) {
            Ok(engine) => (engine, true),
            Err(error) => {
                tracing::warn!(%error, "no pooling allocator here: instances are made on demand");
                let engine = wasmtime::Engine::new(&base_config(stack));
                (engine.map_err(EngineError::Engine)?, false)
            }
        };
        Ok(Engine {
            inner,
            contract,
            lane,
            pooled,
        })
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

    /// The imports of the contract, and of a plugin's those that these grants allow.
    ///
    /// # Errors
    /// An interface was linked twice.
    pub fn linker(&self, grants: &Grants) -> wasmtime::Result<Linker<HostData>> {
        let mut linker = Linker::new(&self.inner);
        sandbox::add_to_linker(&mut linker)?;
        match self.contract {
            Contract::Plugin => {
                imports::add_to_linker(&mut linker, grants, |data| &mut data.tap)?;
            }
            Contract::WasiHttp => sandbox::add_http_to_linker(&mut linker)?,
        }
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

fn pooling(
    contract: Contract,
    instances: usize,
    memory: usize,
    elements: usize,
) -> InstanceAllocationStrategy {
    let cores = sandbox::core_instances(contract);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(count(instances))
        // Only counted. Most components are the program, a shim, its fix-up and perhaps
        // an adapter.
        .total_core_instances(count(instances * cores))
        .max_core_instances_per_component(count(cores))
        // Address space only, until it is written to.
        .total_memories(count(instances * sandbox::MEMORIES))
        .max_memories_per_component(count(sandbox::MEMORIES))
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

/// One thread advances the epoch of all engines until they are gone.
fn start_ticker(mut engines: Vec<EngineWeak>) -> std::io::Result<()> {
    let tick = |engine: &EngineWeak| engine.upgrade().map(|e| e.increment_epoch()).is_some();
    std::thread::Builder::new()
        .name("lockgate-epoch".to_owned())
        .spawn(move || {
            while !engines.is_empty() {
                engines.retain(tick);
                std::thread::sleep(TICK);
            }
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn each_contract_that_is_served_has_an_engine_of_its_own() {
        let engines = |text: &str| {
            let config = Config::from_parts(Some(text), |_| None).unwrap();
            Engine::for_services(&config.services, config.stack).unwrap()
        };
        let names = |engines: &BTreeMap<Contract, Arc<Engine>>| -> Vec<Contract> {
            engines.keys().copied().collect()
        };
        assert_eq!(names(&engines("")), [Contract::Plugin]);
        let both = engines("[services.web]\nport = 1\ncontract = \"wasi-http\"");
        assert_eq!(names(&both), [Contract::Plugin, Contract::WasiHttp]);
        let [plugin, web] = [Contract::Plugin, Contract::WasiHttp].map(|of| &both[&of]);
        assert!(!wasmtime::Engine::same(plugin.wasmtime(), web.wasmtime()));
        assert!(Arc::ptr_eq(&plugin.lane, &web.lane));
        let one = "service = \"web\"\n[services.web]\nport = 1\ncontract = \"wasi-http\"";
        assert_eq!(names(&engines(one)), [Contract::WasiHttp]);
    }
}
