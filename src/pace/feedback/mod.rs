//! What the other side makes of what is sent, and how fast that lets a pacer go.
//!
//! Answers and signals become a factor, and a factor stretches the rates of charges: one mechanism for all of them. Pauses and
//! open breakers are times before which nothing goes.

mod admission;
mod aimd;
mod breaker;
mod control;
mod in_flight;
mod outcome;
mod signals;
mod spread;
pub(super) mod told;

use crate::{BuildError, Mistake};
pub use aimd::Aimd;
pub use breaker::Breaker;
pub(super) use control::{Control, Gate, Room};
pub use in_flight::InFlight;
pub use outcome::Outcome;
pub use signals::Signals;
use std::{fmt, sync::Arc, time::Duration};

/// How a [`Pacer`](crate::Pacer) follows what the other side makes of what is sent.
///
/// ```
/// use std::time::Duration;
/// use tidegate::{Aimd, Breaker, Feedback, Limit, Pacer, Quota, Signals};
///
/// # fn main() -> Result<(), tidegate::BuildError> {
/// let feedback = Feedback::new()
///     .adapt(Aimd::new().slow_after(Duration::from_millis(250)))
///     .breaker(Breaker::new())
///     .signal("broker_ms", 10.0, Duration::from_secs(30))
///     .rule(|signals: &Signals| match signals.get("broker_ms") {
///         Some(millis) if millis > 200.0 => 0.5,
///         _ => 1.0,
///     });
/// let pacer = Pacer::new([Limit::shared("records", Quota::per_second(5_000))])?.feedback(feedback)?;
/// pacer.signal("broker_ms", 350.0)?;
/// assert_eq!(pacer.factor(), 0.05);
/// # Ok(())
/// # }
/// ```
///
/// By itself it obeys what outcomes say: nothing goes before a pause is over, and what the other side still admits is spread over
/// the time until it admits more, by the first limit of the pacer. The rest is added to it. All of it slows the pacer below its
/// quotas, and nothing makes it faster.
#[derive(Clone)]
#[must_use]
pub struct Feedback {
    aimd: Option<Aimd>,
    breaker: Option<Breaker>,
    admission: Option<f64>,
    in_flight: Option<InFlight>,
    signals: Signals,
    rules: Vec<FactorRule>,
    floor: f64,
    ceiling: f64,
    max_pause: Duration,
}

#[derive(Clone)]
struct FactorRule(Arc<dyn Fn(&Signals) -> f64 + Send + Sync>);

impl FactorRule {
    /// Between 0 and 1; what is no number changes nothing.
    fn factor(&self, signals: &Signals) -> f64 {
        let factor = (self.0)(signals);
        if factor.is_nan() { 1.0 } else { factor.clamp(0.0, 1.0) }
    }
}

impl Feedback {
    /// Obeys pauses of up to a minute, and what remains.
    pub fn new() -> Self {
        Self {
            aimd: None,
            breaker: None,
            admission: None,
            in_flight: None,
            signals: Signals::default(),
            rules: Vec::new(),
            floor: 0.01,
            ceiling: 1.0,
            max_pause: Duration::from_secs(60),
        }
    }

    /// Lets a factor follow answers.
    pub fn adapt(self, aimd: Aimd) -> Self {
        Self { aimd: Some(aimd), ..self }
    }

    /// Stops sending when a class of errors persists.
    pub fn breaker(self, breaker: Breaker) -> Self {
        Self { breaker: Some(breaker), ..self }
    }

    /// Rejects what the other side would most likely refuse, with [`PaceError::Shed`](crate::PaceError::Shed): of the sends
    /// of the last two minutes, so many are let through for each that was not refused (K in Google's *Site Reliability
    /// Engineering*; 2 is usual). Every outcome must be reported, or it looks refused.
    pub fn admission(self, multiple: f64) -> Self {
        Self { admission: Some(multiple), ..self }
    }

    /// Bounds how many sends through a layer are on their way at once.
    pub fn in_flight(self, in_flight: InFlight) -> Self {
        Self { in_flight: Some(in_flight), ..self }
    }

    /// Declares a signal: its value while it has not been set, and how long it is fresh after it was set. After that it goes
    /// over to the default in the same time.
    pub fn signal(mut self, name: impl Into<String>, default: f64, fresh: Duration) -> Self {
        self.signals.declare(name.into(), default, fresh);
        self
    }

    /// Makes a factor of the signals, from 0 to 1, by which the others are multiplied. It is asked every 50 ms at most, and must
    /// not call the pacer.
    pub fn rule(mut self, rule: impl Fn(&Signals) -> f64 + Send + Sync + 'static) -> Self {
        self.rules.push(FactorRule(Arc::new(rule)));
        self
    }

    /// The least and the largest that the factor becomes: from 0.01 to 1 unless set.
    pub const fn bounds(mut self, floor: f64, ceiling: f64) -> Self {
        (self.floor, self.ceiling) = (floor, ceiling);
        self
    }

    /// The longest pause, and the longest time that what remains is spread over, whatever the other side says; a minute unless
    /// set.
    pub const fn max_pause(mut self, most: Duration) -> Self {
        self.max_pause = most;
        self
    }

    const fn clamp(&self, factor: f64) -> f64 {
        factor.max(self.floor).min(self.ceiling)
    }

    pub(super) fn check(&self) -> Result<(), BuildError> {
        let mistake = |setting, reason| Err(BuildError::one(Mistake::Setting { setting, reason }));
        let bounds = [self.floor, self.ceiling];
        if !bounds.iter().all(|bound| *bound > 0.0 && *bound <= 1.0) || self.floor > self.ceiling {
            let reason =
                format!("{bounds:?} are no bounds; set a floor above 0, and a ceiling from there to 1");
            return mistake("Feedback::bounds", reason);
        }
        if let Some(multiple) = self.admission.filter(|multiple| multiple.is_nan() || *multiple < 1.0) {
            let reason =
                format!("{multiple} sends for each that is accepted would never grow; allow 1 at least");
            return mistake("Feedback::admission", reason);
        }
        if let Some(Err(reason)) = self.aimd.map(|aimd| aimd.check()) {
            return mistake("Feedback::adapt", reason);
        }
        if let Some(Err(reason)) = self.in_flight.map(|in_flight| in_flight.check()) {
            return mistake("Feedback::in_flight", reason);
        }
        match self.breaker.map(|breaker| breaker.check()) {
            Some(Err(reason)) => mistake("Feedback::breaker", reason),
            _ => Ok(()),
        }
    }
}

impl Default for Feedback {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Feedback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feedback")
            .field("aimd", &self.aimd)
            .field("breaker", &self.breaker)
            .field("admission", &self.admission)
            .field("bounds", &[self.floor, self.ceiling])
            .finish_non_exhaustive()
    }
}
