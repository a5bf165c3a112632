//! More requests than a service may have at once: so many run, so many wait, the rest
//! is refused at once; and slow calls take turns.

use std::sync::Arc;

use lockgate_tests::component::{self, version_text};
use lockgate_tests::wait::eventually;
use lockgate_tests::{Answer, Host, Service};

const HERE: Service = Service::Coordinator;

async fn probe(limits: &str) -> Arc<Host> {
    Arc::new(component::probe_with_limits(HERE, limits).await)
}

async fn ask(host: &Host, path: &str) -> Answer {
    host.get(HERE, path).send().await
}

/// One request sleeps in the service and two more come. Gives the answers in the order
/// of their arrival, each with the number of the request: 0 sleeps.
async fn three(host: &Arc<Host>, round: u32) -> Vec<(u32, Answer)> {
    let word = format!("round-{round}-");
    let mut calls = tokio::task::JoinSet::new();
    let (sleeping, path) = (Arc::clone(host), format!("/sleep?ms=400&say={word}"));
    calls.spawn(async move { (0, ask(&sleeping, &path).await) });
    eventually("the first one sleeps", async || {
        let sleeps = host.log().contains(&word);
        if sleeps { Ok(()) } else { Err(word.clone()) }
    })
    .await;
    for number in [1, 2] {
        let host = Arc::clone(host);
        calls.spawn(async move { (number, ask(&host, "/version").await) });
    }
    let mut answers = Vec::new();
    while let Some(answer) = calls.join_next().await {
        answers.push(answer.expect("a request"));
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_runs_one_waits_and_the_third_is_refused_at_once() {
    let host = probe("in_flight = 1\nqueue = 1").await;
    for round in 0..20 {
        let answers = three(&host, round).await;
        let (_, first) = &answers[0];
        // On a machine that stands still the sleeper may have left too early.
        if answers[0].0 == 0 || first.status == 200 {
            continue;
        }
        first.clone().expect_error(503, "service_unavailable");
        let seconds: u32 = first.header("retry-after").parse().expect("whole seconds");
        assert!(seconds >= 1);
        for (number, answer) in &answers[1..] {
            assert_eq!(answer.status, 200, "request {number}: {}", answer.text());
            assert_eq!(answer.text(), version_text(1));
        }
        return;
    }
    panic!("in 20 rounds no request was refused while another slept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_queue_the_second_is_refused() {
    let host = probe("in_flight = 1\nqueue = 0").await;
    for round in 0..20 {
        let answers = three(&host, round).await;
        let refused = answers.iter().filter(|(_, a)| a.status == 503).count();
        if refused == 2 {
            return;
        }
    }
    panic!("in 20 rounds the two others were never refused while one slept");
}

/// When calls that compute for long did so: the second half of the work of each, in
/// microseconds.
async fn spans(host: &Arc<Host>) -> Vec<(u64, u64)> {
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let host = Arc::clone(host);
        calls.spawn(async move { ask(&host, "/work?ms=60").await.expect(200).text() });
    }
    let mut spans: Vec<(u64, u64)> = calls
        .join_all()
        .await
        .iter()
        .map(|text| {
            let (half, end) = text.split_once(' ').expect("two moments");
            (half.parse().unwrap(), end.parse().unwrap())
        })
        .collect();
    spans.sort_unstable();
    spans
}

fn overlap(spans: &[(u64, u64)]) -> bool {
    spans.windows(2).any(|pair| pair[1].0 < pair[0].1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_calls_take_turns_if_only_one_may_run() {
    let host = probe("slow_calls = 1").await;
    for _ in 0..3 {
        let spans = spans(&host).await;
        assert!(!overlap(&spans), "two at once: {spans:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_calls_run_at_once_if_several_may() {
    let host = probe("slow_calls = 6").await;
    eventually("two run at once", async || {
        let spans = spans(&host).await;
        if overlap(&spans) { Ok(()) } else { Err(spans) }
    })
    .await;
}
