//! What is counted, under which keys and for how long.

use crate::stage::{self, SECRET, Server};
use http::{HeaderValue, Request};
use std::time::Duration;
use tidegate::{Identity, Limit, Limiter, ManualClock, Policy, Quota, RedisStore, RequestHead, Rule, Source};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

fn per_client(quota: Quota) -> Policy {
    Policy::per_client(quota)
}

/// How many of `most` charges of one unit are admitted.
async fn admits(limiter: &Limiter, name: &str, most: usize) -> usize {
    let client = limiter.client(&Identity::name(name.to_owned()));
    let mut admitted = 0;
    for _ in 0..most {
        admitted += usize::from(client.charge("client").await.unwrap().is_allowed());
    }
    admitted
}

/// The milliseconds that the only count is kept for.
fn life(server: &Server) -> i64 {
    let keys = server.counts();
    assert_eq!(keys.len(), 1, "{keys:?}");
    server.say(&format!("PTTL {}", keys[0])).parse().unwrap()
}

/// A gateway whose clock is an hour off counts by the server's, like all others.
#[tokio::test]
async fn clocks_of_gateways_do_not_matter() {
    let server = Server::start();
    let mut gateways = Vec::new();
    for hours in [0, 1] {
        let clock = ManualClock::new();
        clock.advance(hours * HOUR);
        let store = stage::store(&server).build().unwrap();
        let policy = per_client(Quota::per_hour(10));
        gateways.push(stage::limiter_with(&store, policy, |builder| builder.clock(clock)).await);
    }
    let mut admitted = 0;
    for number in 0..40 {
        admitted += admits(&gateways[number % 2], "ann", 1).await;
    }
    assert_eq!(admitted, 10);
}

#[tokio::test]
async fn gateways_that_charge_at_once_admit_one_quota_together() {
    let server = Server::start();
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let store = stage::store(&server).connections(2).build().unwrap();
        let policy = Policy::new().rule(
            Rule::new("client")
                .limit(Limit::per_client("own", Quota::per_day(500)))
                .limit(Limit::shared("all", Quota::per_day(900))),
        );
        let limiter = stage::limiter(&store, policy).await;
        for name in ["ann", "ben"] {
            let limiter = limiter.clone();
            tasks.push(tokio::spawn(async move { (name, admits(&limiter, name, 300).await) }));
        }
    }
    let mut admitted = [0, 0];
    for task in tasks {
        let (name, passed) = task.await.unwrap();
        admitted[usize::from(name == "ben")] += passed;
    }
    assert_eq!(admitted[0] + admitted[1], 900);
    assert!(admitted.iter().all(|passed| *passed <= 500), "{admitted:?}");
}

/// What is owed stays owed, and neither more nor less comes back for the time that passes twice.
#[tokio::test]
async fn a_server_clock_that_is_set_back_changes_no_debt() {
    let server = Server::start();
    for (prefix, back) in [("s:", SECOND), ("h:", HOUR)] {
        let (limiter, clock) =
            stage::on_clock(&server, prefix, per_client(Quota::per_minute(60).burst(30))).await;
        clock.advance(2 * HOUR);
        assert_eq!(admits(&limiter, "ann", 40).await, 30);
        clock.set_back(back);
        assert_eq!(admits(&limiter, "ann", 1).await, 0);
        clock.advance(5 * SECOND);
        assert_eq!(admits(&limiter, "ann", 10).await, 5);
    }
}

/// Clocks of servers wobble: steps of a tenth of a second credit nobody again and again.
#[tokio::test]
async fn a_server_clock_that_wobbles_gives_nothing_away() {
    let server = Server::start();
    let (limiter, clock) = stage::on_clock(&server, "tg:", per_client(Quota::per_second(10).burst(30))).await;
    assert_eq!(admits(&limiter, "ann", 40).await, 30);
    for _ in 0..50 {
        clock.set_back(Duration::from_millis(100));
        assert_eq!(admits(&limiter, "ann", 1).await, 0);
        clock.advance(Duration::from_millis(100));
        assert_eq!(admits(&limiter, "ann", 1).await, 0);
    }
}

#[tokio::test]
async fn a_quota_that_is_raised_or_lowered_tenfold_locks_nobody_out_and_gives_no_fresh_burst() {
    let server = Server::start();
    let (limiter, clock) = stage::on_clock(&server, "tg:", per_client(Quota::per_minute(60).burst(60))).await;
    assert_eq!(admits(&limiter, "ann", 30).await, 30);
    limiter.set_quota("client", Quota::per_minute(600).burst(600)).unwrap();
    let status = limiter.client(&Identity::name("ann")).peek("client").await.unwrap();
    assert_eq!(status.limits().next().unwrap().remaining(), 570);
    clock.advance(SECOND);
    assert_eq!(admits(&limiter, "ann", 700).await, 580);
    limiter.set_quota("client", Quota::per_minute(6).burst(6)).unwrap();
    assert_eq!(admits(&limiter, "ann", 10).await, 0);
    clock.advance(10 * SECOND);
    assert_eq!(admits(&limiter, "ann", 10).await, 1);
}

