//! Why a request is refused, and when it may come again.

use super::{number, whole_seconds};
use crate::{LimitStatus, PermitStatus, Rejection, status::retry_after};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE},
};
use std::time::Duration;

/// Why a request is refused, and when it may come again.
#[derive(Debug, Clone)]
pub struct Refusal<'a> {
    pub(super) reason: Reason,
    pub(super) limits: &'a [LimitStatus<'a>],
    pub(super) permits: &'a [PermitStatus<'a>],
    /// What `RateLimit-Policy` says of them, where that was made beforehand.
    pub(super) policies: Option<&'a HeaderValue>,
    retry_after: Option<Duration>,
    pub(super) retry_after_secs: Option<u64>,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A limit does not admit it: 429.
    Limited,
    /// There is no room left to count what runs at once, or who waits: 503.
    NoRoom,
    /// The client is on a block list: 403.
    Blocked,
    /// The client is banned, because it was refused too often or by hand: 403.
    Banned {
        /// How long yet.
        retry_after: Duration,
    },
    /// The request does not say who is asking, or says it wrongly: 401 for a credential, 400 for an address or header.
    Unidentified(Rejection),
    /// The client may not use the resource that the request is for: 403.
    ResourceNotAllowed {
        /// The resource.
        resource: String,
    },
    /// The request brings limits along that are malformed or too high: 400.
    BadOverride {
        /// What is wrong and what is accepted, without a full stop.
        detail: String,
    },
    /// The request brings limits along, which its client may not: 403.
    OverrideNotAllowed,
    /// The request says a cost that is malformed or not accepted: 400.
    BadCost {
        /// What is wrong and what is accepted, without a full stop.
        detail: String,
    },
    /// What the request needs from elsewhere cannot be had at the moment: 503.
    Overloaded {
        /// When it is worth another try.
        retry_after: Duration,
    },
    /// The store cannot be reached and the policy is to refuse then: 503.
    StoreDown {
        /// When the store will be tried again.
        retry_after: Duration,
    },
}

impl Reason {
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Limited => StatusCode::TOO_MANY_REQUESTS,
            Self::Blocked
            | Self::Banned { .. }
            | Self::ResourceNotAllowed { .. }
            | Self::OverrideNotAllowed => StatusCode::FORBIDDEN,
            Self::Unidentified(rejection) => rejection.status(),
            Self::BadCost { .. } | Self::BadOverride { .. } => StatusCode::BAD_REQUEST,
            Self::StoreDown { .. } | Self::Overloaded { .. } | Self::NoRoom => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
}

impl<'a> Refusal<'a> {
    #[cfg(any(test, feature = "pace"))]
    pub(crate) fn new(
        reason: Reason,
        limits: &'a [LimitStatus<'a>],
        policies: Option<&'a HeaderValue>,
    ) -> Self {
        Self::with_permits(reason, limits, &[], policies)
    }

    /// With what limits on concurrency said too.
    pub(crate) fn with_permits(
        reason: Reason,
        limits: &'a [LimitStatus<'a>],
        permits: &'a [PermitStatus<'a>],
        policies: Option<&'a HeaderValue>,
    ) -> Self {
        let mut refusal =
            Self { reason, limits, permits, policies, retry_after: None, retry_after_secs: None };
        refusal.reckon();
        refusal
    }

    /// Finds out when the request may come again.
    fn reckon(&mut self) {
        self.retry_after = match self.reason {
            Reason::Limited => retry_after(self.limits.iter().copied(), self.permits.iter().copied()),
            Reason::StoreDown { retry_after }
            | Reason::Overloaded { retry_after }
            | Reason::Banned { retry_after } => Some(retry_after),
            Reason::NoRoom => Some(NO_ROOM_RETRY),
            _ => None,
        };
        self.retry_after_secs = self.retry_after.map(|wait| {
            let units = self.violated().filter_map(|status| status.reading.next_after(status.rate));
            whole_seconds(units.fold(wait, Duration::max)).max(1)
        });
    }

    /// Why the request is refused.
    pub const fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The status that the default answer has.
    pub const fn status(&self) -> StatusCode {
        self.reason.status()
    }

    /// Every limit that was asked, those that would have admitted the request and those that only watch among them.
    pub const fn limits(&self) -> &'a [LimitStatus<'a>] {
        self.limits
    }

    /// The limits that refuse.
    pub fn violated(&self) -> impl Iterator<Item = &'a LimitStatus<'a>> + use<'a> {
        self.limits.iter().filter(|status| status.refuses())
    }

    /// Every limit on concurrency that was asked.
    pub const fn permits(&self) -> &'a [PermitStatus<'a>] {
        self.permits
    }

    /// The limits on concurrency that refuse.
    pub fn violated_permits(&self) -> impl Iterator<Item = &'a PermitStatus<'a>> + use<'a> {
        self.permits.iter().filter(|status| status.refuses())
    }

    /// How long until the request can be admitted, if nothing else is charged: the longest wait of the violated
    /// limits, and a second where a limit on concurrency refuses. Nothing where waiting does not help.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The same in whole seconds, as `Retry-After` has it (RFC 9110): rounded up, at least 1, and never before
    /// the violated limits have one more unit.
    pub const fn retry_after_secs(&self) -> Option<u64> {
        self.retry_after_secs
    }

    /// Adds the fields that any answer over HTTP has, whatever its status: a refusal is about this client at this moment,
    /// so no cache may give it to another.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(secs) = self.retry_after_secs {
            headers.insert(RETRY_AFTER, number(secs));
        }
        if let Reason::Unidentified(rejection) = self.reason {
            if let Some(challenge) = rejection.challenge() {
                headers.insert(WWW_AUTHENTICATE, challenge);
            }
        }
    }

    pub(super) fn is_never(&self) -> bool {
        self.violated().any(|status| status.reading.is_never())
    }
}

/// Why a request is refused for which there is no room, for people and logs.
pub(crate) const NO_ROOM: &str =
    "no room is left to count what runs at once; raise the limiter's `max_in_flight` or `max_waiting`";

/// When there may be room again.
const NO_ROOM_RETRY: Duration = Duration::from_secs(1);
