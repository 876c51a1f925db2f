//! What a pacer is told of the other side, and what it makes of it.

use super::feedback::{Control, Feedback, Outcome, Signals};
#[cfg(feature = "retry")]
use super::{Backoff, timer};
use crate::{BuildError, Event, Mistake, Pacer};
use std::time::Duration;

impl Pacer {
    /// Follows what the other side makes of what is sent, from now on.
    ///
    /// Set it before the pacer is cloned: a pacer with another setting has queues of its own.
    ///
    /// # Errors
    ///
    /// If a setting is out of its range.
    pub fn feedback(self, feedback: Feedback) -> Result<Self, BuildError> {
        feedback.check()?;
        Ok(self.controlled(Control::new(feedback)))
    }

    /// Tells what became of something that was sent. A [`PaceLayer`](crate::PaceLayer) that was told how to
    /// [judge](crate::PaceLayer::judge) answers does so itself.
    pub fn report(&self, outcome: &Outcome) {
        let error = outcome.error.as_deref();
        self.emit(&Event::Answered { took: outcome.took, refused: outcome.refused, error });
        if let Some(control) = self.control() {
            control.report(outcome, self.now()).tell(|event| self.emit(event));
        }
    }

    /// Sends nothing for a time, as a throttle time asks: no longer than [`Feedback::max_pause`]. Without
    /// [feedback](Self::feedback) it does nothing.
    pub fn pause(&self, time: Duration) {
        if let Some(control) = self.control() {
            control.pause(time, self.now()).tell(|event| self.emit(event));
        }
    }

    /// Waits before something is tried again, and tells of it.
    #[cfg(feature = "retry")]
    #[cfg_attr(docsrs, doc(cfg(feature = "retry")))]
    pub async fn back_off(&self, backoff: &mut Backoff) {
        let wait = backoff.draw();
        self.emit(&Event::Retried { next: backoff.drawn().saturating_add(1), wait });
        timer::sleep(wait).await;
    }

    /// Sets a signal; what is no finite number makes it the default.
    ///
    /// # Errors
    ///
    /// If no [signal](Feedback::signal) of that name was declared.
    pub fn signal(&self, name: &str, value: f64) -> Result<(), BuildError> {
        let set = self.control().map_or(Err(Vec::new()), |control| control.signal(name, value, self.now()));
        set.map_err(|known| BuildError::one(Mistake::Unknown { name: name.to_owned(), known }))
    }

    /// All signals as of now.
    pub fn signals(&self) -> Signals {
        self.control().map(|control| control.signals(self.now())).unwrap_or_default()
    }

    /// How many sends through layers may be on their way at once now, if [that](Feedback::in_flight) is bounded.
    pub fn in_flight(&self) -> Option<u32> {
        self.control().and_then(Control::in_flight)
    }

    /// Sets the gauges of this pacer, which go by the name of its rule. Call it every few seconds, or before each scrape.
    #[cfg(feature = "metrics")]
    #[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
    pub fn set_gauges(&self) {
        let (factor, waiting, in_flight) = (self.factor(), self.waiting(), self.in_flight());
        let rule = self.shared.first.policy.rules.get(self.shared.rule);
        let gauges = crate::observe::PacerGauges { factor, waiting, in_flight };
        gauges.set(rule.map_or("pace", |rule| &rule.name));
    }

    /// The share of its quotas' rates that the pacer uses now, from 0 to 1.
    pub fn factor(&self) -> f64 {
        self.control().map_or(1.0, |control| control.factor(self.now()))
    }
}
