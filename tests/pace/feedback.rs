//! A pacer slows down by what it hears of the other side.

use crate::stage::*;
use http::Response;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tidegate::{Aimd, Event, Feedback, Identity, Outcome, PaceError, PaceLayer, Pacer, Quota, Signals};
use tokio::time;
use tower::{Layer, ServiceExt, service_fn};

fn listening(stage: Stage, feedback: Feedback) -> Stage {
    stage.with(|pacer| pacer.feedback(feedback).unwrap())
}

fn plain() -> Stage {
    listening(stage([own(Quota::per_second(100))]), Feedback::new())
}

async fn send(stage: &Stage, sends: usize) {
    for _ in 0..sends {
        stage.send("a", 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_remains_is_spread_over_its_time() {
    let stage = plain();
    send(&stage, 10).await;
    stage.advance(5).await;
    stage.pacer.report(&Outcome::done().remaining(50, Duration::from_secs(1)));
    stage.advance(75).await;
    assert_eq!(stage.times(), [0, 10, 30, 50, 70]);
    // More than the quota makes nothing faster.
    stage.pacer.report(&Outcome::done().remaining(5_000, Duration::from_secs(1)));
    stage.advance(50).await;
    assert_eq!(stage.times()[5..], [90, 100, 110, 120, 130]);
    // When the time is over, nothing is known any more.
    send(&stage, 3).await;
    stage.pacer.report(&Outcome::done().remaining(1, Duration::from_millis(35)));
    stage.advance(100).await;
    assert_eq!(stage.times().len(), 13);
}

#[tokio::test(start_paused = true)]
async fn answers_over_http_tell() {
    let answer = |status: u16, fields: &[(&str, &str)]| {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        Outcome::answer(&response.body(()).unwrap())
    };
    let seconds = Duration::from_secs;
    assert_eq!(answer(200, &[]), Outcome::done());
    assert_eq!(answer(404, &[]), Outcome::done());
    assert_eq!(answer(429, &[("retry-after", "3")]), Outcome::refused().pause(seconds(3)));
    assert_eq!(answer(500, &[]), Outcome::failed("500"));
    assert_ne!(answer(503, &[]), Outcome::failed("503"), "it is refused too");
    let fields = [
        ("ratelimit", "\"a\";r=50;t=10, \"b;,\";t=5;r=0"),
        ("ratelimit-policy", "\"b;,\";q=10;w=60"),
        ("ratelimit-policy", "\"c\";q=1;w=1, \"a\";q=3;w=9;qu=\"content-bytes\""),
    ];
    let told = format!("{:?}", answer(200, &fields));
    for part in ["units: 50, reset: 10s, quota: None", "units: 0, reset: 5s, quota: Some((10, 60s))"] {
        assert!(told.contains(part), "{told}");
    }
    for broken in ["\"a\";r=5", "\"a\";r=x;t=1", ";;;", "\"a\";r=99999999999999999999;t=1"] {
        assert_eq!(answer(200, &[("ratelimit", broken)]), Outcome::done(), "{broken}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttle_time_is_obeyed_up_to_a_bound() {
    let stage = plain();
    send(&stage, 3).await;
    stage.pacer.pause(Duration::from_millis(45));
    stage.pacer.pause(Duration::from_millis(20));
    stage.advance(60).await;
    assert_eq!(stage.times(), [0, 45, 55]);
    stage.pacer.report(&Outcome::refused().pause(Duration::MAX));
    let error = stage.pacer.try_take("a", 1).await.unwrap_err();
    assert_eq!(error.to_string(), "the other side asked for a pause; try again in 60s");
    assert!(matches!(error, PaceError::Paused { .. }));
    stage.pacer.report(&Outcome::done().remaining(1, Duration::MAX));
    stage.clock.advance(Duration::from_secs(60));
    assert!(stage.pacer.try_take("a", 1).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn rules_make_a_factor_of_signals() {
    let feedback = Feedback::new()
        .signal("broker_ms", 10.0, Duration::from_secs(10))
        .signal("backlog", 0.0, Duration::from_secs(10))
        .rule(|signals: &Signals| if signals.get("broker_ms") > Some(200.0) { 0.5 } else { 1.0 })
        .rule(|signals: &Signals| 1.0 - signals.get("backlog").unwrap_or(0.0) / 1_000.0)
        .rule(|_: &Signals| f64::NAN);
    let stage = listening(stage([own(Quota::per_second(100))]), feedback);
    assert_eq!(stage.pacer.factor(), 1.0);
    stage.pacer.signal("broker_ms", 350.0).unwrap();
    send(&stage, 4).await;
    stage.advance(45).await;
    assert_eq!(stage.times(), [0, 20, 40], "half as fast");
    stage.pacer.signal("backlog", 600.0).unwrap();
    assert_eq!(stage.pacer.factor(), 0.2);
    stage.pacer.signal("backlog", 5_000.0).unwrap();
    assert_eq!(stage.pacer.factor(), 0.01, "the floor");
    stage.pacer.signal("backlog", f64::NAN).unwrap();
    assert_eq!(stage.pacer.factor(), 0.5);
    let unknown = stage.pacer.signal("lag", 1.0).unwrap_err();
    assert_eq!(unknown.to_string(), "nothing is named \"lag\"; there are [\"backlog\", \"broker_ms\"]");
}

/// Fresh for ten seconds, and the default after twenty.
#[tokio::test(start_paused = true)]
async fn stale_signals_go_over_to_their_default() {
    let feedback = Feedback::new().signal("lag", 100.0, Duration::from_secs(10));
    let stage = listening(stage([own(Quota::per_second(100))]), feedback);
    stage.pacer.signal("lag", 500.0).unwrap();
    for (seconds, expected) in [(10, 500.0), (2, 420.0), (3, 300.0), (4, 140.0), (1, 100.0), (100, 100.0)] {
        stage.clock.advance(Duration::from_secs(seconds));
        assert_eq!(stage.pacer.signals().get("lag"), Some(expected));
    }
    assert_eq!(stage.pacer.signals().get("gal"), None);
}

#[tokio::test(start_paused = true)]
async fn a_factor_starts_low_ramps_and_shrinks() {
    let feedback = Feedback::new().bounds(0.05, 0.8).adapt(Aimd::new().start(0.2).step(0.1).shrink(0.8));
    let stage = listening(stage([own(Quota::per_second(100))]), feedback);
    send(&stage, 700).await;
    // A second with a hundred answers, so many of them bad.
    let second = async |bad: usize, outcome: Outcome| {
        stage.advance(500).await;
        (bad..100).for_each(|_| stage.pacer.report(&Outcome::done()));
        (0..bad).for_each(|_| stage.pacer.report(&outcome));
        stage.advance(500).await;
        (stage.pacer.factor() * 1_000.0).round()
    };
    for expected in [300.0, 400.0, 500.0, 600.0, 700.0, 800.0, 800.0] {
        assert_eq!(second(0, Outcome::done()).await, expected);
    }
    // Down to the three quarters that came through, and a fifth less.
    assert_eq!(second(25, Outcome::refused()).await, 480.0);
    assert_eq!(second(25, Outcome::failed("lost")).await, 480.0, "it is not judged");
    assert_eq!(second(25, Outcome::failed("lost")).await, 288.0);
    second(0, Outcome::done()).await;
    assert_eq!(second(99, Outcome::failed("lost")).await, 115.0, "no less than half of it");
    // Nobody waits any more, so nothing shows that more would be good.
    let before = stage.times().len();
    assert!((400..700).contains(&before), "{before}");
    for _ in 0..20 {
        second(0, Outcome::done()).await;
    }
    let idle = stage.pacer.factor();
    second(0, Outcome::done()).await;
    assert_eq!(stage.pacer.factor(), idle);
}

#[tokio::test(start_paused = true)]
async fn changes_of_the_factor_are_told() {
    let (stage, told) = told([own(Quota::per_second(100))], |event| match event {
        Event::FactorChanged { old, new } => Some(format!("{old} to {new}")),
        Event::Paused { time } => Some(format!("paused for {time:?}")),
        Event::Answered { took, refused, error } => Some(format!("{took:?} {refused} {error:?}")),
        _ => None,
    });
    let feedback = Feedback::new().signal("share", 1.0, Duration::from_secs(9));
    let stage = listening(stage, feedback.rule(|signals: &Signals| signals.get("share").unwrap_or(1.0)));
    for share in [0.99, 0.5, 0.5, 1.0] {
        stage.pacer.signal("share", share).unwrap();
        stage.pacer.report(&Outcome::done().took(Duration::from_millis(3)));
    }
    stage.pacer.report(&Outcome::failed("lost").pause(Duration::from_secs(1)));
    stage.pacer.report(&Outcome::refused().pause(Duration::from_millis(10)));
    let done = "Some(3ms) false None";
    let expected = [
        done,
        done,
        "1 to 0.5",
        done,
        done,
        "0.5 to 1",
        "None false Some(\"lost\")",
        "paused for 1s",
        "None true None",
    ];
    assert_eq!(*told.lock().unwrap(), expected);
}

/// A service that does so many requests a second, one after the other, and answers when they are done.
fn server(rate: Arc<AtomicU64>) -> impl tower::Service<(), Response = (), Error = (), Future: Send> + Clone {
    let free = Arc::new(Mutex::new(time::Instant::now()));
    service_fn(move |()| {
        let each = Duration::from_nanos(1_000_000_000 / rate.load(Relaxed));
        let done = {
            let mut free = free.lock().unwrap();
            *free = (*free).max(time::Instant::now()) + each;
            *free
        };
        async move {
            time::sleep_until(done).await;
            Ok(())
        }
    })
}

/// A server that becomes slower at once and faster again: the rate follows within seconds, and then swings by no more than a
/// third around what the server can do.
#[tokio::test(start_paused = true)]
async fn the_rate_follows_a_step_and_swings_within_bounds() {
    let aimd =
        Aimd::new().slow_after(Duration::from_millis(200)).every(Duration::from_millis(500)).step(0.025);
    let stage = listening(
        stage([all(Quota::per_second(200))]).with(|pacer| pacer.max_waiting(100_000, 100_000)),
        Feedback::new().adapt(aimd),
    );
    let rate = Arc::new(AtomicU64::new(1_000));
    let layer = PaceLayer::new(stage.pacer.clone(), |(): &()| Identity::name("a"))
        .judge(|answer: Result<&(), &()>| answer.map_or(Outcome::failed("lost"), |()| Outcome::done()));
    let service = layer.layer(server(rate.clone()));
    for _ in 0..20_000 {
        tokio::spawn(service.clone().oneshot(()));
    }
    settle().await;
    let factors = async |seconds: usize| {
        let mut factors = Vec::new();
        for _ in 0..seconds * 4 {
            for _ in 0..50 {
                stage.clock.advance(Duration::from_millis(5));
                time::advance(Duration::from_millis(5)).await;
                settle().await;
            }
            factors.push(stage.pacer.factor());
        }
        factors
    };
    let ramp = factors(20).await;
    assert!(ramp[0] <= 0.1 && ramp.windows(2).all(|pair| pair[1] >= pair[0]), "{ramp:?}");
    assert_eq!(ramp.last(), Some(&1.0), "{ramp:?}");
    for (can, settles) in [(60, 15), (140, 10)] {
        rate.store(can, Relaxed);
        factors(settles).await;
        let swing = factors(20).await;
        let share = can as f64 / 200.0;
        let (low, high) = swing.iter().fold((1.0f64, 0.0f64), |(low, high), f| (low.min(*f), high.max(*f)));
        assert!(low >= share * 0.66 && high <= share * 1.34, "{low} to {high} around {share}: {swing:?}");
        let mean = swing.iter().sum::<f64>() / swing.len() as f64;
        assert!((mean / share - 1.0).abs() <= 0.15, "{mean} is not {share}");
    }
}

/// Without feedback nothing is listened to.
#[tokio::test(start_paused = true)]
async fn without_feedback_nothing_changes() {
    let stage = stage([own(Quota::per_second(100))]);
    stage.pacer.pause(Duration::from_secs(9));
    stage.pacer.report(&Outcome::refused().pause(Duration::from_secs(9)));
    assert!(stage.pacer.signal("lag", 1.0).is_err());
    assert!(stage.pacer.try_take("a", 1).await.is_ok());
    assert_eq!(stage.pacer.factor(), 1.0);
    let watching = stage.with(Pacer::shadow);
    let watching = watching.with(|pacer| pacer.feedback(Feedback::new().admission(1.0)).unwrap());
    for _ in 0..20 {
        assert!(watching.pacer.try_take("a", 1).await.is_ok(), "who only watches sheds nothing");
    }
}
