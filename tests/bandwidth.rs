//! Bytes of bodies, both ways: what they are charged, and how they wait.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::*;
use futures_util::{FutureExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use proptest::prelude::*;
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tidegate::{Bandwidth, Concurrency, Identity, Limit, Limiter, ManualClock, Ongoing, Policy, Quota, Rule};
use tokio::{task::JoinHandle, time};
use tower::{Layer, ServiceExt, service_fn};

const KIB: usize = 1024;
const LONGEST: Duration = Duration::from_secs(2);

/// 100 KiB a second, and 100 KiB at once.
fn quota() -> Quota {
    Quota::per_second(100)
}

struct Stage {
    clock: ManualClock,
    limiter: Limiter,
}

fn stage(limit: Limit) -> Stage {
    staged(Policy::new().rule(Rule::new("r").limit(limit)))
}

fn staged(policy: Policy) -> Stage {
    let clock = ManualClock::new();
    let limiter = Limiter::builder(policy).clock(clock.clone()).timer(time::sleep).build().unwrap();
    Stage { clock, limiter }
}

fn paced(bandwidth: fn(u32) -> Bandwidth) -> Limit {
    Limit::per_client("l", quota()).settle(bandwidth(1024).pace(LONGEST))
}

/// A body that is on its way through a client's hands.
struct Running {
    bytes: Arc<AtomicU64>,
    /// How many frames were asked of the sender.
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Running {
    fn bytes(&self) -> u64 {
        self.bytes.load(SeqCst)
    }
}

/// Frames of so many bytes without end, and how many were asked for.
fn endless(frame: usize) -> (Body, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let frames = stream::repeat_with(move || {
        count.fetch_add(1, SeqCst);
        Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; frame])))
    });
    (BodyExt::boxed(StreamBody::new(frames)), asked)
}

impl Stage {
    /// A client that reads an answer without end, as fast as it comes.
    async fn download(&self, frame: usize) -> Running {
        let (body, asked) = endless(frame);
        let body = Arc::new(std::sync::Mutex::new(Some(body)));
        let app = app(&self.limiter.layer(), move |_| Response::new(body.lock().unwrap().take().unwrap()));
        let mut answer = app.send(get("/")).await;
        assert_eq!(answer.status(), 200);
        let bytes = Arc::new(AtomicU64::new(0));
        let count = bytes.clone();
        let task = tokio::spawn(async move {
            while let Some(frame) = answer.body_mut().frame().await {
                count.fetch_add(frame.unwrap().into_data().unwrap().len() as u64, SeqCst);
            }
        });
        settle().await;
        Running { bytes, asked, task }
    }

    /// A client that uploads without end, to a service that reads as fast as it comes.
    async fn upload(&self, frame: usize) -> Running {
        let bytes = Arc::new(AtomicU64::new(0));
        let count = bytes.clone();
        let service = service_fn(move |request: Request<tidegate::UploadBody<Body>>| {
            let count = count.clone();
            async move {
                let mut body = request.into_body();
                while let Some(frame) = body.frame().await {
                    count.fetch_add(frame.unwrap().into_data().unwrap().len() as u64, SeqCst);
                }
                Ok::<_, Infallible>(reply(200))
            }
        });
        let (body, asked) = endless(frame);
        let service = self.limiter.layer().uploads().layer(service);
        let task = tokio::spawn(async move {
            service.oneshot(get("/").map(|()| body)).await.unwrap();
        });
        settle().await;
        Running { bytes, asked, task }
    }

    /// Moves both clocks together.
    async fn advance(&self, millis: u64) {
        const STEP: u64 = 5;
        for _ in 0..millis / STEP {
            self.clock.advance(Duration::from_millis(STEP));
            time::advance(Duration::from_millis(STEP)).await;
            settle().await;
        }
    }

    /// The units that the client may spend, and how long until it owes nothing.
    fn left(&self) -> (u32, Duration) {
        let client = self.limiter.client(&Identity::address([192, 0, 2, 1].into()));
        let peek = client.peek("r").into_future().now_or_never().unwrap().unwrap();
        let limit = peek.limits().next().unwrap();
        (limit.remaining(), limit.reading().reset_after())
    }
}

