//! What is sent together, when, in which order, and what becomes of it at the end.

use crate::stage::*;
use futures_util::FutureExt;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tidegate::{Batch, BatchPlan, Batches, Limit, PaceError, PushError, Quota};
use tokio::time;

/// The millisecond, the key and the items of each batch.
type Sent = Arc<Mutex<Vec<(u64, String, Vec<u32>)>>>;

const MILLI: Duration = Duration::from_millis(1);

fn limits() -> [Limit; 3] {
    [
        own(Quota::per_second(1_000)),
        Limit::per_client("records", Quota::per_second(1_000)),
        Limit::per_client("kibibytes", Quota::per_second(1_000)),
    ]
}

fn plan() -> BatchPlan {
    BatchPlan::new(3, 20 * MILLI).items_limit("records").bytes_limit("kibibytes", 1_024)
}

/// Batches that take so many milliseconds to send.
fn batches(stage: &Stage, plan: BatchPlan, millis: u32) -> (Batches<u32>, Sent) {
    let (sent, start) = (Sent::default(), stage.start);
    let log = sent.clone();
    let batches = Batches::new(stage.pacer.clone(), plan, move |batch: Batch<u32>| {
        let at = u64::try_from(start.elapsed().as_millis()).unwrap();
        log.lock().unwrap().push((at, batch.key, batch.items));
        time::sleep(millis * MILLI)
    });
    (batches, sent)
}

async fn push(batches: &Batches<u32>, key: &str, items: impl IntoIterator<Item = u32>) {
    for item in items {
        batches.push(key, item, 100).await.unwrap();
    }
    settle().await;
}

