//! The body of a request as a handler reads it, and what a connection knows of the
//! request that it carries. HTTP/1 carries one at a time, so one note is enough.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// What is known of the request that a connection carries.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// It was handed to the handler and is not answered yet.
    pub(super) handled: AtomicBool,
    /// The handler left some of its body unread, so the connection can carry no other.
    pub(super) unread: AtomicBool,
}

/// The body of a request. Dropped before its end, it leaves a connection of HTTP/1
/// that has to be closed: what follows on it is the rest of the body.
#[derive(Debug)]
pub struct RequestBody {
    incoming: Incoming,
    ended: bool,
    exchange: Arc<Exchange>,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, exchange: Arc<Exchange>) -> RequestBody {
        RequestBody {
            ended: incoming.is_end_stream(),
            incoming,
            exchange,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        self.ended = frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.is_end_stream() {
            self.exchange.unread.store(true, Ordering::Relaxed);
        }
    }
}
