//! The page of the admin listener, in a real browser: it shows what runs, takes orders
//! from the keyboard and with the token only, and lets nothing of the host become markup.

use lockgate_tests::browser::Tab;
use lockgate_tests::component::{self, Probe, digest, version_text};
use lockgate_tests::{Host, Service, place};
use reqwest::Method;
use serde_json::json;

const HERE: Service = Service::Coordinator;

/// All five services; one of them is the probe, of a version of its own.
async fn host() -> Host {
    let folder = component::folder();
    let builder = Host::builder().plugin(HERE, Probe::version(1).file(folder.path()));
    builder.start().await
}

async fn open(host: &Host) -> Tab {
    let mut tab = Tab::open(&format!("http://127.0.0.1:{}/", host.admin_port())).await;
    let rows = "document.querySelectorAll('#services tbody tr').length";
    tab.becomes(rows, json!(5)).await;
    tab
}

async fn answered(host: &Host) -> String {
    host.get(HERE, "/version").send().await.expect(200).text()
}

/// Gives the page a token, from the keyboard.
async fn give(tab: &mut Tab, token: &str) {
    tab.tab_until("document.activeElement.id === 'token'").await;
    tab.types(token).await;
    tab.enter().await;
    tab.becomes("sessionStorage.getItem('token')", json!(token))
        .await;
}

/// Has the service go back to the digest, from the keyboard.
async fn roll_back(tab: &mut Tab, digest: &str) {
    let key = format!("document.activeElement.dataset.key === 'back-{digest}'");
    tab.tab_until(&key).await;
    tab.enter().await;
    tab.becomes("document.getElementById('sure').open", json!(true))
        .await;
    tab.tab_until("document.activeElement.id === 'yes'").await;
    tab.enter().await;
    tab.becomes("document.getElementById('sure').open", json!(false))
        .await;
}

/// Waits until the message to the operator holds a text.
async fn said(tab: &mut Tab, text: &str) {
    let expression = format!(
        "document.getElementById('outcome').textContent.includes({})",
        json!(text)
    );
    tab.becomes(&expression, json!(true)).await;
}

/// The picture of a service's card has a text.
async fn shows(tab: &mut Tab, text: &str) {
    let expression = format!("document.body.innerText.includes({})", json!(text));
    tab.becomes(&expression, json!(true)).await;
}

#[tokio::test]
async fn an_operator_rolls_back_from_the_keyboard() {
    let host = host().await;
    let (old, new) = (Probe::version(1).bytes(), Probe::version(2).bytes());
    let mut tab = open(&host).await;
    for service in Service::ALL {
        shows(&mut tab, service.name()).await;
    }
    host.swap(HERE, &new).await;
    assert_eq!(answered(&host).await, version_text(2));
    // The page has it without a reload.
    shows(&mut tab, &digest(&new)[..12]).await;

    // Without a token, and with a wrong one, nothing changes.
    let key = format!(
        "document.activeElement.dataset.key === 'back-{}'",
        digest(&old)
    );
    tab.tab_until(&key).await;
    tab.enter().await;
    said(&mut tab, "give the admin token first").await;
    give(&mut tab, "a-token-that-is-wrong").await;
    roll_back(&mut tab, &digest(&old)).await;
    said(&mut tab, "the admin token is missing or wrong").await;
    assert_eq!(answered(&host).await, version_text(2));

    let token = std::fs::read_to_string(host.data_dir().join("admin_token")).unwrap();
    give(&mut tab, token.trim()).await;
    roll_back(&mut tab, &digest(&old)).await;
    said(&mut tab, "done").await;
    assert_eq!(answered(&host).await, version_text(1));
    let here = format!(
        "[...document.querySelectorAll('li.here .digest')].some(e => e.textContent === '{}')",
        &digest(&old)[..12]
    );
    tab.becomes(&here, json!(true)).await;

    let told = tab.told().await;
    let heard = |role: &str, name: &str| {
        let found = |(one, text): &(String, String)| one == role && text.contains(name);
        assert!(told.iter().any(found), "{role} {name}: {told:?}");
    };
    heard("heading", "Services");
    heard("status", "");
    heard("columnheader", "Requests/s");
    heard("textbox", "Admin token");
    heard("button", &format!("Roll back {} to", HERE.name()));

    let folder = place::target().join("page");
    std::fs::create_dir_all(&folder).unwrap();
    for (theme, width) in [("light", 1280), ("dark", 1280), ("light", 400)] {
        let file = folder.join(format!("{theme}-{width}.png"));
        tab.picture(theme, width, &file).await;
        let fits = "document.documentElement.scrollWidth <= innerWidth";
        assert_eq!(tab.value(fits).await, Ok(json!(true)), "{theme} {width}");
    }
}

