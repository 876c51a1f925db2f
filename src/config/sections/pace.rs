use super::{super::kinds::Period, identity::IdentitySection, limit::LimitSection};
use crate::Rule;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Quotas for what a program sends, by waiting. A program takes the pacer by its name.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct PaceSection {
    /// A name that no other pacer and no rule has, 1 to 64 printable ASCII characters.
    #[schemars(length(min = 1, max = 64))]
    pub(in super::super) name: String,
    /// How much, how fast; all of them are charged together.
    #[serde(default)]
    pub(in super::super) limit: Vec<LimitSection>,
    /// With `registered`, keys are clients of the registry.
    identity: Option<IdentitySection>,
    /// How long anything may wait; for ever unless set. With `0s` nothing waits.
    max_wait: Option<Period>,
    /// How many may wait for one key; 1,000 unless set.
    max_waiting_each: Option<u32>,
    /// How many may wait for all keys together; 100,000 unless set.
    max_waiting: Option<u32>,
    /// Lets go at once what fits the quotas' bursts, instead of spacing all sends evenly; false unless set.
    #[serde(default)]
    bursts: bool,
    /// Only watches: all goes at once, and events tell what would have waited; false unless set.
    #[serde(default)]
    shadow: bool,
    /// The percentage of units that priority `normal` gets while more urgent sends overtake it, up to 100; 20 unless set.
    #[schemars(range(max = 100))]
    guarantee_normal: Option<u8>,
    /// The percentage of units that priority `low` gets while more urgent sends overtake it, up to 100; 5 unless set.
    #[schemars(range(max = 100))]
    guarantee_low: Option<u8>,
    /// Follows what the other side makes of what is sent; it is not followed unless this is there.
    feedback: Option<FeedbackSection>,
}

/// How a pacer follows what the other side makes of what is sent.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct FeedbackSection {
    /// A factor of the rates follows answers.
    adapt: Option<AdaptSection>,
    /// Stops sending when a class of errors persists.
    breaker: Option<BreakerSection>,
    /// Rejects what the other side would most likely refuse: so many sends are let through for each that was accepted, from 1;
    /// none are rejected unless set.
    #[schemars(range(min = 1.0))]
    admission: Option<f64>,
    /// Bounds how many sends through a layer are on their way at once.
    in_flight: Option<InFlightSection>,
    /// What the program tells of the other side, by name.
    signals: BTreeMap<String, SignalSection>,
    /// Makes the factor smaller while signals are beyond a value.
    rule: Vec<SignalRule>,
    /// The least that the factor becomes, above 0 and at most 1; 0.01 unless set.
    floor: Option<f64>,
    /// The largest that the factor becomes, above 0 and at most 1; 1 unless set.
    ceiling: Option<f64>,
    /// The longest pause that the other side can ask for; a minute unless set.
    max_pause: Option<Period>,
}

/// A factor that grows by a step while answers are good, and shrinks by a share when they are bad.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct AdaptSection {
    /// The factor to start from, above 0 and at most 1; 0.1 unless set.
    start: Option<f64>,
    /// How much is added after a good window, above 0 and at most 1; 0.05 unless set.
    step: Option<f64>,
    /// The share that is kept after a bad window, above 0 and at most 1; 0.9 unless set.
    shrink: Option<f64>,
    /// How long a window is; 1 s unless set.
    every: Option<Period>,
    /// The share of bad answers that a good window may have, below 1; 0 unless set.
    tolerate: Option<f64>,
    /// Answers that take longer are bad; they may take any time unless set.
    slow_after: Option<Period>,
}

/// A budget of failures for each class of errors.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct BreakerSection {
    /// How many failures of a class are borne, at least 1; 10 unless set.
    #[schemars(range(min = 1))]
    budget: Option<u32>,
    /// How long it stays open before the first probe; 1 s unless set.
    first: Option<Period>,
    /// The most that this grows to; a minute unless set.
    longest: Option<Period>,
}

/// How many sends are on their way at once, as long as answers do not become slower.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct InFlightSection {
    /// How many at first; 10 unless set.
    start: Option<u32>,
    /// The least, at least 1; 1 unless set.
    #[schemars(range(min = 1))]
    least: Option<u32>,
    /// The most; 1,000 unless set.
    most: Option<u32>,
}

/// Something that the program tells of the other side.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SignalSection {
    /// Its value while it has not been set.
    default: f64,
    /// How long it is fresh after it was set; then it goes over to the default in the same time.
    fresh: Period,
}

/// A factor while a signal is beyond a value.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SignalRule {
    /// The signal.
    signal: String,
    /// It is in force while the signal is more than this.
    above: Option<f64>,
    /// It is in force while the signal is less than this.
    below: Option<f64>,
    /// The factor, from 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    factor: f64,
}

impl PaceSection {
    /// The rule of the policy that it charges.
    pub(super) fn rule(&self) -> Rule {
        let limits = self.limit.iter().map(|limit| limit.build(&self.name));
        let rule = limits.fold(Rule::new(&self.name).by_hand(), Rule::limit);
        let rule = self.identity.iter().map(IdentitySection::source).fold(rule, Rule::identify);
        if self.shadow { rule.shadow() } else { rule }
    }

