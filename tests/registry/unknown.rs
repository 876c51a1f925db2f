//! Ids that the registry does not know, and requests without any.

use crate::{common::*, granted::*};
use http::{Request, StatusCode};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tidegate::*;

fn by_from(peer: &str, id: &str) -> Request<()> {
    with(from(peer, "GET", "/"), "x-client-id", id)
}

fn count(limiter: &Limiter) -> usize {
    done(limiter.clients().unwrap().page(None, 1)).count
}

#[test]
fn an_unknown_client_is_created_in_the_default_tier() {
    let (limiter, _) = limiter(policy(), office());
    assert_eq!(sent(ok(&limiter).admits(60, || by("new-one"))), 50);
    let record = done(limiter.clients().unwrap().get("new-one")).unwrap();
    assert_eq!((record.tier(), record.is_enabled(), record.own().is_empty()), ("default", true, true));
}

#[test]
fn inventing_ids_buys_no_more_than_the_bounds() {
    let clients = office().unknown(UnknownClients::create().each_address(Quota::per_hour(3)).total(5));
    let (limiter, clock) = limiter(policy(), clients);
    let app = ok(&limiter);
    let attack = |peer: &str, name: &str| {
        (0..1_000).filter(|i| sent(app.status(by_from(peer, &format!("{name}-{i}")))) == 200).count()
    };
    assert_eq!(attack("192.0.2.1", "a"), 3 + 50, "three of its own, and the shared one's 50");
    assert_eq!(count(&limiter), 3);
    assert_eq!(attack("192.0.2.1", "b"), 0, "the shared one is one");
    assert_eq!(attack("192.0.2.2", "c"), 2, "elsewhere two more fit");
    assert_eq!(count(&limiter), 5);
    clock.advance(Duration::from_secs(3600));
    assert_eq!(attack("192.0.2.3", "d"), 50, "in all there are five");
    assert_eq!(count(&limiter), 5);
    set(&limiter, "e-1", ClientPatch::new());
    assert_eq!(sent(app.status(by_from("192.0.2.4", "e-1"))), 200, "who is known has a quota of its own");
    assert_eq!(sent(app.admits(60, || by_from("192.0.2.1", "a-0"))), 50, "and so have those who came first");
}

#[test]
fn whom_an_operator_changes_or_deletes_makes_room_for_another() {
    let clients = office().unknown(UnknownClients::create().each_address(Quota::per_hour(100)).total(2));
    let (limiter, _) = limiter(policy(), clients);
    let app = ok(&limiter);
    let comes = |id: &str| {
        sent(app.status(by(id)));
        done(limiter.clients().unwrap().get(id)).is_some_and(|record| record.is_uninvited())
    };
    assert_eq!(["ann", "bob", "cid"].map(comes), [true, true, false]);
    set(&limiter, "ann", ClientPatch::new().tier("free"));
    assert_eq!(["cid", "dan"].map(comes), [true, false], "whom somebody has changed is no newcomer");
    done(limiter.clients().unwrap().issue_key("cid"));
    assert_eq!(["dan", "eve"].map(comes), [true, false]);
    done(limiter.clients().unwrap().delete("dan"));
    assert_eq!(["eve", "fay"].map(comes), [true, false]);
    set(&limiter, "gus", ClientPatch::new());
    assert_eq!(count(&limiter), 5, "ann, bob, cid, eve and gus");
}

#[test]
fn threads_that_invent_ids_do_not_get_past_the_bound_together() {
    for round in 0..20 {
        let clients =
            office().unknown(UnknownClients::create().each_address(Quota::per_second(1_000)).total(5));
        let (limiter, _) = limiter(policy(), clients);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let limiter = &limiter;
                scope.spawn(move || {
                    let app = ok(limiter);
                    for i in 0..10 {
                        sent(app.status(by(&format!("new-{round}-{thread}-{i}"))));
                    }
                });
            }
        });
        assert_eq!(count(&limiter), 5);
    }
}

#[test]
fn addresses_of_one_network_are_one() {
    let clients = office().unknown(UnknownClients::create().each_address(Quota::per_hour(1)));
    let (limiter, _) = limiter(policy(), clients);
    for i in 0..5 {
        sent(ok(&limiter).status(by_from(&format!("2001:db8::{i}"), &format!("new-{i}"))));
    }
    assert_eq!(count(&limiter), 1);
}

