//! Where a call into a guest runs. A short call runs on the thread that took the
//! request; one that computes past its first tick moves to low-priority threads, so
//! that a looping guest never keeps a port waiting. A call is never dropped while it
//! runs: if nobody waits for it any more, it ends on the slow lane.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::sandbox::Meter;

/// Low-priority threads with a runtime of their own.
#[derive(Debug)]
pub struct SlowLane {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl SlowLane {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn new() -> std::io::Result<SlowLane> {
        let threads = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8));
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("lockgate-slow")
            // Guests yield at every tick; look at timers and sockets as often.
            .event_interval(1)
            .enable_all()
            .on_thread_start(lower_priority)
            .build()?;
        Ok(SlowLane {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// One service's share: at most so many of its calls are on the lane at once, the
    /// others wait their turn, so that one service's slow calls leave room for another's.
    pub fn share(&self, places: usize) -> Share {
        Share {
            lane: self.handle.clone(),
            places: Arc::new(Semaphore::new(places)),
            size: places,
        }
    }
}

/// What one service may use of the slow lane.
#[derive(Debug, Clone)]
pub struct Share {
    lane: Handle,
    places: Arc<Semaphore>,
    size: usize,
}

impl Share {
    /// Calls that are on the lane.
    pub fn taken(&self) -> usize {
        self.size.saturating_sub(self.places.available_permits())
    }

    /// Runs a call to its end. None only if the lane stops first. `meter` must be
    /// the one that the call's instance looks at; it goes on while the call waits for
    /// a place on the lane.
    pub async fn run<T: Send + 'static>(
        &self,
        meter: Arc<Meter>,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let mut running = Running {
            call: Some(Call {
                meter,
                inner: Box::pin(call),
            }),
            share: self,
        };
        match std::future::poll_fn(|cx| running.poll_inline(cx)).await {
            Inline::Done(output) => Some(output),
            Inline::Slow(call) => self.spawn(call).await.ok(),
            Inline::Gone => None,
        }
    }

    fn spawn<T: Send + 'static>(&self, call: Call<T>) -> JoinHandle<T> {
        let places = self.places.clone();
        self.lane.spawn(async move {
            let _place = places.acquire_owned().await;
            call.await
        })
    }
}

impl Drop for SlowLane {
    fn drop(&mut self) {
        // A runtime may not be dropped on another one's thread in the usual way.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs what computes for long and calls no guest, such as compiling, on rayon's
/// threads: wasmtime compiles there in parallel. They get a low priority too, so that
/// a swap takes nothing from the requests. None if the work panicked.
pub async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    static LOWERED: std::sync::Once = std::sync::Once::new();
    LOWERED.call_once(|| {
        let pool = rayon::ThreadPoolBuilder::new()
            .thread_name(|index| format!("lockgate-compile-{index}"))
            .start_handler(|_| lower_priority())
            .panic_handler(|_| ());
        // Somebody else's pool does as well, only at its own priority.
        if let Err(error) = pool.build_global() {
            tracing::debug!(%error, "compiling at normal priority");
        }
    });
    let (done, result) = tokio::sync::oneshot::channel();
    rayon::spawn(move || {
        // Nobody waits any more: the host is stopping.
        let _ = done.send(work());
    });
    result.await.ok()
}

/// Lowers the priority of the calling thread; a system that refuses leaves it.
fn lower_priority() {
    // SAFETY: `nice` takes no pointer. On Linux it changes the calling thread only.
    #[allow(
        unsafe_code,
        reason = "the standard library cannot lower a thread's priority"
    )]
    let _ = unsafe { libc::nice(10) };
}

/// A call that tells its meter whenever a thread begins to run it, or leaves it.
struct Call<T> {
    meter: Arc<Meter>,
    inner: Pin<Box<dyn Future<Output = T> + Send>>,
}

impl<T> Future for Call<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        this.meter.polled();
        let polled = this.inner.as_mut().poll(cx);
        if polled.is_pending() {
            this.meter.left();
        }
        polled
    }
}

enum Inline<T> {
    Done(T),
    Slow(Call<T>),
    Gone,
}

/// Holds the call while it runs inline; dropped early, it sends the rest to the lane.
struct Running<'a, T: Send + 'static> {
    call: Option<Call<T>>,
    share: &'a Share,
}

impl<T: Send + 'static> Running<'_, T> {
    fn poll_inline(&mut self, cx: &mut Context<'_>) -> Poll<Inline<T>> {
        let Some(mut call) = self.call.take() else {
            return Poll::Ready(Inline::Gone);
        };
        match Pin::new(&mut call).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Inline::Done(output)),
            Poll::Pending if call.meter.is_slow() => {
                // From now on it waits for a place.
                call.meter.go_on();
                Poll::Ready(Inline::Slow(call))
            }
            Poll::Pending => {
                self.call = Some(call);
                Poll::Pending
            }
        }
    }
}

impl<T: Send + 'static> Drop for Running<'_, T> {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            self.share.spawn(call);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_panic_in_the_work_ends_the_work_only() {
        assert_eq!(
            compute(|| -> u8 { panic!("as a compiler may") }).await,
            None
        );
        assert_eq!(compute(|| 7).await, Some(7));
    }

    #[tokio::test]
    async fn a_call_that_nobody_waits_for_still_ends() {
        let lane = SlowLane::new().unwrap();
        let meter = Arc::new(Meter::new(Duration::from_secs(1), Duration::from_secs(1)));
        let (started, start) = tokio::sync::oneshot::channel();
        let (ended, end) = tokio::sync::oneshot::channel();
        let share = lane.share(1);
        let call = share.run(meter, async move {
            start.await.unwrap();
            ended.send(()).unwrap();
        });
        assert!(
            tokio::time::timeout(Duration::from_millis(1), call)
                .await
                .is_err()
        );
        started.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(20), end)
            .await
            .unwrap()
            .unwrap();
    }
    /// A call that has run past its first tick when it is first left.
    async fn slow(share: &Share, work: impl Future<Output = ()> + Send + 'static) {
        let meter = Arc::new(Meter::new(Duration::from_secs(9), Duration::from_secs(9)));
        let ticking = meter.clone();
        let call = async move {
            ticking.mark_slow();
            tokio::task::yield_now().await;
            work.await;
        };
        share.run(meter, call).await.unwrap();
    }

    #[tokio::test]
    async fn a_full_share_keeps_no_other_service_waiting() {
        let lane = SlowLane::new().unwrap();
        let (full, other) = (lane.share(1), lane.share(1));
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        let holder = full.clone();
        let first = tokio::spawn(async move {
            slow(&holder, async { released.await.unwrap() }).await;
        });
        while full.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let (ran, mut has_run) = tokio::sync::oneshot::channel();
        let waiting = full.clone();
        let second = tokio::spawn(async move {
            slow(&waiting, async { ran.send(()).unwrap() }).await;
        });
        slow(&other, async {}).await;
        assert!(has_run.try_recv().is_err(), "the share has one place");
        release.send(()).unwrap();
        has_run.await.unwrap();
        first.await.unwrap();
        second.await.unwrap();
    }
}
