//! What comes of a request in a slot: the component's answer, or why there is none.

use bytes::Bytes;

use crate::instance::Fault;

/// Why there is no answer of the component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No component was ever loaded.
    #[error("the service has no working component")]
    NoComponent,
    /// Too many requests are in the service already.
    #[error("the service is busy")]
    Busy {
        /// Whole seconds to wait before trying again.
        retry_after: u32,
    },
    /// The component ran past its time too often; it is tried again later.
    #[error("the component is in quarantine")]
    Resting {
        /// Whole seconds to wait before trying again.
        retry_after: u32,
    },
    /// The component failed, and so did a second run where there was one.
    #[error("the component failed")]
    Trapped,
    /// The component ran past a limit, and so did a second run where there was one, or the
    /// host took too long over one of its calls.
    #[error("the component ran past its limits")]
    TimedOut,
    /// The component's answer cannot be sent, nor that of a second run where there was one.
    #[error("the component gave an answer that cannot be sent")]
    BadAnswer,
}

/// There is no place; one is likely to be free in a second.
pub(super) const BUSY: Refusal = Refusal::Busy { retry_after: 1 };

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Refusal {
        match fault {
            Fault::Cpu | Fault::Wall | Fault::Kept => Refusal::TimedOut,
            Fault::Trap(_) | Fault::Memory(_) | Fault::HostCalls(_) | Fault::OffTape => {
                Refusal::Trapped
            }
            Fault::BadAnswer(_) | Fault::BadActions(_) => Refusal::BadAnswer,
            Fault::NoSockets => Refusal::NoComponent,
            Fault::Crowded => BUSY,
        }
    }
}

/// A component's answer that can be sent.
#[derive(Debug)]
pub struct Answer {
    /// Checked against HTTP's rules and the component's limits.
    pub response: http::Response<Bytes>,
    /// Short digest of the revision that answered.
    pub revision: String,
}
