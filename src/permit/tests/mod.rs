//! Permits alone, without time and without HTTP.
#![allow(clippy::unwrap_used, clippy::panic)]

mod model;
mod stress;
mod turns;

use super::{demand::Usage, *};
use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    task::{Context, Poll, Wake, Waker},
};

fn key(number: u64) -> Key {
    Key::new(number.wrapping_mul(0x9E37_79B9_7F4A_7C15), number)
}

fn demand(number: u64, max: u32, queue: u32) -> Demand {
    Demand { key: key(number), limit: number as u32, number: number as usize, own: Some(max), queue }
}

fn room() -> Permits {
    Permits::new(Capacity { keys: 16, waiters: 16, limits: 2 }, Vec::new())
}

/// Notes that it was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

impl Flag {
    fn is_up(&self) -> bool {
        self.0.load(SeqCst)
    }
}

/// Polls a place in the line.
fn poll(waiting: &mut Waiting, flag: &Arc<Flag>) -> Option<Permit> {
    let waker = Waker::from(flag.clone());
    match Future::poll(std::pin::Pin::new(waiting), &mut Context::from_waker(&waker)) {
        Poll::Ready((permit, _)) => Some(permit),
        Poll::Pending => None,
    }
}

/// A permit that is granted at once.
#[track_caller]
fn granted((acquired, _): (Acquired, Usages)) -> Permit {
    match acquired {
        Acquired::Granted(permit) => permit,
        other => panic!("{other:?}"),
    }
}

/// A place in the line, and the flag that tells when it is worth another look.
#[track_caller]
fn waits((acquired, _): (Acquired, Usages)) -> (Waiting, Arc<Flag>) {
    let Acquired::Waits(mut waiting) = acquired else { panic!("{acquired:?}") };
    let flag = Arc::default();
    assert!(poll(&mut waiting, &flag).is_none());
    (waiting, flag)
}

#[track_caller]
fn empty(permits: &Permits) {
    assert_eq!((permits.keys(), permits.waiting()), (0, 0));
}

#[test]
fn all_are_taken_or_none_is() {
    let permits = room();
    let both = [demand(1, 2, 0), demand(2, 1, 0)];
    let (first, usages) = permits.acquire(key(1), &both);
    assert_eq!(usages.as_slice(), [Usage { used: 1, max: 2 }, Usage { used: 1, max: 1 }]);
    let (second, usages) = permits.acquire(key(1), &both);
    assert!(matches!(second, Acquired::Refused));
    assert_eq!(usages.as_slice(), [Usage { used: 1, max: 2 }, Usage { used: 1, max: 1 }]);
    let other = granted(permits.acquire(key(1), &both[..1]));
    drop(first);
    assert_eq!((permits.used(key(1)), permits.used(key(2))), (1, 0));
    drop(other);
    empty(&permits);
}

#[test]
fn lowering_takes_nothing_away_and_raising_wakes() {
    let permits = room();
    let mut held: Vec<_> = (0..3).map(|_| granted(permits.acquire(key(1), &[demand(1, 3, 1)]))).collect();
    let (mut waiting, flag) = waits(permits.acquire(key(1), &[demand(1, 2, 1)]));
    held.pop();
    assert!(!flag.is_up(), "two of two are held");
    assert!(matches!(permits.acquire(key(1), &[demand(1, 3, 0)]).0, Acquired::Refused));
    assert!(flag.is_up(), "the raise was for who waited first");
    held.extend(poll(&mut waiting, &flag));
    assert_eq!(permits.used(key(1)), 3);
    let (_waiting, flag) = waits(permits.acquire(key(1), &[demand(1, 3, 1)]));
    permits.set_own(key(2), 9);
    assert!(!flag.is_up(), "that is another key");
    permits.set_own(key(1), 4);
    assert!(flag.is_up());
}

#[test]
fn a_limit_s_maximum_is_for_those_who_have_none_of_their_own() {
    let permits = Permits::new(Capacity { keys: 16, waiters: 16, limits: 2 }, [1, 1].into());
    let plain = |number| Demand { own: None, limit: 1, ..demand(number, 0, 1) };
    let own = Demand { limit: 1, ..demand(2, 1, 1) };
    let _held = [plain(1), own].map(|demand| granted(permits.acquire(key(1), &[demand])));
    let (mut first, served) = waits(permits.acquire(key(1), &[plain(1)]));
    let (_second, not_served) = waits(permits.acquire(key(1), &[own]));
    assert_eq!(permits.revise(0, 9), Some(1));
    assert!(!served.is_up(), "that is another limit");
    assert_eq!((permits.revise(1, 2), permits.revise(1, 2), permits.revise(9, 2)), (Some(1), Some(2), None));
    assert!(served.is_up() && !not_served.is_up());
    assert!(poll(&mut first, &served).is_some());
    let newcomer = granted(permits.acquire(key(3), &[plain(3)]));
    assert_eq!(
        permits.acquire(key(3), &[plain(3)]).1.as_slice(),
        [Usage { used: 2, max: 2 }],
        "not the former one"
    );
    drop(newcomer);
}

