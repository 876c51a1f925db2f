//! What is sent again, and when.

use crate::stage::*;
use http::{Method, Request, Response};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tidegate::{Backoff, Event, Quota, Retry};
use tokio::time::Instant;
use tower::{
    Layer, ServiceExt,
    retry::{RetryLayer, budget::Budget},
    service_fn,
};

/// The milliseconds at which a request was sent to a service that always gives this answer, and no longer than 300 s.
async fn sent(retry: Retry<&'static str>, method: Method, answer: &[(&'static str, &str)]) -> Vec<u64> {
    let (times, start) = (Arc::new(Mutex::new(Vec::new())), Instant::now());
    let (log, answer) =
        (times.clone(), answer.iter().map(|(k, v)| (*k, (*v).to_owned())).collect::<Vec<_>>());
    let service = RetryLayer::new(retry).layer(service_fn(move |_: Request<()>| {
        log.lock().unwrap().push(u64::try_from(start.elapsed().as_millis()).unwrap());
        let mut response = Response::builder();
        let mut failed = false;
        for (name, value) in &answer {
            match *name {
                "status" => response = response.status(value.as_str()),
                "error" => failed = true,
                name => response = response.header(name, value),
            }
        }
        let answer = if failed { Err("broken") } else { Ok(response.body(()).unwrap()) };
        async move { answer }
    }));
    let request = Request::builder().method(method).body(()).unwrap();
    let _ = tokio::time::timeout(Duration::from_secs(300), service.oneshot(request)).await.unwrap();
    times.lock().unwrap().clone()
}

/// Without backoff, so that waits are what was told.
fn exact() -> Retry<&'static str> {
    Retry::new().backoff(Duration::ZERO, Duration::ZERO).max_time(Duration::from_secs(200)).tries(2)
}

