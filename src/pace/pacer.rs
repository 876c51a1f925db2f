use super::{
    Costs, PaceError, Priority,
    feedback::Control,
    passage::PaceFuture,
    priority::Shares,
    queue::{Bounds, Queues},
    shared::{Settings, Shared},
    spacing::Spacing,
    wait::{Manner, Patience},
};
use crate::{BuildError, Decision, Event, Identity, Limit, Limiter, Mistake, Policy, Rule};
use std::{fmt, sync::Arc, time::Duration};

/// Holds what a program sends to quotas, by waiting: before a queue, a broker, or somebody's API.
///
/// ```
/// use tidegate::{Limit, Pacer, Quota};
///
/// # async fn send(_: u32) {}
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pacer = Pacer::new([
///     Limit::per_client("requests", Quota::per_second(500)),
///     Limit::shared("records", Quota::per_second(50_000)),
/// ])?;
/// for batch in 0..3 {
///     pacer.until_ready("orders", [("records", 100)]).await?;
///     send(batch).await;
/// }
/// # Ok(())
/// # }
/// ```
///
/// All limits are charged together or none is. Who has to wait does so in turn: first come, first served for each key and
/// [priority](PaceFuture::priority). Where
/// limits are shared by all keys, keys that wait get equal shares of them, in units, and none is starved by a busy one.
/// What goes is spaced evenly, as from a leaky bucket, to the timer's grain of 2 ms; [`bursts`](Self::bursts) lets quotas'
/// bursts through at once. A quota without a burst of its own admits as much at once as its amount, so that is the most that
/// one send can cost. No more ever goes than the quotas admit: whoever counts by the same ones refuses nothing.
///
/// Whoever stops waiting, by dropping the future, leaves the queue and has been charged nothing.
///
/// Clones share everything and cost one reference count. It needs tokio's timer.
#[derive(Clone)]
pub struct Pacer {
    pub(super) shared: Arc<Shared>,
}

/// So many wait for one key, and for all, unless set.
const BOUNDS: Bounds = Bounds { each: 1_000, all: 100_000 };

impl Pacer {
    /// A pacer with these limits that counts in memory.
    ///
    /// # Errors
    ///
    /// If a limit has a mistake; the error names all of them.
    pub fn new(limits: impl IntoIterator<Item = Limit>) -> Result<Self, BuildError> {
        let rule = limits.into_iter().fold(Rule::new("pace").by_hand(), Rule::limit);
        Ok(Self::build(Limiter::new(Policy::new().rule(rule))?, 0))
    }

    /// A pacer with the limits of a limiter's rule, which counts where the limiter does.
    ///
    /// So it can have a clock, a store, observers and lists, and share counts with a layer;
    /// [`Limiter::set_quota`] reaches those who wait within a second. A rule that only watches makes nobody wait.
    ///
    /// Where the rule's source is [registered](crate::Source::registered), keys are clients of the registry, with what their
    /// tier and records grant them; a change reaches those who wait within a second. Who is banned or disabled is
    /// rejected.
    ///
    /// # Errors
    ///
    /// If no rule has that name.
    pub fn on(limiter: &Limiter, rule: &str) -> Result<Self, BuildError> {
        let inner = limiter.now();
        let rules = &inner.policy.rules;
        match rules.iter().position(|known| known.name == rule) {
            Some(rule) => Ok(Self::build(limiter.clone(), rule)),
            None => {
                let known = rules.iter().map(|rule| rule.name.clone()).collect();
                Err(BuildError::one(Mistake::Unknown { name: rule.to_owned(), known }))
            }
        }
    }

    fn build(limiter: Limiter, rule: usize) -> Self {
        let first = limiter.now().clone();
        let shadow = first.policy.rules.get(rule).is_some_and(|rule| rule.shadow);
        let shares = Shares::default();
        let settings = Settings { spacing: Spacing::Even, max_wait: None, shadow, bounds: BOUNDS, shares };
        let [takes_turns, has_own] = first.shares_limits(rule);
        let queues = Arc::new(Queues::new(settings.bounds, shares, takes_turns && !has_own));
        let shared = Shared { limiter, first, rule, takes_turns, settings, queues, control: None };
        Self { shared: Arc::new(shared) }
    }

    /// How long anybody may wait; for ever unless set. Who would have to wait longer, as far as that can be known, is
    /// rejected at once.
    ///
    /// Set it before the pacer is cloned: a pacer with another setting has queues of its own.
    #[must_use]
    pub fn max_wait(self, most: Duration) -> Self {
        self.with(|settings| settings.max_wait = Some(most))
    }

    /// How many may wait for one key, and for all keys together; 1,000 and 100,000 unless set. With 0 nobody waits.
    ///
    /// Set it before the pacer is cloned: a pacer with another setting has queues of its own.
    #[must_use]
    pub fn max_waiting(self, each: usize, all: usize) -> Self {
        self.with(|settings| settings.bounds = Bounds { each, all })
    }

    /// Lets go at once what fits the quotas' bursts, instead of spacing all sends evenly.
    ///
    /// Set it before the pacer is cloned: a pacer with another setting has queues of its own.
    #[must_use]
    pub fn bursts(self) -> Self {
        self.with(|settings| settings.spacing = Spacing::Bursts)
    }

    /// What a priority gets, in percent of the units that go while it waits, however many more urgent ones overtake it: 20
    /// for [`Priority::Normal`] and 5 for [`Priority::Low`] unless set. What is left goes to the most urgent.
    ///
    /// Set it before the pacer is cloned: a pacer with another setting has queues of its own.
    ///
    /// # Errors
    ///
    /// If more than 100 % are guaranteed in all.
    pub fn guarantee(self, priority: Priority, percent: u8) -> Result<Self, BuildError> {
        let mut shares = self.shared.settings.shares;
        shares.set(priority, percent)?;
        Ok(self.with(|settings| settings.shares = shares))
    }

    /// Only watches: all goes at once, and events tell what would have waited or been rejected.
    ///
    /// Limits are counted as if they were kept, so a debt grows to a quota's burst and no further. A rule with
    /// [`shadow`](Rule::shadow) does the same.
    #[must_use]
    pub fn shadow(self) -> Self {
        self.with(|settings| settings.shadow = true)
    }

    fn with(self, set: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.shared.settings;
        set(&mut settings);
        self.remade(settings, self.shared.control.clone())
    }

    pub(super) fn controlled(self, control: Control) -> Self {
        self.remade(self.shared.settings, Some(Arc::new(control)))
    }

    fn remade(&self, settings: Settings, control: Option<Arc<Control>>) -> Self {
        let Shared { ref limiter, ref first, rule, takes_turns, ref queues, .. } = *self.shared;
        let queues = Arc::new(queues.remade(settings.bounds, settings.shares));
        let (limiter, first) = (limiter.clone(), first.clone());
        Self { shared: Arc::new(Shared { limiter, first, rule, takes_turns, settings, queues, control }) }
    }

    pub(super) fn control(&self) -> Option<&Control> {
        self.shared.control.as_deref()
    }

    /// The limiter's time, in nanoseconds.
    pub(super) fn now(&self) -> u64 {
        self.shared.limiter.inner.engine.now()
    }

    pub(super) fn emit(&self, event: &Event<'_>) {
        self.shared.first.emit_for(self.shared.rule, event);
    }

    /// Waits until something of this cost may be sent for a key, and charges it.
    ///
    /// The key is a client: a service, a task type, a topic. The place in its queue is taken when the future is first
    /// polled. The decision can be [given back](Self::refund) if nothing is sent after all.
    ///
    /// # Errors
    ///
    /// If it would wait too long, too many wait already, or waiting does not help. Nothing is charged then.
    pub fn until_ready<'a, 'c>(
        &self,
        key: impl Into<Identity<'a>>,
        cost: impl Into<Costs<'c>>,
    ) -> PaceFuture {
        self.start(&key.into(), &cost.into(), self.patience())
    }

    /// Charges something of this cost if it may be sent for a key now.
    ///
    /// In memory the future is ready when first polled.
    ///
    /// # Errors
    ///
    /// If it would have to wait, others of its key are waiting, or waiting does not help. Nothing is charged then, and
    /// [`PaceError::retry_after`] tells when to come back.
    pub fn try_take<'a, 'c>(&self, key: impl Into<Identity<'a>>, cost: impl Into<Costs<'c>>) -> PaceFuture {
        self.start(&key.into(), &cost.into(), Patience::None)
    }

    pub(super) fn start(&self, key: &Identity<'_>, cost: &Costs<'_>, patience: Patience) -> PaceFuture {
        self.start_as(key, cost, Manner { patience, priority: Priority::Normal, takes_room: false })
    }

    #[inline]
    pub(super) fn start_as(&self, key: &Identity<'_>, cost: &Costs<'_>, manner: Manner) -> PaceFuture {
        let (later, rule) = self.shared.in_force();
        let inner = later.as_ref().unwrap_or(&self.shared.first);
        let limits = || inner.rule_limits(rule);
        match cost.of(limits()) {
            Ok(units) => {
                let sender = inner.sender(rule, key);
                PaceFuture::new(self.shared.clone(), (later, rule), sender, units, manner)
            }
            Err(limit) => {
                let known = limits().map(|(name, _)| name.to_owned()).collect();
                PaceFuture::failed(PaceError::UnknownLimit { limit: limit.to_owned(), known })
            }
        }
    }

    pub(super) fn patience(&self) -> Patience {
        self.shared.settings.max_wait.map_or(Patience::Endless, Patience::Upto)
    }

    /// Gives back what a decision charged, once, as far as it is still owed. It is for what was not sent after all.
    pub fn refund(&self, decision: &Decision) {
        self.shared.limiter.refund(decision);
    }

    pub(super) fn is_shadow(&self) -> bool {
        self.shared.settings.shadow
    }

    /// How many wait, of all keys.
    pub fn waiting(&self) -> usize {
        self.shared.queues.waiting()
    }

    /// The limiter that counts.
    pub fn limiter(&self) -> &Limiter {
        &self.shared.limiter
    }
}

impl fmt::Debug for Pacer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pacer")
            .field("settings", &self.shared.settings)
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}
