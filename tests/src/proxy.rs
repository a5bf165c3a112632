//! A TCP proxy between a host and a server that can cut connections, refuse them, or
//! hold back what flows, as a broken network does.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Flow,
    Hang,
    Cut,
    Late(Duration),
    Dribble(Duration),
}

/// A proxy on a free port of 127.0.0.1. Dropping it ends it.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    mode: watch::Sender<Mode>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Forwards to a port of 127.0.0.1.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = listener.local_addr().expect("the port").port();
        let (mode, modes) = watch::channel(Mode::Flow);
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else {
                    continue;
                };
                if *modes.borrow() != Mode::Cut {
                    tokio::spawn(forward(client, port, modes.clone()));
                }
            }
        });
        Self {
            port: own,
            mode,
            accepting,
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes all connections, and new ones at once.
    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// Keeps connections and accepts new ones, but forwards nothing.
    pub fn hang(&self) {
        self.mode.send_replace(Mode::Hang);
    }

    /// Hands on each reply of the server so much later. Those that are under way at the
    /// same time do not wait for one another.
    pub fn late(&self, by: Duration) {
        self.mode.send_replace(Mode::Late(by));
    }

    /// Hands on the replies of the server byte by byte, with this pause between two.
    pub fn dribble(&self, pause: Duration) {
        self.mode.send_replace(Mode::Dribble(pause));
    }

    /// Forwards again, also what was held back.
    pub fn heal(&self) {
        self.mode.send_replace(Mode::Flow);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn forward(client: TcpStream, port: u16, mut modes: watch::Receiver<Mode>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // When one direction ends both halves of both are dropped.
    tokio::select! {
        () = requests(from_client, to_server, modes.clone()) => {}
        () = replies(from_server, to_client, modes.clone()) => {}
        _ = modes.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

/// Waits while nothing may pass.
async fn passes(modes: &mut watch::Receiver<Mode>) -> Mode {
    let mode = modes.wait_for(|mode| *mode != Mode::Hang).await;
    mode.map_or(Mode::Cut, |mode| *mode)
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut modes: watch::Receiver<Mode>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let cut = passes(&mut modes).await == Mode::Cut;
        if cut || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn replies(mut from: OwnedReadHalf, to: OwnedWriteHalf, modes: watch::Receiver<Mode>) {
    let (queue, queued) = unbounded_channel();
    let reading = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let _ = queue.send((Instant::now(), buffer[..count].to_vec()));
        }
    };
    tokio::select! {
        () = reading => {}
        () = write(queued, to, modes) => {}
    }
}

/// Hands on what was read, each with the time of that.
async fn write(
    mut queued: UnboundedReceiver<(Instant, Vec<u8>)>,
    mut to: OwnedWriteHalf,
    mut modes: watch::Receiver<Mode>,
) {
    while let Some((read, bytes)) = queued.recv().await {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let count = match passes(&mut modes).await {
                Mode::Cut => return,
                Mode::Flow | Mode::Hang => rest.len(),
                Mode::Late(by) => {
                    tokio::time::sleep_until(read + by).await;
                    rest.len()
                }
                Mode::Dribble(pause) => {
                    tokio::time::sleep(pause).await;
                    1
                }
            };
            let (now, later) = rest.split_at(count);
            if to.write_all(now).await.is_err() {
                return;
            }
            rest = later;
        }
    }
}