/// No debt is so short that its life would be nothing, and none is forgotten before it is paid.
#[tokio::test]
async fn a_count_outlives_its_debt_and_no_longer_than_needed() {
    let server = Server::start();
    for (number, (quota, least, most)) in [
        (Quota::per_second(10_000_000), 1, 1_001),
        (Quota::per_second(1), 1_000, 2_001),
        (Quota::per_day(1), 86_400_000, 86_401_001),
        (Quota::per(1, 365 * 24 * HOUR), 31_536_000_000, 31_536_001_001),
    ]
    .into_iter()
    .enumerate()
    {
        server.say("FLUSHALL");
        let store = stage::store(&server).prefix(format!("{number}:")).build().unwrap();
        let limiter = stage::limiter(&store, per_client(quota)).await;
        assert_eq!(admits(&limiter, "ann", 1).await, 1);
        let life = life(&server);
        // It was written a while ago.
        assert!((least - 500..=most).contains(&life) && life > 0, "{quota}: {life}");
    }
}

#[tokio::test]
async fn who_owes_nothing_takes_no_room() {
    let server = Server::start();
    let (limiter, _) = stage::on_clock(&server, "tg:", per_client(Quota::per_hour(5))).await;
    let ann = limiter.client(&Identity::name("ann"));
    ann.peek("client").await.unwrap();
    ann.charge("client").cost(0).await.unwrap();
    ann.charge("client").cost(6).await.unwrap();
    assert_eq!(server.counts(), Vec::<String>::new());
    let decision = ann.charge("client").await.unwrap();
    assert_eq!(server.counts().len(), 1);
    limiter.refund(&decision);
    ann.peek("client").await.unwrap();
    assert_eq!(server.counts(), Vec::<String>::new());
    ann.charge("client").await.unwrap();
    ann.reset("client").await.unwrap();
    assert_eq!(server.counts(), Vec::<String>::new());
}

/// Names in Redis are made of hashes, so nothing that clients call themselves is in them.
#[tokio::test]
async fn hostile_names_are_keys_like_any_other() {
    let server = Server::start();
    let policy = per_client(Quota::per_hour(1)).identify(Source::api_key_header("x-api-key"));
    let (limiter, _) = stage::on_clock(&server, "tg:", policy).await;
    let long = "x".repeat(1 << 16);
    let names = [
        "{",
        "}",
        "{}",
        "{a}b",
        "a}b",
        ":",
        "tg:",
        "secret",
        "instances",
        "a\r\nFLUSHALL\r\n",
        "\0",
        "",
        "a b",
        "*",
        &long,
    ];
    for (number, name) in names.iter().enumerate() {
        assert_eq!(admits(&limiter, name, 2).await, 1, "{name:?}");
        assert_eq!(server.counts().len(), number + 1, "{name:?}");
    }
    for bytes in [&b"\xff\xfe{\xc0"[..], b"\xff\xfe{"] {
        let request =
            Request::get("/").header("x-api-key", HeaderValue::from_bytes(bytes).unwrap()).body(()).unwrap();
        let client = limiter.identify(RequestHead::new(&request)).unwrap();
        assert!(client.charge("client").await.unwrap().is_allowed());
    }
    let keys = server.counts();
    assert_eq!(keys.len(), names.len() + 2);
    for key in keys {
        let (tag, limit) = key.strip_prefix("tg:{").unwrap().split_once('}').unwrap();
        let plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        assert!((tag.len(), limit.len()) == (4, 20) && plain(tag) && plain(limit), "{key}");
    }
}

#[tokio::test]
async fn limits_of_one_client_lie_together_and_prefixes_apart() {
    let server = Server::start();
    let policy = || {
        Policy::new().rule(
            Rule::new("client")
                .limit(Limit::per_client("one", Quota::per_hour(5)))
                .limit(Limit::per_client("two", Quota::per_hour(5)))
                .limit(Limit::shared("all", Quota::per_hour(1))),
        )
    };
    for prefix in ["one:", "two:"] {
        let (limiter, _) = stage::on_clock(&server, prefix, policy()).await;
        assert_eq!(admits(&limiter, "ann", 3).await, 1);
    }
    let keys = server.counts();
    assert_eq!(keys.len(), 6, "{keys:?}");
    let tag = |key: &String| key[key.find('{').unwrap()..=key.find('}').unwrap()].to_owned();
    let mut tags: Vec<_> = keys.iter().map(tag).collect();
    tags.dedup();
    // Of each three keys, two are the client's.
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 2, "{keys:?}");
}

/// A limiter that was built later, with the same secret, finds the same clients.
#[tokio::test]
async fn counts_survive_whoever_counted() {
    let server = Server::start();
    for expected in [3, 0] {
        let store: RedisStore = stage::store(&server).build().unwrap();
        let limiter = Limiter::builder(per_client(Quota::per_day(3))).secret(SECRET).store(store.clone());
        let limiter = limiter.build().unwrap();
        store.ready().await.unwrap();
        assert_eq!(admits(&limiter, "ann", 5).await, expected);
    }
}
