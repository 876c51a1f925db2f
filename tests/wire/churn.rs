//! A thousand clients who leave at random moments of request and response: none leaks a permit, and never do more run than
//! may.

use crate::stage::*;
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    env,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tidegate::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket},
    task::{JoinSet, yield_now},
    time::timeout,
};
use tower::{Layer as _, service_fn};

const CLIENTS: u64 = 1_000;
const AT_ONCE: usize = 8;

/// Numbers without order, the same on each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// One request or response that is under way.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        assert!(count.fetch_add(1, SeqCst) < AT_ONCE, "more are running than may");
        Self(count.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

async fn start(limiter: &Limiter, running: &Arc<AtomicUsize>, most: &Arc<AtomicUsize>) -> SocketAddr {
    let (running, most) = (running.clone(), most.clone());
    let app = service_fn(move |_: Request<Incoming>| {
        let guard = Running::new(&running);
        most.fetch_max(running.load(SeqCst), SeqCst);
        async move {
            yield_now().await;
            let body = stream::unfold((guard, 0), async |(guard, chunk)| {
                yield_now().await;
                (chunk < 6).then(|| {
                    (Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0; 512]))), (guard, chunk + 1))
                })
            });
            Ok::<_, Infallible>(Response::new(StreamBody::new(body)))
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(accept(listener, limiter.layer().layer(app)));
    address
}

/// Says a part of a request or all of it, reads a part of the answer or all of it, and is gone. Answers whether it stayed
/// to the end.
async fn visit(number: u64, server: SocketAddr, mut dice: Dice) -> bool {
    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\r\n";
    let socket = TcpSocket::new_v4().unwrap();
    let ip = [127, 0, 1 + (number >> 8) as u8, number as u8];
    socket.bind(SocketAddr::from((ip, 0))).unwrap();
    let mut stream = socket.connect(server).await.unwrap();
    let said = if dice.roll(8) == 0 { dice.roll(HEAD.len() as u64) as usize } else { HEAD.len() };
    stream.write_all(&HEAD[..said]).await.unwrap();
    let stays = said == HEAD.len() && dice.roll(3) == 0;
    let mut answer = Vec::new();
    if stays {
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.1 429"));
        return true;
    }
    for _ in 0..dice.roll(4) {
        yield_now().await;
    }
    if said == HEAD.len() && dice.roll(2) == 0 {
        let _ = stream.read_buf(&mut answer).await;
    }
    false
}

/// At least until all clients came, and for `time`; so many of them are connected at once.
async fn churn(time: Duration, connected: usize) {
    let concurrency = Concurrency::shared("all", AT_ONCE as u32).wait(2, Duration::from_secs(10));
    let rule = Rule::new("rule").concurrency(Concurrency::per_client("one", 1)).concurrency(concurrency);
    let limiter = Limiter::builder(Policy::new().rule(rule)).timer(tokio::time::sleep).build().unwrap();
    let (running, most) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let server = start(&limiter, &running, &most).await;
    let (mut dice, mut visits, mut stayed) = (Dice(4), JoinSet::new(), 0);
    let start = Instant::now();
    let mut number = 0;
    while number < CLIENTS || start.elapsed() < time {
        visits.spawn(visit(number % CLIENTS, server, Dice(dice.roll(u64::MAX >> 34))));
        number += 1;
        if visits.len() == connected {
            stayed += usize::from(visits.join_next().await.unwrap().unwrap());
        }
    }
    while let Some(visit) = visits.join_next().await {
        stayed += usize::from(visit.unwrap());
    }
    assert!(stayed > 100, "only {stayed} of {number} stayed");
    assert_eq!(most.load(SeqCst), AT_ONCE, "the limit was never reached");
    // Servers see in their own time that a client has left.
    while limiter.in_flight() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((limiter.waiting(), running.load(SeqCst)), (0, 0));
    // All the room is there again.
    let mut clients = Vec::new();
    for ip in 1..=AT_ONCE {
        let mut client = Connection::from(&format!("127.0.9.{ip}"), server, http::Version::HTTP_11).await;
        assert_eq!(client.get("/").await.into_body().collect().await.unwrap().to_bytes().len(), 6 * 512);
        clients.push(client);
    }
    println!(
        "{number} clients came and {stayed} stayed to the end; at most {AT_ONCE} ran at once, and no permit was leaked"
    );
}

/// `scripts/soak` lets it go on for a minute, and all of them be connected at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_that_leave_at_random_moments_leak_nothing() {
    let seconds = env::var("TIDEGATE_SOAK_SECONDS").ok().map(|seconds| seconds.parse().unwrap());
    let (time, connected) = seconds.map_or((1, 200), |seconds| (seconds, CLIENTS as usize));
    let time = Duration::from_secs(time);
    timeout(time + Duration::from_secs(20), churn(time, connected)).await.expect("it hangs");
}
