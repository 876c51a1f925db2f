//! What counting in Redis costs, beside the barest script through the same library, and Redis's own load generator.

mod server;

use crate::{
    goals,
    measure::{Law, Plan, median, sequence, visit},
    report::Row,
    subjects::{self, Mode},
    work::{self, Bare as Service, Drive, Subject},
};
use redis::aio::MultiplexedConnection;
use server::Server;
use std::time::{Duration, Instant};
use tidegate::{Identity, Limit, Limiter, Policy, Quota, RedisStore, Rule};
use tokio::{runtime::Runtime, task::JoinSet};
use tower::Layer;

/// As many clients as come in turn.
const CLIENTS: u32 = 100_000;
/// As many are stored.
const STORED: u32 = 1_000_000;
const BARE: &str = "bare script, redis-rs";
const GENERATOR: &str = "bare script, redis-benchmark";

/// Whoever is measured: a call decides for a client.
trait Caller: Clone + Send + 'static {
    fn call(&self, client: u32) -> impl Future<Output = bool> + Send;
}

#[derive(Clone)]
struct Ours(Limiter);

impl Caller for Ours {
    async fn call(&self, client: u32) -> bool {
        let identity = Identity::address(work::address(client));
        self.0.charge(&identity, "client").await.unwrap().is_allowed()
    }
}

/// The barest script, through one connection of the library that Tidegate uses.
#[derive(Clone)]
struct Bare {
    line: MultiplexedConnection,
    hash: String,
    interval: &'static str,
}

/// Microseconds: one a second, so that every client always owes something, and a burst that no run uses up.
const INTERVAL: &str = "1000000";
const HOUR: &str = "3600000000";
const BURST: &str = "1000000000000000";

impl Bare {
    async fn new(server: &Server) -> Self {
        let mut line =
            redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
        let load = redis::cmd("SCRIPT").arg("LOAD").arg(include_str!("bare.lua")).to_owned();
        let hash = load.query_async(&mut line).await.unwrap();
        Self { line, hash, interval: INTERVAL }
    }
}

impl Caller for Bare {
    async fn call(&self, client: u32) -> bool {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hash).arg(1).arg(format!("bare:{client:012}")).arg(self.interval).arg(BURST);
        command.query_async::<i64>(&mut self.line.clone()).await.unwrap() == 0
    }
}

/// Limits of a client's own, all alike.
async fn limiter(server: &Server, limits: usize, quota: Quota) -> Ours {
    let store = RedisStore::builder(server.url()).deadline(Duration::from_secs(10)).build().unwrap();
    let limits = (0..limits).map(|number| Limit::per_client(format!("limit {number}"), quota));
    let policy = Policy::new().rule(limits.fold(Rule::new("client"), Rule::limit));
    let limiter = Limiter::builder(policy).secret([7; 16]).store(store.clone()).build().unwrap();
    store.ready().await.unwrap();
    Ours(limiter)
}

fn allow() -> Quota {
    Quota::per_second(1).burst(1_000_000)
}

/// One thread for clients, because Redis has the other processor.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Nanoseconds a call, where so many tasks each wait for their answer.
async fn load(caller: &impl Caller, tasks: u32, time: Duration) -> f64 {
    let (start, mut working) = (Instant::now(), JoinSet::new());
    for task in 0..tasks {
        let caller = caller.clone();
        working.spawn(async move {
            let (mut calls, mut client) = (0u32, task);
            while start.elapsed() < time {
                assert!(caller.call(client).await, "nobody is refused");
                client = (client + tasks) % CLIENTS;
                calls += 1;
            }
            calls
        });
    }
    let mut calls = 0;
    while let Some(done) = working.join_next().await {
        calls += done.unwrap();
    }
    start.elapsed().as_nanos() as f64 / f64::from(calls)
}

/// How long a turn is, and how many of them there are.
fn turns(quick: bool) -> (Duration, usize) {
    if quick { (Duration::from_millis(500), 5) } else { (Duration::from_secs(2), 9) }
}

/// Calls through one connection, and by a lone caller.
pub(crate) fn exact(quick: bool) {
    let (server, runtime, (time, rounds)) = (Server::start(), runtime(), turns(quick));
    let (ours, bare) =
        runtime.block_on(async { (limiter(&server, 1, allow()).await, Bare::new(&server).await) });
    let command = ["EVALSHA", &bare.hash, "1", "bare:__rand_int__", INTERVAL, BURST];
    for tasks in [256, 64, 1] {
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..rounds {
            times[0].push(runtime.block_on(load(&ours, tasks, time)));
            times[1].push(runtime.block_on(load(&bare, tasks, time)));
            let calls = (time.as_nanos() as f64 / times[1][0]) as u32;
            times[2].push(server.benchmark(calls.max(1), tasks as usize, CLIENTS, &command));
        }
        let [ours, bare, generator] = times.map(|times| median(&times));
        let name =
            if tasks == 1 { "exact, a lone caller".to_owned() } else { format!("exact, {tasks} tasks") };
        let row = || Row::new(name.clone(), 1, CLIENTS).time(ours);
        row().beside(BARE, bare).print();
        row().beside(GENERATOR, generator).goal((tasks == 256).then_some(goals::EXACT)).print();
    }
}

