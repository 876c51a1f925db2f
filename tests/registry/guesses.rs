//! Who guesses keys and ids pays for it by its address, and soon nobody is looked up for it any more.

use crate::{common::*, distant::*, granted::*};
use http::Request;
use std::sync::{Arc, Mutex, atomic::Ordering::Relaxed};
use tidegate::*;

fn key() -> Source {
    Source::api_key_header("x-api-key").registered()
}

fn addresses(quota: Quota) -> Rule {
    Rule::new("addresses").identify(Source::address()).limit(Limit::per_client("addresses", quota))
}

fn clients_rule() -> Rule {
    Rule::new("api").identify(key()).limit(requests())
}

/// Both orders of the two rules.
fn orders() -> [Policy; 2] {
    let addresses = addresses(Quota::per_minute(3));
    [
        Policy::new().rule(addresses.clone()).rule(clients_rule()),
        Policy::new().rule(clients_rule()).rule(addresses),
    ]
}

fn guess(number: usize) -> Request<()> {
    with(get("/"), "x-api-key", &format!("guess-{number}"))
}

async fn guesses<const N: usize>(app: &impl App) -> [u16; N] {
    let mut statuses = [0; N];
    for (number, status) in statuses.iter_mut().enumerate() {
        *status = app.status(guess(number)).await;
    }
    statuses
}

#[test]
fn guessing_keys_is_slowed_by_a_rule_by_address_before_or_after() {
    for policy in orders() {
        let (limiter, _) = limiter(policy, office());
        assert_eq!(sent(guesses(&ok(&limiter))), [401, 401, 401, 429, 429]);
    }
}

#[tokio::test]
async fn a_registry_elsewhere_is_not_asked_for_whom_the_rules_before_refuse() {
    for (policy, asked) in orders().into_iter().zip([3, 5]) {
        let distant = Distant::default();
        let (limiter, clock) = limiter(policy, Clients::new(distant.clone()));
        let app = ok(&limiter);
        assert_eq!(guesses(&app).await, [401, 401, 401, 429, 429]);
        assert_eq!(distant.asked.load(Relaxed), asked);
        let refused = app.send(guess(6)).await;
        assert_eq!(line(&refused, "ratelimit"), Some("\"addresses\";r=0;t=20"));
        assert_eq!(line(&refused, "retry-after"), Some("20"));
        clock.advance(std::time::Duration::from_secs(20));
        assert_eq!(guesses(&app).await, [401, 429], "what is refused costs nothing");
    }
}

/// They count towards a ban, and no client is made for them.
#[test]
fn refusals_without_a_look_up_are_refusals() {
    let policy = Policy::new()
        .rule(addresses(Quota::per_hour(2)))
        .rule(Rule::new("api").identify(id()).limit(requests()))
        .ban(Ban::after(2, std::time::Duration::from_secs(60)));
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = told.clone();
    let observe = move |event: &Event<'_>| {
        log.lock().unwrap().push(match event {
            Event::Allowed(_) => "allowed",
            Event::Refused(occasion) if occasion.violated().count() == 1 => "refused",
            Event::Banned { .. } => "banned",
            Event::Blocked(_) => "blocked",
            Event::ClientCreated { .. } => "created",
            _ => "else",
        });
    };
    let builder = Limiter::builder(policy).clock(ManualClock::new()).clients(office()).observe(observe);
    let limiter = builder.build().unwrap();
    let app = ok(&limiter);
    let statuses = [0, 1, 2, 3, 4].map(|i| sent(app.status(by(&format!("new-{i}")))));
    assert_eq!(statuses, [200, 200, 429, 429, 403]);
    assert_eq!(done(limiter.clients().unwrap().page(None, 9)).count, 2);
    let expected = ["created", "allowed", "created", "allowed", "refused", "refused", "banned", "blocked"];
    assert_eq!(*told.lock().unwrap(), expected);
}

/// A rule that only watches and one that is charged later do not keep anybody from being looked up.
#[tokio::test]
async fn who_is_refused_by_nobody_before_is_looked_up() {
    let watched = addresses(Quota::per_hour(1)).shadow();
    let (limiter, _) =
        limiter(Policy::new().rule(watched).rule(clients_rule()), Clients::new(Distant::default()));
    assert_eq!(guesses(&ok(&limiter)).await, [401; 5]);
}

