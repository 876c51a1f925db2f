//! When a client is let in no more.

use crate::{Mistake, ban::Terms};
use std::time::Duration;

/// Bans clients that are refused too often, for a time that can grow.
///
/// A banned client gets a 403 on every route, as one on the block list does, and its requests cost nothing and do not
/// make the ban longer. Only refusals by limits that a client has for itself count: it can do nothing about what
/// others take of a shared one. A request that a rule rejects, because its key is unknown, say, is no refusal: one wrong key
/// in an office would shut out the whole office. Whoever goes on guessing is banned where a rule by
/// [address](crate::Source::address) counts these requests too, and refuses them in the end. The shared client `anonymous` is never banned, nor is the [fallback](crate::Clients::fallback)
/// client except by hand. A registered client is banned by its id, and so with whichever API key it comes.
///
/// ```
/// use std::time::Duration;
/// use tidegate::{Ban, Policy, Quota};
///
/// const MINUTE: Duration = Duration::from_secs(60);
/// let policy = Policy::per_client(Quota::per_minute(100))
///     .ban(Ban::after(20, MINUTE).lasting(10 * MINUTE).doubling_up_to(24 * 60 * MINUTE));
/// ```
#[derive(Debug, Clone)]
pub struct Ban {
    refusals: u32,
    window: Duration,
    first: Duration,
    longest: Option<Duration>,
    quiet: Option<Duration>,
    remember: usize,
}

/// So many clients have a record, unless set: about 2 MB.
const DEFAULT_CLIENTS: usize = 16_384;
/// More would be gigabytes.
const MOST_CLIENTS: usize = 1 << 24;

impl Ban {
    /// Bans a client that is refused so many times in a window, for ten minutes unless [`lasting`](Self::lasting) says
    /// otherwise.
    ///
    /// Fewer refusals in a window never lead to a ban, and as many within half of one always do. In between it depends on
    /// when the client's windows began, which is with the first refusal after a quiet one.
    pub const fn after(refusals: u32, window: Duration) -> Self {
        let first = Duration::from_secs(600);
        Self { refusals, window, first, longest: None, quiet: None, remember: DEFAULT_CLIENTS }
    }

    /// Bans nobody by itself: only [`Limiter::ban`](crate::Limiter::ban) does.
    pub const fn by_hand() -> Self {
        Self::after(u32::MAX, Duration::from_secs(1))
    }

    /// How long the first ban takes, and each further one too, unless they [double](Self::doubling_up_to).
    #[must_use]
    pub const fn lasting(mut self, time: Duration) -> Self {
        self.first = time;
        self
    }

    /// Lets each ban of a client take twice as long as the one before, up to this.
    #[must_use]
    pub const fn doubling_up_to(mut self, longest: Duration) -> Self {
        self.longest = Some(longest);
        self
    }

    /// How long after its last ban a client starts anew, with the first ban's time; as long as the longest ban takes
    /// unless set.
    #[must_use]
    pub const fn forgiven_after(mut self, quiet: Duration) -> Self {
        self.quiet = Some(quiet);
        self
    }

    /// How many clients that were refused can be remembered at once; 16,384 unless set. Each takes about 140 bytes, all of
    /// them taken at the start. A newcomer gets the place of one that was refused longer ago, but never of a banned one.
    #[must_use]
    pub const fn remember(mut self, clients: usize) -> Self {
        self.remember = clients;
        self
    }

    /// The terms and the number of clients.
    pub(super) fn compile(&self) -> Result<(Terms, usize), Mistake> {
        let &Self { refusals, window, first, longest, quiet, remember } = self;
        let longest = longest.unwrap_or(first);
        let wrong = [
            (refusals == 0, "after no refusals everybody is banned; set 1 at least"),
            (window.is_zero(), "nobody is refused within no time; set a window"),
            (first.is_zero(), "a ban for no time is none; set one, or leave it out"),
            (longest < first, "the longest ban is shorter than the first one; set it as long at least"),
            (remember == 0, "nobody could be remembered; set 1 client at least"),
            (remember > MOST_CLIENTS, "so many clients cannot be remembered; set 16,777,216 at most"),
        ];
        if let Some((_, reason)) = wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
            return Err(Mistake::Setting { setting: "ban", reason: reason.to_owned() });
        }
        let [window, first, longest, quiet] =
            [window, first, longest, quiet.unwrap_or(longest)].map(crate::clock::nanos);
        Ok((Terms { refusals, window, first, longest, quiet }, remember))
    }
}
