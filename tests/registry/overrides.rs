//! Limits that a request brings along.

use crate::{common::*, granted::*};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tidegate::*;

fn clients() -> Clients {
    let most = Grant::new().requests_per_min(200).limit("exports", "9/hour burst 3".parse().unwrap());
    office().overrides(Overrides::up_to(most).header("x-limits").tier("enterprise").client("ann"))
}

#[test]
fn an_override_counts_against_the_client_s_own_debt() {
    let (limiter, _) = limiter(policy(), clients());
    set(&limiter, "ann", ClientPatch::new().tier("free"));
    let app = ok(&limiter);
    assert_eq!(sent(app.admits(20, || by("ann"))), 10);
    let more = || with(by("ann"), "x-limits", "requests_per_min=200");
    assert_eq!(sent(app.admits(300, more)), 190, "10 are owed already");
    assert_eq!(sent(app.status(by("ann"))), 429, "and without it the client owes all of its own");
    let answer = sent(app.send(more()));
    assert_eq!(line(&answer, "ratelimit-policy"), Some("\"requests\";q=200;w=60"));
}

#[test]
fn an_override_is_bounded_and_for_those_who_may() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let log = events.clone();
    let limiter = Limiter::builder(policy())
        .clients(clients())
        .observe(move |event: &Event<'_>| {
            if let Event::Override { client_id, wanted, refused } = event {
                log.lock().unwrap().push((client_id.to_string(), wanted.is_some(), refused.is_none()));
            }
        })
        .build()
        .unwrap();
    set(&limiter, "ann", ClientPatch::new());
    set(&limiter, "bob", ClientPatch::new());
    set(&limiter, "big", ClientPatch::new().tier("enterprise"));
    let app = ok(&limiter);
    for (id, text, status) in [
        ("ann", "requests_per_min=200", 200),
        ("big", " requests_per_min = 1 ", 200),
        ("ann", "requests_per_min=201", 400),
        ("ann", "requests_per_min=0", 400),
        ("ann", "requests_per_min=-1", 400),
        ("ann", "requests_per_min=+1", 400),
        ("ann", "requests_per_min=99999999999", 400),
        ("ann", "max_concurrent=1", 400),
        ("ann", "requests_per_min=1,requests_per_min=2", 400),
        ("ann", "requests=1", 400),
        ("ann", "1", 400),
        ("ann", "", 400),
        ("bob", "requests_per_min=1", 403),
        ("bob", "nonsense", 403),
    ] {
        events.lock().unwrap().clear();
        let answer = sent(app.send(with(by(id), "x-limits", text)));
        assert_eq!(answer.status(), status, "{id} {text:?}");
        let accepted = status == 200;
        let told = events.lock().unwrap().clone();
        assert!(matches!(&told[..], [(who, _, ok)] if who == id && *ok == accepted), "{told:?}");
    }
    let twice = with(with(by("ann"), "x-limits", "requests_per_min=1"), "x-limits", "requests_per_min=1");
    assert_eq!(sent(app.status(twice)), 400);
}

#[test]
fn by_call_too() {
    let (limiter, _) = limiter(policy(), clients());
    set(&limiter, "ann", ClientPatch::new().tier("free"));
    set(&limiter, "bob", ClientPatch::new());
    let charge = |id: &'static str, limits: Grant| {
        let client = limiter.client(&Identity::name(id));
        sent(client.charge("api").with_limits(&limits).into_future())
    };
    let decision = charge("ann", Grant::new().requests_per_min(150)).unwrap();
    assert_eq!(decision.limits().next().unwrap().remaining(), 149);
    assert!(charge("ann", Grant::new().limit("exports", "9/hour burst 3".parse().unwrap())).is_ok());
    for limits in [
        Grant::new(),
        Grant::new().requests_per_min(0),
        Grant::new().requests_per_min(201),
        Grant::new().limit("exports", "10/hour burst 3".parse().unwrap()),
        Grant::new().limit("exports", "9/hour burst 4".parse().unwrap()),
        Grant::new().limit("other", "1/hour".parse().unwrap()),
    ] {
        let refused = charge("ann", limits.clone());
        assert!(matches!(refused, Err(ChargeError::BadOverride { .. })), "{limits:?}: {refused:?}");
    }
    assert!(matches!(charge("bob", Grant::new().requests_per_min(1)), Err(ChargeError::OverrideNotAllowed)));
    let refunded = charge("ann", Grant::new().requests_per_min(150)).unwrap();
    let left = |decision: Decision| decision.limits().next().unwrap().remaining();
    let before = left(charge("ann", Grant::new().requests_per_min(150)).unwrap());
    limiter.refund(&refunded);
    assert_eq!(
        left(charge("ann", Grant::new().requests_per_min(150)).unwrap()),
        before,
        "one back, one taken"
    );
}

