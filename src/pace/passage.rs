//! One send as its holder sees it: past the queue where nobody waits and the limits admit it, or by way of the queue.

use super::{
    PaceError, Priority,
    queue::Units,
    shared::Shared,
    wait::{Manner, Passed, Send, pass},
};
use crate::{
    Decision,
    limiter::{AtOnce, Inner, Paced, Sender},
};
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// The decision, once something may be sent; dropping it cancels.
#[must_use = "futures do nothing unless polled"]
pub struct PaceFuture(State);

enum State {
    Fresh(Fresh),
    /// The error, until it is taken.
    Failed(Option<PaceError>),
    /// What it is held to, for the meters, and its way through the queue.
    Started(Arc<Shared>, Pin<Box<dyn Future<Output = Result<Passed, PaceError>> + std::marker::Send>>),
}

/// A send that has not been polled yet.
struct Fresh {
    shared: Arc<Shared>,
    /// The policy that it is held to, where that is not the limiter's first one, and the number of its rule.
    later: Option<Arc<Inner>>,
    rule: usize,
    sender: Sender,
    units: Units,
    manner: Manner,
}

impl Fresh {
    /// The way past the queue, for what needs nothing but its limits, and overtakes nobody.
    fn at_once(&self) -> Option<AtOnce<'_>> {
        let Shared { first, takes_turns, settings, queues, control, .. } = &*self.shared;
        let is_plain = control.is_none() && !settings.shadow;
        (is_plain && queues.is_free(self.sender.key, *takes_turns)).then(|| AtOnce {
            inner: self.later.as_ref().unwrap_or(first),
            rule: self.rule,
            sender: &self.sender,
            units: &self.units,
        })
    }

    fn passes_at_once(&self) -> bool {
        let spacing = self.shared.settings.spacing;
        self.at_once().is_some_and(|send| send.passes(|rate, units| spacing.burst(rate, units)))
    }

    fn decides_at_once(&self) -> Option<Decision> {
        let spacing = self.shared.settings.spacing;
        self.at_once()?.decides(|rate, units| spacing.burst(rate, units))
    }
}

impl PaceFuture {
    #[inline]
    pub(super) fn new(
        shared: Arc<Shared>,
        (later, rule): (Option<Arc<Inner>>, usize),
        sender: Sender,
        units: Units,
        manner: Manner,
    ) -> Self {
        Self(State::Fresh(Fresh { shared, later, rule, sender, units, manner }))
    }

    pub(super) const fn failed(error: PaceError) -> Self {
        Self(State::Failed(Some(error)))
    }

    /// How urgent it is, before it is first polled; [`Priority::Normal`] unless set.
    pub fn priority(mut self, priority: Priority) -> Self {
        if let State::Fresh(fresh) = &mut self.0 {
            fresh.manner.priority = priority;
        }
        self
    }

    /// Charges what may go at once, when it is first polled. Then there is nothing more to poll.
    pub(super) fn passes_at_once(&self) -> bool {
        matches!(&self.0, State::Fresh(fresh) if fresh.passes_at_once())
    }

    /// Goes by way of the queue.
    pub(super) fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<Result<Passed, PaceError>> {
        loop {
            match &mut self.0 {
                State::Started(shared, future) => {
                    let passed = ready!(future.as_mut().poll(cx));
                    if let Err(error) = &passed {
                        shared.first.meters.rejected(shared.rule, error.name());
                    }
                    return Poll::Ready(passed);
                }
                State::Failed(error) => {
                    return error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
                }
                State::Fresh(_) => self.start(),
            }
        }
    }

    fn start(&mut self) {
        let State::Fresh(fresh) = std::mem::replace(&mut self.0, State::Failed(None)) else { return };
        let Fresh { shared, later, rule, sender, units, manner } = fresh;
        let inner = later.as_ref().unwrap_or(&shared.first);
        let paced = Paced::new(inner, rule, sender, units, shared.settings.shadow);
        let send = Send { paced: Box::new(paced), manner };
        shared.first.meters.attempted(shared.rule);
        self.0 = State::Started(shared.clone(), Box::pin(pass(shared, send)));
    }
}

impl Future for PaceFuture {
    type Output = Result<Decision, PaceError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::Fresh(fresh) = &self.0 {
            if let Some(decision) = fresh.decides_at_once() {
                self.0 = State::Failed(None);
                return Poll::Ready(Ok(decision));
            }
        }
        self.poll_passed(cx).map_ok(|(decision, _)| decision)
    }
}

impl fmt::Debug for PaceFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaceFuture").finish_non_exhaustive()
    }
}