#[test]
fn a_rejection_charges_nothing_of_the_client_s_own_limits() {
    let rule = Rule::new("api").identify(id()).resource("reports").limit(requests());
    let (limiter, clock) = limiter(Policy::new().rule(rule).rule(addresses(Quota::per_minute(4))), office());
    set(&limiter, "ann", ClientPatch::new().rate_limit(Grant::new().requests_per_min(3)));
    set(&limiter, "eve", ClientPatch::new());
    let app = ok(&limiter);
    let left = || charge_nothing(&limiter, "ann");
    for (patch, status) in [
        (ClientPatch::new().allowed_queues(["a"]), 403),
        (ClientPatch::new().all_queues().enabled(false), 401),
    ] {
        set(&limiter, "ann", patch);
        let rejected = sent(app.send(by("ann")));
        assert_eq!(rejected.status(), status);
        assert_eq!(line(&rejected, "ratelimit-policy"), Some("\"addresses\";q=4;w=60"));
        assert_eq!(line(&rejected, "ratelimit").and_then(|field| param(field, "r")), Some(3));
        assert_eq!(left(), 3);
        clock.advance(std::time::Duration::from_secs(60));
    }
    assert_eq!(sent(app.status(by("x"))), 400, "no id at all");
    assert_eq!(sent(app.admits(9, || by("eve"))), 3, "from the same address");
    set(&limiter, "ann", ClientPatch::new().enabled(true));
    clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(sent(app.admits(9, || by("ann"))), 3);
}

fn charge_nothing(limiter: &Limiter, id: &str) -> u32 {
    let client = limiter.client(&Identity::header("x-client-id".parse().unwrap(), id.to_owned()));
    now(client.peek("api")).limits().next().unwrap().remaining()
}

#[test]
fn bad_overrides_are_counted() {
    let most = Grant::new().requests_per_min(200);
    let clients = office().overrides(Overrides::up_to(most).header("x-limits").client("ann"));
    let rule = Rule::new("api").identify(id()).limit(requests());
    let (limiter, _) = limiter(Policy::new().rule(rule).rule(addresses(Quota::per_minute(3))), clients);
    let app = ok(&limiter);
    let ask = |id, limits| sent(app.status(with(by(id), "x-limits", limits)));
    let statuses = [
        ask("ann", "requests_per_min=0"),
        ask("bob", "requests_per_min=1"),
        ask("ann", "nonsense"),
        ask("ann", "nonsense"),
    ];
    assert_eq!(statuses, [400, 403, 400, 429]);
}

/// For a request that is rejected anyway nobody is created, and no registry asked.
#[tokio::test]
async fn once_a_request_is_rejected_nobody_is_looked_up_for_it() {
    let distant = Distant::default();
    let tokens = Rule::new("tokens")
        .identify(Source::bearer().or_refuse())
        .limit(Limit::per_client("tokens", Quota::per_minute(9)));
    let rule = Rule::new("api").identify(id()).limit(requests());
    let policy = Policy::new().rule(tokens).rule(rule).rule(addresses(Quota::per_minute(3)));
    let (limiter, _) = limiter(policy, Clients::new(distant.clone()));
    let app = ok(&limiter);
    for status in [401, 401, 401, 429] {
        assert_eq!(app.status(by("invented")).await, status);
    }
    assert_eq!(distant.asked.load(Relaxed), 0);
}

/// A registry that cannot be asked is not the client's doing.
#[tokio::test]
async fn a_registry_that_is_down_costs_nobody_anything() {
    let distant = Distant::default();
    let policy = Policy::new().rule(clients_rule()).rule(addresses(Quota::per_minute(3)));
    let (limiter, _) = limiter(policy, Clients::new(distant.clone()));
    let app = ok(&limiter);
    distant.down.store(true, Relaxed);
    assert_eq!(guesses(&app).await, [503; 5]);
    distant.down.store(false, Relaxed);
    assert_eq!(guesses(&app).await, [401, 401, 401, 429]);
}
