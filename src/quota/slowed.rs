//! Rates that are slower than their quotas.

use super::{FULL, LONGEST, Rate};

impl Rate {
    /// This share of the rate, with at least so many nanoseconds a unit, as far as that can be counted.
    pub(crate) fn slowed(self, factor: f64, interval_ns: u64) -> Self {
        if factor >= 1.0 && interval_ns <= self.interval_ns() {
            return self;
        }
        // The conversion saturates, and makes 0 of what is no number.
        let stretched = (self.interval_ns() as f64 / factor).ceil() as u64;
        let most = u64::try_from(LONGEST.min(FULL / u128::from(self.burst.get()))).unwrap_or(u64::MAX);
        Self::new(stretched.max(interval_ns).min(most).max(self.interval_ns()), self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slower_rate_can_always_be_counted() {
        let rate = Rate::for_test(10_000_000, 100);
        assert_eq!(rate.slowed(0.5, 0), Rate::for_test(20_000_000, 100));
        assert_eq!(rate.slowed(0.5, 50_000_000), Rate::for_test(50_000_000, 100));
        for unchanged in [rate.slowed(1.0, 0), rate.slowed(7.0, 5), rate.slowed(f64::NAN, 0)] {
            assert_eq!(unchanged, rate);
        }
        let slowest = rate.slowed(0.0, u64::MAX);
        assert_eq!(u128::from(slowest.interval_ns()), LONGEST);
        let wide = Rate::for_test(1_000_000_000, u32::MAX);
        assert!(u128::from(wide.slowed(1e-9, 0).full_ns()) <= FULL);
    }
}
