use super::{ThrottleBody, course::Course, layer::Face, settle::After};
use crate::{
    RequestHead,
    limiter::{Inner, Pending, Verdict},
    response::Fields,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tower_service::Service;

pin_project! {
    /// The response of [`Throttle`](crate::Throttle): the inner service's, or a refusal.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        pub(super) state: State<S, B, S::Future>,
    }
}

pin_project! {
    #[project = StateProjection]
    pub(super) enum State<S, B, F> {
        Passed { #[pin] future: F },
        Told { #[pin] future: F, fields: Fields },
        Settled { #[pin] future: F, after: Option<After> },
        Refused { response: Option<Response<Bytes>> },
        // Only a permit or a remote store makes a request wait for its verdict. Boxed, so that the others stay small.
        Waiting { waiting: Option<Box<Waiting<S, B>>> },
    }
}

/// The state that a request enters whose course is clear.
///
/// No function, because a request and a future are hundreds of bytes, which it would pass around.
macro_rules! state {
    ($course:expr, $service:expr, $request:ident, |$pending:ident, $inner:ident| $wait:expr) => {
        match $course {
            Course::Pass => State::Passed { future: $service.call($request) },
            Course::Tell(fields) => State::Told { future: $service.call($request), fields },
            Course::Settle(after) => {
                after.expose($request.extensions_mut());
                State::Settled { future: $service.call($request), after: Some(after) }
            }
            Course::Refuse(response) => State::Refused { response: Some(response) },
            Course::Wait($pending, $inner) => $wait,
        }
    };
}
pub(super) use state;

pub(super) struct Waiting<S, B> {
    pending: Pending,
    inner: Arc<Inner>,
    face: Arc<Face>,
    service: S,
    request: Request<B>,
    /// When it began to wait, if that is measured.
    since: Option<u64>,
}

impl<S, B, F> State<S, B, F> {
    pub(super) fn waiting(
        (pending, inner): (Pending, Arc<Inner>),
        face: Arc<Face>,
        service: S,
        request: Request<B>,
    ) -> Self {
        let since = inner.since(true);
        Self::Waiting { waiting: Some(Box::new(Waiting { pending, inner, face, service, request, since })) }
    }
}

impl<S, B, ResBody> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<ResBody>>,
    ResBody: Body<Data = Bytes>,
{
    type Output = Result<Response<ThrottleBody<ResBody>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        if state.is_waiting() {
            ready!(state.as_mut().poll_waiting(cx));
        }
        // What is taken is taken once: a future is not polled after it is ready.
        match state.project() {
            StateProjection::Passed { future } => {
                future.poll(cx).map_ok(|response| response.map(ThrottleBody::inner))
            }
            StateProjection::Told { future, fields } => {
                let mut response = ready!(future.poll(cx))?;
                mem::take(fields).append_to(response.headers_mut());
                Poll::Ready(Ok(response.map(ThrottleBody::inner)))
            }
            StateProjection::Settled { future, after } => {
                let response = ready!(future.poll(cx));
                // What it holds goes into the response, or is given back with an error.
                let after = after.take();
                let response = response?;
                Poll::Ready(Ok(match after {
                    Some(after) => after.finish(response),
                    None => response.map(ThrottleBody::inner),
                }))
            }
            StateProjection::Refused { response } => {
                let response = response.take().unwrap_or_default();
                Poll::Ready(Ok(response.map(ThrottleBody::refusal)))
            }
            StateProjection::Waiting { .. } => Poll::Pending, // it was left above
        }
    }
}

impl<S, B, ResBody> State<S, B, S::Future>
where
    S: Service<Request<B>, Response = Response<ResBody>>,
{
    const fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting { .. })
    }

    /// Leaves the waiting for another state. It is apart, so that it is not in the way of those who wait for nothing.
    #[inline(never)]
    fn poll_waiting(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        while let StateProjection::Waiting { waiting } = self.as_mut().project() {
            let verdict = match waiting {
                Some(waiting) => ready!(waiting.pending.poll(&waiting.inner, cx)),
                None => return Poll::Pending, // taken below, where the state changes with it
            };
            let Some(waiting) = waiting.take() else { return Poll::Pending };
            let Waiting { inner, face, mut service, mut request, since, .. } = *waiting;
            inner.took(since);
            let next = match verdict {
                Ok(Verdict::Known(known, looked)) => {
                    inner.note_looked(&looked);
                    let course = face.course_of_known(&inner, &RequestHead::new(&request), &known);
                    state!(course, service, request, |pending, inner| {
                        State::waiting((pending, inner), face, service, request)
                    })
                }
                Ok(Verdict::Charged(mut charged)) => {
                    let course = face.decide(&inner, &mut charged, &RequestHead::new(&request));
                    state!(course, service, request, |pending, inner| {
                        State::waiting((pending, inner), face, service, request)
                    })
                }
                Err(error) => State::Refused { response: Some(face.fail(&inner, &error, &request)) },
            };
            self.set(next);
        }
        Poll::Ready(())
    }
}

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
