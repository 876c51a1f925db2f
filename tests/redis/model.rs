//! The store agrees with an exact model in all that it answers, to the nanosecond.

use crate::stage::{self, Server};
use futures_util::FutureExt as _;
use proptest::{collection::vec, prelude::*, sample::select};
use std::{
    cell::Cell,
    collections::HashMap,
    future::ready,
    sync::{Arc, Mutex},
    time::Duration,
};
use tidegate::{
    Charge, Identity, Limit, Limiter, ManualClock, Op, Place, Policy, Quota, Rate, Reading, RedisBuilder,
    Rule, Store, StoreFuture,
};
use tokio::runtime::Runtime;

/// A store that remembers what it was charged.
#[derive(Clone, Default)]
struct Spy(Arc<Mutex<Vec<Charge>>>);

impl Store for Spy {
    fn charge(&self, charges: Vec<Charge>) -> StoreFuture {
        let readings = charges.iter().map(|_| Reading::allowed(Duration::ZERO)).collect();
        self.0.lock().unwrap().extend(charges);
        Box::pin(ready(Ok(readings)))
    }

    fn settle(&self, _: Vec<Charge>) {}
}

/// Charges of three limits of two clients, two of them a client's own.
pub fn charges() -> Vec<Charge> {
    let limits = [
        Limit::per_client("one", Quota::per_second(1)),
        Limit::per_client("two", Quota::per_second(1)),
        Limit::shared("all", Quota::per_second(1)),
    ];
    let spy = Spy::default();
    let policy = Policy::new().rule(limits.into_iter().fold(Rule::new("rule"), Rule::limit));
    let limiter = Limiter::builder(policy).store(spy.clone()).build().unwrap();
    for name in ["ann", "ben"] {
        limiter.charge(&Identity::name(name), "rule").into_future().now_or_never().unwrap().unwrap();
    }
    let mut charges = std::mem::take(&mut *spy.0.lock().unwrap());
    charges.remove(5); // the shared one once more
    charges
}

/// What a place owed at a time in microseconds, and under which interval that was reckoned.
#[derive(Clone, Copy)]
struct State {
    stamp: u128,
    owed: u128,
    interval: u128,
}

struct Model {
    now: u128,
    states: HashMap<usize, State>,
}

/// Steps back up to so many microseconds are waited out.
const WAITED_OUT: u128 = 100_000;

impl Model {
    fn decide(&mut self, asked: &[(usize, Charge)]) -> Vec<Reading> {
        let found: Vec<_> = asked.iter().map(|(place, charge)| self.find(*place, charge)).collect();
        let outcomes: Vec<_> = asked
            .iter()
            .zip(&found)
            .map(|((_, charge), (at, debt))| self.outcome(charge, *at, *debt))
            .collect();
        let fit = |shadow| {
            asked
                .iter()
                .zip(&outcomes)
                .all(|((_, charge), outcome)| charge.shadow != shadow || outcome.1 == Some(0))
        };
        let (enforced, watched) = (fit(false), fit(true));
        let mut readings = Vec::new();
        for (((place, charge), (at, before)), (after, wait)) in asked.iter().zip(found).zip(outcomes) {
            let applies = match charge.op {
                Op::Take(_) => enforced && (watched || !charge.shadow),
                Op::Peek(_) => false,
                Op::Give(_) | Op::Owe(_) | Op::Clear => true,
            };
            let debt = if applies { after } else { before };
            if debt == before {
                // Nothing is written, be it a debt that has drained and comes back when the clock is set back.
            } else if debt == 0 {
                self.states.remove(place);
            } else {
                self.states.insert(*place, State { stamp: at, owed: debt, interval: interval(charge.rate) });
            }
            let nanos = |nanos: u128| Duration::from_nanos(u64::try_from(nanos).unwrap());
            readings.push(match wait {
                Some(0) => Reading::allowed(nanos(debt)),
                Some(wait) => Reading::refused(nanos(debt), nanos(wait)),
                None => Reading::never(nanos(debt)),
            });
        }
        readings
    }

