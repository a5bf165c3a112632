//! Instances keep apart: what one request left in its memory no other request finds,
//! unless they share the instance on purpose; and what is thrown away is gone, from the
//! memory of the process too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lockgate_tests::component::{self, Probe, version_text};
use lockgate_tests::memory::occurrences;
use lockgate_tests::wait::eventually;
use lockgate_tests::{Answer, Host, Service};

const HERE: Service = Service::Coordinator;

async fn probe(limits: &str) -> Arc<Host> {
    Arc::new(component::probe_with_limits(HERE, limits).await)
}

async fn ask(host: &Host, path: &str) -> Answer {
    host.get(HERE, path).send().await
}

async fn text(host: &Host, path: &str) -> String {
    ask(host, path).await.expect(200).text()
}

async fn number(host: &Host, path: &str) -> u32 {
    text(host, path).await.parse().expect("a number")
}

/// A seed that no other test of this process has had.
fn seed() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let process = u64::from(std::process::id());
    (process << 32) + NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What the probe plants for a seed. The request does not hold it.
fn pattern(seed: u64) -> Vec<u8> {
    let byte = |index: u64| {
        let step = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (seed ^ 0x5ca1_ab1e_0ddb_a115).wrapping_add(step);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as u8
    };
    (1..=32).map(byte).collect()
}

/// Plants in a static, on the heap and in memory that the instance grows by, then
/// looks for it in later requests, in memory that they grow by too.
async fn plant_and_scan(host: &Host) -> u32 {
    let seed = seed();
    let planted = text(host, &format!("/plant?seed={seed}&pages=16")).await;
    assert_eq!(planted, "planted");
    let mut found = 0;
    for pages in [0, 16, 32] {
        found += number(host, &format!("/scan?seed={seed}&pages={pages}")).await;
    }
    found
}

async fn rounds(host: &Arc<Host>, callers: u32, rounds: u32) -> Vec<u32> {
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let host = Arc::clone(host);
        calls.spawn(async move {
            let mut found = 0;
            for _ in 0..rounds {
                found += plant_and_scan(&host).await;
            }
            found
        });
    }
    calls.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_reuse_1_no_request_finds_what_another_left() {
    let host = probe("reuse = 1").await;
    assert_eq!(rounds(&host, 6, 30).await, [0; 6]);
}

