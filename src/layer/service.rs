use super::{
    ResponseFuture, ThrottleBody,
    future::{State, state},
    layer::Face,
    settle::{After, settle},
};
use crate::{
    Decision, HeaderStyle, Reason, Refusal, RequestHead, StoreError,
    limiter::{Admission, Charged, Known, Pending},
    response::Fields,
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body;
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
        let course = self.face.course(&RequestHead::new(&request), &[]);
        let state = state!(course, self.inner, request, |pending| {
            // The service that was polled ready goes along; the clone that stays has to be polled again.
            let clone = self.inner.clone();
            let service = mem::replace(&mut self.inner, clone);
            State::waiting(pending, self.face.clone(), service, request)
        });
        ResponseFuture { state }
    }
}

/// What becomes of a request.
pub(super) enum Course {
    /// It goes to the service.
    Pass,
    /// It goes to the service, and the response gets these fields.
    Tell(Fields),
    /// It goes to the service, and what else is to be done depends on the response.
    Settle(After),
    Refuse(Response<Bytes>),
    /// It waits for a permit, or a remote store is being asked.
    Wait(Pending),
}

/// How long to wait before a store that failed is worth another try.
const STORE_RETRY: Duration = Duration::from_secs(1);

impl Face {
    /// What becomes of a request; `known` are clients that were looked up elsewhere for it. All that does not depend on the wrapped service's types is in here.
    #[inline(never)]
    pub(super) fn course(self: &Arc<Self>, head: &RequestHead<'_>, known: &[Known]) -> Course {
        let mut charged = Charged::default();
        match self.limiter.inner.admit(head, &mut charged, known) {
            Admission::Free => Course::Pass,
            Admission::Decided => self.decide(&mut charged, head),
            Admission::Refused(reason) => Course::Refuse(self.refuse(reason, None, *head)),
            Admission::Waiting(pending) => Course::Wait(pending),
        }
    }

    /// What becomes of a request whose limits have answered.
    #[inline]
    pub(super) fn decide(self: &Arc<Self>, charged: &mut Charged, head: &RequestHead<'_>) -> Course {
        let inner = &self.limiter.inner;
        if let Some(reason) = charged.take_rejection() {
            return self.turn_away(reason, charged, *head);
        }
        if !charged.is_allowed() || inner.is_worth_telling(charged) {
            inner.report(charged, *head);
        }
        if !charged.is_allowed() {
            return self.decline(charged, *head);
        }
        let settles = inner.policy.has_settlements
            && charged.asked.iter().any(|asked| inner.policy.limits[asked.limit].settle.is_some());
        match self.headers {
            _ if settles || self.expose_decision || charged.is_held() => {}
            HeaderStyle::Off => return Course::Pass,
            HeaderStyle::Draft10 => {
                let fields = Fields::new(&charged.statuses(inner), charged.policies(inner));
                return Course::Tell(fields);
            }
            _ => {}
        }
        let permits = charged.take_permits();
        let decision = Arc::new(Decision::new(inner.clone(), mem::take(charged)));
        Course::Settle(After { face: self.clone(), decision, permits })
    }

    /// Refuses a request that a limit does not admit.
    #[cold]
    fn decline(&self, charged: &mut Charged, head: RequestHead<'_>) -> Course {
        self.limiter.inner.note_refusal(charged, head);
        let mut response = self.refuse(Reason::Limited, Some(charged), head);
        if self.expose_decision {
            let decision = Decision::new(self.limiter.inner.clone(), mem::take(charged));
            response.extensions_mut().insert(Arc::new(decision));
        }
        Course::Refuse(response)
    }

    /// Answers a request that a rule rejects and the limits of the others admit. What does not count a response of this
    /// status is given back, as it is after any other.
    #[cold]
    fn turn_away(&self, reason: Reason, charged: &mut Charged, head: RequestHead<'_>) -> Course {
        let inner = &self.limiter.inner;
        let mut decision = Decision::new(inner.clone(), mem::take(charged));
        decision.charged.asked = settle(&decision, reason.status(), &HeaderMap::new());
        inner.report_rejected(&reason, &decision.charged, head);
        let mut response = self.refuse(reason, Some(&decision.charged), head);
        if self.expose_decision && !decision.charged.asked.is_empty() {
            response.extensions_mut().insert(Arc::new(decision));
        }
        Course::Refuse(response)
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
        let limits = charged.map(|charged| charged.statuses(inner)).unwrap_or_default();
        let policies = charged.and_then(|charged| charged.policies(inner));
        let permits = charged.map(|charged| charged.permits(inner)).unwrap_or_default();
        let refusal = Refusal::new(reason, &limits, policies).and(&permits);
        self.refusal.respond(&refusal, head, self.headers, SystemTime::now)
    }
}
