//! What may go at once goes past the queue, and must do so no differently than by way of it.

use crate::stage::*;
use futures_util::FutureExt;
use proptest::prelude::*;
use tidegate::{Event, Identity, Limit, PaceFuture, Quota};

/// A layer that counts by the same limit may have let a whole burst through.
#[tokio::test(start_paused = true)]
async fn what_others_owe_is_neither_forgiven_nor_passed_by() {
    let stage = stage([own(Quota::per_second(100).burst(10))]);
    let client = stage.limiter.client(&Identity::name("a"));
    assert!(client.charge("send").cost(9).await.unwrap().is_allowed());
    assert!(
        stage.pacer.try_take("a", 1).await.is_err(),
        "a burst is for the layer, not for what is spaced evenly"
    );
    assert_eq!(stage.left("a"), [1], "trying forgave nothing");
    stage.advance(80).await;
    assert!(stage.pacer.try_take("a", 1).await.is_err());
    stage.advance(10).await;
    let decision = stage.pacer.try_take("a", 1).await.unwrap();
    let told: Vec<_> =
        decision.limits().map(|limit| (limit.quota().burst_size(), limit.remaining())).collect();
    assert_eq!(told, [(10, 9)], "the limit's own burst is told");
    stage.pacer.refund(&decision);
    assert_eq!(stage.left("a"), [10]);
}

/// The first one of a key waits, with nobody behind it.
#[tokio::test(start_paused = true)]
async fn who_comes_later_overtakes_nobody() {
    let stage = stage([own(Quota::per_second(100).burst(10))]).with(tidegate::Pacer::bursts);
    let first = stage.send("a", 10).await;
    let second = stage.send("a", 10).await;
    stage.advance(95).await;
    // Enough has drained for it, if nobody were there.
    let third = stage.send("a", 1).await;
    assert!(stage.pacer.try_take("a", 1).await.is_err());
    assert!(stage.pacer.try_take("b", 1).await.is_ok(), "others' queues are none of its business");
    stage.advance(300).await;
    for send in [first, second, third] {
        send.await.unwrap();
    }
    assert_eq!(stage.times(), [0, 100, 110]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_charged_before_the_first_poll() {
    let stage = stage([own(Quota::per_second(10))]);
    drop(stage.pacer.until_ready("a", 5));
    assert_eq!(stage.left("a"), [10]);
    let (stage, told) = told([own(Quota::per_second(10))], |event| match event {
        Event::Allowed(_) => Some("allowed".to_owned()),
        _ => None,
    });
    stage.pacer.until_ready("a", 5).await.unwrap();
    assert_eq!((stage.left("a"), told.lock().unwrap().len()), (vec![5], 1));
}

/// A quota, what is owed of it beforehand, and a cost.
fn sends() -> impl Strategy<Value = (u64, u64, u32, Vec<(u32, u64)>)> {
    let acts = proptest::collection::vec((0..6u32, 0..40u64), 1..30);
    (prop_oneof![1..50u64, 500..5_000u64], 1..20u64, 0..20u32, acts)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Where something is heard of the other side, be it nothing, all goes by way of the queue.
    #[test]
    fn it_is_admitted_when_the_queue_would_admit_it((amount, burst, owed, acts) in sends()) {
        let quota = Quota::per_second(amount).burst(burst);
        let (past, through) = (stage([own(quota)]), stage([own(quota)]));
        let through = through.with(|pacer| pacer.feedback(tidegate::Feedback::new()).unwrap());
        for stage in [&past, &through] {
            let client = stage.limiter.client(&Identity::name("a"));
            client.charge("send").cost(owed).into_future().now_or_never().unwrap().unwrap();
        }
        for (cost, wait) in acts {
            let admits = |future: PaceFuture| future.now_or_never().unwrap().is_ok();
            prop_assert_eq!(admits(past.pacer.try_take("a", cost)), admits(through.pacer.try_take("a", cost)));
            prop_assert_eq!(past.left("a"), through.left("a"));
            for stage in [&past, &through] {
                stage.clock.advance(std::time::Duration::from_millis(wait));
            }
        }
    }

    /// Several limits go together or not at all.
    #[test]
    fn all_limits_are_charged_or_none(acts in proptest::collection::vec((1..6u32, 0..6u32, 0..80u64), 1..30)) {
        let limits = || [own(Quota::per_second(20)), Limit::shared("all", Quota::per_second(50).burst(5))];
        let (past, through) = (stage(limits()), stage(limits()));
        let through = through.with(|pacer| pacer.feedback(tidegate::Feedback::new()).unwrap());
        for (first, second, wait) in acts {
            let costs = [("own", first), ("all", second)];
            let admits = |future: PaceFuture| future.now_or_never().unwrap().is_ok();
            prop_assert_eq!(admits(past.pacer.try_take("a", costs)), admits(through.pacer.try_take("a", costs)));
            prop_assert_eq!(past.left("a"), through.left("a"));
            for stage in [&past, &through] {
                stage.clock.advance(std::time::Duration::from_millis(wait));
            }
        }
    }
}
