//! Requests are counted by what their client was granted.

use crate::common::{self, *};
use futures_util::FutureExt;
use http::{Request, StatusCode};
use std::{borrow::Cow, time::Duration};
use tidegate::*;

pub fn id() -> Source {
    Source::header("x-client-id").registered()
}

pub fn requests() -> Limit {
    Limit::per_client("requests", Quota::per_minute(7)).granted()
}

pub fn policy() -> Policy {
    Policy::new().identify(id()).rule(Rule::new("api").limit(requests()))
}

pub fn office() -> Clients {
    Clients::new(MemoryRegistry::new())
}

pub fn limiter(policy: Policy, clients: Clients) -> (Limiter, ManualClock) {
    let clock = ManualClock::new();
    (Limiter::builder(policy).clock(clock.clone()).clients(clients).build().unwrap(), clock)
}

/// In memory every answer is there at once.
#[track_caller]
pub fn done<T>(answer: impl Future<Output = Result<T, RegistryError>>) -> T {
    answer.now_or_never().unwrap().unwrap()
}

pub fn set(limiter: &Limiter, id: &str, patch: ClientPatch) {
    done(limiter.clients().unwrap().set(id, patch));
}

pub fn by(id: &str) -> Request<()> {
    with(get("/"), "x-client-id", id)
}

pub fn sent<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().unwrap()
}

pub fn charge(limiter: &Limiter, id: &str) -> Result<Decision, ChargeError> {
    sent(limiter.charge(&Identity::name(id.to_owned()), "api").into_future())
}

#[test]
fn each_client_has_the_quota_that_it_was_granted() {
    let (limiter, _) = limiter(policy(), office());
    for (id, patch, most) in [
        ("ann", ClientPatch::new().tier("free"), 10),
        ("bob", ClientPatch::new().tier("basic"), 100),
        ("cid", ClientPatch::new().rate_limit(Grant::new().requests_per_min(3)), 3),
        ("dan", ClientPatch::new(), 50),
    ] {
        set(&limiter, id, patch);
        assert_eq!(sent(ok(&limiter).admits(120, || by(id))), most, "{id}");
    }
    let answer = sent(ok(&limiter).send(by("cid")));
    assert_eq!(line(&answer, "ratelimit-policy"), Some("\"requests\";q=3;w=60"));
    assert_eq!(line(&answer, "ratelimit"), Some("\"requests\";r=0;t=20"));
    assert_eq!(line(&answer, "retry-after"), Some("20"));
    assert!(sent(json(answer))["detail"].as_str().unwrap().contains("requests (3/minute)"));
}

#[test]
fn named_limits_are_granted_too_and_others_are_the_policy_s() {
    let rule = Rule::new("api")
        .limit(requests())
        .limit(Limit::per_client("exports", Quota::per_hour(4)).granted())
        .limit(Limit::per_client("imports", Quota::per_hour(5)).granted())
        .limit(Limit::per_client("other", Quota::per_hour(6)));
    let (limiter, _) = limiter(Policy::new().identify(id()).rule(rule), office());
    let grant =
        Grant::new().limit("exports", "20/hour burst 2".parse().unwrap()).limit("other", Quota::per_hour(1));
    set(&limiter, "ann", ClientPatch::new().rate_limit(grant));
    let decision = charge(&limiter, "ann").unwrap();
    let limits: Vec<_> =
        decision.limits().map(|l| (l.limit(), l.quota().to_string(), l.remaining())).collect();
    assert_eq!(
        limits,
        [
            ("requests", "50/minute".into(), 49),
            ("exports", "20/hour burst 2".into(), 1),
            ("imports", "5/hour".into(), 4),
            ("other", "6/hour".into(), 5),
        ]
    );
}

