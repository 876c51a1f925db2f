//! A registry that is elsewhere: requests wait for it, and only for the first time.

use crate::{bans::*, common::*, granted::*};
use http::StatusCode;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
};
use tidegate::*;

/// Answers when it is polled for the second time, or not at all.
#[derive(Clone, Default)]
pub struct Distant {
    pub near: MemoryRegistry,
    pub asked: Arc<AtomicUsize>,
    pub down: Arc<AtomicBool>,
}

impl Distant {
    fn later<T: Send + 'static>(&self, answer: RegistryAnswer<T>) -> RegistryAnswer<T> {
        self.asked.fetch_add(1, Relaxed);
        let down = self.down.load(Relaxed);
        let mut polled = false;
        RegistryAnswer::later(async move {
            std::future::poll_fn(|cx| match std::mem::replace(&mut polled, true) {
                true => Poll::Ready(()),
                false => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            })
            .await;
            if down { Err(RegistryError::unavailable("nobody is there")) } else { answer.await }
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
        self.later(self.near.change(id, change))
    }

    fn page(&self, after: Option<&str>, most: usize) -> RegistryAnswer<ClientPage> {
        self.later(self.near.page(after, most))
    }

    fn uninvited(&self) -> RegistryAnswer<usize> {
        self.later(self.near.uninvited())
    }

    fn tiers(&self) -> RegistryAnswer<Arc<Tiers>> {
        self.later(self.near.tiers())
    }

    fn change_tiers(&self, change: TierChange) -> RegistryAnswer<BeforeAfter<Arc<Tiers>>> {
        self.later(self.near.change_tiers(change))
    }

    fn watch(&self, watcher: Watcher) {
        self.near.watch(watcher);
    }
}

#[tokio::test]
async fn a_request_waits_until_its_client_is_known_and_the_next_one_does_not() {
    let distant = Distant::default();
    let clients = Clients::new(distant.clone());
    clients.set("ann", ClientPatch::new().tier("free")).await.unwrap();
    // Two rules and two clients to look up.
    let policy = Policy::new().identify(id()).rule(Rule::new("api").limit(requests())).rule(
        Rule::new("tenant")
            .identify(Source::header("x-tenant").registered())
            .limit(Limit::per_client("tenant", Quota::per_hour(9)).granted()),
    );
    let (limiter, _) = limiter(policy, clients);
    let app = ok(&limiter);
    let request = || with(by("ann"), "x-tenant", "created");
    assert_eq!(app.admits(20, request).await, 9);
    let asked = distant.asked.load(Relaxed);
    assert_eq!(sent(app.status(request())), 429, "at once");
    assert_eq!(distant.asked.load(Relaxed), asked, "and nobody is asked");
    let decision = limiter.charge(&Identity::name("ann"), "api").await.unwrap();
    assert!(decision.is_allowed());
    assert_eq!(limiter.clients().unwrap().page(None, 9).await.unwrap().count, 2);
}

#[tokio::test]
async fn each_unknown_client_is_told_once() {
    let (limiter, _) = limiter(policy(), Clients::new(Distant::default()).unknown(UnknownClients::refuse()));
    assert_eq!(ok(&limiter).status(by("nobody")).await, 401);
    let error = limiter.charge(&Identity::name("nobody"), "api").await.unwrap_err();
    assert!(matches!(error, ChargeError::Rejected(Rejection::UnknownClient)));
}

#[tokio::test]
async fn a_registry_that_is_down_is_a_503_and_does_not_matter_to_those_who_are_known() {
    let distant = Distant::default();
    let (limiter, _) = limiter(policy(), Clients::new(distant.clone()));
    assert_eq!(ok(&limiter).admits(2, || by("ann")).await, 2);
    distant.down.store(true, Relaxed);
    assert_eq!(ok(&limiter).status(by("ann")).await, 200);
    let refused = ok(&limiter).send(by("bob")).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(line(&refused, "retry-after"), Some("1"));
    let error = limiter.charge(&Identity::name("bob"), "api").await.unwrap_err();
    assert!(
        matches!(&error, ChargeError::Store(_)) && error.to_string().contains("nobody is there"),
        "{error}"
    );
    distant.down.store(false, Relaxed);
    assert_eq!(ok(&limiter).status(by("bob")).await, 200);
}

/// The record that was read before a change is good for the request that was waiting for it, and for no other.
#[tokio::test]
async fn what_was_read_before_a_change_is_not_kept() {
    let distant = Distant::default();
    let near = Clients::new(distant.near.clone());
    near.set("ann", ClientPatch::new().tier("free")).await.unwrap();
    let (limiter, _) = limiter(policy(), Clients::new(distant.clone()));
    let app = ok(&limiter);
    let mut request = std::pin::pin!(app.status(by("ann")));
    assert!(futures_util::poll!(&mut request).is_pending());
    near.set("ann", ClientPatch::new().tier("basic")).await.unwrap();
    assert_eq!(request.await, 200);
    let decision = limiter.charge(&Identity::name("ann"), "api").await.unwrap();
    assert_eq!(decision.limits().next().unwrap().quota(), Quota::per_minute(100));
    assert_eq!(app.admits(200, || by("ann")).await, 98);
}

/// Also on a route where nobody is looked up otherwise.
#[tokio::test]
async fn a_ban_holds_for_a_client_that_has_to_be_looked_up_first() {
    let distant = Distant::default();
    let near = Clients::new(distant.near.clone());
    for id in ["ann", "bob"] {
        near.set(id, ClientPatch::new()).await.unwrap();
    }
    let [ann, bob, late] = [
        near.issue_key("ann").await.unwrap(),
        near.issue_key("bob").await.unwrap(),
        near.issue_key("ann").await.unwrap(),
    ];
    let (limiter, _) = limiter(strict(), Clients::new(distant.clone()));
    let app = ok(&limiter);
    assert_eq!(app.status(with_key("/addresses", &bob)).await, 200);
    assert_eq!(distant.asked.load(Relaxed), 0, "while nobody is banned, nobody is looked up");
    limiter.ban(&Identity::name("ann"), std::time::Duration::from_secs(60)).unwrap();
    assert_eq!(app.status(with_key("/addresses", &ann)).await, 403);
    assert_eq!(app.status(with_key("/", &bob)).await, 200);
    let by_key = limiter.client(&Identity::api_key(late.secret()));
    assert!(matches!(by_key.charge("api").await, Err(ChargeError::Banned { .. })));
    near.set("bob", ClientPatch::new().enabled(false)).await.unwrap();
    assert_eq!(app.status(with_key("/", &bob)).await, 401);
    distant.down.store(true, Relaxed);
    assert_eq!(app.status(with_key("/addresses", &bob)).await, 200, "nobody is banned by accident");
}
