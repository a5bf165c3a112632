//! Plugins in Python and JavaScript, built from packages: they answer as others do, and a
//! swap of them loses no request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lockgate_tests::component::with_note;
use lockgate_tests::project::{Project, Served, lockgate};
use lockgate_tests::{User, now};
use reqwest::Method;
use serde_json::json;

/// Makes, builds, serves, asks and swaps the example of a language.
async fn serves_and_swaps(language: &str) {
    let project = Project::make_kept(&format!("{language}-example"), language);
    let component = project.build(&[]);
    let shown = lockgate(&["inspect", component.to_str().unwrap()]);
    let grants = format!(
        "services.{}.grants.interfaces = [\"jwt\"]",
        project.name.as_str()
    );
    assert!(shown.contains(&grants), "{shown}");
    assert!(shown.contains("would take it"), "{shown}");
    let served = Arc::new(Served::start(&project, &component).await);
    answers(&served).await;
    swaps(&served, &std::fs::read(&component).unwrap()).await;
    answers(&served).await;
}

async fn answers(served: &Served) {
    let hello = served.call(Method::GET, "/hello?name=Ada%20L").send().await;
    assert_eq!(hello.expect(200).json(), json!({ "hello": "Ada L" }));
    let health = served.call(Method::GET, "/health").send().await.expect(200);
    let health = health.json();
    assert_eq!(health["status"], "healthy");
    assert_eq!(health["service"], format!("{}-service", served.name));
    let begins = &health["timestamp"].as_str().unwrap()[..2];
    assert_eq!(begins, "20", "the guest has a clock: {health}");

    let user = User::new(42);
    let tokens = &served.host.tokens;
    let token = |token: &str| served.call(Method::POST, "/token").bearer(token);
    let good = token(&tokens.access(&user)).send().await.expect(200).json();
    assert_eq!(good["user_id"], 42, "{good}");
    assert_eq!(good["email"], user.email, "{good}");
    assert!(good["expires_at"].as_i64().unwrap() > now(), "{good}");
    let expired = token(&tokens.expired(&user)).send().await;
    expired.expect_error(401, "token_expired");
    let none = served.call(Method::POST, "/token").send().await;
    none.expect_error(401, "token_missing");
    let nonsense = token("a.b.c").send().await;
    nonsense.expect_error(401, "invalid_token");
    let nothing = served.call(Method::GET, "/nothing").send().await;
    nothing.expect_error(404, "invalid_request");
    let verb = served.call(Method::DELETE, "/token").send().await;
    verb.expect_error(405, "invalid_request");
}

/// Swaps under requests: none is lost, none is answered by anything but the plugin.
/// The callers pause between requests: a new component compiles with what processor time
/// the requests leave, and these are large.
async fn swaps(served: &Arc<Served>, component: &[u8]) {
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..4 {
        let (served, stop) = (Arc::clone(served), Arc::clone(&stop));
        callers.spawn(async move {
            let path = format!("/hello?name=n{number}");
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = served.call(Method::GET, &path).send().await.expect(200);
                assert_eq!(answer.json()["hello"], format!("n{number}"));
                count += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            count
        });
    }
    for note in ["first", "second"] {
        served.swap(&with_note(component, note)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for count in callers.join_all().await {
        assert!(count > 0, "each caller had answers");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_serves_and_swaps() {
    serves_and_swaps("python").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn javascript_serves_and_swaps() {
    serves_and_swaps("js").await;
}
