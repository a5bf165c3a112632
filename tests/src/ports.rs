//! Free ports for servers that are started by tests which run at the same time.
//!
//! Ports lie below the range from which the kernel serves outgoing connections,
//! and a lock file keeps a block of them for one holder.

use std::fs::File;
use std::net::TcpListener;

const FIRST: u16 = 12_000;
const BLOCK: u16 = 8;
const BLOCKS: u16 = 2_000;

/// A block of free ports, kept until it is dropped.
#[derive(Debug)]
pub struct Ports {
    first: u16,
    _lock: File,
}

impl Ports {
    /// How many ports a block holds.
    pub const COUNT: u16 = BLOCK;

    /// Takes a block in which every port can be bound right now.
    pub fn take() -> Self {
        let folder = std::env::temp_dir().join("lockgate-test-ports");
        std::fs::create_dir_all(&folder).expect("make the folder of port locks");
        let offset = (std::process::id() as u16).wrapping_mul(31) % BLOCKS;
        for step in 0..BLOCKS {
            let block = (offset + step) % BLOCKS;
            let file = File::create(folder.join(block.to_string())).expect("make a port lock");
            if file.try_lock().is_err() {
                continue;
            }
            let first = FIRST + block * BLOCK;
            if (first..first + BLOCK).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
                return Self { first, _lock: file };
            }
        }
        panic!("no block of {BLOCK} free ports is left");
    }

    /// All of them.
    pub fn all(&self) -> std::ops::Range<u16> {
        self.first..self.first + BLOCK
    }

    /// The port at an index below 8.
    pub fn at(&self, index: u16) -> u16 {
        assert!(index < BLOCK, "a block holds {BLOCK} ports");
        self.first + index
    }
}
