use super::{Divert, PaceFuture, PaceLayer, SendError};
use pin_project_lite::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower_service::Service;

pin_project! {
    /// The answer to a request through [`Pace`](crate::Pace), which may have to wait before it is sent.
    ///
    /// Dropped while it waits, it leaves the queue, and has been charged nothing.
    #[must_use = "futures do nothing unless polled"]
    pub struct SendFuture<S, R, D>
    where
        S: Service<R>,
        D: Divert<R, S::Response, S::Error>,
    {
        #[pin]
        state: State<S, R, D, S::Future, D::Future>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, R, D, F, A> {
        Pacing { pace: PaceFuture, held: Option<Held<S, R, D>> },
        Sent { #[pin] future: F },
        Diverted { #[pin] future: A },
    }
}

/// What a request waits with.
struct Held<S, R, D> {
    service: S,
    request: R,
    layer: PaceLayer<R, D>,
}

impl<S, R, D> SendFuture<S, R, D>
where
    S: Service<R>,
    D: Divert<R, S::Response, S::Error>,
{
    pub(super) const fn new(pace: PaceFuture, service: S, request: R, layer: PaceLayer<R, D>) -> Self {
        Self { state: State::Pacing { pace, held: Some(Held { service, request, layer }) } }
    }
}

impl<S, R, D> Future for SendFuture<S, R, D>
where
    S: Service<R>,
    D: Divert<R, S::Response, S::Error>,
{
    type Output = Result<S::Response, SendError<S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Pacing { pace, held } => {
                    let verdict = ready!(Pin::new(pace).poll(cx));
                    // Taken once, because the state changes with it.
                    let Some(Held { mut service, request, layer }) = held.take() else {
                        return Poll::Pending;
                    };
                    match verdict {
                        Err(error) if !layer.face.overlooks(&error) => {
                            State::Diverted { future: layer.divert.divert(request, error) }
                        }
                        _ => State::Sent { future: service.call(request) },
                    }
                }
                StateProjection::Sent { future } => return future.poll(cx).map_err(SendError::Inner),
                StateProjection::Diverted { future } => return future.poll(cx),
            };
            state.set(next);
        }
    }
}

impl<S, R, D> fmt::Debug for SendFuture<S, R, D>
where
    S: Service<R>,
    D: Divert<R, S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendFuture").finish_non_exhaustive()
    }
}