/// What a call takes of Redis's processor.
pub(crate) fn scripts(quick: bool) {
    let (server, runtime, (time, rounds)) = (Server::start(), runtime(), turns(quick));
    let (one, three, bare) = runtime.block_on(async {
        let one = limiter(&server, 1, allow()).await;
        (one, limiter(&server, 3, allow()).await, Bare::new(&server).await)
    });
    let mut times = [const { (Vec::new(), Vec::new()) }; 3];
    for _ in 0..rounds {
        for (number, (whole, script)) in times.iter_mut().enumerate() {
            let before = server.busy();
            runtime.block_on(async {
                match number {
                    0 => load(&bare, 256, time).await,
                    1 => load(&one, 256, time).await,
                    _ => load(&three, 256, time).await,
                }
            });
            let (all, within) = server.busy().since(before);
            whole.push(1e3 * all);
            script.push(1e3 * within);
        }
    }
    let [bare, one, three] = times.map(|(whole, script)| (median(&whole), median(&script)));
    for (name, ours, goal) in [("one limit", one, goals::CPU_ONE), ("three limits", three, goals::CPU_THREE)]
    {
        let row = |what: &str| Row::new(format!("Redis's processor, {name}{what}"), 1, CLIENTS);
        row("").time(ours.0).beside(BARE, bare.0).goal(Some(goal)).print();
        row(", the script alone").time(ours.1).beside(BARE, bare.1).print();
    }
}

/// Bytes of Redis's memory for a client and limit.
pub(crate) fn stored() {
    let (server, runtime) = (Server::start(), runtime());
    let ours = runtime.block_on(limiter(&server, 1, Quota::per_day(10)));
    let bytes = runtime.block_on(fill(&server, &ours));
    drop((ours, server));
    let server = Server::start();
    let least =
        runtime.block_on(async { fill(&server, &Bare { interval: HOUR, ..Bare::new(&server).await }).await });
    let row = Row::new("Redis's memory: a client and limit", 1, STORED).value(bytes, "B");
    row.beside_value(BARE, least).goal(Some(goals::BYTES_STORED)).print();
}

/// Bytes that a client takes, where each comes once.
async fn fill(server: &Server, caller: &impl Caller) -> f64 {
    let (tasks, before) = (256, server.used_memory());
    let mut working = JoinSet::new();
    for task in 0..tasks {
        let caller = caller.clone();
        working.spawn(async move {
            for client in (task..STORED).step_by(tasks as usize) {
                assert!(caller.call(client).await, "each comes once");
            }
        });
    }
    while let Some(done) = working.join_next().await {
        done.unwrap();
    }
    (10.0 * (server.used_memory() - before) / f64::from(STORED)).round() / 10.0
}

/// As many clients as are refused by what is known.
const REFUSED: u32 = 1_000;

/// Refusals that are known beside those of the embedded engine, each as a whole response.
pub(crate) fn known(quick: bool) {
    let (server, runtime, quota) = (Server::start(), runtime(), subjects::quota(Mode::Refuse));
    // Known for longer than all turns together take.
    let store = RedisStore::builder(server.url()).known_refusals(Duration::from_secs(10));
    let store = store.deadline(Duration::from_secs(10)).build().unwrap();
    let policy = Policy::new().rule(Rule::new("client").limit(Limit::per_client("client", quota)));
    let builder = Limiter::builder(policy.clone()).secret([7; 16]);
    let _runtime = runtime.enter();
    let remote = builder.store(store.clone()).build().unwrap();
    runtime.block_on(store.ready()).unwrap();
    let embedded = Limiter::builder(policy).secret([7; 16]).build().unwrap();
    let layered = |limiter: &Limiter| {
        subjects::layered(limiter.layer().layer(Service::new()), work::Identity::Address, subjects::done)
    };
    let bare = subjects::layered(Service::dropping(), work::Identity::Address, subjects::done);
    let all: [&dyn Subject; 3] = [&bare, &layered(&remote), &layered(&embedded)];
    // The second visit is refused.
    all.iter().for_each(|subject| (0..2).for_each(|_| visit(*subject, REFUSED)));
    let calls = store.status().calls;
    let (rounds, turn) = (if quick { 11 } else { 51 }, Duration::from_millis(20));
    let sequence = sequence(REFUSED, Law::Uniform);
    let times = Plan { drive: Drive::Call, threads: 1, sequence: &sequence, turn, rounds }.measure(&all);
    assert_eq!(store.status().calls, calls, "nobody is asked");
    let less = |number: usize| {
        let rounds = times[number].iter().zip(&times[0]).map(|(time, bare)| time - bare);
        median(&rounds.collect::<Vec<_>>())
    };
    let row = Row::new("refused, known", 1, REFUSED).time(less(1));
    row.beside("refused, embedded", less(2)).goal(Some(goals::KNOWN)).print();
}
