//! Clients that all instances share: changes are in force everywhere at once, and trouble with Redis hurts nobody who is known.

use crate::stage::{Relay, Server};
use futures_util::future::join_all;
use proptest::{collection::vec, prelude::*};
use std::{
    cell::Cell,
    time::{Duration, Instant},
};
use tidegate::*;
use tokio::{runtime::Runtime, time::sleep};

fn builder(url: String) -> RedisBuilder {
    let pause = Duration::from_millis(10);
    RedisStore::builder(url).deadline(Duration::from_secs(30)).backoff(pause, pause)
}

async fn registry(url: String) -> RedisRegistry {
    let registry = builder(url).registry(Tiers::new()).unwrap();
    registry.ready().await;
    registry
}

/// A limiter of an instance that counts in memory and shares its clients.
fn limiter(registry: impl Registry) -> Limiter {
    let limit = Limit::per_client("requests", Quota::per_minute(1)).granted();
    let policy = Policy::new()
        .identify(Source::header("x-client-id").or(Source::api_key_header("x-api-key")).registered())
        .rule(Rule::new("api").limit(limit));
    Limiter::builder(policy).clients(Clients::new(registry)).build().unwrap()
}

/// What a client may do in a minute, or why it may not.
async fn quota(limiter: &Limiter, identity: &Identity<'_>) -> Result<u64, ChargeError> {
    let decision = limiter.client(identity).charge("api").cost(0).await?;
    Ok(u64::from(decision.limits().next().unwrap().quota().rate().unwrap().burst().get()))
}

/// Waits until an instance goes by something else than before, and tells how long that took.
async fn noticed<T: PartialEq>(before: &T, mut look: impl AsyncFnMut() -> T) -> Duration {
    let start = Instant::now();
    while look().await == *before {
        assert!(start.elapsed() < Duration::from_secs(60), "it is never noticed");
        sleep(Duration::from_micros(100)).await;
    }
    start.elapsed()
}

/// Waits until an instance has heard of all changes so far: what is told later is heard later.
async fn told(here: &Clients, there: &Limiter) {
    let (id, tier) = (Identity::name("eve"), |tier| ClientPatch::new().tier(tier));
    here.set("eve", tier("basic")).await.unwrap();
    while quota(there, &id).await.unwrap() != 100 {}
    here.set("eve", tier("premium")).await.unwrap();
    noticed(&100, async || quota(there, &id).await.unwrap()).await;
}

/// Each kind of change, made on one instance while the other goes by what was before.
#[tokio::test]
async fn a_change_on_one_instance_is_in_force_on_another_within_a_second() {
    let server = Server::start();
    let here = Clients::new(registry(server.url()).await);
    let there = limiter(registry(server.url()).await);
    let id = Identity::name("ann");
    here.set("ann", ClientPatch::new().tier("basic")).await.unwrap();
    let key = here.issue_key("ann").await.unwrap();
    let secret = Identity::api_key(key.secret());
    let look = async || (quota(&there, &id).await.ok(), quota(&there, &secret).await.ok());
    let mut longest = Duration::ZERO;
    for change in 0..7 {
        let before = look().await;
        match change {
            0 => drop(here.set("ann", ClientPatch::new().tier("premium")).await.unwrap()),
            1 => {
                let grant = Grant::new().requests_per_min(77);
                drop(here.grant("ann", grant, Duration::from_secs(60)).await.unwrap());
            }
            2 => drop(here.end_grant("ann").await.unwrap()),
            3 => {
                let grant = Grant::new().max_concurrent(9).requests_per_min(999);
                drop(here.set_tier("premium", grant).await.unwrap());
            }
            4 => here.revoke_key("ann", key.key().prefix()).await.unwrap(),
            5 => drop(here.set("ann", ClientPatch::new().enabled(false)).await.unwrap()),
            _ => drop(here.set("ann", ClientPatch::new().enabled(true)).await.unwrap()),
        }
        // Whoever was refused is looked up each time, and so has seen it already.
        longest = longest.max(if change == 6 { Duration::ZERO } else { noticed(&before, look).await });
    }
    println!("a change on one instance was in force on another after {longest:?} at most");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    assert_eq!(look().await, (Some(999), None));
}

/// A push that was lost, with the connection or without: it is found out within a second.
#[tokio::test]
async fn what_was_not_heard_of_is_found_out() {
    let server = Server::start();
    let relay = Relay::to(&server);
    let here = Clients::new(registry(server.url()).await);
    let there = limiter(registry(relay.url()).await);
    let id = Identity::name("ann");
    let look = async || quota(&there, &id).await.ok();
    here.set("ann", ClientPatch::new().tier("basic")).await.unwrap();
    told(&here, &there).await;
    let before = look().await;
    relay.cut(true);
    here.set("ann", ClientPatch::new().tier("premium")).await.unwrap();
    assert_eq!(look().await, before, "it goes on by what it knows");
    relay.cut(false);
    noticed(&before, look).await;
    // Somebody has put back an old copy, and nobody was told.
    let before = look().await;
    server.say("HDEL tg:{registry}clients ann");
    server.say("INCR tg:{registry}version");
    let after = noticed(&before, look).await;
    println!("a change that nobody told of was noticed after {after:?}");
    assert!(after < Duration::from_secs(3), "{after:?}");
}

