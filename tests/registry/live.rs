//! What changes, changes with the next request, and nobody gains or loses by the change itself.

use crate::{
    common::{self, *},
    granted::*,
};
use proptest::prelude::*;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};
use tidegate::*;

#[test]
fn raising_lowering_and_moving_take_effect_at_once_and_give_no_fresh_quota() {
    let (limiter, clock) = limiter(policy(), office());
    set(&limiter, "ann", ClientPatch::new().tier("free"));
    let app = ok(&limiter);
    assert_eq!(sent(app.admits(20, || by("ann"))), 10);
    set(&limiter, "ann", ClientPatch::new().tier("basic"));
    assert_eq!(sent(app.admits(200, || by("ann"))), 90, "10 of the 100 are owed");
    set(&limiter, "ann", ClientPatch::new().tier("free"));
    assert_eq!(sent(app.admits(20, || by("ann"))), 0);
    clock.advance(Duration::from_secs(6));
    assert_eq!(sent(app.admits(20, || by("ann"))), 1, "never more is owed than a burst");
    set(&limiter, "ann", ClientPatch::new().rate_limit(Grant::new().requests_per_min(1_000)));
    assert_eq!(sent(app.admits(2_000, || by("ann"))), 990, "nobody stays locked out after a raise");
    done(limiter.clients().unwrap().set_tier("free", Grant::new().requests_per_min(3_000)));
    set(&limiter, "ann", ClientPatch::new().rate_limit(Grant::new()));
    assert_eq!(sent(app.admits(4_000, || by("ann"))), 2_000);
    done(limiter.clients().unwrap().set_tier("free", Grant::new().requests_per_min(4_000)));
    assert_eq!(sent(app.admits(4_000, || by("ann"))), 1_000, "a tier's limits are live too");
    done(limiter.clients().unwrap().remove_tier("free"));
    assert_eq!(sent(app.admits(60, || by("ann"))), 0);
    clock.advance(Duration::from_secs(60));
    assert_eq!(sent(app.admits(60, || by("ann"))), 50, "and then it is the default tier's");
}

#[test]
fn a_disabled_client_is_refused_until_it_is_enabled() {
    let (limiter, _) = limiter(policy(), office());
    set(&limiter, "ann", ClientPatch::new().tier("free"));
    let app = ok(&limiter);
    assert_eq!(sent(app.admits(4, || by("ann"))), 4);
    set(&limiter, "ann", ClientPatch::new().enabled(false));
    let refused = sent(app.send(by("ann")));
    assert_eq!(refused.status(), 401);
    assert!(refused.headers().contains_key("www-authenticate"));
    assert!(sent(json(refused))["detail"].as_str().unwrap().contains("disabled"));
    assert!(matches!(charge(&limiter, "ann"), Err(ChargeError::Rejected(Rejection::DisabledClient))));
    let ann = limiter.client(&Identity::name("ann"));
    assert_eq!(common::now(ann.peek("api")).limits().next().unwrap().remaining(), 6, "for operators");
    set(&limiter, "ann", ClientPatch::new().enabled(true));
    assert_eq!(sent(app.admits(20, || by("ann"))), 6, "what it owed it owes");
}

#[test]
fn a_deleted_client_owes_what_it_owed() {
    let (limiter, _) = limiter(policy(), office());
    set(&limiter, "ann", ClientPatch::new().tier("free"));
    let app = ok(&limiter);
    assert_eq!(sent(app.admits(20, || by("ann"))), 10);
    assert!(done(limiter.clients().unwrap().delete("ann")));
    assert_eq!(sent(app.admits(100, || by("ann"))), 40, "created anew in the tier default");
    done(limiter.clients().unwrap().delete("ann"));
    set(&limiter, "ann", ClientPatch::new().tier("free"));
    assert_eq!(sent(app.admits(20, || by("ann"))), 0);
}

#[test]
fn a_temporary_grant_ends_while_requests_come() {
    let (limiter, clock) = limiter(policy(), office());
    set(&limiter, "ann", ClientPatch::new().tier("free"));
    let app = ok(&limiter);
    let grant = Grant::new().requests_per_min(6_000);
    done(limiter.clients().unwrap().grant("ann", grant, Duration::from_secs(60)));
    assert_eq!(sent(app.admits(7_000, || by("ann"))), 6_000);
    clock.advance(Duration::from_millis(59_999));
    assert!(sent(app.admits(9_000, || by("ann"))) > 5_990);
    clock.advance(Duration::from_millis(1));
    assert_eq!(sent(app.admits(20, || by("ann"))), 0, "of 10 a minute all are owed");
    clock.advance(Duration::from_secs(60));
    assert_eq!(sent(app.admits(20, || by("ann"))), 10);
}

