//! What happened, for whoever wants to know.

use crate::{LimitStatus, Quota, identity::ClientLabel};
use http::Method;
use std::{fmt, time::Duration};

/// Something that happened in a limiter.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A request passed all limits.
    Allowed(&'a Occasion<'a>),
    /// A request was refused by at least one limit. Limits that only watch may be among the violated ones.
    Refused(&'a Occasion<'a>),
    /// A request passed, and would have been refused by at least one limit that only watches.
    ShadowRefused(&'a Occasion<'a>),
    /// A pacer let something pass after it had waited.
    Waited {
        /// What passed.
        occasion: &'a Occasion<'a>,
        /// How long it had waited.
        waited: Duration,
    },
    /// A pacer that only watches let something pass, which would have had to wait.
    ShadowWaited {
        /// What passed.
        occasion: &'a Occasion<'a>,
        /// How long it would have waited.
        wait: Duration,
    },
    /// A request was refused because its client is on the block list.
    Blocked(&'a Occasion<'a>),
    /// A request was refused because nobody could be identified, or its cost could not be read.
    Rejected {
        /// The request.
        occasion: &'a Occasion<'a>,
        /// Why.
        reason: &'a str,
    },
    /// A rule that only watches would have rejected a request, as in [`Rejected`](Self::Rejected); it was not counted there.
    ShadowRejected {
        /// The request.
        occasion: &'a Occasion<'a>,
        /// Why.
        reason: &'a str,
    },
    /// A store could not decide.
    StoreFailed {
        /// The request.
        occasion: &'a Occasion<'a>,
        /// Why.
        error: &'a str,
    },
    /// For the first time, a request was counted for the shared `anonymous` client, because nobody could be identified.
    Anonymous {
        /// Why, and what to do about it.
        cause: &'a str,
    },
    /// For the first time, a request was refused whose peer sends forwarding headers and is no trusted proxy.
    UntrustedProxy {
        /// What to do about it.
        advice: &'a str,
    },
    /// A limit's quota was changed.
    QuotaChanged {
        /// The limit.
        limit: &'a str,
        /// The quota until now.
        old: Quota,
        /// The quota from now on.
        new: Quota,
    },
}

/// Who asked for what, and what its limits said.
#[derive(Debug, Clone, Copy)]
pub struct Occasion<'a> {
    pub(crate) method: Option<&'a Method>,
    pub(crate) route: Option<&'a str>,
    pub(crate) client: Option<ClientLabel>,
    pub(crate) plain_addresses: bool,
    pub(crate) limits: &'a [LimitStatus<'a>],
}

impl<'a> Occasion<'a> {
    /// The request's method; nothing where a handler charged.
    pub const fn method(&self) -> Option<&'a Method> {
        self.method
    }

    /// The template of the request's route, never its path; nothing where it matched none.
    pub const fn route(&self) -> Option<&'a str> {
        self.route
    }

    /// What every limit said.
    pub const fn limits(&self) -> &'a [LimitStatus<'a>] {
        self.limits
    }

    /// The limits that refused, or would have.
    pub fn violated(&self) -> impl Iterator<Item = &'a LimitStatus<'a>> {
        self.limits.iter().filter(|limit| !limit.reading.is_allowed())
    }

    /// The client, as logs may name it: a fingerprint, or the address where the limiter was told to show addresses.
    pub fn client(&self) -> impl fmt::Display + use<> {
        ClientName(self.client, self.plain_addresses)
    }
}

struct ClientName(Option<ClientLabel>, bool);

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(label) => label.display(self.1).fmt(f),
            None => f.write_str("unidentified"),
        }
    }
}

/// Is told what happens in a limiter. It is called on the request path: count, and let others do the rest.
pub trait Observe: Send + Sync + 'static {
    /// Takes note of an event.
    fn observe(&self, event: &Event<'_>);
}

impl<F: Fn(&Event<'_>) + Send + Sync + 'static> Observe for F {
    fn observe(&self, event: &Event<'_>) {
        self(event);
    }
}
