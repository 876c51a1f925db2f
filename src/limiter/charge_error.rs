use super::grants::Denied;
use crate::{
    Rejection, StoreError,
    response::{NO_ROOM, whole_seconds},
};
use std::{error::Error, fmt, time::Duration};

/// A charge could not be decided.
#[derive(Debug)]
#[non_exhaustive]
pub enum ChargeError {
    /// No rule has this name.
    UnknownRule {
        /// The name.
        rule: String,
        /// The rules that there are.
        known: Vec<String>,
    },
    /// The client is on the policy's block list.
    Blocked,
    /// The client is banned for a time.
    Banned {
        /// How long yet.
        retry_after: Duration,
    },
    /// There is no room left to count what runs at once.
    NoRoom,
    /// The registry does not let the client charge: its id is malformed, or it is unknown or disabled.
    Rejected(Rejection),
    /// The client may not use the resource.
    ResourceNotAllowed {
        /// The resource.
        resource: String,
    },
    /// The client may not override its limits.
    OverrideNotAllowed,
    /// The limits that were to override the client's are not accepted.
    BadOverride {
        /// What is wrong and what is accepted.
        detail: String,
    },
    /// The store or the registry could not decide.
    Store(StoreError),
}

impl From<Denied> for ChargeError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Rejected(rejection) => Self::Rejected(rejection),
            Denied::Down(error) => Self::Store(StoreError::of("registry", error)),
        }
    }
}

impl fmt::Display for ChargeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownRule { rule, known } => write!(f, "no rule is named {rule:?}; there are {known:?}"),
            Self::Blocked => f.write_str("the client is on the block list"),
            Self::Banned { retry_after } => {
                write!(f, "the client is banned for {} seconds more", whole_seconds(*retry_after))
            }
            Self::NoRoom => f.write_str(NO_ROOM),
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::ResourceNotAllowed { resource } => write!(f, "the client may not use {resource:?}"),
            Self::OverrideNotAllowed => f.write_str("the client may not override its limits"),
            Self::BadOverride { detail } => f.write_str(detail),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl Error for ChargeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }
}