async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// The service reads the body that it is sent, and answers with as many bytes as the path says.
async fn exchange(limiter: &Limiter, sent: usize, answered: usize) -> Answer {
    let service = service_fn(move |request: Request<tidegate::UploadBody<Body>>| async move {
        request.into_body().collect().await.unwrap();
        let body = http_body_util::Full::from(vec![0; answered]);
        Ok::<_, Infallible>(Response::new(BodyExt::boxed(body)))
    });
    let body = BodyExt::boxed(http_body_util::Full::from(vec![0; sent]));
    limiter.layer().uploads().layer(service).oneshot(get("/").map(|()| body)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn bodies_are_charged_whichever_way_they_go() {
    for (bandwidth, left) in
        [(Bandwidth::requests(1024), 90), (Bandwidth::responses(1024), 80), (Bandwidth::both(1024), 70)]
    {
        let stage = stage(Limit::per_client("l", quota()).settle(bandwidth));
        let answer = exchange(&stage.limiter, 10 * KIB, 20 * KIB).await;
        drop(answer.into_body().collect().await.unwrap());
        assert_eq!(stage.left().0, left, "{bandwidth:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn grains_are_begun_once_by_both_bodies_together() {
    let stage = stage(Limit::per_client("l", quota()).settle(Bandwidth::both(1024)));
    drop(exchange(&stage.limiter, 300, 700).await.into_body().collect().await.unwrap());
    assert_eq!(stage.left().0, 99);
    drop(exchange(&stage.limiter, 0, 0).await);
    assert_eq!(stage.left().0, 99, "nothing was sent");
}

#[tokio::test(start_paused = true)]
async fn debt_of_an_upload_refuses_the_next_request() {
    let stage = stage(Limit::per_client("l", quota()).settle(Bandwidth::requests(1024)));
    assert_eq!(exchange(&stage.limiter, 150 * KIB, 0).await.status(), 200);
    let refused = exchange(&stage.limiter, 1, 0).await;
    assert_eq!((refused.status().as_u16(), line(&refused, "retry-after")), (429, Some("1")));
    stage.clock.advance(Duration::from_millis(510));
    assert_eq!(exchange(&stage.limiter, 1, 0).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_breaks_off_before_its_answer_stays_charged() {
    let stage = stage(Limit::per_client("l", quota()).cost(8).settle(Bandwidth::requests(1024)));
    let service = service_fn(|request: Request<tidegate::UploadBody<Body>>| async move {
        drop(request.into_body().frame().await);
        std::future::pending::<Result<Response<Body>, Infallible>>().await
    });
    for (sent, left) in [(10 * KIB, 90), (1, 82)] {
        let body = BodyExt::boxed(http_body_util::Full::from(vec![0; sent]));
        let app = stage.limiter.layer().uploads().layer(service);
        let mut answer = Box::pin(app.oneshot(get("/").map(|()| body)));
        assert!((&mut answer).now_or_never().is_none());
        drop(answer);
        assert_eq!(stage.left().0, left);
    }
}

#[tokio::test(start_paused = true)]
async fn clients_are_told_bytes() {
    let stage = stage(paced(Bandwidth::both));
    let answer = exchange(&stage.limiter, 0, 0).await;
    let field = |name| line(&answer, name).unwrap();
    assert_eq!(field("ratelimit-policy"), "\"l\";q=102400;w=1;qu=\"content-bytes\"");
    assert_eq!(field("ratelimit"), "\"l\";r=101376;t=1", "the first grain is reserved");
}

#[tokio::test(start_paused = true)]
async fn an_answer_goes_at_its_rate_after_its_burst() {
    let stage = stage(paced(Bandwidth::responses));
    let download = stage.download(1 << 20).await;
    assert_eq!(download.bytes(), 100 * KIB as u64, "the burst");
    for second in 1..=5 {
        stage.advance(1000).await;
        let expected = (1 + second) * 100 * KIB as u64;
        let piece = 4 * KIB as u64;
        assert!(
            (expected - piece..=expected).contains(&download.bytes()),
            "{} after {second} s",
            download.bytes()
        );
    }
    assert_eq!(download.asked.load(SeqCst), 1, "a frame is asked for when the last one has gone");
}

#[tokio::test(start_paused = true)]
async fn an_upload_goes_at_its_rate_and_is_read_no_faster() {
    let stage = stage(paced(Bandwidth::requests));
    let upload = stage.upload(8 * KIB).await;
    stage.advance(3000).await;
    let expected = 400 * KIB as u64;
    assert!((expected - 4 * KIB as u64..=expected).contains(&upload.bytes()), "{}", upload.bytes());
    let asked = (upload.asked.load(SeqCst) * 8 * KIB) as u64;
    assert!(asked - upload.bytes() <= 8 * KIB as u64, "{asked} bytes were read of the client");
}

#[tokio::test(start_paused = true)]
async fn the_bodies_of_a_client_share_evenly_whatever_their_frames() {
    let stage = stage(paced(Bandwidth::both));
    let bodies = [
        stage.download(1 << 20).await,
        stage.download(16 * KIB).await,
        stage.download(3000).await,
        stage.upload(64 * KIB).await,
    ];
    stage.advance(500).await;
    let before: Vec<_> = bodies.iter().map(Running::bytes).collect();
    stage.advance(10_000).await;
    let gains: Vec<_> = bodies.iter().zip(before).map(|(body, before)| body.bytes() - before).collect();
    let total: u64 = gains.iter().sum();
    assert!(total.abs_diff(1000 * KIB as u64) <= 16 * KIB as u64, "{gains:?}");
    // Small frames make small pieces: 3000 bytes take turns with 4096.
    for gain in &gains {
        assert!((total * 18 / 100..=total * 30 / 100).contains(gain), "{gains:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_gives_back_what_was_not_sent() {
    let stage = stage(paced(Bandwidth::responses));
    let download = stage.download(1 << 20).await;
    let waiting = stage.left().1;
    assert!(waiting > Duration::from_secs(1), "a piece is taken beyond the burst: {waiting:?}");
    download.task.abort();
    settle().await;
    assert_eq!(stage.left(), (0, Duration::from_secs(1)), "what was sent is owed, and no more");
    stage.advance(1000).await;
    assert_eq!(stage.left().0, 100);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_refused_where_the_queue_is_full() {
    // 4 KiB a piece, a queue of 2 s: 200 KiB, 50 pieces.
    let stage = stage(paced(Bandwidth::responses));
    let mut downloads = Vec::new();
    for _ in 0..50 {
        downloads.push(stage.download(1 << 20).await);
    }
    let refused = ok(&stage.limiter).send(get("/")).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(
        line(&refused, "ratelimit"),
        Some("\"l\";r=0;t=3"),
        "2.0 s of queue until the burst begins to come back"
    );
    assert_eq!(line(&refused, "retry-after"), Some("3"));
    // They all go on, and nobody waits for longer than the queue is.
    let before: Vec<_> = downloads.iter().map(Running::bytes).collect();
    stage.advance(2100).await;
    assert!(downloads.iter().zip(before).all(|(body, before)| body.bytes() > before));
    drop(downloads.drain(..).map(|download| download.task.abort()).collect::<Vec<_>>());
    settle().await;
    assert_eq!(ok(&stage.limiter).status(get("/")).await, 200, "they gave their places back");
}

#[tokio::test(start_paused = true)]
async fn under_a_rule_that_watches_nothing_waits() {
    let stage = staged(Policy::new().rule(Rule::new("r").shadow().limit(paced(Bandwidth::both))));
    let answer = exchange(&stage.limiter, 1 << 20, 1 << 20).await;
    assert_eq!(answer.into_body().collect().now_or_never().unwrap().unwrap().to_bytes().len(), 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_quota_reaches_bodies_under_way() {
    let stage = stage(paced(Bandwidth::responses));
    let download = stage.download(1 << 20).await;
    stage.advance(1000).await;
    stage.limiter.set_quota("l", Quota::per_second(1000)).unwrap();
    let before = download.bytes();
    stage.advance(1000).await;
    let gain = download.bytes() - before;
    assert!((990..=2000).contains(&(gain / KIB as u64)), "{gain}");
}

#[test]
fn bodies_fit_where_they_have_to_be_shared() {
    fn fits<T: Send + Sync + Unpin>() {}
    fits::<tidegate::ThrottleBody<Empty<Bytes>>>();
    fits::<tidegate::UploadBody<Empty<Bytes>>>();
}

#[test]
fn without_a_timer_nothing_can_wait() {
    let policy = Policy::new().rule(Rule::new("r").limit(paced(Bandwidth::both)));
    let error = Limiter::new(policy).unwrap_err().to_string();
    assert!(error.contains("timer") && error.contains("\"l\""), "{error}");
    let policy = Limit::per_client("l", quota()).settle(Bandwidth::both(1).pace(Duration::ZERO));
    let error = Limiter::new(Policy::new().rule(Rule::new("r").limit(policy))).unwrap_err().to_string();
    assert!(error.contains("nothing may wait"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn whoever_keeps_what_is_ongoing_keeps_its_permits() {
    let rule = Rule::new("r").concurrency(Concurrency::per_client("c", 1));
    let stage = staged(Policy::new().rule(rule));
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = Arc::new(std::sync::Mutex::new(Some(tell)));
    let layer = stage.limiter.layer().expose_ongoing();
    let app = app(&layer, move |request: Request<()>| {
        let ongoing = request.extensions().get::<Ongoing>().unwrap().clone();
        if let Some(tell) = tell.lock().unwrap().take() {
            tell.send(ongoing).unwrap();
        }
        Response::new(BodyExt::boxed(Empty::new()))
    });
    drop(app.send(get("/")).await);
    let ongoing = told.await.unwrap();
    assert_eq!(app.status(get("/")).await, 429);
    drop(ongoing);
    assert_eq!(app.status(get("/")).await, 200);
}

/// What happens to a client's bodies.
#[derive(Debug, Clone)]
enum Act {
    Begin { is_upload: bool, frame: usize },
    Leave(usize),
    Advance(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (any::<bool>(), 1..40_000usize).prop_map(|(is_upload, frame)| Act::Begin { is_upload, frame }),
        (0..8usize).prop_map(Act::Leave),
        (1..60u64).prop_map(|steps| Act::Advance(steps * 5)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes and goes: never more than the burst and the rate admit, and as much as they do while anybody is there.
    #[test]
    fn the_rate_is_kept_and_used(acts in prop::collection::vec(act(), 1..30), rate in 20..400u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let quota = Quota::per_second(rate).burst(rate / 2 + 4);
            let limit = Limit::per_client("l", quota).settle(Bandwidth::both(1024).pace(LONGEST));
            let stage = stage(limit);
            let (mut bodies, mut gone, mut millis, mut begun, mut busy) = (Vec::new(), 0, 0, 0, None);
            let mut most = 0;
            for act in acts {
                begun += u64::from(matches!(act, Act::Begin { .. }));
                match act {
                    Act::Begin { .. } if bodies.len() >= 8 => {}
                    Act::Begin { is_upload: true, frame } => bodies.push(stage.upload(frame).await),
                    Act::Begin { frame, .. } => bodies.push(stage.download(frame).await),
                    Act::Leave(number) if number < bodies.len() => {
                        let body = bodies.swap_remove(number);
                        body.task.abort();
                        settle().await;
                        gone += body.bytes();
                    }
                    Act::Leave(_) => {}
                    Act::Advance(by) => {
                        stage.advance(by).await;
                        millis += by;
                    }
                }
                most = most.max(bodies.len());
                let sent: u64 = gone + bodies.iter().map(Running::bytes).sum::<u64>();
                // The first grain of each is taken on the way in, and waits for nothing.
                let admitted = (rate / 2 + 4 + begun) * 1024 + millis * rate * 1024 / 1000;
                assert!(sent <= admitted, "{sent} bytes of {admitted} after {millis} ms");
                // From when bodies are there without a gap, all is used but what waits: a piece of each, and a grain begun.
                busy = match (bodies.is_empty(), busy) {
                    (true, _) => None,
                    (false, None) => Some((millis, sent)),
                    (false, busy) => busy,
                };
                if let Some((since, at)) = busy {
                    let given = (millis - since) * rate * 1024 / 1000;
                    let waits = (8 * 1024 + 1024 * rate / 50) * (most as u64 + 1) + (rate / 2 + 4) * 1024;
                    assert!(sent - at + waits >= given, "{} bytes of {given}", sent - at);
                }
            }
        });
    }
}
