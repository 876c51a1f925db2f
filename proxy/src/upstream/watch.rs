//! How long an answer may take.

use crate::{
    patience::Patience,
    upload::{Progress, Stage, Upload},
};
use http::Request;
use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

/// Waits for an answer no longer than it may take, and for a request to be sent as long as that goes on.
pub(super) struct Watch {
    progress: Option<Arc<Progress>>,
    seen: u64,
}

impl Watch {
    pub(super) fn new(request: &Request<Upload>) -> Self {
        Self { progress: request.body().progress(), seen: 0 }
    }

    /// Ready when the answer is overdue.
    pub(super) fn poll_over(&mut self, patience: &mut Patience, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(patience.poll_over(cx));
            let Some(progress) = &self.progress else { return Poll::Ready(()) };
            let frames = progress.frames();
            // Clients that are too slow are none of the upstream's doing, and have a time of their own.
            if frames == self.seen && progress.stage() != Stage::Awaited {
                return Poll::Ready(());
            }
            self.seen = frames;
            patience.renew();
        }
    }
}
