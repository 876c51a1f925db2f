use std::{borrow::Cow, collections::HashMap, time::Duration};

/// Stops sending when a class of errors persists, and tries a single send now and then until one is done.
///
/// Each class has a budget: a failure takes 1 of it, and whatever is done gives each class a tenth back, up to the whole. So a class
/// opens the breaker when it keeps failing more than one send in ten or so. Then nothing is sent for a time; what comes waits,
/// as long as it may, or is rejected with [`PaceError::Open`](crate::PaceError::Open). After that time one send is the probe: if
/// it is done the breaker closes, and if it fails it stays open for twice the time, up to the longest.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Breaker {
    pub(super) budget: u32,
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

impl Breaker {
    /// Opens after 10 failures, for a second at first and a minute at last.
    pub const fn new() -> Self {
        Self { budget: 10, first: Duration::from_secs(1), longest: Duration::from_secs(60) }
    }

    /// How many failures of a class are borne, at least 1.
    pub const fn budget(self, failures: u32) -> Self {
        Self { budget: failures, ..self }
    }

    /// How long it stays open before the first probe, and the most that this grows to.
    pub const fn stay_open(self, first: Duration, longest: Duration) -> Self {
        Self { first, longest, ..self }
    }

    /// What is wrong, if anything is.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.budget == 0 {
            return Err("no failure is borne, so it could never close; bear 1 at least".to_owned());
        }
        if self.first.is_zero() || self.longest < self.first {
            return Err(format!(
                "it stays open for {:?} at first and {:?} at last; set a time, and a longest one that is no shorter",
                self.first, self.longest
            ));
        }
        Ok(())
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new()
    }
}

/// A failure takes so many parts of a budget; what is done gives one back.
const PARTS: u64 = 10;

/// A breaker in use.
#[derive(Debug)]
pub(super) struct Fuse {
    settings: Breaker,
    /// What each class of errors has taken of its budget, in parts.
    taken: HashMap<Cow<'static, str>, u64>,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Closed,
    Open(Stop),
    /// One send has gone; the breaker is open again if nothing is heard of it.
    Probing(Stop),
}

/// Why and how long nothing goes.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    pub(super) class: Cow<'static, str>,
    pub(super) until: u64,
    pub(super) time: Duration,
    pub(super) since: u64,
}

/// What a report has done.
#[derive(Debug)]
pub(super) enum Change {
    Opened(Stop),
    Closed(Stop),
}

impl Fuse {
    pub(super) fn new(settings: Breaker) -> Self {
        Self { settings, taken: HashMap::new(), state: State::Closed }
    }

    /// Why nothing goes now, if nothing does.
    pub(super) fn stop(&self, now: u64) -> Option<&Stop> {
        match &self.state {
            State::Open(stop) | State::Probing(stop) if now < stop.until => Some(stop),
            _ => None,
        }
    }

    /// Something is about to go; where it is the probe, nothing else goes until it is known what becomes of it.
    pub(super) fn claim(&mut self, now: u64) {
        if let State::Open(stop) | State::Probing(stop) = &self.state {
            let until = later(now, stop.time);
            self.state = State::Probing(Stop { until, ..stop.clone() });
        }
    }

    /// It has not gone after all.
    pub(super) fn unclaim(&mut self, now: u64) {
        if let State::Probing(stop) = &self.state {
            self.state = State::Open(Stop { until: now, ..stop.clone() });
        }
    }

    /// Takes note of what became of a send.
    pub(super) fn answer(&mut self, error: Option<&Cow<'static, str>>, now: u64) -> Option<Change> {
        match (&self.state, error) {
            (State::Closed, None) => {
                self.taken.retain(|_, taken| {
                    *taken -= 1;
                    *taken > 0
                });
                None
            }
            (State::Closed, Some(class)) => {
                let taken = self.taken.entry(class.clone()).or_default();
                *taken += PARTS;
                let is_spent = *taken >= PARTS * u64::from(self.settings.budget);
                is_spent.then(|| {
                    let stop = self.open(class.clone(), self.settings.first, now, now);
                    Change::Opened(stop)
                })
            }
            (State::Probing(stop), None) => {
                let stop = stop.clone();
                (self.state, self.taken) = (State::Closed, HashMap::new());
                Some(Change::Closed(stop))
            }
            (State::Probing(stop), Some(class)) => {
                let time = stop.time.saturating_mul(2).min(self.settings.longest);
                let since = stop.since;
                self.open(class.clone(), time, since, now);
                None
            }
            // What was sent before tells nothing new.
            (State::Open(_), _) => None,
        }
    }

    fn open(&mut self, class: Cow<'static, str>, time: Duration, since: u64, now: u64) -> Stop {
        let stop = Stop { class, until: later(now, time), time, since };
        self.state = State::Open(stop.clone());
        stop
    }
}

fn later(now: u64, time: Duration) -> u64 {
    now.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}
