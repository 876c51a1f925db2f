//! Who takes which turn at a limit that keys share, against an exact model.

use crate::stage::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use tidegate::Quota;

/// Milliseconds a unit.
const INTERVAL: u64 = 5;

/// Keys with one limit that all of them share: next is whose key would have had the least when it is served.
#[derive(Default)]
struct Model {
    queues: [Queue; 3],
    /// When each head is served, by what its key has had and by who came first.
    turns: BTreeMap<(u64, usize), usize>,
    served: u64,
    free: u64,
}

#[derive(Default)]
struct Queue {
    /// Who waits, and what for.
    waiting: VecDeque<(usize, u64)>,
    turn: Option<(u64, usize)>,
}

impl Model {
    fn come(&mut self, key: usize, id: usize, cost: u64) {
        self.queues[key].waiting.push_back((id, cost));
        self.take_turn(key);
    }

    fn take_turn(&mut self, key: usize) {
        let queue = &mut self.queues[key];
        if let (None, Some((id, cost))) = (queue.turn, queue.waiting.front()) {
            let turn = (self.served + cost, *id);
            self.turns.insert(turn, key);
            queue.turn = Some(turn);
        }
    }

    fn leave(&mut self, id: usize) {
        for key in 0..3 {
            let queue = &mut self.queues[key];
            let was_head = queue.waiting.front().is_some_and(|(head, _)| *head == id);
            queue.waiting.retain(|(other, _)| *other != id);
            if was_head {
                let turn = queue.turn.take().unwrap();
                self.turns.remove(&turn);
            }
            self.take_turn(key);
        }
    }

    fn go(&mut self, now: u64) -> Vec<usize> {
        let mut gone = Vec::new();
        while self.free <= now {
            let Some((turn, key)) = self.turns.pop_first() else { break };
            let (id, cost) = self.queues[key].waiting.pop_front().unwrap();
            self.queues[key].turn = None;
            self.served = turn.0;
            self.free = now + cost * INTERVAL;
            self.take_turn(key);
            gone.push(id);
        }
        gone
    }
}

/// At a millisecond, somebody comes with a key and a cost, or leaves.
type Act = (u64, Option<(usize, u32)>, usize);

async fn follows_the_model(mut acts: Vec<Act>) {
    let stage = stage([all(Quota::per_second(200))]);
    acts.sort_by_key(|(at, ..)| *at);
    let (mut model, mut tasks, mut expected) = (Model::default(), Vec::new(), Vec::new());
    let mut acts = acts.into_iter().peekable();
    for now in 0..700 {
        while let Some((_, come, leave)) = acts.next_if(|(at, ..)| *at == now) {
            if let Some((key, cost)) = come {
                let id = tasks.len();
                model.come(key, id, cost.into());
                tasks.push(
                    stage.watch(&id.to_string(), stage.pacer.until_ready(["a", "b", "c"][key], cost)).await,
                );
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
    assert!(model.turns.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn turns_go_as_the_model_does(
        acts in proptest::collection::vec(
            (0..100u64, proptest::option::weighted(0.8, (0..3usize, 1..5u32)), 0..30usize), 1..40
        )
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(follows_the_model(acts));
    }
}