#[test]
fn unknown_clients_are_refused_or_shared_where_that_is_set() {
    let (refusing, _) = limiter(policy(), office().unknown(UnknownClients::refuse()));
    let refused = sent(ok(&refusing).send(by("new-one")));
    assert_eq!(
        (refused.status(), line(&refused, "www-authenticate")),
        (StatusCode::UNAUTHORIZED, Some("ApiKey"))
    );
    assert!(matches!(charge(&refusing, "new-one"), Err(ChargeError::Rejected(Rejection::UnknownClient))));
    assert_eq!(count(&refusing), 0);
    set(&refusing, "new-one", ClientPatch::new());
    assert_eq!(sent(ok(&refusing).status(by("new-one"))), 200);

    let (sharing, _) = limiter(policy(), office().unknown(UnknownClients::share()));
    let app = ok(&sharing);
    let passed = (0..100).filter(|i| sent(app.status(by(&format!("new-{i}")))) == 200).count();
    assert_eq!((passed, count(&sharing)), (50, 0));
    set(&sharing, "default", ClientPatch::new());
    assert_eq!(sent(app.admits(60, || by("default"))), 50, "the shared one is nobody's");
}

#[test]
fn malformed_ids_are_refused_with_400() {
    let (limiter, _) = limiter(policy(), office());
    let app = ok(&limiter);
    for id in ["ab", "a b", "a/b", &"x".repeat(65)] {
        let refused = sent(app.send(by(id)));
        assert_eq!(refused.status(), 400, "{id:?}");
        assert!(!refused.headers().contains_key("www-authenticate"));
    }
    let mut request = get("/");
    request.headers_mut().insert("x-client-id", http::HeaderValue::from_bytes(b"abc\xff").unwrap());
    assert_eq!(sent(app.status(request)), 400);
    assert_eq!(sent(app.status(with(by("abc"), "x-client-id", "abd"))), 400, "two of them");
    assert_eq!(count(&limiter), 0);
    assert!(matches!(charge(&limiter, "x"), Err(ChargeError::Rejected(Rejection::MalformedClientId))));
}

#[test]
fn whoever_sends_no_id_is_the_fallback_client() {
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let log = warnings.clone();
    let clock = ManualClock::new();
    let limiter = Limiter::builder(policy())
        .clock(clock.clone())
        .clients(office().fallback("legacy-default"))
        .observe(move |event: &Event<'_>| match event {
            Event::Fallback { client_id, uses } => log.lock().unwrap().push((client_id.to_string(), *uses)),
            Event::Anonymous { .. } => panic!("it is somebody"),
            _ => {}
        })
        .build()
        .unwrap();
    let app = ok(&limiter);
    assert_eq!(sent(app.admits(60, || get("/"))), 50, "created in the default tier");
    assert_eq!(limiter.fallback_uses(), 60);
    assert_eq!(sent(app.admits(3, || by("legacy-default"))), 0, "the same client by its id");
    assert_eq!(limiter.fallback_uses(), 63);
    set(&limiter, "legacy-default", ClientPatch::new().tier("premium"));
    assert_eq!(sent(app.admits(2_000, || get("/"))), 950);
    assert_eq!(*warnings.lock().unwrap(), [("legacy-default".to_owned(), 1)], "told once a minute");
    clock.advance(Duration::from_secs(60));
    sent(app.send(get("/")));
    assert_eq!(warnings.lock().unwrap()[1..], [("legacy-default".to_owned(), 2_064)]);
    set(&limiter, "legacy-default", ClientPatch::new().enabled(false));
    assert_eq!(sent(app.status(get("/"))), 401, "once all have an id of their own");
    assert_eq!(sent(app.status(by("ann"))), 200);
}

#[test]
fn without_a_fallback_they_are_anonymous_or_refused() {
    let (limiter, _) = limiter(policy(), office());
    assert_eq!(sent(ok(&limiter).admits(20, || get("/"))), 7, "by the limit's own quota");
    assert_eq!(count(&limiter), 0);
    let policy = Policy::new().identify(id().or_refuse()).rule(Rule::new("api").limit(requests()));
    let (limiter, _) = crate::granted::limiter(policy, office());
    assert_eq!(sent(ok(&limiter).status(get("/"))), 400);
}

/// Charged by hand, clients come from wherever the caller says.
#[test]
fn by_hand_new_clients_are_counted_by_the_address_that_is_given() {
    let clients = office().unknown(UnknownClients::create().each_address(Quota::per_hour(2)));
    let (limiter, _) = limiter(policy(), clients);
    let create = |id: String, peer: Option<&str>| {
        let client = limiter.client(&Identity::name(id));
        let charging = client.charge("api");
        let charging = peer.map_or(charging.clone(), |peer| charging.address(peer.parse().unwrap()));
        sent(charging.into_future()).unwrap();
    };
    for i in 0..5 {
        create(format!("one-{i}"), Some("192.0.2.1"));
        create(format!("two-{i}"), Some("192.0.2.2"));
        create(format!("nowhere-{i}"), None);
    }
    assert_eq!(count(&limiter), 6);
    let absent = limiter.client(&Identity::name("absent"));
    now(absent.peek("api"));
    now(absent.reset("api"));
    assert_eq!(count(&limiter), 6, "whoever is only asked after is not created");
}
