//! What can be wrong in the server.

use crate::stage::{self, Server};
use tidegate::{ChargeError, Concurrency, Identity, Limit, Policy, Quota, Rule};

fn two() -> Policy {
    Policy::new().rule(
        Rule::new("client")
            .limit(Limit::per_client("one", Quota::per_hour(5)))
            .limit(Limit::per_client("two", Quota::per_hour(5))),
    )
}

#[tokio::test]
async fn scripts_that_were_flushed_are_loaded_again() {
    let server = Server::start();
    let (limiter, _) = stage::on_clock(&server, "tg:", Policy::per_client(Quota::per_hour(9))).await;
    let ann = limiter.client(&Identity::name("ann"));
    for taken in 1..=3 {
        let decision = ann.charge("client").await.unwrap();
        assert_eq!(decision.limits().next().unwrap().remaining(), 9 - taken);
        server.say("SCRIPT FLUSH");
    }
}

/// Nothing is charged at all if one of the keys is somebody else's, and the message says which.
#[tokio::test]
async fn a_key_of_another_kind_is_an_error_and_charges_nothing() {
    let server = Server::start();
    let (limiter, _) = stage::on_clock(&server, "tg:", two()).await;
    let ann = limiter.client(&Identity::name("ann"));
    ann.charge("client").await.unwrap();
    let keys = server.counts();
    for (number, make) in ["SADD", "SET"].into_iter().enumerate() {
        let (foreign, own) = (&keys[number], &keys[1 - number]);
        let before = server.ask(&[b"GET", own.as_bytes()]);
        server.say(&format!("DEL {foreign}"));
        server.say(&format!("{make} {foreign} something"));
        let error = ann.charge("client").await.unwrap_err();
        assert!(matches!(error, ChargeError::Store(_)));
        let text = error.to_string();
        assert!(text.contains("WRONGTYPE") || text.contains(foreign.as_str()), "{text}");
        assert_eq!(server.ask(&[b"GET", own.as_bytes()]), before);
        server.say(&format!("DEL {foreign}"));
        ann.charge("client").await.unwrap();
    }
}

/// States that nobody can have written, with as many bytes as ours.
#[tokio::test]
async fn a_state_that_makes_no_sense_is_an_error() {
    let server = Server::start();
    let (limiter, _) = stage::on_clock(&server, "tg:", Policy::per_client(Quota::per_hour(9))).await;
    let ann = limiter.client(&Identity::name("ann"));
    ann.charge("client").await.unwrap();
    let key = server.counts().remove(0);
    for state in [[f64::NAN; 3], [-1.0; 3], [1.0, f64::NAN, 1.0], [1.0, 1.0, 0.0]] {
        let state: Vec<u8> = state.iter().flat_map(|number| number.to_le_bytes()).collect();
        server.ask(&[b"SET", key.as_bytes(), &state]);
        let error = ann.charge("client").await.unwrap_err().to_string();
        assert!(error.contains("is not one that tidegate wrote"), "{error}");
    }
}

/// Who owes already is still refused by what Redis knows; what would have to be written is an error, not a free pass.
#[tokio::test]
async fn a_server_without_memory_refuses_and_charges_nothing() {
    let server = Server::start();
    let (limiter, _) = stage::on_clock(&server, "tg:", two()).await;
    let (ann, ben) = (limiter.client(&Identity::name("ann")), limiter.client(&Identity::name("ben")));
    assert!(ann.charge("client").cost(5).await.unwrap().is_allowed());
    server.say("CONFIG SET maxmemory-policy noeviction");
    server.say("CONFIG SET maxmemory 1");
    assert!(!ann.charge("client").await.unwrap().is_allowed());
    let error = ben.charge("client").await.unwrap_err().to_string();
    assert!(error.contains("OOM"), "{error}");
    server.say("CONFIG SET maxmemory 0");
    assert!(ben.charge("client").cost(5).await.unwrap().is_allowed());
}

#[tokio::test]
async fn a_server_that_may_forget_debts_is_warned_of() {
    for (memory, policy, warned) in
        [("0", "allkeys-lru", false), ("100mb", "noeviction", false), ("100mb", "volatile-ttl", true)]
    {
        let server = Server::with(&["--maxmemory", memory, "--maxmemory-policy", policy]);
        let (events, store) = (stage::Events::default(), stage::store(&server).build().unwrap());
        let _limiter = stage::limiter_with(&store, two(), |builder| builder.observe(events.observer())).await;
        events.until("Joined").await;
        assert_eq!(events.past().iter().any(|event| event.contains(policy)), warned, "{memory} {policy}");
    }
}

/// The commands that an access list has to allow, and no others.
#[tokio::test]
async fn an_access_list_needs_few_commands() {
    let server = Server::start();
    let commands = "+evalsha +eval +script|load +get +set +del +time +zadd +zremrangebyscore +zcard +pexpire +zcount +zrangebyscore +zscore +zrem";
    server.say(&format!("ACL SETUSER default resetkeys ~tg:* resetpass >word -@all {commands} +auth"));
    let store = stage::store(&server).password("word").build().unwrap();
    let run = Rule::new("run").concurrency(Concurrency::per_client("few", 1));
    let limiter = stage::limiter(&store, two().rule(run)).await;
    let ann = limiter.client(&Identity::name("ann"));
    for _ in 0..2 {
        let held = ann.hold("run").await.unwrap();
        assert!(held.is_allowed() && !ann.hold("run").await.unwrap().is_allowed());
    }
    let decision = ann.charge("client").await.unwrap();
    limiter.refund(&decision);
    ann.reset("client").await.unwrap();
    assert!(ann.charge("client").cost(5).await.unwrap().is_allowed());
}