/// Told and counted alike, whatever the number.
#[test]
fn the_quota_that_is_told_is_the_one_that_was_granted() {
    let (limiter, _) = limiter(policy(), office());
    for requests in [1, 2, 3, 7, 9, 10, 11, 59, 60, 61, 1_000, 9_999, 123_457] {
        set(&limiter, "ann", ClientPatch::new().rate_limit(Grant::new().requests_per_min(requests)));
        let decision = charge(&limiter, "ann").unwrap();
        let limit = decision.limits().next().unwrap();
        assert_eq!(limit.quota().rate().unwrap(), limit.rate(), "{requests}");
        assert_eq!(limit.quota(), Quota::per_minute(requests.into()));
    }
}

#[test]
fn a_client_is_one_client_however_it_is_known() {
    let source = Source::api_key_header("x-api-key").or(Source::header("x-client-id")).registered();
    let policy = Policy::new().identify(source).rule(Rule::new("api").limit(requests()));
    let (limiter, clock) = limiter(policy, office());
    set(&limiter, "ann", ClientPatch::new().tier("free"));
    let clients = limiter.clients().unwrap();
    let key = done(clients.issue_key("ann"));
    let other = done(clients.issue_key("ann"));
    let app = ok(&limiter);
    let with_key = |key: &IssuedKey| with(get("/"), "x-api-key", key.secret());
    let left = |answer: Answer| param(line(&answer, "ratelimit").unwrap(), "r").unwrap();
    assert_eq!(left(sent(app.send(by("ann")))), 9);
    assert_eq!(left(sent(app.send(with_key(&key)))), 8);
    assert_eq!(left(sent(app.send(with_key(&other)))), 7);
    assert_eq!(charge(&limiter, "ann").unwrap().limits().next().unwrap().remaining(), 6);
    let by_key = limiter.client(&Identity::api_key(key.secret().to_owned()));
    assert_eq!(common::now(by_key.peek("api")).limits().next().unwrap().remaining(), 6);

    let rotated = done(clients.rotate_key("ann", key.key().prefix(), Duration::from_secs(30)));
    assert_eq!(sent(app.status(with_key(&key))), 200, "for the overlap");
    assert_eq!(sent(app.status(with_key(&rotated))), 200);
    clock.advance(Duration::from_secs(30));
    assert_eq!(sent(app.status(with_key(&key))), 401, "and no longer, though it was just used");
    done(clients.revoke_key("ann", other.key().prefix()));
    assert_eq!(sent(app.status(with_key(&other))), 401);
    let guess = sent(app.send(with(get("/"), "x-api-key", "tg_guess")));
    assert_eq!(
        (guess.status(), line(&guess, "www-authenticate")),
        (StatusCode::UNAUTHORIZED, Some("ApiKey"))
    );
    assert_eq!(sent(app.status(with_key(&rotated))), 200);
}

#[test]
fn addresses_are_not_looked_up() {
    let source = Source::header("x-client-id").registered().or(Source::address());
    let (limiter, _) =
        limiter(Policy::new().identify(source).rule(Rule::new("api").limit(requests())), office());
    assert_eq!(sent(ok(&limiter).admits(60, || get("/"))), 7, "the policy's own quota");
    assert_eq!(done(limiter.clients().unwrap().page(None, 10)).count, 0);
}

