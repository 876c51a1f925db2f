//! The sending side beside its peers: what a send costs that may go at once, and what one takes that waits.

use crate::{
    alloc, goals,
    measure::{Law, Plan, median, sequence, visit},
    report::Row,
    subjects,
    work::{self, BATCH, Bare, Direct, Drive, Identity, Req, Subject},
};
use axum::extract::ConnectInfo;
use cpu_time::ThreadTime;
use http::StatusCode;
use std::{
    convert::Infallible,
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tidegate::{Limit, PaceLayer, Pacer, Quota, SendError};
use tokio::{runtime, task::JoinSet};
use tower::{Layer, Service, limit::RateLimit};

/// The fastest that there is, so that all goes at once: a unit each 100 ns.
pub(crate) const FAST: Quota = Quota::per_second(10_000_000);
const WAITING: u32 = 100_000;

fn pacer(limit: Limit) -> Pacer {
    Pacer::new([limit]).unwrap()
}

/// Through the layer, told apart by the peer's address.
pub(crate) fn layer(limit: Limit) -> impl Subject + 'static {
    let service = PaceLayer::new(pacer(limit), |request: &Req| {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        peer.map_or_else(tidegate::Identity::anonymous, |peer| tidegate::Identity::address(peer.0.ip()))
    });
    let service = service.layer(Bare::new());
    let status = |answer: Result<work::Res, SendError<Infallible>>| {
        answer.map_or(StatusCode::TOO_MANY_REQUESTS, |answer| answer.status())
    };
    subjects::layered(service, Identity::Address, status)
}

/// tower's own, which has one limit for all and cannot be cloned: each clone is a limit of its own.
struct Towered(Mutex<RateLimit<Bare>>);

impl Towered {
    fn new() -> Self {
        let rate = tower::limit::rate::Rate::new(FAST.amount(), FAST.period());
        Self(Mutex::new(RateLimit::new(Bare::new(), rate)))
    }

    fn inner(&mut self) -> &mut RateLimit<Bare> {
        self.0.get_mut().unwrap()
    }
}

impl Clone for Towered {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl Service<Req> for Towered {
    type Response = work::Res;
    type Error = Infallible;
    type Future = <RateLimit<Bare> as Service<Req>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner().poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        self.inner().call(request)
    }
}

fn runtime() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

type Governor = governor::DefaultKeyedRateLimiter<IpAddr>;

fn governor(amount: u32) -> Governor {
    Governor::keyed(governor::Quota::per_second(NonZeroU32::new(amount).unwrap()))
}

fn leaky(amount: usize) -> leaky_bucket::RateLimiter {
    // Refilled each millisecond, which is its timer's grain.
    let mut builder = leaky_bucket::RateLimiter::builder();
    builder.max(amount).initial(amount).refill(amount.div_ceil(1_000));
    builder.interval(Duration::from_millis(1)).build()
}

