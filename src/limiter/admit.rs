//! The way of a request, from its head to a verdict.

use super::{
    Charged, Inner, Pending,
    asking::{Asking, Standing, Stop, matched_path, path},
    grants::Known,
    held::Outcome,
    timer::Sleep,
};
use crate::{
    Charge, Op, Place, Rate, RequestHead,
    identity::{ClientLabel, peer},
    policy::{CompiledLimit, Paths},
    response::Reason,
};
use http::{
    HeaderName, Method,
    header::{ACCESS_CONTROL_REQUEST_METHOD, FORWARDED, ORIGIN},
};

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What is to become of a request.
pub(crate) enum Admission {
    /// No limit applies.
    Free,
    /// Limits apply, and have said what they say.
    Decided,
    /// Limits apply, and a registry or a store elsewhere is being asked.
    Waiting(Pending),
    /// It is refused before any limit was asked.
    Refused(Reason),
}

impl Inner {
    /// Asks all limits that apply to a request; what they say is in `charged`, which comes empty. `known` are clients that
    /// were looked up elsewhere for it.
    pub(crate) fn admit(&self, head: &RequestHead<'_>, charged: &mut Charged, known: &[Known]) -> Admission {
        let mut asking = Asking::new(self, head, known);
        if self.policy.lists.exempts() {
            match self.exempt(&asking, charged, known) {
                Admission::Decided => {}
                exempt => return exempt,
            }
        }
        match asking.collect(charged) {
            Ok(()) if charged.is_rejected() => self.admit_rejected(charged),
            Ok(()) if asking.demands.is_some() => self.admit_held(&mut asking, charged),
            Ok(()) if charged.asked.is_empty() => Admission::Free,
            Ok(()) => self.engine.ask(charged).map_or(Admission::Decided, Admission::Waiting),
            Err(Stop::Refused(reason)) => self.reject(reason, None, *head),
            Err(Stop::Unasked) => Admission::Decided,
            Err(Stop::Unknown(lookup)) => Admission::Waiting(Pending::registry(lookup, known)),
        }
    }

    /// Permits first, and then the charge: a refusal never holds a permit, and who waits has been charged nothing.
    #[inline(never)]
    fn admit_held(&self, asking: &mut Asking<'_>, charged: &mut Charged) -> Admission {
        let head = *asking.head;
        let Some(demands) = asking.demands.take() else { return Admission::Free };
        match self.hold(*demands) {
            Ok(Outcome::Answered(held)) => {
                charged.hold(held);
                self.ask_held(charged, None).map_or(Admission::Decided, Admission::Waiting)
            }
            Ok(Outcome::Waits(mut line)) => {
                line.charged = std::mem::take(charged);
                Admission::Waiting(Pending::line(line))
            }
            Err(reason) => self.reject(reason, None, head),
        }
    }

    /// Charges who has its permits, which are given back if that is refused. `deadline` is when it has waited for them long
    /// enough, if it did.
    pub(super) fn ask_held(&self, charged: &mut Charged, deadline: Option<Sleep>) -> Option<Pending> {
        if charged.is_allowed() && !self.engine.is_known(charged) {
            if let Some(elsewhere) = self.ask_elsewhere(charged, deadline) {
                return Some(Pending::elsewhere(elsewhere));
            }
        }
        if charged.asked.is_empty() {
            return None;
        }
        let pending = self.engine.ask(charged);
        // While a store is asked, they wait with the charge.
        if pending.is_none() {
            charged.hold_on();
        }
        pending
    }

    /// What the lists and other exemptions make of a request; `Decided` where that is left to the limits.
    #[inline(never)]
    fn exempt(&self, asking: &Asking<'_>, charged: &mut Charged, known: &[Known]) -> Admission {
        let head = asking.head;
        match self.banned(head, known) {
            Ok(None) => {}
            Ok(Some((client, time))) => {
                return self.reject(Reason::Banned { retry_after: time }, Some(client), *head);
            }
            Err(lookup) => return Admission::Waiting(Pending::registry(lookup, known)),
        }
        match asking.standing(known) {
            Ok(Standing::Allowed) => Admission::Free,
            Ok(Standing::Unlisted) if self.policy.exempt_preflights && is_preflight(*head) => Admission::Free,
            Ok(Standing::Unlisted) => Admission::Decided,
            Ok(Standing::Blocked(client)) => self.reject(Reason::Blocked, Some(client), *head),
            Ok(Standing::Rejected { rejection, is_allowed }) => {
                let reason = Reason::Unidentified(rejection);
                if is_allowed {
                    return self.reject(reason, None, *head);
                }
                charged.reject(reason);
                Admission::Decided
            }
            Err(lookup) => Admission::Waiting(Pending::registry(lookup, known)),
        }
    }

    #[cold]
    fn reject(&self, reason: Reason, client: Option<ClientLabel>, head: RequestHead<'_>) -> Admission {
        // That a registry is down was told when it was asked.
        if !matches!(reason, Reason::StoreDown { .. }) {
            self.report_refused(&reason, client, head);
        }
        Admission::Refused(reason)
    }

    /// The client that a rule goes by, as logs may name it.
    pub(crate) fn client(&self, head: RequestHead<'_>, rule: Option<usize>) -> Option<ClientLabel> {
        let policy = &self.policy;
        let source = rule.map_or(0, |rule| policy.rules[rule].source);
        let identity = policy.sources[source].identify(head, policy.proxies.as_ref()).ok()?;
        Some(identity.label(identity.key(&self.keys)))
    }

    /// The template of a request's route, for those who want to know.
    pub(crate) fn route<'a>(&'a self, head: RequestHead<'a>) -> Option<&'a str> {
        matched_path(&head).or_else(|| self.policy.templates.name(&Paths::of(path(&head))))
    }

    /// Whether forwarding headers came from a peer that is not trusted with them.
    pub(crate) fn has_untrusted_forwarding(&self, head: RequestHead<'_>) -> bool {
        let headers = head.headers();
        if !headers.contains_key(&FORWARDED) && !headers.contains_key(&X_FORWARDED_FOR) {
            return false;
        }
        let peer = peer(&head);
        peer.is_some()
            && self.policy.proxies.as_ref().is_none_or(|proxies| {
                proxies.client_address(peer, headers).is_ok_and(|client| client == peer)
            })
    }
}

impl CompiledLimit {
    #[inline(always)]
    pub(super) fn charge(&self, rate: Rate, place: Place, op: Op, shadow: bool) -> Charge {
        let max_debt = self.max_debt(rate);
        let rate = match op {
            Op::Take(_) | Op::Peek(_) if self.settle.is_some() => self.taken_by(rate),
            _ => rate,
        };
        Charge { place, limit: self.id, rate, max_debt, op, shadow }
    }

    /// A charge at the place of a former one, which may owe no less than that one.
    pub(super) fn charge_again(&self, rate: Rate, former: Charge, op: Op) -> Charge {
        let Charge { place, shadow, max_debt, .. } = former;
        let charge = self.charge(rate, place, op, shadow);
        let owed = if self.granted.is_some() { max_debt } else { 0 };
        Charge { max_debt: charge.max_debt.max(owed), ..charge }
    }
}

fn is_preflight(head: RequestHead<'_>) -> bool {
    head.method() == Method::OPTIONS
        && head.headers().contains_key(&ORIGIN)
        && head.headers().contains_key(&ACCESS_CONTROL_REQUEST_METHOD)
}