/// Known clients go on, for as long as that was set; all others are 503, and nobody is 401 who was not before.
#[tokio::test]
async fn trouble_with_redis_rejects_nobody() {
    let server = Server::start();
    let relay = Relay::to(&server);
    let near = builder(relay.url()).keep_clients(Duration::from_secs(1)).deadline(Duration::from_millis(100));
    let near = near.registry(Tiers::new()).unwrap();
    near.ready().await;
    let (here, clients) = (Clients::new(registry(server.url()).await), Clients::new(near.clone()));
    here.set("ann", ClientPatch::new().tier("basic")).await.unwrap();
    here.set("ben", ClientPatch::new().tier("basic")).await.unwrap();
    let limiter = limiter(near);
    told(&here, &limiter).await;
    let (ann, ben) = (Identity::name("ann"), Identity::name("ben"));
    let granted = quota(&limiter, &ann).await.unwrap();
    relay.cut(true);
    assert!(matches!(quota(&limiter, &ben).await, Err(ChargeError::Store(_))));
    assert_eq!(quota(&limiter, &ann).await.unwrap(), granted);
    let stranger = Identity::api_key("a key that nobody has");
    assert!(matches!(quota(&limiter, &stranger).await, Err(ChargeError::Store(_))));
    assert!(clients.set("ann", ClientPatch::new()).await.unwrap_err().to_string().contains("cannot be used"));
    // What is known is good for a second.
    noticed(&true, async || quota(&limiter, &ann).await.is_ok()).await;
    assert!(matches!(quota(&limiter, &ann).await, Err(ChargeError::Store(_))));
    relay.cut(false);
    noticed(&false, async || quota(&limiter, &ben).await.is_ok()).await;
    assert_eq!(quota(&limiter, &ann).await.unwrap(), granted);
}

