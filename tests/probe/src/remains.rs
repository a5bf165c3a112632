//! What an instance leaves behind in its memory, and how a later one looks for it. A
//! pattern is worked out of a seed byte by byte, so that it stands nowhere but where it
//! was planted: not in the request, and not in the instance that searches.

use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use crate::bindings::exports::lockgate::plugin::handler::{Request, Response};
use crate::misbehave::{clamp, number, text};

/// Bytes of a pattern.
const LENGTH: usize = 32;

/// Known to the guest and to the tests.
const SECRET: u64 = 0x5ca1_ab1e_0ddb_a115;

/// The last pattern that was planted, in the static part of the memory.
static PLACE: Mutex<[u8; LENGTH]> = Mutex::new([0; LENGTH]);

/// Differs from instance to instance.
static NAME: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0_u8));

/// The name of this instance, and how many requests it has answered.
pub(crate) fn who(count: u32) -> Response {
    text(200, &format!("{:016x} {count}", *NAME))
}

/// One byte of the pattern of a seed (splitmix64).
fn pattern(seed: u64, index: usize) -> u8 {
    let step = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut mixed = (seed ^ SECRET).wrapping_add(step);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)).to_le_bytes()[0]
}

/// Leaves the pattern of `seed` in a static, on the heap and, if it may have `pages`
/// more, at their end; then sleeps for `ms`.
pub(crate) fn plant(request: &Request) -> Response {
    let seed = number(request, "seed", 0);
    if let Ok(mut place) = PLACE.lock() {
        for (index, byte) in place.iter_mut().enumerate() {
            *byte = pattern(seed, index);
        }
    }
    let heap: Vec<u8> = (0..LENGTH).map(|index| pattern(seed, index)).collect();
    std::hint::black_box(Vec::leak(heap));
    let pages = clamp(number(request, "pages", 0));
    if pages > 0 && grow(pages) {
        let at = size() - 2 * LENGTH;
        for index in 0..LENGTH {
            write(at + index, pattern(seed, index));
        }
    }
    std::thread::sleep(Duration::from_millis(number(request, "ms", 0)));
    text(200, "planted")
}

/// How often the pattern of `seed` stands in the whole linear memory, `pages` more
/// included.
pub(crate) fn scan(request: &Request) -> Response {
    let seed = number(request, "seed", 0);
    let pages = clamp(number(request, "pages", 0));
    if pages > 0 {
        grow(pages);
    }
    let first = pattern(seed, 0);
    let found = (1..size().saturating_sub(LENGTH))
        .filter(|at| read(*at) == first)
        .filter(|at| (1..LENGTH).all(|index| read(at + index) == pattern(seed, index)))
        .count();
    text(200, &found.to_string())
}

/// A part of this instance's own linear memory, as it is.
pub(crate) fn memory(from: u64, length: u64) -> Response {
    let from = clamp(from).max(1);
    let end = from.saturating_add(clamp(length)).min(size());
    Response {
        status: 200,
        headers: vec![(
            "content-type".to_owned(),
            "application/octet-stream".to_owned(),
        )],
        body: (from..end).map(read).collect(),
    }
}

/// Bytes of the linear memory.
fn size() -> usize {
    #[cfg(target_arch = "wasm32")]
    return core::arch::wasm32::memory_size(0) * 65536;
    #[cfg(not(target_arch = "wasm32"))]
    0
}

/// Pages more; false if it may not.
fn grow(pages: usize) -> bool {
    #[cfg(target_arch = "wasm32")]
    return core::arch::wasm32::memory_grow(0, pages) != usize::MAX;
    #[cfg(not(target_arch = "wasm32"))]
    {
        let _ = pages;
        false
    }
}

fn read(address: usize) -> u8 {
    // SAFETY: callers stay below `size`, all of the linear memory is initialised, and
    // natively that is nothing.
    unsafe { std::ptr::read_volatile(address as *const u8) }
}

fn write(address: usize, byte: u8) {
    // SAFETY: the page was grown for this and belongs to no allocator.
    unsafe { std::ptr::write_volatile(address as *mut u8, byte) }
}

#[cfg(test)]
mod tests {
    use super::pattern;

    #[test]
    fn seeds_differ() {
        let of = |seed| -> Vec<u8> { (0..32).map(|index| pattern(seed, index)).collect() };
        assert_ne!(of(1), of(2));
        assert_eq!(of(1), of(1));
    }
}
