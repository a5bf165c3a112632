//! Where a call into a guest runs. A short call runs on the thread that took the
//! request; one that computes past its first tick moves to low-priority threads, so
//! that a looping guest never keeps a port waiting. A call is never dropped while it
//! runs: if nobody waits for it any more, it ends on the slow lane.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::{Builder, Handle, Runtime};

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

    /// Runs a call to its end. None only if the lane stops first. `meter` must be
    /// the one that the call's instance looks at.
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
            lane: &self.handle,
        };
        match std::future::poll_fn(|cx| running.poll_inline(cx)).await {
            Inline::Done(output) => Some(output),
            Inline::Slow(call) => self.handle.spawn(call).await.ok(),
            Inline::Gone => None,
        }
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

/// A call that tells its meter whenever a thread begins to run it.
struct Call<T> {
    meter: Arc<Meter>,
    inner: Pin<Box<dyn Future<Output = T> + Send>>,
}

impl<T> Future for Call<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        this.meter.polled();
        this.inner.as_mut().poll(cx)
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
    lane: &'a Handle,
}

impl<T: Send + 'static> Running<'_, T> {
    fn poll_inline(&mut self, cx: &mut Context<'_>) -> Poll<Inline<T>> {
        let Some(mut call) = self.call.take() else {
            return Poll::Ready(Inline::Gone);
        };
        match Pin::new(&mut call).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Inline::Done(output)),
            Poll::Pending if call.meter.is_slow() => Poll::Ready(Inline::Slow(call)),
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
            self.lane.spawn(call);
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
        let call = lane.run(meter, async move {
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
}
