use super::{Permit, Permits, Usages};
use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

/// A place in the line. It is ready when the permit is granted; dropped before, it leaves the line and holds nothing.
///
/// It knows no time: whoever waits until a deadline asks for it [once more](Self::last_call) then.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Waiting {
    permits: Permits,
    /// Nothing once it has answered.
    waiter: Option<u32>,
}

impl Waiting {
    pub(super) const fn new(permits: Permits, waiter: u32) -> Self {
        Self { permits, waiter: Some(waiter) }
    }

    /// The permit if it was granted by now; otherwise the place in the line is given up, and how much is in use is told.
    pub(crate) fn last_call(&mut self) -> Result<(Permit, Usages), Usages> {
        let Some(waiter) = self.waiter.take() else { return Err(Usages::new()) };
        let (granted, usages, _waker) = self.permits.locked(|ledger, woken| ledger.last_call(waiter, woken));
        match granted {
            Some(counts) => Ok((self.permits.permit(counts), usages)),
            None => Err(usages),
        }
    }

    fn ask(&mut self, waker: &Waker) -> Poll<(Permit, Usages)> {
        let Some(waiter) = self.waiter else { return Poll::Pending };
        // Cloned before and dropped after the lock is held: a waker's code is not ours.
        let mut waker = Some(waker.clone());
        match self.permits.locked(|ledger, _| ledger.poll(waiter, &mut waker)) {
            Some((counts, usages)) => {
                self.waiter = None;
                Poll::Ready((self.permits.permit(counts), usages))
            }
            None => Poll::Pending,
        }
    }
}

impl Future for Waiting {
    type Output = (Permit, Usages);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.ask(cx.waker())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            drop(self.permits.locked(|ledger, woken| ledger.leave(waiter, woken)));
        }
    }
}
