//! One page in a real browser as a user has it: it types, presses keys and looks, over
//! the browser's DevTools protocol. For pages that know nothing of tests.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::Browser;
use crate::wait::{GUARD, eventually};

/// The page of a browser. Dropping it ends the browser.
#[derive(Debug)]
pub struct Tab {
    socket: WebSocketStream<TcpStream>,
    number: u64,
    _browser: Browser,
}

impl Tab {
    /// A browser of its own opens a URL.
    pub async fn open(url: &str) -> Self {
        let browser = Browser::launch("about:blank");
        let port = port_of(&browser.profile.path().join("data")).await;
        let list = format!("http://127.0.0.1:{port}/json/list");
        let target = eventually("the browser has a page", async || {
            let answer = reqwest::get(&list).await.map_err(|e| e.to_string())?;
            let pages: Value = answer.json().await.map_err(|e| e.to_string())?;
            let mut pages = pages.as_array().into_iter().flatten();
            let page = pages.find(|page| page["type"] == "page");
            let url = page.and_then(|page| page["webSocketDebuggerUrl"].as_str());
            url.map(str::to_owned).ok_or("none yet".to_owned())
        })
        .await;
        let stream = TcpStream::connect(("127.0.0.1", port)).await;
        let request = target.into_client_request().expect("the page's URL");
        let opened = tokio_tungstenite::client_async(request, stream.expect("the browser"));
        let (socket, _) = opened.await.expect("the browser's handshake");
        let mut tab = Self {
            socket,
            number: 0,
            _browser: browser,
        };
        tab.go(url).await;
        tab
    }

    /// Loads a URL, even if it differs from the one before only after its `#`.
    pub async fn go(&mut self, url: &str) {
        for url in ["about:blank", url] {
            let gone = self.call("Page.navigate", json!({"url": url})).await;
            assert_eq!(gone["errorText"], Value::Null, "{url}: {gone}");
        }
    }

    /// The value of an expression in the page; the fault that it threw.
    pub async fn value(&mut self, expression: &str) -> Result<Value, Value> {
        let asked = json!({"expression": expression, "returnByValue": true});
        let said = self.call("Runtime.evaluate", asked).await;
        match &said["exceptionDetails"] {
            Value::Null => Ok(said["result"]["value"].clone()),
            fault => Err(fault.clone()),
        }
    }

    /// Waits until an expression in the page has a value; it may fail while the page loads.
    pub async fn becomes(&mut self, expression: &str, wanted: Value) {
        let what = format!("{expression} is {wanted}");
        eventually(&what, async || match self.value(expression).await {
            Ok(value) if value == wanted => Ok(()),
            other => Err(other),
        })
        .await;
    }

    /// Types into what has the focus.
    pub async fn types(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text})).await;
    }

    /// Presses Enter.
    pub async fn enter(&mut self) {
        self.press("Enter", 13, "\r").await;
    }

    /// Presses the tabulator key, which moves the focus, until an expression in the page is
    /// true.
    pub async fn tab_until(&mut self, expression: &str) {
        for _ in 0..100 {
            if self.value(expression).await == Ok(Value::Bool(true)) {
                return;
            }
            self.press("Tab", 9, "").await;
        }
        let last = self
            .value("document.activeElement.outerHTML.slice(0, 200)")
            .await;
        panic!("the tabulator key never leads to {expression}; it is at {last:?}");
    }

    async fn press(&mut self, name: &str, code: u8, text: &str) {
        // A key that writes nothing is a raw one.
        let down = if text.is_empty() {
            "rawKeyDown"
        } else {
            "keyDown"
        };
        for (kind, text) in [(down, text), ("keyUp", "")] {
            let key = json!({
                "type": kind, "key": name, "code": name, "windowsVirtualKeyCode": code,
                "text": text,
            });
            self.call("Input.dispatchKeyEvent", key).await;
        }
    }

    /// A picture (PNG) of the whole page in the light or the dark theme.
    pub async fn picture(&mut self, theme: &str, width: u32, file: &Path) {
        let theme = json!({"features": [{"name": "prefers-color-scheme", "value": theme}]});
        self.call("Emulation.setEmulatedMedia", theme).await;
        let size = json!({
            "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false,
        });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
        let asked = json!({"format": "png", "captureBeyondViewport": true});
        let picture = self.call("Page.captureScreenshot", asked).await;
        let text = picture["data"].as_str().expect("a picture");
        let bytes = STANDARD.decode(text).expect("base64");
        std::fs::write(file, bytes).expect("write a picture");
    }

    /// Role and name of all that the page tells those who do not see it.
    pub async fn told(&mut self) -> Vec<(String, String)> {
        let tree = self.call("Accessibility.getFullAXTree", json!({})).await;
        let nodes = tree["nodes"].as_array().expect("nodes");
        let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        let heard = nodes.iter().filter(|node| node["ignored"] == false);
        heard
            .map(|node| (text(&node["role"]), text(&node["name"])))
            .collect()
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.number += 1;
        let asked = json!({"id": self.number, "method": method, "params": params});
        let asked = Message::text(asked.to_string());
        self.socket.send(asked).await.expect("the browser listens");
        loop {
            let came = timeout(GUARD, self.socket.next()).await;
            let came = came.expect("the browser answers in time");
            let text = came.expect("the browser runs").expect("a message");
            let Ok(text) = text.into_text() else { continue };
            let mut said: Value = serde_json::from_str(&text).unwrap_or_default();
            if said["id"] == self.number {
                assert_eq!(said["error"], Value::Null, "{method}");
                return said["result"].take();
            }
        }
    }
}

/// The port that the browser writes down once it listens.
async fn port_of(data: &Path) -> u16 {
    let begin = Instant::now();
    loop {
        let text = std::fs::read_to_string(data.join("DevToolsActivePort")).unwrap_or_default();
        // The second line says that the first one is whole.
        if let Some((port, _)) = text.split_once('\n')
            && let Ok(port) = port.parse()
        {
            return port;
        }
        assert!(begin.elapsed() < GUARD, "the browser does not listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
