//! `lockgate shadow` and `promote`: has a running host copy its requests to a candidate, and
//! prints how that answers. The host compares; this asks and prints.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use serde_json::Value;

use super::plugins::{digest, order_path, service_name};
use super::remote::Remote;

const SHADOW: &str = "\
Examples:
  lockgate shadow jwt-token-adapter new.wasm --requests 1000
  lockgate shadow jwt-token-adapter new.wasm --share 0.1 --promote-after 10000
  lockgate shadow jwt-token-adapter
  lockgate shadow jwt-token-adapter --end

The candidate gets copies of live requests. Users get the answers of what serves; those of the
candidate are compared and thrown away, and what it would write goes nowhere. With --requests
or --promote-after this waits until so many answers were compared; else it returns at once,
and the candidate stays until --end, `lockgate promote`, or a restart.

Exit code 0: no difference so far. 1: differences, which are printed, or a refusal.";

const PROMOTE: &str = "\
Examples:
  lockgate promote jwt-token-adapter
  lockgate promote jwt-token-adapter 3f9a1c77b0d2

The candidate of `lockgate shadow` takes every step of a drop, serves, and is put into the
plugin folder.";

/// The host is asked this often.
const EVERY: Duration = Duration::from_millis(200);

/// Arguments of `lockgate shadow`.
#[derive(Debug, clap::Args)]
#[command(after_help = SHADOW)]
pub(super) struct Shadow {
    /// The service.
    #[arg(value_parser = service_name)]
    service: String,
    /// The candidate's component; its signature, if there is one, lies beside it. Without
    /// it the candidate that there is is reported.
    file: Option<PathBuf>,
    /// How many of the requests are copied, 0 to 1.
    #[arg(long, value_name = "SHARE", requires = "file")]
    share: Option<f64>,
    /// Wait until so many answers were compared.
    #[arg(long, value_name = "N", requires = "file")]
    requests: Option<u64>,
    /// Have the candidate serve after so many answers, if each was equal, and wait for it.
    #[arg(long, value_name = "N", requires = "file", conflicts_with = "requests")]
    promote_after: Option<u64>,
    /// End it.
    #[arg(long, conflicts_with = "file")]
    end: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Arguments of `lockgate promote`.
#[derive(Debug, clap::Args)]
#[command(after_help = PROMOTE)]
pub(super) struct Promote {
    /// The service.
    #[arg(value_parser = service_name)]
    service: String,
    /// The first characters of the candidate's SHA-256, 8 at least: no other is promoted.
    #[arg(value_parser = digest)]
    digest: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

/// Prints what is known of the candidate.
pub(super) fn shadow(args: &Shadow) -> anyhow::Result<ExitCode> {
    let path = format!("/plugins/{}/shadow", args.service);
    let Some(file) = &args.file else {
        let method = if args.end {
            Method::DELETE
        } else {
            Method::GET
        };
        return Ok(print(&args.remote.call(method, &path)?));
    };
    let shown = file.display();
    let component = std::fs::read(file).with_context(|| format!("cannot read {shown}"))?;
    let signature = std::fs::read(file.with_added_extension("sig")).ok();
    let signature = signature.map(|signature| STANDARD.encode(signature));
    let mut query = format!("?share={}", args.share.unwrap_or(1.0));
    if let Some(after) = args.promote_after {
        query = format!("{query}&promote_after={after}");
    }
    let headers: Vec<(&str, String)> = signature
        .into_iter()
        .map(|signature| ("x-lockgate-signature", signature))
        .collect();
    let begin = format!("{path}{query}");
    let mut answer = args
        .remote
        .send(Method::POST, &begin, &headers, Bytes::from(component))?;
    let digest = text(&answer, "digest").to_owned();
    let Some(wanted) = args.requests.or(args.promote_after) else {
        return Ok(print(&answer));
    };
    while number(&answer, "compared") < wanted && !is_over(&answer) {
        std::thread::sleep(EVERY);
        answer = args.remote.call(Method::GET, &path)?;
        if text(&answer, "digest") != digest {
            bail!("another candidate has taken its place");
        }
    }
    if args.promote_after.is_some() {
        // It is promoted after the last comparison.
        for _ in 0..300 {
            if is_over(&answer) || number(&answer, "different") > 0 {
                break;
            }
            std::thread::sleep(EVERY);
            answer = args.remote.call(Method::GET, &path)?;
        }
    }
    let promoted = answer.get("promoted").and_then(Value::as_bool) == Some(true);
    let code = print(&answer);
    Ok(match args.promote_after.is_some() && !promoted {
        true => ExitCode::FAILURE,
        false => code,
    })
}

/// Has the candidate serve.
pub(super) fn promote(args: &Promote) -> anyhow::Result<ExitCode> {
    let path = order_path(&args.service, "promote", args.digest.as_deref());
    let answer = args.remote.call(Method::POST, &path)?;
    print(&answer);
    Ok(ExitCode::SUCCESS)
}

fn is_over(answer: &Value) -> bool {
    answer.get("promoted").and_then(Value::as_bool) == Some(true)
        || answer.get("problem").is_some_and(Value::is_string)
}

fn text<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer.get(name).and_then(Value::as_str).unwrap_or("-")
}

fn number(answer: &Value, name: &str) -> u64 {
    answer.get(name).and_then(Value::as_u64).unwrap_or_default()
}

/// The counts, and the differences below them.
fn print(answer: &Value) -> ExitCode {
    let digest: String = text(answer, "digest").chars().take(12).collect();
    let different = number(answer, "different");
    println!(
        "{} {digest}: {} answers compared, {different} different, {} requests passed over{}",
        text(answer, "service"),
        number(answer, "compared"),
        number(answer, "passed_over"),
        match answer.get("promoted").and_then(Value::as_bool) {
            Some(true) => "; it serves now",
            _ => "",
        },
    );
    let list = answer.get("differences").and_then(Value::as_array);
    for one in list.into_iter().flatten() {
        let (method, path) = (text(one, "method"), text(one, "path"));
        println!(
            "  {method} {path} (request {}): {}",
            text(one, "request_id"),
            text(one, "what")
        );
    }
    if let Some(problem) = answer.get("problem").and_then(Value::as_str) {
        println!("  {problem}");
    }
    match different {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
