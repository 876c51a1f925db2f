use std::time::Duration;

/// How a factor follows answers: it grows by a step while they are good, and shrinks by a share when they are bad (additive
/// increase, multiplicative decrease).
///
/// Answers are judged in windows of time. A window is bad where more than a tolerated share of its answers was refused, failed or
/// slow. Where the window tells how much of what was sent came through, the factor comes down to that first, by no more than
/// half. Then the other side gets time to catch up: the window after refusals and failures is not judged, because its answers
/// are still to what was sent before, and while slow answers become faster the factor stays.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Aimd {
    pub(super) start: f64,
    pub(super) step: f64,
    pub(super) shrink: f64,
    pub(super) every: Duration,
    pub(super) tolerate: f64,
    pub(super) slow: Option<Duration>,
}

impl Aimd {
    /// From a tenth of the rates on, 0.05 more after each good second and a tenth less after a bad one.
    pub const fn new() -> Self {
        Self { start: 0.1, step: 0.05, shrink: 0.9, every: Duration::from_secs(1), tolerate: 0.0, slow: None }
    }

    /// The factor to start from, and to go back to when a breaker closes.
    pub const fn start(self, factor: f64) -> Self {
        Self { start: factor, ..self }
    }

    /// How much is added after a window that was good, if anybody had to wait in it.
    pub const fn step(self, step: f64) -> Self {
        Self { step, ..self }
    }

    /// The share that is kept after a window that was bad.
    pub const fn shrink(self, share: f64) -> Self {
        Self { shrink: share, ..self }
    }

    /// How long a window is; best a few times as long as an answer takes.
    pub const fn every(self, time: Duration) -> Self {
        Self { every: time, ..self }
    }

    /// The share of bad answers that a good window may have; none unless set.
    pub const fn tolerate(self, share: f64) -> Self {
        Self { tolerate: share, ..self }
    }

    /// Answers that take longer than this are bad. Unless it is set, answers may take any time.
    pub const fn slow_after(self, time: Duration) -> Self {
        Self { slow: Some(time), ..self }
    }

    /// What is wrong, if anything is.
    pub(super) fn check(&self) -> Result<(), String> {
        let share = |name, value: f64| {
            if value > 0.0 && value <= 1.0 {
                Ok(())
            } else {
                Err(format!("{name} is {value}; set one above 0 and at most 1"))
            }
        };
        share("the start", self.start)?;
        share("the step", self.step)?;
        share("the share that is kept after a bad window", self.shrink)?;
        if !(0.0..1.0).contains(&self.tolerate) {
            return Err(format!("the tolerated share is {}; set one from 0 on and below 1", self.tolerate));
        }
        if self.every.is_zero() { Err("windows take no time; set some".to_owned()) } else { Ok(()) }
    }
}

impl Default for Aimd {
    fn default() -> Self {
        Self::new()
    }
}

/// With fewer sends, a window does not tell what share came through.
const TELLING: u32 = 10;
/// The least share that is kept for what did not come through.
const LEAST: f64 = 0.5;

/// A factor that follows answers.
#[derive(Debug)]
pub(super) struct Adaptive {
    settings: Aimd,
    pub(super) factor: f64,
    window: Window,
    /// How long answers took in the window before, in seconds.
    took: f64,
    /// Whether the window comes after one of refusals and failures.
    settles: bool,
}

#[derive(Debug, Default)]
struct Window {
    /// When it ends, once it has begun.
    end: Option<u64>,
    sent: u32,
    answers: u32,
    failed: u32,
    slow: u32,
    /// How long all answers together took, in seconds.
    took: f64,
    /// Whether anybody had to wait.
    pressed: bool,
}

impl Adaptive {
    pub(super) fn new(settings: Aimd) -> Self {
        Self { settings, factor: settings.start, window: Window::default(), took: 0.0, settles: false }
    }

    /// Takes note of something that is sent.
    pub(super) fn send(&mut self, now: u64) {
        self.window(now);
        self.window.sent += 1;
    }

    /// Takes note of an answer.
    pub(super) fn answer(&mut self, has_failed: bool, took: Option<Duration>, now: u64) {
        self.window(now);
        let window = &mut self.window;
        window.answers += 1;
        window.failed += u32::from(has_failed);
        let is_slow = self.settings.slow.zip(took).is_some_and(|(slow, took)| took > slow);
        window.slow += u32::from(is_slow && !has_failed);
        window.took += took.unwrap_or_default().as_secs_f64();
    }

    /// Takes note that somebody had to wait.
    pub(super) fn press(&mut self, now: u64) {
        self.window(now);
        self.window.pressed = true;
    }

    pub(super) fn restart(&mut self) {
        self.factor = self.factor.min(self.settings.start);
        self.window = Window::default();
    }

    /// Ends the window if it is over, and begins another one.
    pub(super) fn window(&mut self, now: u64) {
        match self.window.end {
            Some(end) if now < end => return,
            Some(_) => self.judge(),
            None => {}
        }
        let every = u64::try_from(self.settings.every.as_nanos()).unwrap_or(u64::MAX);
        self.window = Window { end: Some(now.saturating_add(every)), ..Window::default() };
    }

    fn judge(&mut self) {
        let Window { answers, failed, slow, pressed, .. } = self.window;
        let settles = std::mem::take(&mut self.settles);
        if answers == 0 {
            return;
        }
        let took = self.window.took / f64::from(answers);
        let becomes_faster = took < std::mem::replace(&mut self.took, took);
        let tolerated = f64::from(answers) * self.settings.tolerate;
        if f64::from(failed) > tolerated {
            if !settles {
                self.shrink();
                self.settles = true;
            }
        } else if f64::from(failed + slow) > tolerated {
            if !becomes_faster {
                self.shrink();
            }
        } else if pressed && !settles {
            self.factor += self.settings.step;
        }
    }

    fn shrink(&mut self) {
        let Window { sent, answers, failed, .. } = self.window;
        let all = sent.max(answers);
        let through = if all < TELLING { 1.0 } else { f64::from(answers - failed) / f64::from(all) };
        self.factor *= self.settings.shrink * through.max(LEAST);
    }
}