    /// From when on debt drains, and what is owed then.
    fn find(&mut self, place: usize, charge: &Charge) -> (u128, u128) {
        let Some(state) = self.states.get(&place).copied() else { return (self.now, 0) };
        let ahead = state.stamp.saturating_sub(self.now);
        let (at, stepped) =
            if ahead > WAITED_OUT { (self.now, true) } else { (self.now.max(state.stamp), false) };
        let drained = self.now.saturating_sub(state.stamp) * 1_000;
        let owed = state.owed.saturating_sub(drained);
        if owed == 0 {
            return (at, 0);
        }
        let (old, new) = (state.interval, interval(charge.rate));
        let carried = if old == new { owed } else { carried(owed, new, old) };
        let most = new * u128::from(charge.rate.burst().get() + charge.max_debt);
        let debt = carried.min(most);
        if stepped || old != new || debt != owed {
            self.states.insert(place, State { stamp: at, owed: debt, interval: new });
        }
        (at, debt)
    }

    /// What is owed afterwards, and how long until it fits.
    fn outcome(&self, charge: &Charge, at: u128, debt: u128) -> (u128, Option<u128>) {
        let (interval, burst) = (interval(charge.rate), u128::from(charge.rate.burst().get()));
        let units = |units: u32| interval * u128::from(units);
        match charge.op {
            Op::Take(0) | Op::Peek(0) => (debt, Some(0)),
            Op::Take(cost) | Op::Peek(cost) if u128::from(cost) > burst => (debt, None),
            Op::Take(cost) | Op::Peek(cost) => match (debt + units(cost)).saturating_sub(interval * burst) {
                0 => (debt + units(cost), Some(0)),
                over => (debt, Some(over + (at - self.now) * 1_000)),
            },
            Op::Give(nanos) => (debt.saturating_sub(nanos.into()), Some(0)),
            Op::Owe(cost) => {
                ((debt + units(cost)).min(interval * (burst + u128::from(charge.max_debt))), Some(0))
            }
            Op::Clear => (0, Some(0)),
        }
    }
}

/// Debt at another interval, rounded up: as doubles have it, which is at most two nanoseconds off.
fn carried(owed: u128, new: u128, old: u128) -> u128 {
    let carried = (owed as f64 * new as f64 / old as f64).ceil();
    let exact = (owed * new).div_ceil(old);
    // Beyond 2^53 ns it is more than any rate admits.
    assert!(exact >= 1 << 53 || (carried - exact as f64).abs() <= 2.0, "{carried} instead of {exact}");
    carried as u128
}

fn interval(rate: Rate) -> u128 {
    rate.interval().as_nanos()
}

#[derive(Debug, Clone)]
pub enum Step {
    Charge(Vec<(usize, Op, bool)>),
    Rate(usize, Rate, u32),
    Forward(u64),
    Back(u64),
}

pub fn rate() -> impl Strategy<Value = Rate> {
    let second = 1_000_000_000;
    let intervals = vec![100, 1_000, 999_999, second, 10 * second, 70 * second + 1, 86_400 * second + 12_345];
    (select(intervals), select(vec![3u64, 4, 5, 10, 50])).prop_map(|(interval, burst)| {
        Quota::per(1, Duration::from_nanos(interval)).burst(burst).rate().unwrap()
    })
}

fn op() -> impl Strategy<Value = Op> {
    let cost = || prop_oneof![Just(0u32), Just(1), 1..5u32, 5..60u32];
    let nanos = || prop_oneof![0..3_000u64, 0..20_000_000_000u64, 0..4_000_000_000_000_000u64];
    prop_oneof![
        8 => cost().prop_map(Op::Take),
        2 => cost().prop_map(Op::Peek),
        2 => nanos().prop_map(Op::Give),
        2 => cost().prop_map(Op::Owe),
        1 => Just(Op::Clear),
    ]
}

pub fn step() -> impl Strategy<Value = Step> {
    let micros = || prop_oneof![0..3u64, 0..20_000_000u64, 0..1_000_000_000_000u64];
    let places: Vec<_> = (0..5usize).collect();
    let charges = proptest::sample::subsequence(places, 1..=5).prop_flat_map(|places| {
        places.into_iter().map(|place| (Just(place), op(), any::<bool>())).collect::<Vec<_>>()
    });
    prop_oneof![
        12 => charges.prop_map(Step::Charge),
        2 => (0..5usize, rate(), select(vec![0u32, 7, 50])).prop_map(|(place, rate, most)| Step::Rate(place, rate, most)),
        4 => micros().prop_map(Step::Forward),
        2 => prop_oneof![0..90_000u64, 110_000..3_000_000u64, Just(3_600_000_000)].prop_map(Step::Back),
    ]
}