/// The one that all unknown clients share is nobody whom an override could be meant for.
#[test]
fn unknown_clients_are_not_the_one_that_may_override() {
    let most = Grant::new().requests_per_min(200);
    let clients = office().unknown(UnknownClients::share());
    let (limiter, _) =
        limiter(policy(), clients.overrides(Overrides::up_to(most).header("x-limits").client("default")));
    let app = ok(&limiter);
    let more = |id: &str| sent(app.status(with(by(id), "x-limits", "requests_per_min=200")));
    assert_eq!(more("anybody"), 403);
    set(&limiter, "default", ClientPatch::new());
    assert_eq!(more("default"), 200);
}

#[test]
fn without_leave_a_header_means_nothing() {
    let (limiter, _) = limiter(policy(), office());
    set(&limiter, "ann", ClientPatch::new().tier("free"));
    let more = || with(by("ann"), "x-limits", "requests_per_min=200");
    assert_eq!(sent(ok(&limiter).admits(20, more)), 10);
}

/// By a lower override and back, or by a higher one and back, a client that owes gets nothing forgiven.
#[test]
fn no_change_between_overrides_forgives_what_is_owed() {
    for other in ["requests_per_min=1", "requests_per_min=200", "requests_per_min=37"] {
        let (limiter, clock) = limiter(policy(), clients());
        set(&limiter, "ann", ClientPatch::new().tier("free"));
        let app = ok(&limiter);
        let admits = |request: &dyn Fn() -> http::Request<()>| sent(app.admits(300, request));
        let mut all = 0;
        for _ in 0..5 {
            all += admits(&|| by("ann")) + admits(&|| with(by("ann"), "x-limits", other));
        }
        let most = other.trim_start_matches("requests_per_min=").parse::<usize>().unwrap().max(10);
        assert_eq!(all, most, "{other}");
        clock.advance(Duration::from_secs(30));
        let later: usize =
            (0..5).map(|_| admits(&|| by("ann")) + admits(&|| with(by("ann"), "x-limits", other))).sum();
        assert!(later <= most / 2, "{later} of {other}");
    }
}

/// What is given back or added once the response is there, goes by the same account.
#[test]
fn what_a_response_settles_forgives_nothing_either() {
    let limit = requests().settle(Settle::count(|status| status != 404));
    let policy = Policy::new().identify(id()).rule(Rule::new("api").limit(limit));
    let (limiter, _) = limiter(policy, clients());
    set(&limiter, "ann", ClientPatch::new().tier("free"));
    let plain = ok(&limiter);
    let meanwhile = plain.clone();
    let app = app(&limiter.layer(), move |_| {
        assert_eq!(sent(meanwhile.admits(20, || by("ann"))), 9);
        reply(404)
    });
    sent(app.send(with(by("ann"), "x-limits", "requests_per_min=1")));
    assert_eq!(sent(plain.admits(20, || by("ann"))), 1, "the one that was given back");
}

#[test]
fn a_request_is_told_once_however_many_rules_it_is_for() {
    let seen = Arc::new(Mutex::new(0));
    let log = seen.clone();
    let other = Rule::new("other").limit(Limit::per_client("exports", Quota::per_hour(9)).granted());
    let limiter = Limiter::builder(policy().rule(other))
        .clients(clients().fallback("ann"))
        .observe(move |event: &Event<'_>| {
            *log.lock().unwrap() += u32::from(matches!(event, Event::Override { .. }))
        })
        .build()
        .unwrap();
    let app = ok(&limiter);
    for request in [by("ann"), get("/")] {
        assert_eq!(sent(app.status(with(request, "x-limits", "requests_per_min=2"))), 200);
    }
    assert_eq!((*seen.lock().unwrap(), limiter.fallback_uses()), (2, 2));
}
