//! What becomes of requests while Redis is away, and when it comes back.

use crate::stage::{Events, SECRET, Server};
use futures_util::FutureExt as _;
use std::{
    future::IntoFuture as _,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tidegate::{
    Decision, Identity, Limit, Limiter, Policy, Quota, RedisBuilder, RedisStore, Rule, StoreDown,
};

const DEADLINE: Duration = Duration::from_millis(100);

fn daily(units: u64, how: StoreDown) -> Policy {
    Policy::new()
        .rule(Rule::new("client").limit(Limit::per_client("client", Quota::per_day(units)).store_down(how)))
}

/// It gives up soon, and comes back soon.
fn hasty(url: String) -> RedisBuilder {
    let pause = Duration::from_millis(10);
    RedisStore::builder(url)
        .deadline(DEADLINE)
        .connect_timeout(5 * DEADLINE)
        .backoff(pause, pause)
        .failures(3)
}

fn build(store: &RedisStore, policy: Policy, events: &Events) -> Limiter {
    let builder = Limiter::builder(policy).secret(SECRET).store(store.clone());
    builder.observe(events.observer()).build().unwrap()
}

async fn charge(limiter: &Limiter) -> Result<Decision, String> {
    limiter.charge(&Identity::name("ann"), "client").await.map_err(|error| error.to_string())
}

/// What a charge says that must not wait.
#[track_caller]
fn at_once(limiter: &Limiter) -> Result<Decision, String> {
    let charging = limiter.charge(&Identity::name("ann"), "client").into_future();
    charging.now_or_never().expect("nobody waits").map_err(|error| error.to_string())
}

fn remaining(decision: &Decision) -> u32 {
    decision.limits().next().unwrap().remaining()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Charges until Redis answers again: a machine that hangs can be taken for a server that does.
async fn charge_at_last(limiter: &Limiter, store: &RedisStore) -> Decision {
    loop {
        store.ready().await.unwrap();
        if let Ok(decision) = charge(limiter).await {
            return decision;
        }
    }
}

#[tokio::test]
async fn it_starts_without_a_server_and_joins_when_it_comes() {
    let (port, events) = (free_port(), Events::default());
    let store = hasty(format!("redis://127.0.0.1:{port}")).build().unwrap();
    let limiter = build(&store, daily(5, StoreDown::Deny), &events);
    assert!(at_once(&limiter).unwrap_err().contains("not connected yet"));
    events.until("Unreachable").await;
    assert!(at_once(&limiter).unwrap_err().contains("Redis is not asked"));
    let _server = Server::on(port, &[]).unwrap();
    events.until("Joined { instances: 1 }").await;
    assert_eq!(remaining(&charge_at_last(&limiter, &store).await), 4);
}

/// Charges whose answers did not come in time were sent and may have counted: here they did, once the server went on.
#[tokio::test]
async fn nobody_waits_for_a_server_that_hangs() {
    let (server, events) = (Server::start(), Events::default());
    let store = hasty(server.url()).build().unwrap();
    let limiter = build(&store, daily(1_000, StoreDown::Deny), &events);
    let before = remaining(&charge_at_last(&limiter, &store).await);
    server.signal("STOP");
    let mut late = 0;
    for _ in 0..10 {
        let error = charge(&limiter).await.unwrap_err();
        late += u32::from(error.contains("did not answer within"));
    }
    // A sign of life that got no answer counts as well.
    assert!((1..=3).contains(&late), "{late}");
    for _ in 0..1_000 {
        assert!(at_once(&limiter).unwrap_err().contains("Redis is not asked"));
    }
    let status = store.status();
    assert!(status.unsent >= 1_000 && status.in_flight == 0 && status.late >= u64::from(late), "{status:?}");
    events.until("Opened").await;
    server.signal("CONT");
    events.until("Joined").await;
    let after = charge_at_last(&limiter, &store).await;
    assert!(remaining(&after) < before - late, "{} of {before}", remaining(&after));
}

#[tokio::test]
async fn a_server_that_dies_is_noticed_and_its_successor_joined() {
    let (port, events) = (free_port(), Events::default());
    let server = Server::on(port, &[]).unwrap();
    let store = hasty(server.url()).build().unwrap();
    let limiter = build(&store, daily(5, StoreDown::Deny), &events);
    charge_at_last(&limiter, &store).await;
    drop(server);
    charge(&limiter).await.unwrap_err();
    events.until("Unreachable").await;
    at_once(&limiter).unwrap_err();
    let _server = Server::on(port, &[]).unwrap();
    events.until("Joined").await;
    // It knew of nothing, and neither did the script survive.
    assert_eq!(remaining(&charge_at_last(&limiter, &store).await), 4);
    assert!(store.status().joins >= 2);
}

#[tokio::test]
async fn while_redis_is_away_each_instance_admits_its_part() {
    let (server, events) = (Server::start(), Events::default());
    let mut instances = Vec::new();
    for number in 1..=2 {
        let store = hasty(server.url()).build().unwrap();
        let limiter = build(&store, daily(10, StoreDown::Local), &events);
        events.until(&format!("Joined {{ instances: {number} }}")).await;
        instances.push((store, limiter));
    }
    // The first one hears of the second one with its next sign of life.
    while instances[0].0.status().instances < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(server);
    for (_, limiter) in &instances {
        let mut admitted = 0;
        for _ in 0..20 {
            admitted += u32::from(charge(limiter).await.unwrap().is_allowed());
        }
        assert_eq!(admitted, 5);
    }
}

/// A charge is a future like any other, which another runtime may poll, or none.
#[tokio::test]
async fn a_charge_can_be_polled_without_a_runtime() {
    let (server, events) = (Server::start(), Events::default());
    let store = hasty(server.url()).build().unwrap();
    let limiter = build(&store, daily(5, StoreDown::Deny), &events);
    charge_at_last(&limiter, &store).await;
    let elsewhere = std::thread::spawn(move || {
        let decision = limiter.charge(&Identity::name("ann"), "client").into_future().now_or_never();
        (decision.is_none(), limiter)
    });
    assert!(elsewhere.join().unwrap().0);
}

#[tokio::test]
async fn settlements_that_cannot_be_sent_are_counted() {
    let (server, events) = (Server::start(), Events::default());
    let store = hasty(server.url()).build().unwrap();
    let limiter = build(&store, daily(5, StoreDown::Deny), &events);
    let decision = charge_at_last(&limiter, &store).await;
    drop(server);
    charge(&limiter).await.unwrap_err();
    events.until("Unreachable").await;
    limiter.refund(&decision);
    assert_eq!(store.status().lost_settlements, 1);
}

#[tokio::test]
async fn a_store_that_nobody_uses_any_more_leaves_nothing_behind() {
    let (server, events) = (Server::start(), Events::default());
    let store = hasty(server.url()).build().unwrap();
    let limiter = build(&store, daily(5, StoreDown::Deny), &events);
    store.ready().await.unwrap();
    let clients = || server.say("CLIENT LIST").lines().filter(|line| !line.contains("cmd=client")).count();
    // One counts, and one hears of others.
    while clients() < 2 {
        tokio::task::yield_now().await;
    }
    drop((store, limiter));
    while clients() > 0 {
        tokio::task::yield_now().await;
    }
}

/// Another server takes over, with what clients owe.
#[tokio::test]
async fn sentinels_lead_to_the_server_that_takes_over() {
    let primary = Server::start();
    let replica = Server::with(&["--replicaof", &format!("127.0.0.1 {}", primary.port)]);
    let sentinel = Server::sentinel(&primary);
    let (events, sentinels) =
        (Events::default(), [format!("redis://127.0.0.1:{}", free_port()), sentinel.url()]);
    let pause = Duration::from_millis(10);
    let builder =
        RedisStore::sentinels("gate", sentinels).deadline(Duration::from_secs(30)).backoff(pause, pause);
    let store = builder.build().unwrap();
    let limiter = build(&store, daily(5, StoreDown::Deny), &events);
    assert_eq!(remaining(&charge_at_last(&limiter, &store).await), 4);
    events.until("Joined").await;
    // The sentinel has heard of the replica, and the replica of the charge.
    while !sentinel.say("SENTINEL REPLICAS gate").contains(&replica.port.to_string()) {}
    assert_eq!(primary.say("WAIT 1 0"), "1");
    while replica.counts().is_empty() {}
    drop(primary);
    charge(&limiter).await.unwrap_err();
    events.until("Joined").await;
    assert_eq!(remaining(&charge_at_last(&limiter, &store).await), 3);
    assert_eq!(replica.say("ROLE").split(' ').next(), Some("master"));
}

#[tokio::test]
async fn a_name_that_no_sentinel_knows_is_told() {
    let server = Server::start();
    let (sentinel, events) = (Server::sentinel(&server), Events::default());
    let store = RedisStore::sentinels("other", [sentinel.url()]).build().unwrap();
    let _limiter = build(&store, daily(5, StoreDown::Deny), &events);
    let told = events.until("Unreachable").await;
    assert!(told.contains("no sentinel knows a primary named \\\"other\\\""), "{told}");
    assert!(
        RedisStore::sentinels("gate", [""; 0]).build().unwrap_err().to_string().contains("name one at least")
    );
}

/// A server that hangs up on every charge. Whether it was charged nobody knows, so it must not be sent again.
#[tokio::test]
async fn a_charge_is_sent_once_whatever_happens() {
    let (listener, charges, events) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(AtomicUsize::new(0)), Events::default());
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let seen = charges.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let seen = seen.clone();
            std::thread::spawn(move || hang_up_on_charges(stream.unwrap(), &seen));
        }
    });
    let store = hasty(url).build().unwrap();
    let limiter = build(&store, daily(5, StoreDown::Deny), &events);
    for number in 1..=5 {
        store.ready().await.unwrap();
        let error = charge(&limiter).await.unwrap_err();
        assert!(error.contains("broke"), "{error}");
        assert_eq!(charges.load(SeqCst), number);
    }
}

fn hang_up_on_charges(stream: TcpStream, charges: &AtomicUsize) {
    let mut reader = BufReader::new(&stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let number = line.trim_end()[1..].parse::<usize>().unwrap();
        if line.starts_with('*') {
            return Some((number, Vec::new()));
        }
        let mut word = vec![0; number + 2];
        reader.read_exact(&mut word).ok()?;
        word.truncate(number);
        Some((number, word))
    };
    while let Some((words, _)) = line() {
        let words: Option<Vec<_>> = (0..words).map(|_| line().map(|(_, word)| word)).collect();
        let Some(words) = words else { return };
        let answer = match &words[0][..] {
            b"EVALSHA" => {
                charges.fetch_add(1, SeqCst);
                return;
            }
            b"SCRIPT" => b"$4\r\nhash\r\n".to_vec(),
            b"EVAL" => {
                let fingerprint = String::from_utf8(words[6].clone()).unwrap();
                format!("*2\r\n${}\r\n{fingerprint}\r\n:1\r\n", fingerprint.len()).into_bytes()
            }
            _ => b"+OK\r\n".to_vec(),
        };
        if (&stream).write_all(&answer).is_err() {
            return;
        }
    }
}
