//! Pauses between tries to connect.

use std::time::Duration;

/// The pauses between tries, each twice the one before and cut short at random, so that instances that have lost Redis
/// at the same moment do not come back at the same moment.
pub(super) struct Pause {
    range: (Duration, Duration),
    next: Duration,
}

impl Pause {
    pub(super) const fn new(range: (Duration, Duration)) -> Self {
        Self { range, next: range.0 }
    }

    pub(super) const fn reset(&mut self) {
        self.next = self.range.0;
    }

    pub(super) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.range.1);
        pause.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}
