//! What needs a runtime: timers, and tasks that go on without anybody who waits for them.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{runtime::Handle, time::Sleep};

/// Waits until `done` is, but no longer than `time`.
pub(super) async fn wait(time: Duration, mut done: impl FnMut(&mut Context<'_>) -> Poll<()>) {
    let mut sleep = pin!(tokio::time::sleep(time));
    poll_fn(|cx| if done(cx).is_ready() { Poll::Ready(()) } else { sleep.as_mut().poll(cx) }).await;
}

/// Where the timers of a task are.
#[derive(Debug)]
pub(super) struct Home(Handle);

impl Home {
    pub(super) fn current() -> Option<Self> {
        Handle::try_current().ok().map(Self)
    }
}

/// Wakes a task when it is time, as long as this lives.
#[derive(Debug)]
pub(super) struct Alarm(#[allow(dead_code, reason = "it is there to be dropped")] Pin<Box<Sleep>>);

impl Alarm {
    /// Nothing where it is time. The timer is one of the task's own runtime: another one's may not be running any more.
    pub(super) fn set(home: &Home, time: Duration, waker: &Waker) -> Option<Self> {
        let _entered = home.0.enter();
        let mut sleep = Box::pin(tokio::time::sleep(time));
        sleep.as_mut().poll(&mut Context::from_waker(waker)).is_pending().then_some(Self(sleep))
    }
}

/// Waits for `future`, but no longer than for `end`.
pub(super) async fn first<F: Future>(future: F, end: impl Future) -> Option<F::Output> {
    let (mut future, mut end) = (pin!(future), pin!(end));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Pending => end.as_mut().poll(cx).map(|_| None),
        ready => ready.map(Some),
    })
    .await
}

/// Runs what nobody waits for any more; nothing where there is no runtime.
pub(super) fn go_on(future: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(future);
    }
}

pub(super) use tokio::time::Instant;
#[cfg(any(feature = "retry", feature = "scrape"))]
pub(super) use tokio::time::sleep;

/// The time by which retries and batches are counted.
pub(super) fn now() -> Instant {
    Instant::now()
}
