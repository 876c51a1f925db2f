//! Many at once, who leave at random moments.

use super::*;
use std::{
    sync::atomic::AtomicU32,
    thread::{self, Thread},
};

/// Numbers without order, the same on each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// How many hold each key, by their own account.
struct Floor {
    held: [AtomicU32; 8],
    max: u32,
}

impl Floor {
    fn enter(&self, keys: &[u64]) {
        for &key in keys {
            assert!(self.held[key as usize].fetch_add(1, SeqCst) < self.max, "too many");
        }
    }

    fn leave(&self, keys: &[u64]) {
        for &key in keys {
            self.held[key as usize].fetch_sub(1, SeqCst);
        }
    }
}

fn floor(max: u32) -> Floor {
    Floor { held: Default::default(), max }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Sleeps until woken; a wake that got lost would hang here.
fn block(mut waiting: Waiting) -> Permit {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match Future::poll(std::pin::Pin::new(&mut waiting), &mut Context::from_waker(&waker)) {
            Poll::Ready((permit, _)) => return permit,
            Poll::Pending => thread::park(),
        }
    }
}

/// Keys in any order and in any company: whoever took them one by one would soon wait for ever.
#[test]
fn many_threads_wait_for_each_other_and_none_for_ever() {
    let permits = Permits::new(Capacity { keys: 8, waiters: 64, limits: 3 }, Vec::new());
    let floor = floor(2);
    thread::scope(|scope| {
        for number in 0..32 {
            let (permits, floor) = (&permits, &floor);
            scope.spawn(move || {
                let mut dice = Dice(number);
                for _ in 0..1_000 {
                    let first = dice.roll(8);
                    let mut keys = vec![first, (first + 1 + dice.roll(7)) % 8];
                    keys.truncate(1 + dice.roll(2) as usize);
                    let demands: Vec<_> = keys.iter().map(|&key| demand(key, 2, 64)).collect();
                    let permit = match permits.acquire(key(number), &demands).0 {
                        Acquired::Granted(permit) => permit,
                        Acquired::Waits(waiting) => block(waiting),
                        other => panic!("{other:?}"),
                    };
                    floor.enter(&keys);
                    if dice.roll(4) == 0 {
                        thread::yield_now();
                    }
                    floor.leave(&keys);
                    drop(permit);
                }
            });
        }
    });
    empty(&permits);
}

/// Half of them leave while they wait, or when they were served and do not know it yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_clients_that_leave_at_random_moments_leak_nothing() {
    let permits = Permits::new(Capacity { keys: 1_100, waiters: 1_000, limits: 2 }, Vec::new());
    let floor = Arc::new(floor(5));
    let clients = (0..1_000).map(|number| {
        let (permits, floor) = (permits.clone(), floor.clone());
        tokio::spawn(async move {
            let mut dice = Dice(number);
            for _ in 0..30 {
                let shared = [dice.roll(8)];
                let demands = [demand(100 + number, 1, 1), demand(shared[0], 5, 2)];
                let permit = match permits.acquire(key(number), &demands).0 {
                    Acquired::Granted(permit) => Some(permit),
                    Acquired::Waits(waiting) if dice.roll(2) == 0 => Some(waiting.await.0),
                    Acquired::Waits(mut waiting) => {
                        for _ in 0..dice.roll(4) {
                            tokio::task::yield_now().await;
                        }
                        let seen = poll(&mut waiting, &Arc::default());
                        tokio::task::yield_now().await;
                        seen
                    }
                    other => panic!("{other:?}"),
                };
                let Some(permit) = permit else { continue };
                floor.enter(&shared);
                for _ in 0..dice.roll(3) {
                    tokio::task::yield_now().await;
                }
                floor.leave(&shared);
                drop(permit);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    empty(&permits);
}

/// A task that is aborted is dropped wherever it stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_that_are_aborted_leak_nothing() {
    let permits = Permits::new(Capacity { keys: 8, waiters: 1_000, limits: 1 }, Vec::new());
    let mut dice = Dice(7);
    for _ in 0..20 {
        let tasks: Vec<_> = (0..50)
            .map(|number| {
                let permits = permits.clone();
                tokio::spawn(async move {
                    let permit = match permits.acquire(key(number), &[demand(number % 4, 2, 50)]).0 {
                        Acquired::Waits(waiting) => waiting.await.0,
                        other => granted((other, Usages::new())),
                    };
                    tokio::task::yield_now().await;
                    drop(permit);
                })
            })
            .collect();
        for task in &tasks {
            if dice.roll(2) == 0 {
                task.abort();
            }
            if dice.roll(4) == 0 {
                tokio::task::yield_now().await;
            }
        }
        for task in tasks {
            let _ = task.await;
        }
        empty(&permits);
    }
}
