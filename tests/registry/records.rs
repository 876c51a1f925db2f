//! Records, tiers and API keys, without a limiter.

use futures_util::FutureExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;
use tidegate::*;

fn office() -> (Clients, ManualClock) {
    let clock = ManualClock::new();
    (Clients::new(MemoryRegistry::new()).clock(clock.clone()), clock)
}

/// In memory every answer is there at once.
fn now<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().unwrap()
}

fn set(clients: &Clients, id: &str, patch: Value) -> Result<ClientRecord, RegistryError> {
    now(clients.set(id, ClientPatch::from_json(&patch)?)).map(|record| (*record).clone())
}

/// The most at once and the quota of `requests` that are in force.
fn in_force(clients: &Clients, id: &str) -> (u32, u64) {
    let record = now(clients.get(id)).unwrap().unwrap();
    let grant = record.in_force(&now(clients.tiers()).unwrap(), clients.now());
    (grant.concurrency().unwrap(), grant.requests_quota().unwrap().amount())
}

/// The field and message of an error.
fn invalid<T: std::fmt::Debug>(result: Result<T, RegistryError>) -> (String, String) {
    match result.unwrap_err() {
        RegistryError::Invalid { field, message } => (field, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_built_in_tiers_are_the_contract_s() {
    let (clients, _) = office();
    for (tier, at_once, requests) in [
        ("free", 1, 10),
        ("basic", 5, 100),
        ("premium", 20, 1000),
        ("enterprise", 50, 5000),
        ("default", 3, 50),
    ] {
        set(&clients, tier, json!({ "tier": tier })).unwrap();
        assert_eq!(in_force(&clients, tier), (at_once, requests));
    }
    let json = serde_json::to_value(&*now(clients.tiers()).unwrap()).unwrap();
    assert_eq!(json["premium"], json!({ "max_concurrent": 20, "requests_per_min": 1000 }));
    assert_eq!(json.as_object().unwrap().len(), 5);
}

#[test]
fn a_new_client_has_defaults_and_a_change_keeps_what_it_leaves_out() {
    let (clients, clock) = office();
    let new = set(&clients, "ann", json!({})).unwrap();
    assert_eq!((new.tier(), new.is_enabled(), new.allowed_queues()), ("default", true, None));
    assert_eq!(new.created_at(), new.updated_at());

    set(
        &clients,
        "ann",
        json!({ "tier": "free", "allowed_queues": ["a"], "webhook_url": "https://a.example/x" }),
    )
    .unwrap();
    clock.advance(Duration::from_secs(60));
    let off = set(&clients, "ann", json!({ "enabled": false })).unwrap();
    assert!(!off.is_enabled());
    let on = set(&clients, "ann", json!({ "tier": "basic" })).unwrap();
    assert!(!on.is_enabled(), "a field left out keeps its value");
    assert_eq!((on.created_at(), on.tier()), (new.created_at(), "basic"));
    assert_eq!(on.updated_at(), new.updated_at() + Duration::from_secs(60));
    assert_eq!(on.allowed_queues(), Some(&["a".to_owned()][..]));
    assert_eq!(on.webhook_url(), Some("https://a.example/x"));
    assert!(on.own().is_empty(), "a tier's limits are not the client's own");

    let all = set(&clients, "ann", json!({ "allowed_queues": null, "webhook_url": null })).unwrap();
    assert_eq!((all.allowed_queues(), all.webhook_url()), (None, None));
    let none = set(&clients, "ann", json!({ "allowed_queues": [] })).unwrap();
    assert_eq!(none.allowed_queues(), Some(&[][..]));
}

#[test]
fn own_limits_go_before_the_tier_s_field_by_field() {
    let (clients, _) = office();
    set(&clients, "ann", json!({ "tier": "premium", "rate_limit": { "requests_per_min": 7 } })).unwrap();
    assert_eq!(in_force(&clients, "ann"), (20, 7));
    set(&clients, "ann", json!({ "rate_limit": { "max_concurrent": 2 } })).unwrap();
    assert_eq!(in_force(&clients, "ann"), (2, 7), "a field left out keeps its value");
    set(&clients, "ann", json!({ "rate_limit": { "requests_per_min": null } })).unwrap();
    assert_eq!(in_force(&clients, "ann"), (2, 1000));
    set(&clients, "ann", json!({ "tier": "custom" })).unwrap();
    assert_eq!(in_force(&clients, "ann"), (2, 50), "what nothing says is the default tier's");
    let (field, message) = invalid(set(&clients, "ann", json!({ "rate_limit": null })));
    assert_eq!(field, "tier", "no such tier without limits of its own");
    assert!(message.contains("custom") && message.contains("enterprise"), "{message}");
    set(&clients, "ann", json!({ "tier": "free", "rate_limit": null })).unwrap();
    assert_eq!(in_force(&clients, "ann"), (1, 10));
}

#[test]
fn named_limits_are_merged_by_name() {
    let (clients, _) = office();
    let tier = Grant::new().limit("exports", Quota::per_hour(10)).limit("imports", Quota::per_hour(20));
    now(clients.set_tier("partner", tier)).unwrap();
    let patch =
        json!({ "tier": "partner", "rate_limit": { "limits": { "exports": "5/hour", "more": "1/s" } } });
    let record = set(&clients, "ann", patch).unwrap();
    let grant = record.in_force(&now(clients.tiers()).unwrap(), clients.now());
    let quota = |name| grant.quota(name).map(|quota| quota.to_string());
    assert_eq!(quota("exports").as_deref(), Some("5/hour"));
    assert_eq!(quota("imports").as_deref(), Some("20/hour"));
    assert_eq!(quota("requests").as_deref(), Some("50/minute"));
    assert_eq!(quota("other"), None);
    let record = set(&clients, "ann", json!({ "rate_limit": { "limits": { "more": null } } })).unwrap();
    assert_eq!(record.own().limits().map(|(name, _)| name).collect::<Vec<_>>(), ["exports"]);
    let record = set(&clients, "ann", json!({ "rate_limit": { "limits": null } })).unwrap();
    assert!(record.own().is_empty());
}

#[test]
fn what_is_not_accepted_is_named() {
    let (clients, _) = office();
    for (patch, field) in [
        (json!([]), "body"),
        (json!({ "tier": 3 }), "tier"),
        (json!({ "tier": "" }), "tier"),
        (json!({ "tier": "none such" }), "tier"),
        (json!({ "tier": "nonesuch" }), "tier"),
        (json!({ "tier": null }), "tier"),
        (json!({ "enabled": null }), "enabled"),
        (json!({ "enabled": "yes" }), "enabled"),
        (json!({ "rate_limit": 5 }), "rate_limit"),
        (json!({ "rate_limit": { "max_concurrent": 0 } }), "rate_limit.max_concurrent"),
        (json!({ "rate_limit": { "max_concurrent": -1 } }), "rate_limit.max_concurrent"),
        (json!({ "rate_limit": { "max_concurrent": 1.5 } }), "rate_limit.max_concurrent"),
        (json!({ "rate_limit": { "requests_per_min": "9" } }), "rate_limit.requests_per_min"),
        (json!({ "rate_limit": { "requests_per_min": 4_294_967_296u64 } }), "rate_limit.requests_per_min"),
        (json!({ "rate_limit": { "requests_per_min": 4_000_000_000u64 } }), "rate_limit.requests_per_min"),
        (json!({ "rate_limit": { "requests_per_minute": 9 } }), "rate_limit.requests_per_minute"),
        (json!({ "rate_limit": { "limits": { "a": "b" } } }), "rate_limit.limits.a"),
        (json!({ "rate_limit": { "limits": { "requests": "1/s" } } }), "rate_limit.limits.requests"),
        (json!({ "rate_limit": { "limits": { "\u{e9}": "1/s" } } }), "rate_limit.limits.\u{e9}"),
        (json!({ "allowed_queues": "a" }), "allowed_queues"),
        (json!({ "allowed_queues": [1] }), "allowed_queues"),
        (json!({ "allowed_queues": [""] }), "allowed_queues"),
        (json!({ "webhook_url": "ftp://a" }), "webhook_url"),
        (json!({ "webhook_url": "https://" }), "webhook_url"),
        (json!({ "enable": true }), "enable"),
    ] {
        assert_eq!(invalid(set(&clients, "ann", patch.clone())).0, field, "{patch}");
    }
    assert!(now(clients.get("ann")).unwrap().is_none(), "nothing was created");
}

#[test]
fn ids_keep_to_the_rule() {
    let (clients, _) = office();
    let long = "x".repeat(64);
    for id in ["abc", "A-b_9", &*long] {
        set(&clients, id, json!({})).unwrap();
    }
    let too_long = "x".repeat(65);
    for id in ["", "ab", "a b", "a.b", "\u{e4}bc", "a/b", "a\0b", &*too_long] {
        assert_eq!(invalid(set(&clients, id, json!({}))).0, "client_id", "{id:?}");
    }
    let clients = clients.ids(IdRule::new(1, 5).and(".@"));
    set(&clients, "a.b@c", json!({})).unwrap();
    assert!(invalid(set(&clients, "a.b@cd", json!({}))).1.contains("1 to 5"));
}

/// Answers show what is in force, and whoever changes one and sends it back wants no more than that change.
#[test]
fn an_answer_that_is_sent_back_does_not_make_what_it_shows_the_client_s_own() {
    let (clients, clock) = office();
    let answer = |limits: Value| json!({ "created_at": "2026-01-01T00:00:00Z", "rate_limit": limits, "enabled": false });
    let premium = json!({ "max_concurrent": 20, "requests_per_min": 1000 });
    set(&clients, "ann", json!({ "tier": "premium" })).unwrap();
    assert!(set(&clients, "ann", answer(premium.clone())).unwrap().own().is_empty());
    now(clients.grant("ann", Grant::new().requests_per_min(9_000), Duration::from_secs(60))).unwrap();
    let granted = json!({ "max_concurrent": 20, "requests_per_min": 9000 });
    assert!(
        set(&clients, "ann", answer(granted.clone())).unwrap().own().is_empty(),
        "nor what ends by itself"
    );
    let mut moved = answer(granted);
    moved["tier"] = json!("free");
    assert!(set(&clients, "ann", moved).unwrap().own().is_empty());
    clock.advance(Duration::from_secs(60));
    assert_eq!(in_force(&clients, "ann"), (1, 10));
    let other = json!({ "max_concurrent": 1, "requests_per_min": 11 });
    set(&clients, "ann", answer(other)).unwrap();
    assert_eq!(in_force(&clients, "ann"), (1, 11), "what was changed in it is");
    set(&clients, "bob", json!({ "tier": "premium", "rate_limit": premium })).unwrap();
    set(&clients, "bob", json!({ "tier": "free" })).unwrap();
    assert_eq!(in_force(&clients, "bob"), (20, 1000), "and so is what was no answer");
}

#[test]
fn tiers_are_checked_too() {
    let (clients, _) = office();
    let tier = |name: &str, grant: Grant| now(clients.set_tier(name, grant));
    let full = Grant::new().max_concurrent(4).requests_per_min(40);
    assert_eq!(tier("default", full.clone()).unwrap().unwrap().concurrency(), Some(3), "the former one");
    assert_eq!(tier("new", Grant::new().max_concurrent(9)).unwrap(), None);
    assert_eq!(invalid(tier("default", Grant::new().max_concurrent(9))).0, "tiers.default");
    assert_eq!(invalid(tier("new", full.clone().requests_per_min(0))).0, "tiers.new.requests_per_min");
    assert_eq!(invalid(tier("", full)).0, "tier");

    set(&clients, "ann", json!({ "tier": "new" })).unwrap();
    assert_eq!(in_force(&clients, "ann"), (9, 40));
    assert_eq!(now(clients.remove_tier("new")).unwrap().concurrency(), Some(9));
    assert_eq!(in_force(&clients, "ann"), (4, 40), "a tier that is gone is the default one");
    let off = set(&clients, "ann", json!({ "enabled": false })).unwrap();
    assert_eq!((off.is_enabled(), off.tier()), (false, "new"), "what is not about its tier can be changed");
    assert_eq!(invalid(set(&clients, "ann", json!({ "tier": "new" }))).0, "tier");
    assert_eq!(invalid(now(clients.remove_tier("default"))).0, "tier");
    assert!(matches!(now(clients.remove_tier("new")), Err(RegistryError::NotFound { .. })));
}

#[test]
fn a_temporary_grant_ends_by_itself() {
    let (clients, clock) = office();
    set(&clients, "ann", json!({ "rate_limit": { "requests_per_min": 7 } })).unwrap();
    let grant = Grant::new().requests_per_min(500);
    now(clients.grant("ann", grant.clone(), Duration::from_secs(60))).unwrap();
    assert_eq!(in_force(&clients, "ann"), (3, 500));
    clock.advance(Duration::from_millis(59_999));
    assert_eq!(in_force(&clients, "ann"), (3, 500));
    clock.advance(Duration::from_millis(1));
    assert_eq!(in_force(&clients, "ann"), (3, 7));
    now(clients.grant("ann", grant.clone(), Duration::MAX)).unwrap();
    assert_eq!(in_force(&clients, "ann"), (3, 500));
    now(clients.end_grant("ann")).unwrap();
    assert_eq!(in_force(&clients, "ann"), (3, 7));
    assert!(matches!(now(clients.grant("bob", grant, Duration::MAX)), Err(RegistryError::NotFound { .. })));
    assert_eq!(invalid(now(clients.grant("ann", Grant::new(), Duration::MAX))).0, "rate_limit");
}

#[test]
fn api_keys_are_issued_rotated_and_revoked_and_never_kept() {
    let (clients, clock) = office();
    set(&clients, "ann", json!({})).unwrap();
    let owner =
        |key: &IssuedKey| now(clients.owner(key.secret())).unwrap().map(|ann| ann.client_id().to_owned());
    let first = now(clients.issue_key("ann")).unwrap();
    let second = now(clients.issue_key("ann")).unwrap();
    assert_ne!(first.secret(), second.secret());
    assert!(first.secret().starts_with(first.key().prefix()));
    assert_eq!((owner(&first).as_deref(), owner(&second).as_deref()), (Some("ann"), Some("ann")));
    assert_eq!(now(clients.owner("tg_guess")).unwrap(), None);

    let third = now(clients.rotate_key("ann", first.key().prefix(), Duration::from_secs(3600))).unwrap();
    clock.advance(Duration::from_secs(3599));
    assert!(owner(&first).is_some() && owner(&third).is_some(), "both, for the overlap");
    clock.advance(Duration::from_secs(1));
    assert!(owner(&first).is_none() && owner(&third).is_some());

    now(clients.revoke_key("ann", second.key().prefix())).unwrap();
    assert!(owner(&second).is_none());
    for gone in [&first, &second] {
        let again = now(clients.revoke_key("ann", gone.key().prefix()));
        assert!(matches!(again, Err(RegistryError::NotFound { .. })));
    }
    let record = now(clients.get("ann")).unwrap().unwrap();
    let listed: Vec<_> = record.api_keys(clients.now()).map(|key| key.prefix().to_owned()).collect();
    assert_eq!(listed, [third.key().prefix()]);

    let kept = format!("{record:?} {} {third:?}", serde_json::to_string(&*record).unwrap());
    assert!(!kept.contains(third.secret()) && kept.contains(third.key().prefix()));
    now(clients.delete("ann")).unwrap();
    assert!(owner(&third).is_none(), "deleted with its client");
    for _ in 0..100 {
        set(&clients, "bob", json!({})).unwrap();
        now(clients.issue_key("bob")).unwrap();
    }
    assert_eq!(invalid(now(clients.issue_key("bob"))).0, "api_keys");
}

#[test]
fn pages_go_through_all_clients_by_id() {
    let (clients, _) = office();
    for number in (0..25).rev() {
        set(&clients, &format!("client-{number:02}"), json!({})).unwrap();
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = now(clients.page(after.as_deref(), 10)).unwrap();
        assert_eq!(page.count, 25, "of all of them");
        seen.extend(page.clients.iter().map(|record| record.client_id().to_owned()));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert!(seen.is_sorted() && seen.len() == 25);
    assert_eq!(now(clients.page(None, 25)).unwrap().next, None, "nothing follows");
    assert_eq!(now(clients.page(Some("zzz"), 10)).unwrap().clients.len(), 0);
    assert!(now(clients.delete("client-07")).unwrap());
    assert!(!now(clients.delete("client-07")).unwrap());
}

#[test]
fn whoever_watches_is_told_of_each_change_once_it_is_made() {
    let registry = MemoryRegistry::new();
    let clients = Clients::new(registry.clone());
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = seen.clone();
    let reader = clients.clone();
    registry.watch(Box::new(move |changed| {
        let there = now(reader.get("ann")).unwrap().is_some();
        log.lock().unwrap().push(format!("{changed:?} {there}"));
    }));
    set(&clients, "ann", json!({})).unwrap();
    now(clients.set_tier("new", Grant::new())).unwrap();
    now(clients.delete("ann")).unwrap();
    now(clients.delete("ann")).unwrap();
    assert_eq!(*seen.lock().unwrap(), ["Client(\"ann\") true", "Tiers true", "Client(\"ann\") false"]);
}

fn grants() -> impl Strategy<Value = Grant> {
    let field = || proptest::option::of(1..100_000u32);
    let limits = proptest::collection::btree_map("[a-c]", 1..9u64, 0..3);
    (field(), field(), limits).prop_map(|(at_once, requests, limits)| {
        let grant = at_once.map_or(Grant::new(), |n| Grant::new().max_concurrent(n));
        let grant = requests.map_or(grant.clone(), |n| grant.requests_per_min(n));
        limits.into_iter().fold(grant, |grant, (name, n)| grant.limit(name, Quota::per_hour(n)))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Each field is the first of temporary, own, tier and default that says it.
    #[test]
    fn each_field_is_the_first_that_is_there(
        temporary in grants(), own in grants(), tier in grants(), later in 0..2u32,
    ) {
        let (clients, clock) = office();
        now(clients.set_tier("tier", tier.clone())).unwrap();
        now(clients.set("ann", ClientPatch::new().tier("tier").rate_limit(own.clone()))).unwrap();
        let granted = now(clients.grant("ann", temporary.clone(), Duration::from_secs(1))).is_ok();
        prop_assert_eq!(granted, !temporary.is_empty());
        clock.advance(Duration::from_secs(later.into()));
        let record = now(clients.get("ann")).unwrap().unwrap();
        let tiers = now(clients.tiers()).unwrap();
        let found = record.in_force(&tiers, clients.now());
        let default = tiers.get("default").unwrap().clone();
        let order = if later == 0 { vec![temporary, own, tier, default] } else { vec![own, tier, default] };
        prop_assert_eq!(found.concurrency(), order.iter().find_map(Grant::concurrency));
        for name in ["requests", "a", "b", "c"] {
            prop_assert_eq!(found.quota(name), order.iter().find_map(|grant| grant.quota(name)));
        }
        let text = serde_json::to_string(&*record).unwrap();
        prop_assert_eq!(serde_json::from_str::<ClientRecord>(&text).unwrap(), (*record).clone());
    }
}
