//! What goes wrong in the middle: a registry that fails, an admin who goes away.

use crate::stage::*;
use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use tidegate::*;
use tokio::sync::{Notify, watch};
use tower::ServiceExt;

/// Answers a change once its gate is open, and nothing else after it, if it is fragile.
#[derive(Clone)]
struct Fickle {
    near: MemoryRegistry,
    gate: watch::Sender<bool>,
    fragile: bool,
    down: Arc<AtomicBool>,
}

impl Fickle {
    fn new(open: bool, fragile: bool) -> Self {
        let (near, gate) = (MemoryRegistry::new(), watch::Sender::new(open));
        Self { near, gate, fragile, down: Arc::default() }
    }

    fn unless_down<T>(&self, answer: RegistryAnswer<T>) -> RegistryAnswer<T> {
        if self.down.load(SeqCst) {
            RegistryAnswer::now(Err(RegistryError::unavailable("nobody is there")))
        } else {
            answer
        }
    }

    fn changed<T: Send + 'static>(&self, answer: RegistryAnswer<T>) -> RegistryAnswer<T> {
        let mut gate = self.gate.subscribe();
        self.down.store(self.fragile, SeqCst);
        RegistryAnswer::later(async move {
            gate.wait_for(|open| *open).await.map_err(RegistryError::unavailable)?;
            answer.await
        })
    }
}

impl Registry for Fickle {
    fn record(&self, id: &str) -> RegistryAnswer<Option<Arc<ClientRecord>>> {
        self.unless_down(self.near.record(id))
    }

    fn owner(&self, hash: KeyHash) -> RegistryAnswer<Option<Arc<ClientRecord>>> {
        self.unless_down(self.near.owner(hash))
    }

    fn change(
        &self,
        id: &str,
        change: ClientChange,
    ) -> RegistryAnswer<BeforeAfter<Option<Arc<ClientRecord>>>> {
        self.changed(self.near.change(id, change))
    }

    fn page(&self, after: Option<&str>, most: usize) -> RegistryAnswer<ClientPage> {
        self.unless_down(self.near.page(after, most))
    }

    fn uninvited(&self) -> RegistryAnswer<usize> {
        self.unless_down(self.near.uninvited())
    }

    fn tiers(&self) -> RegistryAnswer<Arc<Tiers>> {
        self.unless_down(self.near.tiers())
    }

    fn change_tiers(&self, change: TierChange) -> RegistryAnswer<BeforeAfter<Arc<Tiers>>> {
        self.changed(self.near.change_tiers(change))
    }

    fn watch(&self, watcher: Watcher) {
        self.near.watch(watcher);
    }
}

fn changes() -> [(&'static str, &'static str, Value); 5] {
    let grant = json!({ "client_id": "ann", "rate_limit": { "requests_per_min": 3 }, "expires_in": 60 });
    [
        ("POST", "/admin/clients/set", json!({ "client_id": "ann", "tier": "free" })),
        ("POST", "/admin/grants/set", grant),
        ("DELETE", "/admin/grants/delete?client_id=ann", Value::Null),
        ("POST", "/admin/tiers/set", json!({ "tier": "free", "requests_per_min": 3 })),
        ("DELETE", "/admin/clients/delete?client_id=ann", Value::Null),
    ]
}

#[tokio::test]
async fn a_change_is_told_though_the_registry_fails_right_after_it() {
    let fickle = Fickle::new(true, true);
    Clients::new(fickle.near.clone()).set("ann", ClientPatch::new()).await.unwrap();
    let stage = Stage::with(Clients::new(fickle.clone()), |admin| admin.key(KEY)).await;
    for (number, (method, path, body)) in changes().into_iter().enumerate() {
        let answer = stage.ask(method, path, body).await;
        assert!(answer.status.is_success(), "{path} {}", answer.text);
        assert_eq!(stage.audit.lock().unwrap().len(), number + 1, "{path}");
        stage.ask("GET", "/admin/tiers", Value::Null).await.is_problem(503, None);
        fickle.down.store(false, SeqCst);
    }
}

#[tokio::test]
async fn a_change_is_told_though_the_admin_has_gone_away() {
    let fickle = Fickle::new(false, false);
    Clients::new(fickle.near.clone()).set("ann", ClientPatch::new()).await.unwrap();
    let (told, log) = (Arc::new(Notify::new()), Arc::new(Mutex::new(Vec::new())));
    let (tell, write) = (told.clone(), log.clone());
    let limiter = Limiter::builder(policy())
        .clients(Clients::new(fickle.clone()))
        .observe(move |event: &Event<'_>| {
            if let Event::Admin(act) = event {
                write.lock().unwrap().push(act.action().to_owned());
                tell.notify_one();
            }
        })
        .build()
        .unwrap();
    let router = Admin::builder(&limiter).key(KEY).build().unwrap().router();
    for (method, path, body) in changes() {
        fickle.gate.send_replace(false);
        let peer = PeerAddr((Ipv4Addr::LOCALHOST, 1234).into());
        let request = Request::builder().method(method).uri(path).extension(peer).header("x-admin-key", KEY);
        let request = request.body(Body::from(body.to_string())).unwrap();
        let mut asking = Box::pin(router.clone().oneshot(request));
        while fickle.gate.receiver_count() == 0 {
            assert!(futures_util::poll!(&mut asking).is_pending());
            tokio::task::yield_now().await;
        }
        drop(asking);
        fickle.gate.send_replace(true);
        let heard = tokio::time::timeout(Duration::from_secs(10), told.notified()).await;
        assert!(heard.is_ok(), "{method} {path} was made and not told");
    }
    assert_eq!(log.lock().unwrap().len(), changes().len());
}

#[tokio::test]
async fn why_a_registry_fails_is_told_to_operators_alone() {
    let fickle = Fickle::new(true, true);
    let stage = Stage::with(Clients::new(fickle.clone()), |admin| admin.key(KEY)).await;
    fickle.down.store(true, SeqCst);
    let own = stage.send(None, "GET", "/v1/rate-limit", &[("x-client-id", "ann")], "").await;
    own.is_problem(503, None);
    assert_eq!(own.headers["retry-after"], "1");
    assert!(!own.text.contains("nobody is there"), "{}", own.text);
    let told = stage.ask("GET", "/admin/clients", Value::Null).await;
    told.is_problem(503, None);
    assert!(told.text.contains("nobody is there"), "{}", told.text);
}
