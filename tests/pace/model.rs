//! What waits, goes and leaves, against an exact model.

use crate::stage::*;
use proptest::prelude::*;
use std::{collections::VecDeque, time::Duration};
use tidegate::{Limit, Quota};

/// Two limits of each key, as exact as a model in whole milliseconds can be.
#[derive(Default, Clone)]
struct Model {
    waiting: VecDeque<(usize, [u64; 2])>,
    free: [u64; 2],
}

/// Milliseconds a unit.
const INTERVALS: [u64; 2] = [7, 1];

impl Model {
    /// Who goes at a millisecond.
    fn go(&mut self, now: u64) -> Vec<usize> {
        let mut gone = Vec::new();
        while let Some((id, cost)) = self.waiting.front().copied() {
            let fits = |limit: usize| {
                let (owed, need) = (self.free[limit].saturating_sub(now), cost[limit] * INTERVALS[limit]);
                need == 0 || owed + need <= need.max(2)
            };
            if !fits(0) || !fits(1) {
                break;
            }
            for limit in 0..2 {
                self.free[limit] = self.free[limit].max(now) + cost[limit] * INTERVALS[limit];
            }
            self.waiting.pop_front();
            gone.push(id);
        }
        gone
    }
}

/// At a millisecond, a key sends something of two costs, or one that was sent before leaves.
#[derive(Debug, Clone)]
enum Act {
    Send(u64, usize, [u32; 2]),
    Leave(u64, usize),
}

impl Act {
    fn at(&self) -> u64 {
        match self {
            Self::Send(at, ..) | Self::Leave(at, _) => *at,
        }
    }
}

fn act() -> impl Strategy<Value = Act> {
    let at = 0..60u64;
    prop_oneof![
        4 => (at.clone(), 0..2usize, [0..4u32, 0..30u32]).prop_map(|(at, key, cost)| Act::Send(at, key, cost)),
        1 => (at, 0..16usize).prop_map(|(at, id)| Act::Leave(at, id)),
    ]
}

async fn follows_the_model(mut acts: Vec<Act>) {
    let rates = INTERVALS.map(|millis| Quota::per(1_000, Duration::from_millis(1_000 * millis)));
    let stage = stage([own(rates[0]), Limit::per_client("other", rates[1])]);
    acts.sort_by_key(Act::at);
    let mut models = [Model::default(), Model::default()];
    let (mut tasks, mut expected) = (Vec::new(), Vec::<String>::new());
    let mut acts = acts.into_iter().peekable();
    for now in 0..600 {
        while let Some(act) = acts.next_if(|act| act.at() == now) {
            match act {
                Act::Send(_, key, cost) => {
                    let (id, log) = (tasks.len(), stage.log.clone());
                    let name = ["a", "b"][key];
                    let future = stage.pacer.until_ready(name, [("own", cost[0]), ("other", cost[1])]);
                    tasks.push(tokio::spawn(async move {
                        future.await.unwrap();
                        log.lock().unwrap().push((id.to_string(), now));
                    }));
                    models[key].waiting.push_back((id, cost.map(u64::from)));
                }
                Act::Leave(_, id) => {
                    if let Some(task) = tasks.get(id) {
                        task.abort();
                    }
                    for model in &mut models {
                        model.waiting.retain(|(other, _)| *other != id);
                    }
                }
            }
            settle().await;
            for model in &mut models {
                expected.extend(model.go(now).iter().map(usize::to_string));
            }
        }
        stage.advance(1).await;
        for model in &mut models {
            expected.extend(model.go(now + 1).iter().map(usize::to_string));
        }
        let mut seen = stage.keys();
        let mut known = expected.clone();
        // Keys are independent, so those of one millisecond may be told in any order.
        seen.sort();
        known.sort();
        assert_eq!(seen, known, "after {now} ms");
    }
    assert!(models.iter().all(|model| model.waiting.is_empty()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pacer_does_as_the_model_does(acts in proptest::collection::vec(act(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(follows_the_model(acts));
    }
}
