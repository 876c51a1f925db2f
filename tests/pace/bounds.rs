//! Who leaves, who may not wait, and for how long.

use crate::stage::*;
use std::time::Duration;
use tidegate::{PaceError, Quota};

#[tokio::test(start_paused = true)]
async fn leaving_cancels_and_takes_nothing() {
    let stage = stage([own(Quota::per_second(100)), all(Quota::per_second(100))]);
    stage.send("a", 1).await;
    let head = stage.send("a", 50).await;
    let behind = stage.send("a", 7).await;
    let other = stage.send("b", 30).await;
    stage.send("a", 1).await;
    assert_eq!(stage.pacer.waiting(), 4);
    stage.advance(3).await;
    for task in [behind, head, other] {
        task.abort();
        settle().await;
    }
    assert_eq!(stage.pacer.waiting(), 1);
    stage.advance(20).await;
    assert_eq!(stage.times(), [0, 10]);
    stage.advance(10).await;
    assert_eq!((stage.left("a"), stage.left("b")), (vec![100, 100], vec![100, 100]));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_can_be_given_back() {
    let stage = stage([own(Quota::per_second(100))]);
    let decision = stage.pacer.until_ready("a", 10).await.unwrap();
    assert_eq!(stage.left("a"), [90]);
    stage.pacer.refund(&decision);
    stage.pacer.refund(&decision);
    assert_eq!(stage.left("a"), [100]);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_the_longest_wait() {
    let stage = stage([own(Quota::per_second(100))]).with(|pacer| pacer.max_wait(Duration::from_millis(25)));
    for _ in 0..5 {
        stage.send("a", 1).await;
    }
    // Whose turn comes after 30 and 40 ms is told so at once.
    assert_eq!(stage.keys(), ["a", "!a", "!a"]);
    let error = stage.pacer.until_ready("a", 1).await.unwrap_err();
    assert_eq!((error.retry_after(), error.status().as_u16()), (Some(Duration::from_millis(30)), 429));
    stage.advance(30).await;
    assert_eq!(stage.times(), [0, 0, 0, 10, 20]);
}

/// Who cannot know it beforehand, because others go first, is rejected when it is known, or when the time is over.
#[tokio::test(start_paused = true)]
async fn the_longest_wait_holds_for_turns_too() {
    let stage = stage([all(Quota::per_second(10))]).with(|pacer| pacer.max_wait(Duration::from_millis(250)));
    for (key, cost) in [("a", 1), ("y", 2), ("x", 9)] {
        stage.send(key, cost).await;
    }
    stage.advance(90).await;
    stage.send("z", 1).await;
    stage.advance(100).await;
    stage.send("w", 1).await;
    stage.advance(300).await;
    let expected = [("a", 0), ("z", 100), ("y", 200), ("!x", 250), ("w", 400)];
    assert_eq!(stage.log(), expected.map(|(key, at)| (key.to_owned(), at)));
    for key in ["a", "b", "c", "d"] {
        stage.send(key, 1).await;
    }
    stage.advance(300).await;
    let expected = [("a", 500), ("b", 600), ("c", 700), ("!d", 700)];
    assert_eq!(stage.log()[5..], expected.map(|(key, at)| (key.to_owned(), at)));
    assert_eq!(stage.pacer.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn no_more_wait_than_may() {
    let stage = stage([own(Quota::per_second(100))]).with(|pacer| pacer.max_waiting(2, 3));
    for key in ["a", "a", "a", "a", "b", "b", "b", "c", "c"] {
        stage.send(key, 1).await;
    }
    assert_eq!(stage.keys(), ["a", "!a", "b", "!b", "c", "!c"]);
    let error = stage.pacer.until_ready("a", 1).await.unwrap_err();
    assert!(matches!(error, PaceError::Full(_)));
    assert_eq!(error.retry_after(), Some(Duration::from_millis(30)));
    assert_eq!(error.to_string(), "too many are waiting: own (100/second); try again in 30ms");
    stage.advance(20).await;
    assert_eq!(stage.keys().len(), 9);

    let none = stage.with(|pacer| pacer.max_waiting(0, 0));
    assert!(none.pacer.until_ready("z", 1).await.is_ok());
    assert!(matches!(none.pacer.until_ready("z", 1).await, Err(PaceError::Full(_))));
}