#[test]
fn a_resource_is_for_those_who_may_use_it() {
    let policy = Policy::new()
        .identify(id())
        .rule(Rule::new("reports").route("/reports").resource("reports").limit(requests()))
        .rule(
            Rule::new("queues")
                .route("/queues/{name}")
                .resource_by(|head| head.path().strip_prefix("/queues/").map(Cow::Borrowed)),
        )
        .rule(Rule::new("api").by_hand().limit(Limit::per_client("by hand", Quota::per_minute(9))));
    let (limiter, _) = limiter(policy, office());
    let app = ok(&limiter);
    let ask = |path: &str| sent(app.status(with(get(path), "x-client-id", "ann")));
    let enqueue = |queue| {
        let ann = limiter.client(&Identity::name("ann"));
        sent(ann.charge("api").resource(queue).into_future())
    };
    let all = ["/reports", "/queues/a", "/queues/b"];
    for (patch, statuses) in [
        (ClientPatch::new(), [200, 200, 200]),
        (ClientPatch::new().allowed_queues(["a", "reports"]), [200, 200, 403]),
        (ClientPatch::new().allowed_queues([""; 0]), [403, 403, 403]),
        (ClientPatch::new().all_queues(), [200, 200, 200]),
    ] {
        set(&limiter, "ann", patch);
        assert_eq!(all.map(ask), statuses);
        match enqueue("b") {
            Ok(_) => assert_eq!(statuses[2], 200),
            Err(ChargeError::ResourceNotAllowed { resource }) => {
                assert_eq!((&*resource, statuses[2]), ("b", 403))
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    set(&limiter, "ann", ClientPatch::new().allowed_queues([""; 0]));
    let refused = sent(app.send(with(get("/reports"), "x-client-id", "ann")));
    assert!(sent(json(refused))["detail"].as_str().unwrap().contains("reports"));
}

#[test]
fn what_cannot_be_granted_is_a_mistake() {
    let plain = Source::header("x-client-id");
    for (policy, clients, text) in [
        (
            Policy::new().identify(plain.clone()).rule(Rule::new("a").limit(requests())),
            Some(office()),
            ".registered()",
        ),
        (Policy::new().identify(plain).rule(Rule::new("a").resource("x")), Some(office()), ".registered()"),
        (
            Policy::new()
                .identify(id())
                .rule(Rule::new("a").limit(Limit::shared("s", Quota::per_minute(1)).granted())),
            Some(office()),
            "all clients share it",
        ),
        (
            Policy::new().rule(Rule::new("a").concurrency(Concurrency::per_client("c", 1).granted())),
            Some(office()),
            "\"c\"",
        ),
        (policy(), None, ".clients("),
        (policy(), Some(office().fallback("x")), "\"x\" is no id"),
        (policy(), Some(office().ids(IdRule::new(9, 5))), "turn the numbers round"),
        (
            policy(),
            Some(office().unknown(UnknownClients::create().each_address(Quota::per_minute(0)))),
            "each_address",
        ),
        (
            policy(),
            Some(office().overrides(Overrides::up_to(Grant::new().max_concurrent(0)))),
            "max_concurrent",
        ),
        (policy(), Some(office().overrides(Overrides::up_to(Grant::new()).header("a b"))), "\"a b\""),
    ] {
        let builder = Limiter::builder(policy);
        let builder = match clients {
            Some(clients) => builder.clients(clients),
            None => builder,
        };
        let error = builder.build().unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

/// Held by the layer and by hand, however the client is known.
#[test]
fn as_many_run_at_once_as_the_client_was_granted() {
    let rule =
        Rule::new("api").limit(requests()).concurrency(Concurrency::per_client("at once", 7).granted());
    let (limiter, _) = limiter(Policy::new().identify(id()).rule(rule), office());
    set(&limiter, "ann", ClientPatch::new().tier("free"));
    let app = ok(&limiter);
    let hold = |id: &'static str| {
        let client = limiter.client(&Identity::header("x-client-id".parse().unwrap(), id));
        sent(client.hold("api").into_future()).unwrap()
    };
    let held = hold("ann");
    assert!(held.is_allowed());
    assert_eq!(sent(app.status(by("ann"))), 429, "free has one at once");
    let by_name = limiter.client(&Identity::name("ann"));
    assert!(!sent(by_name.hold("api").into_future()).unwrap().is_allowed());
    set(&limiter, "ann", ClientPatch::new().tier("default"));
    let others = [hold("ann"), hold("ann"), hold("ann")];
    assert_eq!(others.each_ref().map(|hold| hold.is_allowed()), [true, true, false], "default has three");
    drop((held, others));
    assert_eq!(sent(app.status(by("ann"))), 200);
    let nobody: Vec<_> = (0..8)
        .map(|_| sent(limiter.client(&Identity::anonymous()).hold("api").into_future()).unwrap())
        .collect();
    assert_eq!(nobody.iter().filter(|hold| hold.is_allowed()).count(), 7, "the policy's own number");
}
