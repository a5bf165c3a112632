//! What the plugins count. The counts outlive a swap, not a restart, and are
//! exported as metrics. It must not know what a count means.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts that one service may have.
const MAX_NAMES: usize = 64;
/// Longest name, bytes.
const MAX_NAME: usize = 64;

#[derive(Debug)]
struct Count {
    value: u64,
    metric: metrics::Counter,
}

/// The counts of every service of this process.
#[derive(Debug)]
pub struct Counters {
    services: Mutex<BTreeMap<String, Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    by_name: BTreeMap<String, Count>,
    /// A name was dropped and that was logged, once.
    dropped: bool,
}

impl Counters {
    /// Counters for these services and no others.
    pub fn new<'a>(services: impl IntoIterator<Item = &'a str>) -> Counters {
        let services = services
            .into_iter()
            .map(|name| (name.to_owned(), Counts::default()))
            .collect();
        Counters {
            services: Mutex::new(services),
        }
    }

    /// Adds to a count, which stops at the largest number. False: the name is not
    /// one of `a-z0-9_`, is too long or is one too many, and nothing was counted.
    pub fn add(&self, service: &str, name: &str, by: u64) -> bool {
        let mut services = self.lock();
        let Some(counts) = services.get_mut(service) else {
            return false;
        };
        if counts.add(service, name, by) {
            return true;
        }
        if !counts.dropped {
            counts.dropped = true;
            tracing::warn!(
                service,
                "a count was dropped: its name is not allowed, or the service has {MAX_NAMES} already"
            );
        }
        false
    }

    /// All counts of the service, by name.
    pub fn read(&self, service: &str) -> Vec<(String, u64)> {
        let services = self.lock();
        let counts = services.get(service).map(|counts| &counts.by_name);
        counts
            .into_iter()
            .flatten()
            .map(|(name, count)| (name.clone(), count.value))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Counts>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn add(&mut self, service: &str, name: &str, by: u64) -> bool {
        if let Some(count) = self.by_name.get_mut(name) {
            count.value = count.value.saturating_add(by);
            count.metric.increment(by);
            return true;
        }
        if !well_formed(name) || self.by_name.len() >= MAX_NAMES {
            return false;
        }
        let metric = metrics::counter!(
            "lockgate_plugin_count_total",
            "service" => service.to_owned(),
            "name" => name.to_owned()
        );
        metric.increment(by);
        let count = Count { value: by, metric };
        self.by_name.insert(name.to_owned(), count);
        true
    }
}

fn well_formed(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_apart_for_each_service() {
        let counters = Counters::new(["one", "two"]);
        assert!(counters.add("one", "validated", 2));
        assert!(counters.add("one", "validated", 3));
        assert!(counters.add("one", "a_first", 1));
        assert!(counters.add("two", "validated", 7));
        assert_eq!(
            counters.read("one"),
            [("a_first".to_owned(), 1), ("validated".to_owned(), 5)]
        );
        assert_eq!(counters.read("two"), [("validated".to_owned(), 7)]);
    }

    #[test]
    fn a_count_stops_at_the_largest_number() {
        let counters = Counters::new(["one"]);
        counters.add("one", "n", u64::MAX);
        assert!(counters.add("one", "n", 5));
        assert_eq!(counters.read("one"), [("n".to_owned(), u64::MAX)]);
    }

    #[test]
    fn the_sixty_fifth_name_is_dropped_and_known_ones_still_count() {
        let counters = Counters::new(["one"]);
        for number in 0..MAX_NAMES {
            assert!(counters.add("one", &format!("n{number}"), 1));
        }
        assert!(!counters.add("one", "one_more", 1));
        assert!(counters.add("one", "n0", 1));
        assert_eq!(counters.read("one").len(), MAX_NAMES);
    }

    #[test]
    fn odd_names_and_unknown_services_are_dropped() {
        let counters = Counters::new(["one"]);
        let long = "a".repeat(MAX_NAME + 1);
        for name in ["", "Upper", "dash-ed", "sp ace", "é", "a\n", long.as_str()] {
            assert!(!counters.add("one", name, 1), "{name:?}");
        }
        assert!(counters.add("one", &"a".repeat(MAX_NAME), 1));
        assert!(!counters.add("other", "n", 1));
        assert!(counters.read("other").is_empty());
    }
}
