//! One secret for all who count together.

use crate::stage::{self, SECRET, Server};
use futures_util::FutureExt as _;
use std::{future::IntoFuture as _, time::Duration};
use tidegate::{Identity, Limiter, Policy, Quota};

fn policy() -> Policy {
    Policy::per_client(Quota::per_day(3))
}

#[tokio::test]
async fn without_a_secret_no_limiter_is_built() {
    let store = stage::store(&Server::start()).build().unwrap();
    let error = Limiter::builder(policy()).store(store).build().unwrap_err().to_string();
    assert!(error.starts_with("secret: ") && error.contains("`.secret(..)`"), "{error}");
}

#[test]
fn without_a_runtime_no_limiter_is_built() {
    let store = stage::store(&Server::start()).build().unwrap();
    let error = Limiter::builder(policy()).secret(SECRET).store(store).build().unwrap_err().to_string();
    assert!(error.starts_with("store: ") && error.contains("runtime"), "{error}");
}

#[tokio::test]
async fn a_store_serves_one_limiter() {
    let server = Server::start();
    let store = stage::store(&server).build().unwrap();
    let error = store.ready().await.unwrap_err().to_string();
    assert!(error.contains("build one on it first"), "{error}");
    let _limiter = stage::limiter(&store, policy()).await;
    let error = Limiter::builder(policy()).secret(SECRET).store(store).build().unwrap_err().to_string();
    assert!(error.contains("a store for each limiter"), "{error}");
}

/// With another secret clients have other keys, and every quota could be had once more.
#[tokio::test]
async fn an_instance_with_another_secret_is_kept_out_and_told_why() {
    let server = Server::start();
    let first = stage::store(&server).build().unwrap();
    let limiter = stage::limiter(&first, policy()).await;
    let ours = server.say("GET tg:secret");

    let events = stage::Events::default();
    let other = stage::store(&server).build().unwrap();
    let kept_out = Limiter::builder(policy())
        .secret([7; 16])
        .store(other.clone())
        .observe(events.observer())
        .build()
        .unwrap();
    let error = other.ready().await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("its fingerprint is {ours}, and ours ")) && error.contains("\"tg:\""),
        "{error}"
    );
    let error =
        kept_out.charge(&Identity::name("ann"), "client").into_future().now_or_never().unwrap().unwrap_err();
    assert!(error.to_string().contains("another secret"), "{error}");
    assert!(events.until("Barred").await.contains(&ours));
    assert_eq!(server.counts(), Vec::<String>::new());

    assert!(limiter.charge(&Identity::name("ann"), "client").await.unwrap().is_allowed());
    let apart = stage::store(&server).prefix("apart:").build().unwrap();
    let _limiter = Limiter::builder(policy()).secret([7; 16]).store(apart.clone()).build().unwrap();
    apart.ready().await.unwrap();
}

#[tokio::test]
async fn nothing_in_the_server_tells_the_secret() {
    let server = Server::start();
    let store = stage::store(&server).build().unwrap();
    let limiter = stage::limiter(&store, policy()).await;
    limiter.charge(&Identity::name("ann"), "client").await.unwrap();
    let fingerprint = server.say("GET tg:secret");
    assert!(fingerprint.len() == 16 && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let hex: String = SECRET.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!hex.contains(&fingerprint));
}

#[tokio::test]
async fn instances_know_how_many_they_are() {
    let server = Server::start();
    let mut stores = Vec::new();
    for number in 1..=3 {
        let store = stage::store(&server).build().unwrap();
        let limiter = stage::limiter(&store, policy()).await;
        assert_eq!(store.status().instances, number);
        stores.push((store, limiter));
    }
    // Signs of life are for three seconds.
    let life: u64 = server.say("PTTL tg:instances{tg:secret}").parse().unwrap();
    assert!(Duration::from_millis(life) <= Duration::from_secs(3));
}
