use super::{ResponseFuture, ThrottleBody, layer::Face, settle::After};
use crate::{
    Decision, HeaderStyle, LimitStatus, Reason, Refusal, RequestHead, StoreError,
    limiter::{Admission, Charged},
    response::Fields,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use smallvec::SmallVec;
use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
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
        let mut charged = Charged::default();
        let head = RequestHead::new(&request);
        match self.face.limiter.inner.admit(head, &mut charged) {
            Admission::Free => ResponseFuture::forward(self.inner.call(request), None),
            Admission::Decided => match self.face.decide(&mut charged, &mut request) {
                Course::Pass(after) => ResponseFuture::forward(self.inner.call(request), after),
                Course::Refuse(response) => ResponseFuture::refused(response),
            },
            Admission::Refused(reason) => ResponseFuture::refused(self.face.refuse(reason, None, head)),
            Admission::Waiting(pending) => {
                // The service that was polled ready goes along; the clone that stays has to be polled again.
                let clone = self.inner.clone();
                let ready = mem::replace(&mut self.inner, clone);
                ResponseFuture::deciding(pending, self.face.clone(), ready, request)
            }
        }
    }
}

/// What becomes of a request.
pub(super) enum Course {
    /// It goes to the service, and this is to be done with the response.
    Pass(Option<After>),
    Refuse(Response<Bytes>),
}

/// How long to wait before a store that failed is worth another try.
const STORE_RETRY: Duration = Duration::from_secs(1);

impl Face {
    /// What becomes of a request whose limits have answered.
    pub(super) fn decide<B>(self: &Arc<Self>, charged: &mut Charged, request: &mut Request<B>) -> Course {
        let inner = &self.limiter.inner;
        let head = RequestHead::new(request);
        inner.report(charged, head);
        if !charged.is_allowed() {
            let mut response = self.refuse(Reason::Limited, Some(charged), head);
            if self.expose_decision {
                response.extensions_mut().insert(Arc::new(Decision::new(inner.clone(), mem::take(charged))));
            }
            return Course::Refuse(response);
        }
        let settles = inner.policy.has_settlements
            && charged.limits.iter().any(|limit| inner.policy.limits[*limit].settle.is_some());
        if !settles && !self.expose_decision {
            match self.headers {
                HeaderStyle::Off => return Course::Pass(None),
                HeaderStyle::Draft10 => {
                    let limits: SmallVec<[LimitStatus<'_>; 4]> =
                        charged.statuses(inner, &charged.readings).collect();
                    return Course::Pass(Some(After::Fields(Fields::new(&limits))));
                }
                _ => {}
            }
        }
        let decision = Arc::new(Decision::new(inner.clone(), mem::take(charged)));
        if self.expose_decision {
            request.extensions_mut().insert(decision.clone());
        }
        Course::Pass(Some(After::Decision { face: self.clone(), decision }))
    }

    pub(super) fn fail<B>(&self, error: &StoreError, request: &Request<B>) -> Response<Bytes> {
        let head = RequestHead::new(request);
        self.limiter.inner.report_store(error, Some(head));
        self.refuse(Reason::StoreDown { retry_after: STORE_RETRY }, None, head)
    }

    /// The answer to a request that is refused.
    pub(super) fn refuse(
        &self,
        reason: Reason,
        charged: Option<&Charged>,
        head: RequestHead<'_>,
    ) -> Response<Bytes> {
        let inner = &self.limiter.inner;
        let limits: SmallVec<[LimitStatus<'_>; 4]> =
            charged.into_iter().flat_map(|charged| charged.statuses(inner, &charged.readings)).collect();
        let refusal = Refusal::new(reason, &limits);
        self.refusal.respond(&refusal, head, self.headers, SystemTime::now)
    }
}