#[tokio::test]
async fn with_reuse_128_the_next_request_does_find_it() {
    // One instance, whichever processor asks. Three copies, found by three searches: the
    // search itself works.
    let host = probe("reuse = 128\nwarm = 0\nin_flight = 1").await;
    assert_eq!(rounds(&host, 1, 1).await, [9]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_instance_finds_nothing_of_a_worn_or_a_failed_one() {
    // One instance at a time, so that the next one gets the place of the last.
    let host = probe("reuse = 2\nwarm = 0\nin_flight = 1").await;
    for end in ["/version", "/trap", "/panic", "/loop", "/allocate"] {
        for _ in 0..2 {
            let seed = seed();
            text(&host, &format!("/plant?seed={seed}&pages=16")).await;
            ask(&host, end).await;
            let path = format!("/scan?seed={seed}&pages=16");
            assert_eq!(number(&host, &path).await, 0, "after {end}");
            // Wears this one out as well.
            assert_eq!(number(&host, &path).await, 0, "after {end}");
        }
    }
}

/// The name of the instance that answered, and how many requests it had then.
async fn who(host: &Host) -> (String, u32) {
    let text = text(host, "/who").await;
    let (name, count) = text.split_once(' ').expect("a name and a number");
    (name.to_owned(), count.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_answers_exactly_as_often_as_it_may() {
    let host = probe("reuse = 3").await;
    let mut seen: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for _ in 0..60 {
        let (name, count) = who(&host).await;
        seen.entry(name).or_default().push(count);
    }
    // The last ones may have answered less often so far.
    let whole = seen.values().filter(|counts| counts.len() == 3).count();
    assert!(whole >= 15, "{seen:?}");
    for counts in seen.values() {
        assert!([1, 2, 3].starts_with(counts), "{seen:?}");
    }
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let host = Arc::clone(&host);
        calls.spawn(async move {
            for _ in 0..30 {
                assert!(number(&host, "/count").await <= 3);
            }
        });
    }
    calls.join_all().await;
}

/// Waits until so many instances of the service are alive.
async fn alive(host: &Host, wanted: f64) {
    eventually(&format!("{wanted} instances are alive"), async || {
        let alive = host.metric(HERE, "lockgate_instances").await;
        if alive == wanted { Ok(()) } else { Err(alive) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pool_is_warm_from_the_start_and_fills_up_again() {
    let host = probe("warm = 3\nreuse = 1").await;
    assert_eq!(host.metric(HERE, "lockgate_instances").await, 3.0);
    for _ in 0..3 {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let host = Arc::clone(&host);
            calls.spawn(async move { text(&host, "/sleep?ms=1000").await });
        }
        assert_eq!(calls.join_all().await, vec![version_text(1); 10]);
        alive(&host, 3.0).await;
    }
}

#[tokio::test]
async fn a_fault_retires_its_instance() {
    let host = probe("warm = 1\nreuse = 1000").await;
    for fault in [
        "/trap",
        "/panic",
        "/loop",
        "/sleep?ms=60000",
        "/status?code=1",
    ] {
        let (before, _) = who(&host).await;
        let (same, count) = who(&host).await;
        assert_eq!((same, count), (before.clone(), 2));
        ask(&host, fault)
            .await
            .expect_error(503, "service_unavailable");
        // Its replacement is the only one.
        alive(&host, 1.0).await;
        let (after, count) = who(&host).await;
        assert_ne!(after, before, "after {fault}");
        assert_eq!(count, 1, "after {fault}");
        ask(&host, "/trap").await;
        alive(&host, 1.0).await;
    }
}

/// Requests that hold an instance each and leave the pattern in it.
async fn plant_at_once(host: &Arc<Host>, seed: u64, requests: usize, milliseconds: u32) {
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..requests {
        let host = Arc::clone(host);
        let path = format!("/plant?seed={seed}&pages=16&ms={milliseconds}");
        calls.spawn(async move { text(&host, &path).await });
    }
    calls.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_of_a_revision_is_gone_after_its_drain() {
    let host = probe("warm = 2\nreuse = 1000").await;
    let [first, second, third] = [1, 2, 3].map(|version| Probe::version(version).bytes());
    // All are compiled once, so that the swaps below are short.
    for bytes in [&second, &third, &first] {
        host.swap(HERE, bytes).await;
    }
    let (short, long) = (seed(), seed());
    plant_at_once(&host, short, 8, 700).await;
    let planted = occurrences(host.pid(), &pattern(short));
    assert!(planted >= 3 * 4, "several instances hold it: {planted}");
    let open = {
        let host = Arc::clone(&host);
        tokio::spawn(async move { plant_at_once(&host, long, 1, 4000).await })
    };
    eventually("the long request has planted", async || {
        let found = occurrences(host.pid(), &pattern(long));
        if found >= 3 { Ok(()) } else { Err(found) }
    })
    .await;
    for (bytes, version) in [(&second, 2), (&third, 3)] {
        host.swap(HERE, bytes).await;
        assert_eq!(text(&host, "/version").await, version_text(version));
    }
    open.await
        .expect("the long request ends on the old revision");
    // The last revision and the one that can be gone back to.
    eventually("the old revision is gone", async || {
        let alive = host.metric(HERE, "lockgate_revisions_alive").await;
        if alive == 2.0 { Ok(()) } else { Err(alive) }
    })
    .await;
    alive(&host, 2.0).await;
    for seed in [short, long] {
        assert_eq!(occurrences(host.pid(), &pattern(seed)), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_instances_of_the_revision_kept_for_a_rollback_are_gone() {
    let host = probe("warm = 2\nreuse = 1000").await;
    let seed = seed();
    plant_at_once(&host, seed, 8, 700).await;
    assert!(occurrences(host.pid(), &pattern(seed)) >= 3 * 4);
    host.swap(HERE, &Probe::version(2).bytes()).await;
    alive(&host, 2.0).await;
    assert_eq!(occurrences(host.pid(), &pattern(seed)), 0);
}
