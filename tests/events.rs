//! What is told of what happened: to observers, and to logs, which never learn secrets, addresses or paths.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use http::Request;
use std::{
    io,
    sync::{Arc, Mutex},
};
use tidegate::{
    Charge, Cost, Event, Identity, Limit, Limiter, LimiterBuilder, Occasion, Policy, Quota, Rule, Source,
    Store, StoreError, StoreFuture, TrustedProxies,
};
use tracing::{Level, subscriber::DefaultGuard};

fn rule(name: &str, amount: u64) -> Rule {
    Rule::new(name).limit(Limit::per_client(name, Quota::per_minute(amount)))
}

/// A limiter and what it told its observer, a line for each event.
fn observed(builder: LimiterBuilder) -> (Limiter, Arc<Mutex<Vec<String>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = told.clone();
    let limiter = builder.observe(move |event: &Event<'_>| log.lock().unwrap().push(described(event)));
    (limiter.build().unwrap(), told)
}

fn described(event: &Event<'_>) -> String {
    let at = |occasion: &Occasion<'_>| {
        let limits: Vec<_> = occasion.limits().iter().map(|limit| limit.limit()).collect();
        let violated: Vec<_> = occasion.violated().map(|limit| limit.limit()).collect();
        let (method, route) = (occasion.method().map(ToString::to_string), occasion.route());
        format!("{method:?} {route:?} of {limits:?} violated {violated:?}").replace('"', "")
    };
    match event {
        Event::Allowed(occasion) => format!("allowed {}", at(occasion)),
        Event::Refused(occasion) => format!("refused {}", at(occasion)),
        Event::ShadowRefused(occasion) => format!("shadow refused {}", at(occasion)),
        Event::Blocked(occasion) => format!("blocked {}", at(occasion)),
        Event::Rejected { occasion, reason } => format!("rejected {}: {reason}", at(occasion)),
        Event::ShadowRejected { occasion, reason } => format!("shadow rejected {}: {reason}", at(occasion)),
        Event::StoreFailed { occasion, error, .. } => format!("store failed {}: {error}", at(occasion)),
        Event::Anonymous { cause } => format!("anonymous: {cause}"),
        Event::UntrustedProxy { advice } => format!("untrusted proxy: {advice}"),
        Event::QuotaChanged { limit, old, new } => format!("{limit} changed from {old} to {new}"),
        other => panic!("{other:?}"),
    }
}

fn taken(told: &Mutex<Vec<String>>) -> Vec<String> {
    std::mem::take(&mut *told.lock().unwrap())
}

#[tokio::test]
async fn an_observer_is_told_what_became_of_each_request() {
    let policy = Policy::new()
        .rule(rule("all", 3))
        .rule(rule("watched", 1).route("/items/{id}").shadow())
        .block_networks(["203.0.113.0/24"])
        .allow_networks(["10.0.0.0/8"]);
    let (limiter, told) = observed(Limiter::builder(policy));
    let app = ok(&limiter);

    app.send(get("/items/7")).await;
    app.send(from("192.0.2.1", "HEAD", "/items/8")).await;
    app.send(get("/nowhere")).await;
    app.send(get("/items/9")).await;
    app.send(get("/nowhere")).await;
    app.send(from("203.0.113.9", "PUT", "/items/7")).await;
    app.send(from("10.0.0.1", "GET", "/items/7")).await;
    let expected = [
        "allowed Some(GET) Some(/items/{id}) of [all, watched] violated []",
        "shadow refused Some(HEAD) Some(/items/{id}) of [all, watched] violated [watched]",
        "allowed Some(GET) None of [all] violated []",
        "refused Some(GET) Some(/items/{id}) of [all, watched] violated [all, watched]",
        "refused Some(GET) None of [all] violated [all]",
        "blocked Some(PUT) Some(/items/{id}) of [] violated []",
    ];
    assert_eq!(taken(&told), expected, "a client that no limit applies to is no event");

    let ann = limiter.client(&Identity::name("ann"));
    ann.charge("all").cost(3).await.unwrap();
    ann.charge("all").route("/items/{id}").await.unwrap();
    ann.peek("all").await.unwrap();
    ann.reset("all").await.unwrap();
    let expected =
        ["allowed None None of [all] violated []", "refused None Some(/items/{id}) of [all] violated [all]"];
    assert_eq!(taken(&told), expected, "peeks and resets are no events");

    limiter.set_quota("all", Quota::per_second(2)).unwrap();
    limiter.set_quota("all", Quota::per_second(0)).unwrap_err();
    assert_eq!(taken(&told), ["all changed from 3/minute to 2/second"]);
}

