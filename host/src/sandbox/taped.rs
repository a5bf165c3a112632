//! WASI's clocks and random numbers, where they are not the system's: on a tape, or by a
//! clock that stands.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::TryRng;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

use crate::clock::Clock;
use crate::tape::{Tape, since_1970};

/// Has WASI ask the tape, if there is one, before the host's clock and the system.
pub(super) fn connect(wasi: &mut WasiCtxBuilder, clock: &Clock, tape: Option<&Arc<Tape>>) {
    if tape.is_some() || clock.is_fixed() {
        wasi.wall_clock(Wall(clock.clone(), tape.cloned()));
    }
    let Some(tape) = tape else {
        return;
    };
    let seed = tape.value("random.insecure-seed", (), || {
        let halves: (u64, u64) = rand::random();
        halves
    });
    wasi.monotonic_clock(Monotonic(tape.clone(), Instant::now()))
        .secure_random(Random(tape.clone(), "random.secure"))
        .insecure_random(Random(tape.clone(), "random.insecure"))
        .insecure_random_seed(u128::from(seed.0) << 64 | u128::from(seed.1));
}

struct Wall(Clock, Option<Arc<Tape>>);

impl HostWallClock for Wall {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        let host = || match self.0.is_fixed() {
            true => Duration::from_millis(self.0.millis()),
            false => since_1970(),
        };
        let Some(tape) = &self.1 else {
            return host();
        };
        let (seconds, nanos): (u64, u32) = tape.value("clock.wall", (), || {
            let now = host();
            (now.as_secs(), now.subsec_nanos())
        });
        Duration::new(seconds, nanos.min(999_999_999))
    }
}

struct Monotonic(Arc<Tape>, Instant);

impl HostMonotonicClock for Monotonic {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        let now = || u64::try_from(self.1.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.value("clock.monotonic", (), now)
    }
}

struct Random(Arc<Tape>, &'static str);

impl Random {
    fn bytes(&self, length: usize) -> Vec<u8> {
        let mut bytes = self.0.value(self.1, [length], || {
            let mut bytes = vec![0; length];
            rand::fill(&mut bytes);
            bytes
        });
        bytes.resize(length, 0);
        bytes
    }
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let bytes = self.bytes(4).first_chunk().copied();
        Ok(u32::from_le_bytes(bytes.unwrap_or_default()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let bytes = self.bytes(8).first_chunk().copied();
        Ok(u64::from_le_bytes(bytes.unwrap_or_default()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        let taken = self.bytes(bytes.len());
        bytes.copy_from_slice(&taken);
        Ok(())
    }
}
