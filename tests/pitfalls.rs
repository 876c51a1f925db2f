//! Pitfalls of rate limiting seen in the field, each with a test by its name, through the layer and on a manual clock.
//! Those of identification and of single paths are tested beside the code that avoids them.
#![allow(clippy::unwrap_used, clippy::panic)]

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Method, Request, Response, request::Builder};
use std::{cell::RefCell, convert::Infallible, future, net::SocketAddr, sync::LazyLock, time::Duration};
use tidegate::*;
use tower::{Layer, Service, ServiceExt, service_fn};

const HOUR: Duration = Duration::from_secs(3600);

fn limiter(policy: Policy) -> (Limiter, ManualClock) {
    LazyLock::force(&SUBSCRIBER);
    let clock = ManualClock::new();
    (Limiter::builder(policy).clock(clock.clone()).build().unwrap(), clock)
}

fn per_client(quota: Quota) -> Limiter {
    limiter(Policy::per_client(quota)).0
}

fn from(peer: &str) -> Builder {
    Request::builder().extension(PeerAddr(peer.parse().unwrap()))
}

fn get(path: &str) -> Builder {
    from("192.0.2.7:1").uri(path)
}

fn ask(layer: &ThrottleLayer, request: Builder) -> Response<ThrottleBody<String>> {
    LazyLock::force(&SUBSCRIBER);
    let inner = service_fn(|_| future::ready(Ok::<_, Infallible>(Response::new(String::new()))));
    layer.layer(inner).oneshot(request.body(()).unwrap()).now_or_never().unwrap().unwrap()
}

fn status(limiter: &Limiter, request: Builder) -> u16 {
    ask(&limiter.layer(), request).status().as_u16()
}

#[test]
fn an_address_with_another_port_is_the_same_client() {
    let limiter = per_client(Quota::per_minute(2));
    let statuses =
        ["192.0.2.7:1", "192.0.2.7:2", "[::ffff:192.0.2.7]:3"].map(|peer| status(&limiter, from(peer)));
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(status(&limiter, from("192.0.2.8:1")), 200);
}

#[test]
fn a_method_override_header_is_ignored() {
    let rule =
        Rule::new("writes").method(Method::POST).limit(Limit::per_client("writes", Quota::per_minute(1)));
    let (limiter, _) = limiter(Policy::new().rule(rule));
    for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
        assert_eq!(status(&limiter, get("/?_method=POST").header(name, "POST")), 200, "a GET is not counted");
    }
    let post = || get("/?_method=GET").method(Method::POST).header("x-http-method-override", "GET");
    assert_eq!([status(&limiter, post()), status(&limiter, post())], [200, 429]);
}

#[test]
fn an_identity_header_chosen_freely_is_held_by_a_limit_per_address() {
    let policy = Policy::new()
        .identify(Source::header("x-tenant"))
        .rule(Rule::new("tenant").limit(Limit::per_client("tenant", Quota::per_minute(2))))
        .rule(
            Rule::new("address")
                .identify(Source::address())
                .limit(Limit::per_client("address", Quota::per_minute(5))),
        );
    let (limiter, _) = limiter(policy);
    let passed = (0..50).filter(|n| status(&limiter, get("/").header("x-tenant", *n)) == 200).count();
    assert_eq!(passed, 5);
}

/// 20,000 keys of 4 KiB would be 80 MiB.
#[test]
fn keys_are_bounded_in_number_and_size() {
    let policy = Policy::per_client(Quota::per_hour(2)).identify(Source::header("x-tenant"));
    let limiter = Limiter::builder(policy).clock(ManualClock::new()).memory_bytes(64 << 10).build().unwrap();
    let (bytes, capacity) = (limiter.memory_bytes(), limiter.capacity());
    assert!(bytes <= 64 << 10 && capacity < 20_000, "{bytes} bytes for {capacity}");
    let long = "x".repeat(4096);
    for n in 0..20_000 {
        assert_eq!(
            status(&limiter, get("/").header("x-tenant", format!("{long}{n}"))),
            200,
            "newcomers are stored"
        );
    }
    assert_eq!((limiter.memory_bytes(), limiter.capacity()), (bytes, capacity));
    assert!(limiter.evicted() > 0, "and who had to go is counted");
}

