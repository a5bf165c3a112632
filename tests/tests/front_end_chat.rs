//! The chat page of the existing front end, as a double in a real browser, against the
//! gateway's socket behind one origin: what its script sees of every opening and every
//! end, and that users are told what they should be told.

use lockgate_tests::browser::{self, Act, Browser, Played, Site};
use lockgate_tests::tokens::set;
use lockgate_tests::{Chat, Host, HostBuilder, Service, Tokens, User, component, now};
use serde_json::{Value, json};

const NO_TOKEN: &str = "Authentication token required - no bypass allowed";
const BAD_TOKEN: &str = "Invalid authentication token format";
const REVOKED: &str = "Session validation failed";
const LOST: &str = "connection lost";

/// As it is deployed: behind a proxy on this machine that replaces the forwarding headers.
fn behind_a_proxy() -> HostBuilder {
    Host::builder().env("TRUSTED_PROXIES", "127.0.0.1/32")
}

async fn chat_of(host: &Host) -> Chat {
    let verify = format!("http://127.0.0.1:{}", host.port(Service::Jwt));
    Chat::start(host.spare_port(1), &verify).await
}

/// The page is there, its user logged in and the token stored.
fn page(token: &str) -> Act {
    Act::idle().cookie("access_token", token).stored(token)
}

fn open(act: Act) -> Act {
    act.then("open", &[])
}

fn chat(act: Act, text: &str) -> Act {
    act.then("chat", &[json!(text), json!("smart-router")])
}

/// The socket was open, and ended so; the page has not tried again.
#[track_caller]
fn ended(played: &Played, code: u16, reason: Option<&str>, notice: &str) {
    let chat = &played.report["chat"];
    let closed = &chat["closed"];
    assert_eq!(closed["code"], code, "{chat}");
    if let Some(reason) = reason {
        assert_eq!(closed["reason"], reason, "{chat}");
    }
    // A page that still sends may not come to answer the close frame.
    if code != 1009 {
        assert_eq!(closed["clean"], code != 1006, "{chat}");
    }
    assert_eq!(chat["notice"], notice, "{chat}");
    assert_eq!(chat["opened"], 1, "it never opens a lost socket again");
}

/// Closed before a word was said.
#[track_caller]
fn refused(played: &Played, reason: &str) {
    ended(played, 1008, Some(reason), LOST);
    assert_eq!(played.report["chat"]["came"], json!([]));
}

/// The one handshake that went through the origin.
#[track_caller]
fn handshake(seen: &[browser::Seen]) -> &browser::Seen {
    let mut sockets = seen.iter().filter(|seen| seen.path.starts_with("/ws/"));
    let (Some(one), None) = (sockets.next(), sockets.next()) else {
        panic!("no handshake, or more than one: {seen:?}");
    };
    let (status, _) = one.answer.as_ref().expect("it was answered");
    assert_eq!(
        *status, 101,
        "a browser sees nothing of a refused handshake"
    );
    one
}