#[tokio::test]
async fn what_the_host_says_never_becomes_markup() {
    let host = host().await;
    let mut tab = open(&host).await;
    // A host whose answers are markup, as far as the page can tell.
    let hostile = r#"(async () => {
        const list = await (await fetch('plugins')).json();
        for (const plugin of list.plugins) {
            plugin.service = plugin.address = plugin.last_error = '<img src=x onerror="window.hit=1">';
            plugin.last_error_at = '2026-01-01T00:00:00Z';
            plugin.history = [{ at: plugin.last_error_at, error: plugin.last_error }];
        }
        const real = window.fetch;
        window.fetch = async (path, more) => path === 'plugins'
            ? new Response(JSON.stringify(list)) : real(path, more);
        window.ready = true;
    })()"#;
    tab.value(hostile).await.unwrap();
    tab.becomes("window.ready", json!(true)).await;
    shows(&mut tab, "<img src=x").await;
    assert_eq!(
        tab.value("document.images.length + (window.hit || 0)")
            .await,
        Ok(json!(0))
    );
    // Nothing but its own files and what it asks the host for.
    let foreign = "performance.getEntriesByType('resource')\
                   .filter(e => !e.name.startsWith(location.origin + '/')).length";
    assert_eq!(tab.value(foreign).await, Ok(json!(0)));
}

#[tokio::test]
async fn rates_and_latencies_are_those_of_the_window() {
    let host = host().await;
    let mut tab = open(&host).await;
    // From each reading to the next, 2 s later at least: 100 requests, 99 of them within
    // 1 ms and one within 50 ms; five answered 5xx.
    let readings = r#"(() => {
        const text = (n) => `
lockgate_requests_total{service="jwt-token-adapter",status="2xx"} ${9000 + 95 * n}
lockgate_requests_total{service="jwt-token-adapter",status="5xx"} ${10 + 5 * n}
lockgate_request_seconds_bucket{service="jwt-token-adapter",le="0.0005"} 0
lockgate_request_seconds_bucket{service="jwt-token-adapter",le="0.001"} ${4000 + 99 * n}
lockgate_request_seconds_bucket{service="jwt-token-adapter",le="0.05"} ${9010 + 100 * n}
lockgate_request_seconds_bucket{service="jwt-token-adapter",le="+Inf"} ${9010 + 100 * n}
lockgate_instances{service="jwt-token-adapter"} 7
lockgate_sockets_open{service="websocket-auth-gateway"} 3
lockgate_faults_total{service="jwt-token-adapter",kind="<b>trap</b>"} 4
lockgate_breaker_state{name="redis"} 2
`;
        const real = window.fetch;
        let count = 0;
        window.fetch = async (path, more) => {
            if (path !== 'metrics') return real(path, more);
            count += 1;
            return new Response(text(count));
        };
        readings = [];
    })()"#;
    tab.value(readings).await.unwrap();
    let cell = |row: u8, column: u8| {
        format!(
            "document.querySelector('#services').tBodies[0].rows[{row}].cells[{column}].textContent"
        )
    };
    tab.becomes(&cell(0, 4), json!("≤ 1")).await;
    tab.becomes(&cell(0, 5), json!("≤ 1")).await;
    tab.becomes(&cell(0, 9), json!("7")).await;
    tab.becomes(&cell(3, 10), json!("3")).await;
    // 100 and 5 in at least 2 s, whatever the machine is busy with.
    for (column, most) in [(3, 50), (6, 3)] {
        let text = cell(0, column);
        let fits = format!("Number({text}) > 0 && Number({text}) <= {most}");
        tab.becomes(&fits, json!(true)).await;
    }
    shows(&mut tab, "open: left alone").await;
    shows(&mut tab, "4 × <b>trap</b> since the start").await;
}

#[tokio::test]
async fn its_files_hold_no_data_and_allow_nothing_foreign() {
    let host = host().await;
    for path in ["/", "/page.css", "/page.js"] {
        let answer = host.admin(path).send().await.expect(200);
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert!(!answer.text().contains("http://"), "{path}");
    }
    let url = format!("http://127.0.0.1:{}/", host.admin_port());
    let call = lockgate_tests::Call::new(lockgate_tests::http::client(), Method::GET, url);
    let foreign = call.header("host", "evil.example").send().await;
    assert_ne!(foreign.status, 200);
}