/// What goes at once.
pub(crate) fn at_once(quick: bool) {
    let runtime = runtime();
    let _entered = runtime.enter();
    for keys in [1, 100_000] {
        let own = || Limit::per_client("sends", FAST);
        let pacer = pacer(own());
        let alone = Direct {
            key: work::address,
            decide: |ip: &IpAddr| work::now(pacer.until_ready(tidegate::Identity::address(*ip), 1)).is_ok(),
        };
        let (governed, leaked) = (governor(10_000_000), leaky(10_000_000));
        let governed = Direct {
            key: work::address,
            decide: |ip: &IpAddr| {
                work::now(governed.until_key_ready(ip));
                true
            },
        };
        let leaked = Direct {
            key: work::address,
            decide: |_: &IpAddr| {
                work::now(leaked.acquire_one());
                true
            },
        };
        let bare = subjects::layered(Bare::new(), Identity::Address, subjects::done);
        let towered = subjects::layered(Towered::new(), Identity::Address, subjects::done);
        let (paced, shared) = (layer(own()), layer(Limit::shared("sends", FAST)));
        let all: [&dyn Subject; 7] = [&bare, &paced, &shared, &alone, &towered, &governed, &leaked];
        all.iter().for_each(|subject| visit(*subject, keys));
        for threads in [1, 2] {
            // What has a timer for each worker needs the runtime, which is on this thread.
            let all = if threads == 1 { &all[..] } else { &all[..4] };
            let (sequence, turn) =
                (sequence(keys, Law::Uniform), Duration::from_millis(if quick { 8 } else { 30 }));
            let rounds = if quick { 7 } else { 21 };
            let times = Plan { drive: Drive::Call, threads, sequence: &sequence, turn, rounds }.measure(all);
            let less = |number: usize| -> Vec<f64> {
                times[number].iter().zip(&times[0]).map(|(time, bare)| time - bare).collect()
            };
            let row = |name: &str| Row::new(format!("pace: {name}"), threads, keys);
            let goal = (threads == 1).then_some(goals::SEND_NS);
            row("a send at once").value(tenths(median(&less(1))), "ns").goal(goal).print();
            row("a send at once, shared limit").value(tenths(median(&less(2))), "ns").print();
            let ready = row("until_ready").time(median(&times[3]));
            if threads == 2 {
                ready.print();
                continue;
            }
            let send = row("a send at once").time(median(&less(1)));
            send.beside("tower RateLimit (no keys)", median(&less(4))).print();
            ready.clone().beside("governor until_key_ready", median(&times[5])).print();
            ready.beside("leaky-bucket (no keys)", median(&times[6])).print();
        }
        let allocs = allocations(&paced) - allocations(&bare);
        let row = Row::new("pace: a send at once, allocations", 1, keys);
        Row { allocs: Some(allocs), ..row }.goal(Some(0.0)).print();
    }
}

fn allocations(subject: &dyn Subject) -> f64 {
    let mut worker = subject.worker(Drive::Call);
    let mut taken = 0;
    for _ in 0..3 {
        worker.prepare(&[0; BATCH]);
        let before = alloc::taken();
        worker.run();
        taken = alloc::taken() - before;
    }
    taken as f64 / BATCH as f64
}

fn tenths(value: f64) -> f64 {
    (10.0 * value).round() / 10.0
}

/// A loop that is held to a million a second.
pub(crate) fn million(quick: bool) {
    let sends = if quick { 500_000 } else { 3_000_000 };
    runtime().block_on(async {
        let pacer = pacer(Limit::shared("sends", Quota::per_second(1_000_000)));
        let (start, cpu) = (Instant::now(), ThreadTime::now());
        for _ in 0..sends {
            pacer.until_ready("producer", 1).await.unwrap();
        }
        let row = |name: &str| Row::new(format!("pace: a loop at 1,000,000 a second, {name}"), 1, 1);
        let each = |time: Duration| tenths(time.as_nanos() as f64 / f64::from(sends));
        row("time a send").value(each(start.elapsed()), "ns").goal(Some(goals::MILLION_NS)).print();
        row("CPU time a send").value(each(cpu.elapsed()), "ns").print();
    });
}

/// Bytes that a send takes that waits in a task of its own.
pub(crate) fn waiting() {
    let slow = Quota::per_hour(1);
    for keys in [1, WAITING] {
        let limit = if keys == 1 { Limit::per_client("sends", slow) } else { Limit::shared("sends", slow) };
        let pacer = pacer(limit).max_waiting(WAITING as usize, WAITING as usize);
        let service =
            PaceLayer::new(pacer.clone(), |key: &u32| tidegate::Identity::address(work::address(*key)))
                .layer(tower::service_fn(|_: u32| async { Ok::<_, Infallible>(()) }));
        let bytes = each_of(keys, |key| {
            let mut service = service.clone();
            async move {
                let _ = service.call(key).await;
            }
        });
        assert_eq!(pacer.waiting(), 0);
        let row = Row::new("pace: a send that waits", 1, keys).value(bytes, "B");
        row.goal(Some(goals::BYTES_A_WAITING_SEND)).print();
    }
    let governed = Arc::new(Governor::keyed(governor::Quota::with_period(slow.period()).unwrap()));
    let bytes = each_of(1, |key| {
        let governed = governed.clone();
        async move { governed.until_key_ready(&work::address(key)).await }
    });
    Row::new("pace: a send that waits, governor", 1, 1).value(bytes, "B").print();
    let mut builder = leaky_bucket::RateLimiter::builder();
    let leaked = Arc::new(builder.max(1).initial(1).interval(slow.period()).build());
    let bytes = each_of(1, |_| {
        let leaked = leaked.clone();
        async move { leaked.acquire_one().await }
    });
    Row::new("pace: a send that waits, leaky-bucket", 1, 1).value(bytes, "B").print();
}

