//! Requests to a service, and how two answers differ in status, body and time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::requests::Ask;

/// Longest answer that is read, bytes.
const MAX_ANSWER: usize = 4 << 20;

/// No answer of a host takes longer than 5 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most characters of a line that are shown.
const SHOWN: usize = 120;

/// What came of a request.
#[derive(Debug)]
pub(super) struct Answer {
    /// Status and body, or why there is none.
    outcome: Result<(u16, Bytes), String>,
    time: Duration,
}

/// Sends one request.
pub(super) async fn ask(address: SocketAddr, wanted: &Ask) -> Answer {
    let begin = Instant::now();
    let outcome = tokio::time::timeout(PATIENCE, exchange(address, wanted)).await;
    let late = |_| Err("no answer in time".to_owned());
    Answer {
        outcome: outcome.unwrap_or_else(late),
        time: begin.elapsed(),
    }
}

async fn exchange(address: SocketAddr, wanted: &Ask) -> Result<(u16, Bytes), String> {
    let mut request = Request::builder()
        .method(wanted.method.as_str())
        .uri(format!("http://{address}{}", wanted.path));
    for (name, value) in &wanted.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::from(wanted.body.clone())));
    let request = request.map_err(|error| error.to_string())?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let response = client.request(request).await;
    let response = response.map_err(|error| format!("no answer: {error}"))?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), MAX_ANSWER);
    let body = body.collect().await.map_err(|error| error.to_string())?;
    Ok((status, body.to_bytes()))
}

/// The difference in words. Without an old answer there is only the new one.
pub(super) fn compared(old: &Option<Answer>, new: &Option<Answer>) -> String {
    let status = |answer: &Answer| match &answer.outcome {
        Ok((status, _)) => status.to_string(),
        Err(words) => words.clone(),
    };
    let time = |answer: &Answer| format!("{:.1}", answer.time.as_secs_f64() * 1000.0);
    match (old, new) {
        (Some(old), Some(new)) => format!(
            "{} -> {}, {} -> {} ms, {}",
            status(old),
            status(new),
            time(old),
            time(new),
            bodies(body(old), body(new))
        ),
        (None, Some(new)) => format!(
            "{}, {} ms, {}",
            status(new),
            time(new),
            cut(body(new).lines().next().unwrap_or_default())
        ),
        (_, None) => "not asked".to_owned(),
    }
}

fn body(answer: &Answer) -> String {
    match &answer.outcome {
        Ok((_, body)) => String::from_utf8_lossy(body).into_owned(),
        Err(_) => String::new(),
    }
}

fn bodies(old: String, new: String) -> String {
    if old == new {
        return "the same body".to_owned();
    }
    let (mut old, mut new) = (old.lines(), new.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (old.next(), new.next()) {
            (None, None) => return "bodies that differ in how lines end".to_owned(),
            (old, new) if old == new => {}
            (old, new) => {
                let shown = |line: Option<&str>| line.map_or_else(|| "nothing".to_owned(), cut);
                return format!("line {number}: {} -> {}", shown(old), shown(new));
            }
        }
    }
}

/// In quotes, without control characters, at a readable length.
fn cut(line: &str) -> String {
    let line = line.replace(|c: char| c.is_control(), " ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("`{}...`", line.get(..end).unwrap_or_default()),
        None => format!("`{line}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &'static str) -> Option<Answer> {
        Some(Answer {
            outcome: Ok((status, Bytes::from_static(body.as_bytes()))),
            time: Duration::from_micros(1260),
        })
    }

    #[test]
    fn the_first_line_that_differs_is_shown() {
        let said = |old, new| compared(&answer(200, old), &answer(404, new));
        let head = "200 -> 404, 1.3 -> 1.3 ms, ";
        assert_eq!(said("a\nb\n", "a\nb\n"), format!("{head}the same body"));
        assert_eq!(
            said("a\nb\nc", "a\nB\nC"),
            format!("{head}line 2: `b` -> `B`")
        );
        assert_eq!(said("a", "a\nb"), format!("{head}line 2: nothing -> `b`"));
        assert!(said("a\n", "a").ends_with("how lines end"));
        assert_eq!(compared(&None, &answer(200, "hi\n")), "200, 1.3 ms, `hi`");
        let none = Some(Answer {
            outcome: Err("no answer in time".to_owned()),
            time: Duration::ZERO,
        });
        assert!(compared(&none, &answer(200, "x")).starts_with("no answer in time -> 200"));
    }

    #[test]
    fn a_long_line_is_cut() {
        let long = "é".repeat(SHOWN + 1);
        assert_eq!(cut(&long).chars().count(), SHOWN + "``...".len());
        assert_eq!(cut("a\u{1b}[31m"), "`a [31m`");
    }
}
