//! The records over their life, with a file, a fixed clock and a store that can fail.

use super::*;
use crate::revocation::Revocations;
use crate::store::Condition;
use crate::store::away::Away;
use crate::store::embedded::Embedded;

const NOW: u64 = 1_900_000_000;

struct Bench {
    folder: tempfile::TempDir,
    clock: Clock,
    revocations: Revocations,
    emergency: Arc<Emergency>,
    store: Embedded,
}

async fn open(folder: &std::path::Path, clock: &Clock) -> (Emergency, Revocations) {
    let file = loop {
        // The writer thread closes the file a moment after its last handle.
        match File::open(&folder.join("f"), NOW) {
            Ok(file) => break Arc::new(file),
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let journal = Journal::open(Arc::clone(&file)).await.unwrap();
    let revocations = Revocations::new(journal.clone(), clock.clone());
    (
        Emergency::open(file, journal, clock.clone()).await.unwrap(),
        revocations,
    )
}

async fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::fixed(NOW);
    let (emergency, revocations) = open(folder.path(), &clock).await;
    let shared = Arc::new(File::open(&folder.path().join("s"), NOW).unwrap());
    let store = Embedded::open(shared, clock.clone()).await.unwrap();
    Bench {
        folder,
        clock,
        revocations,
        emergency: Arc::new(emergency),
        store,
    }
}

fn draft(user_id: u32) -> Draft {
    Draft {
        user_id,
        email: "ada@example.org".into(),
        role: "user".into(),
        session_id: format!("s-{user_id}"),
        session_data: r#"{"a":1}"#.into(),
        token_format: "enhanced".into(),
        ttl: 1800,
        source_sha256: "ab".repeat(32),
        source_issued_at: Some(NOW - 5),
        source_expires_at: Some(NOW + 3600),
    }
}

#[tokio::test]
async fn a_record_is_found_by_user_and_by_token_until_its_end() {
    let bench = bench().await;
    let created = bench
        .emergency
        .create(draft(42), &bench.store)
        .await
        .unwrap();
    assert!(!created.replaced);
    assert_eq!(created.token.len(), 43);
    assert_eq!(created.record.expires_at, NOW + 1800);
    bench.clock.set(NOW + 1799);
    let found = bench.emergency.find_by_token(&created.token).unwrap();
    assert_eq!((found.user_id, found.last_accessed), (42, NOW + 1799));
    assert_eq!(found.expires_at, NOW + 1800, "an access does not extend it");
    assert!(bench.emergency.find(42, &Away).await.is_some());
    assert!(bench.emergency.find_by_token("x").is_none());
    bench.clock.set(NOW + 1800);
    assert!(bench.emergency.find_by_token(&created.token).is_none());
    assert!(bench.emergency.find(42, &bench.store).await.is_none());
}

#[tokio::test]
async fn lives_are_cut() {
    for (ttl, source, expected) in [
        (0, None, 1),
        (9999, None, 3600),
        (3600, Some(NOW + 10), 70),
        (3600, Some(NOW - 59), 1),
    ] {
        let draft = Draft {
            ttl,
            source_expires_at: source,
            ..draft(1)
        };
        let record = draft.record(String::new(), NOW * 1000).unwrap();
        assert_eq!(record.expires_at, NOW + expected, "{ttl} {source:?}");
    }
}

#[tokio::test]
async fn bad_drafts_change_nothing() {
    let bench = bench().await;
    for bad in [
        Draft {
            user_id: 0,
            ..draft(1)
        },
        Draft {
            email: String::new(),
            ..draft(1)
        },
        Draft {
            email: "x".repeat(600),
            ..draft(1)
        },
        Draft {
            role: "root".into(),
            ..draft(1)
        },
        Draft {
            session_id: "12".into(),
            ..draft(1)
        },
        Draft {
            session_data: "[]".into(),
            ..draft(1)
        },
        Draft {
            session_data: "{".into(),
            ..draft(1)
        },
        Draft {
            session_data: format!(r#"{{"a":"{}"}}"#, "x".repeat(16_384)),
            ..draft(1)
        },
        Draft {
            token_format: "other".into(),
            ..draft(1)
        },
        Draft {
            source_sha256: "AB".repeat(32),
            ..draft(1)
        },
        Draft {
            source_expires_at: Some(NOW - 60),
            ..draft(1)
        },
    ] {
        let result = bench.emergency.create(bad.clone(), &bench.store).await;
        assert!(matches!(result, Err(Fault::Invalid(_))), "{bad:?}");
    }
    assert_eq!(bench.emergency.report().active, 0);
}

#[tokio::test]
async fn records_survive_a_restart_and_the_ended_do_not() {
    let bench = bench().await;
    let short = Draft {
        ttl: 10,
        ..draft(2)
    };
    let token = bench.emergency.create(draft(1), &Away).await.unwrap().token;
    bench.emergency.create(short, &Away).await.unwrap();
    bench.clock.set(NOW + 20);
    let Bench {
        folder,
        clock,
        emergency,
        revocations,
        store,
    } = bench;
    drop((emergency, revocations));
    let (emergency, revocations) = open(folder.path(), &clock).await;
    assert_eq!(emergency.report().active, 1);
    assert_eq!(emergency.report().pending, 1);
    assert!(emergency.find_by_token(&token).is_some());
    emergency.resync(&revocations, &store).await;
    assert_eq!(emergency.report().pending, 0);
    assert!(store.get("lockgate:fallback:1").await.unwrap().is_some());
    assert!(store.get("lockgate:fallback:2").await.unwrap().is_none());
}

#[tokio::test]
async fn a_full_store_drops_the_ended_and_then_the_least_used() {
    let bench = bench().await;
    for user_id in 1..=1000 {
        let ttl = if user_id == 500 { 5 } else { 1800 };
        bench
            .emergency
            .create(
                Draft {
                    ttl,
                    ..draft(user_id)
                },
                &Away,
            )
            .await
            .unwrap();
    }
    bench.clock.set(NOW + 10);
    bench.emergency.create(draft(2000), &Away).await.unwrap();
    let evicted = |report: &Report| {
        report
            .counts
            .iter()
            .find(|(name, _)| *name == "sessions_evicted")
            .unwrap()
            .1
    };
    assert_eq!(
        evicted(&bench.emergency.report()),
        0,
        "the ended one made room"
    );
    for user_id in (1..=1000).filter(|id| *id != 7 && *id != 500) {
        bench.emergency.find(user_id, &Away).await.unwrap();
    }
    bench.emergency.create(draft(2001), &Away).await.unwrap();
    assert!(bench.emergency.find(7, &Away).await.is_none());
    assert!(bench.emergency.find(8, &Away).await.is_some());
    let report = bench.emergency.report();
    assert_eq!((report.active, evicted(&report)), (1000, 1));
}

#[tokio::test]
async fn copies_leave_what_matters_of_a_live_record() {
    let bench = bench().await;
    let created = bench
        .emergency
        .create(draft(42), &bench.store)
        .await
        .unwrap();
    bench.clock.set(NOW + 100);
    let copy = Draft {
        session_id: "s-other".into(),
        session_data: r#"{"b":2}"#.into(),
        source_sha256: "cd".repeat(32),
        ..draft(42)
    };
    let record = copy
        .clone()
        .record("x".into(), bench.clock.millis())
        .unwrap();
    bench.emergency.merge(record, &bench.store).await.unwrap();
    let found = bench.emergency.find_by_token(&created.token).unwrap();
    assert_eq!(found.session_id, "s-42");
    assert_eq!((found.created_at, found.expires_at), (NOW, NOW + 1800));
    assert_eq!(found.source_sha256, created.record.source_sha256);
    assert_eq!(found.session_data["b"], 2);
    assert!(bench.emergency.due(7));
    bench.clock.set(NOW + 159);
    assert!(!bench.emergency.due(7));
    bench.clock.set(NOW + 160);
    assert!(bench.emergency.due(7));
}

#[tokio::test]
async fn removing_asks_whose_it_is() {
    let bench = bench().await;
    bench
        .emergency
        .create(draft(42), &bench.store)
        .await
        .unwrap();
    assert!(
        !bench
            .emergency
            .remove(42, Some("s-other"), &bench.store)
            .await
            .unwrap()
    );
    assert!(
        bench
            .emergency
            .remove(42, Some("s-42"), &bench.store)
            .await
            .unwrap()
    );
    assert!(
        bench
            .emergency
            .remove(42, None, &bench.store)
            .await
            .unwrap(),
        "none is fine"
    );
    assert!(bench.emergency.find(42, &bench.store).await.is_none());
}

#[tokio::test]
async fn what_was_removed_while_away_does_not_come_back() {
    let bench = bench().await;
    bench
        .emergency
        .create(draft(42), &bench.store)
        .await
        .unwrap();
    bench.clock.set(NOW + 1);
    bench.emergency.remove(42, None, &Away).await.unwrap();
    assert!(bench.emergency.find(42, &bench.store).await.is_none());
    bench.clock.set(NOW + 2);
    bench
        .emergency
        .create(draft(42), &bench.store)
        .await
        .unwrap();
    assert!(bench.emergency.find(42, &bench.store).await.is_some());
}

#[tokio::test]
async fn updates_need_a_live_record() {
    let bench = bench().await;
    let update = bench
        .emergency
        .update(42, "{}", "mixed", &bench.store)
        .await;
    assert!(!update.unwrap());
    bench
        .emergency
        .create(draft(42), &bench.store)
        .await
        .unwrap();
    let bad = bench
        .emergency
        .update(42, "no", "mixed", &bench.store)
        .await;
    assert!(matches!(bad, Err(Fault::Invalid(_))));
    assert!(
        bench
            .emergency
            .update(42, r#"{"x":1}"#, "mixed", &bench.store)
            .await
            .unwrap()
    );
    let found = bench.emergency.find(42, &bench.store).await.unwrap();
    assert_eq!(
        (found.token_format.as_str(), &found.session_data["x"]),
        ("mixed", &1.into())
    );
}

#[tokio::test]
async fn the_newer_of_two_hosts_records_wins_and_revoked_ones_are_not_carried_over() {
    let here = bench().await;
    let there = bench().await;
    here.emergency.create(draft(1), &Away).await.unwrap();
    here.emergency.create(draft(2), &Away).await.unwrap();
    here.emergency.create(draft(3), &Away).await.unwrap();
    there.clock.set(NOW + 5);
    let newer = Draft {
        session_id: "s-new".into(),
        ..draft(1)
    };
    there.emergency.create(newer, &here.store).await.unwrap();
    here.revocations
        .revoke_session(2, "s-2", &Away)
        .await
        .unwrap();
    here.emergency.resync(&here.revocations, &here.store).await;
    let report = here.emergency.report();
    assert_eq!(
        here.emergency.find(1, &Away).await.unwrap().session_id,
        "s-new"
    );
    assert!(here.emergency.find(2, &Away).await.is_none());
    assert!(
        here.store
            .get("lockgate:fallback:2")
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        here.store
            .get("lockgate:fallback:3")
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!((report.active, report.pending), (2, 0));
    assert!(report.counts.contains(&("fallback_activations", 1)));
    assert!(report.counts.contains(&("redis_recoveries", 1)));
    assert!(
        there.emergency.find(3, &here.store).await.is_some(),
        "records are shared"
    );
}

#[tokio::test]
async fn what_others_wrote_there_is_not_believed_blindly() {
    let bench = bench().await;
    let good = draft(42).record("x".into(), NOW * 1000).unwrap();
    for bad in [
        Record {
            user_id: 43,
            ..good.clone()
        },
        Record {
            expires_at: NOW + 90_000,
            ..good.clone()
        },
        Record {
            role: "root".into(),
            ..good.clone()
        },
    ] {
        let value = serde_json::to_vec(&bad).unwrap();
        bench
            .store
            .set("lockgate:fallback:42", &value, 60, Condition::Always)
            .await
            .unwrap();
        assert!(
            bench.emergency.find(42, &bench.store).await.is_none(),
            "{bad:?}"
        );
    }
}

#[tokio::test]
async fn what_was_removed_while_away_is_taken_back_unless_it_is_newer() {
    let bench = bench().await;
    for user_id in [41, 42] {
        bench
            .emergency
            .create(draft(user_id), &bench.store)
            .await
            .unwrap();
    }
    bench.clock.set(NOW + 1);
    for user_id in [41, 42] {
        bench.emergency.remove(user_id, None, &Away).await.unwrap();
    }
    let newer = draft(42).record("x".into(), (NOW + 2) * 1000).unwrap();
    let value = serde_json::to_vec(&newer).unwrap();
    bench
        .store
        .set("lockgate:fallback:42", &value, 60, Condition::Always)
        .await
        .unwrap();
    bench
        .emergency
        .resync(&bench.revocations, &bench.store)
        .await;
    assert_eq!(bench.store.get("lockgate:fallback:41").await, Ok(None));
    assert_eq!(
        bench.store.get("lockgate:fallback:42").await,
        Ok(Some(value))
    );
    assert!(bench.emergency.find(41, &bench.store).await.is_none());
    assert_eq!(
        bench
            .emergency
            .find(42, &bench.store)
            .await
            .unwrap()
            .token_sha256,
        "x"
    );
}
