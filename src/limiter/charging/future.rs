//! A charge that is being decided.

use super::{
    super::{ChargeError, Charged, Inner, Pending, Verdict},
    Charging,
};
use crate::{Decision, StoreError};
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// The decision; ready when first polled, and made without allocation, where the limiter counts in memory and the client
/// is known.
#[must_use = "futures do nothing unless polled"]
pub struct ChargeFuture<'a> {
    charging: Charging<'a>,
    progress: Progress,
}

enum Progress {
    Fresh,
    /// A registry or a store elsewhere is being asked, or permits are waited for.
    Waiting(Box<(Pending, Arc<Inner>)>),
    Answered,
}

impl<'a> ChargeFuture<'a> {
    pub(super) const fn new(charging: Charging<'a>) -> Self {
        Self { charging, progress: Progress::Fresh }
    }

    /// Goes on where something was waited for.
    #[cold]
    fn go_on(&mut self, cx: &mut Context<'_>) -> Poll<Result<Decision, ChargeError>> {
        while let Progress::Waiting(waiting) = &mut self.progress {
            // What was begun under one policy ends under it.
            let (pending, inner) = &mut **waiting;
            let charged = match ready!(pending.poll(inner, cx)) {
                Ok(Verdict::Charged(charged)) => charged,
                Ok(Verdict::Known(_, looked)) => {
                    inner.note_looked(&looked);
                    let mut charged = Charged::default();
                    match self.charging.ask(inner, Some(looked.outcome), &mut charged) {
                        Ok(None) => charged,
                        Ok(Some(next)) => {
                            *pending = next;
                            continue;
                        }
                        Err(error) => return self.end(Err(error)),
                    }
                }
                Err(error) => {
                    inner.report_store(&error, None);
                    return self.end(Err(ChargeError::Store(error)));
                }
            };
            let mut decision = Decision::open(inner.clone());
            decision.charged = charged;
            self.charging.conclude(&mut decision);
            return self.end(Ok(decision));
        }
        Poll::Ready(Err(ChargeError::Store(StoreError::new("polled again after it had answered"))))
    }

    fn end(&mut self, answer: Result<Decision, ChargeError>) -> Poll<Result<Decision, ChargeError>> {
        self.progress = Progress::Answered;
        Poll::Ready(answer)
    }
}

impl Future for ChargeFuture<'_> {
    type Output = Result<Decision, ChargeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !matches!(self.progress, Progress::Fresh) {
            return self.go_on(cx);
        }
        self.progress = Progress::Answered;
        let inner = self.charging.limiter.now();
        // The reference count that a decision takes would hold up the look at what the client owes.
        if let Some(memory) = inner.engine.memory() {
            memory.fetch(self.charging.key);
        }
        let mut decision = Decision::open(inner.clone());
        match self.charging.ask(&inner, None, &mut decision.charged) {
            Ok(None) => {
                self.charging.conclude(&mut decision);
                Poll::Ready(Ok(decision))
            }
            Ok(Some(pending)) => {
                let waiting = Box::new((pending, inner.clone()));
                drop(inner);
                self.progress = Progress::Waiting(waiting);
                self.go_on(cx)
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl fmt::Debug for ChargeFuture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChargeFuture").finish_non_exhaustive()
    }
}
