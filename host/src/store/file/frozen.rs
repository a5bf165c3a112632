//! A database file on a disk that takes no writes: it is read as it is, and what the
//! database itself has to write to be opened stays in memory. Nothing that is to last may
//! be written to it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{Database, DatabaseError, StorageBackend, StorageError};

const PAGE: usize = 4096;

/// Opens the file without writing to it.
pub(super) fn open(path: &Path, cache: usize) -> Result<Database, DatabaseError> {
    let frozen = Frozen::of(path).map_err(StorageError::Io)?;
    Database::builder()
        .set_cache_size(cache)
        .create_with_backend(frozen)
}

#[derive(Debug)]
struct Frozen {
    file: File,
    over: Mutex<Over>,
}

/// What differs from the file.
#[derive(Debug)]
struct Over {
    len: u64,
    /// Behind this the file's contents do not count: it was shorter meanwhile.
    floor: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl Frozen {
    fn of(path: &Path) -> io::Result<Frozen> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        if len == 0 {
            // Else the database would take it for a new one.
            return Err(outside());
        }
        let over = Mutex::new(Over {
            len,
            floor: len,
            pages: BTreeMap::new(),
        });
        Ok(Frozen { file, over })
    }

    fn over(&self) -> MutexGuard<'_, Over> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One page as the file has it; zeros behind its end.
    fn page(&self, number: u64, floor: u64) -> io::Result<Box<[u8; PAGE]>> {
        let mut page = Box::new([0; PAGE]);
        let begin = number * PAGE as u64;
        let there = usize::try_from(floor.saturating_sub(begin)).unwrap_or(PAGE);
        if let Some(bytes) = page.get_mut(..there.min(PAGE)) {
            self.file.read_exact_at(bytes, begin)?;
        }
        Ok(page)
    }

    /// Calls `with` for each page of a range: its number, and which of its bytes and of
    /// the range's are meant.
    fn each(
        offset: u64,
        length: usize,
        mut with: impl FnMut(u64, std::ops::Range<usize>, std::ops::Range<usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < length {
            let at = offset + done as u64;
            let begin = usize::try_from(at % PAGE as u64).unwrap_or(0);
            let count = (PAGE - begin).min(length - done);
            with(at / PAGE as u64, begin..begin + count, done..done + count)?;
            done += count;
        }
        Ok(())
    }
}

fn outside() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "behind the end of the file")
}

impl StorageBackend for Frozen {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.over().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let over = self.over();
        if offset + out.len() as u64 > over.len {
            return Err(outside());
        }
        Frozen::each(offset, out.len(), |number, of_page, of_range| {
            let kept;
            let page = match over.pages.get(&number) {
                Some(page) => page,
                None => {
                    kept = self.page(number, over.floor)?;
                    &kept
                }
            };
            if let (Some(to), Some(from)) = (out.get_mut(of_range), page.get(of_page)) {
                to.copy_from_slice(from);
            }
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut over = self.over();
        if len < over.len {
            over.floor = over.floor.min(len);
            let first = len.div_ceil(PAGE as u64);
            over.pages.split_off(&first);
            let rest = usize::try_from(len % PAGE as u64).unwrap_or(0);
            let last = over.pages.get_mut(&(len / PAGE as u64));
            if let Some(bytes) = last.and_then(|page| page.get_mut(rest..)) {
                bytes.fill(0);
            }
        }
        over.len = len;
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut over = self.over();
        if offset + data.len() as u64 > over.len {
            return Err(outside());
        }
        Frozen::each(offset, data.len(), |number, of_page, of_range| {
            if !over.pages.contains_key(&number) {
                let page = self.page(number, over.floor)?;
                over.pages.insert(number, page);
            }
            let page = over.pages.get_mut(&number);
            let to = page.and_then(|page| page.get_mut(of_page));
            if let (Some(to), Some(from)) = (to, data.get(of_range)) {
                to.copy_from_slice(from);
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// As a plain file behaves, and the file itself stays as it is.
        #[test]
        fn it_behaves_as_a_file(
            begin in 0..9000_usize,
            steps in proptest::collection::vec((0..3_u8, 0..12_000_u64, 0..5000_usize), 1..12),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            let bytes: Vec<u8> = (0..begin).map(|at| (at % 251) as u8 + 1).collect();
            std::fs::write(&path, &bytes).unwrap();
            let frozen = Frozen::of(&path).unwrap();
            let mut model = bytes.clone();
            for (step, (kind, offset, length)) in steps.into_iter().enumerate() {
                let offset = usize::try_from(offset).unwrap();
                match kind {
                    0 => {
                        frozen.set_len(offset as u64).unwrap();
                        model.resize(offset, 0);
                    }
                    1 if offset + length <= model.len() => {
                        let data = vec![step as u8 + 100; length];
                        frozen.write(offset as u64, &data).unwrap();
                        model[offset..offset + length].copy_from_slice(&data);
                    }
                    1 => proptest::prop_assert!(frozen.write(offset as u64, &vec![0; length.max(1)]).is_err() || length == 0),
                    _ => {}
                }
                let mut all = vec![0; model.len()];
                frozen.read(0, &mut all).unwrap();
                proptest::prop_assert_eq!(&all, &model);
                let len = frozen.len().unwrap();
                proptest::prop_assert_eq!(len, model.len() as u64);
            }
            proptest::prop_assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }
}
