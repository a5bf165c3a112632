//! The command line of the chat double: where it listens, and the page that it serves
//! beside. All that it says stands in the library.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use lockgate_tests::chat::{Chat, Page};
use reqwest::Url;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Stands in for the chat service, for trying Lockgate out.
///
/// Asks the token adapter about each connection and answers each message. Prints the URL
/// for CHAT_UPSTREAM_URL, and that of the page, in one line once it listens; then runs
/// until SIGINT or SIGTERM. Not for production.
#[derive(Debug, Parser)]
#[command(
    name = "lockgate-chat",
    after_help = "\
Messages:
  fail     an error           slow    an answer after 1.5 s
  empty    an empty answer    late    an answer after 3 s
  silent   no answer          drop    ends the connection
All others are echoed."
)]
struct Arguments {
    /// Where the gateway finds it; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8007")]
    listen: SocketAddr,
    /// Base URL of jwt-token-adapter, which says whose a token is
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8025", value_parser = base)]
    verify: String,
    /// Serves a page to browsers as well
    #[arg(long, value_name = "ADDRESS")]
    page: Option<SocketAddr>,
    /// The page's folder
    #[arg(long, value_name = "FOLDER", default_value = "examples/chat")]
    files: PathBuf,
    /// Ends with its standard input too, e.g. with the process that holds its other end
    #[arg(long)]
    until_input_ends: bool,
}

/// A base URL without the slash at its end.
fn base(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|e| e.to_string())?;
    if url.scheme() != "http" || !url.has_host() {
        return Err("it must begin with http:// and name a host".to_owned());
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err("it must end with host and port".to_owned());
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("lockgate-chat: {fault}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    // Before it says that it listens: whoever stops it then finds it ready for that.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| e.to_string())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let listen = arguments.listen;
    let chat = Chat::serve(listen, &arguments.verify)
        .await
        .map_err(|e| format!("cannot listen at {listen}: {e}"))?;
    let mut line = format!("ws://{}/ws/chat", chat.address());
    let page = match arguments.page {
        Some(address) => {
            let page = Page::serve(address, &arguments.files)
                .await
                .map_err(|e| format!("cannot serve the page at {address}: {e}"))?;
            line.push_str(&format!(" http://{}/", page.address()));
            Some(page)
        }
        None => None,
    };
    writeln!(io::stdout(), "{line}").map_err(|e| e.to_string())?;
    let input = arguments.until_input_ends;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = input_ends(), if input => {}
    }
    drop((chat, page));
    Ok(())
}

/// Waits for the end of the standard input, on a thread that no exit waits for.
async fn input_ends() {
    let (ended, end) = oneshot::channel();
    std::thread::spawn(move || {
        let mut scrap = [0; 1024];
        while let Ok(1..) = io::stdin().read(&mut scrap) {}
        // Nobody waits any more if the program ends already.
        let _ = ended.send(());
    });
    let _ = end.await;
}
