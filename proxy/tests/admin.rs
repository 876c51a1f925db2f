//! What operators see: whether the proxy lives and is ready, and its numbers.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Answer, Client, Proxy, Upstream, eventually, settings};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};
use tidegate::{
    Admin, Charge, Clients, Limit, Limiter, MemoryRegistry, Policy, Reading, Rule, Store, StoreDown,
    StoreError, StoreFuture,
};
use tidegate_proxy::{AdminListener, AdminSettings, record_metrics};

fn anywhere() -> AdminSettings {
    AdminSettings::new("127.0.0.1:0".parse().unwrap())
}

async fn get(address: SocketAddr, path: &str, fields: &str) -> Answer {
    let mut client = Client::connect(address).await;
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
    client.answer().await
}

fn limiter(rule: &str, quota: &str) -> Limiter {
    let rule = Rule::new(rule).route("/limited").limit(Limit::per_client("l", quota.parse().unwrap()));
    Limiter::new(Policy::new().rule(rule)).unwrap()
}

#[tokio::test]
async fn requests_are_counted_by_rule_method_and_class_and_never_by_client() {
    record_metrics().unwrap();
    let upstream = Upstream::ok().await;
    let limiter = limiter("counted", "1/hour");
    let proxy = Proxy::start(&settings(upstream.address), &limiter);
    let admin = AdminListener::start(anywhere(), &proxy.server, &limiter).unwrap();
    let mut client = proxy.connect().await;
    for (method, path, status) in [
        ("GET", "/limited", 200),
        ("POST", "/limited", 429),
        ("BREW", "/limited", 429),
        ("FROTH", "/limited", 429),
    ] {
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\nUser-Agent: who\r\n\r\n")).await;
        assert_eq!(client.answer().await.status, status);
    }
    drop(client);
    let answer = get(admin.address(), "/metrics", "").await;
    assert!(answer.field("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let text = answer.text();
    for line in [
        "tidegate_proxy_requests_total{rule=\"counted\",method=\"GET\",class=\"2xx\"} 1",
        "tidegate_proxy_requests_total{rule=\"counted\",method=\"POST\",class=\"4xx\"} 1",
        "tidegate_proxy_requests_total{rule=\"counted\",method=\"other\",class=\"4xx\"} 2",
        "tidegate_decisions_total{rule=\"counted\",outcome=\"allowed\"} 1",
        "tidegate_decisions_total{rule=\"counted\",outcome=\"refused\"} 3",
        "# TYPE tidegate_proxy_upstream_seconds histogram",
        "# TYPE tidegate_proxy_request_seconds histogram",
        "# TYPE tidegate_decision_seconds histogram",
        "tidegate_tracked{limiter=\"proxy\"} ",
        "tidegate_evicted_total{limiter=\"proxy\"} 0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    for secret in ["127.0.0.1", "BREW", "FROTH", "who"] {
        assert!(!text.contains(secret), "{secret} is in\n{text}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn it_is_not_ready_while_it_stops() {
    let upstream = Upstream::new(|mut exchange| async move { exchange.closed().await }).await;
    let limiter = common::open();
    let proxy = Proxy::start(&settings(upstream.address), &limiter);
    let admin = AdminListener::start(anywhere(), &proxy.server, &limiter).unwrap();
    let (ready, alive) =
        (get(admin.address(), "/readyz", "").await, get(admin.address(), "/healthz", "").await);
    assert_eq!((ready.status, alive.status, ready.field("cache-control")), (200, 200, Some("no-store")));
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("the request runs", || upstream.seen().contains("GET")).await;
    let stopping = tokio::spawn(proxy.stop());
    while get(admin.address(), "/readyz", "").await.status != 503 {}
    assert_eq!(get(admin.address(), "/healthz", "").await.status, 200);
    drop(client);
    stopping.await.unwrap();
}

/// A store that can be away.
#[derive(Clone, Default)]
struct Frail(Arc<AtomicBool>);

impl Store for Frail {
    fn charge(&self, charges: Vec<Charge>) -> StoreFuture {
        let readings = charges.iter().map(|_| Reading::allowed(std::time::Duration::from_secs(1))).collect();
        let answer = if self.is_up() { Ok(readings) } else { Err(StoreError::new("it is away")) };
        Box::pin(std::future::ready(answer))
    }

    fn settle(&self, _: Vec<Charge>) {}

    fn is_up(&self) -> bool {
        !self.0.load(SeqCst)
    }
}

#[tokio::test]
async fn it_is_not_ready_without_a_store_that_its_limits_need() {
    let upstream = Upstream::ok().await;
    for (how, status) in [(StoreDown::Deny, 503), (StoreDown::Allow, 200), (StoreDown::Local, 200)] {
        let store = Frail::default();
        let limit = Limit::per_client("l", "1/hour".parse().unwrap()).store_down(how);
        let policy = Policy::new().rule(Rule::new("r").limit(limit));
        let limiter = Limiter::builder(policy).store(store.clone()).build().unwrap();
        let proxy = Proxy::start(&settings(upstream.address), &limiter);
        let admin = AdminListener::start(anywhere(), &proxy.server, &limiter).unwrap();
        assert_eq!(get(admin.address(), "/readyz", "").await.status, 200);
        store.0.store(true, SeqCst);
        assert_eq!(get(admin.address(), "/readyz", "").await.status, status, "{how:?}");
        store.0.store(false, SeqCst);
        assert_eq!(get(admin.address(), "/readyz", "").await.status, 200);
    }
}

#[tokio::test]
async fn numbers_need_the_token_if_there_is_one() {
    let upstream = Upstream::ok().await;
    let limiter = common::open();
    let proxy = Proxy::start(&settings(upstream.address), &limiter);
    let mut all = AdminSettings::new("0.0.0.0:0".parse().unwrap());
    for (address, token, mend) in [
        ("0.0.0.0:0", None, "set a token, or listen at one address"),
        ("[::]:0", None, "set a token, or listen at one address"),
        ("[::ffff:0.0.0.0]:0", None, "set a token, or listen at one address"),
        ("127.0.0.1:0", Some("short"), "openssl rand -hex 32"),
        ("127.0.0.1:0", Some(""), "openssl rand -hex 32"),
        ("127.0.0.1:0", Some("sixteen letters\n"), "openssl rand -hex 32"),
    ] {
        (all.listen, all.token) = (address.parse().unwrap(), token.map(str::to_owned));
        let error = AdminListener::start(all.clone(), &proxy.server, &limiter).unwrap_err().to_string();
        assert!(error.contains(mend), "{address}: {error}");
    }
    all.token = Some("0123456789abcdef".to_owned());
    assert!(!format!("{all:?}").contains("0123456789abcdef"));
    let admin = AdminListener::start(all, &proxy.server, &limiter).unwrap();
    for (fields, status) in [
        ("", 401),
        ("Authorization: Bearer 0123456789abcdef\r\n", 200),
        ("Authorization: bearer 0123456789abcdef\r\n", 200),
        ("Authorization: Bearer 0123456789abcdeg\r\n", 401),
        ("Authorization: Bearer 0123456789abcde\r\n", 401),
        ("Authorization: Basic 0123456789abcdef\r\n", 401),
        ("Authorization: Bearer 0123456789abcdef\r\nAuthorization: Bearer x\r\n", 401),
    ] {
        assert_eq!(get(admin.address(), "/metrics", fields).await.status, status, "{fields}");
    }
    assert_eq!(get(admin.address(), "/healthz", "").await.status, 200, "probes have no token");
    assert_eq!(get(admin.address(), "/readyz", "").await.status, 200, "probes have no token");
}

#[tokio::test]
async fn the_admin_api_is_there_with_keys_of_its_own_and_never_at_the_front() {
    let upstream = Upstream::ok().await;
    let clients = Clients::new(MemoryRegistry::new());
    let limiter = Limiter::builder(Policy::new()).clients(clients).build().unwrap();
    let proxy = Proxy::start(&settings(upstream.address), &limiter);
    let mut at = anywhere();
    at.api = Some(Admin::builder(&limiter).key("a long random text").build().unwrap());
    let admin = AdminListener::start(at, &proxy.server, &limiter).unwrap();
    assert_eq!(get(admin.address(), "/admin/clients", "").await.status, 401);
    assert_eq!(
        get(admin.address(), "/admin/clients", "X-Admin-Key: a long random text\r\n").await.status,
        200
    );
    assert_eq!(get(admin.address(), "/elsewhere", "").await.status, 404);
    let front = get(proxy.address, "/healthz", "").await;
    assert_eq!((front.status, front.text()), (200, "ok"), "it is the upstream's");
}
