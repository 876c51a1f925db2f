//! Whole nanoseconds against the rate that was asked: never more than it in any window, and all of it but 0.1 %.
#![allow(clippy::unwrap_used)]

use futures_util::FutureExt as _;
use proptest::{collection::vec, prelude::*};
use std::{future::IntoFuture as _, time::Duration};
use tidegate::{Identity, Limiter, ManualClock, Policy, Quota};

/// Rates from 1 a day to 10,000,000 a second, those included that whole nanoseconds miss by nearly 0.1 %.
fn asked() -> impl Strategy<Value = (u64, u64, u64)> {
    let rate = prop_oneof![
        (1..10_000_000u64, Just(1_000_000_000u64)),
        (900_000..10_000_000u64, Just(1_000_000_000)),
        (1..100_000u64, 1_000_000_000..86_400_000_000_000u64),
    ];
    (rate, 1..50u64).prop_map(|((amount, period), burst)| (amount, period, burst)).prop_filter(
        "whole nanoseconds miss it",
        |(amount, period, burst)| {
            Quota::per(*amount, Duration::from_nanos(*period)).burst(*burst).rate().is_ok()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_window_admits_more_than_was_asked_and_a_busy_client_gets_it(
        (amount, period, burst) in asked(),
        steps in vec((1..6u64, any::<bool>(), 0..4u32), 60..150),
    ) {
        let clock = ManualClock::new();
        let quota = Quota::per(amount, Duration::from_nanos(period)).burst(burst);
        let limiter = Limiter::builder(Policy::per_client(quota)).clock(clock.clone()).memory_bytes(4096);
        let limiter = limiter.build().unwrap();
        let busy = limiter.client(&Identity::name("busy"));
        let idle = limiter.client(&Identity::name("now and then"));
        let charge = |client: &tidegate::Client, cost: u64| {
            let cost = u32::try_from(cost.min(burst)).unwrap();
            let charge = client.charge("client").cost(cost);
            charge.into_future().now_or_never().unwrap().unwrap()
        };
        let (mut now, mut taken, mut last) = (0, 0, 0);
        let mut admitted: Vec<(u128, u128)> = Vec::new();
        for (cost, idles, share) in steps {
            let wait = loop {
                match charge(&busy, cost).retry_after() {
                    None => taken += u128::from(cost.min(burst)),
                    Some(wait) => break wait,
                }
            };
            last = cost;
            // The other client comes at odd times between.
            for part in [wait * share / 3, wait - wait * share / 3] {
                clock.advance(part);
                now += part.as_nanos();
                if idles && charge(&idle, cost).is_allowed() {
                    admitted.push((now, cost.min(burst).into()));
                }
            }
        }
        let (amount, period, burst, last) =
            (u128::from(amount), u128::from(period), u128::from(burst), u128::from(last));
        prop_assert!(taken.saturating_sub(burst) * period <= now * amount, "{taken} taken in {now} ns");
        // What the last wait was for is there and was not taken.
        prop_assert!((taken + last).saturating_sub(burst) * period * 1_000 >= 999 * now * amount);
        for first in 0..admitted.len() {
            let mut units = 0;
            for (time, cost) in &admitted[first..] {
                units += cost;
                let window = time - admitted[first].0;
                prop_assert!(units <= burst || (units - burst) * period <= window * amount);
            }
        }
    }
}