/// Plays an act; meanwhile, when the page holds, the test does something.
async fn meanwhile<T>(
    site: &Site,
    browser: &mut Browser,
    act: Act,
    does: impl Future<Output = T>,
) -> (Played, T) {
    tokio::join!(browser.play(site, act), async {
        let hold = site.held().await;
        let done = does.await;
        hold.go_on();
        done
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_opens_its_socket_and_chats() {
    let host = behind_a_proxy()
        .env("CHAT_REPLY_TIMEOUT_SECONDS", "2")
        .start()
        .await;
    let upstream = chat_of(&host).await;
    let (site, mut browser) = browser::open(&host).await;
    let user = User::new(42);
    let token = host.tokens.access(&user);
    let act = [
        "Hi <b>\u{e4}\u{20ac}\u{1f600}</b>",
        "fail",
        "empty",
        "silent",
        "twice",
    ]
    .into_iter()
    .fold(open(page(&token)), chat);
    let played = browser
        .play(&site, act.then("close", &[]).then("closed", &[]))
        .await;

    let results = played.report["results"].as_array().expect("results");
    // The waiting sign before and after, and the answer: each message has ended it once.
    let answers: Vec<&Value> = results.iter().filter(|result| result.is_array()).collect();
    assert_eq!(answers.len(), 5);
    for answer in &answers {
        assert_eq!((&answer[0], &answer[1]), (&json!(true), &json!(false)));
    }
    assert_eq!(answers[0][2], "echo: Hi <b>\u{e4}\u{20ac}\u{1f600}</b>");
    assert_eq!(answers[1][2], "error: The model is away");
    for unanswered in &answers[2..4] {
        let text = unanswered[2].as_str().expect("an answer");
        assert!(text.starts_with("error: ") && text.len() > 8, "{text}");
    }
    assert_eq!(answers[4][2], "echo: twice");
    let chat = &played.report["chat"];
    assert_eq!(chat["session"], user.session_id);
    assert_eq!(
        chat["answers"].as_array().map(Vec::len),
        Some(5),
        "one answer each: {chat}"
    );
    let first = [
        "connection_confirmed",
        "ready_confirmed",
        "message_received",
        "chat_response",
    ];
    assert_eq!(
        chat["came"].as_array().map(|came| &came[..4]),
        Some(&first.map(Value::from)[..])
    );
    // Silent after its own end.
    ended(&played, 1000, None, "");

    let seen = handshake(&played.seen);
    assert_eq!(seen.path, format!("/ws/chat?token={token}"));
    assert_eq!(seen.headers["cookie"], format!("access_token={token}"));
    assert_eq!(seen.headers["origin"], site.url("").as_str());
    assert!(!seen.headers.contains_key("sec-websocket-protocol"));
    let (_, answer) = seen.answer.as_ref().expect("it was answered");
    assert!(!answer.contains_key("sec-websocket-protocol"));
    assert_eq!(upstream.seen().messages.len(), 5);
    assert!(!host.log().contains(&token), "the log holds a token");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_is_told_why() {
    let host = behind_a_proxy().start().await;
    let (site, mut browser) = browser::open(&host).await;
    let user = User::new(42);
    let stranger = Tokens::new(b"another key of at least thirty-two bytes");
    for token in [
        host.tokens.expired(&user),
        stranger.access(&user),
        host.tokens.marked_refresh(&user),
        "a/b+c d&e=%zz#".to_owned(),
    ] {
        let act = open(Act::idle().stored(&token).cookie("access_token", "x"));
        refused(&browser.play(&site, act).await, BAD_TOKEN);
    }
    // Neither stored nor as a cookie; and an empty one.
    refused(&browser.play(&site, open(Act::idle())).await, NO_TOKEN);
    let empty = open(Act::idle().stored(""));
    refused(&browser.play(&site, empty).await, NO_TOKEN);

    let token = host.tokens.access(&user);
    let logout = host.post(Service::Coordinator, "/api/v1/auth/logout");
    logout.bearer(&token).send().await.expect(204);
    refused(&browser.play(&site, open(page(&token))).await, REVOKED);
    // What a page says into a closed socket is never answered: it waits for ever.
    let played = browser.play(&site, chat(open(page(&token)), "Hi")).await;
    refused(&played, REVOKED);
    assert_eq!(played.report["chat"]["waiting"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_open_a_socket_from_the_pages_own_origin_only() {
    let host = behind_a_proxy().start().await;
    let _upstream = chat_of(&host).await;
    let (site, mut browser) = browser::open(&host).await;
    let foreign = Site::start(&host).await;
    let token = host.tokens.access(&User::new(42));
    for name in ["access_token", "auth_token"] {
        let act = chat(open(Act::idle().cookie(name, &token)), "by cookie");
        let played = browser.play(&site, act).await;
        assert_eq!(played.report["chat"]["answers"], json!(["echo: by cookie"]));
        assert_eq!(handshake(&played.seen).path, "/ws/chat");
    }
    // The same cookies, sent by the browser to another origin's socket.
    let url = foreign.url("/ws/chat").replacen("http", "ws", 1);
    let act = Act::idle()
        .cookie("access_token", &token)
        .then("open", &[json!(url)]);
    refused(&browser.play(&site, act).await, NO_TOKEN);
    let seen = foreign.seen();
    let seen = handshake(&seen);
    assert_eq!(seen.headers["cookie"], format!("access_token={token}"));
    assert_eq!(seen.headers["origin"], site.url("").as_str());
    // A token that the page has itself is no cookie.
    foreign.forget();
    let act = chat(page(&token).then("open", &[json!(url)]), "by token");
    let played = browser.play(&site, act).await;
    assert_eq!(played.report["chat"]["answers"], json!(["echo: by token"]));
    handshake(&foreign.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_of_the_gateway_is_not_noticed() {
    let host = behind_a_proxy().start().await;
    let _upstream = chat_of(&host).await;
    let (site, mut browser) = browser::open(&host).await;
    let token = host.tokens.access(&User::new(42));
    let act = chat(open(page(&token)), "before");
    // One question is on its way while the code changes.
    let act = act.then("say", &[json!("slow"), json!("smart-router")]);
    let act = chat(act.then("hold", &[]), "after");
    let swap = async {
        let another = component::with_note(&component::built(Service::Gateway), "swapped");
        host.swap(Service::Gateway, &another).await;
    };
    let (played, ()) = meanwhile(&site, &mut browser, act, swap).await;
    let seen = &played.report["chat"];
    assert_eq!(
        seen["answers"],
        json!(["echo: before", "echo: slow", "echo: after"])
    );
    assert_eq!(
        (&seen["closed"], &seen["notice"]),
        (&Value::Null, &json!(""))
    );
    handshake(&played.seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_a_login_ends_its_socket() {
    let host = behind_a_proxy().start().await;
    let _upstream = chat_of(&host).await;
    let (site, mut browser) = browser::open(&host).await;

    // Revoked from elsewhere, while the page chats.
    let user = User::new(42);
    let token = host.tokens.access(&user);
    let act = chat(open(page(&token)), "Hi").then("hold", &[]);
    let logout = host.post(Service::Coordinator, "/api/v1/auth/logout");
    let logout = async { logout.bearer(&token).send().await.expect(204) };
    let act = act.then("closed", &[]);
    let (played, _) = meanwhile(&site, &mut browser, act, logout).await;
    assert_eq!(played.report["chat"]["answers"], json!(["echo: Hi"]));
    ended(&played, 4001, None, LOST);
    let reason = played.report["chat"]["closed"]["reason"].as_str();
    assert!(reason.is_some_and(|reason| !reason.is_empty()));
    // And it is not let in again.
    refused(&browser.play(&site, open(page(&token))).await, REVOKED);

    // Every session of the user.
    let token = host.tokens.access(&user.clone().session("s-all"));
    let event = json!({"user_id": 42, "email": user.email, "event_type": "logout",
        "source": "api"});
    let sync = host.post(Service::Coordinator, "/api/v1/coordinator/sync-auth");
    let sync = sync.bearer(&token).json(&event);
    let sync = async { sync.send().await.expect(200) };
    let act = open(page(&token)).then("hold", &[]).then("closed", &[]);
    let (played, _) = meanwhile(&site, &mut browser, act, sync).await;
    ended(&played, 4001, None, LOST);

    // The page's own logout.
    let token = host.tokens.access(&User::new(43));
    let act = open(page(&token)).then("logout", &[]).then("closed", &[]);
    let played = browser.play(&site, act).await;
    assert_eq!(played.state("error"), "logout: status 204");
    ended(&played, 4001, None, LOST);

    // Its time: fifteen seconds are left of the leeway, and it opens meanwhile.
    let mut claims = Tokens::unified_claims(&User::new(44), -45);
    set(&mut claims, "iat", json!(now() - 600));
    let token = host.tokens.sign(&claims);
    let played = browser
        .play(&site, open(page(&token)).then("closed", &[]))
        .await;
    let came = &played.report["chat"]["came"];
    let all = [
        "connection_confirmed",
        "ready_confirmed",
        "token_refresh_request",
    ];
    for one in all {
        assert!(
            came.as_array()
                .is_some_and(|came| came.contains(&json!(one))),
            "{came}"
        );
    }
    ended(&played, 4001, Some("Token expired"), LOST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_ends_the_socket() {
    let host = behind_a_proxy().start().await;
    let (site, mut browser) = browser::open(&host).await;
    let token = host.tokens.access(&User::new(42));
    let act = |letters: u32| {
        let act = open(page(&token)).then("large", &[json!(letters)]);
        act.then("closed", &[])
    };
    for letters in [65_537, 5_000_000] {
        let played = browser.play(&site, act(letters)).await;
        ended(&played, 1009, None, LOST);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_silent_when_the_host_stops_and_not_when_it_dies() {
    let mut host = behind_a_proxy().start().await;
    let _upstream = chat_of(&host).await;
    let (site, mut browser) = browser::open(&host).await;
    let token = host.tokens.access(&User::new(42));
    let act = || {
        let act = chat(open(page(&token)), "Hi");
        act.then("hold", &[]).then("closed", &[])
    };
    let (played, status) = meanwhile(&site, &mut browser, act(), host.stop()).await;
    assert!(status.success(), "{status}");
    ended(&played, 1001, None, "");

    host.start_again().await;
    let (played, ()) = meanwhile(&site, &mut browser, act(), host.kill()).await;
    ended(&played, 1006, Some(""), LOST);
}
