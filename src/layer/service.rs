use super::{
    ResponseFuture, ThrottleBody,
    course::Course,
    future::{State, state},
    layer::Face,
};
use crate::RequestHead;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};
use tower_service::Service;

/// The service that [`ThrottleLayer`](crate::ThrottleLayer) makes.
///
/// A clone costs one reference count besides that of the inner service.
#[derive(Debug, Clone)]
pub struct Throttle<S> {
    inner: S,
    face: Arc<Face>,
}

impl<S> Throttle<S> {
    pub(super) const fn new(inner: S, face: Arc<Face>) -> Self {
        Self { inner, face }
    }

    /// The service inside.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Throttle<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    ResBody: Body<Data = Bytes>,
{
    type Response = Response<ThrottleBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let course = self.face.course(&RequestHead::new(&request));
        if let Course::Pass = course {
            return ResponseFuture { state: State::Passed { future: self.inner.call(request) } };
        }
        let state = state!(course, self.inner, request, |pending, limiter| {
            // The service that was polled ready goes along; the clone that stays has to be polled again.
            let clone = self.inner.clone();
            let service = mem::replace(&mut self.inner, clone);
            State::waiting((pending, limiter), self.face.clone(), service, request)
        });
        ResponseFuture { state }
    }
}
