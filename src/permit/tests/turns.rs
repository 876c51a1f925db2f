//! Whose turn it is.

use super::*;

/// Serves one after the other, and tells in which order.
fn order<T: Copy>(held: Permit, mut line: Vec<(T, (Waiting, Arc<Flag>))>) -> Vec<T> {
    let (mut held, mut order) = (Some(held), Vec::new());
    while let Some(permit) = held.take() {
        drop(permit);
        let up: Vec<_> = (0..line.len()).filter(|&number| line[number].1.1.is_up()).collect();
        assert!(up.len() <= 1, "one permit came back");
        for number in up {
            let (name, (mut waiting, flag)) = line.remove(number);
            held = poll(&mut waiting, &flag);
            assert!(held.is_some());
            order.push(name);
        }
    }
    assert!(line.is_empty());
    order
}

#[test]
fn a_client_is_served_first_come_first_served() {
    let permits = room();
    let ask = || permits.acquire(key(1), &[demand(1, 1, 9)]);
    let held = granted(ask());
    let line = (0..6).map(|number| (number, waits(ask()))).collect();
    assert_eq!(order(held, line), [0, 1, 2, 3, 4, 5]);
    empty(&permits);
}

#[test]
fn clients_take_turns_at_what_they_share() {
    let permits = room();
    let ask = |client| permits.acquire(key(client), &[demand(9, 1, 9)]);
    let held = granted(ask(1));
    let clients = [1, 1, 1, 1, 2, 2, 3, 1, 2];
    let line = clients.into_iter().map(|client| (client, waits(ask(client)))).collect();
    assert_eq!(order(held, line), [1, 2, 3, 1, 2, 1, 2, 1, 1]);
    empty(&permits);
}

#[test]
fn who_does_not_fit_is_passed_over_and_keeps_its_place() {
    let permits = room();
    let shared = demand(9, 1, 9);
    let busy = granted(permits.acquire(key(1), &[demand(1, 1, 9)]));
    let held = granted(permits.acquire(key(5), &[shared]));
    let first = waits(permits.acquire(key(1), &[demand(1, 1, 9), shared]));
    let second = waits(permits.acquire(key(2), &[demand(2, 1, 9), shared]));
    let (mut third, third_woken) = waits(permits.acquire(key(3), &[shared]));
    drop(held);
    assert!(!first.1.is_up() && second.1.is_up());
    drop(busy);
    drop(second);
    assert!(first.1.is_up(), "it came before the third");
    drop(first);
    assert!(poll(&mut third, &third_woken).is_some());
}

#[test]
fn one_client_may_fill_its_own_line_only() {
    let permits = room();
    let ask = |client| permits.acquire(key(client), &[demand(9, 1, 2)]);
    let _held = granted(ask(1));
    let _line = [1, 1].map(|client| waits(ask(client)));
    assert!(matches!(ask(1).0, Acquired::Refused));
    let _other = waits(ask(2));
}

#[test]
fn nobody_waits_for_a_limit_that_refuses() {
    let permits = room();
    let demands = [demand(1, 1, 0), demand(9, 1, 5)];
    let held = granted(permits.acquire(key(1), &demands));
    assert!(matches!(permits.acquire(key(1), &demands).0, Acquired::Refused));
    let _waiting = waits(permits.acquire(key(2), &[demand(2, 1, 0), demand(9, 1, 5)]));
    drop(held);
}
