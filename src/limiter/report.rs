//! Telling what happened.

use super::{Charged, Inner};
use crate::{
    Key, RequestHead,
    event::{Event, Occasion},
    identity::ClientLabel,
    observe::{TARGET, tell},
    response::{NO_ROOM, Reason},
};
use http::Method;
use std::sync::atomic::Ordering::Relaxed;

impl Inner {
    pub(crate) fn emit(&self, event: &Event<'_>) {
        tell(&self.observers, event, None);
    }

    /// Tells of what happened to the pacer of a rule.
    #[cfg(feature = "pace")]
    pub(crate) fn emit_for(&self, rule: usize, event: &Event<'_>) {
        let pacer = self.policy.rules.get(rule).map(|rule| rule.name.as_str());
        tell(&self.observers, event, pacer);
    }

    /// Tells of a decision on a request.
    #[cold]
    pub(crate) fn report(&self, charged: &Charged, head: RequestHead<'_>) {
        if self.is_worth_telling(charged) {
            let client = self.client(head, charged.foremost(self));
            self.report_limits(charged, client, Some(head.method()), self.route(head));
        }
        if !charged.is_allowed() && !self.warned_proxy.load(Relaxed) && self.has_untrusted_forwarding(head) {
            self.warn_proxy();
        }
    }

    /// Tells of a decision that a handler asked for.
    pub(crate) fn report_handled(
        &self,
        charged: &Charged,
        key: Key,
        client: ClientLabel,
        route: Option<&str>,
    ) {
        self.meter(charged);
        self.report_charged(charged, key, client, route);
    }

    /// Tells of what a pacer let through at once.
    #[cfg(feature = "pace")]
    pub(crate) fn report_sent(&self, charged: &Charged, key: Key, client: ClientLabel) {
        self.report_charged(charged, key, client, None);
    }

    fn report_charged(&self, charged: &Charged, key: Key, client: ClientLabel, route: Option<&str>) {
        if !charged.is_allowed() {
            self.note_refused_client(charged, key, client);
        }
        if self.is_worth_telling(charged) {
            self.report_limits(charged, Some(client), None, route);
        }
    }

    /// Whether anybody listens.
    pub(crate) fn is_worth_telling(&self, charged: &Charged) -> bool {
        let passes = charged.is_allowed() && !charged.would_refuse();
        !passes && tracing::enabled!(target: TARGET, tracing::Level::INFO) || self.is_heard()
    }

    /// Whether anybody listens to whatever happens; where nobody does, an allowed request costs a look at two flags.
    pub(crate) fn is_heard(&self) -> bool {
        !self.observers.is_empty() || tracing::enabled!(target: TARGET, tracing::Level::TRACE)
    }

    fn report_limits(
        &self,
        charged: &Charged,
        client: Option<ClientLabel>,
        method: Option<&Method>,
        route: Option<&str>,
    ) {
        let limits = charged.statuses(self);
        let permits = charged.permits(self);
        let occasion =
            Occasion { limits: &limits, permits: &permits, ..self.occasion(client, method, route) };
        self.emit(&match (charged.is_allowed(), charged.would_refuse()) {
            (false, _) => Event::Refused(&occasion),
            (true, true) => Event::ShadowRefused(&occasion),
            (true, false) => Event::Allowed(&occasion),
        });
    }

    /// Tells of a request that was refused before any limit was asked.
    pub(super) fn report_refused(&self, reason: &Reason, client: Option<ClientLabel>, head: RequestHead<'_>) {
        let occasion = &self.occasion(client, Some(head.method()), self.route(head));
        self.emit(&match rejection(reason) {
            Some(reason) => Event::Rejected { occasion, reason },
            None => Event::Blocked(occasion),
        });
    }

    /// Tells of a request that a rule rejects and the limits of the others admit.
    pub(crate) fn report_rejected(&self, reason: &Reason, charged: &Charged, head: RequestHead<'_>) {
        let limits = charged.statuses(self);
        let occasion =
            Occasion { limits: &limits, ..self.occasion(None, Some(head.method()), self.route(head)) };
        if let Some(reason) = rejection(reason) {
            self.emit(&Event::Rejected { occasion: &occasion, reason });
        }
    }

    /// Tells of a request that a rule would have rejected if it did not only watch.
    pub(super) fn report_would_reject(&self, reason: &Reason, head: RequestHead<'_>) {
        let occasion = &self.occasion(None, Some(head.method()), self.route(head));
        if let Some(reason) = rejection(reason) {
            self.emit(&Event::ShadowRejected { occasion, reason });
        }
    }

    pub(crate) fn report_store(&self, error: &crate::StoreError, head: Option<RequestHead<'_>>) {
        let route = head.and_then(|head| self.route(head));
        let occasion = self.occasion(None, head.map(|head| head.method()), route);
        self.emit(&Event::StoreFailed { occasion: &occasion, kind: error.kind(), error: &error.to_string() });
    }

    pub(super) fn occasion<'a>(
        &self,
        client: Option<ClientLabel>,
        method: Option<&'a Method>,
        route: Option<&'a str>,
    ) -> Occasion<'a> {
        Occasion { method, route, client, plain_addresses: self.plain_addresses, limits: &[], permits: &[] }
    }

    pub(super) fn warn_anonymous(&self, has_peer: bool) {
        // A load before the swap, so that anonymous traffic does not write to a shared line on each request.
        if self.warned_anonymous.load(Relaxed) || self.warned_anonymous.swap(true, Relaxed) {
            return;
        }
        let cause = if has_peer {
            "a request without the credential that identifies clients is counted for the client `anonymous`, which all such requests share; add `.or(Source::address())` or `.or_refuse()` to the source"
        } else if cfg!(not(feature = "axum")) {
            "a request without a peer address is counted for the client `anonymous`, which all such requests share; insert a `PeerAddr` into the request's extensions, or turn on tidegate's feature `axum`, which reads axum's `ConnectInfo`"
        } else {
            "a request without a peer address is counted for the client `anonymous`, which all such requests share; serve with `into_make_service_with_connect_info::<SocketAddr>()`, or insert a `PeerAddr` into the request's extensions"
        };
        self.emit(&Event::Anonymous { cause });
    }

    #[cold]
    fn warn_proxy(&self) {
        if !self.warned_proxy.swap(true, Relaxed) {
            let advice = "a request was refused whose peer sends forwarding headers and is not among the trusted proxies; if the peer is a proxy of yours, all its clients share one quota: name it with `Policy::trust_proxies`";
            self.emit(&Event::UntrustedProxy { advice });
        }
    }
}

/// What is wrong with a request that is rejected.
fn rejection(reason: &Reason) -> Option<&str> {
    match reason {
        Reason::Unidentified(rejection) => Some(rejection.detail()),
        Reason::BadCost { detail } | Reason::BadOverride { detail } => Some(detail),
        Reason::ResourceNotAllowed { .. } => Some("the client may not use the resource"),
        Reason::OverrideNotAllowed => Some("the client may not override its limits"),
        Reason::NoRoom => Some(NO_ROOM),
        Reason::Limited
        | Reason::Blocked
        | Reason::Banned { .. }
        | Reason::StoreDown { .. }
        | Reason::Overloaded { .. } => None,
    }
}
