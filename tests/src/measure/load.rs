//! A steady load at a fixed rate (open loop): a request is due at its time whether the
//! one before it is answered or not, and its latency counts from when it was due.
//! Threads of its own keep it apart from what the parts of the program do meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::link::{Link, Shot};
use super::tally::{Tally, Window};
use crate::host::Service;

/// Connections to each port, unless more are asked for.
pub(crate) const CONNECTIONS: usize = 8;

/// One port and the requests that it gets in turn.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Whose port.
    pub(crate) service: Service,
    /// On this machine.
    pub(crate) port: u16,
    /// At least one.
    pub(crate) shots: Vec<Shot>,
}

/// A request that is due.
#[derive(Debug)]
struct Due {
    number: usize,
    at: Instant,
}

/// A load that runs until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Load {
    tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// So many requests a second, spread evenly over the targets.
    pub(crate) fn start(rate: u32, targets: Vec<Target>) -> Self {
        Self::wide(CONNECTIONS, rate, targets)
    }

    /// The same over so many connections to each port.
    pub(crate) fn wide(connections: usize, rate: u32, targets: Vec<Target>) -> Self {
        let tally = Arc::new(Tally::new());
        let stop = Arc::new(AtomicBool::new(false));
        let (queues, lanes): (Vec<_>, Vec<_>) = targets
            .into_iter()
            .map(|target| {
                let (queue, dues) = unbounded_channel();
                (queue, (Arc::new(target), Arc::new(Mutex::new(dues))))
            })
            .unzip();
        let counted = Arc::clone(&tally);
        let calling = std::thread::spawn(move || call(connections, lanes, &counted));
        let (counted, stopped) = (Arc::clone(&tally), Arc::clone(&stop));
        let pacing = std::thread::spawn(move || pace(rate, &queues, &counted, &stopped));
        Self {
            tally,
            stop,
            threads: vec![pacing, calling],
        }
    }

    /// What has ended since the last call.
    pub(crate) fn window(&self) -> Window {
        self.tally.take()
    }

    /// A window of this length, from now.
    pub(crate) async fn measure(&self, length: Duration) -> Window {
        self.window();
        tokio::time::sleep(length).await;
        self.window()
    }

    /// Sends no more, waits for the open ones, and gives the last window.
    pub(crate) fn stop(mut self) -> Window {
        self.end();
        self.tally.take()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the load runs to its end");
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

/// Puts every request into the queue of its port when it is due. A thread that sleeps
/// is more exact than the timers of the runtime, which count whole milliseconds.
fn pace(rate: u32, queues: &[UnboundedSender<Due>], tally: &Tally, stop: &AtomicBool) {
    let begun = Instant::now();
    for number in 0.. {
        let at = begun + Duration::from_secs_f64(number as f64 / f64::from(rate));
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            return;
        }
        tally.left(at.elapsed());
        let queue = &queues[number % queues.len()];
        if queue.send(Due { number, at }).is_err() {
            return;
        }
    }
}

type Dues = Arc<Mutex<UnboundedReceiver<Due>>>;

fn call(width: usize, lanes: Vec<(Arc<Target>, Dues)>, tally: &Arc<Tally>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("start a runtime");
    runtime.block_on(async {
        let count = lanes.len();
        let mut connections = tokio::task::JoinSet::new();
        for (target, dues) in lanes {
            for _ in 0..width {
                let (target, dues) = (Arc::clone(&target), Arc::clone(&dues));
                connections.spawn(connection(target, dues, Arc::clone(tally), count));
            }
        }
        connections.join_all().await;
    });
}

/// One connection: the next request of its port that is due, until there is none.
async fn connection(target: Arc<Target>, dues: Dues, tally: Arc<Tally>, targets: usize) {
    let mut link = Link::new(target.port);
    loop {
        let due = dues.lock().await.recv().await;
        let Some(Due { number, at }) = due else {
            return;
        };
        let id = format!("load-{number}");
        let shot = &target.shots[number / targets % target.shots.len()];
        let end = link.send(shot, &id).await;
        tally.ended(target.service, &id, at, end);
    }
}
