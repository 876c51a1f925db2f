//! Four processes that send as much as they can to the same keys: what they admit together, beside the bound that is told.
//!
//! By itself, so that nothing else is tested while they take all of the machine.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "redis/stage.rs"]
mod stage;

use stage::Server;
use std::{
    collections::HashMap,
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};
use tidegate::{Identity, Limit, Policy, Quota, RedisStore, Rule};

const URL: &str = "TIDEGATE_TEST_REDIS";
const KEYS: &str = "TIDEGATE_TEST_KEYS";
const LEASED: &str = "TIDEGATE_TEST_LEASED";
/// How long they send; longer than in the tests for the table in docs/scaling.md.
const SECONDS: &str = "TIDEGATE_HAMMER_SECONDS";
/// How many are many keys; 200 unless set.
const MANY: &str = "TIDEGATE_HAMMER_KEYS";
const PROCESSES: u64 = 4;
const TASKS: u64 = 64;

/// What one key may have each second, and how many units a process leases, if it does.
fn quota(keys: u64) -> (u64, u64, u64) {
    match keys {
        1 => (2_000, 1_000, 200),
        ..1_000 => (20, 20, 5),
        _ => (1, 2, 2),
    }
}

fn number(name: &str) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// The child of the tests below.
#[tokio::test]
#[ignore = "is started by the tests below"]
async fn child_that_hammers() {
    let Ok(url) = env::var(URL) else { return };
    let (keys, (rate, burst, units)) = (number(KEYS), quota(number(KEYS)));
    let limit = Limit::per_client("client", Quota::per_second(rate).burst(burst));
    let limit = if number(LEASED) == 1 { limit.leased(u32::try_from(units).unwrap()) } else { limit };
    let store = RedisStore::builder(url).deadline(Duration::from_secs(30)).build().unwrap();
    let policy = Policy::new().rule(Rule::new("client").limit(limit));
    let limiter = stage::limiter(&store, policy).await;
    println!("\nready");
    // All begin together.
    tokio::task::spawn_blocking(|| std::io::stdin().read_exact(&mut [0])).await.unwrap().unwrap();
    let start = SystemTime::now();
    let end = start + Duration::from_secs(number(SECONDS));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let limiter = limiter.clone();
            tokio::spawn(async move {
                let mut admitted = HashMap::<u64, u64>::new();
                let mut key = task;
                while SystemTime::now() < end {
                    // Each task goes through all of them.
                    key = (key + 61) % keys;
                    let charge = limiter.charge(&Identity::name(format!("client {key}")), "client").await;
                    if charge.unwrap().is_allowed() {
                        *admitted.entry(key).or_default() += 1;
                    }
                    tokio::task::yield_now().await;
                }
                admitted
            })
        })
        .collect();
    for task in tasks {
        for (key, admitted) in task.await.unwrap() {
            println!("\nadmitted {key} {admitted}");
        }
    }
    let nanos = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    println!("\ntimes {} {}", nanos(start), nanos(SystemTime::now()));
    println!("\nnumbers {} {}", store.status().calls, store.status().leased_decisions);
    store.leave().await;
}

fn start(server: &Server, keys: u64, leased: bool) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "child_that_hammers", "--ignored", "--nocapture", "--test-threads=1"])
        .env(URL, server.url())
        .env(KEYS, keys.to_string())
        .env(LEASED, u64::from(leased).to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn hammer(keys: u64, leased: bool) {
    let server = Server::start();
    let mut children: Vec<_> = (0..PROCESSES).map(|_| start(&server, keys, leased)).collect();
    let mut lines: Vec<_> =
        children.iter_mut().map(|child| BufReader::new(child.stdout.take().unwrap()).lines()).collect();
    for lines in &mut lines {
        assert!(lines.any(|line| line.unwrap() == "ready"));
    }
    for child in &mut children {
        child.stdin.take().unwrap().write_all(b"!").unwrap();
    }
    let (mut admitted, mut first, mut last) = (HashMap::<u64, u64>::new(), u64::MAX, 0);
    let (mut calls, mut local) = (0, 0);
    for lines in lines {
        for line in lines.map(Result::unwrap) {
            let mut words = line.split(' ');
            let (what, numbers) = (words.next(), words.flat_map(str::parse).collect::<Vec<u64>>());
            match (what, &numbers[..]) {
                (Some("admitted"), [key, units]) => *admitted.entry(*key).or_default() += units,
                (Some("times"), [from, to]) => (first, last) = (first.min(*from), last.max(*to)),
                (Some("numbers"), [asked, leased]) => (calls, local) = (calls + asked, local + leased),
                _ => {}
            }
        }
    }
    children.iter_mut().for_each(|child| assert!(child.wait().unwrap().success()));
    let (rate, burst, units) = quota(keys);
    let passed = (last - first) as f64 / 1e9;
    let exact = (rate as f64 * passed).floor() as u64 + burst;
    let bound = exact + if leased { PROCESSES * units } else { 0 };
    let most = admitted.values().max().copied().unwrap_or(0);
    let all: u64 = admitted.values().sum();
    println!(
        "\nhammer: {keys} keys, leased {leased}: in {passed:.3} s the most of a key {most}, bound {bound}; in all {all}, quota {}; {calls} calls, {local} without",
        exact * keys
    );
    assert!(most <= bound, "{most} of {bound}");
    // In the long run nothing beyond the quota; what was held in between is forgiven.
    assert!(all <= bound * keys && all >= exact * keys / 2, "{all} of {}", exact * keys);
    // Keys that are asked for less than once in a while are leased nothing.
    assert!(leased || local == 0);
    assert!(!leased || keys > 1_000 || local > 0);
}

fn many() -> u64 {
    env::var(MANY).ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

#[test]
fn four_processes_at_one_key() {
    hammer(1, false);
}

#[test]
fn four_processes_at_one_key_that_is_leased() {
    hammer(1, true);
}

#[test]
fn four_processes_at_many_keys() {
    hammer(many(), false);
}

#[test]
fn four_processes_at_many_keys_that_are_leased() {
    hammer(many(), true);
}
