//! Limits from the registry: what is sent is counted for a client with tier and grants.

use crate::stage::*;
use futures_util::FutureExt;
use std::time::Duration;
use tidegate::*;

fn rule() -> Rule {
    let requests = Limit::per_client("requests", Quota::per_second(1)).granted();
    Rule::new("send").by_hand().limit(requests).identify(Source::header("x-client-id").registered())
}

fn registered() -> Stage {
    staged_by(Policy::new().ban(Ban::by_hand()).rule(rule()), |builder| {
        builder.clients(Clients::new(MemoryRegistry::new()).unknown(UnknownClients::refuse()))
    })
}

impl Stage {
    fn set(&self, id: &str, patch: ClientPatch) {
        self.limiter.clients().unwrap().set(id, patch).now_or_never().unwrap().unwrap();
    }
}

fn a_second(requests: u32) -> ClientPatch {
    ClientPatch::new().rate_limit(Grant::new().requests_per_min(60 * requests))
}

#[tokio::test(start_paused = true)]
async fn a_sender_has_what_it_was_granted() {
    let stage = registered();
    stage.set("ann", a_second(100));
    stage.set("bob", a_second(50));
    for key in ["ann", "ann", "bob", "ann", "bob"] {
        stage.send(key, 1).await;
    }
    stage.advance(30).await;
    let mut log = stage.log();
    log.sort();
    let expected = [("ann", 0), ("ann", 10), ("ann", 20), ("bob", 0), ("bob", 20)];
    assert_eq!(log, expected.map(|(key, at)| (key.to_owned(), at)));
    // Counted where a layer would count it.
    let peek = stage.limiter.client(&Identity::name("ann")).peek("send").await.unwrap();
    assert_eq!(peek.limits().next().unwrap().quota().rate(), Quota::per_minute(6_000).rate());
}

#[tokio::test(start_paused = true)]
async fn a_change_reaches_those_who_wait_within_a_second() {
    let stage = registered();
    stage.set("ann", a_second(1));
    stage.send("ann", 60).await;
    stage.send("ann", 1).await;
    stage.advance(500).await;
    stage.set("ann", a_second(100));
    stage.advance(1_500).await;
    let times = stage.times();
    assert_eq!(times.len(), 2, "{times:?}");
    assert!(times[1] <= 1_600, "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_has_one_queue_however_it_comes() {
    let stage = registered();
    stage.set("ann", a_second(100));
    let key = stage.limiter.clients().unwrap().issue_key("ann").now_or_never().unwrap().unwrap();
    stage.send("ann", 1).await;
    let by_key = stage.pacer.until_ready(Identity::api_key(key.secret().to_owned()), 1);
    stage.watch("key", by_key).await;
    stage.send("ann", 1).await;
    assert_eq!(stage.pacer.waiting(), 2);
    stage.advance(20).await;
    assert_eq!(stage.log(), [("ann", 0), ("key", 10), ("ann", 20)].map(|(key, at)| (key.to_owned(), at)));
}

#[tokio::test(start_paused = true)]
async fn who_may_not_send_is_told_so() {
    let stage = registered();
    let unknown = stage.pacer.until_ready("nobody-here", 1).await.unwrap_err();
    assert!(matches!(unknown, PaceError::Unregistered(Rejection::UnknownClient)), "{unknown}");
    stage.set("ann", a_second(1).enabled(false));
    let disabled = stage.pacer.try_take("ann", 1).await.unwrap_err();
    assert!(matches!(disabled, PaceError::Unregistered(Rejection::DisabledClient)), "{disabled}");
    assert_eq!((disabled.status().as_u16(), disabled.retry_after()), (401, None));
    let rule = rule().resource("outbox");
    let resource = staged_by(Policy::new().rule(rule), |builder| {
        builder.clients(Clients::new(MemoryRegistry::new()).unknown(UnknownClients::refuse()))
    });
    resource.set("ann", a_second(1).allowed_queues(["inbox"]));
    let error = resource.pacer.until_ready("ann", 1).await.unwrap_err();
    assert_eq!(
        (error.status().as_u16(), error.to_string()),
        (403, "the client may not use \"outbox\"".to_owned())
    );
    resource.set("ann", a_second(1).allowed_queues(["inbox", "outbox"]));
    assert!(resource.pacer.until_ready("ann", 1).await.is_ok());

    stage.set("bob", a_second(1));
    stage.limiter.ban(&Identity::name("bob"), Duration::from_secs(60)).unwrap();
    let banned = stage.pacer.until_ready("bob", 1).await.unwrap_err();
    assert_eq!(banned.to_string(), "the client is banned for 60 seconds more");
    let answer = http::Response::from(banned);
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (403, &"60".parse().unwrap()));
    stage.limiter.lift_ban(&Identity::name("bob"));
    assert!(stage.pacer.until_ready("bob", 1).await.is_ok());
}

