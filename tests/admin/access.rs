//! Who may use it.

use crate::stage::*;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use tidegate::*;

fn clients() -> Clients {
    Clients::new(crate::registry::new())
}

const PATHS: [&str; 5] =
    ["/admin/clients", "/admin/tiers", "/admin/openapi.json", "/admin/policy", "/admin/nonsense"];

#[tokio::test]
async fn nobody_gets_in_without_a_key() {
    let stage = Stage::new().await;
    for path in PATHS {
        for headers in [&[][..], &[("x-admin-key", "wrong")], &[("x-admin-key", KEY), ("x-admin-key", KEY)]] {
            let answer = stage.send(None, "GET", path, headers, "").await;
            answer.is_problem(401, None);
            assert!(answer.headers.contains_key("www-authenticate"));
        }
    }
    let audit = stage.audit.lock().unwrap().clone();
    assert_eq!(audit.len(), 15);
    assert!(audit.iter().all(|line| line.starts_with("401 ") && !line.contains("wrong ")));
}

#[tokio::test]
async fn each_of_several_keys_is_accepted_and_hashes_may_be_configured() {
    // The SHA-256 of "abc", from FIPS 180-2.
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let stage = Stage::with(clients(), |admin| admin.key(KEY).key_hash(hash)).await;
    for (key, status) in [(KEY, 200), ("abc", 200), ("abcd", 401), (hash, 401)] {
        let answer = stage.send(None, "GET", "/admin/tiers", &[("x-admin-key", key)], "").await;
        assert_eq!(answer.status, status, "{key}");
    }
}

#[tokio::test]
async fn guessing_is_limited_and_does_not_lock_out_others() {
    let stage = Stage::new().await;
    let guess = async |key: &str| stage.send(None, "GET", "/admin/tiers", &[("x-admin-key", key)], "").await;
    for i in 0..10 {
        assert_eq!(guess(&format!("guess {i}")).await.status, 401);
    }
    let refused = guess("guess 11").await;
    refused.is_problem(429, None);
    assert!((1..=6).contains(&refused.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap()));
    guess(KEY).await.is_problem(429, None);
    // To bring no key is no guess.
    stage.send(None, "GET", "/admin/tiers", &[], "").await.is_problem(401, None);
    if cfg!(target_os = "linux") {
        let elsewhere = Some(IpAddr::from(Ipv4Addr::new(127, 0, 0, 2)));
        let answer = stage.send(elsewhere, "GET", "/admin/tiers", &[("x-admin-key", KEY)], "").await;
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn admins_come_from_where_they_may() {
    let stage =
        Stage::with(clients(), |admin| admin.key(KEY).allow_networks(["127.0.0.2", "10.0.0.0/8"])).await;
    stage.send(None, "GET", "/admin/tiers", &[("x-admin-key", KEY)], "").await.is_problem(403, None);
    assert_eq!(stage.audit.lock().unwrap().len(), 1);
    if cfg!(target_os = "linux") {
        let there = Some(IpAddr::from(Ipv4Addr::new(127, 0, 0, 2)));
        assert_eq!(stage.send(there, "GET", "/admin/tiers", &[("x-admin-key", KEY)], "").await.status, 200);
        stage.send(there, "GET", "/admin/tiers", &[], "").await.is_problem(401, None);
    }
}

#[tokio::test]
async fn open_is_for_this_machine_alone() {
    let stage = Stage::with(clients(), AdminBuilder::open_without_key_on_loopback).await;
    let port = stage.address.port();
    let local = format!("localhost:{port}");
    for (headers, status) in [
        (&[][..], 200),
        (&[("host", &*local)], 200),
        (&[("host", "attacker.example")], 403),
        (&[("origin", "http://attacker.example")], 403),
        (&[("x-forwarded-for", "198.51.100.7")], 403),
        (&[("forwarded", "for=198.51.100.7")], 403),
        (&[("x-forwarded-proto", "https")], 403),
        (&[("x-real-ip", "198.51.100.7")], 403),
        (&[("sec-fetch-site", "cross-site")], 403),
        (&[("sec-fetch-site", "same-origin")], 403),
        (&[("sec-fetch-site", "none")], 200),
        (&[("x-admin-key", "wrong")], 401),
    ] {
        let answer = stage.send(None, "GET", "/admin/tiers", headers, "").await;
        assert_eq!(answer.status, status, "{headers:?} {}", answer.text);
    }
}

#[tokio::test]
async fn no_answer_is_kept_by_a_cache() {
    let stage = Stage::new().await;
    stage.post("/admin/clients/set", json!({ "client_id": "ann" })).await;
    for path in ["/admin/clients", "/admin/openapi.json", "/admin/nonsense"] {
        let answer = stage.ask("GET", path, Value::Null).await;
        assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
    }
    for headers in [&[("x-client-id", "ann")][..], &[]] {
        let answer = stage.send(None, "GET", "/v1/rate-limit", headers, "").await;
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
}

#[test]
fn what_would_be_open_or_useless_is_not_built() {
    let with = Limiter::builder(policy()).clients(clients()).build().unwrap();
    let without = Limiter::new(Policy::new()).unwrap();
    for (admin, text) in [
        (Admin::builder(&with), "nobody could use it"),
        (Admin::builder(&with).key(""), "an empty text"),
        (Admin::builder(&with).key_hash("abc"), "64 hexadecimal digits"),
        (Admin::builder(&with).key(KEY).allow_networks(["10.0.0.0/99"]), "10.0.0.0/99"),
        (Admin::builder(&without).key(KEY), "no registry"),
    ] {
        let error = admin.build().unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    assert!(!format!("{:?}", Admin::builder(&with).key(KEY)).contains(KEY));
}