fn log(sent: &Sent) -> Vec<(u64, String, Vec<u32>)> {
    sent.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn a_batch_goes_when_it_is_full_or_its_first_item_has_waited() {
    let stage = stage(limits());
    let (batches, sent) = batches(&stage, plan(), 0);
    push(&batches, "a", [1, 2, 3, 4]).await;
    stage.advance(5).await;
    push(&batches, "a", [5]).await;
    assert_eq!(batches.pending(), 2);
    stage.advance(30).await;
    assert_eq!(log(&sent), [(0, "a".to_owned(), vec![1, 2, 3]), (20, "a".to_owned(), vec![4, 5])]);
    assert_eq!(batches.pending(), 0);
    assert_eq!(stage.left("a"), [1_000, 1_000, 1_000]);
}

#[tokio::test(start_paused = true)]
async fn bytes_fill_a_batch_and_what_is_too_large_goes_alone() {
    let stage = stage(limits());
    let (batches, sent) = batches(&stage, plan().max_bytes(10_000), 0);
    for (item, bytes) in [(1, 6_000), (2, 3_000), (3, 2_000), (4, 50_000), (5, 1)] {
        batches.push("a", item, bytes).await.unwrap();
    }
    stage.advance(200).await;
    let items: Vec<_> = log(&sent).into_iter().map(|(_, _, items)| items).collect();
    assert_eq!(items, [vec![1, 2], vec![3], vec![4], vec![5]]);
}

/// Fifty requests a second and a hundred records: whichever is tighter counts.
#[tokio::test(start_paused = true)]
async fn limits_on_requests_and_on_records_hold_together() {
    for (size, expected) in [(1, [0, 20, 40, 60]), (4, [0, 40, 80, 120])] {
        let stage = stage([own(Quota::per_second(50)), Limit::per_client("records", Quota::per_second(100))]);
        let plan = BatchPlan::new(size, MILLI).items_limit("records");
        let (batches, sent) = batches(&stage, plan, 0);
        push(&batches, "a", 0..size as u32 * 4).await;
        stage.advance(200).await;
        let times: Vec<u64> = log(&sent).into_iter().map(|(at, ..)| at).collect();
        assert_eq!(times, expected, "batches of {size}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_keeps_its_order_and_others_do_not_wait_for_it() {
    let stage = stage(limits());
    let (batches, sent) = batches(&stage, plan(), 50);
    push(&batches, "slow", 0..9).await;
    push(&batches, "other", 0..3).await;
    stage.advance(200).await;
    let slow: Vec<_> = log(&sent).into_iter().filter(|(_, key, _)| key == "slow").collect();
    let expected = [(0, vec![0, 1, 2]), (50, vec![3, 4, 5]), (100, vec![6, 7, 8])];
    assert_eq!(slow, expected.map(|(at, items)| (at, "slow".to_owned(), items)));
    assert!(log(&sent).contains(&(0, "other".to_owned(), vec![0, 1, 2])));
}

#[tokio::test(start_paused = true)]
async fn who_pushes_waits_for_room() {
    let stage = stage(limits());
    let (batches, sent) = batches(&stage, plan().max_pending(6), 10);
    push(&batches, "a", 0..6).await;
    assert!(batches.push("b", 0, 1).now_or_never().is_some(), "each key has room of its own");
    let pushing = batches.clone();
    let waiting = tokio::spawn(async move { pushing.push("a", 6, 1).await });
    settle().await;
    assert!(!waiting.is_finished());
    stage.advance(11).await;
    waiting.now_or_never().unwrap().unwrap().unwrap();
    stage.advance(100).await;
    assert_eq!(log(&sent).last().unwrap().2, [6]);
}

#[tokio::test(start_paused = true)]
async fn closing_sends_what_there_is() {
    let stage = stage(limits());
    let (batches, sent) = batches(&stage, plan(), 5);
    push(&batches, "a", 0..4).await;
    push(&batches, "b", 0..1).await;
    let closing = batches.clone();
    let closed = tokio::spawn(async move { closing.close(Duration::from_secs(1)).await });
    settle().await;
    assert_eq!(batches.push("a", 9, 1).await, Err(PushError::Closed));
    stage.advance(12).await;
    assert_eq!(closed.now_or_never().unwrap().unwrap(), 0);
    let mut sent: Vec<_> = log(&sent).into_iter().map(|(_, key, items)| (key, items)).collect();
    sent.sort();
    assert_eq!(
        sent,
        [("a", vec![0, 1, 2]), ("a", vec![3]), ("b", vec![0])].map(|(key, v)| (key.to_owned(), v))
    );
}

#[tokio::test(start_paused = true)]
async fn closing_ends_at_its_deadline() {
    let stage = stage([own(Quota::per_second(10))]);
    let (batches, sent) = batches(&stage, BatchPlan::new(2, MILLI), 150);
    push(&batches, "a", 0..8).await;
    let closing = batches.clone();
    let closed = tokio::spawn(async move { closing.close(200 * MILLI).await });
    settle().await;
    stage.advance(210).await;
    // The second batch is being sent, and goes on.
    assert_eq!(closed.now_or_never().unwrap().unwrap(), 6);
    assert_eq!(log(&sent).len(), 2);
    stage.advance(1_000).await;
    assert_eq!(log(&sent).len(), 2, "nothing more is sent");
    assert_eq!((batches.pending(), stage.pacer.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_rejected_is_diverted_and_counted() {
    let stage = stage([own(Quota::per_second(10)), Limit::per_client("records", Quota::per_second(2))]);
    let diverted = Arc::new(Mutex::new(Vec::new()));
    let spill = diverted.clone();
    let plan = BatchPlan::new(3, MILLI).items_limit("records");
    let batches = Batches::diverting(
        stage.pacer.clone(),
        plan,
        |_: Batch<u32>| std::future::ready(()),
        move |batch: Batch<u32>, error| {
            assert!(matches!(error, PaceError::TooLarge(_)), "{error}");
            spill.lock().unwrap().push(batch.items);
            std::future::ready(())
        },
    );
    push(&batches, "a", 0..4).await;
    stage.advance(5).await;
    assert_eq!(*diverted.lock().unwrap(), [[0, 1, 2]]);
    assert_eq!((batches.rejected(), batches.pending()), (3, 0));
}

/// A closure that panics loses its batch, and no other.
#[tokio::test(start_paused = true)]
async fn a_panic_costs_one_batch() {
    let stage = stage(limits());
    let (sent, log) = (Arc::new(Mutex::new(Vec::new())), Arc::new(()));
    let out = sent.clone();
    let batches = Batches::new(stage.pacer.clone(), plan(), move |batch: Batch<u32>| {
        let (out, _log) = (out.clone(), log.clone());
        async move {
            assert_ne!(batch.items[0], 0);
            out.lock().unwrap().extend(batch.items);
        }
    });
    push(&batches, "a", 0..6).await;
    stage.advance(50).await;
    assert_eq!(*sent.lock().unwrap(), [3, 4, 5]);
    assert_eq!(batches.close(MILLI).await, 0);
}