/// Who is disabled or banned while it waits waits no longer than a second more.
#[tokio::test(start_paused = true)]
async fn who_may_no_longer_send_leaves_the_queue() {
    let stage = registered();
    stage.set("ann", a_second(1));
    stage.set("bob", a_second(1));
    for key in ["ann", "bob"] {
        stage.send(key, 10).await;
        stage.send(key, 1).await;
    }
    stage.advance(100).await;
    stage.set("ann", a_second(1).enabled(false));
    stage.limiter.ban(&Identity::name("bob"), Duration::from_secs(60)).unwrap();
    stage.advance(1_000).await;
    assert_eq!(stage.keys(), ["ann", "bob", "!ann", "!bob"]);
    assert_eq!(stage.pacer.waiting(), 0);
}

/// The same where it came behind others, and was woken only when it was due.
#[tokio::test(start_paused = true)]
async fn who_may_no_longer_send_is_told_when_it_is_due() {
    let stage = registered();
    stage.set("ann", a_second(1));
    stage.send("ann", 60).await;
    for _ in 0..3 {
        stage.send("ann", 1).await;
    }
    stage.advance(61_500).await;
    assert_eq!(stage.keys(), ["ann", "ann", "ann"]);
    stage.set("ann", a_second(1).enabled(false));
    stage.advance(1_000).await;
    assert_eq!(stage.keys(), ["ann", "ann", "ann", "!ann"]);
}

/// A list that is changed reaches those who wait, though it was empty when they came.
#[tokio::test(start_paused = true)]
async fn lists_that_change_reach_those_who_wait() {
    let stage = stage([own(Quota::per_second(1))]);
    for key in ["bad", "bad", "good", "good", "other", "other"] {
        stage.send(key, 1).await;
    }
    assert_eq!(stage.keys(), ["bad", "good", "other"]);
    stage.advance(100).await;
    let lists = Lists::new().block(Identity::name("bad")).allow(Identity::name("good"));
    stage.limiter.add_to_lists(&lists).unwrap();
    for _ in 0..3 {
        stage.send("good", 1).await;
    }
    assert_eq!(stage.keys().len(), 3, "they come after the one that waits");
    stage.advance(1_000).await;
    let mut rest = stage.keys().split_off(3);
    rest.sort();
    assert_eq!(rest, ["!bad", "good", "good", "good", "good", "other"]);
}

/// A ban of a client holds however it comes, and lists reach those who wait.
#[tokio::test(start_paused = true)]
async fn bans_and_lists_hold_for_the_client() {
    let stage = registered();
    stage.set("ann", a_second(1));
    let key = stage.limiter.clients().unwrap().issue_key("ann").now_or_never().unwrap().unwrap();
    stage.limiter.ban(&Identity::name("ann"), Duration::from_secs(60)).unwrap();
    let by_key = || stage.pacer.try_take(Identity::api_key(key.secret().to_owned()), 1);
    assert!(matches!(by_key().await, Err(PaceError::Banned { .. })));
    stage.limiter.lift_ban(&Identity::name("ann"));
    assert!(by_key().await.is_ok());
}
