//! Charges that meet in one line, in lines that overlap, in shared limits, and where slots run out.
#![allow(clippy::unwrap_used)]

use super::line::Interval;
use super::{line::SLOTS, *};
use crate::store::{Charge, Op};
use crate::{Key, ManualClock, Rate};
use loom::thread::{self, JoinHandle};
use std::{sync::Arc, time::Duration};

const INTERVAL: u64 = 1_000;
const BURST: u32 = 10;
const FULL: u64 = INTERVAL * BURST as u64;

/// A table of so many homes and the lines that they reach, and two shared limits.
fn memory(homes: usize) -> (ManualClock, Arc<Memory>) {
    let clock = ManualClock::new();
    let bytes = (7 + homes + 2) * size_of::<Line>();
    (clock.clone(), Arc::new(Memory::new(Timeline::manual(clock), bytes, 2).unwrap()))
}

/// Who pays, and the limit's number.
type Payer = (Place, u64);

const fn key(client: u64) -> Key {
    Key::new(client << 63 | client, client + 1)
}

/// Its home is the first line, or with an odd number the second one where there are two.
const fn client(number: u64) -> Payer {
    (Place::Client(key(number)), 0)
}

/// A charge as it was decided.
#[derive(Clone, Copy)]
struct Note {
    at: u64,
    cost: u32,
    reading: Reading,
}

impl Note {
    fn debt(&self) -> u64 {
        u64::try_from(self.reading.reset_after().as_nanos()).unwrap()
    }
}

/// Charges each of them so many units, in one decision.
fn charge(memory: &Memory, payers: &[Payer], cost: u32) -> Vec<Note> {
    let rate = Rate::for_test(INTERVAL, BURST);
    let asked = payers.iter().map(|&(place, limit)| {
        Asked::new(0, Charge { place, limit, rate, max_debt: 0, op: Op::Take(cost), shadow: false })
    });
    let mut asked: Vec<_> = asked.collect();
    let (at, _) = memory.charge(&mut asked);
    asked.iter().map(|asked| Note { at, cost, reading: asked.reading }).collect()
}

fn spawn(memory: &Arc<Memory>, payers: &[Payer], cost: u32) -> JoinHandle<Vec<Note>> {
    let (memory, payers) = (memory.clone(), payers.to_vec());
    thread::spawn(move || charge(&memory, &payers, cost))
}

fn debt(memory: &Memory, payer: Payer) -> u64 {
    charge(memory, &[payer], 0)[0].debt()
}

/// The time until which a client owes that owed until then and was charged so, if the charge was decided right.
fn owes(until: u64, notes: &[Note]) -> u64 {
    let [note] = notes else { unreachable!("one limit is charged") };
    let before = until.saturating_sub(note.at);
    let after = before + u64::from(note.cost) * INTERVAL;
    assert_eq!(note.reading.is_allowed(), after <= FULL);
    assert_eq!(note.debt(), if after <= FULL { after } else { before });
    note.at + note.debt()
}

/// Puts a client's entry there, and answers until when it owes.
fn put(memory: &Memory, line: usize, slot: u8, client: u64, debt: u64) -> u64 {
    let until = memory.now() + debt;
    let entry = Entry { until, interval: Interval::of(INTERVAL) };
    memory.core.table.line(line).hold().write(slot, Table::tag(key(client), 0), entry);
    until
}

/// Fills the first lines with entries of others, each of which owes a little longer than the one before.
fn fill(memory: &Memory, lines: usize, debt: u64) {
    for number in 0..lines * SLOTS {
        let (line, slot) = (number / SLOTS, (number % SLOTS) as u8);
        put(memory, line, slot, 100 + number as u64, debt + number as u64);
    }
}

