//! Time that jumps: a client owes what it owed, no more and no less, and years do not wear the arithmetic out.
#![allow(clippy::unwrap_used)]

mod common;

use common::{gate, now};
use std::time::Duration;
use tidegate::{Client, Quota};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn owed(client: &Client) -> Duration {
    now(client.peek("client")).limits().next().unwrap().reading().reset_after()
}

#[test]
fn a_step_back_neither_credits_nor_locks_out() {
    for step in [SECOND, HOUR, 10 * YEAR] {
        let (clock, _limiter, ann) = gate(Quota::per_minute(60));
        assert!(now(ann.charge("client").cost(45)).is_allowed());
        clock.set_back(step);
        assert_eq!(owed(&ann), 45 * SECOND);
        assert!(now(ann.charge("client").cost(15)).is_allowed());
        assert_eq!(now(ann.charge("client")).retry_after(), Some(SECOND));
        clock.advance(SECOND);
        assert_eq!(owed(&ann), 59 * SECOND);
    }
}

#[test]
fn a_clock_that_swings_is_no_source_of_units() {
    let (clock, _limiter, ann) = gate(Quota::per_minute(60));
    assert!(now(ann.charge("client").cost(60)).is_allowed());
    for _ in 0..50 {
        clock.set_back(HOUR);
        assert_eq!(owed(&ann), 60 * SECOND);
        // Before anybody looks again, it is where it was, or not yet.
        clock.advance(SECOND);
        clock.set_back(SECOND);
        assert!(!now(ann.charge("client")).is_allowed());
    }
}

#[test]
fn a_step_forward_credits() {
    let (clock, _limiter, ann) = gate(Quota::per_minute(60));
    assert!(now(ann.charge("client").cost(60)).is_allowed());
    clock.advance(30 * SECOND);
    assert_eq!(owed(&ann), 30 * SECOND);
    clock.advance(HOUR);
    assert_eq!(owed(&ann), Duration::ZERO);
    assert!(!now(ann.charge("client").cost(61)).is_allowed());
    assert!(now(ann.charge("client").cost(60)).is_allowed());
}

#[test]
fn a_hundred_years_of_uptime_change_nothing() {
    let (clock, _limiter, ann) = gate(Quota::per_minute(60));
    for _ in 0..100 {
        assert!(now(ann.charge("client").cost(60)).is_allowed());
        clock.advance(SECOND);
        assert_eq!(owed(&ann), 59 * SECOND);
        assert!(!now(ann.charge("client").cost(2)).is_allowed());
        clock.advance(YEAR);
        assert_eq!(owed(&ann), Duration::ZERO);
    }
}

/// Time ends at 2^62 ns. From there on it stands still: what is owed stays owed, and no sum overflows even for the
/// quota that takes longest to come back.
#[test]
fn time_ends_without_overflow() {
    let slowest = Quota::per(1, 365 * 24 * HOUR).burst(146);
    let (clock, limiter, ann) = gate(slowest);
    clock.advance(Duration::MAX);
    assert!(now(ann.charge("client").cost(146)).is_allowed());
    clock.advance(Duration::MAX);
    assert_eq!(owed(&ann), 146 * YEAR);
    assert_eq!(now(ann.charge("client")).retry_after(), Some(YEAR));
    clock.set_back(Duration::MAX);
    assert_eq!(owed(&ann), 146 * YEAR);
    limiter.set_quota("client", Quota::per_second(1)).unwrap();
    assert_eq!(owed(&ann), SECOND);
}
