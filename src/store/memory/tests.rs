//! The table against a map that forgets nothing: what owes is found, once, and only what is counted as evicted is lost.
#![allow(clippy::unwrap_used)]

use super::line::Interval;
use super::*;
use crate::store::{Charge, Op};
use crate::{Key, ManualClock, Rate};
use proptest::{collection::vec, prelude::*};
use std::{collections::HashMap, time::Duration};

const INTERVAL: u64 = 1_000;

/// Ten lines, so that the reach of three homes overlaps.
fn memory() -> (ManualClock, Memory) {
    let clock = ManualClock::new();
    (clock.clone(), Memory::new(Timeline::manual(clock), 10 * size_of::<Line>(), 0).unwrap())
}

/// A client whose home is one of three, by the upper bits of its key.
fn key(client: u64) -> Key {
    Key::new((client % 3 + 1) << 62 | client, (client + 1).wrapping_mul(0x1234_5678_9abc_def1))
}

fn take(client: u64, limit: u64, cost: u32, shadow: bool) -> Charge {
    let rate = Rate::for_test(INTERVAL, 100);
    Charge { place: Place::Client(key(client)), limit, rate, max_debt: 0, op: Op::Take(cost), shadow }
}

fn charge(memory: &Memory, charges: &[Charge]) -> Vec<Reading> {
    let mut asked: Vec<_> = charges.iter().map(|charge| Asked::new(0, *charge)).collect();
    memory.charge(&mut asked);
    asked.iter().map(|asked| asked.reading).collect()
}

/// The debts that lie in the table and have not passed, by tag and home.
fn owing(memory: &Memory, now: u64) -> HashMap<(u64, u32), u64> {
    let mut found = HashMap::new();
    for (tag, entry) in memory.core.table.entries().filter(|(_, entry)| entry.until > now) {
        assert_eq!(found.insert((tag.high, tag.low), entry.until), None, "an entry lies twice");
    }
    found
}

fn name(charge: &Charge) -> (u64, u32) {
    let Place::Client(key) = charge.place else { unreachable!("only clients are charged here") };
    let tag = Table::tag(key, charge.limit);
    (tag.high, tag.low)
}

/// One client, up to three limits, of which the first may only watch; how much of each, and how long to wait after.
fn step() -> impl Strategy<Value = (u64, Vec<u32>, bool, u64)> {
    let cost = prop_oneof![4 => 1..4u32, 3 => 1..100u32, 1 => Just(0u32), 1 => 95..105u32];
    let wait = prop_oneof![4 => 0..10u64, 4 => 0..3_000u64, 1 => 0..30_000u64];
    (0..24u64, vec(cost, 1..4), any::<bool>(), wait)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_owes_is_found_once_and_lost_only_when_counted(
        clients in 2..24u64,
        steps in vec(step(), 1..250),
    ) {
        let (clock, memory) = memory();
        let mut debts: HashMap<(u64, u32), u64> = HashMap::new();
        let full = INTERVAL * 100;
        for (client, costs, watches, wait) in steps {
            let charges: Vec<_> = costs.iter().zip(0..)
                .map(|(cost, limit)| take(client % clients, limit, *cost, watches && limit == 0))
                .collect();
            let evicted = memory.evicted();
            let now = memory.core.timeline.now();
            let readings = charge(&memory, &charges);

            debts.retain(|_, until| *until > now);
            let debt = |charge: &Charge| debts.get(&name(charge)).map_or(0, |until| until - now);
            let fits = |(charge, cost): (&Charge, &u32)| debt(charge) + INTERVAL * u64::from(*cost) <= full;
            let fit = |shadow| charges.iter().zip(&costs).filter(|(c, _)| c.shadow == shadow).all(fits);
            let (enforced, watched) = (fit(false), fit(true));
            let mut written = Vec::new();
            for ((charge, cost), reading) in charges.iter().zip(&costs).zip(&readings) {
                let applies = enforced && (watched || !charge.shadow);
                let owes = debt(charge) + if applies { INTERVAL * u64::from(*cost) } else { 0 };
                prop_assert_eq!(reading.is_allowed(), fits((charge, cost)));
                prop_assert_eq!(reading.reset_after(), Duration::from_nanos(owes));
                if owes > 0 {
                    written.push((name(charge), now + owes));
                }
            }
            debts.extend(written.iter().copied());

            let kept = owing(&memory, now);
            for (name, until) in &kept {
                prop_assert_eq!(debts.get(name), Some(until), "nobody owes that");
            }
            for (name, until) in &written {
                prop_assert_eq!(kept.get(name), Some(until), "the newcomer always gets a place");
            }
            let before = debts.len();
            debts.retain(|name, _| kept.contains_key(name));
            prop_assert_eq!(memory.evicted() - evicted, (before - debts.len()) as u64);
            clock.advance(Duration::from_nanos(wait));
        }
    }
}

/// A limit that only watches was given the slot where the enforced one's old entry lay, and then did not use it. The
/// enforced one got a slot behind, where it was not found: the next charge began afresh.
#[test]
fn a_place_that_is_not_used_hides_nobody() {
    let (clock, memory) = memory();
    let ours = 3;
    // The enforced entry comes to lie in the second line, behind five others, and is soon paid.
    for other in 1..=5 {
        charge(&memory, &[take(other * 3, 7, 50, false)]);
    }
    charge(&memory, &[take(ours, 0, 1, false)]);
    clock.advance(Duration::from_nanos(INTERVAL + 1));
    let [watching, enforced] = [take(ours, 1, 101, true), take(ours, 0, 100, false)];
    assert!(charge(&memory, &[watching, enforced])[1].is_allowed());
    assert!(!charge(&memory, &[enforced])[0].is_allowed());
}

#[test]
fn the_least_indebted_goes_and_the_newcomer_never() {
    let (_, memory) = memory();
    // One home: its 40 slots, of which the second client owes least.
    for client in 0..40 {
        charge(&memory, &[take(client * 3, 0, if client == 1 { 5 } else { 10 }, false)]);
    }
    assert_eq!(memory.evicted(), 0);
    charge(&memory, &[take(120, 0, 1, false)]);
    charge(&memory, &[take(123, 0, 2, false)]);
    assert_eq!(memory.evicted(), 2);
    let remaining = |client: u64| {
        let peek = Charge { op: Op::Peek(1), ..take(client * 3, 0, 1, false) };
        charge(&memory, &[peek])[0].remaining(peek.rate)
    };
    assert_eq!((0..42).map(remaining).collect::<Vec<_>>(), {
        let mut expected = vec![90; 40];
        expected[1] = 100;
        expected.extend([100, 98]);
        expected
    });
}

#[test]
fn an_interval_is_kept_to_three_parts_in_a_hundred_million_and_never_more() {
    for nanos in (0..60).flat_map(|bit| [1 << bit, (1 << bit) + 1, (2 << bit) - 1, 3_u64.pow(bit / 2)]) {
        let kept = Interval::of(nanos).nanos();
        assert!(kept <= nanos && u128::from(nanos - kept) * 100_000_000 < 3 * u128::from(nanos), "{nanos}");
    }
}
