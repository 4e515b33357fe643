//! Owns a refusal that may say when to come back.

use std::time::Duration;

use crate::wire::{Code, Refusal};

/// Why a request was not done, and, where it is known, when it would be.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) retry_after: Option<Duration>,
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
