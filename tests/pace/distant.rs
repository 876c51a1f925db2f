//! Senders whose registry is elsewhere, and takes its time to answer.

use crate::stage::*;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tidegate::*;
use tokio::time::sleep;

/// Answers after 20 ms, or that nobody is there.
#[derive(Clone, Default)]
struct Distant {
    near: MemoryRegistry,
    asked: Arc<AtomicUsize>,
    down: Arc<AtomicBool>,
}

impl Distant {
    fn later<T: Send + 'static>(&self, answer: RegistryAnswer<T>) -> RegistryAnswer<T> {
        self.asked.fetch_add(1, Relaxed);
        let down = self.down.clone();
        RegistryAnswer::later(async move {
            sleep(Duration::from_millis(20)).await;
            if down.load(Relaxed) { Err(RegistryError::unavailable("nobody is there")) } else { answer.await }
        })
    }
}

impl Registry for Distant {
    fn record(&self, id: &str) -> RegistryAnswer<Option<Arc<ClientRecord>>> {
        self.later(self.near.record(id))
    }

    fn owner(&self, hash: KeyHash) -> RegistryAnswer<Option<Arc<ClientRecord>>> {
        self.later(self.near.owner(hash))
    }

    fn change(
        &self,
        id: &str,
        change: ClientChange,
    ) -> RegistryAnswer<BeforeAfter<Option<Arc<ClientRecord>>>> {
        self.near.change(id, change)
    }

    fn page(&self, after: Option<&str>, most: usize) -> RegistryAnswer<ClientPage> {
        self.later(self.near.page(after, most))
    }

    fn uninvited(&self) -> RegistryAnswer<usize> {
        self.later(self.near.uninvited())
    }

    fn tiers(&self) -> RegistryAnswer<Arc<Tiers>> {
        self.near.tiers()
    }

    fn change_tiers(&self, change: TierChange) -> RegistryAnswer<BeforeAfter<Arc<Tiers>>> {
        self.near.change_tiers(change)
    }

    fn watch(&self, watcher: Watcher) {
        self.near.watch(watcher);
    }
}

async fn distant() -> (Stage, Distant) {
    let registry = Distant::default();
    let requests = Limit::per_client("requests", Quota::per_second(1)).granted();
    let rule =
        Rule::new("send").by_hand().limit(requests).identify(Source::header("x-client-id").registered());
    let clients = Clients::new(registry.clone()).unknown(UnknownClients::refuse());
    let stage = staged_by(Policy::new().rule(rule), |builder| builder.clients(clients));
    set(&stage, "ann", 100).await;
    (stage, registry)
}

async fn set(stage: &Stage, id: &str, a_second: u32) {
    let grant = Grant::new().requests_per_min(60 * a_second);
    stage.limiter.clients().unwrap().set(id, ClientPatch::new().rate_limit(grant)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn senders_wait_for_the_registry_and_then_for_their_limits() {
    let (stage, registry) = distant().await;
    let asked = registry.asked.load(Relaxed);
    for _ in 0..3 {
        stage.send("ann", 1).await;
    }
    assert!(stage.log().is_empty(), "nobody is known yet");
    stage.advance(60).await;
    assert_eq!(stage.times(), [20, 30, 40], "evenly from when it was known");
    let known = registry.asked.load(Relaxed);
    assert!(known > asked);
    stage.send("ann", 1).await;
    assert_eq!((stage.times().len(), registry.asked.load(Relaxed)), (4, known), "once is enough");
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_the_registry_is_asked_has_been_charged_nothing() {
    let (stage, _) = distant().await;
    let leaving = stage.send("ann", 100).await;
    stage.advance(10).await;
    leaving.abort();
    settle().await;
    stage.send("ann", 6_000).await;
    stage.advance(40).await;
    assert_eq!(stage.keys(), ["ann"], "the whole burst is there");
    assert_eq!(stage.pacer.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_down_stops_whom_it_does_not_know_yet() {
    let (stage, registry) = distant().await;
    stage.send("ann", 1).await;
    stage.advance(30).await;
    registry.down.store(true, Relaxed);
    set(&stage, "bob", 100).await;
    let unknown = tokio::spawn(stage.pacer.until_ready("bob", 1));
    stage.advance(30).await;
    let error = unknown.await.unwrap().unwrap_err();
    assert!(matches!(&error, PaceError::Store(error) if error.kind() == "registry"), "{error}");
    stage.send("ann", 1).await;
    assert_eq!(stage.keys(), ["ann", "ann"], "who is known goes on");
    registry.down.store(false, Relaxed);
    stage.send("bob", 1).await;
    stage.advance(1_100).await;
    assert_eq!(stage.keys(), ["ann", "ann", "bob"]);
}

/// A change is heard of at once, and looked up anew by those who wait.
#[tokio::test(start_paused = true)]
async fn a_change_elsewhere_reaches_those_who_wait() {
    let (stage, _) = distant().await;
    set(&stage, "ann", 1).await;
    stage.send("ann", 60).await;
    stage.send("ann", 1).await;
    stage.advance(500).await;
    set(&stage, "ann", 100).await;
    stage.advance(1_200).await;
    let times = stage.times();
    assert!(times.len() == 2 && times[1] <= 1_700, "{times:?}");
}