/// A server that hangs is not waited for by each request for long, and one that was not there is joined when it comes.
#[tokio::test]
async fn a_server_that_hangs_or_comes_late_holds_nobody_up() {
    let server = Server::start();
    let deadline = Duration::from_millis(50);
    let hasty = || builder(server.url()).deadline(deadline).failures(3);
    let near = hasty().registry(Tiers::new()).unwrap();
    let clients = Clients::new(near.clone());
    let early = clients.get("ann").await.unwrap_err().to_string();
    assert!(early.contains("not connected yet"), "{early}");
    near.ready().await;
    while clients.set("ann", ClientPatch::new()).await.is_err() {}
    server.signal("STOP");
    let start = Instant::now();
    for _ in 0..1_000 {
        clients.get("ann").await.unwrap_err();
    }
    assert!(start.elapsed() < 40 * deadline, "{:?}", start.elapsed());
    server.signal("CONT");
    while clients.get("ann").await.is_err() {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Two instances and many changes of one client at the same time: none is lost.
#[tokio::test]
async fn changes_at_the_same_time_are_all_made() {
    let server = Server::start();
    let all = [Clients::new(registry(server.url()).await), Clients::new(registry(server.url()).await)];
    all[0].set("ann", ClientPatch::new()).await.unwrap();
    let issued = join_all((0..20).map(|number| all[number % 2].issue_key("ann"))).await;
    let record = all[0].get("ann").await.unwrap().unwrap();
    assert_eq!(record.key_hashes().count(), 20);
    for key in issued {
        let owner = all[1].owner(key.unwrap().secret()).await.unwrap().unwrap();
        assert_eq!(owner.client_id(), "ann");
    }
    all[0].delete("ann").await.unwrap();
    assert_eq!(server.keys(), ["tg:{registry}uninvited", "tg:{registry}version"].map(str::to_owned)[1..]);
}

#[tokio::test]
async fn what_somebody_else_has_put_there_is_an_error_that_says_so() {
    let server = Server::start();
    let clients = Clients::new(registry(server.url()).await);
    server.say("HSET tg:{registry}clients ann something");
    let error = clients.get("ann").await.unwrap_err().to_string();
    assert!(error.contains("no record of a client that tidegate wrote"), "{error}");
    server.say("SET tg:{registry}tiers {}");
    let error = clients.tiers().await.unwrap_err().to_string();
    assert!(error.contains("no list of tiers"), "{error}");
}

#[test]
fn it_needs_a_runtime_and_settings_in_range() {
    let error = builder("redis://host".into()).registry(Tiers::new()).unwrap_err().to_string();
    assert!(error.contains("within its runtime"), "{error}");
    let cluster = RedisStore::cluster(["redis://host"]).registry(Tiers::new()).unwrap_err().to_string();
    assert!(cluster.contains("kept by one server"), "{cluster}");
    let error = builder("redis://host".into()).keep_clients(Duration::ZERO).registry(Tiers::new());
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("keep_clients: 0ns is out of range"), "{error}");
}

/// The commands that an access list has to allow, and no others.
#[tokio::test]
async fn an_access_list_needs_few_commands() {
    let server = Server::start();
    let commands = "+hello +auth +subscribe +publish +eval +get +set +incr +incrby +hget +hset +hdel +hlen +zadd +zrem +zrangebylex";
    server.say(&format!(
        "ACL SETUSER default resetkeys ~tg:* resetchannels &tg:* resetpass >word -@all {commands}"
    ));
    let near = builder(server.url()).password("word").registry(Tiers::new()).unwrap();
    near.ready().await;
    let clients = Clients::new(near.clone());
    clients.set("ann", ClientPatch::new()).await.unwrap();
    let key = clients.issue_key("ann").await.unwrap();
    clients.set_tier("gold", Grant::new().max_concurrent(1).requests_per_min(1)).await.unwrap();
    assert!(clients.owner(key.secret()).await.unwrap().is_some());
    assert_eq!(clients.page(None, 10).await.unwrap().count, 1);
    assert_eq!(near.uninvited().await.unwrap(), 0);
    clients.delete("ann").await.unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Set(usize, Option<usize>, Option<u32>),
    Delete(usize),
    /// A request of an unknown client.
    Come(usize),
    Tier(usize, Option<u32>),
    Page(Option<usize>, usize),
}

/// In no order, so that pages have to bring them into one.
const IDS: [&str; 6] = ["ben", "Ann", "a-1", "zed", "ann", "A_1"];
const TIERS: [&str; 3] = ["premium", "gold", "default"];

fn step() -> impl Strategy<Value = Step> {
    let id = || 0..IDS.len();
    let rate = || proptest::option::of(1..9u32);
    prop_oneof![
        4 => (id(), proptest::option::of(0..TIERS.len()), rate()).prop_map(|(id, tier, rate)| Step::Set(id, tier, rate)),
        2 => id().prop_map(Step::Delete),
        2 => id().prop_map(Step::Come),
        1 => (0..TIERS.len(), rate()).prop_map(|(tier, rate)| Step::Tier(tier, rate)),
        2 => (proptest::option::of(id()), 1..5usize).prop_map(|(after, most)| Step::Page(after, most)),
    ]
}

async fn run(clients: &Clients, registry: &dyn Registry, step: &Step) -> String {
    let grant = |rate: Option<u32>| {
        rate.map_or(Grant::new(), |rate| Grant::new().max_concurrent(rate).requests_per_min(rate))
    };
    let answer = match step {
        Step::Set(id, tier, rate) => {
            let patch = ClientPatch::new().rate_limit(grant(*rate));
            let patch = tier.map_or(patch.clone(), |tier| patch.tier(TIERS[tier]));
            format!("{:?}", clients.set(IDS[*id], patch).await)
        }
        Step::Delete(id) => format!("{:?}", clients.delete(IDS[*id]).await),
        Step::Come(id) => {
            let (id, now) = (IDS[*id].to_owned(), clients.now());
            let name = id.clone();
            let come = move |old: Option<&ClientRecord>, _: &Tiers| {
                Ok(Some(old.cloned().unwrap_or_else(|| ClientRecord::new(id.clone(), now))))
            };
            format!("{:?}", registry.change(&name, Box::new(come)).await)
        }
        Step::Tier(tier, Some(rate)) => {
            format!("{:?}", clients.set_tier(TIERS[*tier], grant(Some(*rate))).await)
        }
        Step::Tier(tier, None) => format!("{:?}", clients.remove_tier(TIERS[*tier]).await),
        Step::Page(after, most) => {
            format!("{:?}", clients.page(after.map(|after| IDS[after]), *most).await)
        }
    };
    let (tiers, uninvited) = (clients.tiers().await.unwrap(), registry.uninvited().await.unwrap());
    format!("{answer} {tiers:?} {uninvited}")
}

/// Whatever is done, it answers as the embedded registry does.
#[test]
fn it_agrees_with_the_embedded_registry() {
    let (runtime, server) = (Runtime::new().unwrap(), Server::start());
    let case = Cell::new(0);
    let config = ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in vec(step(), 1..40))| {
        case.set(case.get() + 1);
        runtime.block_on(async {
            let (near, clock) = (MemoryRegistry::new(), ManualClock::new());
            let far = builder(server.url()).prefix(format!("{}:", case.get())).registry(Tiers::new()).unwrap();
            far.ready().await;
            let [here, there] = [
                Clients::new(near.clone()).clock(clock.clone()),
                Clients::new(far.clone()).clock(clock.clone()),
            ];
            for step in &steps {
                clock.advance(Duration::from_millis(1));
                assert_eq!(run(&there, &far, step).await, run(&here, &near, step).await, "{step:?}");
            }
        });
    });
}
