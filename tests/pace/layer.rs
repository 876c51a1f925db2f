//! The layer around services that are not over HTTP.

use crate::stage::*;
use futures_util::{FutureExt, future::join_all};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tidegate::{
    Breaker, Costs, Event, Feedback, Identity, Limiter, Outcome, PaceError, PaceLayer, Pacer, Policy,
    Priority, Quota, Rule, SendError,
};
use tokio::{task::JoinHandle, time};
use tower::{Layer, Service, ServiceExt, service_fn};

/// A topic, and how many records.
type Batch = (&'static str, u32);

fn layer(pacer: &Pacer) -> PaceLayer<Batch> {
    let layer = PaceLayer::new(pacer.clone(), |(topic, _): &Batch| Identity::name(*topic));
    layer.cost(|(_, records)| Costs::from(*records))
}

/// Nothing here takes longer.
async fn within<T>(task: JoinHandle<T>) -> T {
    time::timeout(Duration::from_secs(60), task).await.unwrap().unwrap()
}

/// Answers with the millisecond at which it was sent, unless there are no records.
fn producer() -> impl Service<Batch, Response = u128, Error = &'static str, Future: Send> + Clone {
    let start = time::Instant::now();
    service_fn(move |(_, records)| async move {
        if records == 0 { Err("nothing to send") } else { Ok(start.elapsed().as_millis()) }
    })
}

#[tokio::test(start_paused = true)]
async fn requests_wait_by_their_key_and_cost() {
    let stage = stage([own(Quota::per_second(100))]);
    let paced = layer(&stage.pacer).layer(producer());
    let sends = [("a", 2), ("a", 1), ("b", 5), ("a", 1), ("b", 1)];
    let answers = join_all(sends.map(|send| paced.clone().oneshot(send)));
    let answers = tokio::spawn(answers);
    settle().await;
    stage.advance(60).await;
    let answers: Vec<u128> = within(answers).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, [0, 20, 0, 30, 50]);
    let failed = paced.oneshot(("c", 0)).await.unwrap_err();
    assert_eq!(failed.into_inner().unwrap(), "nothing to send");
}

#[tokio::test(start_paused = true)]
async fn requests_are_rejected_at_once_or_after_the_longest_wait() {
    let stage = stage([own(Quota::per_second(100))]).with(|pacer| pacer.max_wait(Duration::from_millis(10)));
    let rejecting = layer(&stage.pacer).reject().layer(producer());
    let waiting = layer(&stage.pacer).layer(producer());
    rejecting.clone().oneshot(("a", 1)).await.unwrap();
    let error = rejecting.clone().oneshot(("a", 1)).now_or_never().unwrap().unwrap_err();
    let SendError::Paced(error) = error else { panic!("{error}") };
    assert_eq!(error.retry_after(), Some(Duration::from_millis(10)));
    let second = tokio::spawn(waiting.clone().oneshot(("a", 1)));
    settle().await;
    let third = waiting.oneshot(("a", 1)).now_or_never().unwrap();
    assert!(matches!(third, Err(SendError::Paced(PaceError::Limited(_)))));
    stage.advance(10).await;
    assert_eq!(within(second).await.unwrap(), 10);
}

#[tokio::test(start_paused = true)]
async fn what_is_rejected_is_diverted_with_its_reason() {
    let stage = stage([own(Quota::per_second(100))]);
    let spilled = Arc::new(Mutex::new(Vec::new()));
    let spill = spilled.clone();
    let layer = layer(&stage.pacer).reject().divert(move |batch: Batch, error: PaceError| {
        spill.lock().unwrap().push((batch, error.retry_after()));
        async move { if batch.1 > 100 { Err(SendError::Paced(error)) } else { Ok(999) } }
    });
    let paced = layer.layer(producer());
    assert_eq!(paced.clone().oneshot(("a", 1)).await.unwrap(), 0);
    assert_eq!(paced.clone().oneshot(("a", 2)).await.unwrap(), 999);
    assert!(matches!(paced.oneshot(("a", 101)).await, Err(SendError::Paced(PaceError::TooLarge(_)))));
    let spilled = spilled.lock().unwrap();
    assert_eq!(*spilled, [(("a", 2), Some(Duration::from_millis(10))), (("a", 101), None)]);
}

