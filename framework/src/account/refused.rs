//! Owns a refusal that may say when to come back.

use std::time::Duration;

use crate::wire::{Code, Refusal};

/// Why a request was not done, and, where it is known, when it would be.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) retry_after: Option<Duration>,
}

impl Refused {
    /// Too many tries; the next is in time once this is over.
    pub(super) fn too_many_tries(retry_after: Duration) -> Self {
        Self { refusal: Code::TOO_MANY_TRIES.into(), retry_after: Some(retry_after) }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, retry_after: None }
    }
}

impl From<Code> for Refused {
    fn from(code: Code) -> Self {
        Refusal::from(code).into()
    }
}

impl From<Refused> for Refusal {
    /// For whoever asks by message: an answer there has no place for a time.
    fn from(refused: Refused) -> Self {
        refused.refusal
    }
}
