//! What is counted of calls to Redis.

use super::failure::Failure;
use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Calls by how long they took: less than 1 us, less than 2, and so on to 2^30 us.
const STEPS: usize = 31;

/// So many settlements may be on their way; more are lost, and counted.
const MOST_SETTLEMENTS: u64 = 10_000;

#[derive(Debug, Default)]
pub(super) struct Numbers {
    took: [AtomicU64; STEPS],
    in_flight: AtomicU64,
    unsent: AtomicU64,
    late: AtomicU64,
    broken: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
    joins: AtomicU64,
    instances: AtomicU32,
}

/// Calls to Redis since the start, and how it is reached now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisStatus {
    /// Whether calls are sent at all.
    pub is_up: bool,
    /// How often it was joined: at the start, and whenever it came back.
    pub joins: u64,
    /// How many instances share the store, this one among them; 0 before it was first joined. While Redis is away it is
    /// the number from before.
    pub instances: u32,
    /// Calls that were sent.
    pub calls: u64,
    /// Requests that were refused without a call, because their refusal was known.
    pub known_refusals: u64,
    /// Calls that have not ended.
    pub in_flight: u64,
    /// Calls that were not sent, because there was no connection or the breaker was open.
    pub unsent: u64,
    /// Calls without an answer within the deadline.
    pub late: u64,
    /// Calls whose connection broke.
    pub broken: u64,
    /// Calls that Redis answered with an error, or with what cannot be understood.
    pub refused: u64,
    /// Settlements that were not sent or not answered: refunds that were not given, debts that were not added, permits that
    /// were not given back and come back by themselves.
    pub lost_settlements: u64,
    /// Requests that were admitted without a call, by units that were leased before.
    pub leased_decisions: u64,
    /// Units that were leased: debited in advance.
    pub leased_units: u64,
    /// Units that were leased and given back, because nobody asked for them.
    pub returned_units: u64,
    /// Permits that requests of this instance hold.
    pub permits: u64,
    /// Those among them that were given to others while this instance was cut off. They are counted again as soon as there
    /// is room.
    pub uncounted_permits: u32,
    /// Half of all calls took no longer than this.
    pub median: Duration,
    /// Of a hundred calls 99 took no longer than this.
    pub p99: Duration,
}

impl Numbers {
    /// Notes a call for as long as what it answers with lives, even if nobody waits for its end.
    pub(super) fn flight(&self) -> Flight<'_> {
        self.in_flight.fetch_add(1, Relaxed);
        Flight(&self.in_flight)
    }

    pub(super) fn took(&self, time: Duration) {
        // No loss: at most 64 bits.
        let bits = 128 - time.as_micros().leading_zeros() as usize;
        self.took[bits.min(STEPS - 1)].fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self, failure: &Failure) {
        let number = match failure {
            Failure::NotSent(_) | Failure::OtherSecret { .. } | Failure::SecretChanges { .. } => &self.unsent,
            Failure::Late(_) => &self.late,
            Failure::Broken(_) => &self.broken,
            Failure::Refused(_) | Failure::Odd(_) => &self.refused,
        };
        number.fetch_add(1, Relaxed);
    }

    pub(super) fn lost(&self) {
        self.lost.fetch_add(1, Relaxed);
    }

    /// Redis was joined, or has said anew how many share it.
    pub(super) fn joined(&self, instances: u32) {
        self.instances.store(instances, Relaxed);
    }

    pub(super) fn came_back(&self) {
        self.joins.fetch_add(1, Relaxed);
    }

    pub(super) fn instances(&self) -> u32 {
        self.instances.load(Relaxed)
    }

    /// How many calls are on their way.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// Whether so many calls are on their way that settlements are rather lost.
    pub(super) fn is_crowded(&self) -> bool {
        self.in_flight.load(Relaxed) > MOST_SETTLEMENTS
    }

    pub(super) fn status(
        &self,
        is_up: bool,
        known_refusals: u64,
        permits: (u64, u32),
        leases: [u64; 3],
    ) -> RedisStatus {
        let read = |number: &AtomicU64| number.load(Relaxed);
        let took = self.took.each_ref().map(read);
        let calls = took.iter().sum();
        RedisStatus {
            is_up,
            joins: read(&self.joins),
            instances: self.instances(),
            calls,
            known_refusals,
            in_flight: read(&self.in_flight),
            unsent: read(&self.unsent),
            late: read(&self.late),
            broken: read(&self.broken),
            refused: read(&self.refused),
            lost_settlements: read(&self.lost),
            leased_decisions: leases[0],
            leased_units: leases[1],
            returned_units: leases[2],
            permits: permits.0,
            uncounted_permits: permits.1,
            median: quantile(&took, calls.div_ceil(2)),
            p99: quantile(&took, calls - calls / 100),
        }
    }
}

/// No less than what so many calls took.
fn quantile(took: &[u64; STEPS], calls: u64) -> Duration {
    let mut seen = 0;
    let step = took.iter().position(|count| {
        seen += count;
        seen >= calls
    });
    Duration::from_micros(step.filter(|_| calls > 0).map_or(0, |step| 1 << step))
}

pub(super) struct Flight<'n>(&'n AtomicU64);

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
