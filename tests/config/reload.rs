//! A file that is read again while its limiter runs.

use crate::{
    common::{App, from, get, line, with},
    stage::{limiter, service, sound},
};
use futures_util::FutureExt;
use std::{
    future::IntoFuture,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    thread,
};
use tidegate::{ClientPatch, Grant, Identity};

const FILE: &str = r#"
[answers]
text = "One."

[[rule]]
name = "api"
[[rule.limit]]
name = "each"
quota = "10/hour"

[tier.gold]
requests_per_min = 5

[[pace]]
name = "orders"
max_wait = "0s"
bursts = true
[[pace.limit]]
name = "orders"
quota = "4/hour"
"#;

#[tokio::test]
async fn all_that_can_be_put_in_force_is() {
    let old = sound(FILE);
    let (limiter, _) = limiter(&old);
    let (service, pacer) = (service(&limiter), old.pacer(&limiter, "orders").unwrap());
    assert_eq!(service.admits(4, || get("/")).await, 4);
    let sends =
        |most: usize| (0..most).filter(|_| pacer.try_take("a", 1).now_or_never().unwrap().is_ok()).count();
    assert_eq!(sends(3), 3);
    let text = FILE
        .replace("One.", "Two.")
        .replace(
            "quota = \"10/hour\"",
            "quota = \"20/hour\"\n[[rule.limit]]\nname = \"all\"\nper = \"all\"\nquota = \"9/hour\"",
        )
        .replace("requests_per_min = 5", "requests_per_min = 7")
        .replace("4/hour", "8/hour")
        .replace("[[rule]]", "[block]\nnetworks = [\"192.0.2.9\"]\n[[rule]]\nname = \"none\"\n[[rule]]");
    let new = sound(&text);
    new.reload(&limiter, &old).unwrap();
    assert_eq!(service.admits(20, || get("/")).await, 9);
    let refused = service.send(get("/")).await;
    // Four and nine of twenty are taken, and what was carried over is rounded up.
    assert!(line(&refused, "ratelimit").unwrap().starts_with("\"each\";r=6"), "{refused:?}");
    assert!(crate::common::json(refused).await["detail"].as_str().unwrap().ends_with("Two."));
    assert_eq!(service.status(from("192.0.2.9", "GET", "/")).await, 403);
    assert_eq!(sends(9), 4, "three of eight, and what was carried over is rounded up");
    let tiers = limiter.clients().unwrap().tiers().await.unwrap();
    assert_eq!(tiers.get("gold"), Some(&Grant::new().requests_per_min(7)));
    // And back, with fewer tiers; a pacer that is gone goes on.
    let last = sound("[tier.silver]\nmax_concurrent = 2\n[answers]\ntext = \"Three.\"");
    last.reload(&limiter, &new).unwrap();
    assert_eq!(service.admits(99, || get("/")).await, 99);
    assert_eq!(sends(9), 0);
    let tiers = limiter.clients().unwrap().tiers().await.unwrap();
    assert!(tiers.get("gold").is_none() && tiers.get("silver").is_some());
}

#[tokio::test]
async fn what_takes_a_restart_is_told_and_changes_nothing() {
    let old = sound(FILE);
    let (limiter, _) = limiter(&old);
    let service = service(&limiter);
    let text = FILE.replace("10/hour", "1/hour").replace("max_wait = \"0s\"", "max_wait = \"1s\"");
    let new = sound(&format!("{text}\n[store]\nmemory = \"8MiB\"\n[registry]\nunknown = \"refuse\""));
    let error = new.reload(&limiter, &old).unwrap_err().to_string();
    let places: Vec<_> = error.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["tidegate.toml:15:1", "tidegate.toml:22:2", "tidegate.toml:24:2"], "{error}");
    assert!(error.contains("[store] has changed, which takes a restart"), "{error}");
    assert_eq!(service.admits(99, || get("/")).await, 10);
    // What is only written otherwise is as it was.
    sound(&format!("# A comment.\n{FILE}")).reload(&limiter, &old).unwrap();
}

#[tokio::test]
async fn what_admins_changed_stays_unless_files_differ_in_it() {
    let old = sound(FILE);
    let (limiter, _) = limiter(&old);
    let clients = limiter.clients().unwrap();
    limiter.set_quota("each", "2/hour".parse().unwrap()).unwrap();
    let tiers = clients.tiers().await.unwrap();
    clients.set_tier("bronze", Grant::new().max_concurrent(1)).await.unwrap();
    assert!(tiers.get("bronze").is_none());
    clients.set("ann-1", ClientPatch::new().tier("gold")).await.unwrap();
    let new = sound(&FILE.replace("= 5", "= 6"));
    new.reload(&limiter, &old).unwrap();
    assert_eq!(service(&limiter).admits(9, || get("/")).await, 2);
    assert!(clients.tiers().await.unwrap().get("bronze").is_some());
    assert_eq!(clients.get("ann-1").await.unwrap().unwrap().tier(), "gold");
    let last = sound(&FILE.replace("10/hour", "12/hour"));
    last.reload(&limiter, &new).unwrap();
    // Two of twelve are taken, and what was carried over is rounded up.
    assert_eq!(service(&limiter).admits(20, || with(get("/"), "x-a", "b")).await, 9);
}

/// Two hundred reloads while threads charge: all that pass are as many as fit.
#[test]
fn two_hundred_reloads_under_load_lose_nothing() {
    const ALL: usize = 20_000;
    let text = |round: usize| {
        let more: String = (0..round % 7)
            .map(|n| {
                format!("[[rule.limit]]\nname = \"more {n}\"\nquota = \"1000000/hour\"\nper = \"all\"\n")
            })
            .collect();
        let main = format!("[[rule.limit]]\nname = \"main\"\nquota = \"{ALL}/hour\"\nper = \"all\"\n");
        let (first, second) = if round % 2 == 0 { (&main, &more) } else { (&more, &main) };
        format!("[[rule]]\nname = \"r{}\"\n[[rule]]\nname = \"api\"\n{first}{second}", round % 3)
    };
    let mut config = sound(&text(0));
    let (limiter, _) = limiter(&config);
    let (done, passed) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    let decision = limiter.charge(&Identity::name("ann"), "api").into_future();
                    let is_allowed = decision.now_or_never().unwrap().unwrap().is_allowed();
                    passed.fetch_add(usize::from(is_allowed), SeqCst);
                }
            });
        }
        for round in 0..200 {
            let new = sound(&text(round));
            new.reload(&limiter, &config).unwrap();
            config = new;
        }
        while passed.load(SeqCst) < ALL {
            thread::yield_now();
        }
        done.store(true, SeqCst);
    });
    assert_eq!(passed.into_inner(), ALL);
}
