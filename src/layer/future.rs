use super::{ThrottleBody, layer::Face, service::Course, settle::After};
use crate::limiter::Pending;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use std::{
    fmt,
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
        state: State<S, B, S::Future>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, B, F> {
        Forwarded { #[pin] future: F, after: Option<After> },
        Refused { response: Option<Response<Bytes>> },
        // Only a remote store makes a request wait for its verdict. Boxed, so that the others stay small.
        Deciding { waiting: Option<Box<Waiting<S, B>>> },
    }
}

struct Waiting<S, B> {
    pending: Pending,
    face: Arc<Face>,
    service: S,
    request: Request<B>,
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    pub(super) const fn forward(future: S::Future, after: Option<After>) -> Self {
        Self { state: State::Forwarded { future, after } }
    }

    pub(super) const fn refused(response: Response<Bytes>) -> Self {
        Self { state: State::Refused { response: Some(response) } }
    }

    pub(super) fn deciding(pending: Pending, face: Arc<Face>, service: S, request: Request<B>) -> Self {
        let waiting = Some(Box::new(Waiting { pending, face, service, request }));
        Self { state: State::Deciding { waiting } }
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
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Forwarded { future, after } => {
                    let response = ready!(future.poll(cx))?;
                    return Poll::Ready(Ok(match after.take() {
                        Some(after) => after.finish(response),
                        None => response.map(ThrottleBody::inner),
                    }));
                }
                StateProjection::Refused { response } => {
                    // Taken once: a future is not polled after it is ready.
                    let response = response.take().unwrap_or_default();
                    return Poll::Ready(Ok(response.map(ThrottleBody::refusal)));
                }
                StateProjection::Deciding { waiting } => {
                    let verdict = match waiting {
                        Some(waiting) => ready!(Pin::new(&mut waiting.pending).poll(cx)),
                        None => return Poll::Pending, // taken below, where the state changes with it
                    };
                    let Some(waiting) = waiting.take() else { return Poll::Pending };
                    let Waiting { face, mut service, mut request, .. } = *waiting;
                    match verdict.map(|mut charged| face.decide(&mut charged, &mut request)) {
                        Ok(Course::Pass(after)) => State::Forwarded { future: service.call(request), after },
                        Ok(Course::Refuse(response)) => State::Refused { response: Some(response) },
                        Err(error) => State::Refused { response: Some(face.fail(&error, &request)) },
                    }
                }
            };
            state.set(next);
        }
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