/// A response that costs more than was thought is charged at the client's rate, even after that was changed.
#[test]
fn settlements_go_by_the_client_s_rate() {
    let limit = requests().settle(Settle::header("x-units")).max_debt(1_000);
    let (limiter, _) = limiter(Policy::new().identify(id()).rule(Rule::new("api").limit(limit)), office());
    set(&limiter, "ann", ClientPatch::new().rate_limit(Grant::new().requests_per_min(100)));
    let change = limiter.clone();
    let app = app(&limiter.layer(), move |_| {
        set(&change, "ann", ClientPatch::new().rate_limit(Grant::new().requests_per_min(1_000)));
        // Somebody else's request, so that the new rate is in use.
        charge(&change, "ann").unwrap();
        let mut response = reply(200);
        response.headers_mut().insert("x-units", "300".parse().unwrap());
        response
    });
    assert_eq!(sent(app.status(by("ann"))), 200);
    let left = charge(&limiter, "ann").unwrap().limits().next().unwrap().remaining();
    assert_eq!(left, 698, "300, one by the handler and one now");
}

/// Whoever changes a client sees the change with the next request, whatever others do meanwhile.
#[test]
fn no_request_after_a_change_goes_by_what_was_before() {
    let (limiter, _) = limiter(policy(), office());
    set(&limiter, "ann", ClientPatch::new());
    let over = AtomicBool::new(false);
    /// Also when the test fails, or the others would go on for ever.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    thread::scope(|scope| {
        let _over = Over(&over);
        scope.spawn(|| {
            while !over.load(Relaxed) {
                let _ = charge(&limiter, "ann");
            }
        });
        scope.spawn(|| {
            let app = ok(&limiter);
            while !over.load(Relaxed) {
                sent(app.status(by("ann")));
            }
        });
        let app = ok(&limiter);
        for turn in 0..2_000u32 {
            let requests = 100 + turn % 7;
            set(&limiter, "ann", ClientPatch::new().rate_limit(Grant::new().requests_per_min(requests)));
            let decision = charge(&limiter, "ann").unwrap();
            assert_eq!(decision.limits().next().unwrap().quota(), Quota::per_minute(requests.into()));
            let answer = sent(app.send(by("ann")));
            assert_eq!(param(line(&answer, "ratelimit-policy").unwrap(), "q"), Some(requests.into()));
        }
    });
}

#[derive(Debug, Clone)]
enum Step {
    Set(u32),
    Ask(usize),
    Wait(u64),
    Delete,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1..40u32).prop_map(Step::Set),
        (1..30usize).prop_map(Step::Ask),
        (1..30_000u64).prop_map(Step::Wait),
        Just(Step::Delete),
    ];
    proptest::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Against units that come back at the rate in force when the client last came, never more than one burst owed.
    #[test]
    fn any_changes_in_any_order_count_units_exactly(steps in steps()) {
        let (limiter, clock) = limiter(policy(), office());
        // Debt in units of a nanosecond's 40!-th or so would be exact; a millionth of a unit is near enough here.
        let (mut debt, mut rate, mut written) = (0.0f64, 50u32, 50u32);
        for step in steps {
            match step {
                Step::Set(requests) => {
                    set(&limiter, "ann", ClientPatch::new().rate_limit(Grant::new().requests_per_min(requests)));
                    rate = requests;
                }
                Step::Delete => {
                    done(limiter.clients().unwrap().delete("ann"));
                    rate = 50;
                }
                Step::Wait(millis) => {
                    clock.advance(Duration::from_millis(millis));
                    debt = (debt - millis as f64 * f64::from(written) / 60_000.0).max(0.0);
                }
                Step::Ask(times) => {
                    debt = debt.min(rate.into());
                    written = rate;
                    let free = f64::from(rate) - debt;
                    let admitted = (0..times).filter(|_| charge(&limiter, "ann").unwrap().is_allowed()).count();
                    let most = (free + 1e-3).floor().min(times as f64);
                    let least = (free - 1e-3).floor().min(times as f64);
                    prop_assert!((least..=most).contains(&(admitted as f64)), "{admitted} of {least}..={most}");
                    debt += admitted as f64;
                }
            }
        }
    }
}

#[test]
fn a_registry_may_serve_several_limiters_and_outlive_them() {
    let registry = MemoryRegistry::new();
    let (first, _) = limiter(policy(), Clients::new(registry.clone()));
    let (second, _) = limiter(policy(), Clients::new(registry.clone()));
    set(&first, "ann", ClientPatch::new().tier("free"));
    assert_eq!(sent(ok(&second).admits(20, || by("ann"))), 10);
    set(&first, "ann", ClientPatch::new().tier("basic"));
    assert_eq!(sent(ok(&second).admits(200, || by("ann"))), 90);
    drop(first);
    set(&second, "ann", ClientPatch::new().tier("premium"));
    assert_eq!(sent(ok(&second).admits(2_000, || by("ann"))), 900);
}

#[test]
fn changes_are_seen_by_whoever_listens() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let limiter = Limiter::builder(policy())
        .clients(office())
        .observe(move |event: &Event<'_>| {
            if let Event::ClientCreated { client_id } = event {
                log.lock().unwrap().push(client_id.to_string());
            }
        })
        .build()
        .unwrap();
    assert_eq!(sent(ok(&limiter).admits(3, || by("new"))), 3);
    assert_eq!(*seen.lock().unwrap(), ["new"], "once");
}