#[test]
fn rotating_identities_does_not_make_the_limiter_forget_an_attacker() {
    let policy = Policy::per_client(Quota::per_hour(10)).identify(Source::header("x-tenant"));
    let limiter = Limiter::builder(policy).clock(ManualClock::new()).memory_bytes(16 << 10).build().unwrap();
    let tenant = |name: &str| status(&limiter, get("/").header("x-tenant", name));
    while tenant("attacker") == 200 {}
    for n in 0..10 * limiter.capacity() {
        tenant(&n.to_string());
    }
    assert!(limiter.evicted() > 0);
    assert_eq!(tenant("attacker"), 429);
}

#[test]
fn a_limit_that_refuses_burns_none_of_the_others() {
    let rule = Rule::new("api")
        .limit(Limit::per_client("day", Quota::per_day(3)))
        .limit(Limit::per_client("hour", Quota::per_hour(2)))
        .limit(Limit::shared("all", Quota::per(100, 2400 * HOUR)));
    let (limiter, clock) = limiter(Policy::new().rule(rule));
    let statuses: Vec<_> = (0..20).map(|_| status(&limiter, get("/"))).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2);
    clock.advance(HOUR);
    let answer = ask(&limiter.layer(), get("/"));
    assert_eq!(answer.status(), 200, "eighteen refusals took nothing from the day");
    let told = answer.headers()["ratelimit"].to_str().unwrap();
    assert!(told.contains("\"all\";r=97;"), "{told}");
}

#[test]
fn no_refusal_is_stored_by_a_cache() {
    let blocked = Policy::new().block_networks(["192.0.2.7"]).identify(Source::bearer().or_refuse()).rule(
        Rule::new("cost").limit(
            Limit::per_client("cost", Quota::per_minute(1).burst(9))
                .cost(Cost::header("x-cost", 1..=9).trusting(["192.0.2.0/24"])),
        ),
    );
    let (strict, _) = limiter(blocked);
    let used = per_client(Quota::per_minute(1));
    status(&used, get("/"));
    let own = used.layer().refusal(|_, _| Response::builder().status(420).body(Bytes::new()).unwrap());
    let grpc = get("/").method("POST").header("content-type", "application/grpc");
    for (layer, request, status) in [
        (&used.layer(), get("/"), 429),
        (&used.layer(), grpc, 200),
        (&own, get("/"), 420),
        (&strict.layer(), get("/"), 403),
        (&strict.layer(), from("192.0.2.8:1"), 401),
        (&strict.layer(), from("192.0.2.8:1").header("authorization", "Bearer k").header("x-cost", "0"), 400),
    ] {
        let answer = ask(layer, request);
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["cache-control"], "no-store", "{status}");
    }
}

#[test]
fn sixty_thousand_a_minute_is_not_zero_milliseconds() {
    let (limiter, clock) = limiter(Policy::per_client(Quota::per_minute(60_000).burst(1)));
    assert_eq!([status(&limiter, get("/")), status(&limiter, get("/"))], [200, 429]);
    clock.advance(Duration::from_nanos(999_999));
    assert_eq!(status(&limiter, get("/")), 429);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(status(&limiter, get("/")), 200);
}

#[test]
fn a_clock_set_back_neither_credits_nor_locks_out() {
    let (limiter, clock) = limiter(Policy::per_client(Quota::per_minute(6)));
    let asked = |n| (0..n).filter(|_| status(&limiter, get("/")) == 200).count();
    assert_eq!(asked(9), 6);
    clock.set_back(HOUR);
    assert_eq!(asked(9), 0, "nothing is credited for the jump");
    clock.advance(Duration::from_secs(20));
    assert_eq!(asked(9), 2, "and nobody waits for the hour to come again");
}