pub fn check(runtime: &Runtime, store: RedisBuilder, case: u32, rates: &[Rate], steps: &[Step]) {
    let clock = ManualClock::new();
    clock.advance(Duration::from_secs(1_700_000_000));
    let store = store.prefix(format!("{case}:")).clock(clock.clone()).build().unwrap();
    let _limiter = runtime.block_on(stage::limiter(&store, Policy::per_client(Quota::per_second(1))));
    let mut charges = charges();
    for (charge, rate) in charges.iter_mut().zip(rates) {
        charge.rate = *rate;
    }
    let mut model = Model { now: 1_700_003_600_000_000, states: HashMap::new() };
    for step in steps {
        match step {
            Step::Charge(asked) => {
                let asked: Vec<_> = asked
                    .iter()
                    .map(|(place, op, shadow)| {
                        (*place, Charge { op: *op, shadow: *shadow, ..charges[*place] })
                    })
                    .collect();
                let list = asked.iter().map(|(_, charge)| *charge).collect();
                let answer = runtime.block_on(store.charge(list)).unwrap();
                assert_eq!(answer, model.decide(&asked), "{asked:?}");
            }
            Step::Rate(place, rate, most) => {
                (charges[*place].rate, charges[*place].max_debt) = (*rate, *most);
            }
            Step::Forward(micros) => {
                clock.advance(Duration::from_micros(*micros));
                model.now += u128::from(*micros);
            }
            Step::Back(micros) => {
                clock.set_back(Duration::from_micros(*micros));
                model.now -= u128::from(*micros);
            }
        }
    }
}

#[test]
fn the_store_agrees_with_the_model() {
    let (runtime, server) = (Runtime::new().unwrap(), Server::start());
    let case = Cell::new(0);
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(rates in vec(rate(), 5), steps in vec(step(), 1..80))| {
        case.set(case.get() + 1);
        check(&runtime, stage::store(&server), case.get(), &rates, &steps);
    });
}

/// Where the whole debt is beyond what doubles hold, intervals are rounded up by less than a millionth.
#[tokio::test]
async fn quotas_of_years_are_counted_to_a_unit() {
    let (server, clock) = (Server::start(), ManualClock::new());
    let store = stage::store(&server).clock(clock.clone()).build().unwrap();
    let _limiter = stage::limiter(&store, Policy::per_client(Quota::per_second(1))).await;
    for (number, (interval, burst)) in
        [(365 * 86_400 * 1_000_000_000, 140), (1 << 40, 1 << 22), (1_073_741_823, 4_294_967_295)]
            .into_iter()
            .enumerate()
    {
        let rate = Quota::per(1, Duration::from_nanos(interval)).burst(burst).rate().unwrap();
        let all = rate.burst().get();
        let charge = Charge { rate, ..charges()[number] };
        let ask = async |op| store.charge(vec![Charge { op, ..charge }]).await.unwrap()[0];
        let whole = ask(Op::Take(all - 1)).await;
        assert_eq!((whole.is_allowed(), whole.remaining(rate)), (true, 1));
        let last = ask(Op::Take(1)).await;
        assert_eq!((last.is_allowed(), last.remaining(rate)), (true, 0));
        let next = ask(Op::Take(1)).await;
        assert!(!next.is_allowed() && next.retry_after().unwrap() <= rate.interval());
        clock.advance(rate.interval() + rate.interval() / 500_000 + Duration::from_micros(1));
        let back = ask(Op::Take(1)).await;
        assert!(back.is_allowed() && !ask(Op::Take(1)).await.is_allowed(), "{interval} {burst}: {back:?}");
        assert!(ask(Op::Give(u64::MAX)).await == Reading::allowed(Duration::ZERO));
    }
}

#[test]
fn charges_have_places_of_their_own() {
    let places: Vec<_> = charges().iter().map(|charge| (charge.place, charge.limit)).collect();
    assert!((1..5).all(|n| !places[..n].contains(&places[n])), "{places:?}");
    assert!(matches!(places[2].0, Place::Shared(0)));
}
