//! A sender behind a limited gateway: it gets what the gateway admits, and is not refused.

use crate::stage::*;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tidegate::{
    Event, Feedback, Identity, Limiter, ManualClock, PaceLayer, Pacer, Policy, Quota, Retry, Rule, SendError,
};
use tokio::time;
use tower::{Layer, Service, ServiceExt, retry::RetryLayer, service_fn};

/// A gateway with a quota for each client, and how many requests it has refused.
fn gateway(
    clock: ManualClock,
    quota: Quota,
) -> (
    impl Service<Request<()>, Response = Response<impl Send>, Error = Infallible, Future: Send> + Clone,
    Arc<AtomicUsize>,
) {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = refused.clone();
    let limiter = Limiter::builder(Policy::per_client(quota))
        .clock(clock)
        .observe(move |event: &Event<'_>| {
            count.fetch_add(usize::from(matches!(event, Event::Refused(_))), Relaxed);
        })
        .build()
        .unwrap();
    let service = service_fn(|_: Request<()>| async { Ok(Response::new(Full::<Bytes>::default())) });
    (limiter.layer().layer(service), refused)
}

/// A sender that may send 1,000 a second, as far as it knows, and counts what was done.
fn sender<S, B>(clock: &ManualClock, gateway: S) -> Arc<AtomicUsize>
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Send + 'static,
{
    let rule = Rule::new("send").by_hand().limit(all(Quota::per_second(1_000)));
    let limiter = Limiter::builder(Policy::new().rule(rule)).clock(clock.clone()).build().unwrap();
    let pacer = Pacer::on(&limiter, "send").unwrap().feedback(Feedback::new()).unwrap();
    let pace = PaceLayer::new(pacer, |_: &Request<()>| Identity::name("gateway")).judge_answers();
    let retry = RetryLayer::new(Retry::<SendError<Infallible>>::new());
    let service = retry.layer(pace.layer(gateway));
    let done = Arc::new(AtomicUsize::new(0));
    for _ in 0..10 {
        let (service, done) = (service.clone(), done.clone());
        tokio::spawn(async move {
            loop {
                let answer = service.clone().oneshot(Request::new(())).await.unwrap();
                done.fetch_add(usize::from(answer.status() == StatusCode::OK), Relaxed);
            }
        });
    }
    done
}

async fn seconds(clock: &ManualClock, seconds: u32) {
    for _ in 0..seconds * 200 {
        clock.advance(Duration::from_millis(5));
        time::advance(Duration::from_millis(5)).await;
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_sender_behind_a_gateway_is_neither_starved_nor_refused() {
    for quota in [Quota::per_second(100), Quota::per_second(100).burst(20), Quota::per_minute(6_000)] {
        let clock = ManualClock::new();
        let (gateway, refused) = gateway(clock.clone(), quota);
        let done = sender(&clock, gateway);
        seconds(&clock, 5).await;
        let (before, starts) = (done.load(Relaxed), refused.load(Relaxed));
        seconds(&clock, 20).await;
        let (done, refused) = (done.load(Relaxed) - before, refused.load(Relaxed) - starts);
        assert_eq!(refused, 0, "{quota}");
        assert!(done >= 1_700, "{done} of 2,000 at {quota}");
    }
}

/// Two that do not know of one another share what the gateway admits.
#[tokio::test(start_paused = true)]
async fn senders_share_what_a_gateway_admits() {
    let clock = ManualClock::new();
    let (gateway, refused) = gateway(clock.clone(), Quota::per_second(100));
    let senders = [sender(&clock, gateway.clone()), sender(&clock, gateway)];
    seconds(&clock, 5).await;
    let before = senders.each_ref().map(|done| done.load(Relaxed));
    let starts = refused.load(Relaxed);
    seconds(&clock, 20).await;
    let done = [senders[0].load(Relaxed) - before[0], senders[1].load(Relaxed) - before[1]];
    assert!(done.iter().all(|done| *done >= 800), "{done:?}");
    assert!(refused.load(Relaxed) - starts <= 20, "{refused:?}");
}
