//! How many are on their way at once follows how long answers take.

use crate::stage::*;
use futures_util::FutureExt;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tidegate::{
    Feedback, Identity, InFlight, JudgeBy, Outcome, PaceError, PaceLayer, Quota, Reject, SendError,
};
use tokio::{sync::Semaphore, time};
use tower::{Layer, Service, ServiceExt, service_fn};

/// A server that does so many requests at once, each in 100 ms, and how many are there at once.
fn server(
    at_once: usize,
) -> (Arc<Semaphore>, Arc<AtomicUsize>, impl Service<(), Response = (), Error = (), Future: Send> + Clone) {
    let (places, there) = (Arc::new(Semaphore::new(at_once)), Arc::new(AtomicUsize::new(0)));
    let (free, count) = (places.clone(), there.clone());
    let service = service_fn(move |()| {
        let (free, count) = (free.clone(), count.clone());
        async move {
            count.fetch_add(1, Relaxed);
            let place = free.acquire().await;
            time::sleep(Duration::from_millis(100)).await;
            drop(place);
            count.fetch_sub(1, Relaxed);
            Ok(())
        }
    });
    (places, there, service)
}

fn bounded(stage: Stage, in_flight: InFlight) -> Stage {
    stage.with(|pacer| pacer.feedback(Feedback::new().in_flight(in_flight)).unwrap())
}

type Judge = fn(Result<&(), &()>) -> Outcome;

fn judged(stage: &Stage) -> PaceLayer<(), Reject, JudgeBy<Judge>> {
    let judge: Judge = |answer| answer.map_or(Outcome::failed("lost"), |()| Outcome::done());
    PaceLayer::new(stage.pacer.clone(), |(): &()| Identity::name("a")).judge(judge)
}

async fn seconds(stage: &Stage, seconds: u64) {
    for _ in 0..seconds * 100 {
        stage.clock.advance(Duration::from_millis(10));
        time::advance(Duration::from_millis(10)).await;
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_are_on_their_way_than_may_be() {
    let stage = bounded(stage([own(Quota::per_second(1_000))]), InFlight::new().start(2).bounds(2, 2));
    let (_, there, server) = server(100);
    let paced = judged(&stage).layer(server.clone());
    let sends: Vec<_> = (0..6).map(|_| tokio::spawn(paced.clone().oneshot(()))).collect();
    stage.advance(50).await;
    assert_eq!((there.load(Relaxed), stage.pacer.waiting()), (2, 4));
    let tried = judged(&stage).reject().layer(server).oneshot(()).now_or_never().unwrap();
    assert!(matches!(tried, Err(SendError::Paced(PaceError::Limited(_) | PaceError::Full(_)))), "{tried:?}");
    // One that is dropped makes room.
    sends[0].abort();
    stage.advance(2).await;
    assert_eq!(stage.pacer.waiting(), 3);
    stage.advance(400).await;
    for send in sends.into_iter().skip(1) {
        send.now_or_never().unwrap().unwrap().unwrap();
    }
    assert!(stage.pacer.until_ready("a", 1).await.is_ok(), "a loop is not held up");
}

/// A server that does 20 at once, then 8, then 20 again: the limit follows, and does not grow without bound while as many
/// wait as there are.
#[tokio::test(start_paused = true)]
async fn the_limit_follows_what_the_server_does_at_once() {
    let stage = bounded(stage([own(Quota::per_second(1_000))]), InFlight::new());
    let stage = stage.with(|pacer| pacer.max_waiting(100_000, 100_000));
    let (places, _, server) = server(20);
    let paced = judged(&stage).layer(server);
    for _ in 0..20_000 {
        tokio::spawn(paced.clone().oneshot(()));
    }
    seconds(&stage, 20).await;
    let limits = async |time: u64| {
        let mut limits = Vec::new();
        for _ in 0..time {
            seconds(&stage, 1).await;
            limits.push(stage.pacer.in_flight().unwrap());
        }
        limits
    };
    let many = limits(20).await;
    assert!(many.iter().all(|limit| (18..=36).contains(limit)), "{many:?}");
    let taken = places.acquire_many(12).await.unwrap();
    limits(20).await;
    let few = limits(20).await;
    assert!(few.iter().all(|limit| (6..=16).contains(limit)), "{few:?}");
    drop(taken);
    limits(20).await;
    let many = limits(10).await;
    assert!(many.iter().all(|limit| (18..=36).contains(limit)), "{many:?}");
}

/// A server that takes twice as long for each is not kept at the least for ever.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_slower_for_good_becomes_usual() {
    let stage = bounded(stage([own(Quota::per_second(1_000))]), InFlight::new().bounds(2, 12));
    let stage = stage.with(|pacer| pacer.max_waiting(100_000, 100_000));
    let millis = Arc::new(AtomicUsize::new(50));
    let time = millis.clone();
    let server = service_fn(move |()| {
        let time = Duration::from_millis(time.load(Relaxed) as u64);
        async move {
            time::sleep(time).await;
            Ok::<_, ()>(())
        }
    });
    let paced = judged(&stage).layer(server);
    for _ in 0..20_000 {
        tokio::spawn(paced.clone().oneshot(()));
    }
    seconds(&stage, 10).await;
    assert_eq!(stage.pacer.in_flight(), Some(12));
    millis.store(150, Relaxed);
    seconds(&stage, 3).await;
    assert!(stage.pacer.in_flight() < Some(6));
    seconds(&stage, 40).await;
    assert_eq!(stage.pacer.in_flight(), Some(12));
}
