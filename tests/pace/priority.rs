//! Who overtakes whom, and what is left to those who are overtaken.

use crate::stage::*;
use futures_util::FutureExt;
use proptest::prelude::*;
use std::{collections::VecDeque, time::Duration};
use tidegate::{
    Pacer,
    Priority::{self, *},
    Quota,
};

impl Stage {
    async fn send_as(&self, key: &str, priority: Priority, cost: u32) {
        let future = self.pacer.until_ready(key, cost).priority(priority);
        self.watch(&format!("{key}{priority:?}"), future).await;
    }

    fn count(&self, name: &str) -> usize {
        self.keys().iter().filter(|key| key.starts_with(name)).count()
    }
}

#[tokio::test(start_paused = true)]
async fn the_more_urgent_go_first() {
    let stage = stage([own(Quota::per_second(100))]);
    for priority in [Normal, Low, Normal, High, Low, High] {
        stage.send_as("", priority, 1).await;
    }
    stage.advance(60).await;
    let expected = ["Normal", "High", "High", "Normal", "Low", "Low"];
    assert_eq!(stage.keys(), expected);
    assert_eq!(stage.times(), [0, 10, 20, 30, 40, 50], "as evenly as without");
}

#[tokio::test(start_paused = true)]
async fn the_less_urgent_keep_their_share() {
    for (stage, shares) in [
        (stage([own(Quota::per_second(100))]), [75usize, 20, 5]),
        (stage([own(Quota::per_second(100))]).with(|pacer| guarantee(pacer, Low, 30)), [50, 20, 30]),
        (stage([own(Quota::per_second(100))]).with(|pacer| guarantee(pacer, Normal, 0)), [95, 0, 5]),
        (stage([own(Quota::per_second(100))]).with(|pacer| guarantee(pacer, High, 75)), [75, 20, 5]),
    ] {
        for _ in 0..100 {
            for priority in [High, Normal, Low] {
                stage.send_as("", priority, 1).await;
            }
        }
        stage.advance(999).await;
        let counts = [High, Normal, Low].map(|priority| stage.count(&format!("{priority:?}")));
        // The first one went before anybody waited.
        for (count, share) in counts.into_iter().zip(shares).skip(1) {
            assert!((share.saturating_sub(1)..=share).contains(&count), "{counts:?} of {shares:?}");
        }
        assert_eq!(counts.iter().sum::<usize>(), 100);
    }
    let error = stage([own(Quota::per_second(1))]).pacer.guarantee(Low, 81).unwrap_err();
    let reason =
        "Pacer::guarantee: 81 % for Low makes 101 % together with the others; guarantee 100 % at most in all";
    assert_eq!(error.to_string(), reason);
}

fn guarantee(pacer: Pacer, priority: Priority, percent: u8) -> Pacer {
    pacer.guarantee(priority, percent).unwrap()
}

/// Between keys too, where they share a limit; and keys of one priority get equal parts.
#[tokio::test(start_paused = true)]
async fn shares_hold_between_keys() {
    let stage = stage([all(Quota::per_second(100))]);
    for _ in 0..100 {
        for (key, priority) in [("a", High), ("b", High), ("c", Normal), ("d", Low)] {
            stage.send_as(key, priority, 1).await;
        }
    }
    stage.advance(999).await;
    let counts = ["a", "b", "c", "d"].map(|key| stage.count(key));
    for (count, expected) in counts.into_iter().zip([38, 38, 19, 4]) {
        assert!(count.abs_diff(expected) <= 1, "{counts:?}");
    }
}

/// A key whose less urgent send is due waits for its turn as urgently as the most urgent one behind it.
#[tokio::test(start_paused = true)]
async fn who_is_held_up_lends_its_priority() {
    let stage = stage([all(Quota::per_second(100))]);
    for _ in 0..100 {
        for (key, priority) in [("a", Low), ("a", High), ("b", High)] {
            stage.send_as(key, priority, 1).await;
        }
    }
    stage.advance(999).await;
    let [a, low, b] = ["a", "aLow", "b"].map(|name| stage.count(name));
    assert!((49..=51).contains(&a) && (49..=51).contains(&b), "{a} and {b}");
    assert!((2..=4).contains(&low), "{low} of {a}");
}

/// The same for one that comes when a less urgent one is due and has its turn already.
#[tokio::test(start_paused = true)]
async fn who_comes_later_lends_its_priority_too() {
    let stage = stage([all(Quota::per_second(100))]);
    for _ in 0..21 {
        stage.send_as("a", High, 1).await;
    }
    stage.send_as("a", Low, 1).await;
    for _ in 0..100 {
        stage.send_as("b", High, 1).await;
    }
    stage.advance(418).await;
    assert_eq!((stage.count("aHigh"), stage.count("aLow")), (21, 0));
    stage.send_as("a", High, 1).await;
    stage.advance(60).await;
    assert_eq!((stage.count("aHigh"), stage.count("aLow")), (22, 1));
}