#[tokio::test]
async fn an_observer_is_told_why_a_request_is_rejected() {
    let cost = Cost::header("x-cost", 1..=5).trusting(["192.0.2.0/24"]);
    let priced = Rule::new("priced")
        .route("/priced")
        .identify(Source::address())
        .limit(Limit::per_client("priced", Quota::per_minute(5)).cost(cost));
    let watched =
        rule("watched", 5).route("/watched").identify(Source::header("x-tenant").or_refuse()).shadow();
    let keyed = rule("keyed", 5).route("/keyed");
    let policy = Policy::new()
        .identify(Source::api_key_header("x-api-key").or_refuse())
        .rule(priced)
        .rule(watched)
        .rule(keyed);
    let (limiter, told) = observed(Limiter::builder(policy));
    let app = ok(&limiter);
    assert_eq!(app.status(get("/keyed")).await, 401);
    assert_eq!(app.status(with(get("/priced"), "x-cost", "many")).await, 400);
    assert_eq!(app.status(get("/watched")).await, 200);
    let expected = [
        "rejected Some(GET) Some(/keyed) of [] violated []: an API key is required; send it with the request",
        "rejected Some(GET) Some(/priced) of [] violated []: header \"x-cost\" must be one whole number from 1 to 5",
        "shadow rejected Some(GET) Some(/watched) of [] violated []: the header that names the client is missing; send it with the request",
    ];
    assert_eq!(taken(&told), expected);
}

struct Gone;

impl Store for Gone {
    fn charge(&self, _: Vec<Charge>) -> StoreFuture {
        Box::pin(async { Err(StoreError::new("it is gone")) })
    }

    fn settle(&self, _: Vec<Charge>) {}
}

#[tokio::test]
async fn an_observer_is_told_that_the_store_failed() {
    let policy = Policy::new().rule(rule("all", 3).route("/items/{id}"));
    let (limiter, told) = observed(Limiter::builder(policy).store(Gone));
    assert_eq!(ok(&limiter).status(get("/items/1")).await, 503);
    limiter.client(&Identity::name("ann")).charge("all").await.unwrap_err();
    let expected = [
        "store failed Some(GET) Some(/items/{id}) of [] violated []: the store could not decide: it is gone",
        "store failed None None of [] violated []: the store could not decide: it is gone",
    ];
    assert_eq!(taken(&told), expected);
}

#[tokio::test]
async fn a_warning_names_its_cause_and_comes_once() {
    let warnings = |told: &Mutex<Vec<String>>| {
        taken(told)
            .into_iter()
            .filter(|line| !line.starts_with("allowed") && !line.starts_with("refused"))
            .collect()
    };
    let (limiter, told) = observed(Limiter::builder(Policy::new().rule(rule("all", 3))));
    ok(&limiter).admits(9, || Request::new(())).await;
    let warned: Vec<_> = warnings(&told);
    let [warning] = &*warned else { panic!("{warned:?}") };
    assert!(warning.starts_with("anonymous: a request without a peer address"), "{warning}");
    let mend = if cfg!(feature = "axum") {
        "into_make_service_with_connect_info"
    } else {
        "tidegate's feature `axum`"
    };
    assert!(warning.contains(mend) && warning.contains("PeerAddr"), "{warning}");

    let keys = Policy::new().identify(Source::bearer()).rule(rule("all", 3));
    let (limiter, told) = observed(Limiter::builder(keys));
    ok(&limiter).admits(9, || get("/")).await;
    let warned: Vec<_> = warnings(&told);
    let [warning] = &*warned else { panic!("{warned:?}") };
    assert!(
        warning.contains("without the credential") && warning.contains(".or(Source::address())"),
        "{warning}"
    );

    let proxied =
        |header, peer: &'static str| move || with(from(peer, "GET", "/"), header, "for=198.51.100.1");
    let trusting = |network: &str| {
        let proxies = TrustedProxies::forwarded([network]);
        observed(Limiter::builder(Policy::new().trust_proxies(proxies).rule(rule("all", 3))))
    };
    for header in ["x-forwarded-for", "forwarded"] {
        let (limiter, told) = trusting("10.0.0.0/8");
        let app = ok(&limiter);
        app.admits(3, proxied(header, "192.0.2.1")).await;
        assert_eq!(warnings(&told), [""; 0], "nothing was refused yet");
        app.admits(9, proxied(header, "192.0.2.1")).await;
        app.admits(9, proxied(header, "192.0.2.2")).await;
        let warned: Vec<_> = warnings(&told);
        let [warning] = &*warned else { panic!("{warned:?}") };
        assert!(warning.starts_with("untrusted proxy: ") && warning.contains("`Policy::trust_proxies`"));
    }
    let (limiter, told) = trusting("192.0.2.0/24");
    ok(&limiter).admits(9, proxied("forwarded", "192.0.2.1")).await;
    assert_eq!(warnings(&told), [""; 0], "the proxy is trusted");
}