#[test]
fn a_line_is_held_by_one_thread_at_a_time() {
    loom::model(|| {
        let line = Arc::new(Line::default());
        let threads = [(); 2].map(|()| {
            let line = line.clone();
            thread::spawn(move || {
                let held = line.hold();
                let entry = held.read(0);
                held.write(0, SHARED_TAG, Entry { until: entry.until + 1, ..entry });
                held.raise_horizon(held.horizon() + 2);
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
        let held = line.hold();
        assert_eq!((held.read(0).until, held.horizon()), (2, 4));
    });
}

#[test]
fn what_fits_once_is_admitted_once_and_by_all_limits_or_none() {
    loom::model(|| {
        let (_, memory) = memory(1);
        let place = client(0).0;
        charge(&memory, &[(place, 1)], 1);
        let threads = [(); 2].map(|()| spawn(&memory, &[(place, 0), (place, 1)], 5));
        let mut allowed = threads.map(|thread| {
            let notes = thread.join().unwrap();
            notes.iter().map(|note| note.reading.is_allowed()).collect::<Vec<_>>()
        });
        allowed.sort_unstable();
        assert_eq!(allowed, [[true, false], [true, true]]);
        assert_eq!([0, 1].map(|limit| debt(&memory, (place, limit))), [5 * INTERVAL, 6 * INTERVAL]);
    });
}

/// A newcomer and the owner want a slot whose time is up: the only one in their home line, the first of two, or one
/// further on.
#[test]
fn a_slot_that_passes_gets_one_owner() {
    for (line, empty) in [(0, false), (0, true), (1, false)] {
        loom::model(move || {
            let (clock, memory) = memory(1);
            fill(&memory, line + 1, FULL);
            let until = put(&memory, line, 2, 4, 5);
            if line > 0 {
                memory.core.table.line(0).hold().raise_horizon(until);
            }
            if empty {
                memory.core.table.line(0).hold().write(3, SHARED_TAG, Entry::default());
            }
            let owner = spawn(&memory, &[client(4)], 6);
            clock.advance(Duration::from_nanos(6));
            let newcomer = charge(&memory, &[client(2)], 6);
            let untils = [owes(0, &newcomer), owes(until, &owner.join().unwrap())];
            let now = memory.now();
            assert_eq!([2, 4].map(|number| debt(&memory, client(number))), untils.map(|until| until - now));
            assert_eq!(memory.evicted(), 0);
        });
    }
}

/// A charge that has to look further lets go and locks more lines. It once unlocked all of these, also those that
/// another thread held, and then two newcomers were written to one slot.
#[test]
fn newcomers_whose_lines_overlap_get_a_slot_each() {
    loom::model(|| {
        let (clock, memory) = memory(2);
        fill(&memory, 2, FULL);
        put(&memory, 1, 2, 4, 5);
        let newcomers = [0, 1].map(|number| spawn(&memory, &[client(number)], 6));
        clock.advance(Duration::from_nanos(6));
        let untils = newcomers.map(|newcomer| owes(0, &newcomer.join().unwrap()));
        let now = memory.now();
        assert_eq!([0, 1].map(|number| debt(&memory, client(number))), untils.map(|until| until - now));
        assert_eq!(memory.evicted(), 0);
    });
}

/// Whoever owes least is charged while a newcomer finds all slots owing.
#[test]
fn an_entry_that_has_to_go_is_counted_or_kept_whole() {
    loom::model(|| {
        let (_, memory) = memory(1);
        fill(&memory, 8, FULL / 2);
        let until = put(&memory, 0, 2, 4, FULL / 4);
        let newcomer = spawn(&memory, &[client(2)], 6);
        let owner = spawn(&memory, &[client(4)], 4);
        let newcomer = owes(0, &newcomer.join().unwrap());
        let owner = owner.join().unwrap();
        let kept = owner[0].debt() > 4 * INTERVAL;
        let owner = owes(if kept { until } else { 0 }, &owner);
        let now = memory.now();
        assert_eq!(
            [2, 4].map(|number| debt(&memory, client(number))),
            [newcomer, owner].map(|until| until - now)
        );
        // It came first and then owed more than others, or it came again and pushed one of them out.
        assert_eq!(memory.evicted(), if kept { 1 } else { 2 });
    });
}

/// Lines and shared limits are locked in one order, whatever the order of the charges, and each of them is locked.
#[test]
fn charges_in_opposite_orders_do_not_wait_for_each_other() {
    const ANN: Payer = client(0);
    const BEN: Payer = client(1);
    let shared = |number| (Place::Shared(number), 1);
    for lists in [
        [vec![ANN, BEN], vec![BEN, ANN]],
        [vec![BEN, ANN], vec![ANN]],
        [vec![ANN, shared(0), shared(1)], vec![BEN, shared(1), shared(0)]],
    ] {
        loom::model(move || {
            let (_, memory) = memory(2);
            for thread in lists.each_ref().map(|payers| spawn(&memory, payers, 3)) {
                assert!(thread.join().unwrap().iter().all(|note| note.reading.is_allowed()));
            }
            for payer in lists.concat() {
                let times = lists.concat().iter().filter(|other| **other == payer).count();
                assert_eq!(debt(&memory, payer), 3 * INTERVAL * times as u64);
            }
        });
    }
}

/// A thread that read the clock and then lost its processor once cut a debt down to one burst from its own old time. In
/// the home line, further on, and in a shared limit.
#[test]
fn whoever_comes_late_forgives_nothing() {
    for (payer, lines) in [(client(0), 0), (client(0), 1), ((Place::Shared(0), 0), 0)] {
        loom::model(move || {
            let (clock, memory) = memory(1);
            fill(&memory, lines, 3 * FULL);
            let first = charge(&memory, &[payer], BURST);
            let late = spawn(&memory, &[payer], 1);
            clock.advance(Duration::from_nanos(FULL));
            let second = charge(&memory, &[payer], BURST);
            let notes = [first, second, late.join().unwrap(), charge(&memory, &[payer], BURST)].concat();
            let admitted = notes.iter().filter(|note| note.reading.is_allowed());
            let units: u32 = admitted.map(|note| note.cost).sum();
            assert!(units <= 2 * BURST, "{units} units in the time of one burst");
        });
    }
}
