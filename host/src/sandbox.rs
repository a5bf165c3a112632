//! What one instance holds on the host's side: its WASI view, its memory limit, its
//! clock, its log lines. The guest is hostile until shown otherwise: nothing here
//! may grow with what the guest does, and nothing waits longer than the call may.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime::{StoreContextMut, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::WasiHttpCtx;
use wasmtime_wasi_io::bindings::wasi::io::poll;
use wasmtime_wasi_io::poll::DynPollable;

use crate::config::ServiceConfig;
use crate::imports::Tap;
use crate::tape::Tape;

mod http;
mod limiter;
mod output;
mod taped;

pub use http::add_http_to_linker;
pub use limiter::{Limiter, MEMORIES, core_instances};
pub use output::Lines;
use output::Output;

/// The epoch advances this often.
pub const TICK: Duration = Duration::from_millis(1);

/// Open pollables, streams and errors of one instance.
const RESOURCES: usize = 1024;

/// The data of a store.
pub struct HostData {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: http::Hooks,
    table: ResourceTable,
    /// Memory and tables.
    pub limiter: Limiter,
    /// The host interfaces, and what they remember of the running call.
    pub tap: Tap,
    /// Time of the running call.
    pub meter: Arc<Meter>,
    /// What the guest writes.
    pub lines: Arc<Mutex<Lines>>,
}

impl HostData {
    /// For a fresh instance with this WASI environment, perhaps on a tape.
    pub fn new(
        tap: Tap,
        tape: Option<&Arc<Tape>>,
        revision: &str,
        service: &ServiceConfig,
        env: &[(String, String)],
        meter: Arc<Meter>,
    ) -> HostData {
        let lines = Arc::new(Mutex::new(Lines::new(&service.name, revision)));
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES);
        let mut wasi = WasiCtx::builder();
        wasi.envs(env)
            .max_random_size(64 << 10)
            .stdout(Output(lines.clone()))
            .stderr(Output(lines.clone()));
        taped::connect(&mut wasi, tap.context.clock(), tape);
        HostData {
            wasi: wasi.build(),
            http: http::context(),
            hooks: http::Hooks,
            table,
            limiter: Limiter::new(service),
            tap,
            meter,
            lines,
        }
    }

    /// True if the guest holds nothing of the host's, so that the next call finds it so.
    pub fn holds_nothing(&self) -> bool {
        self.table.is_empty()
    }

    fn patience(&mut self) -> Patience<'_> {
        Patience {
            meter: &self.meter,
            table: &mut self.table,
        }
    }
}

impl WasiView for HostData {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// Why the host ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overrun {
    /// The CPU time of one call is used up.
    #[error("the call used up its CPU time")]
    Cpu,
    /// The call took too long, host calls included.
    #[error("the call took too long")]
    Wall,
}

/// The time of one call. Shared with whoever polls the call, so that time spent
/// waiting for the host is not taken for time spent computing.
#[derive(Debug)]
pub struct Meter {
    base: Instant,
    end: Instant,
    poll_started: AtomicU64,
    /// When the call was left to wait; 0 while it runs, or while it waits by its own wish.
    left_at: AtomicU64,
    /// The longest that it has waited for the host without a break.
    longest_wait: AtomicU64,
    /// The guest itself asked to wait.
    asleep: AtomicBool,
    ticks_left: AtomicU32,
    slow: AtomicBool,
}

impl Meter {
    /// Starts now: the call may compute for `cpu` and take `wall` in all.
    pub fn new(cpu: Duration, wall: Duration) -> Meter {
        let ticks = cpu.as_micros().div_ceil(TICK.as_micros());
        let base = Instant::now();
        Meter {
            base,
            end: base + wall,
            poll_started: AtomicU64::new(0),
            left_at: AtomicU64::new(0),
            longest_wait: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            ticks_left: AtomicU32::new(u32::try_from(ticks).unwrap_or(u32::MAX)),
            slow: AtomicBool::new(false),
        }
    }

    /// A thread begins to run the call.
    pub fn polled(&self) {
        let now = self.now();
        self.longest_wait
            .fetch_max(self.waits_since(now), Ordering::Relaxed);
        self.go_on();
        self.poll_started.store(now, Ordering::Relaxed);
    }

    /// The thread leaves the call, which waits for something.
    pub fn left(&self) {
        if !self.asleep.load(Ordering::Relaxed) {
            self.left_at.store(self.now().max(1), Ordering::Relaxed);
        }
    }

    /// What the call has waited for since it was left was no host function.
    pub fn go_on(&self) {
        self.left_at.store(0, Ordering::Relaxed);
    }

    /// True if a single wait for the host took more than half of the call's time: then the
    /// host was slow, and nothing is known of the component.
    pub fn kept_by_host(&self) -> bool {
        let longest = self.longest_wait.load(Ordering::Relaxed);
        let longest = longest.max(self.waits_since(self.now()));
        longest > nanos(self.end.saturating_duration_since(self.base)) / 2
    }

    fn waits_since(&self, now: u64) -> u64 {
        match self.left_at.load(Ordering::Relaxed) {
            0 => 0,
            left => now.saturating_sub(left),
        }
    }

