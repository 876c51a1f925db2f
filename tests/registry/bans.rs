//! A ban of a registered client holds however it comes.

use crate::{common::*, granted::*};
use http::Request;
use std::{future::IntoFuture as _, time::Duration};
use tidegate::*;

const MINUTE: Duration = Duration::from_secs(60);

pub fn either() -> Source {
    Source::api_key_header("x-api-key").or(Source::header("x-client-id")).registered()
}

/// Clients are registered on one route, and go by their address on another; three refusals are a ban.
pub fn strict() -> Policy {
    let addresses = Rule::new("addresses")
        .route("/addresses")
        .identify(Source::address())
        .limit(Limit::per_client("addresses", Quota::per_hour(100)));
    Policy::new()
        .identify(either())
        .rule(Rule::new("api").route("/").limit(requests()))
        .rule(addresses)
        .ban(Ban::after(3, MINUTE).lasting(MINUTE))
}

pub fn with_key(path: &str, key: &IssuedKey) -> Request<()> {
    with(get(path), "x-api-key", key.secret())
}

#[test]
fn a_client_is_banned_and_not_the_key_that_it_came_by() {
    let (limiter, clock) = limiter(strict(), office());
    set(&limiter, "ann", ClientPatch::new().rate_limit(Grant::new().requests_per_min(1)));
    set(&limiter, "bob", ClientPatch::new());
    let clients = limiter.clients().unwrap();
    let [first, second, never] = [(); 3].map(|()| done(clients.issue_key("ann")));
    let app = ok(&limiter);
    let status = |request| sent(app.status(request));
    assert_eq!(status(with_key("/", &first)), 200);
    assert_eq!(status(with_key("/", &first)), 429);
    assert_eq!((status(with_key("/", &second)), status(by("ann"))), (429, 429), "one client's refusals");
    for request in [by("ann"), with_key("/", &first), with_key("/", &second), with_key("/addresses", &never)]
    {
        assert_eq!(status(request), 403);
    }
    assert_eq!((status(by("bob")), status(get("/addresses"))), (200, 200), "from the same address");
    let bans = limiter.bans();
    assert_eq!((bans.len(), bans[0].name(), bans[0].times()), (1, Some("ann"), 1));
    let own = limiter.ban_of(&Identity::name("ann")).unwrap();
    assert_eq!((own.key(), own.remaining()), (bans[0].key(), MINUTE));
    assert!(limiter.ban_of(&Identity::name("bob")).is_none());
    for identity in [Identity::name("ann"), Identity::api_key(never.secret())] {
        let banned = sent(limiter.client(&identity).charge("api").into_future());
        assert!(matches!(banned, Err(ChargeError::Banned { retry_after: MINUTE })));
    }
    clock.advance(MINUTE);
    assert_eq!(status(with_key("/", &never)), 200);
}

#[test]
fn a_client_that_is_deleted_and_created_anew_has_its_ban() {
    let (limiter, _) = limiter(strict(), office());
    set(&limiter, "ann", ClientPatch::new());
    limiter.ban(&Identity::name("ann"), MINUTE).unwrap();
    let app = ok(&limiter);
    assert_eq!(sent(app.status(by("ann"))), 403);
    assert!(done(limiter.clients().unwrap().delete("ann")));
    assert_eq!(sent(app.status(by("ann"))), 403, "also while it is not there");
    set(&limiter, "ann", ClientPatch::new().tier("premium"));
    let key = done(limiter.clients().unwrap().issue_key("ann"));
    assert_eq!((sent(app.status(by("ann"))), sent(app.status(with_key("/", &key)))), (403, 403));
    set(&limiter, "ann", ClientPatch::new().enabled(false));
    assert_eq!(sent(app.status(with_key("/addresses", &key))), 403, "where nobody is looked up otherwise");
    assert!(limiter.lift_ban(&Identity::name("ann")));
    set(&limiter, "ann", ClientPatch::new().enabled(true));
    assert_eq!((sent(app.status(by("ann"))), sent(app.status(with_key("/", &key)))), (200, 200));
}

#[test]
fn charges_by_hand_are_noted_for_the_client_too() {
    let (limiter, _) = limiter(strict(), office());
    set(&limiter, "ann", ClientPatch::new().rate_limit(Grant::new().requests_per_min(1)));
    let key = done(limiter.clients().unwrap().issue_key("ann"));
    for allowed in [true, false, false, false] {
        let by_key = limiter.client(&Identity::api_key(key.secret()));
        assert_eq!(sent(by_key.charge("api").into_future()).unwrap().is_allowed(), allowed);
    }
    assert_eq!(sent(ok(&limiter).status(by("ann"))), 403);
    assert_eq!(limiter.bans()[0].name(), Some("ann"));
}

/// Nobody answers for what others did whom it only stands in for, or shares a quota with.
#[test]
fn the_fallback_client_is_banned_by_hand_alone_and_who_shares_a_quota_by_its_own_id() {
    let clients =
        office().fallback("legacy").unknown(UnknownClients::create().each_address(Quota::per_hour(1)));
    let (limiter, _) = limiter(strict(), clients);
    set(&limiter, "legacy", ClientPatch::new().rate_limit(Grant::new().requests_per_min(1)));
    let app = ok(&limiter);
    for status in [200, 429, 429, 429, 429] {
        assert_eq!(sent(app.status(get("/"))), status);
    }
    for identity in [Identity::anonymous(), Identity::name("legacy")] {
        for _ in 0..4 {
            let charged = sent(limiter.client(&identity).charge("api").into_future());
            assert!(!charged.unwrap().is_allowed());
            assert_eq!(sent(app.status(by("legacy"))), 429);
        }
    }
    assert_eq!(limiter.bans(), []);
    limiter.ban(&Identity::name("legacy"), MINUTE).unwrap();
    assert_eq!(sent(app.status(get("/"))), 403);
    assert!(limiter.lift_ban(&Identity::name("legacy")));

    sent(app.status(by("created")));
    assert_eq!(sent(app.admits(99, || by("shares"))), 50);
    assert_eq!(sent(app.status(by("shares"))), 403);
    assert_eq!(sent(app.status(by("shares-too"))), 429);
}
