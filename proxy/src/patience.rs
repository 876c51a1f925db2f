//! A deadline that moves often and passes rarely.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline whose timer is set when one passes, not when it moves: moving it is one look at the clock.
#[derive(Debug)]
pub(crate) struct Patience {
    span: Duration,
    deadline: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// A deadline that is so far away whenever it is begun anew.
    pub(crate) fn new(span: Duration) -> Self {
        Self { span, deadline: Instant::now() + span, timer: None }
    }

    /// Moves the deadline away from now.
    pub(crate) fn renew(&mut self) {
        self.deadline = Instant::now() + self.span;
    }

    /// Moves the deadline away from now, by another span from here on.
    pub(crate) fn renew_by(&mut self, span: Duration) {
        self.span = span;
        self.renew();
    }

    /// Ready once the deadline has passed.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}
