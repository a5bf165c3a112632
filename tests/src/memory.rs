//! What a process holds in its memory: every page that it has touched and could read
//! itself. The process must be a child of the test or of the same user.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// Bytes that are read at once.
const CHUNK: usize = 4 << 20;

/// Bits of an entry of `/proc/PID/pagemap`: the page is in memory, or swapped out.
const THERE: u64 = (1 << 63) | (1 << 62);

/// Bytes of a process that are in memory.
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("read a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.expect("VmRSS").parse::<u64>().expect("a number") << 10
}

/// How often a text of bytes occurs in the memory of a process.
pub fn occurrences(pid: u32, needle: &[u8]) -> usize {
    let memory = File::open(format!("/proc/{pid}/mem")).expect("open the memory of a process");
    let pages = File::open(format!("/proc/{pid}/pagemap")).expect("open a page map");
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("read the maps");
    let mut found = 0;
    for (from, to) in maps.lines().filter_map(readable) {
        for (from, to) in touched(&pages, from, to) {
            found += search(&memory, from, to, needle);
        }
    }
    found
}

/// The range of a private mapping that the process can read.
fn readable(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.split_whitespace();
    let (from, to) = fields.next()?.split_once('-')?;
    let rights = fields.next()?;
    if !rights.starts_with('r') || !rights.ends_with('p') || line.contains("[v") {
        return None;
    }
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((number(from)?, number(to)?))
}

/// The parts of a range that are backed by memory: pools reserve far more.
fn touched(pages: &File, from: u64, to: u64) -> Vec<(u64, u64)> {
    const PAGE: u64 = 4096;
    let mut parts: Vec<(u64, u64)> = Vec::new();
    let mut entries = vec![0_u8; CHUNK];
    let mut at = from;
    while at < to {
        let wanted = usize::try_from((to - at) / PAGE * 8).expect("a size");
        let length = wanted.min(entries.len());
        let got = pages.read_at(&mut entries[..length], at / PAGE * 8);
        let got = got.expect("read a page map") / 8 * 8;
        assert!(got > 0, "the page map ends at {at:x}");
        for entry in entries[..got].chunks_exact(8) {
            if u64::from_le_bytes(entry.try_into().expect("eight bytes")) & THERE != 0 {
                match parts.last_mut() {
                    Some(last) if last.1 == at => last.1 += PAGE,
                    _ => parts.push((at, at + PAGE)),
                }
            }
            at += PAGE;
        }
    }
    parts
}

fn search(memory: &File, from: u64, to: u64, needle: &[u8]) -> usize {
    let mut found = 0;
    let mut at = from;
    let mut bytes = vec![0_u8; CHUNK];
    while at < to {
        let length = usize::try_from(to - at).expect("a size").min(CHUNK);
        // What the process has unmapped meanwhile cannot be read and holds nothing.
        let Ok(got @ 1..) = memory.read_at(&mut bytes[..length], at) else {
            return found;
        };
        found += count(&bytes[..got], needle);
        let again = if got == length && at + (got as u64) < to {
            needle.len() - 1
        } else {
            0
        };
        at += (got - again) as u64;
    }
    found
}

fn count(bytes: &[u8], needle: &[u8]) -> usize {
    let (first, rest) = needle.split_first().expect("something to look for");
    let mut found = 0;
    let mut from = 0;
    while let Some(place) = bytes[from..].iter().position(|byte| byte == first) {
        from += place + 1;
        if bytes[from..].starts_with(rest) {
            found += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_occurrences_count() {
        assert_eq!(count(b"abcabxabc", b"abc"), 2);
        assert_eq!(count(b"aaaa", b"aa"), 3);
        assert_eq!(count(b"", b"aa"), 0);
    }

    #[test]
    fn its_own_memory_is_searched() {
        let needle: Vec<u8> = (0..48_u8).map(|n| n.wrapping_mul(151) ^ 0x5a).collect();
        let copies = vec![needle.clone(); 5];
        let found = occurrences(std::process::id(), &needle);
        assert!(found > copies.len(), "{found}");
    }
}
