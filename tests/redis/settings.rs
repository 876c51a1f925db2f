//! Settings, and ways to reach a server.

use crate::stage::{self, Server};
use std::time::Duration;
use tidegate::{Identity, Limiter, Policy, Quota, RedisStore};

fn policy() -> Policy {
    Policy::per_client(Quota::per_day(3))
}

#[test]
fn all_mistakes_are_told_at_once() {
    let zero = Duration::ZERO;
    let builder = RedisStore::builder("http://:hunter2@host").deadline(zero).connect_timeout(zero);
    let builder = builder.backoff(Duration::from_secs(2), Duration::from_secs(1)).failures(0).connections(65);
    let error = builder.prefix("a{b}").build().unwrap_err().to_string();
    let settings: Vec<_> = error.lines().map(|line| line.split(':').next().unwrap()).collect();
    let expected = ["deadline", "connect_timeout", "backoff", "failures", "connections", "prefix", "url"];
    assert_eq!(settings, expected, "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    for prefix in ["a b", "a\n", "ä", &"x".repeat(65)] {
        assert!(RedisStore::builder("redis://host").prefix(prefix).build().is_err(), "{prefix}");
    }
}

#[test]
fn no_password_is_shown() {
    let builder = RedisStore::builder("redis://:hunter2@host").password("swordfish");
    let shown = format!("{builder:?}") + &format!("{:?}", builder.build());
    assert!(!shown.contains("hunter2") && !shown.contains("swordfish"), "{shown}");
}

#[tokio::test]
async fn a_server_is_reached_through_a_socket() {
    let dir = std::env::temp_dir().join(format!("tidegate-socket-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("redis");
    let _server = Server::with(&["--unixsocket", path.to_str().unwrap()]);
    let store =
        RedisStore::builder(format!("redis+unix://{}", path.display())).deadline(Duration::from_secs(30));
    let store = store.build().unwrap();
    let limiter = stage::limiter(&store, policy()).await;
    assert!(limiter.charge(&Identity::name("ann"), "client").await.unwrap().is_allowed());
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_shown() {
    let server = Server::with(&["--requirepass", "swordfish"]);
    let events = stage::Events::default();
    let wrong = stage::store(&server).password("hunter2").build().unwrap();
    let _limiter = Limiter::builder(policy())
        .secret(stage::SECRET)
        .store(wrong)
        .observe(events.observer())
        .build()
        .unwrap();
    let told = events.until("Unreachable").await;
    assert!(told.to_lowercase().contains("password") && !told.contains("hunter2"), "{told}");

    let right = stage::store(&server).password("swordfish").build().unwrap();
    let limiter = stage::limiter(&right, policy()).await;
    assert!(limiter.charge(&Identity::name("ann"), "client").await.unwrap().is_allowed());
}

/// A user whom the server knows, in the URL or beside it, and nobody else.
#[tokio::test]
async fn a_user_of_an_access_list_is_let_in() {
    let server = Server::start();
    server.say("ACL SETUSER gate on >swordfish ~tg:* +@all");
    server.say("ACL SETUSER default off");
    let url = format!("redis://gate:swordfish@127.0.0.1:{}", server.port);
    for store in
        [RedisStore::builder(url), RedisStore::builder(server.url()).username("gate").password("swordfish")]
    {
        let store = store.deadline(Duration::from_secs(30)).build().unwrap();
        let limiter = stage::limiter(&store, policy()).await;
        limiter.charge(&Identity::name("ann"), "client").await.unwrap();
        assert_eq!(store.status().refused, 0);
    }
    let events = stage::Events::default();
    let nobody = RedisStore::builder(server.url()).build().unwrap();
    let builder = Limiter::builder(policy()).secret(stage::SECRET).store(nobody);
    let _limiter = builder.observe(events.observer()).build().unwrap();
    let told = events.until("Unreachable").await;
    assert!(told.contains("NOAUTH") || told.to_lowercase().contains("authentication"), "{told}");
}

#[cfg(not(feature = "redis-tls"))]
#[test]
fn tls_without_its_feature_is_a_mistake() {
    let error = RedisStore::builder("rediss://host").build().unwrap_err().to_string();
    assert!(error.contains("the feature `redis-tls`"), "{error}");
}
