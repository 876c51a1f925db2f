use std::{error::Error, fmt};

/// Why a registry did not do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum RegistryError {
    /// A field has a value that is not accepted.
    Invalid {
        /// The field, as it is named in JSON: `tier`, `rate_limit.requests_per_min`.
        field: String,
        /// What is wrong, and what is accepted.
        message: String,
    },
    /// Nothing of that name is there.
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// The registry cannot be reached, or cannot write.
    Unavailable(Box<dyn Error + Send + Sync>),
}

impl RegistryError {
    /// The registry cannot be reached, or cannot write.
    pub fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(source.into())
    }

    pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), message: message.into() }
    }

    pub(crate) fn no_client(id: &str) -> Self {
        Self::NotFound { what: format!("client {id:?}") }
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { field, message } => write!(f, "{field}: {message}"),
            Self::NotFound { what } => write!(f, "there is no {what}"),
            Self::Unavailable(source) => write!(f, "the registry cannot be used: {source}"),
        }
    }
}

impl Error for RegistryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unavailable(source) => Some(&**source),
            Self::Invalid { .. } | Self::NotFound { .. } => None,
        }
    }
}
