//! What Redis said lately, so that it is not asked for every request. An answer counts
//! for one second at most, only while a link tells of changes, and never once a change
//! was told or made here. It asks nothing itself.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

/// An answer is at most this old, counted from before the question.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Keys and values that are kept, bytes.
const CAPACITY: u64 = 16 * 1024 * 1024;
/// Longer values are not kept, bytes.
const MAX_VALUE: usize = 16 * 1024;
/// What an entry costs besides its key and value, bytes.
const ENTRY: usize = 128;
/// Counters of changes; keys that share one are forgotten together.
const MARKS: usize = 4096;

/// One answer.
#[derive(Debug, Clone)]
struct Entry {
    value: Option<Arc<[u8]>>,
    /// A missing value really is missing, and not of another type.
    exact: bool,
    asked: Instant,
    link: u64,
    mark: u64,
}

/// A link that tells of changes.
#[derive(Debug)]
struct Link {
    alive: Arc<AtomicBool>,
    number: u64,
}

/// Taken before Redis is asked, so that an answer that was overtaken by a change is not
/// kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    asked: Instant,
    link: u64,
    mark: u64,
}

/// What is known of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Redis said so within the last second.
    Value(Option<Vec<u8>>),
    /// It has to be asked.
    Nothing,
}

/// The cache.
pub struct Cache {
    entries: moka::sync::Cache<String, Entry>,
    marks: Box<[AtomicU64]>,
    hasher: RandomState,
    link: ArcSwapOption<Link>,
    links: AtomicU64,
    hits: metrics::Counter,
    misses: metrics::Counter,
    bypasses: metrics::Counter,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Cache")
            .field("entries", &self.entries.entry_count())
            .finish_non_exhaustive()
    }
}

impl Default for Cache {
    fn default() -> Cache {
        let weight = |key: &String, entry: &Entry| {
            let value = entry.value.as_ref().map_or(0, |value| value.len());
            u32::try_from(ENTRY + key.len() + value).unwrap_or(u32::MAX)
        };
        let counter = |result: &'static str| metrics::counter!("lockgate_cache_lookups_total", "result" => result);
        Cache {
            entries: moka::sync::Cache::builder()
                .weigher(weight)
                .max_capacity(CAPACITY)
                .time_to_live(MAX_AGE)
                .build(),
            marks: (0..MARKS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            link: ArcSwapOption::empty(),
            links: AtomicU64::new(0),
            hits: counter("hit"),
            misses: counter("miss"),
            bypasses: counter("bypass"),
        }
    }
}

impl Cache {
    /// From now on a link tells of changes, until its flag says otherwise. What was kept
    /// before is of no use any more.
    pub fn open(&self, alive: Arc<AtomicBool>) {
        let number = self.links.fetch_add(1, Ordering::SeqCst) + 1;
        self.link.store(Some(Arc::new(Link { alive, number })));
    }

    /// Nobody tells of changes any more.
    pub fn close(&self) {
        self.link.store(None);
    }

    /// A key may have changed.
    pub fn forget(&self, key: &[u8]) {
        self.mark(key).fetch_add(1, Ordering::SeqCst);
    }

