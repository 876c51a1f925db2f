//! A quota that can change while requests are counted.

#[cfg(all(test, loom))]
mod races;

use crate::{
    Quota, Rate,
    sync::{AtomicU64, Mutex, fence, spin_loop},
};
use std::{
    sync::{
        Arc, PoisonError,
        atomic::Ordering::{Acquire, Relaxed, Release},
    },
    time::Duration,
};

/// A limit's quota, which the limits of its name in former policies share.
#[derive(Debug)]
pub(crate) struct QuotaCell {
    live: Arc<LiveQuota>,
    /// The quota that the policy says.
    said: Quota,
    /// The sequence while the quota is the one that the policy says.
    told: Option<u64>,
    /// What is to be put in force with the policy.
    due: Option<Rate>,
}

impl QuotaCell {
    pub(crate) fn new(quota: Quota, rate: Rate) -> Self {
        Self { live: Arc::new(LiveQuota::new(quota, rate)), said: quota, told: Some(0), due: None }
    }

    /// The same cell for a policy that follows. What the former one said is replaced, if this one says something else; what was
    /// set since, and still `fits`, stays.
    pub(crate) fn handed_on(&self, quota: Quota, rate: Rate, fits: impl Fn(Rate) -> bool) -> Self {
        let live = self.live.clone();
        let sequence = live.sequence.load(Acquire);
        if quota != self.said || !fits(live.rate()) {
            // A change takes the sequence two further.
            return Self { live, said: quota, told: Some(sequence + 2), due: Some(rate) };
        }
        let told = (live.quota() == quota).then_some(sequence);
        Self { live, said: quota, told, due: None }
    }

    /// Puts in force what the policy says, if that is another quota than before. Nobody else may have changed it since.
    pub(crate) fn enforce(&self) {
        if let Some(rate) = self.due {
            self.live.set(self.said, rate);
        }
    }

    /// Whether the quota is the one that the policy says.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.told == Some(self.live.sequence.load(Relaxed))
    }

    pub(crate) fn rate(&self) -> Rate {
        self.live.rate()
    }

    pub(crate) fn quota(&self) -> Quota {
        self.live.quota()
    }

    /// Puts another quota in force and answers with the former one.
    pub(crate) fn set(&self, quota: Quota, rate: Rate) -> Quota {
        self.live.set(quota, rate)
    }
}

/// Read on every request without a lock or a write: a sequence that is odd while a change is being written tells
/// readers to look again.
#[derive(Debug)]
struct LiveQuota {
    sequence: AtomicU64,
    /// Interval and burst of the rate; amount, period in
    /// seconds and nanoseconds, burst (0 for none) and strictness of the quota.
    words: [AtomicU64; 7],
    writer: Mutex<()>,
}

impl LiveQuota {
    pub(crate) fn new(quota: Quota, rate: Rate) -> Self {
        Self {
            sequence: AtomicU64::new(0),
            words: words(quota, rate).map(AtomicU64::new),
            writer: Mutex::new(()),
        }
    }

    #[inline(always)]
    pub(crate) fn rate(&self) -> Rate {
        let [interval, burst] = self.read(|[interval, burst, ..]| [interval, burst].map(load));
        Rate::from_parts([(interval >> 32) as u32, interval as u32, burst as u32])
    }

    pub(crate) fn quota(&self) -> Quota {
        let [_, _, amount, seconds, nanos, burst, strict] = self.read(|words| words.each_ref().map(load));
        let quota = Quota::per(amount, Duration::new(seconds, nanos as u32));
        let quota = if burst == 0 { quota } else { quota.burst(burst) };
        if strict == 0 { quota } else { quota.strict() }
    }

    #[inline(always)]
    fn read<T>(&self, read: impl Fn(&[AtomicU64; 7]) -> T) -> T {
        loop {
            let sequence = self.sequence.load(Acquire);
            let value = read(&self.words);
            fence(Acquire);
            if sequence % 2 == 0 && self.sequence.load(Relaxed) == sequence {
                return value;
            }
            spin_loop();
        }
    }

    /// Puts another quota in force and answers with the former one.
    pub(crate) fn set(&self, quota: Quota, rate: Rate) -> Quota {
        let _alone = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.quota();
        let sequence = self.sequence.load(Relaxed);
        self.sequence.store(sequence + 1, Relaxed);
        fence(Release);
        for (word, value) in self.words.iter().zip(words(quota, rate)) {
            word.store(value, Relaxed);
        }
        self.sequence.store(sequence + 2, Release);
        old
    }
}

fn load(word: &AtomicU64) -> u64 {
    word.load(Relaxed)
}

fn words(quota: Quota, rate: Rate) -> [u64; 7] {
    let [seconds, nanos, burst] = rate.parts().map(u64::from);
    [
        seconds << 32 | nanos,
        burst,
        quota.amount(),
        quota.period().as_secs(),
        quota.period().subsec_nanos().into(),
        quota.own_burst().unwrap_or(0),
        quota.is_strict().into(),
    ]
}