#[test]
fn who_leaves_the_line_holds_nothing_even_if_served_meanwhile() {
    let permits = room();
    let one = [demand(1, 1, 3)];
    let held = granted(permits.acquire(key(1), &one));
    let (first, _) = waits(permits.acquire(key(1), &one));
    let (second, served) = waits(permits.acquire(key(1), &one));
    let (mut third, woken) = waits(permits.acquire(key(1), &one));
    drop(first);
    drop(held);
    assert!(served.is_up() && !woken.is_up());
    drop(second);
    assert!(woken.is_up(), "the permit of who left goes on");
    let last = poll(&mut third, &woken);
    assert!(last.is_some());
    assert!(poll(&mut third, &woken).is_none(), "it has answered");
    drop((last, third));
    empty(&permits);
}

#[test]
fn the_last_call_is_granted_or_leaves_the_line() {
    let permits = room();
    let one = [demand(1, 1, 3)];
    let held = granted(permits.acquire(key(1), &one));
    let (mut first, _) = waits(permits.acquire(key(1), &one));
    assert_eq!(first.last_call().unwrap_err().as_slice(), [Usage { used: 1, max: 1 }]);
    assert_eq!(permits.waiting(), 0);
    let (mut second, _) = waits(permits.acquire(key(1), &one));
    drop(held);
    let (permit, usages) = second.last_call().expect("it was served");
    assert_eq!(usages.as_slice(), [Usage { used: 1, max: 1 }]);
    drop(permit);
    empty(&permits);
}

#[test]
fn without_room_it_says_so_and_keeps_nothing() {
    let permits = Permits::new(Capacity { keys: 2, waiters: 2, limits: 1 }, Vec::new());
    let first = granted(permits.acquire(key(1), &[demand(1, 1, 0)]));
    let two = [demand(2, 1, 9), demand(3, 1, 9)];
    assert!(matches!(permits.acquire(key(2), &two).0, Acquired::Full), "there is room for one");
    assert_eq!(permits.keys(), 1);
    let second = granted(permits.acquire(key(2), &two[..1]));
    let line = [2, 2].map(|client| waits(permits.acquire(key(client), &two[..1])));
    assert!(matches!(permits.acquire(key(9), &two[..1]).0, Acquired::Full), "two wait");
    drop((first, line, second));
    empty(&permits);
    let none = Permits::new(Capacity { keys: 0, waiters: 0, limits: 0 }, Vec::new());
    assert!(matches!(none.acquire(key(1), &two).0, Acquired::Full));
}

/// What is dropped with a task may hold a permit, whose return takes the lock.
#[test]
fn a_waker_may_drop_a_permit() {
    struct Task(#[allow(dead_code)] Mutex<Option<Permit>>);
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    let permits = room();
    let (one, other) = ([demand(1, 1, 3)], [demand(2, 1, 3)]);
    let held = granted(permits.acquire(key(1), &one));
    for leaves in [true, false] {
        let inside = granted(permits.acquire(key(1), &other));
        let (mut waiting, _) = waits(permits.acquire(key(1), &one));
        let waker = Waker::from(Arc::new(Task(Mutex::new(Some(inside)))));
        let mut waiting_on = std::pin::Pin::new(&mut waiting);
        assert!(waiting_on.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        if !leaves {
            assert!(poll(&mut waiting, &Arc::default()).is_none());
        }
        drop(waiting);
        assert_eq!(permits.used(key(2)), 0);
    }
    drop(held);
    empty(&permits);
}

#[test]
fn memory_is_what_it_says() {
    let bytes = |keys, waiters, limits| Permits::new(Capacity { keys, waiters, limits }, Vec::new()).bytes();
    let none = bytes(0, 0, 1);
    let (key, waiter) = ((bytes(1_024, 0, 1) - none) / 1_024, (bytes(0, 1_024, 1) - none) / 1_024);
    let link = (bytes(0, 1_024, 2) - none) / 1_024 - waiter;
    // With feature `redis` keys have two halves more: one of what is held, and two of who waits, of which one for each limit.
    let more = size_of::<Key>() - 16;
    let (key, waiter, link) = (key - more, waiter - 2 * more, link - more);
    assert!(key <= 64 && waiter <= 180 && link <= 80, "{key}, {waiter} and {link} more bytes");
}
