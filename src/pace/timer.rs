//! The only place that knows a runtime.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

/// Waits until `done` is, but no longer than `time`.
pub(super) async fn wait(time: Duration, mut done: impl FnMut(&mut Context<'_>) -> Poll<()>) {
    let mut sleep = pin!(tokio::time::sleep(time));
    poll_fn(|cx| if done(cx).is_ready() { Poll::Ready(()) } else { sleep.as_mut().poll(cx) }).await;
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
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(future);
    }
}

pub(super) use tokio::time::Instant;
#[cfg(feature = "retry")]
pub(super) use tokio::time::sleep;

/// The time by which retries and batches are counted.
pub(super) fn now() -> Instant {
    Instant::now()
}
