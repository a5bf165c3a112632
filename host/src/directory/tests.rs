//! What the cache, the journal and this host's memory add up to.

use super::*;
use crate::store::embedded::Embedded;
use crate::store::file::File;
use std::sync::Arc;

const NOW: u64 = 1_900_000_000;

struct Place {
    clock: Clock,
    journal: Journal,
    store: Embedded,
    directory: Directory,
    _folder: tempfile::TempDir,
}

async fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::fixed(NOW);
    let file = Arc::new(File::open(&folder.path().join("f.redb"), NOW).unwrap());
    let journal = Journal::open(Arc::clone(&file)).await.unwrap();
    Place {
        store: Embedded::open(file, clock.clone()).await.unwrap(),
        directory: Directory::new(journal.clone(), clock.clone(), Sources::default()),
        clock,
        journal,
        _folder: folder,
    }
}

impl Place {
    async fn cache(&self, value: &str) {
        let set = self.store.set(
            "lockgate:user:42",
            value.as_bytes(),
            700_000,
            Condition::Always,
        );
        assert!(set.await.unwrap());
    }

    async fn uncache(&self) {
        self.store
            .delete(&["lockgate:user:42".to_owned()])
            .await
            .unwrap();
    }

    async fn look(&self) -> Known {
        lookup(&self.directory, self, 42).await
    }
}

fn again(place: &Place) -> Directory {
    let (journal, clock) = (place.journal.clone(), place.clock.clone());
    Directory::new(journal, clock, Sources::default())
}

async fn lookup(directory: &Directory, place: &Place, user_id: u32) -> Known {
    let answer = directory.lookup(&place.store, user_id, Reach::Cache).await;
    assert!(!answer.degraded);
    answer.known
}

fn entry(is_active: bool, checked_at: u64) -> String {
    serde_json::json!({
        "is_active": is_active, "email": "ada@example.org", "role": "admin",
        "checked_at": checked_at,
    })
    .to_string()
}

fn ada() -> Known {
    Known::Active {
        email: "ada@example.org".into(),
        role: "admin".into(),
    }
}

#[tokio::test]
async fn an_active_entry_is_believed_for_a_minute() {
    let place = place().await;
    assert_eq!(place.look().await, Known::Unknown);
    place.cache(&entry(true, NOW)).await;
    assert_eq!(place.look().await, ada());
    place.clock.set(NOW + 60);
    assert_eq!(place.look().await, ada());
    place.clock.set(NOW + 61);
    assert_eq!(place.look().await, Known::Unknown);
    place.cache(&entry(true, NOW + 122)).await;
    assert_eq!(place.look().await, Known::Unknown, "too far ahead");
}

#[tokio::test]
async fn a_disabled_user_stays_so_when_the_cache_is_gone_and_after_a_restart() {
    let place = place().await;
    place.cache(&entry(false, NOW)).await;
    assert_eq!(place.look().await, Known::Disabled);
    place.uncache().await;
    assert_eq!(place.look().await, Known::Disabled);
    let again = again(&place);
    assert_eq!(lookup(&again, &place, 42).await, Known::Disabled);
    assert_eq!(lookup(&again, &place, 43).await, Known::Unknown);
    place.clock.set(NOW + REMEMBERED);
    assert_eq!(place.look().await, Known::Unknown);
}

#[tokio::test]
async fn only_a_newer_reading_makes_a_disabled_user_active() {
    let place = place().await;
    place.cache(&entry(false, NOW)).await;
    place.look().await;
    place.cache(&entry(true, NOW)).await;
    assert_eq!(place.look().await, Known::Disabled);
    place.clock.set(NOW + 10);
    place.cache(&entry(true, NOW + 10)).await;
    assert_eq!(place.look().await, ada());
    place.uncache().await;
    assert_eq!(place.look().await, Known::Unknown);
    let again = again(&place);
    assert_eq!(lookup(&again, &place, 42).await, Known::Unknown);
}

#[tokio::test]
async fn an_old_disabled_entry_still_refuses() {
    let place = place().await;
    place.cache(&entry(false, NOW - 600_000)).await;
    assert_eq!(place.look().await, Known::Disabled);
}

#[tokio::test]
async fn a_disabled_user_that_the_store_has_lost_is_brought_back() {
    let place = place().await;
    place.cache(&entry(false, NOW)).await;
    place.look().await;
    place.uncache().await;
    place.directory.repair(&place.store).await.unwrap();
    let value = place.store.get("lockgate:user:42").await.unwrap().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&value).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&entry(false, NOW)).unwrap();
    assert_eq!(value, expected);
}

#[tokio::test]
async fn the_repair_believes_a_newer_reading() {
    let place = place().await;
    place.cache(&entry(false, NOW)).await;
    place.look().await;
    place.clock.set(NOW + 5);
    place.cache(&entry(true, NOW + 5)).await;
    place.directory.repair(&place.store).await.unwrap();
    place.uncache().await;
    place.directory.repair(&place.store).await.unwrap();
    assert_eq!(place.look().await, Known::Unknown);
}

#[tokio::test]
async fn values_of_others_count_as_absent() {
    let place = place().await;
    for value in [
        "",
        "{}",
        "[]",
        "null",
        "\u{80}\u{4}pickle",
        r#"{"is_active":"true"}"#,
        r#"{"is_active":true,"email":"ada@example.org","role":"admin"}"#,
        r#"{"is_active":true,"email":"ada@example.org","role":"root","checked_at":1900000000}"#,
        r#"{"is_active":true,"email":"ada","role":"user","checked_at":1900000000}"#,
        r#"{"is_active":true,"role":"user","checked_at":1900000000}"#,
        r#"{"is_active":true,"email":"ada@example.org","role":"user","checked_at":"soon"}"#,
        r#"{"is_active":true,"email":"ada@example.org","role":"user","checked_at":-1}"#,
    ] {
        place.cache(value).await;
        assert_eq!(place.look().await, Known::Unknown, "{value:?}");
    }
    let text = r#"{"is_active":true,"email":"ada@example.org","role":"admin","checked_at":"2030-03-17T17:46:40Z"}"#;
    place.cache(text).await;
    assert_eq!(place.look().await, ada());
}

/// A clock that is far ahead, or somebody who writes to Redis: the refusal counts, but only
/// until something real is known.
#[tokio::test]
async fn a_refusal_of_the_future_gives_way_to_any_reading() {
    let place = place().await;
    place.cache(&entry(false, NOW + 100_000)).await;
    assert_eq!(place.look().await, Known::Disabled);
    place.clock.set(NOW + 1);
    place.cache(&entry(true, NOW + 1)).await;
    assert_eq!(place.look().await, ada());
}
