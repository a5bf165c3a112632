//! `lockgate plugins`, `rollback`, `pin` and `unpin`: what a running host serves, and
//! which revision that is to be. The host decides and remembers; this asks it and
//! prints what it says.

use std::process::ExitCode;

use http::Method;
use serde_json::Value;

use super::remote::Remote;

const PLUGINS: &str = "\
Examples:
  lockgate plugins
  lockgate plugins --json | jq -r '.plugins[].digest'";

const ROLLBACK: &str = "\
Examples:
  lockgate rollback jwt-token-adapter
  lockgate rollback jwt-token-adapter 3f9a1c77b0d2

Without DIGEST it goes back to the revision before the one that serves. The file that is
rolled back is not loaded again until it changes, over a restart too.";

const PIN: &str = "\
Examples:
  lockgate pin jwt-token-adapter
  lockgate pin jwt-token-adapter 3f9a1c77b0d2

A pinned service ignores what is dropped into the plugin folder, and says so, until
`lockgate unpin`; over a restart too.";

/// Arguments of `lockgate plugins`.
#[derive(Debug, clap::Args)]
#[command(after_help = PLUGINS)]
pub(super) struct List {
    /// Print the host's own answer, history included.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Arguments of `lockgate rollback`.
#[derive(Debug, clap::Args)]
#[command(after_help = ROLLBACK)]
pub(super) struct RollBack {
    #[command(flatten)]
    which: Which,
}

/// Arguments of `lockgate pin`.
#[derive(Debug, clap::Args)]
#[command(after_help = PIN)]
pub(super) struct Pin {
    #[command(flatten)]
    which: Which,
}

/// Arguments of `lockgate unpin`.
#[derive(Debug, clap::Args)]
pub(super) struct Unpin {
    /// The service.
    #[arg(value_parser = service_name)]
    service: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The service.
    #[arg(value_parser = service_name)]
    service: String,
    /// The first characters of a kept revision's SHA-256, 8 at least.
    #[arg(value_parser = digest)]
    digest: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

/// Prints one line for each service.
pub(super) fn list(args: &List) -> anyhow::Result<ExitCode> {
    let answer = args.remote.call(Method::GET, "/plugins")?;
    if args.json {
        println!("{answer:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let entries = answer.get("plugins").and_then(Value::as_array);
    for entry in entries.into_iter().flatten() {
        print(entry);
    }
    Ok(ExitCode::SUCCESS)
}

/// Goes back, and prints what serves then.
pub(super) fn roll_back(args: &RollBack) -> anyhow::Result<ExitCode> {
    order(&args.which, "rollback")
}

/// Pins, and prints what serves then.
pub(super) fn pin(args: &Pin) -> anyhow::Result<ExitCode> {
    order(&args.which, "pin")
}

/// Unpins, and prints what serves.
pub(super) fn unpin(args: &Unpin) -> anyhow::Result<ExitCode> {
    let path = format!("/plugins/{}/unpin", args.service);
    print(&args.remote.call(Method::POST, &path)?);
    Ok(ExitCode::SUCCESS)
}

/// Where a host takes an order about a service, and perhaps one digest.
pub(super) fn order_path(service: &str, what: &str, digest: Option<&str>) -> String {
    match digest {
        Some(digest) => format!("/plugins/{service}/{what}/{digest}"),
        None => format!("/plugins/{service}/{what}"),
    }
}

fn order(which: &Which, what: &str) -> anyhow::Result<ExitCode> {
    let path = order_path(&which.service, what, which.digest.as_deref());
    print(&which.remote.call(Method::POST, &path)?);
    Ok(ExitCode::SUCCESS)
}

/// One line of an entry, and its trouble indented below it.
fn print(entry: &Value) {
    let word = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or("-");
    let digest: String = word("digest").chars().take(12).collect();
    let revision = entry.get("revision").and_then(Value::as_u64);
    let revision = revision.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let pinned = match entry.get("pinned").and_then(Value::as_bool) {
        Some(true) => "  pinned",
        _ => "",
    };
    println!(
        "{:<32} {:<11} {revision:>4}  {digest:<12}  {}{pinned}",
        word("service"),
        word("state"),
        word("loaded_at"),
    );
    if let Some(error) = entry.get("last_error").and_then(Value::as_str) {
        println!("    {error}");
    }
    let kept = entry.get("kept").and_then(Value::as_array);
    let kept: Vec<String> = kept
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|digest| digest.chars().take(12).collect())
        .collect();
    if !kept.is_empty() {
        println!("    kept: {}", kept.join(" "));
    }
}

/// The name of a service on the command line: what may stand in a path as it is.
pub(super) fn service_name(text: &str) -> Result<String, &'static str> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() || !text.chars().all(plain) {
        return Err("a service's name is made of a-z, 0-9 and hyphens");
    }
    Ok(text.to_owned())
}

pub(super) fn digest(text: &str) -> Result<String, &'static str> {
    let hex = text.chars().all(|c| c.is_ascii_hexdigit());
    if !hex || !(8..=64).contains(&text.len()) {
        return Err("8 to 64 hexadecimal digits");
    }
    Ok(text.to_ascii_lowercase())
}