/// Lets so many tasks wait, and answers with the bytes that each takes.
fn each_of<F: Future<Output = ()> + Send + 'static>(keys: u32, send: impl Fn(u32) -> F) -> f64 {
    let runtime = runtime();
    let bytes = runtime.block_on(async {
        let (before, mut tasks) = (alloc::live_bytes(), JoinSet::new());
        for number in 0..WAITING {
            tasks.spawn(send(number % keys));
        }
        // All have been polled once, and some have gone.
        tokio::time::sleep(Duration::from_millis(1)).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        while tasks.try_join_next().is_some() {}
        assert!(tasks.len() >= WAITING as usize - 1, "{} wait", tasks.len());
        (alloc::live_bytes() - before) as f64 / f64::from(WAITING)
    });
    drop(runtime);
    tenths(bytes)
}

/// How often a send that waits is woken.
pub(crate) fn wake_ups(quick: bool) {
    let sends = if quick { 500u32 } else { 3_000 };
    let paced = |limit: Limit, keys: u32| {
        let pacer = pacer(limit);
        polls(sends, |number, polls| {
            let key = tidegate::Identity::address(work::address(number % keys));
            let future = pacer.until_ready(key, 1);
            counted(async move { drop(future.await) }, polls)
        })
    };
    let quota = Quota::per_second(1_000);
    for (name, limit, keys) in [
        ("one key", Limit::per_client("sends", quota), 1),
        ("100 keys at a shared limit", Limit::shared("sends", quota), 100),
    ] {
        let woken = paced(limit, keys);
        let row = Row::new(format!("pace: wake-ups a send, {name}"), 1, keys).value(woken, "");
        row.goal(Some(goals::WAKE_UPS)).print();
    }
    let governed = Arc::new(governor(1_000));
    // Beyond the burst, which goes at once.
    (0..1_000).for_each(|_| drop(governed.check_key(&work::address(0))));
    let woken = polls(sends, |_, polls| {
        let governed = governed.clone();
        counted(async move { governed.until_key_ready(&work::address(0)).await }, polls)
    });
    Row::new("pace: wake-ups a send, governor", 1, 1).value(woken, "").print();
    let leaked = Arc::new(
        leaky_bucket::RateLimiter::builder()
            .max(1)
            .initial(0)
            .refill(1)
            .interval(Duration::from_millis(1))
            .build(),
    );
    let woken = polls(sends, |_, polls| {
        let leaked = leaked.clone();
        counted(async move { leaked.acquire_one().await }, polls)
    });
    Row::new("pace: wake-ups a send, leaky-bucket", 1, 1).value(woken, "").print();
}

/// How often each of so many that start together is polled after the first time.
fn polls<F: Future<Output = ()> + Send + 'static>(
    sends: u32,
    send: impl Fn(u32, Arc<AtomicU64>) -> F,
) -> f64 {
    let polls = Arc::new(AtomicU64::new(0));
    runtime().block_on(async {
        let mut tasks: JoinSet<()> = (0..sends).map(|number| send(number, polls.clone())).collect();
        while tasks.join_next().await.is_some() {}
    });
    let again = polls.load(Relaxed).saturating_sub(sends.into());
    (100.0 * again as f64 / f64::from(sends)).round() / 100.0
}

async fn counted(future: impl Future<Output = ()>, polls: Arc<AtomicU64>) {
    let mut future = pin!(future);
    poll_fn(|cx| {
        polls.fetch_add(1, Relaxed);
        future.as_mut().poll(cx)
    })
    .await;
}
