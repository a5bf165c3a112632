//! WASI's clocks and random numbers, where they are not the system's: on a tape, or by a
//! clock that stands.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::TryRng;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

use crate::clock::Clock;
use crate::tape::Tape;

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
        .secure_random(Random::new(tape, "random.secure"))
        .insecure_random(Random::new(tape, "random.insecure"))
        .insecure_random_seed(u128::from(seed.0) << 64 | u128::from(seed.1));
}

struct Wall(Clock, Option<Arc<Tape>>);

impl HostWallClock for Wall {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        let Some(tape) = &self.1 else {
            return self.0.since_1970();
        };
        let (seconds, nanos): (u64, u32) = tape.value("clock.wall", (), || {
            let now = self.0.since_1970();
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

/// Bytes that are drawn at once: WASI asks for one after the other.
const DRAWN: usize = 64;

struct Random {
    tape: Arc<Tape>,
    function: &'static str,
    left: Vec<u8>,
}

impl Random {
    fn new(tape: &Arc<Tape>, function: &'static str) -> Random {
        Random {
            tape: tape.clone(),
            function,
            left: Vec::new(),
        }
    }

    fn byte(&mut self) -> u8 {
        if self.left.is_empty() {
            self.left = self.tape.value(self.function, [DRAWN], || {
                let mut bytes = vec![0; DRAWN];
                rand::fill(bytes.as_mut_slice());
                bytes
            });
        }
        self.left.pop().unwrap_or_default()
    }
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(std::array::from_fn(|_| self.byte())))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(std::array::from_fn(|_| self.byte())))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill_with(|| self.byte());
        Ok(())
    }
}