/// What is written to logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Takes what this thread logs from now on.
    fn capture(level: Level) -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_max_level(level)
            .with_ansi(false)
            .without_time()
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        text.lines().map(|line| line.trim_start().to_owned()).collect()
    }
}

fn contains_all(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part:?} is missing in {line:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_logged_with_all_that_an_operator_asks() {
    let (log, _guard) = Log::capture(Level::TRACE);
    let policy =
        Policy::new().rule(rule("login", 5).route("/login/{user}")).rule(rule("watched", 1).shadow());
    let (limiter, _) = build(policy);
    let app = ok(&limiter);
    for _ in 0..5 {
        app.send(from("192.0.2.1", "POST", "/login/ann")).await;
    }
    let lines = log.lines();
    assert_eq!(lines.len(), 5);
    contains_all(&lines[0], &["TRACE tidegate", "allowed", "route=\"/login/{user}\"", "client=address#"]);
    let shared = ["method=\"POST\"", "route=\"/login/{user}\"", "client=address#"];
    let watched =
        ["rule=\"watched\"", "limit=\"watched\"", "quota=1/minute", "retry_after=60", "would be refused"];
    contains_all(&lines[1], &["INFO tidegate"]);
    contains_all(&lines[1], &shared);
    contains_all(&lines[1], &watched);

    app.send(from("192.0.2.1", "POST", "/login/bob")).await;
    let [refused, shadow] = &*log.lines() else { panic!("a line for each violated limit") };
    contains_all(
        refused,
        &["INFO tidegate", "rule=\"login\"", "limit=\"login\"", "quota=5/minute", "retry_after=12"],
    );
    contains_all(refused, &shared);
    assert!(refused.contains(" refused") && !refused.contains("would be"), "{refused}");
    contains_all(shadow, &watched);
}

#[tokio::test]
async fn a_client_is_known_by_a_fingerprint() {
    let (log, _guard) = Log::capture(Level::INFO);
    let builder = || {
        let source = Source::api_key_header("x-key").or(Source::address());
        let policy = Policy::new().identify(source).rule(rule("all", 1)).block_networks(["203.0.113.9"]);
        Limiter::builder(policy.block(Identity::api_key("stolen")))
    };
    let refused = |limiter: Limiter| {
        let log = log.clone();
        async move {
            let app = ok(&limiter);
            let mut clients = Vec::new();
            for peer in ["192.0.2.1", "192.0.2.2", "2001:db8::1", "203.0.113.9"] {
                app.admits(3, || from(peer, "GET", "/")).await;
                clients.push(log.lines());
            }
            for key in ["abc", "stolen"] {
                app.admits(3, || with(get("/"), "x-key", key)).await;
                clients.push(log.lines());
            }
            clients
                .into_iter()
                .map(|lines| {
                    let names: Vec<_> =
                        lines.iter().map(|line| line.split("client=").nth(1).unwrap().to_owned()).collect();
                    assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
                    names[0].clone()
                })
                .collect::<Vec<_>>()
        }
    };
    let redacted = refused(builder().build().unwrap()).await;
    for (i, name) in redacted.iter().enumerate() {
        let (kind, fingerprint) = name.split_once('#').unwrap();
        assert_eq!(kind, if i < 4 { "address" } else { "api_key" });
        assert!(fingerprint.len() == 8 && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(!redacted[..i].contains(name));
    }
    let plain = refused(builder().plain_addresses().build().unwrap()).await;
    assert_eq!(plain[..4], ["192.0.2.1", "192.0.2.2", "2001:db8::/64", "203.0.113.9"]);
    assert!(plain[4..].iter().all(|name| name.starts_with("api_key#")), "secrets are never plain");
    assert_ne!(plain[4], redacted[4], "each limiter has its own secret");
}

#[tokio::test]
async fn no_log_ever_holds_a_secret_an_address_or_a_path() {
    let (log, _guard) = Log::capture(Level::TRACE);
    let sources = [
        Source::bearer(),
        Source::api_key_header("x-key"),
        Source::api_key_query("key"),
        Source::api_key_cookie("key"),
        Source::header("x-tenant"),
        Source::address(),
        Source::with(|_| Some(Identity::name("s3cret"))),
    ];
    let mut debugged = String::new();
    for source in sources {
        for or_refuse in [false, true] {
            let source = if or_refuse { source.clone().or_refuse() } else { source.clone() };
            let cost = Cost::header("x-cost", 1..=1).trusting(["0.0.0.0/0"]);
            let watched =
                Rule::new("w").limit(Limit::per_client("w", Quota::per_minute(1)).cost(cost)).shadow();
            let policy = Policy::new()
                .identify(source)
                .block(Identity::api_key("s3cret-blocked"))
                .allow_networks(["198.51.100.77"])
                .rule(rule("r", 1).route("/{user}"))
                .rule(watched);
            debugged += &format!("{policy:?}");
            let (limiter, _) = build(policy);
            let app = ok(&limiter);
            for headers in [
                &[("authorization", "Bearer s3cret")][..],
                &[("authorization", "Bearer s3cret s3cret")],
                &[("authorization", "Bearer s3cret-blocked")],
                &[("x-key", "s3cret"), ("x-cost", "s3cret")],
                &[("x-key", "s3cret"), ("x-key", "s3cret")],
                &[("cookie", "key=s3cret; key=s3cret")],
                &[("x-tenant", "s3cret"), ("x-forwarded-for", "198.51.100.66")],
                &[],
            ] {
                for path in ["/s3cret?key=s3cret", "/s3cret/s3cret?key=s3cret&key=s3cret", "/x/..%2fs3cret"] {
                    for _ in 0..3 {
                        let request = from("198.51.100.55", "GET", path);
                        app.send(
                            headers.iter().fold(request, |request, (name, value)| with(request, name, value)),
                        )
                        .await;
                    }
                }
            }
            let client = limiter.client(&Identity::api_key("s3cret"));
            let charging = client.charge("r").cost(9);
            debugged += &format!("{limiter:?} {client:?} {charging:?} {:?}", charging.clone().await.unwrap());
        }
    }
    let lines = log.lines();
    for what in ["refused", "would be refused", "rejected", "would be rejected", "blocked", "allowed"] {
        assert!(lines.iter().any(|line| line.contains(what)), "{what} is not among them");
    }
    for line in lines.iter().chain([&debugged]) {
        assert!(!line.contains("s3cret") && !line.contains("%2f"), "{line}");
    }
    for line in &lines {
        assert!(!line.contains("198.51.100."), "{line}");
    }
}

#[tokio::test]
async fn nothing_of_an_allowed_request_is_above_trace() {
    let (log, _guard) = Log::capture(Level::DEBUG);
    let (limiter, _) = build(Policy::new().rule(rule("all", 10)).rule(rule("watched", 10).shadow()));
    let app = ok(&limiter);
    assert_eq!(app.admits(10, || with(get("/"), "x-forwarded-for", "10.0.0.1")).await, 10);
    limiter.client(&Identity::name("ann")).charge("all").await.unwrap();
    assert_eq!(log.lines(), [""; 0]);
    app.send(get("/")).await;
    assert_eq!(log.lines().len(), 2);
}

/// Addresses are fingerprints unless `plain_addresses` is set.
#[tokio::test]
async fn debug_shows_no_address() {
    let seen = Arc::new(Mutex::new(String::new()));
    let out = seen.clone();
    let limiter = Limiter::builder(Policy::per_client(Quota::per_minute(1)))
        .observe(move |event: &Event<'_>| out.lock().unwrap().push_str(&format!("{event:?}")))
        .build()
        .unwrap();
    ok(&limiter).send(get("/")).await;
    seen.lock()
        .unwrap()
        .push_str(&format!("{:?}", limiter.client(&tidegate::Identity::address([192, 0, 2, 1].into()))));
    let seen = seen.lock().unwrap();
    assert!(!seen.contains("192.0.2.1"), "{seen}");
}
