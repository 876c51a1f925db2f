//! What can be wrong with a policy, all of it found when the limiter is built.

use std::{error::Error, fmt};

/// Why a limiter could not be built: every mistake in its policy, not only the first.
///
/// Its message has a line for each mistake, which names the rule and says how to mend it.
#[derive(Clone, PartialEq, Eq)]
pub struct BuildError {
    mistakes: Vec<Mistake>,
}

impl BuildError {
    /// The mistakes, in the order of the policy.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    pub(crate) const fn new(mistakes: Vec<Mistake>) -> Self {
        Self { mistakes }
    }

    pub(crate) fn one(mistake: Mistake) -> Self {
        Self::new(vec![mistake])
    }
}

/// The message, because that is what a `main` that returns the error prints.
impl fmt::Debug for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.mistakes.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

impl Error for BuildError {}

/// One mistake in a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mistake {
    /// A limit's quota cannot be kept.
    Quota {
        /// The rule that holds the limit.
        rule: String,
        /// The limit.
        limit: String,
        /// What is wrong with its quota.
        error: QuotaError,
    },
    /// Two rules have one name.
    DuplicateRule {
        /// The name.
        rule: String,
    },
    /// Two limits have one name, in one rule or in two.
    DuplicateLimit {
        /// The rule that holds the second one.
        rule: String,
        /// The name.
        limit: String,
    },
    /// A name is empty, too long or not printable ASCII, so it cannot stand in a header.
    Name {
        /// The name.
        name: String,
    },
    /// A limit could never admit what a request costs.
    Cost {
        /// The rule that holds the limit.
        rule: String,
        /// The limit.
        limit: String,
        /// What is wrong with the cost.
        reason: String,
    },
    /// A limit on concurrency admits nobody, or lets nobody wait.
    Concurrency {
        /// The rule that holds the limit.
        rule: String,
        /// The limit.
        limit: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A route pattern that cannot be parsed, or that stands twice in one rule.
    Pattern {
        /// The rule that holds the pattern.
        rule: String,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A rule that no request reaches, because an earlier rule with `only` takes all that it matches.
    Hidden {
        /// The rule that is never reached.
        rule: String,
        /// The earlier rule.
        by: String,
    },
    /// An address or network that cannot be parsed.
    Network {
        /// The text.
        text: String,
        /// Where it stands.
        place: &'static str,
    },
    /// A header, cookie or query parameter has no valid name.
    Source {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No rule or limit has this name.
    Unknown {
        /// The name.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// A setting is outside its range.
    Setting {
        /// The setting.
        setting: &'static str,
        /// What is wrong with its value, and what is accepted.
        reason: String,
    },
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quota { rule, limit, error } => write!(f, "rule {rule:?}, limit {limit:?}: {error}"),
            Self::DuplicateRule { rule } => {
                write!(f, "two rules are named {rule:?}; give each rule a name of its own")
            }
            Self::DuplicateLimit { rule, limit } => write!(
                f,
                "rule {rule:?}: a limit named {limit:?} exists already; clients are told limits by name, so give each one its own"
            ),
            Self::Name { name } => write!(
                f,
                "{name:?} cannot be a name; use 1 to 64 printable ASCII characters, because names are sent in headers"
            ),
            Self::Cost { rule, limit, reason } | Self::Concurrency { rule, limit, reason } => {
                write!(f, "rule {rule:?}, limit {limit:?}: {reason}")
            }
            Self::Pattern { rule, pattern, reason } => {
                write!(f, "rule {rule:?}: pattern {pattern:?}: {reason}")
            }
            Self::Hidden { rule, by } => write!(
                f,
                "rule {rule:?} is never reached, because {by:?} takes all that it matches and ends the search; move {rule:?} before {by:?}"
            ),
            Self::Network { text, place } => write!(
                f,
                "{place}: {text:?} is no address or network; write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32"
            ),
            Self::Source { name, reason } => write!(f, "identity from {name:?}: {reason}"),
            Self::Unknown { name, known } => write!(f, "nothing is named {name:?}; there are {known:?}"),
            Self::Setting { setting, reason } => write!(f, "{setting}: {reason}"),
        }
    }
}

/// What is wrong with a quota, and what is accepted instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaError {
    message: String,
}

impl QuotaError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl fmt::Display for QuotaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for QuotaError {}