    /// The call has computed past its first tick.
    pub fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    pub(crate) fn mark_slow(&self) {
        self.slow.store(true, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        nanos(self.base.elapsed())
    }

    /// What to do at a tick of the epoch. A tick counts if the guest has run for a
    /// good part of it without a break; one that passed while the host was waiting
    /// for Redis does not.
    fn tick(&self) -> Result<UpdateDeadline, Overrun> {
        let now = self.now();
        if Instant::now() >= self.end {
            return Err(Overrun::Wall);
        }
        if now.saturating_sub(self.poll_started.load(Ordering::Relaxed)) < nanos(TICK) / 2 {
            return Ok(UpdateDeadline::Continue(1));
        }
        let left = self.ticks_left.load(Ordering::Relaxed);
        if left == 0 {
            return Err(Overrun::Cpu);
        }
        self.ticks_left.store(left - 1, Ordering::Relaxed);
        self.mark_slow();
        Ok(UpdateDeadline::Yield(1))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The epoch callback of every store.
pub fn on_tick(store: StoreContextMut<'_, HostData>) -> wasmtime::Result<UpdateDeadline> {
    Ok(store.data().meter.tick()?)
}

/// `wasi:io/poll` that gives up when the call's time is over: a sleeping guest
/// executes nothing, so no epoch would ever stop it.
struct Patience<'a> {
    table: &'a mut ResourceTable,
    meter: &'a Meter,
}

impl<'a> Patience<'a> {
    /// Waits by the guest's own wish, and not past the end of its call.
    async fn wait<T>(
        meter: &'a Meter,
        waiting: impl Future<Output = wasmtime::Result<T>>,
    ) -> wasmtime::Result<T> {
        meter.asleep.store(true, Ordering::Relaxed);
        let waited = tokio::time::timeout_at(meter.end.into(), waiting).await;
        meter.asleep.store(false, Ordering::Relaxed);
        waited.unwrap_or_else(|_| Err(Overrun::Wall.into()))
    }
}

impl poll::Host for Patience<'_> {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        Self::wait(self.meter, poll::Host::poll(self.table, pollables)).await
    }
}

impl poll::HostPollable for Patience<'_> {
    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        let waiting = poll::HostPollable::block(self.table, pollable);
        Self::wait(self.meter, waiting).await
    }

    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        poll::HostPollable::ready(self.table, pollable).await
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(self.table, pollable)
    }
}

struct WithPatience;

impl HasData for WithPatience {
    type Data<'a> = Patience<'a>;
}

struct WithTable;

impl HasData for WithTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// Links the part of WASI 0.2 that every plugin gets: `cli`, `io`, `clocks`,
/// `random` and `filesystem`, of which the last finds no folder. No sockets, no HTTP.
///
/// # Errors
/// An interface was linked before.
pub fn add_to_linker(linker: &mut Linker<HostData>) -> wasmtime::Result<()> {
    use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
    use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
    use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
    use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random};
    use wasmtime_wasi::random::WasiRandom;
    use wasmtime_wasi_io::bindings::wasi::io;

    type T = HostData;
    let l = linker;
    io::poll::add_to_linker::<T, WithPatience>(l, T::patience)?;
    io::error::add_to_linker::<T, WithTable>(l, |t| &mut t.table)?;
    io::streams::add_to_linker::<T, WithTable>(l, |t| &mut t.table)?;
    clocks::wall_clock::add_to_linker::<T, WasiClocks>(l, T::clocks)?;
    clocks::monotonic_clock::add_to_linker::<T, WasiClocks>(l, T::clocks)?;
    filesystem::types::add_to_linker::<T, WasiFilesystem>(l, T::filesystem)?;
    filesystem::preopens::add_to_linker::<T, WasiFilesystem>(l, T::filesystem)?;
    random::random::add_to_linker::<T, WasiRandom>(l, |t| t.wasi.random())?;
    random::insecure::add_to_linker::<T, WasiRandom>(l, |t| t.wasi.random())?;
    random::insecure_seed::add_to_linker::<T, WasiRandom>(l, |t| t.wasi.random())?;
    cli::exit::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::environment::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::stdin::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::stdout::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::stderr::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_input::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_output::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_stdin::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_stdout::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_stderr::add_to_linker::<T, WasiCli>(l, T::cli)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_not_computing() {
        let meter = Meter::new(Duration::from_millis(2), Duration::from_secs(60));
        meter.polled();
        assert!(matches!(meter.tick(), Ok(UpdateDeadline::Continue(1))));
        assert!(!meter.is_slow());
        for _ in 0..2 {
            std::thread::sleep(TICK);
            assert!(matches!(meter.tick(), Ok(UpdateDeadline::Yield(1))));
        }
        assert!(meter.is_slow());
        assert!(matches!(meter.tick(), Err(Overrun::Cpu)));
        let over = Meter::new(Duration::from_secs(1), Duration::ZERO);
        assert!(matches!(over.tick(), Err(Overrun::Wall)));
    }

    #[test]
    fn one_long_host_call_is_told_from_sleeping_and_from_many_short_ones() {
        let meter = || Meter::new(Duration::from_secs(1), 4 * TICK);
        let wait = |meter: &Meter, ticks: u32| {
            meter.left();
            std::thread::sleep(ticks * TICK);
        };
        let kept = meter();
        wait(&kept, 3);
        assert!(kept.kept_by_host(), "it still waits");
        kept.polled();
        assert!(kept.kept_by_host());
        let many = Meter::new(Duration::from_secs(1), Duration::from_secs(60));
        for _ in 0..4 {
            wait(&many, 1);
            many.polled();
        }
        assert!(!many.kept_by_host());
        let asleep = meter();
        asleep.asleep.store(true, Ordering::Relaxed);
        wait(&asleep, 3);
        assert!(!asleep.kept_by_host());
        let queued = meter();
        wait(&queued, 3);
        queued.go_on();
        queued.polled();
        assert!(!queued.kept_by_host());
        // Time in which a thread runs the call is the guest's.
        let busy = meter();
        busy.polled();
        std::thread::sleep(5 * TICK);
        assert!(matches!(busy.tick(), Err(Overrun::Wall)));
        assert!(!busy.kept_by_host());
    }
}
