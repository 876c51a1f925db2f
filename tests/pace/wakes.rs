//! Who waits is woken once, when it is due.

use crate::stage::*;
use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tidegate::{Limit, Pacer, Quota};

/// How often sends are polled after the first time, of which so many come at once for so many keys; and when they went.
async fn polls(limits: impl IntoIterator<Item = Limit>, sends: usize, keys: usize) -> (usize, Vec<u64>) {
    let (stage, polls) = (stage(limits), Arc::new(AtomicUsize::new(0)));
    for number in 0..sends {
        let (polls, log, start) = (polls.clone(), stage.log.clone(), stage.start);
        let future = stage.pacer.until_ready(format!("key {}", number % keys), 1);
        tokio::spawn(async move {
            let mut future = pin!(future);
            let decision = poll_fn(|cx| {
                polls.fetch_add(1, Relaxed);
                future.as_mut().poll(cx)
            });
            decision.await.unwrap();
            log.lock().unwrap().push((String::new(), start.elapsed().as_millis() as u64));
        });
    }
    settle().await;
    stage.advance(1_100).await;
    (polls.load(Relaxed) - sends, stage.times())
}

#[tokio::test(start_paused = true)]
async fn each_send_that_waits_is_woken_once() {
    let hundred = Quota::per_second(100);
    let even: Vec<u64> = (0..100).map(|number| number * 10).collect();
    for (name, limit, keys) in [
        ("one key", own(hundred), 1),
        ("one key at a shared limit", all(hundred), 1),
        ("ten keys at a shared limit", all(hundred), 10),
    ] {
        let (woken, times) = polls([limit], 100, keys).await;
        assert_eq!(times, even, "{name}");
        assert!(woken <= 100, "{name}: {woken}");
    }
    // Where each key has a limit of its own beside one that all share, it is woken to take its turn too.
    let (woken, times) = polls([own(hundred), all(hundred)], 100, 10).await;
    assert_eq!(times, even);
    assert!(woken <= 200, "{woken}");
}

/// The alarm that is left to it is of its own runtime: that of whoever was served before does not run any more.
#[test]
fn who_waits_in_another_runtime_is_woken_there() {
    let pacer = Pacer::new([Limit::shared("all", Quota::per_second(5))]).unwrap();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, next) = (runtime(), pacer.clone());
    first.block_on(async { pacer.until_ready("a", 1).await.unwrap() });
    let second = std::thread::spawn(move || {
        runtime().block_on(async {
            // It comes after the one that waits in the other runtime, unless that was served already.
            while next.waiting() == 0 && next.try_take("a", 1).await.is_err() {}
            let start = Instant::now();
            next.until_ready("a", 1).await.unwrap();
            assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
        });
    });
    first.block_on(async { pacer.until_ready("a", 1).await.unwrap() });
    second.join().unwrap();
}
