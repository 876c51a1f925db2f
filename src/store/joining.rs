use std::{fmt, sync::Arc, time::Duration};

/// Who counts in a store: what a [`Store`](crate::Store) is handed when a limiter is built on it.
#[derive(Clone)]
pub struct Joining {
    fingerprint: Option<Arc<str>>,
    settled: Arc<[u64]>,
    leased: Arc<[(u64, u32)]>,
    window: Duration,
    #[cfg(feature = "redis")]
    former: Option<Arc<Former>>,
    tell: Arc<dyn Fn(StoreChange<'_>) + Send + Sync>,
}

impl Joining {
    pub(crate) fn new(
        fingerprint: Option<String>,
        settled: Vec<u64>,
        leased: Vec<(u64, u32)>,
        tell: impl Fn(StoreChange<'_>) + Send + Sync + 'static,
    ) -> Self {
        let fingerprint = fingerprint.map(Arc::from);
        Self {
            fingerprint,
            settled: settled.into(),
            leased: leased.into(),
            window: Duration::ZERO,
            #[cfg(feature = "redis")]
            former: None,
            tell: Arc::new(tell),
        }
    }

    pub(crate) fn window(self, window: Duration) -> Self {
        Self { window, ..self }
    }

    /// What counts by a former secret too.
    #[cfg(feature = "redis")]
    pub(crate) fn with_former(self, former: Option<Former>) -> Self {
        Self { former: former.map(Arc::new), ..self }
    }

    #[cfg(feature = "redis")]
    pub(crate) fn former(&self) -> Option<&Arc<Former>> {
        self.former.as_ref()
    }

    /// The longest time that anything is owed under the policy's limits.
    pub const fn longest_window(&self) -> Duration {
        self.window
    }

    /// By what the limiter's [secret](crate::LimiterBuilder::secret) can be told from others and not be found out: 16
    /// hexadecimal digits. Nothing where none was set, so that it is a random one that no other instance has.
    pub fn secret_fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// The limits, as in [`Charge::limit`](crate::Charge::limit), whose policy gives back what responses tell. Others are
    /// given back to only by hand.
    pub fn settled_limits(&self) -> &[u64] {
        &self.settled
    }

    /// The limits of which instances may debit units [in advance](crate::Limit::leased), and how many of each key at most.
    pub fn leased_limits(&self) -> &[(u64, u32)] {
        &self.leased
    }

    /// Tells whoever listens to the limiter what became of the store.
    pub fn tell(&self, change: StoreChange<'_>) {
        (self.tell)(change);
    }
}

impl fmt::Debug for Joining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joining").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// The secret before the one in use, and what limits are called by it.
#[cfg(feature = "redis")]
#[derive(Debug)]
pub(crate) struct Former {
    pub(crate) fingerprint: String,
    /// The name of each limit now, and then.
    pub(crate) limits: Vec<(u64, u64)>,
}

/// What became of a store that is shared with other instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreChange<'a> {
    /// It is reached, for the first time or again.
    Joined {
        /// How many instances share it now, this one among them.
        instances: u32,
    },
    /// It cannot be reached; told once for each reason.
    Unreachable {
        /// Why.
        error: &'a str,
    },
    /// The connection broke.
    Lost {
        /// Why.
        error: &'a str,
    },
    /// Too many calls in a row have failed, so that nothing but probes is sent until one is answered.
    Opened {
        /// How the last one failed.
        error: &'a str,
    },
    /// Instances with another secret count there, so that this one is kept out.
    Barred {
        /// Which secrets, and what to do about it.
        error: &'a str,
    },
    /// So many permits that are in use here are not counted any more: this instance was cut off for so long that others may
    /// have been given them. They are counted again as soon as there is room.
    PermitsLost {
        /// All that are not counted.
        permits: u32,
    },
    /// Something about it should be changed.
    Advice {
        /// What, and why.
        advice: &'a str,
    },
}
