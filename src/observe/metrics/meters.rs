//! What is counted on each request and send, by handles that are looked up once.

use super::names;
use crate::observe::Said;
use metrics::{Counter, Histogram, counter, histogram};
use std::{cell::Cell, sync::OnceLock, time::Duration};

/// Of decisions for which nothing is waited, one in so many is timed, because the clock costs as much as they do.
const TIMED: u32 = 16;

/// The meters of a limiter.
#[derive(Debug)]
pub(crate) struct Meters {
    rules: Box<[Rule]>,
    took: OnceLock<Histogram>,
}

/// A rule's meters, which are looked up when they are needed first: most rules are asked by requests or by pacers, not both.
#[derive(Debug)]
struct Rule {
    name: String,
    said: [OnceLock<Counter>; 3],
    sends: OnceLock<Sends>,
}

#[derive(Debug)]
struct Sends {
    attempts: Counter,
    sent: Counter,
    waited: Histogram,
}

thread_local! {
    static TURN: Cell<u32> = const { Cell::new(0) };
}

impl Meters {
    pub(crate) fn new<'a>(rules: impl Iterator<Item = &'a str>) -> Self {
        names::describe();
        let rule =
            |name: &str| Rule { name: name.to_owned(), said: Default::default(), sends: OnceLock::new() };
        Self { rules: rules.map(rule).collect(), took: OnceLock::new() }
    }

    /// Whether anything is measured at all.
    #[allow(clippy::unused_self, reason = "without the feature it is another one")]
    pub(crate) const fn is_on(&self) -> bool {
        true
    }

    /// Whether a decision that starts now is timed.
    #[allow(clippy::unused_self, reason = "without the feature it is another one")]
    pub(crate) fn is_timed(&self) -> bool {
        TURN.with(|turn| turn.replace(turn.get().wrapping_add(1)) % TIMED == 0)
    }

    /// How long a decision took.
    pub(crate) fn took(&self, time: Duration) {
        self.took.get_or_init(|| histogram!(names::DECISION_SECONDS)).record(time);
    }

    /// What a rule said to a request.
    pub(crate) fn said(&self, rule: usize, said: Said) {
        let Some(rule) = self.rules.get(rule) else { return };
        let (number, outcome) = match said {
            Said::Allowed => (0, "allowed"),
            Said::ShadowRefused => (1, "shadow_refused"),
            Said::Refused => (2, "refused"),
        };
        let counter = || counter!(names::DECISIONS, "rule" => rule.name.clone(), "outcome" => outcome);
        rule.said[number].get_or_init(counter).increment(1);
    }

    /// A rule's pacer was asked to let something through.
    pub(crate) fn attempted(&self, rule: usize) {
        self.sends(rule, |sends| sends.attempts.increment(1));
    }

    /// It let something through.
    pub(crate) fn sent(&self, rule: usize, waited: Option<Duration>) {
        self.sends(rule, |sends| {
            sends.sent.increment(1);
            if let Some(waited) = waited {
                sends.waited.record(waited);
            }
        });
    }

    /// It rejected something.
    pub(crate) fn rejected(&self, rule: usize, reason: &'static str) {
        self.count(names::SEND_REJECTED, rule, "reason", reason);
    }

    /// It would have done something if it did not only watch.
    pub(crate) fn watched(&self, rule: usize, outcome: &'static str) {
        self.count(names::SEND_WATCHED, rule, "outcome", outcome);
    }

    fn count(&self, name: &'static str, rule: usize, label: &'static str, value: &'static str) {
        if let Some(rule) = self.rules.get(rule) {
            counter!(name, "pacer" => rule.name.clone(), label => value).increment(1);
        }
    }

    fn sends(&self, rule: usize, act: impl FnOnce(&Sends)) {
        let Some(Rule { name, sends, .. }) = self.rules.get(rule) else { return };
        let new = || Sends {
            attempts: counter!(names::SEND_ATTEMPTS, "pacer" => name.clone()),
            sent: counter!(names::SENT, "pacer" => name.clone()),
            waited: histogram!(names::SEND_WAITED, "pacer" => name.clone()),
        };
        act(sends.get_or_init(new));
    }
}
