//! When things go, and in which order.

use crate::stage::*;
use std::{
    future::{Future, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tidegate::{Identity, Pacer, Quota};
use tokio::time;

#[tokio::test(start_paused = true)]
async fn sends_are_spaced_evenly() {
    let stage = stage([own(Quota::per_second(100))]);
    for _ in 0..10 {
        stage.send("a", 1).await;
    }
    stage.advance(200).await;
    assert_eq!(stage.times(), (0..10).map(|n| n * 10).collect::<Vec<_>>());
    // After a pause too, and for what costs more.
    for cost in [1, 3, 2, 1] {
        stage.send("a", cost).await;
    }
    stage.advance(100).await;
    assert_eq!(stage.times()[10..], [200, 210, 240, 260]);
}

#[tokio::test(start_paused = true)]
async fn one_after_the_other_is_spaced_as_evenly_as_all_at_once() {
    let stage = stage([own(Quota::per_second(50))]);
    let (pacer, start, log) = (stage.pacer.clone(), stage.start, stage.log.clone());
    tokio::spawn(async move {
        for _ in 0..5 {
            pacer.until_ready("a", 1).await.unwrap();
            log.lock().unwrap().push((String::new(), start.elapsed().as_millis() as u64));
        }
    });
    settle().await;
    stage.advance(100).await;
    assert_eq!(stage.times(), [0, 20, 40, 60, 80]);
}

#[tokio::test(start_paused = true)]
async fn bursts_go_at_once_where_they_may() {
    let stage = stage([own(Quota::per_second(100).burst(3))]).with(Pacer::bursts);
    for _ in 0..6 {
        stage.send("a", 1).await;
    }
    stage.advance(50).await;
    assert_eq!(stage.times(), [0, 0, 0, 10, 20, 30]);
}

/// What falls due within two milliseconds goes together, and the rate is kept.
#[tokio::test(start_paused = true)]
async fn fine_rates_are_kept_by_a_coarse_timer() {
    let stage = stage([own(Quota::per_second(4_000))]);
    for _ in 0..400 {
        stage.send("a", 1).await;
    }
    stage.advance(110).await;
    let times = stage.times();
    assert_eq!(times.len(), 400);
    assert_eq!(times.iter().filter(|at| **at == 0).count(), 8);
    for millis in 1..98 {
        assert_eq!(times.iter().filter(|at| **at == millis).count(), 4, "at {millis}");
    }
}

/// A timer that is late delays one send, not all that follow, and the burst of the quota is never passed.
#[tokio::test(start_paused = true)]
async fn what_a_late_timer_costs_is_made_up_for() {
    for (quota, expected) in
        [(Quota::per_second(100), [0, 14, 20, 30]), (Quota::per_second(100).burst(1), [0, 14, 24, 34])]
    {
        let stage = stage([own(quota)]);
        for _ in 0..4 {
            stage.send("a", 1).await;
        }
        stage.advance(5).await;
        stage.clock.advance(Duration::from_millis(9));
        time::advance(Duration::from_millis(9)).await;
        settle().await;
        stage.advance(40).await;
        assert_eq!(stage.times(), expected, "{quota}");
    }
}

#[tokio::test(start_paused = true)]
async fn first_come_is_first_served_whatever_it_costs() {
    let stage = stage([own(Quota::per_second(100))]);
    let mut names = Vec::new();
    for (number, cost) in [1, 5, 1, 3, 1].into_iter().enumerate() {
        let (future, log) = (stage.pacer.until_ready("a", cost), stage.log.clone());
        tokio::spawn(async move {
            future.await.unwrap();
            log.lock().unwrap().push((number.to_string(), 0));
        });
        settle().await;
        names.push(number.to_string());
    }
    stage.advance(200).await;
    assert_eq!(stage.keys(), names);
}

#[tokio::test(start_paused = true)]
async fn keys_do_not_wait_for_one_another_where_no_limit_is_shared() {
    let stage = stage([own(Quota::per_second(100))]);
    for key in ["a", "a", "b", "b"] {
        stage.send(key, 1).await;
    }
    stage.advance(20).await;
    assert_eq!(stage.log().iter().filter(|(_, at)| *at == 0).count(), 2);
    assert_eq!(stage.log().iter().filter(|(_, at)| *at == 10).count(), 2);
}

/// Ten times the demand, and no more of the shared limit.
#[tokio::test(start_paused = true)]
async fn keys_share_a_shared_limit_alike() {
    let stage = stage([all(Quota::per_second(100))]);
    for _ in 0..100 {
        stage.send("busy", 1).await;
    }
    for _ in 0..10 {
        stage.send("calm", 1).await;
    }
    stage.advance(200).await;
    let keys = stage.keys();
    assert_eq!(keys.len(), 21);
    let calm = keys.iter().filter(|key| *key == "calm").count();
    assert_eq!(calm, 10, "{keys:?}");
    assert!(keys[1..].windows(2).all(|pair| pair[0] != pair[1]), "{keys:?}");
}

/// Shares are in units: whoever sends tens goes a tenth as often.
#[tokio::test(start_paused = true)]
async fn shares_are_in_units() {
    let stage = stage([all(Quota::per_second(1_000))]);
    for _ in 0..20 {
        stage.send("large", 10).await;
    }
    for _ in 0..200 {
        stage.send("small", 1).await;
    }
    stage.advance(120).await;
    let keys = stage.keys();
    let [large, small] = ["large", "small"].map(|name| keys.iter().filter(|key| *key == name).count());
    assert!((5..=7).contains(&large), "{large} and {small}");
    assert!((50..=70).contains(&small), "{large} and {small}");
}

/// A loop has nobody waiting while it sends, and gets its share all the same, and no more.
#[tokio::test(start_paused = true)]
async fn a_loop_gets_its_share_beside_a_crowd_and_leaves_the_crowd_its_own() {
    let stage = stage([all(Quota::per_second(100))]);
    for _ in 0..50 {
        stage.send("crowd", 1).await;
    }
    let (pacer, log) = (stage.pacer.clone(), stage.log.clone());
    tokio::spawn(async move {
        loop {
            pacer.until_ready("loop", 1).await.unwrap();
            log.lock().unwrap().push(("loop".to_owned(), 0));
        }
    });
    stage.advance(400).await;
    let keys = stage.keys();
    let looped = keys.iter().filter(|key| *key == "loop").count();
    assert!((19..=21).contains(&looped), "{looped} of {}", keys.len());
    assert!((40..=41).contains(&keys.len()));
}

/// Whom its own limits hold back takes no turn, and does not hold back others.
#[tokio::test(start_paused = true)]
async fn who_waits_for_limits_of_its_own_holds_nobody_back() {
    let stage = stage([own(Quota::per_second(10)), all(Quota::per_second(100))]);
    for _ in 0..3 {
        stage.send("a", 1).await;
    }
    for key in ["b", "c", "d"] {
        stage.send(key, 1).await;
    }
    stage.advance(250).await;
    let expected = [("a", 0), ("b", 10), ("c", 20), ("d", 30), ("a", 100), ("a", 200)];
    assert_eq!(stage.log(), expected.map(|(key, at)| (key.to_owned(), at)));
}

/// A turn is passed on when a handler's charge makes who had it wait for limits of its own.
#[tokio::test(start_paused = true)]
async fn a_turn_is_passed_on() {
    let stage = stage([own(Quota::per_second(10)), all(Quota::per_second(100))]);
    for key in ["x", "a", "b"] {
        stage.send(key, 1).await;
    }
    stage.advance(5).await;
    let a = stage.limiter.client(&Identity::name("a"));
    assert!(a.charge("send").cost(5).await.unwrap().is_allowed());
    stage.advance(600).await;
    // The charge took 50 ms of the shared limit too.
    assert_eq!(stage.log(), [("x", 0), ("b", 60), ("a", 505)].map(|(key, at)| (key.to_owned(), at)));
}

/// A send is polled when it comes, when it is the head or has a turn, and when it goes; not each time that another one goes.
#[tokio::test(start_paused = true)]
async fn a_crowd_is_not_woken_for_each_of_its_own() {
    for (limit, most) in [(own(Quota::per_second(100)), 3), (all(Quota::per_second(100)), 4)] {
        let stage = stage([limit]);
        let polls = Arc::new(AtomicUsize::new(0));
        for number in 0..200 {
            let (count, key) = (polls.clone(), ["a", "b", "c", "d"][number % 4]);
            let mut send = Box::pin(stage.pacer.until_ready(key, 1));
            tokio::spawn(poll_fn(move |cx| {
                count.fetch_add(1, Relaxed);
                send.as_mut().poll(cx).map(drop)
            }));
        }
        settle().await;
        stage.advance(2_100).await;
        assert_eq!(stage.pacer.waiting(), 0);
        let polls = polls.load(Relaxed);
        assert!(polls <= 200 * most, "{polls} polls of 200 sends");
    }
}
