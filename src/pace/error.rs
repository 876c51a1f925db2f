use crate::{
    Decision, HeaderStyle, LimitStatus, Reason, Refusal, Rejection, RequestHead, StoreError,
    limiter::{Barred, statuses},
    response::{RefusalStyle, whole_seconds},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use std::{
    error::Error,
    fmt,
    time::{Duration, SystemTime},
};

/// Why something may not be sent now.
#[derive(Debug)]
#[non_exhaustive]
pub enum PaceError {
    /// It would have to wait, and longer than it may.
    Limited(Rejected),
    /// It would have to wait, and as many wait already as may; or as many are on their way as may.
    Full(Rejected),
    /// It costs more than a limit ever admits.
    TooLarge(Rejected),
    /// The other side asked to be left alone, for longer than it may wait.
    Paused {
        /// How long yet.
        retry_after: Duration,
    },
    /// A class of errors persists, and nothing is sent but a probe now and then.
    Open {
        /// The class.
        error: String,
        /// How long until the next probe.
        retry_after: Duration,
    },
    /// The other side refuses most of what is sent, and would most likely refuse it.
    Shed,
    /// The client is on the policy's block list.
    Blocked,
    /// The client is banned for a time.
    Banned {
        /// How long yet.
        retry_after: Duration,
    },
    /// The registry does not let the client send: its id is malformed, or it is unknown or disabled.
    Unregistered(Rejection),
    /// The client may not use the rule's resource.
    ResourceNotAllowed {
        /// The resource.
        resource: String,
    },
    /// A cost is for a limit that the pacer does not have.
    UnknownLimit {
        /// The name.
        limit: String,
        /// The limits that there are.
        known: Vec<String>,
    },
    /// The store or the registry could not decide.
    Store(StoreError),
}

/// What the limits say to something that was rejected.
#[derive(Debug)]
pub struct Rejected(Box<Decision>);

impl Rejected {
    pub(super) fn new(decision: Decision) -> Self {
        Self(Box::new(decision))
    }

    /// What each limit says, in the order of the policy. Their waits count those who are ahead.
    pub fn limits(&self) -> impl Iterator<Item = LimitStatus<'_>> {
        self.0.limits()
    }
}

/// How long to wait before another try is worth it where nobody can know: for a store that failed, say.
const LATER: Duration = Duration::from_secs(1);

impl PaceError {
    /// One word for it.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Limited(_) => "limited",
            Self::Full(_) => "full",
            Self::TooLarge(_) => "too_large",
            Self::Paused { .. } => "paused",
            Self::Open { .. } => "open",
            Self::Shed => "shed",
            Self::Blocked => "blocked",
            Self::Banned { .. } => "banned",
            Self::Unregistered(_) => "unregistered",
            Self::ResourceNotAllowed { .. } => "resource_not_allowed",
            Self::UnknownLimit { .. } => "unknown_limit",
            Self::Store(_) => "store",
        }
    }

    /// How long until it could go, as things stand; nothing where waiting does not help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Limited(rejected) | Self::Full(rejected) => rejected.0.retry_after(),
            Self::Banned { retry_after } | Self::Paused { retry_after } | Self::Open { retry_after, .. } => {
                Some(*retry_after)
            }
            Self::Store(_) | Self::Shed => Some(LATER),
            Self::TooLarge(_)
            | Self::Blocked
            | Self::Unregistered(_)
            | Self::ResourceNotAllowed { .. }
            | Self::UnknownLimit { .. } => None,
        }
    }

    /// The same in whole seconds, as `Retry-After` has it: rounded up, at least 1.
    pub fn retry_after_secs(&self) -> Option<u64> {
        self.retry_after().map(|wait| whole_seconds(wait).max(1))
    }

    /// The status that stands for it where a handler sends on behalf of a request: 429, 403 for a client on the block
    /// list or banned, 401 or 400 for one that the registry does not let send, 503 where the store or the other side is down, 500 for a mistake in the program.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Limited(_) | Self::Full(_) | Self::TooLarge(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Blocked | Self::Banned { .. } | Self::ResourceNotAllowed { .. } => StatusCode::FORBIDDEN,
            Self::Unregistered(rejection) => rejection.status(),
            Self::Store(_) | Self::Paused { .. } | Self::Open { .. } | Self::Shed => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::UnknownLimit { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The answer to the request on whose behalf something was to be sent: what a layer answers where it refuses, with
    /// `Retry-After` and problem details.
    pub fn to_response(&self, head: RequestHead<'_>) -> Response<Bytes> {
        let (reason, decision) = match self {
            Self::Limited(rejected) | Self::Full(rejected) | Self::TooLarge(rejected) => {
                (Reason::Limited, Some(&rejected.0))
            }
            Self::Blocked => (Reason::Blocked, None),
            Self::Banned { retry_after } => (Reason::Banned { retry_after: *retry_after }, None),
            Self::Unregistered(rejection) => (Reason::Unidentified(*rejection), None),
            Self::ResourceNotAllowed { resource } => {
                (Reason::ResourceNotAllowed { resource: resource.clone() }, None)
            }
            Self::Store(_) => (Reason::StoreDown { retry_after: LATER }, None),
            Self::Paused { .. } | Self::Open { .. } | Self::Shed => {
                (Reason::Overloaded { retry_after: self.retry_after().unwrap_or(LATER) }, None)
            }
            Self::UnknownLimit { .. } => {
                let mut response = Response::new(Bytes::new());
                *response.status_mut() = self.status();
                return response;
            }
        };
        let limits =
            decision.map(|decision| statuses(&decision.charged.asked, &decision.inner)).unwrap_or_default();
        let refusal = Refusal::new(reason, &limits, None);
        RefusalStyle::default().respond(&refusal, head, HeaderStyle::default(), SystemTime::now)
    }
}

