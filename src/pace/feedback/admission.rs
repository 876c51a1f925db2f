//! Client-side admission: what would most likely be refused is rejected here, at no cost to the other side.
//!
//! The formula is that of "Handling Overload" in Google's *Site Reliability Engineering*: of `requests`, of which `accepts` were
//! not refused, a share of max(0, (requests - K * accepts) / (requests + 1)) is rejected. Which ones is not drawn by lot: what
//! is rejected comes as evenly as the share allows.

/// So many buckets of ten seconds, in nanoseconds: two minutes.
const BUCKETS: usize = 12;
const BUCKET: u64 = 10_000_000_000;

#[derive(Debug)]
pub(super) struct Admission {
    /// K: how many are sent for each that is accepted.
    multiple: f64,
    /// Requests and accepts of each bucket.
    buckets: [(u32, u32); BUCKETS],
    /// The number of the bucket in use.
    current: u64,
    /// What of a rejection has come together.
    due: f64,
}

impl Admission {
    pub(super) const fn new(multiple: f64) -> Self {
        Self { multiple, buckets: [(0, 0); BUCKETS], current: 0, due: 0.0 }
    }

    /// Counts a request, and answers with the share that is rejected where this one is.
    pub(super) fn request(&mut self, now: u64) -> Option<f64> {
        let share = self.share(now);
        self.bucket(now).0 += 1;
        self.due = if share > 0.0 { self.due + share } else { 0.0 };
        (self.due >= 1.0).then(|| {
            self.due -= 1.0;
            share
        })
    }

    pub(super) fn accept(&mut self, now: u64) {
        self.bucket(now).1 += 1;
    }

    fn share(&mut self, now: u64) -> f64 {
        self.bucket(now);
        let sum =
            |number: fn(&(u32, u32)) -> u32| self.buckets.iter().map(|b| f64::from(number(b))).sum::<f64>();
        let (requests, accepts) = (sum(|bucket| bucket.0), sum(|bucket| bucket.1));
        ((requests - self.multiple * accepts) / (requests + 1.0)).max(0.0)
    }

    /// The bucket of this time; those whose time is over are emptied.
    fn bucket(&mut self, now: u64) -> &mut (u32, u32) {
        let number = now / BUCKET;
        let over = number.saturating_sub(self.current).min(BUCKETS as u64);
        for past in 0..over {
            self.buckets[((number - past) % BUCKETS as u64) as usize] = (0, 0);
        }
        self.current = self.current.max(number);
        &mut self.buckets[(self.current % BUCKETS as u64) as usize]
    }
}