thread_local! {
    static LOG: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// What this thread logs while `act` runs.
fn log(act: impl FnOnce()) -> String {
    LOG.set(Some(Vec::new()));
    act();
    String::from_utf8(LOG.take().unwrap()).unwrap()
}

/// One subscriber for all threads: tracing asks only the first thread that comes by whether an event is wanted.
static SUBSCRIBER: LazyLock<()> = LazyLock::new(|| {
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    subscriber.with_writer(|| Writer).init();
});

struct Writer;

impl std::io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.with_borrow_mut(|log| log.as_mut().map(|log| log.extend_from_slice(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn logs_name_templates_and_fingerprints_never_paths_or_keys() {
    let policy = Policy::new().identify(Source::bearer().or(Source::address())).rule(
        Rule::new("users").route("/users/{id}").limit(Limit::per_client("users", Quota::per_minute(1))),
    );
    let (limiter, _) = limiter(policy);
    let text = log(|| {
        for _ in 0..2 {
            status(&limiter, get("/users/s3cret-path?key=s3cret").header("authorization", "Bearer s3cret"));
            status(&limiter, get("/users/s3cret-path"));
        }
        status(&limiter, get("/users/1").header("authorization", "Bearer s3cret s3cret"));
    });
    for part in ["refused", "rejected", "allowed", "/users/{id}", "api_key#", "address#"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    for part in ["s3cret", "192.0.2.7"] {
        assert!(!text.contains(part), "{part} in {text}");
    }
}

#[test]
fn no_hash_of_a_client_is_sent() {
    let told = |secret| {
        let builder = Limiter::builder(Policy::per_client(Quota::per_minute(1))).clock(ManualClock::new());
        let layer = builder.secret(secret).build().unwrap().layer();
        let answers = [ask(&layer, get("/")), ask(&layer, get("/"))];
        let text = format!("{:?}{:?}", answers[0].headers(), answers[1].headers());
        (text, log(|| drop(ask(&layer, get("/")))).split_once("address#").unwrap().1.to_owned())
    };
    let ((told_1, logged_1), (told_2, logged_2)) = (told([1; 16]), told([2; 16]));
    assert_eq!(told_1, told_2, "what is sent does not depend on the hash");
    assert!(!told_1.contains("pk=") && !told_1.contains("192.0.2.7"), "{told_1}");
    assert_ne!(logged_1[..8], logged_2[..8], "and what is logged depends on the secret");
}

#[test]
fn two_rules_or_limits_of_one_name_are_an_error() {
    let rule = |rule, limit| Rule::new(rule).limit(Limit::per_client(limit, Quota::per_minute(1)));
    for (second, mistake) in [
        (rule("a", "b"), Mistake::DuplicateRule { rule: "a".into() }),
        (rule("b", "a"), Mistake::DuplicateLimit { rule: "b".into(), limit: "a".into() }),
    ] {
        let error = Limiter::new(Policy::new().rule(rule("a", "a")).rule(second)).unwrap_err();
        assert_eq!(error.mistakes(), [mistake]);
    }
}

/// One upgrade, one POST: what comes inside is charged by whoever reads it, from the same quota.
#[test]
fn websocket_messages_and_graphql_batches_are_charged_by_a_handle() {
    let limiter = per_client(Quota::per_minute(10));
    let peer: SocketAddr = "192.0.2.7:1".parse().unwrap();
    let client = limiter.client(&Identity::address(peer.ip()));
    let message = |cost| client.charge("client").cost(cost).into_future().now_or_never().unwrap().unwrap();
    assert_eq!(status(&limiter, get("/chat")), 200);
    assert!(message(8).is_allowed());
    assert!(!message(2).is_allowed());
    assert!(message(1).is_allowed());
    assert_eq!(status(&limiter, get("/chat")), 429);
}

/// HTTP/2 rapid reset: opening a stream and dropping it at once is not free.
#[test]
fn a_request_dropped_before_its_response_stays_charged() {
    let failures =
        Limit::per_client("failures", Quota::per_minute(2)).settle(Settle::count(|status| status == 401));
    let (limiter, _) = limiter(Policy::new().rule(Rule::new("login").limit(failures)));
    let inner = service_fn(|_: Request<()>| future::pending::<Result<Response<String>, Infallible>>());
    let mut service = limiter.layer().layer(inner);
    drop(service.call(get("/").body(()).unwrap()));
    let mut polled = service.call(get("/").body(()).unwrap());
    assert!((&mut polled).now_or_never().is_none());
    drop(polled);
    assert_eq!(status(&limiter, get("/")), 429);
}

/// tower #764, axum #2634: a clone of the state per connection or request, and nothing is limited.
#[test]
fn clones_share_one_state() {
    let limiter = per_client(Quota::per_minute(6));
    let inner = || service_fn(|_| future::ready(Ok::<_, Infallible>(Response::new(String::new()))));
    let layer = limiter.layer();
    let service = layer.layer(inner());
    let services = [
        service.clone(),
        service.clone().clone(),
        layer.clone().layer(inner()),
        limiter.clone().layer().layer(inner()),
    ];
    let mut statuses = Vec::new();
    for service in
        services.into_iter().chain([service.clone(), layer.headers(HeaderStyle::Off).layer(inner()), service])
    {
        let answer = service.oneshot(get("/").body(()).unwrap()).now_or_never().unwrap().unwrap();
        statuses.push(answer.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 429]);
}
