//! What happened, for whoever wants to know.

use crate::{Grant, LimitStatus, PermitStatus, Quota, StoreChange, identity::ClientLabel};
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
    /// It is known what became of something that was sent.
    Answered {
        /// How long that took, where that was told.
        took: Option<Duration>,
        /// Whether the other side was too busy, or a limit of its own did not admit it.
        refused: bool,
        /// The class of the error that it failed with, if it did.
        error: Option<&'a str>,
    },
    /// A batch is sent.
    Batched {
        /// How many items it has.
        items: usize,
        /// How many bytes these have.
        bytes: u64,
    },
    /// A pacer handed something that it did not let pass to a closure.
    Diverted,
    /// A pacer did not let something pass, because the other side refuses most of what comes.
    Shed {
        /// The share that is not let pass, from 0 to 1.
        share: f64,
    },
    /// A pacer sends nothing for a time, because the other side asked for it.
    Paused {
        /// For how long.
        time: Duration,
    },
    /// A pacer uses another share of its quotas' rates. Changes by less than a twentieth are not told.
    FactorChanged {
        /// The share until now, from 0 to 1.
        old: f64,
        /// The share from now on.
        new: f64,
    },
    /// A pacer's signals could not be scraped from their endpoint; told once, until they are again.
    ScrapeFailed {
        /// Why.
        error: &'a str,
    },
    /// A class of errors persists, and a pacer sends nothing but a probe now and then.
    BreakerOpened {
        /// The class.
        error: &'a str,
        /// How long until the first probe.
        time: Duration,
    },
    /// A probe was done, and a pacer sends again.
    BreakerClosed {
        /// The class of the last error.
        error: &'a str,
        /// How long nothing else was sent.
        after: Duration,
    },
    /// A request is tried again after a time.
    Retried {
        /// Which try comes next, from 2 on.
        next: u32,
        /// For how long it waits, what an answer asked for included.
        wait: Duration,
    },
    /// A request that would be tried again is not.
    GivenUp {
        /// How often it was sent.
        tries: u32,
        /// Why there is no further try.
        reason: &'a str,
    },
    /// A request was refused because its client is on the block list, or banned.
    Blocked(&'a Occasion<'a>),
    /// A request was refused because nobody could be identified, or its cost could not be read.
    Rejected {
        /// The request, and what the limits of the rules said that did not reject it: they all admit it, or it would be
        /// [`Refused`](Self::Refused).
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
    /// A client was banned, because the request was refused as one of too many, or by hand.
    Banned {
        /// The request, or only the client.
        occasion: &'a Occasion<'a>,
        /// For how long.
        time: Duration,
        /// Which ban of the client in a row it is, from 1 on; 0 for one by hand.
        times: u32,
    },
    /// A client's ban was lifted, or found to be over: when the client or another one came, or its place was needed.
    Released(&'a Occasion<'a>),
    /// A store could not decide.
    StoreFailed {
        /// The request.
        occasion: &'a Occasion<'a>,
        /// Of what kind: see [`StoreError::kind`](crate::StoreError::kind).
        kind: &'static str,
        /// Why.
        error: &'a str,
    },
    /// A store could not decide, and its limits let the request be decided without it: see [`StoreDown`](crate::StoreDown).
    WithoutStore {
        /// What the limits said then.
        occasion: &'a Occasion<'a>,
        /// Of what kind that was: see [`StoreError::kind`](crate::StoreError::kind).
        kind: &'static str,
        /// Why the store could not.
        error: &'a str,
    },
    /// Something became of a store that is shared with other instances.
    Store(StoreChange<'a>),
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
    /// A client came that the registry did not know, and was created in the tier `default`.
    ClientCreated {
        /// Its id.
        client_id: &'a str,
    },
    /// Requests came without a client's id and were counted for the fallback client. It is told at most once a minute.
    Fallback {
        /// The id of the fallback client.
        client_id: &'a str,
        /// How many such requests there were since the start.
        uses: u64,
    },
    /// A client brought other limits along with a request.
    Override {
        /// Its id.
        client_id: &'a str,
        /// What it asked for; nothing where that could not be read.
        wanted: Option<&'a Grant>,
        /// Why that was refused, unless it was accepted.
        refused: Option<&'a str>,
    },
    /// An admin has changed something.
    Admin(&'a AdminAct<'a>),
    /// A request to the admin API was not admitted.
    AdminRefused {
        /// Who it was, without actor and action.
        act: &'a AdminAct<'a>,
        /// The status of the answer.
        status: u16,
        /// Why.
        reason: &'a str,
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
    /// Entries were put on a list or taken off it.
    ListChanged {
        /// `allow list` or `block list`.
        list: &'a str,
        /// How many entries it had until now.
        old: usize,
        /// How many it has from now on.
        new: usize,
    },
    /// Another policy is in force, by [`Limiter::set_policy`](crate::Limiter::set_policy).
    PolicyChanged {
        /// How many rules it has.
        rules: usize,
    },
    /// How many requests may run at once was changed.
    ConcurrencyChanged {
        /// The limit.
        limit: &'a str,
        /// How many until now.
        old: u32,
        /// How many from now on.
        new: u32,
    },
}

/// What an admin did.
#[derive(Debug, Clone, Copy)]
pub struct AdminAct<'a> {
    pub(crate) actor: &'a str,
    pub(crate) from: Option<ClientLabel>,
    pub(crate) plain: bool,
    pub(crate) action: &'a str,
    pub(crate) subject: Option<&'a str>,
    pub(crate) old: Option<&'a str>,
    pub(crate) new: Option<&'a str>,
}

impl<'a> AdminAct<'a> {
    #[cfg(feature = "admin")]
    pub(crate) const NONE: Self =
        Self { actor: "", from: None, plain: false, action: "", subject: None, old: None, new: None };

    /// Who did it: the first digits of the hash of its key, as `key#1a2b3c4d`, or `open` where none was needed.
    pub const fn actor(&self) -> &'a str {
        self.actor
    }

    /// Where it came from: a fingerprint, or the address where the limiter was told to show addresses.
    pub fn from(&self) -> impl fmt::Display + use<> {
        ClientName(self.from, self.plain)
    }

    /// What was done: `set client`, `revoke key` and the like.
    pub const fn action(&self) -> &'a str {
        self.action
    }

    /// The client, tier or limit that it was done to.
    pub const fn subject(&self) -> Option<&'a str> {
        self.subject
    }

    /// What was there before, as JSON.
    pub const fn before(&self) -> Option<&'a str> {
        self.old
    }

    /// What is there now, as JSON.
    pub const fn after(&self) -> Option<&'a str> {
        self.new
    }
}

/// Who asked for what, and what its limits said.
#[derive(Debug, Clone, Copy)]
pub struct Occasion<'a> {
    pub(crate) method: Option<&'a Method>,
    pub(crate) route: Option<&'a str>,
    pub(crate) client: Option<ClientLabel>,
    pub(crate) plain_addresses: bool,
    pub(crate) limits: &'a [LimitStatus<'a>],
    pub(crate) permits: &'a [PermitStatus<'a>],
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

    /// What every limit on concurrency said.
    pub const fn permits(&self) -> &'a [PermitStatus<'a>] {
        self.permits
    }

    /// The limits on concurrency that refused, or would have.
    pub fn violated_permits(&self) -> impl Iterator<Item = &'a PermitStatus<'a>> {
        self.permits.iter().filter(|permit| !permit.fits)
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
