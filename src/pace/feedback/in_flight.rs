use std::{collections::VecDeque, task::Waker, time::Duration};

/// How many sends through a layer may be on their way at once, as long as answers do not become slower (Gradient2).
///
/// Each time that about as many answers have come as may be on their way, the limit goes a fifth of the way towards itself times
/// the gradient: 1.5 times the usual time of answers by that of the last ones, from 0.5 to 1; 0.5 where any was refused or
/// failed. While the gradient is 1 it has 4 more as headroom. It stays where fewer than half of the limit were on their way.
/// What is usual falls with faster answers, and rises only while the limit is at its least: so a queue that the sends make
/// themselves never becomes usual, and a server that has become slower for other reasons is found out at the bottom.
///
/// Only a [`PaceLayer`](crate::PaceLayer) knows how long a request is on its way; loops are not held up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct InFlight {
    start: u32,
    least: u32,
    most: u32,
}

impl InFlight {
    /// From 10 on, and from 1 to 1,000.
    pub const fn new() -> Self {
        Self { start: 10, least: 1, most: 1_000 }
    }

    /// How many at first.
    pub const fn start(self, sends: u32) -> Self {
        Self { start: sends, ..self }
    }

    /// The least and the most that it becomes.
    pub const fn bounds(self, least: u32, most: u32) -> Self {
        Self { least, most, ..self }
    }

    /// What is wrong, if anything is.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self { start, least, most } = *self;
        if least == 0 || !(least..=most).contains(&start) {
            return Err(format!(
                "it starts from {start} and goes from {least} to {most}; set a least of 1 or more, and a start between the bounds"
            ));
        }
        Ok(())
    }
}

impl Default for InFlight {
    fn default() -> Self {
        Self::new()
    }
}

/// Fewer answers do not tell how long they usually take.
const TELLING: u32 = 5;

/// Room for sends on their way.
#[derive(Debug)]
pub(super) struct Rooms {
    settings: InFlight,
    limit: f64,
    used: u32,
    /// Who waits for room.
    waiting: VecDeque<Waker>,
    /// How long answers usually take, in seconds, once that is known.
    usual: Option<f64>,
    window: Window,
}

/// The answers since the limit was changed last.
#[derive(Debug, Default)]
struct Window {
    answers: u32,
    bad: u32,
    took: f64,
    most_used: u32,
}

impl Rooms {
    pub(super) fn new(settings: InFlight) -> Self {
        let (waiting, window) = (VecDeque::new(), Window::default());
        Self { settings, limit: settings.start.into(), used: 0, waiting, usual: None, window }
    }

    pub(super) fn limit(&self) -> u32 {
        // It is within bounds that are whole numbers.
        self.limit as u32
    }

    /// Takes room if there is any, or else notes whom to wake when there is.
    pub(super) fn take(&mut self, waker: &Waker) -> bool {
        if self.used < self.limit() {
            self.used += 1;
            self.window.most_used = self.window.most_used.max(self.used);
            return true;
        }
        if !self.waiting.iter().any(|waiting| waiting.will_wake(waker)) {
            self.waiting.push_back(waker.clone());
        }
        false
    }

    /// Gives room back, and answers with whom to wake.
    pub(super) fn give(&mut self) -> Option<Waker> {
        self.used = self.used.saturating_sub(1);
        if self.used < self.limit() { self.waiting.pop_front() } else { None }
    }

    pub(super) fn answer(&mut self, is_bad: bool, took: Option<Duration>) {
        let Some(took) = took else { return };
        self.window.answers += 1;
        self.window.bad += u32::from(is_bad);
        self.window.took += took.as_secs_f64();
        if self.window.answers >= self.limit().max(TELLING) {
            self.adapt();
        }
    }

    fn adapt(&mut self) {
        let Window { answers, bad, took, most_used } = std::mem::take(&mut self.window);
        let took = (took / f64::from(answers)).max(1e-9);
        let usual = self.usual.map_or(took, |usual| {
            // It rises only where as few as may be are on their way, or a queue of our own would become usual.
            let is_least = self.limit <= f64::from(self.settings.least);
            let weight = if took < usual { 0.5 } else { 0.1 };
            if took < usual || is_least { usual + weight * (took - usual) } else { usual }
        });
        self.usual = Some(usual);
        self.window.most_used = self.used;
        if f64::from(most_used) < self.limit / 2.0 {
            return;
        }
        let gradient = if bad > 0 { 0.5 } else { (1.5 * usual / took).clamp(0.5, 1.0) };
        let headroom = if gradient < 1.0 { 0.0 } else { 4.0 };
        let next = 0.8 * self.limit + 0.2 * (self.limit * gradient + headroom);
        self.limit = next.clamp(self.settings.least.into(), self.settings.most.into());
    }
}
