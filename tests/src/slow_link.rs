//! A TCP relay to a server whose replies it hands on late or byte by byte, as a bad
//! network does. What the client sends passes at once.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How replies pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// At once.
    Flow,
    /// Each so much later; those that are under way at the same time do not wait for one
    /// another.
    Late(Duration),
    /// One byte after the other, with this pause between them.
    Dribble(Duration),
}

/// A relay on a free port of 127.0.0.1. Dropping it accepts no more connections.
#[derive(Debug)]
pub struct SlowLink {
    port: u16,
    pace: watch::Sender<Pace>,
    accepting: JoinHandle<()>,
}

impl SlowLink {
    /// Relays to a port of 127.0.0.1; at first everything flows.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = listener.local_addr().expect("the port").port();
        let (pace, paces) = watch::channel(Pace::Flow);
        let accepting = tokio::spawn(async move {
            loop {
                if let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(relay(client, port, paces.clone()));
                }
            }
        });
        Self {
            port: own,
            pace,
            accepting,
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How replies pass from now on.
    pub fn set(&self, pace: Pace) {
        self.pace.send_replace(pace);
    }
}

impl Drop for SlowLink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn relay(client: TcpStream, port: u16, paces: watch::Receiver<Pace>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    // When one direction ends both connections are closed.
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        () = replies(from_server, to_client, paces) => {}
    }
}

async fn replies(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, paces: watch::Receiver<Pace>) {
    let (queue, mut queued) = unbounded_channel::<(Instant, Vec<u8>)>();
    let writing = async {
        while let Some((read, bytes)) = queued.recv().await {
            let pace = *paces.borrow();
            let done = match pace {
                Pace::Flow => to.write_all(&bytes).await,
                Pace::Late(pause) => {
                    tokio::time::sleep_until(read + pause).await;
                    to.write_all(&bytes).await
                }
                Pace::Dribble(pause) => dribble(&mut to, &bytes, pause).await,
            };
            if done.is_err() {
                return;
            }
        }
    };
    let reading = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let _ = queue.send((Instant::now(), buffer[..count].to_vec()));
        }
    };
    tokio::select! {
        () = writing => {}
        () = reading => {}
    }
}

async fn dribble(to: &mut OwnedWriteHalf, bytes: &[u8], pause: Duration) -> std::io::Result<()> {
    for byte in bytes {
        tokio::time::sleep(pause).await;
        to.write_all(&[*byte]).await?;
    }
    Ok(())
}
