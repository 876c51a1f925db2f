//! Held against a model that keeps plain lists and looks at all of them each time.

use super::*;
use proptest::{collection::vec, prelude::*, sample::subsequence};
use std::collections::{BTreeMap, BTreeSet};

const KEYS: u64 = 4;
const CAPACITY: Capacity = Capacity { keys: 3, waiters: 5, limits: 1 };

#[derive(Debug, Clone)]
enum Act {
    Acquire {
        client: u64,
        keys: Vec<u64>,
        max: u32,
        queue: u32,
    },
    /// Drops what this one has, be it a permit or a place in the line.
    Leave(usize),
    /// Takes note of what was granted.
    Poll(usize),
    Revise {
        key: u64,
        max: u32,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let keys = subsequence((0..KEYS).collect::<Vec<_>>(), 1..=3);
    prop_oneof![
        5 => (0..3u64, keys, 0..4u32, 0..4u32)
            .prop_map(|(client, keys, max, queue)| Act::Acquire { client, keys, max, queue }),
        3 => any::<usize>().prop_map(Act::Leave),
        2 => any::<usize>().prop_map(Act::Poll),
        1 => (0..KEYS, 0..4u32).prop_map(|(key, max)| Act::Revise { key, max }),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Waits,
    Granted,
    Held,
}

#[derive(Debug, Clone)]
struct Asker {
    client: u64,
    keys: Vec<u64>,
    state: State,
}

/// In order of arrival.
#[derive(Default)]
struct Model {
    askers: BTreeMap<usize, Asker>,
    max: [u32; KEYS as usize],
    /// Clients who wait for each key, the one that was served last at the end.
    turns: [Vec<u64>; KEYS as usize],
}

impl Model {
    fn used(&self, key: u64) -> u32 {
        let holds = |asker: &&Asker| asker.state != State::Waits && asker.keys.contains(&key);
        self.askers.values().filter(holds).count() as u32
    }

    fn fits(&self, keys: &[u64]) -> bool {
        keys.iter().all(|&key| self.used(key) < self.max[key as usize])
    }

    fn waiters(&self, client: u64, key: u64) -> Vec<usize> {
        let waits = |(_, asker): &(&usize, &Asker)| {
            asker.state == State::Waits && asker.client == client && asker.keys.contains(&key)
        };
        self.askers.iter().filter(waits).map(|(&number, _)| number).collect()
    }

    fn keys(&self) -> BTreeSet<u64> {
        self.askers.values().flat_map(|asker| asker.keys.iter().copied()).collect()
    }

    fn acquire(&mut self, number: usize, asker: Asker, max: u32, queue: u32) -> &'static str {
        let keys: BTreeSet<_> = self.keys().into_iter().chain(asker.keys.iter().copied()).collect();
        if keys.len() > CAPACITY.keys {
            return "full";
        }
        for &key in &asker.keys {
            self.set_max(key, max);
        }
        if self.fits(&asker.keys) {
            self.askers.insert(number, Asker { state: State::Held, ..asker });
            return "granted";
        }
        let full = asker.keys.iter().filter(|&&key| !self.fits(&[key]));
        if full.into_iter().any(|&key| self.waiters(asker.client, key).len() >= queue as usize) {
            return "refused";
        }
        let lines = self.askers.values().filter(|asker| asker.state != State::Held).count();
        let waits = self.askers.values().filter(|asker| asker.state == State::Waits);
        let links: usize = waits.map(|asker| asker.keys.len()).sum();
        let own = asker.keys.iter().map(|&key| self.waiters(asker.client, key).len());
        if own.into_iter().any(|own| own + lines > CAPACITY.waiters) {
            return "full";
        }
        if lines >= CAPACITY.waiters || links + asker.keys.len() > CAPACITY.links() {
            return "full";
        }
        for &key in &asker.keys {
            let turns = &mut self.turns[key as usize];
            if !turns.contains(&asker.client) {
                turns.push(asker.client);
            }
        }
        self.askers.insert(number, Asker { state: State::Waits, ..asker });
        "waits"
    }

    fn set_max(&mut self, key: u64, max: u32) {
        self.max[key as usize] = max;
        self.serve(key);
    }

    fn serve(&mut self, key: u64) {
        while self.fits(&[key]) {
            let turns = self.turns[key as usize].clone();
            let mut waiters = turns.into_iter().flat_map(|client| self.waiters(client, key));
            let Some(number) = waiters.find(|number| self.fits(&self.askers[number].keys)) else { return };
            let asker = self.askers.get_mut(&number).unwrap();
            asker.state = State::Granted;
            let (client, keys) = (asker.client, asker.keys.clone());
            for key in keys {
                self.turns[key as usize].retain(|other| *other != client);
                if !self.waiters(client, key).is_empty() {
                    self.turns[key as usize].push(client);
                }
            }
        }
    }

    fn leave(&mut self, number: usize) {
        let Asker { client, keys, state } = self.askers.remove(&number).unwrap();
        for &key in &keys {
            if self.waiters(client, key).is_empty() {
                self.turns[key as usize].retain(|other| *other != client);
            }
        }
        if state != State::Waits {
            keys.into_iter().for_each(|key| self.serve(key));
        }
    }
}

/// What the real thing gave to each asker.
enum Real {
    Permit(#[allow(dead_code)] Permit),
    Line(Waiting, Arc<Flag>),
}

fn nth<T>(map: &BTreeMap<usize, T>, number: usize) -> Option<usize> {
    let number = number.checked_rem(map.len())?;
    map.keys().nth(number).copied()
}

fn run(acts: Vec<Act>) {
    let permits = Permits::new(CAPACITY, Vec::new());
    let (mut model, mut real) = (Model::default(), BTreeMap::new());
    for (number, act) in acts.into_iter().enumerate() {
        match act {
            Act::Acquire { client, keys, max, queue } => {
                let demands: Vec<_> = keys.iter().map(|&key| demand(key, max, queue)).collect();
                let acquired = permits.acquire(key(client), &demands).0;
                let said = match acquired {
                    Acquired::Granted(permit) => {
                        real.insert(number, Real::Permit(permit));
                        "granted"
                    }
                    Acquired::Waits(mut waiting) => {
                        let flag = Arc::default();
                        assert!(poll(&mut waiting, &flag).is_none());
                        real.insert(number, Real::Line(waiting, flag));
                        "waits"
                    }
                    Acquired::Refused => "refused",
                    Acquired::Full => "full",
                };
                let asker = Asker { client, keys, state: State::Held };
                assert_eq!(said, model.acquire(number, asker, max, queue));
            }
            Act::Leave(asker) => {
                if let Some(asker) = nth(&real, asker) {
                    real.remove(&asker);
                    model.leave(asker);
                }
            }
            Act::Poll(asker) => {
                let Some(asker) = nth(&real, asker) else { continue };
                let Some(Real::Line(waiting, flag)) = real.get_mut(&asker) else { continue };
                let permit = poll(waiting, flag);
                assert_eq!(permit.is_some(), model.askers[&asker].state == State::Granted);
                if let Some(permit) = permit {
                    model.askers.get_mut(&asker).unwrap().state = State::Held;
                    real.insert(asker, Real::Permit(permit));
                }
            }
            Act::Revise { key, max } => {
                permits.set_own(self::key(key), max);
                // Of who is not there nothing is known.
                if model.keys().contains(&key) {
                    model.set_max(key, max);
                }
            }
        }
        check(&permits, &model, &real);
    }
}

fn check(permits: &Permits, model: &Model, real: &BTreeMap<usize, Real>) {
    for number in 0..KEYS {
        assert_eq!(permits.used(key(number)), model.used(number), "key {number}");
    }
    assert_eq!(permits.keys(), model.keys().len());
    let lines = model.askers.values().filter(|asker| asker.state != State::Held).count();
    assert_eq!(permits.waiting(), lines);
    for (number, real) in real {
        match (real, model.askers[number].state) {
            (Real::Permit(_), State::Held) => {}
            (Real::Line(_, flag), State::Granted) => assert!(flag.is_up(), "{number} was not woken"),
            (Real::Line(_, flag), State::Waits) => assert!(!flag.is_up(), "{number} was woken for nothing"),
            (_, state) => panic!("{number} should be {state:?}"),
        }
    }
    let left = model.askers.values().filter(|asker| asker.state == State::Waits);
    assert!(!left.into_iter().any(|asker| model.fits(&asker.keys)), "somebody waits for nothing");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn permits_are_given_as_the_model_says(acts in vec(act(), 1..80)) {
        run(acts);
    }
}
