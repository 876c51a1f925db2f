//! What only the response tells: statuses that count, refunds, costs that a header names, bytes of the body.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::*;
use futures_util::{FutureExt, stream};
use http::{Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, Empty, StreamBody};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tidegate::{Client, Identity, Limit, Limiter, Policy, Quota, Rule, Settle, ThrottleBody};
use tokio::sync::{Barrier, Notify};
use tower::{Layer, Service, ServiceExt, service_fn};

const PER_MINUTE: u64 = 10;

fn limit(settle: Settle) -> Limit {
    Limit::per_client("l", Quota::per_minute(PER_MINUTE)).settle(settle)
}

fn policy(limit: Limit) -> Policy {
    Policy::new().rule(Rule::new("r").limit(limit))
}

fn client(limiter: &Limiter) -> Client {
    limiter.client(&Identity::address([192, 0, 2, 1].into()))
}

async fn remaining(limiter: &Limiter) -> u32 {
    client(limiter).peek("r").await.unwrap().limits().next().unwrap().remaining()
}

/// Answers with the status that the path names.
fn by_path(limiter: &Limiter) -> impl App + use<> {
    app(&limiter.layer(), |request| reply(request.uri().path()[1..].parse().unwrap()))
}

#[tokio::test]
async fn only_the_statuses_that_count_are_charged() {
    let (limiter, clock) = build(policy(limit(Settle::count(|status| status == 401))));
    let app = by_path(&limiter);
    for _ in 0..3 * PER_MINUTE {
        assert_eq!(app.status(get("/200")).await, 200);
        assert_eq!(app.status(get("/500")).await, 500);
    }
    for _ in 0..PER_MINUTE {
        assert_eq!(app.status(get("/401")).await, 401);
    }
    assert_eq!(app.status(get("/200")).await, 429, "nobody knows yet how it would end");
    clock.advance(Duration::from_secs(6));
    assert_eq!(app.status(get("/200")).await, 200);
    assert_eq!(app.status(get("/401")).await, 401);
    assert_eq!(app.status(get("/401")).await, 429);
}

#[tokio::test]
async fn a_failure_of_the_server_is_refunded() {
    let settled = limit(Settle::refund(|status| status.is_server_error())).cost(4);
    let plain = Limit::per_client("plain", Quota::per_minute(20));
    let (limiter, _) = build(Policy::new().rule(Rule::new("r").limit(settled).limit(plain)));
    let app = by_path(&limiter);
    for _ in 0..5 {
        assert_eq!(app.status(get("/503")).await, 503);
    }
    assert_eq!(remaining(&limiter).await, 10);
    app.send(get("/404")).await;
    let peek = client(&limiter).peek("r").await.unwrap();
    assert_eq!(peek.limits().map(|limit| limit.remaining()).collect::<Vec<_>>(), [6, 14]);
}

#[tokio::test]
async fn the_fields_show_what_is_left_after_the_settlement() {
    let (limiter, _) = build(policy(limit(Settle::count(|status| status == 401))));
    let app = by_path(&limiter);
    let field = |answer: Answer| line(&answer, "ratelimit").unwrap().to_owned();
    assert_eq!(field(app.send(get("/200")).await), "\"l\";r=10");
    assert_eq!(field(app.send(get("/401")).await), "\"l\";r=9;t=6");
    assert_eq!(field(app.send(get("/200")).await), "\"l\";r=9;t=6");
}

#[tokio::test]
async fn a_response_header_names_the_cost() {
    let (limiter, _) = build(policy(limit(Settle::header("x-took")).cost(3)));
    let app = app(&limiter.layer(), |request| {
        let mut response = reply(200);
        for took in request.uri().query().unwrap_or_default().split('&').filter(|took| !took.is_empty()) {
            response.headers_mut().append("x-took", took.parse().unwrap());
        }
        response
    });
    let reset = || async { client(&limiter).reset("r").await.unwrap() };
    for (query, left) in [
        ("?1", 9),
        ("?0", 10),
        ("?3", 7),
        ("?7", 3),
        ("?10", 0),
        ("?4294967295", 0),
        ("", 7),
        ("?-1", 7),
        ("?+9", 7),
        ("?9.0", 7),
        ("?nine", 7),
        ("?4294967296", 7),
        ("?1&1", 7),
    ] {
        let answer = app.send(get(&format!("/{query}"))).await;
        assert_eq!(param(line(&answer, "ratelimit").unwrap(), "r"), Some(left), "{query}");
        assert_eq!(u64::from(remaining(&limiter).await), left, "{query}");
        reset().await;
    }
}

