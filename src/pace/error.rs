use crate::{
    Decision, HeaderStyle, LimitStatus, Reason, Refusal, RequestHead, StoreError,
    limiter::statuses,
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
    /// It would have to wait, and as many wait already as may.
    Full(Rejected),
    /// It costs more than a limit ever admits.
    TooLarge(Rejected),
    /// The client is on the policy's block list.
    Blocked,
    /// A cost is for a limit that the pacer does not have.
    UnknownLimit {
        /// The name.
        limit: String,
        /// The limits that there are.
        known: Vec<String>,
    },
    /// The store could not decide.
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

/// How long to wait before a store that failed is worth another try.
const STORE_RETRY: Duration = Duration::from_secs(1);

impl PaceError {
    /// How long until it could go, as things stand; nothing where waiting does not help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Limited(rejected) | Self::Full(rejected) => rejected.0.retry_after(),
            Self::Store(_) => Some(STORE_RETRY),
            Self::TooLarge(_) | Self::Blocked | Self::UnknownLimit { .. } => None,
        }
    }

    /// The same in whole seconds, as `Retry-After` has it: rounded up, at least 1.
    pub fn retry_after_secs(&self) -> Option<u64> {
        self.retry_after().map(|wait| whole_seconds(wait).max(1))
    }

    /// The status that stands for it where a handler sends on behalf of a request: 429, 403 for a client on the block
    /// list, 503 where the store is down, 500 for a mistake in the program.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Limited(_) | Self::Full(_) | Self::TooLarge(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Blocked => StatusCode::FORBIDDEN,
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
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
            Self::Store(_) => (Reason::StoreDown { retry_after: STORE_RETRY }, None),
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
            _ => None,
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
