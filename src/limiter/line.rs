//! Requests that wait for a permit.

use super::{Charged, Inner, demands::Demands, news::News, timer::Sleep};
use crate::permit::Waiting;
use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// A request in line: it holds no permit and has been charged nothing.
pub(super) struct Line {
    waiting: Waiting,
    /// How long it waits from when it is first polled: a timer may need the runtime that polls.
    patience: Duration,
    pub(super) deadline: Option<Sleep>,
    demands: Demands,
    news: News,
    /// What it will be charged.
    pub(super) charged: Charged,
}

impl Line {
    pub(super) fn new(waiting: Waiting, patience: Duration, demands: Demands) -> Self {
        Self {
            waiting,
            patience,
            deadline: None,
            demands,
            news: News::default(),
            charged: Charged::default(),
        }
    }

    /// What is to be charged, with the permits, or with the refusal once the deadline has passed.
    pub(super) fn poll(&mut self, inner: &Inner, cx: &mut Context<'_>) -> Poll<Charged> {
        self.news.follow(inner, &self.demands.stakes, cx);
        let held = match Pin::new(&mut self.waiting).poll(cx) {
            Poll::Ready((permit, usages)) => inner.granted(&self.demands, permit, &usages),
            Poll::Pending if self.has_time(inner, cx) => return Poll::Pending,
            Poll::Pending => match self.waiting.last_call() {
                Ok((permit, usages)) => inner.granted(&self.demands, permit, &usages),
                Err(usages) => Inner::refused(&self.demands, &usages),
            },
        };
        let mut charged = mem::take(&mut self.charged);
        // Quotas may have changed while it waited.
        charged.renew(inner);
        charged.hold(held);
        Poll::Ready(charged)
    }

    fn has_time(&mut self, inner: &Inner, cx: &mut Context<'_>) -> bool {
        // Without a timer no limiter is built that lets requests wait.
        let Some(timer) = &inner.timer else { return false };
        self.deadline.get_or_insert_with(|| timer(self.patience)).as_mut().poll(cx).is_pending()
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("demands", &self.demands).finish_non_exhaustive()
    }
}
