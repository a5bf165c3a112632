//! The schedule and the judgement, on a paused clock and with scripted outcomes;
//! what goes over the network is tested beside it.

use super::*;
use crate::breaker::Position;
use crate::config::PeerConfig;

const NAME: &str = "jwt-token-adapter";

fn peers() -> Arc<Peers> {
    let peer = |name: &str, port: u16, wanted: bool| Peer {
        name: name.into(),
        target: Target::new(&PeerConfig {
            name: name.into(),
            url: format!("http://user:secret@127.0.0.1:{port}"),
        }),
        wanted,
        known: Mutex::new(Known::new()),
    };
    Arc::new(Peers {
        clock: Clock::fixed(1_000),
        peers: vec![
            peer(NAME, 8025, true),
            peer("session-validation-normalizer", 8026, false),
            peer("service-boundary-coordinator", 8029, false),
        ],
        probes: AtomicU64::new(0),
        chat: None,
    })
}

fn outcome(finding: Finding) -> Outcome {
    let took = matches!(
        finding,
        Finding::Healthy | Finding::Degraded | Finding::Odd(_)
    )
    .then_some(Duration::from_millis(2));
    Outcome { finding, took }
}

fn refused() -> Finding {
    Finding::Failed("connection refused".into())
}

/// Probes the first peer for ever; what it finds can be changed on the way.
fn run(peers: &Arc<Peers>, first: Finding) -> Arc<Mutex<Finding>> {
    let (peers, script) = (Arc::clone(peers), Arc::new(Mutex::new(first)));
    let finding = Arc::clone(&script);
    tokio::spawn(async move {
        let ask = || {
            let found = outcome(finding.lock().unwrap().clone());
            async move { found }
        };
        peers.probe(&peers.peers[0], ask).await;
    });
    script
}

fn view(peers: &Peers) -> View {
    let granted = BTreeSet::from([NAME.to_owned()]);
    peers
        .snapshot("service-boundary-coordinator", &granted)
        .remove(0)
}

async fn pass(seconds: u64) {
    // Step by step, so that every timer on the way is seen.
    for _ in 0..seconds * 10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_unknown_then_what_it_says() {
    let peers = peers();
    let before = view(&peers);
    assert_eq!((before.status, before.last_check), (Status::Unknown, None));
    run(&peers, Finding::Healthy);
    pass(1).await;
    let after = view(&peers);
    assert_eq!(after.status, Status::Healthy);
    assert_eq!(
        (after.last_check, after.response_time_ms),
        (Some(1_000), Some(2.0))
    );
    assert_eq!((after.error_count, after.error_message), (0, None));
    assert_eq!(
        (after.name.as_str(), after.port),
        ("jwt_token_adapter", 8025)
    );
    assert_eq!(after.url, "http://127.0.0.1:8025");
}

#[tokio::test(start_paused = true)]
async fn a_starting_peer_is_tried_each_second_and_then_every_ten() {
    let peers = peers();
    let script = run(&peers, refused());
    pass(4).await;
    let starting = view(&peers);
    assert_eq!(starting.status, Status::Error);
    assert_eq!(
        starting.error_message.as_deref(),
        Some("connection refused")
    );
    assert_eq!(
        (starting.error_count, peers.breakers()[0].1.failures()),
        (0, 0)
    );
    *script.lock().unwrap() = Finding::Healthy;
    pass(1).await;
    assert_eq!(view(&peers).status, Status::Healthy);
    let probes = peers.probes();
    pass(9).await;
    assert_eq!(peers.probes(), probes);
    pass(21).await;
    assert_eq!(peers.probes(), probes + 3);
}

#[tokio::test(start_paused = true)]
async fn failures_open_the_breaker_and_three_good_trials_close_it() {
    let peers = peers();
    let script = run(&peers, Finding::Healthy);
    pass(1).await;
    *script.lock().unwrap() = refused();
    pass(40).await;
    let failing = view(&peers);
    assert_eq!((failing.status, failing.error_count), (Status::Error, 4));
    pass(10).await;
    let open = view(&peers);
    assert_eq!((open.status, open.error_count), (Status::CircuitOpen, 5));
    assert_eq!(open.response_time_ms, None);
    let probes = peers.probes();
    *script.lock().unwrap() = Finding::Healthy;
    pass(50).await;
    assert_eq!(
        peers.probes(),
        probes,
        "an open breaker lets no probe through"
    );
    assert_eq!(view(&peers).status, Status::CircuitOpen);
    pass(10).await;
    assert_eq!(view(&peers).status, Status::Degraded);
    assert_eq!(peers.breakers()[0].1.position(), Position::HalfOpen);
    pass(20).await;
    assert_eq!(view(&peers).status, Status::Healthy);
    assert_eq!(peers.breakers()[0].1.position(), Position::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_bad_trial_opens_it_again() {
    let peers = peers();
    let script = run(&peers, Finding::Healthy);
    pass(1).await;
    *script.lock().unwrap() = refused();
    pass(111).await;
    assert_eq!(view(&peers).status, Status::CircuitOpen);
    assert_eq!(peers.breakers()[0].1.activations(), 2);
}

#[tokio::test(start_paused = true)]
async fn odd_answers_are_errors_that_no_breaker_counts() {
    let peers = peers();
    let script = run(&peers, Finding::Degraded);
    pass(1).await;
    assert_eq!(view(&peers).status, Status::Degraded);
    *script.lock().unwrap() = Finding::Odd("status 404".into());
    pass(100).await;
    let odd = view(&peers);
    assert_eq!((odd.status, odd.error_count), (Status::Error, 10));
    assert_eq!(odd.error_message.as_deref(), Some("status 404"));
    assert_eq!(peers.breakers()[0].1.failures(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_sees_granted_peers_only_and_never_oneself() {
    let peers = peers();
    run(&peers, Finding::Healthy);
    pass(1).await;
    let none = peers.snapshot("service-boundary-coordinator", &BTreeSet::new());
    assert_eq!(none.len(), 2);
    assert!(
        none.iter()
            .all(|peer| peer.status == Status::Unknown && peer.last_check.is_none())
    );
    let own = peers.snapshot(NAME, &BTreeSet::from([NAME.to_owned()]));
    assert!(own.iter().all(|peer| peer.name != "jwt_token_adapter"));
    assert!(!format!("{peers:?}").contains("secret"));
}

/// Over a real socket and in real time: what is wanted is probed, nothing else is.
#[tokio::test]
async fn spawn_probes_what_is_wanted_and_stops() {
    use tokio::io::AsyncWriteExt as _;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut peers = peers();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let target = Target::new(&PeerConfig {
        name: NAME.into(),
        url,
    });
    Arc::get_mut(&mut peers).unwrap().peers[0].target = target;
    let stop = CancellationToken::new();
    peers.spawn(&stop);
    let (mut stream, _) = listener.accept().await.unwrap();
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{\"status\":\"healthy\"}";
    stream.write_all(answer).await.unwrap();
    while view(&peers).status == Status::Unknown {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(view(&peers).status, Status::Healthy);
    assert_eq!(peers.probes(), 1);
    stop.cancel();
    while Arc::strong_count(&peers) > 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_chat_service_is_asked_for_a_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws/chat", listener.local_addr().unwrap());
    let chat = Chat::new(Arc::new(chat::Target::new(&url, None).unwrap()));
    assert!(chat.look().await);
    assert!(chat.connected.load(Ordering::Relaxed));
    drop(listener);
    assert!(!chat.look().await);
    assert!(!chat.connected.load(Ordering::Relaxed));
}
