//! Slots agree with an exact model: who has one until when, all or nothing with the charge, whatever the clock does.

use crate::{
    model::charges,
    stage::{self, Server},
};
use proptest::{collection::vec, prelude::*, sample::subsequence};
use std::{cell::Cell, collections::BTreeMap, time::Duration};
use tidegate::{Charge, Lease, ManualClock, Op, Place, Policy, Quota, RedisStore, Slot, SlotReading, Store};
use tokio::runtime::Runtime;

const LIFE: u64 = 600;
const BURST: u32 = 12;

#[derive(Debug, Clone)]
enum Step {
    /// By one of two instances: slots with how many there are and whether they only watch, and a unit too.
    Ask(usize, Vec<(usize, u32, bool)>, bool),
    Drop(usize),
    Forward(u64),
    Back(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let slots = subsequence(vec![0usize, 1, 2], 1..=3).prop_flat_map(|places| {
        places.into_iter().map(|place| (Just(place), 1..4u32, any::<bool>())).collect::<Vec<_>>()
    });
    prop_oneof![
        8 => (0..2usize, slots, any::<bool>()).prop_map(|(by, slots, unit)| Step::Ask(by, slots, unit)),
        4 => (0..100usize).prop_map(Step::Drop),
        2 => prop_oneof![0..200u64, 0..2 * LIFE].prop_map(Step::Forward),
        1 => prop_oneof![0..10u64, 0..4 * LIFE].prop_map(Step::Back),
    ]
}

/// Who has a slot, and until when: seconds.
#[derive(Default)]
struct Model {
    now: u64,
    next: u64,
    taken: u32,
    slots: [BTreeMap<u64, u64>; 3],
}

impl Model {
    /// What each slot says, and who has them now, if that is anybody.
    fn ask(&mut self, asked: &[(usize, u32, bool)], unit: bool) -> (Vec<SlotReading>, Option<u64>) {
        let (now, mut said) = (self.now, Vec::new());
        for (place, max, _) in asked {
            let slot = &mut self.slots[*place];
            let used = slot.values().filter(|end| **end >= now).count() as u32;
            if used >= *max {
                slot.values_mut().filter(|end| **end >= now + 2 * LIFE).for_each(|end| *end = now + LIFE);
            }
            said.push(SlotReading { used, is_free: used < *max });
        }
        let free = |shadow| {
            asked.iter().zip(&said).all(|((_, _, watches), said)| *watches != shadow || said.is_free)
        };
        let (free, idle) = (free(false), free(true));
        if !free || unit && self.taken == BURST {
            return (said, None);
        }
        self.taken += u32::from(unit);
        self.next += 1;
        for ((place, _, watches), said) in asked.iter().zip(&mut said) {
            if !watches || idle {
                // What has ended is forgotten, and does not come back with a clock that is set back.
                if said.used == 0 {
                    self.slots[*place].clear();
                }
                self.slots[*place].insert(self.next, now + LIFE);
                said.used += 1;
            }
        }
        (said, Some(self.next))
    }
}

struct Trial<'a> {
    runtime: &'a Runtime,
    stores: [RedisStore; 2],
    clock: ManualClock,
    model: Model,
    charge: Charge,
    places: [(Place, u64); 3],
    leases: Vec<(usize, Option<u64>, Lease)>,
}

impl Trial<'_> {
    fn run(&mut self, step: &Step) {
        match step {
            Step::Ask(by, asked, unit) => {
                let slot = |(place, max, shadow): &(usize, u32, bool)| {
                    let (place, limit) = self.places[*place];
                    Slot { place, limit, max: *max, shadow: *shadow }
                };
                let slots: Vec<_> = asked.iter().map(slot).collect();
                let charges = if *unit { vec![self.charge] } else { Vec::new() };
                let answer = self.stores[*by].occupy(slots, charges).unwrap();
                let answer = self.runtime.block_on(answer).unwrap();
                let (said, holder) = self.model.ask(asked, *unit);
                assert_eq!(answer.slots, said, "{asked:?}");
                let refused = asked.iter().zip(&said).any(|((_, _, shadow), said)| !shadow && !said.is_free);
                assert_eq!(answer.readings.len(), usize::from(*unit && !refused));
                assert!(answer.readings.iter().all(|reading| reading.is_allowed() == holder.is_some()));
                self.leases.push((*by, holder, answer.lease.unwrap()));
            }
            Step::Drop(number) if !self.leases.is_empty() => {
                let (by, holder, lease) = self.leases.swap_remove(number % self.leases.len());
                drop(lease);
                // What is sent after it is answered after it.
                let peek = Charge { op: Op::Peek(1), ..self.charge };
                self.runtime.block_on(self.stores[by].charge(vec![peek])).unwrap();
                if let Some(holder) = holder {
                    self.model.slots.iter_mut().for_each(|slot| slot.retain(|name, _| *name != holder));
                }
            }
            Step::Drop(_) => {}
            Step::Forward(seconds) => {
                self.clock.advance(Duration::from_secs(*seconds));
                self.model.now += seconds;
            }
            Step::Back(seconds) => {
                self.clock.set_back(Duration::from_secs(*seconds));
                self.model.now -= seconds;
            }
        }
    }
}

#[test]
fn slots_agree_with_the_model() {
    let (runtime, server) = (Runtime::new().unwrap(), Server::start());
    let case = Cell::new(0);
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    let all = charges();
    proptest!(config, |(steps in vec(step(), 1..60))| {
        case.set(case.get() + 1);
        let clock = ManualClock::new();
        let now = 1_700_000_000;
        clock.advance(Duration::from_secs(now));
        let stores = [0, 1].map(|_| {
            let builder = stage::store(&server).prefix(format!("{}:", case.get())).clock(clock.clone());
            builder.permit_life(Duration::from_secs(LIFE)).known_refusals(Duration::ZERO).build().unwrap()
        });
        let policy = || Policy::per_client(Quota::per_second(1));
        let _limiters = stores.each_ref().map(|store| runtime.block_on(stage::limiter(store, policy())));
        let rate = Quota::per(1, Duration::from_secs(365 * 86_400)).burst(BURST.into()).rate().unwrap();
        let mut trial = Trial {
            runtime: &runtime,
            stores,
            clock,
            model: Model { now: now + 3_600, ..Model::default() },
            charge: Charge { rate, op: Op::Take(1), ..all[1] },
            // Another limit than the charge's, as with all limits of a policy.
            places: [(all[0].place, 1), (all[3].place, 1), (Place::Shared(0), 2)],
            leases: Vec::new(),
        };
        steps.iter().for_each(|step| trial.run(step));
    });
}