/// The [answer](PaceError::to_response) to a request of which nothing is known.
impl From<PaceError> for Response<Bytes> {
    fn from(error: PaceError) -> Self {
        let request = Request::new(());
        error.to_response(RequestHead::new(&request))
    }
}

impl fmt::Display for PaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, rejected) = match self {
            Self::Limited(rejected) => ("it may not go now", rejected),
            Self::Full(rejected) => ("too many are waiting", rejected),
            Self::TooLarge(rejected) => ("it costs more than a limit ever admits", rejected),
            Self::Blocked => return f.write_str("the client is on the block list"),
            Self::Paused { retry_after } => {
                return write!(f, "the other side asked for a pause; try again in {retry_after:?}");
            }
            Self::Open { error, retry_after } => {
                return write!(f, "nothing is sent while {error:?} persists; try again in {retry_after:?}");
            }
            Self::Shed => return f.write_str("the other side refuses most of what is sent; send less"),
            Self::Banned { retry_after } => {
                return write!(f, "the client is banned for {} seconds more", whole_seconds(*retry_after));
            }
            Self::Unregistered(rejection) => return rejection.fmt(f),
            Self::ResourceNotAllowed { resource } => {
                return write!(f, "the client may not use {resource:?}");
            }
            Self::UnknownLimit { limit, known } => {
                return write!(f, "no limit of the pacer is named {limit:?}; there are {known:?}");
            }
            Self::Store(error) => return error.fmt(f),
        };
        f.write_str(what)?;
        let never = matches!(self, Self::TooLarge(_));
        let refusing = rejected.limits().filter(|limit| limit.refuses());
        for (number, limit) in refusing.filter(|limit| limit.reading().is_never() == never).enumerate() {
            f.write_str(if number == 0 { ": " } else { ", " })?;
            write!(f, "{} ({})", limit.limit(), limit.quota())?;
        }
        match self.retry_after() {
            Some(wait) => write!(f, "; try again in {wait:?}"),
            None => Ok(()),
        }
    }
}

impl Error for PaceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            Self::Unregistered(rejection) => Some(rejection),
            _ => None,
        }
    }
}

impl From<Barred> for PaceError {
    fn from(barred: Barred) -> Self {
        match barred {
            Barred::Blocked => Self::Blocked,
            Barred::Banned(retry_after) => Self::Banned { retry_after },
            Barred::Unregistered(rejection) => Self::Unregistered(rejection),
            Barred::Resource(resource) => Self::ResourceNotAllowed { resource },
            Barred::Down(error) => Self::Store(error),
        }
    }
}

/// Why a service behind a [`PaceLayer`](crate::PaceLayer) gave no answer.
#[derive(Debug)]
pub enum SendError<E> {
    /// The request was not sent.
    Paced(PaceError),
    /// The service inside failed.
    Inner(E),
}

impl<E> SendError<E> {
    /// What the service inside said, if it was asked.
    pub fn into_inner(self) -> Result<E, PaceError> {
        match self {
            Self::Paced(error) => Err(error),
            Self::Inner(error) => Ok(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for SendError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paced(error) => error.fmt(f),
            Self::Inner(error) => error.fmt(f),
        }
    }
}

impl<E: Error + 'static> Error for SendError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Paced(error) => error.source(),
            Self::Inner(error) => error.source(),
        }
    }
}
