//! Who gets through where only registered clients do, and what upstreams learn of them.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Answer, Proxy, Upstream, settings};
use tidegate::{ClientPatch, Clients, Limit, Limiter, MemoryRegistry, Policy, Rule, Source, UnknownClients};
use tidegate_proxy::{Server, Settings, settings::Require};

fn guarded(upstream: &Upstream) -> Settings {
    let mut settings = settings(upstream.address);
    settings.access.require = Some(Require::Client);
    settings.access.client_field = Some("X-Client".to_owned());
    settings.access.strip_credentials = true;
    settings
}

fn policy(source: Source) -> Policy {
    let limit = Limit::per_client("own", "100/hour".parse().unwrap());
    Policy::new().identify(source).rule(Rule::new("all").limit(limit))
}

async fn get(proxy: &Proxy, target: &str, fields: &str) -> Answer {
    let mut client = proxy.connect().await;
    client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
    client.answer().await
}

#[tokio::test]
async fn only_enabled_clients_with_a_key_of_theirs_get_through() {
    let upstream = Upstream::ok().await;
    let clients = Clients::new(MemoryRegistry::new());
    clients.set("ann", ClientPatch::new()).await.unwrap();
    clients.set("bob", ClientPatch::new()).await.unwrap();
    let key = clients.issue_key("ann").await.unwrap();
    let other = clients.issue_key("bob").await.unwrap();
    clients.set("bob", ClientPatch::new().enabled(false)).await.unwrap();
    let (key, other) = (key.secret().to_owned(), other.secret().to_owned());
    for source in [
        Source::bearer().or(Source::api_key_query("key")),
        Source::bearer().or(Source::api_key_query("key")).registered(),
    ] {
        let limiter = Limiter::builder(policy(source)).clients(clients.clone()).build().unwrap();
        let proxy = Proxy::start(&guarded(&upstream), &limiter);
        for (target, fields, status) in [
            ("/a", format!("Authorization: Bearer {key}\r\n"), 200),
            ("/a?b=c&key={key}", String::new(), 200),
            ("/a", format!("Authorization: Bearer {other}\r\n"), 401),
            ("/a", "Authorization: Bearer guessed\r\n".to_owned(), 401),
            ("/a", String::new(), 401),
            ("/a", "X-Client: ann\r\n".to_owned(), 401),
        ] {
            let seen = upstream.seen().len();
            let answer = get(&proxy, &target.replace("{key}", &key), &fields).await;
            assert_eq!(answer.status, status, "{target} {fields}");
            let seen = upstream.seen()[seen..].to_owned();
            if status == 200 {
                assert!(seen.contains("x-client: ann\r\n"), "{seen}");
                assert!(!seen.contains(&key), "the key ends here: {seen}");
                assert!(seen.starts_with("GET /a HTTP") || seen.starts_with("GET /a?b=c HTTP"), "{seen}");
            } else {
                assert_eq!(seen, "");
                assert!(answer.field("www-authenticate").is_some(), "{}", answer.head);
            }
        }
    }
}

#[tokio::test]
async fn nobody_else_says_who_a_client_is() {
    let upstream = Upstream::ok().await;
    let clients = Clients::new(MemoryRegistry::new());
    clients.set("ann", ClientPatch::new()).await.unwrap();
    let key = clients.issue_key("ann").await.unwrap();
    let limiter = Limiter::builder(policy(Source::bearer())).clients(clients).build().unwrap();
    let mut settings = guarded(&upstream);
    let bearer = format!("Authorization: Bearer {}\r\n", key.secret());
    let proxy = Proxy::start(&settings, &limiter);
    let forged = "X-Client: root\r\nX-CLIENT: root\r\nX_Client: root\r\n";
    assert_eq!(get(&proxy, "/", &format!("{bearer}{forged}")).await.status, 200);
    assert_eq!(upstream.seen().matches("x-client: ann\r\n").count(), 1);
    let nominated = format!("{bearer}Connection: x-client\r\n");
    assert_eq!(get(&proxy, "/", &nominated).await.status, 400, "it may not be taken off on the way");
    proxy.stop().await;

    // Who is not asked for a key has no name.
    settings.access.require = None;
    let proxy = Proxy::start(&settings, &limiter);
    assert_eq!(get(&proxy, "/", forged).await.status, 200);
    assert!(!upstream.seen().to_lowercase().contains("root"), "{}", upstream.seen());
}

#[tokio::test]
async fn clients_that_came_uninvited_and_fallbacks_are_not_known() {
    let upstream = Upstream::ok().await;
    for unknown in [UnknownClients::create(), UnknownClients::share()] {
        let clients = Clients::new(MemoryRegistry::new()).unknown(unknown).fallback("legacy");
        clients.set("ann", ClientPatch::new()).await.unwrap();
        let source = Source::header("x-id").registered();
        let limiter = Limiter::builder(policy(source)).clients(clients).build().unwrap();
        let proxy = Proxy::start(&guarded(&upstream), &limiter);
        assert_eq!(get(&proxy, "/", "X-Id: ann\r\n").await.status, 200);
        for fields in ["X-Id: new\r\n", "X-Id: new\r\n", "", "X-Id: \r\n"] {
            assert!(matches!(get(&proxy, "/", fields).await.status, 400 | 401), "{fields}");
        }
    }
}

#[tokio::test]
async fn a_field_that_means_something_else_is_a_mistake() {
    let upstream = Upstream::ok().await;
    for name in ["host", "authorization", "x-forwarded-for", "a b", ""] {
        let mut settings = guarded(&upstream);
        settings.access.client_field = Some(name.to_owned());
        let error = Server::start(&settings, &common::open().layer()).unwrap_err();
        assert!(error.to_string().contains("X-Client"), "{error}");
    }
}
