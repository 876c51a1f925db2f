//! Threads that read the time while the clock moves.
#![allow(clippy::unwrap_used)]

use super::*;
use loom::thread;

const STEP: u64 = 1_000;

/// A clock at which time was read after it moved, and that time.
fn started(grain: u64, wobble: u64) -> (ManualClock, Arc<Timeline>, u64) {
    let clock = ManualClock::new();
    let time = Timeline::new(Source::Manual(clock.clone()), grain, wobble);
    clock.advance(Duration::from_nanos(STEP));
    let start = time.now();
    (clock, Arc::new(time), start)
}

#[test]
fn time_that_one_thread_tells_another_is_never_ahead_of_it() {
    loom::model(|| {
        let (clock, time, start) = started(0, 0);
        let told = Arc::new(AtomicU64::new(0));
        let teller = {
            let (clock, time, told) = (clock.clone(), time.clone(), told.clone());
            thread::spawn(move || {
                for step in [3, 5] {
                    clock.advance(Duration::from_nanos(step));
                    told.store(time.now(), Release);
                }
            })
        };
        let before = time.now();
        clock.advance(Duration::from_nanos(7));
        let heard = told.load(Acquire);
        let after = time.now();
        assert!(after >= before.max(heard) && (start + 7..=start + 15).contains(&after));
        teller.join().unwrap();
        assert_eq!(time.now(), start + 15);
    });
}

#[test]
fn a_step_back_is_counted_once_whoever_sees_it() {
    loom::model(|| {
        let (clock, time, start) = started(0, 0);
        let readers = [(); 2].map(|()| {
            let time = time.clone();
            thread::spawn(move || assert_eq!(time.now(), start))
        });
        clock.set_back(Duration::from_nanos(STEP));
        assert_eq!(time.now(), start);
        for reader in readers {
            reader.join().unwrap();
        }
        clock.advance(Duration::from_nanos(7));
        assert_eq!(time.now(), start + 7);
    });
}

#[test]
fn time_goes_on_from_where_it_was_whoever_looks() {
    loom::model(|| {
        let (clock, time, start) = started(0, 0);
        let reader = {
            let time = time.clone();
            thread::spawn(move || {
                let (first, second) = (time.now(), time.now());
                assert!(start <= first && first <= second && second <= start + 12);
            })
        };
        clock.advance(Duration::from_nanos(2));
        clock.advance(Duration::from_nanos(3));
        assert_eq!(time.now(), start + 5);
        clock.set_back(Duration::from_nanos(STEP));
        assert_eq!(time.now(), start + 5);
        clock.advance(Duration::from_nanos(7));
        reader.join().unwrap();
        assert_eq!(time.now(), start + 12);
    });
}

#[test]
fn a_step_back_that_is_waited_out_gains_nothing() {
    loom::model(|| {
        let (clock, time, start) = started(10, STEP);
        let readers = [(); 2].map(|()| {
            let time = time.clone();
            thread::spawn(move || assert_eq!(time.now(), start))
        });
        clock.set_back(Duration::from_nanos(STEP / 2));
        clock.advance(Duration::from_nanos(STEP / 2));
        for reader in readers {
            reader.join().unwrap();
        }
        assert_eq!(time.now(), start);
    });
}
