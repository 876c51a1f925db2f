//! What becomes of a request. All of it that does not depend on the wrapped service's types is in here.

use super::{
    layer::Face,
    meter::Meter,
    ongoing::Ongoing,
    settle::{After, Kept, settle},
};
use crate::{
    Decision, HeaderStyle, Reason, Refusal, RequestHead, StoreError,
    limiter::{Admission, Charged, Inner, Known, Pending, Sure},
    policy::Sole,
    response::{AnswerStyle, Fields},
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use std::{
    mem,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// What becomes of a request.
pub(super) enum Course {
    /// It goes to the service.
    Pass,
    /// It goes to the service, and the response gets these fields.
    Tell(Fields),
    /// It goes to the service, and what else is to be done depends on the response.
    Settle(After),
    Refuse(Response<Bytes>),
    /// It waits for a permit, or a remote store is being asked, under the policy that was in force when it came.
    Wait(Pending, Arc<Inner>),
}

/// How long to wait before a store that failed is worth another try.
const STORE_RETRY: Duration = Duration::from_secs(1);

impl Face {
    /// What becomes of a request under the policy that is in force.
    #[inline(never)]
    pub(super) fn course(self: &Arc<Self>, head: &RequestHead<'_>) -> Course {
        let inner = &*self.limiter.now();
        match inner.since(false) {
            Some(since) => self.timed_course(inner, since, head),
            None => self.untimed_course(inner, head),
        }
    }

    /// It is apart, because the course is moved once more here.
    #[cold]
    fn timed_course(self: &Arc<Self>, inner: &Arc<Inner>, since: u64, head: &RequestHead<'_>) -> Course {
        let course = self.untimed_course(inner, head);
        if !matches!(course, Course::Wait(..)) {
            inner.took(Some(since));
        }
        course
    }

    #[inline(always)]
    fn untimed_course(self: &Arc<Self>, inner: &Arc<Inner>, head: &RequestHead<'_>) -> Course {
        match inner.policy.sole {
            Some(sole @ Sole { limits: 1, .. }) => self.course_of::<1>(inner, sole, head),
            Some(sole @ Sole { limits: 2, .. }) => self.course_of::<2>(inner, sole, head),
            _ => self.course_of_known(inner, head, &[]),
        }
    }

    /// What becomes of a request whose policy charges all alike, where nothing is unusual.
    #[inline(always)]
    fn course_of<const N: usize>(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        sole: Sole,
        head: &RequestHead<'_>,
    ) -> Course {
        let Some(sure) = inner.ask_sole::<N>(sole, head) else {
            return self.course_of_known(inner, head, &[]);
        };
        if !sure.answers.fit.enforced || self.expose_decision || inner.is_heard() {
            return self.decide_sure(inner, sure, head);
        }
        match self.style(inner).headers {
            HeaderStyle::Off => {
                inner.meter_sole();
                Course::Pass
            }
            HeaderStyle::Draft10 => {
                inner.meter_sole();
                Course::Tell(sure.fields(inner))
            }
            _ => self.decide_sure(inner, sure, head),
        }
    }

    #[inline(never)]
    fn decide_sure<const N: usize>(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        sure: Sure<'_, N>,
        head: &RequestHead<'_>,
    ) -> Course {
        self.decide(inner, &mut sure.charged(), head)
    }

    /// What becomes of a request under a policy; `known` are clients that were looked up elsewhere for it.
    #[inline(never)]
    pub(super) fn course_of_known(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        head: &RequestHead<'_>,
        known: &[Known],
    ) -> Course {
        let mut charged = Charged::default();
        match inner.admit(head, &mut charged, known) {
            Admission::Free => Course::Pass,
            Admission::Decided => self.decide(inner, &mut charged, head),
            Admission::Refused(reason) => Course::Refuse(self.refuse(inner, reason, None, *head)),
            Admission::Waiting(pending) => Course::Wait(pending, inner.clone()),
        }
    }

    /// What becomes of a request whose limits have answered.
    #[inline]
    pub(super) fn decide(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        charged: &mut Charged,
        head: &RequestHead<'_>,
    ) -> Course {
        inner.meter(charged);
        if let Some(reason) = charged.take_rejection() {
            return self.turn_away(inner, reason, charged, *head);
        }
        if !charged.is_allowed() || inner.is_worth_telling(charged) {
            inner.report(charged, *head);
        }
        if !charged.is_allowed() {
            return self.decline(inner, charged, *head);
        }
        let settles = inner.policy.has_settlements
            && charged.asked.iter().any(|asked| inner.policy.limits[asked.limit].settle.is_some());
        match self.style(inner).headers {
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
        let kept = match self.expose_ongoing {
            true => Kept::Ongoing(Ongoing::new(Meter::new(&decision), permits)),
            false => Kept::Permits(permits),
        };
        Course::Settle(After { face: self.clone(), decision, kept })
    }

    /// Refuses a request that a limit does not admit.
    #[cold]
    fn decline(&self, inner: &Arc<Inner>, charged: &mut Charged, head: RequestHead<'_>) -> Course {
        inner.note_refusal(charged, head);
        let mut response = self.refuse(inner, Reason::Limited, Some(charged), head);
        if self.expose_decision {
            let decision = Decision::new(inner.clone(), mem::take(charged));
            response.extensions_mut().insert(Arc::new(decision));
        }
        Course::Refuse(response)
    }

    /// Answers a request that a rule rejects and the limits of the others admit. What does not count a response of this
    /// status is given back, as it is after any other.
    #[cold]
    fn turn_away(
        &self,
        inner: &Arc<Inner>,
        reason: Reason,
        charged: &mut Charged,
        head: RequestHead<'_>,
    ) -> Course {
        let mut decision = Decision::new(inner.clone(), mem::take(charged));
        decision.charged.asked = settle(&decision, reason.status(), &HeaderMap::new());
        inner.report_rejected(&reason, &decision.charged, head);
        let mut response = self.refuse(inner, reason, Some(&decision.charged), head);
        if self.expose_decision && !decision.charged.asked.is_empty() {
            response.extensions_mut().insert(Arc::new(decision));
        }
        Course::Refuse(response)
    }

    pub(super) fn fail<B>(&self, inner: &Inner, error: &StoreError, request: &Request<B>) -> Response<Bytes> {
        let head = RequestHead::new(request);
        inner.report_store(error, Some(head));
        self.refuse(inner, Reason::StoreDown { retry_after: STORE_RETRY }, None, head)
    }

    /// The answer to a request that is refused.
    pub(super) fn refuse(
        &self,
        inner: &Inner,
        reason: Reason,
        charged: Option<&Charged>,
        head: RequestHead<'_>,
    ) -> Response<Bytes> {
        let limits = charged.map(|charged| charged.statuses(inner)).unwrap_or_default();
        let policies = charged.and_then(|charged| charged.policies(inner));
        let permits = charged.map(|charged| charged.permits(inner)).unwrap_or_default();
        let refusal = Refusal::with_permits(reason, &limits, &permits, policies);
        let AnswerStyle { headers, refusal: style } = self.style(inner);
        style.respond(&refusal, head, *headers, SystemTime::now)
    }
}
