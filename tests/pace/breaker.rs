//! What persists or is refused too often is not sent.

use crate::stage::*;
use futures_util::FutureExt;
use std::time::Duration;
use tidegate::{Aimd, Breaker, Event, Feedback, InFlight, Outcome, PaceError, Pacer, Quota};

fn breaker(stage: Stage) -> Stage {
    let breaker = Breaker::new().budget(3).stay_open(Duration::from_millis(100), Duration::from_millis(400));
    stage.with(|pacer| pacer.feedback(Feedback::new().breaker(breaker)).unwrap())
}

fn fail(stage: &Stage, times: u32) {
    (0..times).for_each(|_| stage.pacer.report(&Outcome::failed("timeout")));
}

fn fast() -> Stage {
    breaker(stage([own(Quota::per_second(1_000))]))
}

#[tokio::test(start_paused = true)]
async fn a_class_that_persists_opens_the_breaker() {
    let stage = fast();
    fail(&stage, 2);
    stage.pacer.report(&Outcome::failed("refused by a proxy"));
    assert!(stage.pacer.try_take("a", 1).await.is_ok(), "each class has a budget of its own");
    // What is done gives some of it back.
    (0..10).for_each(|_| stage.pacer.report(&Outcome::done()));
    fail(&stage, 1);
    stage.advance(1).await;
    assert!(stage.pacer.try_take("a", 1).await.is_ok());
    fail(&stage, 1);
    let error = stage.pacer.try_take("a", 1).await.unwrap_err();
    assert!(matches!(&error, PaceError::Open { error, .. } if error == "timeout"), "{error}");
    assert_eq!(error.to_string(), "nothing is sent while \"timeout\" persists; try again in 100ms");
    let answer = http::Response::from(error);
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (503, &"1".parse().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn one_probe_goes_and_the_others_when_it_is_done() {
    let stage = fast();
    fail(&stage, 3);
    for key in ["a", "b", "c"] {
        stage.send(key, 1).await;
    }
    stage.advance(99).await;
    assert_eq!(stage.keys().len(), 0);
    stage.advance(5).await;
    assert_eq!(stage.keys(), ["a"]);
    fail(&stage, 1);
    // Twice as long, and a probe of which nothing is heard counts as failed.
    stage.advance(190).await;
    assert_eq!(stage.keys().len(), 1);
    stage.advance(20).await;
    assert_eq!(stage.keys().len(), 2);
    stage.advance(150).await;
    assert_eq!(stage.keys().len(), 2);
    stage.pacer.report(&Outcome::done());
    stage.advance(1_000).await;
    assert_eq!(stage.keys().len(), 3);
    stage.send("a", 1).await;
    stage.send("a", 1).await;
    stage.advance(1).await;
    assert_eq!(stage.keys().len(), 5, "it is closed");
}

/// The probe's place goes to the next one if nothing is sent after all: here its limits do not admit it.
#[tokio::test(start_paused = true)]
async fn a_probe_that_is_not_sent_is_none() {
    let stage = breaker(stage([own(Quota::per_second(1))]));
    assert!(stage.pacer.try_take("a", 1).await.is_ok());
    fail(&stage, 3);
    stage.advance(100).await;
    assert!(matches!(stage.pacer.try_take("a", 1).await, Err(PaceError::Limited(_))));
    assert!(stage.pacer.try_take("b", 1).await.is_ok());
    assert!(matches!(stage.pacer.try_take("c", 1).await, Err(PaceError::Open { .. })));
}

#[tokio::test(start_paused = true)]
async fn opening_is_one_event_and_so_is_closing() {
    let (stage, told) = told([own(Quota::per_second(1_000))], |event| match event {
        Event::BreakerOpened { error, time } => Some(format!("opened by {error} for {time:?}")),
        Event::BreakerClosed { error, after } => Some(format!("closed after {error} and {after:?}")),
        _ => None,
    });
    let stage = breaker(stage);
    fail(&stage, 50);
    for _ in 0..3 {
        stage.send("a", 1).await;
        stage.advance(500).await;
        fail(&stage, 1);
    }
    stage.send("a", 1).await;
    stage.advance(500).await;
    stage.pacer.report(&Outcome::done());
    assert_eq!(*told.lock().unwrap(), ["opened by timeout for 100ms", "closed after timeout and 2s"]);
}

/// After the breaker has closed, the rate ramps from the start again.
#[tokio::test(start_paused = true)]
async fn a_breaker_that_closes_starts_low() {
    let feedback = Feedback::new().breaker(Breaker::new().budget(1)).adapt(Aimd::new().start(0.25).step(0.5));
    let stage = stage([own(Quota::per_second(100))]).with(|pacer| pacer.feedback(feedback).unwrap());
    for _ in 0..5 {
        for _ in 0..30 {
            stage.send("a", 1).await;
        }
        stage.pacer.report(&Outcome::done());
        stage.advance(1_000).await;
    }
    assert_eq!(stage.pacer.factor(), 1.0);
    fail(&stage, 1);
    stage.send("a", 1).await;
    stage.advance(1_010).await;
    stage.pacer.report(&Outcome::done());
    assert_eq!(stage.pacer.factor(), 0.25);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_too_often_is_not_sent() {
    let stage = stage([own(Quota::per_second(10_000))]).with(Pacer::bursts);
    let stage = stage.with(|pacer| pacer.feedback(Feedback::new().admission(2.0)).unwrap());
    let share = |accepted: bool, sends: u32| {
        let mut sent = 0;
        for _ in 0..sends {
            match stage.pacer.try_take("a", 1).now_or_never().unwrap() {
                Ok(_) => sent += 1,
                Err(error) => assert!(matches!(error, PaceError::Shed), "{error}"),
            }
            if sent > 0 && accepted {
                stage.pacer.report(&Outcome::done());
            } else {
                stage.pacer.report(&Outcome::refused());
            }
        }
        sent
    };
    assert_eq!(share(true, 1_000), 1_000);
    // Twice as many as are accepted may be sent: the next thousand are.
    assert_eq!(share(false, 1_000), 1_000);
    let sent = share(false, 2_000);
    // The sum of 1 - P over the requests, by the formula.
    let mut expected = 0.0;
    for requests in 2_000..4_000 {
        expected += 1.0 - (f64::from(requests) - 2_000.0) / (f64::from(requests) + 1.0);
    }
    assert!((f64::from(sent) - expected).abs() <= 1.0, "{sent} of {expected}");
}

/// Nothing is for ever: after two minutes what was refused is forgotten.
#[tokio::test(start_paused = true)]
async fn refusals_are_forgotten() {
    let stage = stage([own(Quota::per_second(1_000))]).with(Pacer::bursts);
    let stage = stage.with(|pacer| pacer.feedback(Feedback::new().admission(2.0)).unwrap());
    let sent = || (0..100).filter(|_| stage.pacer.try_take("a", 1).now_or_never().unwrap().is_ok()).count();
    assert!(sent() < 10);
    stage.clock.advance(Duration::from_secs(131));
    assert!(stage.pacer.try_take("a", 1).await.is_ok());
    stage.pacer.report(&Outcome::done());
    assert!(stage.pacer.try_take("a", 1).await.is_ok());
}

#[test]
fn mistakes_are_told() {
    let told = |feedback: Feedback| {
        let pacer = Pacer::new([own(Quota::per_second(1))]).unwrap();
        pacer.feedback(feedback).unwrap_err().to_string()
    };
    for (feedback, start) in [
        (Feedback::new().bounds(0.0, 1.0), "Feedback::bounds: [0.0, 1.0] are no bounds"),
        (Feedback::new().bounds(0.5, 0.4), "Feedback::bounds: [0.5, 0.4]"),
        (Feedback::new().bounds(f64::NAN, 1.0), "Feedback::bounds: [NaN, 1.0]"),
        (Feedback::new().admission(0.9), "Feedback::admission: 0.9 sends"),
        (Feedback::new().admission(f64::NAN), "Feedback::admission: NaN sends"),
        (Feedback::new().adapt(Aimd::new().start(0.0)), "Feedback::adapt: the start is 0"),
        (Feedback::new().adapt(Aimd::new().shrink(1.5)), "Feedback::adapt: the share that is kept"),
        (Feedback::new().adapt(Aimd::new().tolerate(1.0)), "Feedback::adapt: the tolerated share is 1"),
        (Feedback::new().adapt(Aimd::new().every(Duration::ZERO)), "Feedback::adapt: windows take no time"),
        (
            Feedback::new().in_flight(InFlight::new().bounds(0, 5)),
            "Feedback::in_flight: it starts from 10 and goes from 0 to 5",
        ),
        (Feedback::new().breaker(Breaker::new().budget(0)), "Feedback::breaker: no failure is borne"),
        (
            Feedback::new().breaker(Breaker::new().stay_open(Duration::from_secs(2), Duration::from_secs(1))),
            "Feedback::breaker: it stays open for 2s at first and 1s at last",
        ),
    ] {
        let told = told(feedback);
        assert!(told.starts_with(start), "{told}");
    }
}