#[tokio::test]
async fn what_a_response_adds_is_debt_up_to_its_bound() {
    // A minute fills the burst of 10; debt is as much again, unless set.
    for (max_debt, owed) in [(None, 20), (Some(0), 10), (Some(3), 13), (Some(100), 110)] {
        let limit = limit(Settle::header("x-took"));
        let limit = max_debt.map_or(limit.clone(), |units| limit.max_debt(units));
        let (limiter, clock) = build(policy(limit));
        let app = app(&limiter.layer(), |_| {
            let mut response = reply(200);
            response.headers_mut().insert("x-took", "1000".parse().unwrap());
            response
        });
        assert_eq!(app.status(get("/")).await, 200);
        let refused = app.send(get("/")).await;
        let wait = 6 * (owed - PER_MINUTE + 1);
        assert_eq!(line(&refused, "retry-after"), Some(&*wait.to_string()), "{max_debt:?}");
        clock.advance(Duration::from_secs(wait - 1));
        assert_eq!(app.status(get("/")).await, 429);
        clock.advance(Duration::from_secs(1));
        assert_eq!(app.status(get("/")).await, 200);
    }
}

/// A body of `chunks` chunks of `size` bytes, all of them one piece of memory.
fn body(size: usize, chunks: usize) -> Response<Body> {
    let chunk = Bytes::from(vec![0; size]);
    let frames = (0..chunks).map(move |_| Ok::<_, Infallible>(Frame::data(chunk.clone())));
    Response::new(BodyExt::boxed(StreamBody::new(stream::iter(frames))))
}

async fn read(body: &mut ThrottleBody<Body>, frames: usize) {
    for _ in 0..frames {
        body.frame().await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_bytes_of_a_body_are_charged_in_grains_while_they_are_sent() {
    let (limiter, _) = build(policy(limit(Settle::body_bytes(1024))));
    let app = app(&limiter.layer(), |_| body(512, 9));
    let answer = app.send(get("/")).await;
    assert_eq!(remaining(&limiter).await, 9, "the first grain is reserved");
    let mut body = answer.into_body();
    for (frames, left) in [(1, 9), (1, 9), (1, 9), (1, 8), (2, 7), (3, 6)] {
        read(&mut body, frames).await;
        assert_eq!(remaining(&limiter).await, left);
    }
    assert!(body.frame().await.is_none());
    drop(body);
    assert_eq!(remaining(&limiter).await, 5, "4.5 KiB are 5 grains");
}

#[tokio::test]
async fn a_body_that_nobody_wants_to_the_end_costs_what_was_sent() {
    let (limiter, _) = build(policy(limit(Settle::body_bytes(1024)).cost(6)));
    let app = app(&limiter.layer(), |_| body(1024, 1000));
    let mut body = app.send(get("/")).await.into_body();
    assert_eq!(remaining(&limiter).await, 4);
    read(&mut body, 2).await;
    drop(body);
    assert_eq!(remaining(&limiter).await, 8, "2 grains were sent, and 4 of the 6 reserved are given back");
    drop(app.send(get("/")).await);
    assert_eq!(remaining(&limiter).await, 8, "nothing was sent");
}

#[tokio::test]
async fn an_empty_body_costs_nothing() {
    let (limiter, _) = build(policy(limit(Settle::body_bytes(1))));
    let app = app(&limiter.layer(), |_| Response::new(BodyExt::boxed(Empty::new())));
    let answer = app.send(get("/")).await;
    assert!(answer.body().is_end_stream());
    drop(answer);
    assert_eq!(remaining(&limiter).await, 10);
}

#[tokio::test]
async fn terabytes_are_counted() {
    const CHUNK: usize = 64 << 20;
    let quota = Quota::per_hour(1 << 30).burst(1 << 31);
    let limit = Limit::per_client("l", quota).settle(Settle::body_bytes(1024)).max_debt(u32::MAX);
    let (limiter, _) = build(policy(limit));
    let app = app(&limiter.layer(), |_| body(CHUNK, 65_536));
    let mut body = app.send(get("/")).await.into_body();
    read(&mut body, 32_767).await;
    assert_eq!(remaining(&limiter).await, (CHUNK / 1024) as u32, "2 TiB but a chunk");
    read(&mut body, 32_769).await;
    drop(body);
    let refused = app.send(get("/")).await;
    let wait: u64 = line(&refused, "retry-after").unwrap().parse().unwrap();
    // 2^32 grains are owed, 2^31 of them beyond the burst; they drain at 2^30 an hour.
    assert!((7_200..7_210).contains(&wait), "{wait} s");
}

#[tokio::test]
async fn the_body_itself_is_untouched() {
    let (limiter, _) = build(policy(limit(Settle::body_bytes(7))));
    let respond = |_| {
        let trailers = [("x-sum", "abc")].map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap()));
        let frames =
            [Frame::data(Bytes::from("twelve bytes")), Frame::trailers(trailers.into_iter().collect())];
        Response::new(BodyExt::boxed(StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)))))
    };
    let body = app(&limiter.layer(), respond).send(get("/")).await.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-sum"], "abc");
    assert_eq!(body.to_bytes(), "twelve bytes");
    assert_eq!(remaining(&limiter).await, 8);
}