#[tokio::test(start_paused = true)]
async fn watching_sends_everything_and_tells_what_would_have_been() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let out = told.clone();
    for by_rule in [false, true] {
        let out = out.clone();
        let rule = Rule::new("send").by_hand().limit(own(Quota::per_second(100)));
        let rule = if by_rule { rule.shadow() } else { rule };
        let observe = move |event: &Event<'_>| {
            out.lock().unwrap().push(match event {
                Event::Allowed(_) => "allowed".to_owned(),
                Event::ShadowWaited { wait, .. } => format!("would wait {wait:?}"),
                Event::ShadowRefused(occasion) => {
                    format!("would be refused: {}", occasion.violated().count())
                }
                other => format!("{other:?}"),
            });
        };
        let limiter = Limiter::builder(Policy::new().rule(rule)).clock(Default::default());
        let limiter = limiter.observe(observe).build().unwrap();
        let pacer = Pacer::on(&limiter, "send").unwrap().max_wait(Duration::from_millis(30));
        let pacer = if by_rule { pacer } else { pacer.shadow() };
        let paced = layer(&pacer).layer(producer());
        for records in [1, 2, 1, 1, 101] {
            let answer = paced.clone().oneshot(("a", records)).now_or_never().unwrap();
            assert_eq!(answer.unwrap(), 0);
        }
        let told = std::mem::take(&mut *told.lock().unwrap());
        let expected = ["allowed", "would wait 10ms", "would wait 30ms", "would be refused: 1"];
        assert_eq!(told[..4], expected);
        assert_eq!(told[4..], ["would be refused: 1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_mistake_is_told_while_watching_too() {
    let stage = stage([own(Quota::per_second(100))]).with(Pacer::shadow);
    let layer = layer(&stage.pacer).cost(|_| Costs::from([("owned", 1)]));
    let answer = layer.layer(producer()).oneshot(("a", 1)).await;
    assert!(matches!(answer, Err(SendError::Paced(PaceError::UnknownLimit { .. }))));
}

/// A service that insists on being called only when it was polled ready itself.
struct Strict(bool, Arc<AtomicUsize>);

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self(false, self.1.clone())
    }
}

impl Service<Batch> for Strict {
    type Response = u128;
    type Error = &'static str;
    type Future = std::future::Ready<Result<u128, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        self.0 = true;
        self.1.fetch_add(1, Relaxed);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Batch) -> Self::Future {
        assert!(std::mem::take(&mut self.0), "called without being ready");
        std::future::ready(Ok(0))
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_that_was_polled_ready_goes_along() {
    let stage = stage([own(Quota::per_second(100))]);
    let polled = Arc::new(AtomicUsize::new(0));
    let mut paced = layer(&stage.pacer).layer(Strict(false, polled.clone()));
    let mut sends = Vec::new();
    for _ in 0..3 {
        sends.push(tokio::spawn(paced.ready().await.unwrap().call(("a", 1))));
        settle().await;
    }
    assert_eq!(stage.pacer.waiting(), 2);
    stage.advance(20).await;
    for send in sends {
        within(send).await.unwrap();
    }
    assert_eq!(polled.load(Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_request_is_not_sent() {
    let stage = stage([own(Quota::per_second(100))]);
    let paced = layer(&stage.pacer).layer(producer());
    paced.clone().oneshot(("a", 1)).await.unwrap();
    let dropped = tokio::spawn(paced.clone().oneshot(("a", 50)));
    settle().await;
    let next = tokio::spawn(paced.oneshot(("a", 1)));
    settle().await;
    dropped.abort();
    settle().await;
    stage.advance(10).await;
    assert_eq!(within(next).await.unwrap(), 10);
}

/// What a layer makes of answers goes to its pacer, with the time that they took.
#[tokio::test(start_paused = true)]
async fn answers_are_judged() {
    let (stage, told) = told([own(Quota::per_second(1_000))], |event| match event {
        Event::Answered { took, refused, error } => Some(format!("{took:?} {refused} {error:?}")),
        Event::Diverted => Some("diverted".to_owned()),
        Event::BreakerOpened { error, .. } => Some(format!("opened by {error}")),
        _ => None,
    });
    let stage =
        stage.with(|pacer| pacer.feedback(Feedback::new().breaker(Breaker::new().budget(2))).unwrap());
    let clock = stage.clock.clone();
    let slow = service_fn(move |(_, records): Batch| {
        clock.advance(Duration::from_millis(records.into()));
        async move { if records > 10 { Err("too many") } else { Ok(u128::from(records)) } }
    });
    let paced = layer(&stage.pacer)
        .cost(|_| Costs::from(1))
        .reject()
        .judge(|answer: Result<&u128, &&str>| match answer {
            Ok(0) => Outcome::refused(),
            Ok(_) => Outcome::done(),
            Err(_) => Outcome::failed("broken"),
        })
        .divert(|_: Batch, _: PaceError| async { Ok(0) })
        .layer(slow);
    for (records, expected) in [(5, Ok(5)), (0, Ok(0)), (11, Err(())), (12, Err(())), (1, Ok(0))] {
        let answer = paced.clone().oneshot(("a", records)).now_or_never().unwrap();
        assert_eq!(answer.map_err(drop), expected);
        stage.advance(1).await;
    }
    let expected = [
        "Some(5ms) false None",
        "Some(0ns) true None",
        "Some(11ms) false Some(\"broken\")",
        "Some(12ms) false Some(\"broken\")",
        "opened by broken",
        "diverted",
    ];
    assert_eq!(*told.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn urgent_requests_overtake() {
    let stage = stage([own(Quota::per_second(100))]);
    let layer = layer(&stage.pacer)
        .cost(|_| Costs::from(1))
        .priority(|(_, records)| if *records > 1 { Priority::High } else { Priority::Low });
    let paced = layer.layer(producer());
    let sends = [1, 1, 2].map(|records| tokio::spawn(paced.clone().oneshot(("a", records))));
    settle().await;
    stage.advance(20).await;
    let mut at = Vec::new();
    for send in sends {
        at.push(within(send).await.unwrap());
    }
    assert_eq!(at, [0, 20, 10]);
}