    /// Whether a pacer can go on under the other one, because only its source and limits differ, and these are shared as they were.
    pub(in super::super) fn goes_on_as(&self, other: &Self) -> bool {
        let plain = |section: &Self| Self { limit: Vec::new(), identity: None, ..section.clone() };
        let shared = |section: &Self, wanted| section.limit.iter().any(|limit| limit.is_shared() == wanted);
        let is_shared_alike =
            [true, false].iter().all(|wanted| shared(self, *wanted) == shared(other, *wanted));
        self.name != other.name || is_shared_alike && plain(self) == plain(other)
    }

    /// What is wrong with its signals.
    pub(in super::super) fn wrong_signals(&self) -> Vec<String> {
        let Some(feedback) = &self.feedback else { return Vec::new() };
        let wrong = |rule: &SignalRule| {
            if !feedback.signals.contains_key(&rule.signal) {
                Some(format!("no signal is named {:?}; declare it under signals", rule.signal))
            } else if rule.above.is_none() && rule.below.is_none() {
                Some(format!("the rule for {:?} is always in force; set above or below", rule.signal))
            } else {
                None
            }
        };
        feedback.rule.iter().filter_map(wrong).collect()
    }
}

#[cfg(feature = "pace")]
mod build {
    use super::{
        AdaptSection, BreakerSection, FeedbackSection, InFlightSection, PaceSection, Period, SignalRule,
    };
    use crate::{Aimd, Breaker, BuildError, Feedback, InFlight, Limiter, Pacer, Priority, Signals};
    use std::time::Duration;

    const USUAL: (usize, usize) = (1_000, 100_000);

    impl PaceSection {
        pub(in super::super::super) fn build(&self, limiter: &Limiter) -> Result<Pacer, BuildError> {
            let mut pacer = Pacer::on(limiter, &self.name)?;
            if let Some(Period(time)) = self.max_wait {
                pacer = pacer.max_wait(time);
            }
            if self.max_waiting_each.is_some() || self.max_waiting.is_some() {
                let number = |set: Option<u32>, usual| set.map_or(usual, |set| set as usize);
                pacer = pacer
                    .max_waiting(number(self.max_waiting_each, USUAL.0), number(self.max_waiting, USUAL.1));
            }
            if self.bursts {
                pacer = pacer.bursts();
            }
            // Both are lowered before one is raised, or their order would matter.
            let guarantees = [(Priority::Normal, self.guarantee_normal), (Priority::Low, self.guarantee_low)];
            for (priority, _) in guarantees.iter().filter(|(_, percent)| percent.is_some()) {
                pacer = pacer.guarantee(*priority, 0)?;
            }
            for (priority, percent) in guarantees {
                pacer = match percent {
                    Some(percent) => pacer.guarantee(priority, percent)?,
                    None => pacer,
                };
            }
            match &self.feedback {
                Some(feedback) => pacer.feedback(feedback.build()),
                None => Ok(pacer),
            }
        }
    }

    impl FeedbackSection {
        fn build(&self) -> Feedback {
            let mut feedback = Feedback::new();
            if let Some(adapt) = &self.adapt {
                feedback = feedback.adapt(adapt.build());
            }
            if let Some(breaker) = &self.breaker {
                feedback = feedback.breaker(breaker.build());
            }
            if let Some(multiple) = self.admission {
                feedback = feedback.admission(multiple);
            }
            if let Some(in_flight) = &self.in_flight {
                feedback = feedback.in_flight(in_flight.build());
            }
            for (name, signal) in &self.signals {
                feedback = feedback.signal(name, signal.default, signal.fresh.0);
            }
            for rule in self.rule.clone() {
                feedback = feedback.rule(move |signals| rule.factor(signals));
            }
            if let Some(Period(time)) = self.max_pause {
                feedback = feedback.max_pause(time);
            }
            feedback.bounds(self.floor.unwrap_or(0.01), self.ceiling.unwrap_or(1.0))
        }
    }

    impl AdaptSection {
        fn build(&self) -> Aimd {
            let aimd = self.start.into_iter().fold(Aimd::new(), Aimd::start);
            let aimd = self.step.into_iter().fold(aimd, Aimd::step);
            let aimd = self.shrink.into_iter().fold(aimd, Aimd::shrink);
            let aimd = self.every.into_iter().fold(aimd, |aimd, Period(time)| aimd.every(time));
            let aimd = self.tolerate.into_iter().fold(aimd, Aimd::tolerate);
            self.slow_after.into_iter().fold(aimd, |aimd, Period(time)| aimd.slow_after(time))
        }
    }

    impl BreakerSection {
        fn build(&self) -> Breaker {
            let breaker = self.budget.into_iter().fold(Breaker::new(), Breaker::budget);
            let time =
                |period: Option<Period>, usual| period.map_or(Duration::from_secs(usual), |period| period.0);
            breaker.stay_open(time(self.first, 1), time(self.longest, 60))
        }
    }

    impl InFlightSection {
        fn build(&self) -> InFlight {
            let in_flight = self.start.into_iter().fold(InFlight::new(), InFlight::start);
            in_flight.bounds(self.least.unwrap_or(1), self.most.unwrap_or(1_000))
        }
    }

    impl SignalRule {
        fn factor(&self, signals: &Signals) -> f64 {
            let value = signals.get(&self.signal).unwrap_or_default();
            let is_in_force =
                self.above.is_none_or(|above| value > above) && self.below.is_none_or(|below| value < below);
            if is_in_force { self.factor } else { 1.0 }
        }
    }
}