#[tokio::test]
async fn without_a_response_a_request_stays_charged() {
    let (limiter, _) = build(policy(limit(Settle::count(|status| status == 401))));
    let pending = service_fn(|_| std::future::pending::<Result<Response<Body>, Infallible>>());
    let mut service = limiter.layer().layer(pending);
    let mut future = Box::pin(service.call(get("/")));
    assert!((&mut future).now_or_never().is_none());
    drop(future);
    assert_eq!(remaining(&limiter).await, 9, "dropped half-way");
    drop(service.call(get("/")));
    assert_eq!(remaining(&limiter).await, 8, "dropped before it was polled");

    let failing = service_fn(|_| std::future::ready(Err::<Response<Body>, _>("broken")));
    assert_eq!(limiter.layer().layer(failing).oneshot(get("/")).await.unwrap_err(), "broken");
    assert_eq!(remaining(&limiter).await, 7, "the service failed");
}

#[tokio::test]
async fn what_a_handler_refunded_is_not_given_back_again() {
    let (limiter, _) = build(policy(limit(Settle::count(|status| status == 401)).cost(2)));
    client(&limiter).charge("r").cost(4).await.unwrap();
    let handle = limiter.clone();
    let app = app(&limiter.layer().expose_decision(), move |request| {
        handle.refund(request.extensions().get::<Arc<tidegate::Decision>>().unwrap());
        reply(200)
    });
    app.send(get("/")).await;
    assert_eq!(remaining(&limiter).await, 6, "the 4 of before are still owed");
}

/// Requests in flight count, so a burst of guesses gets no further than guesses one by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_200_simultaneous_wrong_passwords_5_reach_the_handler() {
    const GUESSES: usize = 200;
    let limit =
        Limit::per_client("logins", Quota::per_minute(5)).settle(Settle::count(|status| status == 401));
    let (limiter, clock) = build(policy(limit));
    let (reached, answered, all) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    // Nothing in the handler ends before each request is either there or refused.
    let one_more = {
        let (answered, all) = (answered.clone(), all.clone());
        move || {
            if answered.fetch_add(1, SeqCst) + 1 == GUESSES {
                all.notify_waiters();
            }
        }
    };
    let handler = {
        let (reached, answered, all, one_more) =
            (reached.clone(), answered.clone(), all.clone(), one_more.clone());
        service_fn(move |_: Request<()>| {
            let (answered, all, one_more) = (answered.clone(), all.clone(), one_more.clone());
            reached.fetch_add(1, SeqCst);
            async move {
                let notified = all.notified();
                one_more();
                if answered.load(SeqCst) < GUESSES {
                    notified.await;
                }
                Ok::<_, Infallible>(reply(401))
            }
        })
    };
    let service = limiter.layer().layer(handler);
    let barrier = Arc::new(Barrier::new(GUESSES));
    let guesses: Vec<_> = (0..GUESSES)
        .map(|_| {
            let (service, barrier, one_more) = (service.clone(), barrier.clone(), one_more.clone());
            tokio::spawn(async move {
                barrier.wait().await;
                let status = service.oneshot(get("/login")).await.unwrap().status().as_u16();
                if status == 429 {
                    one_more();
                }
                status
            })
        })
        .collect();
    let mut statuses = Vec::new();
    for guess in guesses {
        statuses.push(guess.await.unwrap());
    }
    assert_eq!(reached.load(SeqCst), 5);
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 5);
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), GUESSES - 5);

    // The right password is refused like any other until the next unit comes, and then costs nothing.
    let app =
        app(&limiter.layer(), |request| reply(if request.uri().path() == "/right" { 200 } else { 401 }));
    assert_eq!(app.status(get("/right")).await, 429);
    clock.advance(Duration::from_secs(12));
    assert_eq!(app.admits(50, || get("/right")).await, 50);
    assert_eq!(app.status(get("/wrong")).await, 401);
    assert_eq!(app.status(get("/right")).await, 429);
}

/// A settlement of a request from before a change forgives what was owed since.
#[tokio::test]
async fn a_settlement_after_a_change_keeps_the_debt_bound_of_the_new_quota() {
    let (limiter, _) = build(policy(limit(Settle::header("x-took"))));
    let (open, opened) = tokio::sync::oneshot::channel::<()>();
    let first = Arc::new(std::sync::Mutex::new(Some(opened)));
    let mut app = limiter.layer().layer(service_fn(move |_: Request<()>| {
        let opened = first.lock().unwrap().take();
        async move {
            let mut response = reply(200);
            let slow = opened.is_some();
            response.headers_mut().insert("x-took", if slow { "0" } else { "1000" }.parse().unwrap());
            if let Some(opened) = opened {
                let _ = opened.await;
            }
            Ok::<Response<Body>, Infallible>(response)
        }
    }));
    let slow = app.call(get("/"));
    limiter.set_quota("l", Quota::per_minute(100)).unwrap();
    app.call(get("/")).await.unwrap();
    let owed =
        async || client(&limiter).peek("r").await.unwrap().limits().next().unwrap().reading().reset_after();
    assert_eq!(owed().await, Duration::from_secs(120), "a burst of 100 and as much debt");
    open.send(()).unwrap();
    slow.await.unwrap();
    assert_eq!(owed().await, Duration::from_millis(2 * 60_000 - 600), "one unit is given back, not 91");
}
