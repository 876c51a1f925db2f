//! What a caller sees: the fields of each style, refusals, and that whoever keeps to them is served.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::*;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;
use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tidegate::{Cost, Decision, HeaderStyle, Identity, Limit, Limiter, Policy, Quota, Reason, Rule, Source};

const SECOND: u128 = 1_000_000_000;

fn two_limits() -> Policy {
    let rule = Rule::new("all")
        .limit(Limit::per_client("burst", Quota::per_minute(10)))
        .limit(Limit::per_client("daily", Quota::per_hour(100)));
    Policy::new().rule(rule)
}

fn fields(answer: &Answer) -> Vec<(&str, &str)> {
    let fields = answer.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
    fields.filter(|(name, _)| name.contains("ratelimit")).collect()
}

#[tokio::test]
async fn each_style_tells_what_is_left() {
    let policy = ("ratelimit-policy", "10;w=60, 100;w=3600");
    for (style, allowed, refused) in [
        (
            HeaderStyle::Draft10,
            vec![
                ("ratelimit-policy", r#""burst";q=10;w=60, "daily";q=100;w=3600"#),
                ("ratelimit", r#""burst";r=9;t=6, "daily";r=99;t=36"#),
            ],
            r#""burst";r=0;t=6, "daily";r=90;t=36"#,
        ),
        (
            HeaderStyle::Draft7,
            vec![("ratelimit", "limit=10, remaining=9, reset=6"), policy],
            "limit=10, remaining=0, reset=60",
        ),
        (
            HeaderStyle::Draft6,
            vec![("ratelimit-limit", "10"), ("ratelimit-remaining", "9"), ("ratelimit-reset", "6"), policy],
            "10",
        ),
        (
            HeaderStyle::XRateLimit,
            vec![("x-ratelimit-limit", "10"), ("x-ratelimit-remaining", "9"), ("x-ratelimit-reset", "6")],
            "10",
        ),
        (HeaderStyle::Off, vec![], ""),
    ] {
        let app = app(&build(two_limits()).0.layer().headers(style), |_| reply(200));
        let answer = app.send(get("/")).await;
        assert_eq!(fields(&answer), allowed, "{style:?}");
        assert_eq!(app.admits(20, || get("/")).await, 9);
        let answer = app.send(get("/")).await;
        let names = |fields: &[(&'static str, _)]| fields.iter().map(|field| field.0).collect::<Vec<_>>();
        let told: Vec<_> = fields(&answer).iter().map(|field| field.0.to_owned()).collect();
        assert_eq!(told, names(&allowed), "{style:?} tells the same when it refuses");
        let main = fields(&answer).into_iter().find(|(name, _)| !name.ends_with("policy"));
        assert_eq!(main.map_or("", |field| field.1), refused, "{style:?}");
        assert_eq!(line(&answer, "retry-after"), Some("6"), "{style:?}");
    }

    let app = app(&build(two_limits()).0.layer().headers(HeaderStyle::XRateLimitEpoch), |_| reply(200));
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let before = now();
    let reset: u64 = line(&app.send(get("/")).await, "x-ratelimit-reset").unwrap().parse().unwrap();
    assert!((before + 6..=now() + 7).contains(&reset));
}

#[tokio::test]
async fn what_the_inner_service_says_of_itself_stays() {
    let inner = |fields: &'static [(&'static str, &'static str)], style| {
        app(&build(two_limits()).0.layer().headers(style), move |_| {
            let mut response = reply(200);
            for (name, value) in fields {
                response.headers_mut().append(*name, value.parse().unwrap());
            }
            response
        })
    };
    let own = &[("ratelimit", "\"own\";r=1"), ("ratelimit-policy", "\"own\";q=1;w=1")];
    let answer = inner(own, HeaderStyle::Draft10).send(get("/")).await;
    let lines = |name| answer.headers().get_all(name).iter().collect::<Vec<_>>();
    assert_eq!(lines("ratelimit"), ["\"own\";r=1", r#""burst";r=9;t=6, "daily";r=99;t=36"#]);
    assert_eq!(lines("ratelimit-policy").len(), 2);

    for (remaining, told) in [("3", ["5", "3", "7"]), ("9", ["5", "9", "7"]), ("10", ["10", "9", "6"])] {
        let own =
            [("x-ratelimit-limit", "5"), ("x-ratelimit-remaining", remaining), ("x-ratelimit-reset", "7")];
        let answer = inner(Box::leak(Box::new(own)), HeaderStyle::XRateLimit).send(get("/")).await;
        let told_now = ["limit", "remaining", "reset"]
            .map(|field| line(&answer, &format!("x-ratelimit-{field}")).unwrap().to_owned());
        assert_eq!(told_now, told, "the stricter one is told");
    }
}

#[tokio::test]
async fn another_quota_is_told_from_the_next_answer_on() {
    let (limiter, _) = build(two_limits());
    let app = ok(&limiter);
    app.send(get("/")).await;
    limiter.set_quota("burst", Quota::per_minute(60).burst(20)).unwrap();
    let answer = app.send(get("/")).await;
    assert_eq!(line(&answer, "ratelimit-policy"), Some(r#""burst";q=20;w=20, "daily";q=100;w=3600"#));
    assert_eq!(line(&answer, "ratelimit"), Some(r#""burst";r=18;t=1, "daily";r=98;t=36"#));
}

#[tokio::test]
async fn a_refusal_says_which_limit_how_much_and_when_to_come_back() {
    let (limiter, _) = build(two_limits());
    let layer = limiter.layer().refusal_text("Ask for more.").refusal_link("https://example.com/limits");
    let app = app(&layer, |_| reply(200));
    app.admits(10, || get("/")).await;
    let refused = app.send(get("/")).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(line(&refused, "content-type"), Some("application/problem+json"));
    assert_eq!(line(&refused, "cache-control"), Some("no-store"));
    let expected = json!({
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Quota exceeded",
        "status": 429,
        "detail": "Limit exceeded: burst (10/minute). Try again in 6 seconds. Ask for more. See https://example.com/limits",
        "violated-policies": ["burst"],
        "retry-after": 6,
        "help": "https://example.com/limits",
    });
    assert_eq!(json(refused).await, expected);
}

#[tokio::test]
async fn a_request_that_nobody_can_be_told_from_is_refused_in_whole_sentences() {
    for (source, status, challenge, detail) in [
        (
            Source::bearer(),
            401,
            Some("Bearer"),
            "a bearer token is required; send `Authorization: Bearer <token>`. Ask us.",
        ),
        (Source::address(), 400, None, "the client's address is unknown to the server. Ask us."),
    ] {
        let policy = two_limits().identify(source.or_refuse());
        let app = app(&build(policy).0.layer().refusal_text("Ask us."), |_| reply(200));
        let refused = app.send(http::Request::new(())).await;
        assert_eq!(refused.status(), status);
        assert_eq!(line(&refused, "www-authenticate"), challenge);
        assert_eq!(line(&refused, "cache-control"), Some("no-store"));
        assert!(fields(&refused).is_empty());
        assert_eq!(json(refused).await["detail"], detail);
    }
}

#[tokio::test]
async fn a_refusal_of_one_s_own_keeps_what_it_says_and_gets_the_rest() {
    let layer = build(two_limits()).0.layer().refusal(|refusal, head| {
        assert_eq!(refusal.reason(), &Reason::Limited);
        let limits: Vec<_> = refusal.violated().map(|limit| limit.limit()).collect();
        let text = format!("{} on {}, {:?}", limits.join("+"), head.path(), refusal.retry_after());
        let mut response = Response::new(Bytes::from(text));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert("ratelimit", "\"mine\";r=0".parse().unwrap());
        response
    });
    let app = app(&layer, |_| reply(200));
    app.admits(10, || get("/")).await;
    let refused = app.send(get("/x")).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(line(&refused, "retry-after"), Some("6"));
    assert_eq!(line(&refused, "cache-control"), Some("no-store"));
    assert_eq!(line(&refused, "ratelimit"), Some("\"mine\";r=0"));
    assert!(line(&refused, "ratelimit-policy").is_some());
    assert_eq!(refused.into_body().collect().await.unwrap().to_bytes(), "burst on /x, Some(6s)");

    let grpc = app
        .send(with(from("192.0.2.1", "POST", "/pkg.Service/Call"), "content-type", "application/grpc+proto"))
        .await;
    assert_eq!(grpc.status(), 200, "a gRPC client understands nothing but gRPC");
    assert_eq!(line(&grpc, "grpc-status"), Some("8"));
    assert_eq!(
        line(&grpc, "grpc-message"),
        Some("Limit exceeded: burst (10/minute). Try again in 6 seconds.")
    );
    assert_eq!(line(&grpc, "content-type"), Some("application/grpc"));
    assert!(grpc.into_body().collect().await.unwrap().to_bytes().is_empty());
}

#[tokio::test]
async fn the_decision_is_exposed_where_it_is_asked_for() {
    type Seen = Arc<Mutex<Vec<bool>>>;
    let serve = |layer: &tidegate::ThrottleLayer| {
        let seen = Seen::default();
        let log = seen.clone();
        let app = app(layer, move |request| {
            log.lock().unwrap().push(request.extensions().get::<Arc<Decision>>().is_some());
            reply(200)
        });
        (app, seen)
    };
    let decision = |answer: &Answer| answer.extensions().get::<Arc<Decision>>().cloned();

    let (app, seen) = serve(&build(two_limits()).0.layer());
    assert!(decision(&app.send(get("/")).await).is_none(), "off unless asked for");
    assert_eq!(*seen.lock().unwrap(), [false]);

    for style in [HeaderStyle::Draft10, HeaderStyle::Off] {
        let (app, seen) = serve(&build(two_limits()).0.layer().expose_decision().headers(style));
        let allowed = decision(&app.send(get("/")).await).unwrap();
        assert_eq!(*seen.lock().unwrap(), [true]);
        assert!(allowed.is_allowed());
        let told: Vec<_> =
            allowed.limits().map(|limit| (limit.rule(), limit.limit(), limit.remaining())).collect();
        assert_eq!(told, [("all", "burst", 9), ("all", "daily", 99)]);

        app.admits(20, || get("/")).await;
        let refused = decision(&app.send(get("/")).await).unwrap();
        assert!(!refused.is_allowed());
        assert_eq!(refused.retry_after(), Some(Duration::from_secs(6)));
    }

    let (app, seen) = serve(&build(two_limits().allow_networks(["192.0.2.1"])).0.layer().expose_decision());
    assert!(decision(&app.send(get("/")).await).is_none(), "no limit applies");
    assert_eq!(*seen.lock().unwrap(), [false]);
}

const QUOTAS: &[&str] = &[
    "1/minute",
    "7/minute",
    "60/minute burst 10",
    "5 per 10s",
    "3/second",
    "3/second burst 1",
    "30/second",
    "10/second burst 15",
    "10/second burst 20",
    "999/second burst 7",
    "1000/second burst 1",
    "1_000_000/second",
    "1000/h",
    "1/30d",
    "100/minute strict",
    "10/second strict",
    "1/day burst 3",
    "100_000/day",
];

fn limited(quota: &str, cost: u32) -> (Limiter, tidegate::ManualClock) {
    let limit = Limit::per_client("l", quota.parse().unwrap()).cost(Cost::by(move |_| cost));
    build(Policy::new().rule(Rule::new("r").limit(limit)))
}

/// Drains the bucket, and answers with the `q` and `w` that it was told.
async fn drain(limiter: &Limiter, app: &impl App, cost: u32) -> (u64, u64) {
    let told = app.send(get("/")).await;
    let policy = line(&told, "ratelimit-policy").unwrap();
    let client = limiter.client(&Identity::address([192, 0, 2, 1].into()));
    let left = client.peek("r").await.unwrap().limits().next().unwrap().remaining();
    client.charge("r").cost(left - left % cost).await.unwrap();
    (param(policy, "q").unwrap(), param(policy, "w").unwrap())
}

#[tokio::test]
async fn whoever_keeps_to_q_and_w_is_neither_refused_nor_slowed() {
    for quota in QUOTAS {
        let (limiter, clock) = limited(quota, 1);
        let app = ok(&limiter);
        let (q, w) = drain(&limiter, &app, 1).await;
        let (q, w) = (u128::from(q), u128::from(w) * SECOND);
        let interval = quota.parse::<Quota>().unwrap().rate().unwrap().interval();
        assert_eq!(app.status(get("/")).await, 429, "{quota}: drained");
        // A unit has come, and a millionth of what follows, which is what rounding may take (7/minute is told as
        // q=7;w=60, and takes 4 ns longer).
        let turns = 250;
        clock.advance(interval + Duration::from_nanos((turns * interval.as_nanos() / 1_000_000) as u64));

        // Paced, in steps whose parts of nanoseconds are not lost.
        for turn in 0..turns {
            assert_eq!(app.status(get("/")).await, 200, "{quota}: refused in turn {turn}");
            let at = |turn| turn * w / q;
            clock.advance(Duration::from_nanos(u64::try_from(at(turn + 1) - at(turn)).unwrap()));
        }
        let (spent, fair) = (turns * w / q, turns * interval.as_nanos());
        assert!(9 * spent <= 10 * fair, "{quota}: {turns} requests took {spent} ns, not {fair}");
    }
}

/// A client may also send all of `q` whenever `w` has passed, where so many fit at once.
#[tokio::test]
async fn whoever_sends_q_in_each_w_at_once_is_not_refused() {
    for quota in QUOTAS {
        let (limiter, clock) = limited(quota, 1);
        let app = ok(&limiter);
        let (q, w) = drain(&limiter, &app, 1).await;
        let burst = quota.parse::<Quota>().unwrap().rate().unwrap().burst().get();
        if q > burst.into() || q > 1_000 {
            continue;
        }
        for window in 0..3 {
            clock.advance(Duration::from_secs(w) + Duration::from_micros(w));
            assert_eq!(app.admits(q as usize, || get("/")).await as u64, q, "{quota}: window {window}");
        }
    }
}

#[tokio::test]
async fn retry_after_is_when_to_come_back_and_not_a_second_later() {
    for quota in QUOTAS {
        let burst = quota.parse::<Quota>().unwrap().rate().unwrap().burst().get();
        for cost in [1, 2, burst / 2, burst].into_iter().filter(|cost| (1..=burst).contains(cost)) {
            for head_start in [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(999)] {
                let (limiter, clock) = limited(quota, cost);
                let app = ok(&limiter);
                drain(&limiter, &app, cost).await;
                clock.advance(head_start);
                let answer = app.send(get("/")).await;
                if answer.status() == 200 {
                    continue; // a fast quota has recovered by now
                }
                let wait: u64 = line(&answer, "retry-after").unwrap().parse().unwrap();
                let t = param(line(&answer, "ratelimit").unwrap(), "t").unwrap();
                assert!(wait >= 1 && wait >= t, "{quota}, cost {cost}: {wait} s is before t={t}");
                clock.advance(Duration::from_secs(wait - 1));
                assert_eq!(app.status(get("/")).await, 429, "{quota}, cost {cost}: {wait} s is too long");
                clock.advance(Duration::from_secs(1));
                assert_eq!(app.status(get("/")).await, 200, "{quota}, cost {cost}: {wait} s is too short");
            }
        }
    }
}
