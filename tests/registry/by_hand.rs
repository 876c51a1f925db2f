//! What is granted holds by hand too, for charges and for holds.

use crate::{common::*, granted::*};
use futures_util::FutureExt;
use std::{pin::pin, time::Duration};
use tidegate::*;

fn at_once() -> Concurrency {
    Concurrency::per_client("at once", 7).granted()
}

fn ann(limiter: &Limiter) -> Client {
    limiter.client(&Identity::name("ann"))
}

#[test]
fn the_resource_of_a_rule_is_asked_for_by_hand_too() {
    let rule = Rule::new("api").resource("reports").limit(requests()).concurrency(at_once());
    let (limiter, _) = limiter(Policy::new().identify(id()).rule(rule), office());
    let client = ann(&limiter);
    for (patch, may) in [
        (ClientPatch::new(), true),
        (ClientPatch::new().allowed_queues([""; 0]), false),
        (ClientPatch::new().allowed_queues(["reports"]), true),
    ] {
        set(&limiter, "ann", patch);
        let charged = sent(client.charge("api").into_future()).map(drop);
        let held = sent(client.hold("api").into_future()).map(drop);
        for answer in [charged, held] {
            match answer {
                Ok(()) => assert!(may),
                Err(ChargeError::ResourceNotAllowed { resource }) => {
                    assert_eq!((&*resource, may), ("reports", false));
                }
                Err(other) => panic!("{other}"),
            }
        }
        now(client.peek("api"));
        now(client.reset("api"));
    }
    let both = sent(client.hold("api").resource("other").into_future());
    assert!(matches!(both, Err(ChargeError::ResourceNotAllowed { resource }) if resource == "other"));
}

#[test]
fn a_hold_says_where_it_is_from_and_brings_limits_along() {
    let clients = office()
        .unknown(UnknownClients::create().each_address(Quota::per_hour(1)))
        .overrides(Overrides::up_to(Grant::new().max_concurrent(9)).client("ann"));
    let rule = Rule::new("api").limit(requests()).concurrency(at_once());
    let (limiter, _) = limiter(Policy::new().identify(id()).rule(rule), clients);
    for number in 1..=3 {
        let client = limiter.client(&Identity::name(format!("new-{number}")));
        let address = [192, 0, 2, number].into();
        sent(client.hold("api").address(address).into_future()).unwrap().release();
        assert_eq!(done(limiter.clients().unwrap().page(None, 9)).count, usize::from(number));
    }
    set(&limiter, "ann", ClientPatch::new().tier("free"));
    let (client, more) = (ann(&limiter), Grant::new().max_concurrent(5));
    let holds: Vec<_> =
        (0..9).map(|_| sent(client.hold("api").with_limits(&more).into_future()).unwrap()).collect();
    assert_eq!(holds.iter().filter(|hold| hold.is_allowed()).count(), 5);
    let too_many = Grant::new().max_concurrent(10);
    let refused = sent(client.hold("api").with_limits(&too_many).into_future());
    assert!(matches!(refused, Err(ChargeError::BadOverride { .. })));
}

/// A limit's number is for those who have none of their own.
#[test]
fn a_raised_limit_lets_in_nobody_beyond_its_own_number() {
    let rule = Rule::new("api").concurrency(at_once().wait(3, Duration::from_secs(9)));
    let limiter = Limiter::builder(Policy::new().identify(id()).rule(rule))
        .timer(|_| std::future::pending())
        .clients(office())
        .build()
        .unwrap();
    set(&limiter, "ann", ClientPatch::new().tier("free"));
    let (client, nobody) = (ann(&limiter), limiter.client(&Identity::anonymous()));
    let held = sent(client.hold("api").into_future()).unwrap();
    let mut second = pin!(client.hold("api").into_future());
    assert!(second.as_mut().now_or_never().is_none());
    let seven: Vec<_> = (0..7).map(|_| sent(nobody.hold("api").into_future()).unwrap()).collect();
    let mut eighth = pin!(nobody.hold("api").into_future());
    assert!(eighth.as_mut().now_or_never().is_none());
    limiter.set_concurrency("at once", 8).unwrap();
    assert!(eighth.now_or_never().is_some(), "it goes by the limit");
    assert!(second.as_mut().now_or_never().is_none(), "free has one at once");
    drop((held, seven));
    assert!(second.now_or_never().is_some());
}