#[tokio::test(start_paused = true)]
async fn what_counts_is_tried_again_as_often_as_may_be() {
    for (status, method, times) in [
        ("429", Method::POST, 3),
        ("503", Method::GET, 3),
        ("503", Method::POST, 1),
        ("500", Method::GET, 1),
        ("200", Method::GET, 1),
    ] {
        let retry = exact().tries(3);
        assert_eq!(sent(retry, method, &[("status", status)]).await.len(), times, "{status}");
    }
    assert_eq!(sent(exact(), Method::PUT, &[("error", "")]).await.len(), 2);
    assert_eq!(sent(exact(), Method::POST, &[("error", "")]).await.len(), 1);
    assert_eq!(sent(exact().errors(|_, _| true), Method::POST, &[("error", "")]).await.len(), 2);
    let teapot = exact().statuses(|_, status| status.as_u16() == 418);
    assert_eq!(sent(teapot, Method::POST, &[("status", "418")]).await.len(), 2);
    assert_eq!(sent(exact().tries(0), Method::GET, &[("status", "429")]).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_an_answer_says_is_obeyed() {
    let date = ("date", "Fri, 20 Nov 2026 19:16:10 GMT");
    for (field, value, seconds) in [
        ("retry-after", "7", Some(7)),
        ("retry-after", "Fri, 20 Nov 2026 19:16:25 GMT", Some(15)),
        ("retry-after", "Fri, 20 Nov 2026 19:16:05 GMT", Some(0)),
        ("retry-after", "soon", Some(0)),
        ("retry-after", "-5", Some(0)),
        ("ratelimit", "\"a\";r=0;t=9", Some(9)),
        ("ratelimit", "\"a,\\\";r=0;t=50\";r=3;t=20, \"b\";t=4;r=0", Some(4)),
        ("ratelimit", "\"a\";r=0;t=5, \"b\";r=0;t=11", Some(11)),
        ("ratelimit", "\"a\";r=0;t=x, ;;=, \"", Some(0)),
        // Too long to wait for.
        ("retry-after", "61", None),
        ("retry-after", "99999999999999999999999999", None),
        ("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT", None),
        ("ratelimit", "\"a\";r=0;t=18446744073709551615", None),
    ] {
        let times = sent(exact(), Method::GET, &[("status", "429"), date, (field, value)]).await;
        let expected: Vec<u64> = [Some(0), seconds].into_iter().flatten().map(|s| s * 1_000).collect();
        assert_eq!(times.len(), expected.len(), "{field}: {value}");
        assert!(
            times.iter().zip(&expected).all(|(at, due)| (*due..=due + 2).contains(at)),
            "{value}: {times:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn tries_end_with_the_time_and_with_the_budget() {
    let answer = [("status", "429"), ("retry-after", "10")];
    let retry = exact().tries(100).max_time(Duration::from_secs(35));
    assert_eq!(sent(retry, Method::GET, &answer).await.len(), 4);

    struct Purse(Mutex<u32>);
    impl Budget for Purse {
        fn deposit(&self) {}
        fn withdraw(&self) -> bool {
            let mut left = self.0.lock().unwrap();
            let paid = *left > 0;
            *left = left.saturating_sub(1);
            paid
        }
    }
    let retry = exact().tries(100).budget(Purse(Mutex::new(3)));
    assert_eq!(sent(retry.clone(), Method::GET, &[("status", "429")]).await.len(), 4);
    assert_eq!(sent(retry, Method::GET, &[("status", "429")]).await.len(), 1, "clones share it");
}

/// Full jitter: evenly spread from nothing to the backoff, which doubles up to its longest.
#[tokio::test(start_paused = true)]
async fn backoffs_are_spread_over_their_whole_range() {
    let unbounded = || {
        struct Rich;
        impl Budget for Rich {
            fn deposit(&self) {}
            fn withdraw(&self) -> bool {
                true
            }
        }
        let millis = Duration::from_millis;
        Retry::new().budget(Rich).backoff(millis(1_000), millis(3_000)).tries(4)
    };
    let mut counts = [[0u32; 4]; 3];
    for _ in 0..1_000 {
        let times = sent(unbounded(), Method::GET, &[("status", "503")]).await;
        for (number, (pair, most)) in times.windows(2).zip([1_000, 2_000, 3_000]).enumerate() {
            let wait = pair[1] - pair[0];
            assert!(wait <= most + 2, "{wait} of {most}");
            counts[number][(wait * 4 / most).min(3) as usize] += 1;
        }
    }
    // Of 1,000, a quarter each; six standard deviations are 82.
    assert!(counts.iter().flatten().all(|count| (168..=332).contains(count)), "{counts:?}");
    for _ in 0..100 {
        let times = sent(unbounded().decorrelated(), Method::GET, &[("status", "503")]).await;
        assert!(times.windows(2).all(|pair| (1_000..=3_002).contains(&(pair[1] - pair[0]))), "{times:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn retries_and_what_is_given_up_are_told() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let out = told.clone();
    let observe = move |event: &Event<'_>| {
        out.lock().unwrap().push(match event {
            Event::Retried { next, wait } => format!("try {next} after {wait:?}"),
            Event::GivenUp { tries, reason } => format!("given up after {tries}: {reason}"),
            other => format!("{other:?}"),
        });
    };
    let retry = exact().tries(3).observe(observe);
    sent(retry.clone(), Method::GET, &[("status", "429"), ("retry-after", "2")]).await;
    sent(retry.clone(), Method::GET, &[("status", "429"), ("retry-after", "61")]).await;
    sent(
        retry.clone().max_time(Duration::from_secs(1)),
        Method::GET,
        &[("status", "429"), ("retry-after", "2")],
    )
    .await;
    sent(retry, Method::POST, &[("status", "503")]).await;
    let expected = [
        "try 2 after 2s",
        "try 3 after 2s",
        "given up after 3: no tries are left",
        "given up after 1: the answer asks for too long a wait",
        "given up after 1: no time is left",
    ];
    assert_eq!(*told.lock().unwrap(), expected);
}

/// A signal makes backoffs longer, up to the longest.
#[tokio::test(start_paused = true)]
async fn backoffs_are_stretched() {
    let seconds = Duration::from_secs;
    for (times, low, high) in
        [(1.0, 1_000, 3_000), (4.0, 4_000, 10_000), (0.0, 0, 0), (f64::NAN, 1_000, 3_000)]
    {
        let retry =
            Retry::new().decorrelated().backoff(seconds(1), seconds(10)).stretch(move || times).tries(2);
        for _ in 0..20 {
            let sent = sent(retry.clone().max_time(seconds(100)), Method::GET, &[("status", "429")]).await;
            assert!((low..=high + 2).contains(&(sent[1] - sent[0])), "{sent:?} at {times}");
        }
    }
}

/// A thousand clients that failed together do not return together: of the first backoff's second, no tenth has more than a
/// sixth of them.
#[tokio::test(start_paused = true)]
async fn a_thousand_clients_do_not_return_in_step() {
    let mut tenths = [0u32; 11];
    for _ in 0..1_000 {
        let retry = Retry::new().backoff(Duration::from_secs(1), Duration::from_secs(1)).tries(2);
        let times = sent(retry, Method::GET, &[("status", "503")]).await;
        tenths[((times[1] - times[0]) / 100) as usize] += 1;
    }
    // Of 1,000, 100 in each; six standard deviations are 57.
    assert!(tenths.iter().all(|count| *count <= 157), "{tenths:?}");
}

/// A loop of its own: each wait is told, within what its number allows, and after a reset it starts anew.
#[tokio::test(start_paused = true)]
async fn loops_back_off_too() {
    let note = |event: &Event<'_>| match event {
        Event::Retried { next, wait } => Some(format!("{next} {}", wait.as_nanos())),
        _ => None,
    };
    let (stage, told) = told([own(Quota::per_second(1))], note);
    let (millis, mut longest) = (Duration::from_millis, [Duration::ZERO; 4]);
    for _ in 0..200 {
        let mut backoff = Backoff::new(millis(100), millis(300));
        for (number, most) in [100, 200, 300, 300].into_iter().enumerate() {
            let start = Instant::now();
            stage.pacer.back_off(&mut backoff).await;
            assert!(start.elapsed() <= millis(most + 2), "{number}");
            longest[number] = longest[number].max(start.elapsed());
        }
        assert_eq!(backoff.drawn(), 4);
        backoff.reset();
        assert!(backoff.draw() <= millis(100));
    }
    // Of 200, none in the last fifth has odds of 1 to 10^19.
    assert!(longest.iter().zip([80, 160, 240, 240]).all(|(longest, least)| *longest > millis(least)));
    let told = told.lock().unwrap();
    let tries: Vec<&str> = told.iter().filter_map(|line| line.split(' ').next()).collect();
    assert!(tries.chunks(4).all(|tries| tries == ["2", "3", "4", "5"]), "{tries:?}");
}
