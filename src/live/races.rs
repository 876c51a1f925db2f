//! Readers and writers of one quota.
#![allow(clippy::unwrap_used)]

use super::*;
use loom::thread;
use std::sync::Arc;

/// Quotas of which each word of theirs differs, so that a mixture of them would be seen.
fn quotas() -> [Quota; 3] {
    [
        Quota::per(7, Duration::from_millis(1_001)).burst(11),
        Quota::per(3_000, Duration::new(77, 5)).strict(),
        Quota::per(60, Duration::new(3, 9)).burst(13),
    ]
}

fn rate(quota: Quota) -> Rate {
    quota.rate().unwrap()
}

fn place(quota: Quota) -> usize {
    quotas().iter().position(|other| *other == quota).unwrap()
}

fn place_of_rate(found: Rate) -> usize {
    quotas().iter().position(|quota| rate(*quota) == found).unwrap()
}

/// One thread changes the quota, and another one reads.
///
/// The writer comes first, because loom tries other orders where a thread reads what an earlier one wrote; of the reads
/// before a write it remembers only the last, which here would be the writer's own.
fn change_while(read: fn(&LiveQuota)) {
    loom::model(move || {
        let [first, second, _] = quotas();
        let live = Arc::new(LiveQuota::new(first, rate(first)));
        let (changed, watched) = (live.clone(), live.clone());
        let writer = thread::spawn(move || place(changed.set(second, rate(second))));
        let reader = thread::spawn(move || read(&watched));
        assert_eq!(writer.join().unwrap(), 0);
        reader.join().unwrap();
        assert_eq!(place(live.quota()), 1);
    });
}

#[test]
fn a_reader_sees_one_quota_whole() {
    change_while(|live| assert!(place(live.quota()) <= 1));
}

#[test]
fn a_reader_never_sees_an_older_rate_again() {
    change_while(|live| {
        let seen = [live.rate(), live.rate()].map(place_of_rate);
        assert!(seen.is_sorted() && seen[1] <= 1, "{seen:?}");
    });
}

#[test]
fn changes_follow_one_another() {
    loom::model(|| {
        let [first, second, third] = quotas();
        let live = Arc::new(LiveQuota::new(first, rate(first)));
        let writers = [second, third].map(|quota| {
            let live = live.clone();
            thread::spawn(move || place(live.set(quota, rate(quota))))
        });
        let mut former = writers.map(|writer| writer.join().unwrap()).to_vec();
        former.push(place(live.quota()));
        former.sort_unstable();
        assert_eq!(former, [0, 1, 2]);
    });
}