#[tokio::test(start_paused = true)]
async fn trying_overtakes_too() {
    let stage = stage([own(Quota::per_second(100)), all(Quota::per_second(1_000))]);
    stage.send_as("", Normal, 1).await;
    stage.send_as("", Normal, 1).await;
    let urgent = || stage.pacer.try_take("", 1).priority(High).now_or_never().unwrap();
    assert_eq!(urgent().unwrap_err().retry_after(), Some(Duration::from_millis(10)));
    stage.clock.advance(Duration::from_millis(10));
    assert!(urgent().is_ok());
    stage.advance(20).await;
    assert_eq!(stage.log().last().unwrap(), &("Normal".to_owned(), 10), "by the clock of the limiter 20");
}

/// Who is overtaken cannot know it beforehand, and is rejected when its time is over.
#[tokio::test(start_paused = true)]
async fn who_is_overtaken_waits_no_longer_than_it_may() {
    let stage = stage([own(Quota::per_second(100))]).with(|pacer| pacer.max_wait(Duration::from_millis(35)));
    for _ in 0..4 {
        stage.send_as("", Low, 1).await;
    }
    stage.advance(5).await;
    for _ in 0..4 {
        stage.send_as("", High, 1).await;
    }
    stage.advance(60).await;
    let expected = [
        ("Low", 0),
        ("High", 10),
        ("High", 20),
        ("High", 30),
        ("!Low", 35),
        ("!Low", 35),
        ("!Low", 35),
        ("High", 40),
    ];
    assert_eq!(stage.log(), expected.map(|(name, at)| (name.to_owned(), at)));
    assert_eq!(stage.pacer.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_bounds_hold_for_whoever_overtakes() {
    let stage = stage([own(Quota::per_second(100))]).with(|pacer| pacer.max_waiting(2, 2));
    for priority in [Low, Low, Low, Low, High] {
        stage.send_as("", priority, 1).await;
    }
    assert_eq!(stage.keys(), ["Low", "!Low", "!High"]);
    stage.advance(30).await;
    assert_eq!(stage.pacer.waiting(), 0);
    assert_eq!(stage.keys().len(), 5);
}

/// One key with one limit, exactly.
#[derive(Default)]
struct Model {
    lanes: [VecDeque<(usize, u64)>; 3],
    credits: [u64; 3],
    free: u64,
}

const INTERVAL: u64 = 5;

impl Model {
    fn next(&self) -> Option<usize> {
        let due = |lane: &usize| {
            self.lanes[*lane].front().is_some_and(|(_, cost)| self.credits[*lane] >= 100 * cost)
        };
        (0..3).find(due).or_else(|| (0..3).find(|lane| !self.lanes[*lane].is_empty()))
    }

    fn go(&mut self, now: u64) -> Vec<usize> {
        let mut gone = Vec::new();
        while let Some(lane) = self.next() {
            let (id, cost) = self.lanes[lane][0];
            if self.free > now {
                break;
            }
            self.free = now + cost * INTERVAL;
            for (number, share) in [0, 20, 5].into_iter().enumerate() {
                let waits = !self.lanes[number].is_empty();
                self.credits[number] = if waits { self.credits[number] + share * cost } else { 0 };
            }
            self.credits[lane] = self.credits[lane].saturating_sub(100 * cost);
            self.lanes[lane].pop_front();
            self.forget(lane);
            gone.push(id);
        }
        gone
    }

    fn leave(&mut self, id: usize) {
        for lane in 0..3 {
            let before = self.lanes[lane].len();
            self.lanes[lane].retain(|(other, _)| *other != id);
            if self.lanes[lane].len() < before {
                self.forget(lane);
            }
        }
    }

    fn forget(&mut self, lane: usize) {
        if self.lanes[lane].is_empty() {
            self.credits[lane] = 0;
        }
    }
}

/// At a millisecond, somebody comes with a priority and a cost, or leaves.
type Act = (u64, Option<(usize, u32)>, usize);

async fn follows_the_model(mut acts: Vec<Act>) {
    let stage = stage([own(Quota::per_second(200))]);
    acts.sort_by_key(|(at, ..)| *at);
    let (mut model, mut tasks, mut expected) = (Model::default(), Vec::new(), Vec::new());
    let mut acts = acts.into_iter().peekable();
    for now in 0..700 {
        while let Some((_, come, leave)) = acts.next_if(|(at, ..)| *at == now) {
            if let Some((lane, cost)) = come {
                let future = stage.pacer.until_ready("", cost).priority([High, Normal, Low][lane]);
                model.lanes[lane].push_back((tasks.len(), cost.into()));
                tasks.push(stage.watch(&tasks.len().to_string(), future).await);
            } else if let Some(task) = tasks.get(leave) {
                task.abort();
                settle().await;
                model.leave(leave);
            }
            expected.extend(model.go(now).iter().map(usize::to_string));
        }
        stage.advance(1).await;
        expected.extend(model.go(now + 1).iter().map(usize::to_string));
        assert_eq!(stage.keys(), expected, "after {now} ms");
    }
    assert!(model.next().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn priorities_go_as_the_model_does(
        acts in proptest::collection::vec(
            (0..100u64, proptest::option::weighted(0.8, (0..3usize, 1..5u32)), 0..30usize), 1..40
        )
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(follows_the_model(acts));
    }
}
