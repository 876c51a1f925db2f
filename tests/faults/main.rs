//! What becomes of requests while Redis, or the way to it, is made to fail under load: one line a fault.
//!
//! `scripts/faults redis` runs them all and shows the lines; a bound that is not met is an error.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, unreachable_pub)]

mod proxy;
#[path = "../redis/stage.rs"]
mod stage;

use proxy::{Proxy, Weather};
use stage::{Cluster, SECRET, Server};
use std::{
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tidegate::{Identity, Limiter, Policy, Quota, RedisBuilder, RedisStore};
use tokio::time::sleep;

const DEADLINE: Duration = Duration::from_millis(100);
/// What one client may have: so many a second, and so many at once.
const RATE: u64 = 500;
const BURST: u64 = 100;
/// Callers of one instance, and how long each waits between two requests: together they ask for four times the rate.
const CALLERS: u64 = 4;
const PACE: Duration = Duration::from_millis(2);
/// How long a service may take to come back when a fault is over.
const BACK: Duration = Duration::from_secs(8);

/// One instance that is under load, until it is asked what became of it.
struct Load {
    limiter: Limiter,
    store: RedisStore,
    name: String,
    done: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    start: Instant,
}

#[derive(Default)]
struct Seen {
    admitted: u64,
    failed: u64,
    longest: Duration,
}

fn hasty(builder: RedisBuilder) -> RedisStore {
    let backoff = (Duration::from_millis(20), Duration::from_millis(200));
    let builder = builder.deadline(DEADLINE).connect_timeout(5 * DEADLINE).backoff(backoff.0, backoff.1);
    builder.known_refusals(Duration::ZERO).build().unwrap()
}

impl Load {
    async fn on(store: RedisStore, name: &str) -> Self {
        let policy = Policy::per_client(Quota::per_second(RATE).burst(BURST));
        let limiter = Limiter::builder(policy).secret(SECRET).store(store.clone()).build().unwrap();
        store.ready().await.unwrap();
        let (done, seen) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Seen>>::default());
        let mut load =
            Self { limiter, store, name: name.to_owned(), done, seen, tasks: vec![], start: Instant::now() };
        load.tasks = (0..CALLERS).map(|_| tokio::spawn(load.caller())).collect();
        load
    }

    fn caller(&self) -> impl Future<Output = ()> + Send + use<> {
        let client = self.limiter.client(&Identity::name(self.name.clone()));
        let (done, seen) = (self.done.clone(), self.seen.clone());
        async move {
            while !done.load(SeqCst) {
                let start = Instant::now();
                let decision = client.charge("client").await;
                let took = start.elapsed();
                {
                    let mut seen = seen.lock().unwrap();
                    seen.longest = seen.longest.max(took);
                    match decision {
                        Ok(decision) => seen.admitted += u64::from(decision.is_allowed()),
                        Err(_) => seen.failed += 1,
                    }
                }
                sleep(PACE).await;
            }
        }
    }

    fn admitted(&self) -> u64 {
        self.seen.lock().unwrap().admitted
    }

    /// How long until requests are admitted again.
    async fn back(&self) -> Option<Duration> {
        let (before, start) = (self.admitted(), Instant::now());
        while self.admitted() == before {
            if start.elapsed() > BACK {
                return None;
            }
            sleep(PACE).await;
        }
        Some(start.elapsed())
    }

    /// Ends it, and answers with what was seen and for how long it went.
    async fn end(self) -> (Seen, Duration) {
        self.done.store(true, SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        (seen, self.start.elapsed())
    }
}

/// A line, and whether all bounds were met. What a server forgets is at most a burst, `forgotten` times.
fn line(name: &str, seen: &Seen, time: Duration, forgotten: u64, back: Option<Duration>) -> bool {
    let bound = (RATE as f64 * time.as_secs_f64()) as u64 + (1 + forgotten) * BURST;
    let most = 2 * DEADLINE;
    let met = seen.admitted <= bound && seen.longest <= most && back.is_some();
    let back = back.map_or("never".to_owned(), |back| format!("{} ms", back.as_millis()));
    println!(
        "\nfault: {name:<33} longest stall {:>4} ms (bound {})  admitted {:>5} (bound {bound})  failed {:>5}  back after {back:>7}  {}",
        seen.longest.as_millis(),
        most.as_millis(),
        seen.admitted,
        seen.failed,
        if met { "met" } else { "NOT MET" },
    );
    met
}

const WARM: Duration = Duration::from_millis(500);
const FAULT: Duration = Duration::from_secs(2);

/// Load on one store, a fault, its end, and what came of it.
async fn under_load<F: Future<Output = ()>>(
    name: &str,
    store: RedisStore,
    forgotten: u64,
    fault: impl FnOnce() -> F,
) -> bool {
    let load = Load::on(store, "ann").await;
    sleep(WARM).await;
    fault().await;
    let back = load.back().await;
    sleep(WARM).await;
    let (seen, time) = load.end().await;
    line(name, &seen, time, forgotten, back)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn through(proxy: &Proxy) -> RedisStore {
    hasty(RedisStore::builder(format!("redis://127.0.0.1:{}", proxy.port)))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "`scripts/faults redis` runs it"]
async fn a_server_is_killed() {
    let port = free_port();
    let mut server = Server::on(port, &[]);
    let store = hasty(RedisStore::builder(format!("redis://127.0.0.1:{port}")));
    let met = under_load("SIGKILL, restarted empty", store, 1, || async {
        drop(server.take());
        sleep(FAULT / 2).await;
        server = Server::on(port, &[]);
    });
    assert!(met.await);
}

/// Two lines: while it is stopped, and from then on.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "`scripts/faults redis` runs it"]
async fn a_server_is_stopped_and_goes_on() {
    let server = Server::start();
    let load = Load::on(hasty(RedisStore::builder(server.url())), "ann").await;
    sleep(WARM).await;
    server.signal("STOP");
    sleep(Duration::from_secs(5)).await;
    let during = std::mem::take(&mut *load.seen.lock().unwrap());
    let met = line("SIGSTOP for 5 s", &during, load.start.elapsed(), 0, Some(Duration::ZERO));
    server.signal("CONT");
    let back = load.back().await;
    sleep(WARM).await;
    let (mut seen, time) = load.end().await;
    seen.admitted += during.admitted;
    assert!(line("SIGCONT after it", &seen, time, 0, back) && met);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "`scripts/faults redis` runs it"]
async fn connections_are_reset() {
    let server = Server::start();
    let proxy = Proxy::before(server.port).await;
    let met = under_load("connections reset every 200 ms", through(&proxy), 0, || async {
        for _ in 0..10 {
            proxy.reset();
            sleep(FAULT / 10).await;
        }
    });
    assert!(met.await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "`scripts/faults redis` runs it"]
async fn the_way_is_slow() {
    assert!(weather("200 ms latency, each way", Weather::Slow(Duration::from_millis(200))).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "`scripts/faults redis` runs it"]
async fn nothing_comes_through() {
    assert!(weather("nothing comes through", Weather::Cut).await);
}

async fn weather(name: &str, weather: Weather) -> bool {
    let server = Server::start();
    let proxy = Proxy::before(server.port).await;
    let met = under_load(name, through(&proxy), 0, || async {
        proxy.turn(weather);
        sleep(FAULT).await;
        proxy.turn(Weather::Fair);
    });
    met.await
}

/// One of two instances is cut off; the other one goes on as if nothing were.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "`scripts/faults redis` runs it"]
async fn one_of_two_instances_is_cut_off() {
    let server = Server::start();
    let proxy = Proxy::before(server.port).await;
    let other = Load::on(hasty(RedisStore::builder(server.url())), "ann").await;
    let cut = Load::on(through(&proxy), "ann").await;
    sleep(WARM).await;
    proxy.turn(Weather::Cut);
    let before = other.admitted();
    sleep(FAULT).await;
    let meanwhile = other.admitted() - before;
    proxy.turn(Weather::Fair);
    let back = cut.back().await;
    sleep(WARM).await;
    let ((cut, _), (other, time)) = (cut.end().await, other.end().await);
    let all = Seen {
        admitted: cut.admitted + other.admitted,
        failed: cut.failed,
        longest: cut.longest.max(other.longest),
    };
    // It has the whole quota, less what is lost to a machine that is slow.
    let goes_on = other.failed == 0 && meanwhile >= RATE;
    assert!(line("one of two instances cut off", &all, time, 0, back.filter(|_| goes_on)));
}

/// What it cannot keep is an error; so is everything that a replica is asked to write.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "`scripts/faults redis` runs it"]
async fn a_server_answers_errors() {
    let server = Server::start();
    let full = under_load("out of memory", hasty(RedisStore::builder(server.url())), 0, || async {
        server.say("CONFIG SET maxmemory-policy noeviction");
        server.say("CONFIG SET maxmemory 1");
        sleep(FAULT).await;
        server.say("CONFIG SET maxmemory 0");
    });
    let full = full.await;
    let read_only =
        under_load("read-only for a time", hasty(RedisStore::builder(server.url())), 0, || async {
            server.say("CONFIG SET replica-serve-stale-data yes");
            server.say(&format!("REPLICAOF 127.0.0.1 {}", free_port()));
            sleep(FAULT).await;
            server.say("REPLICAOF NO ONE");
        });
    assert!(read_only.await && full);
}

/// What was spent in the moments that were not copied yet is forgotten.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "`scripts/faults redis` runs it"]
async fn a_primary_is_replaced_by_a_sentinel() {
    let mut primary = Some(Server::start());
    let port = primary.as_ref().unwrap().port;
    let replica = Server::with(&["--replicaof", &format!("127.0.0.1 {port}")]);
    let sentinel = Server::sentinel(primary.as_ref().unwrap());
    stage::until(|| sentinel.say("SENTINEL REPLICAS gate").contains(&replica.port.to_string()));
    stage::until(|| replica.say("INFO replication").contains("master_link_status:up"));
    let store = hasty(RedisStore::sentinels("gate", [sentinel.url()]));
    let met = under_load("primary killed, sentinel promotes", store, 1, || async {
        drop(primary.take());
    });
    assert!(met.await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "`scripts/faults redis` runs it"]
async fn a_node_of_a_cluster_is_replaced() {
    let mut cluster = Cluster::start();
    let store = hasty(RedisStore::cluster(cluster.nodes[1..3].iter().map(Server::url)));
    let load = Load::on(store, "ann").await;
    sleep(WARM).await;
    let home = cluster.home(&cluster.counts().remove(0));
    drop(cluster.nodes.remove(home));
    let back = load.back().await;
    sleep(WARM).await;
    let joins = load.store.status().joins;
    let (seen, time) = load.end().await;
    assert!(line("node of a cluster killed", &seen, time, 1, back.filter(|_| joins > 0)));
}
