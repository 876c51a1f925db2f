//! The hard cap on memory: what it holds, who has to go, and what a flood does.
#![allow(clippy::unwrap_used)]

mod common;

use common::now;
use proptest::{collection::vec, prelude::*};
use std::time::Duration;
use tidegate::{Identity, Limit, Limiter, ManualClock, Policy, Quota, Rule};

const SECOND: u64 = 1_000_000_000;

fn limiter(quota: Quota, bytes: usize, seed: u8) -> (ManualClock, Limiter) {
    let clock = ManualClock::new();
    let builder = Limiter::builder(Policy::per_client(quota)).memory_bytes(bytes).secret([seed; 16]);
    (clock.clone(), builder.clock(clock).build().unwrap())
}

/// Charges so many different clients one unit each.
fn flood(limiter: &Limiter, clients: usize) {
    for number in 0..clients {
        let client = limiter.client(&Identity::name(number.to_string()));
        assert!(now(client.charge("client")).is_allowed());
    }
}

#[test]
fn all_of_it_is_taken_at_the_start_and_no_more_than_was_given() {
    for bytes in [1024, 1025, 2000, 4096, 100_000, 1 << 20] {
        let (_, limiter) = limiter(Quota::per_hour(10), bytes, 1);
        assert!((bytes - 127..=bytes).contains(&limiter.memory_bytes()), "{bytes}");
        let capacity = limiter.capacity();
        assert!(capacity * 32 <= bytes);
        flood(&limiter, capacity * 3);
        assert_eq!(limiter.memory_bytes(), bytes / 128 * 128);
        assert_eq!(limiter.capacity(), capacity);
    }
    let shared = |name| Rule::new(name).limit(Limit::shared(name, Quota::per_hour(1)));
    let policy = Policy::new().rule(shared("one")).rule(shared("two"));
    let small = Limiter::builder(policy.clone()).memory_bytes(1279).build().unwrap_err().to_string();
    assert!(small.contains("1279") && small.contains("1280"), "{small}");
    assert_eq!(Limiter::builder(policy).memory_bytes(1280).build().unwrap().memory_bytes(), 1280);
    assert_eq!(Limiter::new(Policy::per_client(Quota::per_hour(1))).unwrap().memory_bytes(), 4 << 20);
}

#[test]
fn whoever_is_far_in_debt_stays_refused_through_a_flood() {
    let (clock, limiter) = limiter(Quota::per_hour(10), 1 << 14, 1);
    let abusers: Vec<_> = (0..10).map(|n| limiter.client(&Identity::name(format!("abuser {n}")))).collect();
    for abuser in &abusers {
        assert!(now(abuser.charge("client").cost(10)).is_allowed());
    }
    for _ in 0..10 {
        flood(&limiter, limiter.capacity() * 5);
        clock.advance(Duration::from_secs(30));
    }
    assert!(limiter.evicted() > 0);
    for abuser in &abusers {
        let refused = now(abuser.charge("client"));
        assert_eq!(refused.retry_after(), Some(Duration::from_secs(360 - 300)));
    }
}

/// The share of clients that had to go when so many percent of the capacity came at once.
fn lost(percent: usize) -> f64 {
    let (mut evicted, mut clients) = (0, 0);
    for seed in 0..8 {
        let (_, limiter) = limiter(Quota::per_hour(10), 1 << 19, seed);
        let count = limiter.capacity() * percent / 100;
        flood(&limiter, count);
        evicted += limiter.evicted();
        clients += count;
    }
    evicted as f64 / clients as f64
}

#[test]
fn up_to_the_capacity_next_to_nobody_has_to_go() {
    assert_eq!(lost(50), 0.0);
    let (three_quarters, nearly_all) = (lost(75), lost(95));
    assert!(three_quarters <= 0.0001, "{three_quarters}");
    assert!(nearly_all <= 0.005, "{nearly_all}");
}

#[test]
fn what_has_passed_makes_room() {
    let (clock, limiter) = limiter(Quota::per_second(1), 1 << 16, 1);
    for _ in 0..20 {
        flood(&limiter, limiter.capacity() / 2);
        clock.advance(Duration::from_secs(1));
    }
    assert_eq!(limiter.evicted(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The smallest table is one neighbourhood of 40 places, so that it is known who has to go.
    #[test]
    fn exactly_the_least_indebted_goes_and_is_counted(
        steps in vec((0..80usize, 1..10u32, 0..12u64), 1..600),
    ) {
        let (clock, limiter) = limiter(Quota::per_second(1).burst(10), 1024, 1);
        let clients: Vec<_> = (0..80).map(|n| limiter.client(&Identity::name(format!("{n}")))).collect();
        let mut owing: Vec<(usize, u64)> = Vec::new();
        let (mut time, mut evicted) = (1, 0);
        for (client, cost, wait) in steps {
            owing.retain(|(_, until)| *until > time);
            let held = owing.iter().position(|(other, _)| *other == client);
            let debt = held.map_or(0, |place| owing[place].1 - time);
            let after = debt + u64::from(cost) * SECOND;
            let decision = now(clients[client].charge("client").cost(cost));
            prop_assert_eq!(decision.is_allowed(), after <= 10 * SECOND);
            if decision.is_allowed() {
                match held {
                    Some(place) => drop(owing.remove(place)),
                    None if owing.len() == 40 => {
                        let least = (0..40).min_by_key(|place| owing[*place].1).unwrap();
                        owing.remove(least);
                        evicted += 1;
                    }
                    None => {}
                }
                owing.push((client, time + after));
            }
            let reading = decision.limits().next().unwrap().reading();
            let expected = if decision.is_allowed() { after } else { debt };
            prop_assert_eq!(reading.reset_after(), Duration::from_nanos(expected));
            prop_assert_eq!(limiter.evicted(), evicted);
            // A nanosecond, so that no two clients owe until the same moment.
            let step = wait / 4 * SECOND / 2 + 1;
            clock.advance(Duration::from_nanos(step));
            time += step;
        }
    }
}