    /// Any key may have changed.
    pub fn forget_all(&self) {
        for mark in &self.marks {
            mark.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// What is known of a key. Where only an exact answer will do, one that cannot tell
    /// a missing value from another type does not count.
    pub(super) fn look(&self, key: &str, exact: bool) -> Known {
        let Some(link) = self.living() else {
            self.bypasses.increment(1);
            return Known::Nothing;
        };
        let good = self.entries.get(key).filter(|entry| {
            entry.link == link
                && entry.mark == self.mark(key.as_bytes()).load(Ordering::SeqCst)
                && entry.asked.elapsed() < MAX_AGE
                && (entry.exact || entry.value.is_some() || !exact)
        });
        match good {
            Some(entry) => {
                self.hits.increment(1);
                Known::Value(entry.value.map(|value| value.to_vec()))
            }
            None => {
                self.misses.increment(1);
                Known::Nothing
            }
        }
    }

    /// Comes before the question to Redis; none: the answer cannot be kept.
    pub(super) fn ask(&self, key: &str) -> Option<Question> {
        Some(Question {
            asked: Instant::now(),
            link: self.living()?,
            mark: self.mark(key.as_bytes()).load(Ordering::SeqCst),
        })
    }

    /// Keeps an answer.
    pub(super) fn keep(&self, key: &str, value: Option<&[u8]>, exact: bool, question: Question) {
        if value.is_some_and(|value| value.len() > MAX_VALUE) {
            return;
        }
        let entry = Entry {
            value: value.map(Arc::from),
            exact,
            asked: question.asked,
            link: question.link,
            mark: question.mark,
        };
        self.entries.insert(key.to_owned(), entry);
    }

    /// The number of the link, while it lives.
    fn living(&self) -> Option<u64> {
        let link = self.link.load();
        let link = link.as_ref()?;
        link.alive.load(Ordering::SeqCst).then_some(link.number)
    }

    #[expect(clippy::indexing_slicing, reason = "the remainder is below the length")]
    fn mark(&self, key: &[u8]) -> &AtomicU64 {
        let hash = self.hasher.hash_one(key);
        &self.marks[usize::try_from(hash % MARKS as u64).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linked() -> (Cache, Arc<AtomicBool>) {
        let cache = Cache::default();
        let alive = Arc::new(AtomicBool::new(true));
        cache.open(Arc::clone(&alive));
        (cache, alive)
    }

    fn keep(cache: &Cache, key: &str, value: Option<&[u8]>) {
        let question = cache.ask(key).unwrap();
        cache.keep(key, value, true, question);
    }

    fn value(value: &[u8]) -> Known {
        Known::Value(Some(value.to_vec()))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_counts_for_a_second_from_the_question() {
        let (cache, _alive) = linked();
        let question = cache.ask("a").unwrap();
        tokio::time::advance(Duration::from_millis(600)).await;
        cache.keep("a", Some(b"1"), true, question);
        keep(&cache, "b", None);
        assert_eq!(cache.look("a", true), value(b"1"));
        assert_eq!(cache.look("b", true), Known::Value(None));
        assert_eq!(cache.look("c", true), Known::Nothing);
        tokio::time::advance(Duration::from_millis(399)).await;
        assert_eq!(cache.look("a", true), value(b"1"));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(cache.look("a", true), Known::Nothing);
        assert_eq!(cache.look("b", true), Known::Value(None));
    }

    #[test]
    fn without_a_living_link_nothing_counts() {
        let cache = Cache::default();
        assert!(cache.ask("a").is_none());
        let (cache, alive) = linked();
        keep(&cache, "a", Some(b"1"));
        let question = cache.ask("b").unwrap();
        alive.store(false, Ordering::SeqCst);
        assert_eq!(cache.look("a", true), Known::Nothing);
        assert!(cache.ask("a").is_none());
        // What was asked over the old link does not count over the new one.
        cache.open(Arc::new(AtomicBool::new(true)));
        cache.keep("b", Some(b"1"), true, question);
        for key in ["a", "b"] {
            assert_eq!(cache.look(key, true), Known::Nothing);
        }
        keep(&cache, "a", Some(b"2"));
        assert_eq!(cache.look("a", true), value(b"2"));
        cache.close();
        assert_eq!(cache.look("a", true), Known::Nothing);
    }

    #[test]
    fn a_change_ends_an_answer_also_one_that_is_on_its_way() {
        let (cache, _alive) = linked();
        keep(&cache, "a", Some(b"1"));
        let late = cache.ask("b").unwrap();
        cache.forget(b"a");
        cache.forget(b"b");
        cache.keep("b", Some(b"old"), true, late);
        assert_eq!(cache.look("a", true), Known::Nothing);
        assert_eq!(cache.look("b", true), Known::Nothing);
        keep(&cache, "a", Some(b"2"));
        assert_eq!(cache.look("a", true), value(b"2"));
        cache.forget_all();
        assert_eq!(cache.look("a", true), Known::Nothing);
    }

    #[test]
    fn what_may_be_of_another_type_is_not_missing() {
        let (cache, _alive) = linked();
        let question = cache.ask("a").unwrap();
        cache.keep("a", None, false, question);
        assert_eq!(cache.look("a", false), Known::Value(None));
        assert_eq!(cache.look("a", true), Known::Nothing);
    }

    #[test]
    fn what_is_long_is_not_kept_and_all_together_is_bounded() {
        let (cache, _alive) = linked();
        keep(&cache, "a", Some(&[0; MAX_VALUE + 1]));
        assert_eq!(cache.look("a", true), Known::Nothing);
        for number in 0..4_000 {
            keep(&cache, &number.to_string(), Some(&[0; MAX_VALUE]));
        }
        cache.entries.run_pending_tasks();
        assert!(cache.entries.weighted_size() <= CAPACITY);
    }
}
