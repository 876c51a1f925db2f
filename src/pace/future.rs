use super::{Divert, Judge, PaceFuture, PaceLayer, SendError, Unjudged, feedback::Room, layer::Face};
use crate::Event;
use pin_project_lite::pin_project;
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tower_service::Service;

pin_project! {
    /// The answer to a request through [`Pace`](crate::Pace), which may have to wait before it is sent.
    ///
    /// Dropped while it waits, it leaves the queue, and has been charged nothing.
    #[must_use = "futures do nothing unless polled"]
    pub struct SendFuture<S, R, D, J = Unjudged>
    where
        S: Service<R>,
        D: Divert<R, S::Response, S::Error>,
    {
        #[pin]
        state: State<S, R, D, J, S::Future, D::Future>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, R, D, J, F, A> {
        Pacing { pace: PaceFuture, held: Option<Held<S, R, D, J>> },
        Sent { #[pin] future: F, sent: Sent<R, J> },
        Diverted { #[pin] future: A },
    }
}

/// What a request waits with.
struct Held<S, R, D, J> {
    service: S,
    request: R,
    layer: PaceLayer<R, D, J>,
}

/// What an answer is judged with, and when its request was sent.
struct Sent<R, J> {
    face: Arc<Face<R>>,
    judge: J,
    at: u64,
    room: Option<Room>,
}

impl<S, R, D, J> SendFuture<S, R, D, J>
where
    S: Service<R>,
    D: Divert<R, S::Response, S::Error>,
{
    pub(super) const fn new(pace: PaceFuture, service: S, request: R, layer: PaceLayer<R, D, J>) -> Self {
        Self { state: State::Pacing { pace, held: Some(Held { service, request, layer }) } }
    }
}

impl<S, R, D, J> Future for SendFuture<S, R, D, J>
where
    S: Service<R>,
    D: Divert<R, S::Response, S::Error>,
    J: Judge<S::Response, S::Error>,
{
    type Output = Result<S::Response, SendError<S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Pacing { pace, held } => {
                    let verdict = ready!(pace.poll_passed(cx));
                    // Taken once, because the state changes with it.
                    let Some(Held { mut service, request, layer }) = held.take() else {
                        return Poll::Pending;
                    };
                    match verdict {
                        Err(error) if !layer.face.overlooks(&error) => {
                            if D::DIVERTS {
                                layer.face.pacer.emit(&Event::Diverted);
                            }
                            State::Diverted { future: layer.divert.divert(request, error) }
                        }
                        verdict => {
                            let room = verdict.ok().and_then(|(_, room)| room);
                            let PaceLayer { face, judge, .. } = layer;
                            let at = face.pacer.now();
                            State::Sent {
                                future: service.call(request),
                                sent: Sent { face, judge, at, room },
                            }
                        }
                    }
                }
                StateProjection::Sent { future, sent: Sent { face, judge, at, room } } => {
                    let answer = ready!(future.poll(cx));
                    if let Some(outcome) = judge.judge(answer.as_ref()) {
                        face.report(outcome, *at);
                    }
                    *room = None;
                    return Poll::Ready(answer.map_err(SendError::Inner));
                }
                StateProjection::Diverted { future } => return future.poll(cx),
            };
            state.set(next);
        }
    }
}

impl<S, R, D, J> fmt::Debug for SendFuture<S, R, D, J>
where
    S: Service<R>,
    D: Divert<R, S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendFuture").finish_non_exhaustive()
    }
}
