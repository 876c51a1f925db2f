//! What is charged, where it is counted, and what is told.

use crate::stage::*;
use futures_util::FutureExt;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tidegate::{
    Charge, Event, Identity, Limit, Limiter, ManualClock, Op, PaceError, Pacer, Policy, Quota, Reading, Rule,
    Store, StoreError, StoreFuture,
};
use tokio::time;

#[tokio::test(start_paused = true)]
async fn trying_takes_it_or_says_when_to_come_back() {
    let stage = stage([own(Quota::per_second(100))]);
    let tries = |cost: u32| stage.pacer.try_take("a", cost).now_or_never().unwrap();
    assert!(tries(2).is_ok());
    let error = tries(1).unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_millis(20)));
    assert_eq!(error.retry_after_secs(), Some(1));
    stage.advance(20).await;
    stage.send("a", 1).await;
    stage.send("a", 1).await;
    stage.advance(5).await;
    // One waits for 5 ms more, and one takes 10 ms after it.
    assert_eq!(tries(1).unwrap_err().retry_after(), Some(Duration::from_millis(15)));
    assert!(matches!(tries(101).unwrap_err(), PaceError::TooLarge(_)));
    assert_eq!(tries(101).unwrap_err().retry_after(), None);
    stage.advance(5).await;
    assert_eq!(stage.times(), [20, 30]);
    let error = tries(1).unwrap_err();
    let response = http::Response::from(error);
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "1");
    assert!(String::from_utf8_lossy(response.body()).contains("\"violated-policies\":[\"own\"]"));
}

#[tokio::test(start_paused = true)]
async fn each_limit_has_a_cost_of_its_own_and_all_are_charged_or_none() {
    let stage = stage([own(Quota::per_second(10)), Limit::per_client("bytes", Quota::per_second(1_000))]);
    stage.pacer.until_ready("a", [("bytes", 300)]).await.unwrap();
    assert_eq!(stage.left("a"), [9, 700]);
    let error = stage.pacer.try_take("a", [("bytes", 2), ("own", 0)]).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_millis(300)), "bytes wait, requests would not");
    assert_eq!(stage.left("a"), [9, 700]);
    let unknown = stage.pacer.try_take("a", [("byte", 1)]).await.unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "no limit of the pacer is named \"byte\"; there are [\"own\", \"bytes\"]"
    );
    assert!(matches!(stage.pacer.until_ready("a", [("bytes", 1_001)]).await, Err(PaceError::TooLarge(_))));
}

#[tokio::test(start_paused = true)]
async fn lists_and_quotas_of_the_limiter_hold() {
    let clock = ManualClock::new();
    let rule = Rule::new("send").by_hand().limit(own(Quota::per_hour(1)));
    let policy = Policy::new().block(Identity::name("bad")).allow(Identity::name("good")).rule(rule);
    let limiter = Limiter::builder(policy).clock(clock.clone()).build().unwrap();
    let pacer = Pacer::on(&limiter, "send").unwrap();
    assert_eq!(
        Pacer::on(&limiter, "sent").unwrap_err().to_string(),
        "nothing is named \"sent\"; there are [\"send\"]"
    );
    assert!(matches!(pacer.try_take("bad", 1).await, Err(PaceError::Blocked)));
    for _ in 0..5 {
        pacer.try_take("good", 99).await.unwrap();
    }
    pacer.try_take("a", 1).await.unwrap();
    let waiting = tokio::spawn(pacer.until_ready("a", 1));
    settle().await;
    // A raise reaches those who wait.
    limiter.set_quota("own", Quota::per_second(1)).unwrap();
    for _ in 0..2_100 {
        clock.advance(Duration::from_millis(1));
        time::advance(Duration::from_millis(1)).await;
    }
    settle().await;
    waiting.now_or_never().unwrap().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_happens_is_told() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let (clock, out) = (ManualClock::new(), told.clone());
    let rule = Rule::new("send").by_hand().limit(own(Quota::per_second(100)));
    let limiter = Limiter::builder(Policy::new().rule(rule))
        .clock(clock.clone())
        .observe(move |event: &Event<'_>| {
            out.lock().unwrap().push(match event {
                Event::Allowed(_) => "allowed".to_owned(),
                Event::Waited { waited, .. } => format!("waited {waited:?}"),
                Event::Refused(occasion) => {
                    let wait = occasion.violated().next().unwrap().reading().retry_after();
                    format!("refused for {:?}", wait.unwrap())
                }
                other => format!("{other:?}"),
            });
        })
        .build()
        .unwrap();
    let pacer = Pacer::on(&limiter, "send").unwrap();
    pacer.try_take("a", 1).await.unwrap();
    pacer.try_take("a", 1).await.unwrap_err();
    let waiting = tokio::spawn(pacer.until_ready("a", 1));
    settle().await;
    clock.advance(Duration::from_millis(10));
    time::advance(Duration::from_millis(10)).await;
    waiting.await.unwrap().unwrap();
    assert_eq!(*told.lock().unwrap(), ["allowed", "refused for 10ms", "waited 10ms"]);
}

/// A store whose answers come later; it notes what it is asked.
#[derive(Clone)]
struct Remote(Arc<Mutex<Vec<Op>>>, bool);

impl Store for Remote {
    fn charge(&self, charges: Vec<Charge>) -> StoreFuture {
        let (ops, works) = (self.0.clone(), self.1);
        Box::pin(async move {
            time::sleep(Duration::from_millis(5)).await;
            ops.lock().unwrap().extend(charges.iter().map(|charge| charge.op));
            let answer = || if works { Ok(Reading::allowed(Duration::ZERO)) } else { Err("it is gone") };
            charges.iter().map(|_| answer().map_err(StoreError::new)).collect()
        })
    }

    fn settle(&self, charges: Vec<Charge>) {
        self.0.lock().unwrap().extend(charges.iter().map(|charge| charge.op));
    }
}

fn remote(works: bool) -> (Pacer, Arc<Mutex<Vec<Op>>>) {
    let store = Remote(Arc::default(), works);
    let rule = Rule::new("send").by_hand().limit(own(Quota::per_second(100)));
    let limiter = Limiter::builder(Policy::new().rule(rule)).store(store.clone()).build().unwrap();
    (Pacer::on(&limiter, "send").unwrap(), store.0)
}

#[tokio::test(start_paused = true)]
async fn a_remote_store_is_asked_and_its_failure_told() {
    let (pacer, ops) = remote(true);
    pacer.until_ready("a", 2).await.unwrap();
    assert_eq!(*ops.lock().unwrap(), [Op::Peek(2), Op::Take(2)]);
    let (pacer, _) = remote(false);
    let error = pacer.until_ready("a", 2).await.unwrap_err();
    assert_eq!(error.to_string(), "the store could not decide: it is gone");
    assert_eq!(http::Response::from(error).status(), 503);
}

/// Whoever leaves while the store decides has its charge given back, once the store has decided.
#[tokio::test(start_paused = true)]
async fn leaving_a_remote_store_gives_back() {
    let (pacer, ops) = remote(true);
    let task = tokio::spawn(pacer.until_ready("a", 2));
    time::sleep(Duration::from_millis(7)).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(pacer.waiting(), 0);
    time::sleep(Duration::from_millis(10)).await;
    let ops = ops.lock().unwrap();
    assert!(matches!(ops[..], [Op::Peek(2), Op::Take(2), Op::Give(_)]), "{ops:?}");
}
