//! Clients that send their headers or bodies slowly, or ask for much and read nothing:
//! whether the host closes each of them, and what good traffic beside them feels.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use super::Settings;
use crate::bad_files::PROBED;
use crate::component::{self, Probe};
use crate::host::Host;
use crate::measure::load::Load;
use crate::measure::observe::{Process, clients_of};
use crate::measure::report::{median, worst};
use crate::measure::{Report, mix};

/// Requests a second of good traffic.
const RATE: u32 = 300;

/// Clients that connect in a second.
const ARRIVALS: u32 = 400;

/// A client that is open after this long was never closed.
const GUARD: Duration = Duration::from_secs(30);

/// Pause between two bytes of a client that sends slowly.
const BETWEEN: Duration = Duration::from_secs(2);

/// How a client is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Headers,
    Body,
    Read,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Headers, Self::Body, Self::Read];

    fn name(self) -> &'static str {
        match self {
            Self::Headers => "sends headers slowly",
            Self::Body => "sends a body slowly",
            Self::Read => "reads nothing",
        }
    }

    /// What it sends at once.
    fn opening(self) -> String {
        let host = "host: 127.0.0.1\r\n";
        match self {
            Self::Headers => format!("GET /version HTTP/1.1\r\n{host}x-slow: "),
            Self::Body => format!("POST /echo HTTP/1.1\r\n{host}content-length: 10000\r\n\r\n"),
            Self::Read => format!("GET /body?bytes=1000000 HTTP/1.1\r\n{host}\r\n").repeat(4),
        }
    }
}

/// A client, from its connection on.
struct Client {
    kind: Kind,
    port: u16,
    opened: Instant,
    closed: Option<Duration>,
}

pub(super) async fn run(settings: &Settings, report: &mut Report) {
    let count = settings.pick(2_000, 200);
    report.part("slow", &format!("{count} slow clients"));
    let folder = component::folder();
    let host = Host::builder()
        .plugin(PROBED, Probe::version(1).file(folder.path()))
        .start()
        .await;
    let load = Load::start(RATE, mix::with_probe(&host, PROBED));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let pause = settings.pick(Duration::from_secs(10), Duration::from_secs(2));
    let before = load.measure(pause).await;
    let resident = Process::now(host.pid()).rss;
    let cpu = Process::now(host.pid()).cpu;
    let mut clients = arrive(&host, count).await;
    let arriving = load.window();
    wait(&host, &mut clients).await;
    let cpu = Process::now(host.pid()).cpu - cpu;
    let waiting = load.window();
    let after = load.measure(pause).await;
    print_clients(report, &clients);
    report.figure("good traffic before", before.all());
    report.figure("good traffic while they arrive", arriving.all());
    report.figure("good traffic while they are there", waiting.all());
    report.figure("good traffic after", after.all());
    report.figure("CPU of the host beside them, s", format!("{cpu:.1}"));
    report.figure("resident kB before", resident);
    report.figure("peak resident kB", Process::now(host.pid()).peak);
    let mut window = before;
    for other in [&arriving, &waiting, &after] {
        window.add(other);
    }
    report.figure("lateness of the generator itself", window.lag());
    report.figure("good requests", window.sent());
    report.none("good requests lost", window.losses(), window.why());
}

/// Connects all clients, so many a second.
async fn arrive(host: &Host, count: u32) -> Vec<Client> {
    let port = host.port(PROBED);
    let mut clients = Vec::new();
    let begun = Instant::now();
    for number in 0..count {
        let due = begun + Duration::from_secs_f64(f64::from(number) / f64::from(ARRIVALS));
        tokio::time::sleep(due.saturating_duration_since(Instant::now())).await;
        let kind = Kind::ALL[number as usize % Kind::ALL.len()];
        let stream = connect(port, kind).await;
        let local = stream.local_addr().expect("a connected socket");
        clients.push(Client {
            kind,
            port: local.port(),
            opened: Instant::now(),
            closed: None,
        });
        tokio::spawn(send(stream, kind));
    }
    clients
}

/// Waits until the host has closed each of them, or the guard has passed.
async fn wait(host: &Host, clients: &mut [Client]) {
    let last = Instant::now();
    while clients.iter().any(|client| client.closed.is_none()) && last.elapsed() < GUARD {
        tokio::time::sleep(Duration::from_millis(250)).await;
        look(host.port(PROBED), clients);
    }
}

/// Notes which connections the host has closed.
fn look(port: u16, clients: &mut [Client]) {
    let open = clients_of(port);
    for client in clients.iter_mut().filter(|client| client.closed.is_none()) {
        // The kernel connects before the host accepts: a very new one is not there yet.
        let age = client.opened.elapsed();
        if age > Duration::from_secs(1) && !open.contains(&client.port) {
            client.closed = Some(age);
        }
    }
}

/// A connection; of one that reads nothing the kernel takes little either.
async fn connect(port: u16, kind: Kind) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket: is the limit of open files too low?");
    if kind == Kind::Read {
        socket.set_recv_buffer_size(4_096).expect("a small buffer");
    }
    let address = ([127, 0, 0, 1], port).into();
    socket.connect(address).await.expect("connect to the host")
}

/// Sends as slowly as the kind says, until the host has closed the connection.
async fn send(mut stream: TcpStream, kind: Kind) {
    let mut open = stream.write_all(kind.opening().as_bytes()).await.is_ok();
    while open {
        tokio::time::sleep(BETWEEN).await;
        open = match kind {
            Kind::Headers | Kind::Body => stream.write_all(b"x").await.is_ok(),
            Kind::Read => true,
        };
    }
    // It stays until all clients have been looked at.
    std::future::pending::<()>().await;
}

fn print_clients(report: &mut Report, clients: &[Client]) {
    let mut times: BTreeMap<Kind, Vec<f64>> = BTreeMap::new();
    let mut open = 0;
    for client in clients {
        match client.closed {
            Some(closed) => times
                .entry(client.kind)
                .or_default()
                .push(closed.as_secs_f64()),
            None => open += 1,
        }
    }
    let row = |(kind, times): (&Kind, &Vec<f64>)| {
        vec![
            kind.name().to_owned(),
            times.len().to_string(),
            format!("{:.1}", median(times)),
            format!("{:.1}", worst(times)),
        ]
    };
    let rows: Vec<_> = times.iter().map(row).collect();
    let head = ["a client that", "closed", "median s", "worst s"];
    report.table(&head, &rows);
    report.none("clients that were never closed", open, "");
}
