//! Quotas that change while clients owe: nobody stays locked out, nobody starts afresh, and what was said holds.
#![allow(clippy::unwrap_used)]

mod common;

use common::{gate, now};
use proptest::prelude::*;
use std::time::Duration;
use tidegate::{Client, Quota};

const SECOND: Duration = Duration::from_secs(1);
const NANO: Duration = Duration::from_nanos(1);

fn remaining(client: &Client) -> u32 {
    now(client.peek("client")).limits().next().unwrap().remaining()
}

#[test]
fn a_raise_frees_at_once() {
    let (_, limiter, ann) = gate(Quota::per_minute(60));
    assert!(now(ann.charge("client").cost(10)).is_allowed());
    limiter.set_quota("client", Quota::per_second(100)).unwrap();
    assert_eq!(remaining(&ann), 90);
}

#[test]
fn a_cut_does_not_start_afresh() {
    let (clock, limiter, ann) = gate(Quota::per_second(100));
    assert!(now(ann.charge("client").cost(100)).is_allowed());
    limiter.set_quota("client", Quota::per_minute(60)).unwrap();
    assert_eq!(now(ann.charge("client")).retry_after(), Some(SECOND));
    clock.advance(59 * SECOND);
    assert_eq!(remaining(&ann), 59);
}

/// A client that was only refused since a change used to owe on at the old rate: one unit at 1/hour, raised to
/// 100/s, kept it out for an hour, and each refusal told it to come back in 10 ms.
#[test]
fn a_wait_holds_after_a_raise() {
    let (clock, limiter, ann) = gate(Quota::per_hour(1));
    assert!(now(ann.charge("client")).is_allowed());
    limiter.set_quota("client", Quota::per_second(100).burst(1)).unwrap();
    let wait = now(ann.charge("client")).retry_after().unwrap();
    assert_eq!(wait, Duration::from_millis(10));
    clock.advance(wait);
    assert!(now(ann.charge("client")).is_allowed());
}

/// The same with a burst that came down: what was owed beyond it was forgotten at each refusal, and found again.
#[test]
fn a_wait_holds_after_a_smaller_burst() {
    let (clock, limiter, ann) = gate(Quota::per_second(1).burst(100));
    assert!(now(ann.charge("client").cost(100)).is_allowed());
    limiter.set_quota("client", Quota::per_second(1)).unwrap();
    assert_eq!(now(ann.peek("client")).retry_after(), Some(SECOND));
    clock.advance(SECOND);
    assert!(now(ann.charge("client")).is_allowed());
}

#[test]
fn a_refund_after_a_change_gives_back_as_many_units() {
    let (_, limiter, ann) = gate(Quota::per_second(100));
    let first = now(ann.charge("client").cost(30));
    assert!(now(ann.charge("client").cost(50)).is_allowed());
    limiter.set_quota("client", Quota::per_minute(200)).unwrap();
    limiter.refund(&first);
    assert_eq!(remaining(&ann), 150);
    limiter.refund(&first);
    assert_eq!(remaining(&ann), 150);
}

#[test]
fn a_quota_that_cannot_be_kept_leaves_the_old_one_in_force() {
    let (_, limiter, _) = gate(Quota::per_minute(60));
    assert!(limiter.set_quota("client", Quota::per_second(20_000_000)).is_err());
    assert!(limiter.set_quota("nothing", Quota::per_second(1)).is_err());
    assert_eq!(limiter.set_quota("client", Quota::per_minute(5)).unwrap(), Quota::per_minute(60));
}

fn quota() -> impl Strategy<Value = Quota> {
    (1..100_000_000_000_000u64, 1..50u64)
        .prop_map(|(interval, burst)| Quota::per(1, Duration::from_nanos(interval + 99)).burst(burst))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever changed before: after `retry_after` the charge passes, and a nanosecond earlier it does not.
    #[test]
    fn waits_hold_to_the_nanosecond(
        first in quota(),
        changes in proptest::collection::vec((quota(), 1..60u32, 0..1_000_000_000_000u64), 1..20),
    ) {
        let (clock, limiter, ann) = gate(first);
        for (quota, cost, pause) in changes {
            while now(ann.charge("client").cost(1)).is_allowed() {}
            clock.advance(Duration::from_nanos(pause));
            limiter.set_quota("client", quota).unwrap();
            let refused = now(ann.charge("client").cost(cost));
            if let Some(wait) = refused.retry_after() {
                clock.advance(wait - NANO);
                prop_assert!(!now(ann.charge("client").cost(cost)).is_allowed());
                clock.advance(NANO);
                prop_assert!(now(ann.charge("client").cost(cost)).is_allowed());
            } else {
                prop_assert_eq!(refused.is_allowed(), u64::from(cost) <= quota.burst_size());
            }
        }
    }

    /// Debt in units survives any change, but for what no longer fits the burst: at most a unit more, and none less.
    #[test]
    fn debt_is_carried_over_in_units(old in quota(), new in quota(), spent in 1..50u64) {
        let (_, limiter, ann) = gate(old);
        let spent = spent.min(old.burst_size());
        prop_assert!(now(ann.charge("client").cost(u32::try_from(spent).unwrap())).is_allowed());
        limiter.set_quota("client", new).unwrap();
        let decision = now(ann.peek("client"));
        let status = decision.limits().next().unwrap();
        let interval = new.rate().unwrap().interval().as_nanos();
        let owed = status.reading().reset_after().as_nanos();
        let units = u128::from(spent.min(new.burst_size()));
        prop_assert!(owed >= units * interval);
        // The interval that debt was written under is kept to 3e-8 of itself, and nanoseconds are rounded up.
        prop_assert!((owed - units * interval) * 100_000_000 <= 3 * units * interval + 100_000_000);
    }
}
