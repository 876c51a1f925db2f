//! Why a charge was not decided in Redis.

use crate::StoreError;
use redis::{ErrorKind, RedisError, ServerErrorKind};
use std::{borrow::Cow, error::Error, fmt, time::Duration};

/// What went wrong.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// Nothing was sent, because there is no connection, or too many calls have failed; and why.
    NotSent(Cow<'static, str>),
    /// No answer came in time. Whether it was charged is not known, so it counts as charged.
    Late(Duration),
    /// The connection broke. Whether it was charged is not known, so it counts as charged.
    Broken(RedisError),
    /// Redis answered with an error; nothing was charged.
    Refused(RedisError),
    /// The answer cannot be read.
    Odd(Cow<'static, str>),
    /// Instances with another secret count here.
    OtherSecret { ours: String, theirs: String, prefix: String },
    /// Some counts are by the former secret alone, which this instance does not know.
    SecretChanges { former: String, left: Duration },
}

impl Failure {
    /// One word for it.
    const fn kind(&self) -> &'static str {
        match self {
            Self::NotSent(_) => "not_sent",
            Self::Late(_) => "late",
            Self::Broken(_) => "broken",
            Self::Refused(_) => "refused",
            Self::Odd(_) => "odd",
            Self::OtherSecret { .. } | Self::SecretChanges { .. } => "other_secret",
        }
    }

    /// Whether Redis may have done what it was asked for.
    pub(super) const fn is_unsure(&self) -> bool {
        matches!(self, Self::Late(_) | Self::Broken(_) | Self::Odd(_))
    }

    /// Whether this instance is kept out.
    pub(super) const fn bars(&self) -> bool {
        matches!(self, Self::OtherSecret { .. } | Self::SecretChanges { .. })
    }

    /// Whether Redis cannot be relied upon, rather than this one charge.
    pub(super) fn is_of_store(&self) -> bool {
        match self {
            Self::Late(_) | Self::Broken(_) => true,
            Self::Refused(error) => matches!(
                error.kind(),
                ErrorKind::Server(
                    ServerErrorKind::BusyLoading
                        | ServerErrorKind::ClusterDown
                        | ServerErrorKind::MasterDown
                        | ServerErrorKind::ReadOnly
                )
            ),
            Self::NotSent(_) | Self::Odd(_) | Self::OtherSecret { .. } | Self::SecretChanges { .. } => false,
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self::of(failure.kind(), failure)
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed => {
                Self::Refused(error)
            }
            _ => Self::Broken(error),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(why) => write!(f, "Redis is not asked: {why}"),
            Self::Late(deadline) => write!(f, "Redis did not answer within {deadline:?}"),
            Self::Broken(error) => write!(f, "the connection to Redis broke: {error}"),
            Self::Refused(error) => write!(f, "Redis answered with an error: {error}"),
            Self::Odd(what) => write!(f, "Redis cannot be understood: {what}"),
            Self::SecretChanges { former, left } => write!(
                f,
                "the secret is being changed, and some of what is owed is still counted by the former one, with fingerprint {former}: give this instance both, with `.former_secret(..)`, or let it wait for {left:?}"
            ),
            Self::OtherSecret { ours, theirs, prefix } => write!(
                f,
                "instances with another secret count under the prefix {prefix:?}: its fingerprint is {theirs}, and ours {ours}; give all of them the same secret, or this one another prefix"
            ),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Broken(error) | Self::Refused(error) => Some(error),
            _ => None,
        }
    }
}
