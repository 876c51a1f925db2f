//! A file and a program that say the same make the same policy: as it is described, and in every answer.

use crate::{
    common::{App, app, from, reply, with},
    stage::{limiter, sound},
};
use http::Method;
use proptest::{option, prelude::*, sample::select};
use std::{fmt::Write as _, time::Duration};
use tidegate::{
    Ban, Bandwidth, Concurrency, Cost, HeaderStyle, Identity, Limit, Limiter, ManualClock, Policy, Quota,
    Rule, Settle, Source, StoreDown, ThrottleLayer, TrustedProxies,
};

/// What both are to say.
#[derive(Debug, Clone)]
struct Said {
    source: Option<(Vec<usize>, bool)>,
    proxies: Option<Option<u8>>,
    rules: Vec<SaidRule>,
    blocked: Vec<u8>,
    preflights: bool,
    ban: Option<(u32, bool)>,
    fields: usize,
}

#[derive(Debug, Clone)]
struct SaidRule {
    routes: Vec<&'static str>,
    methods: Vec<&'static str>,
    source: Option<usize>,
    limits: Vec<SaidLimit>,
    concurrency: Option<(usize, u32)>,
    shadow: bool,
    only: bool,
}

#[derive(Debug, Clone)]
struct SaidLimit {
    quota: Quota,
    per: usize,
    cost: usize,
    settle: usize,
    max_debt: Option<u32>,
    down: usize,
}

const SOURCES: [&str; 5] = [
    "\"address\"",
    "\"bearer\"",
    "{ api_key_header = \"x-key\" }",
    "{ api_key_query = \"key\" }",
    "{ header = \"x-tenant\" }",
];

fn source(number: usize) -> Source {
    match number {
        0 => Source::address(),
        1 => Source::bearer(),
        2 => Source::api_key_header("x-key"),
        3 => Source::api_key_query("key"),
        _ => Source::header("x-tenant"),
    }
}

const FIELDS: [(&str, HeaderStyle); 4] = [
    ("draft-10", HeaderStyle::Draft10),
    ("draft-7", HeaderStyle::Draft7),
    ("x-ratelimit", HeaderStyle::XRateLimit),
    ("off", HeaderStyle::Off),
];

fn limits() -> impl Strategy<Value = SaidLimit> {
    let quota = (1..6u64, 1..100u64, option::of(1..5u64)).prop_map(|(amount, seconds, burst)| {
        let quota = Quota::per(amount + 2, Duration::from_secs(seconds));
        burst.map_or(quota, |burst| quota.burst(burst + 2))
    });
    (quota, 0..3usize, 0..4usize, 0..5usize, option::of(0..9u32), 0..3usize).prop_map(
        |(quota, per, cost, settle, max_debt, down)| SaidLimit { quota, per, cost, settle, max_debt, down },
    )
}

fn rules() -> impl Strategy<Value = SaidRule> {
    let routes = select(vec![vec![], vec!["/a"], vec!["/a", "/b/{id}"], vec!["/{*rest}"]]);
    let methods = select(vec![vec![], vec!["GET"], vec!["POST", "PUT"]]);
    let limits = prop::collection::vec(limits(), 0..3);
    let concurrency = option::of((0..3usize, 1..4u32));
    (routes, methods, option::of(0..5usize), limits, concurrency, prop::bool::weighted(0.2)).prop_map(
        |(routes, methods, source, limits, concurrency, shadow)| SaidRule {
            routes,
            methods,
            source,
            limits,
            concurrency,
            shadow,
            only: false,
        },
    )
}

fn said() -> impl Strategy<Value = Said> {
    let source = option::of((prop::collection::vec(0..5usize, 1..3), any::<bool>()));
    let proxies = option::of(option::of(1..3u8));
    (
        source,
        proxies,
        prop::collection::vec(rules(), 0..4),
        prop::collection::vec(0..4u8, 0..2),
        any::<bool>(),
        option::of((2..5u32, any::<bool>())),
        0..4usize,
    )
        .prop_map(|(source, proxies, mut rules, blocked, preflights, ban, fields)| {
            // The last rule can end the search, because it hides none.
            if let Some(last) = rules.last_mut() {
                last.only = last.limits.len() == 1;
            }
            Said { source, proxies, rules, blocked, preflights, ban, fields }
        })
}

/// As a program says it.
fn described(said: &Said) -> Policy {
    let mut policy = Policy::new();
    if let Some((sources, refuse)) = &said.source {
        let chain = sources.iter().map(|number| source(*number)).reduce(Source::or).unwrap();
        policy = policy.identify(if *refuse { chain.or_refuse() } else { chain });
    }
    if let Some(hops) = said.proxies {
        let proxies = TrustedProxies::x_forwarded_for(["10.0.0.0/8"]);
        policy = policy.trust_proxies(hops.into_iter().fold(proxies, TrustedProxies::hops));
    }
    for (number, said) in said.rules.iter().enumerate() {
        let mut rule =
            said.routes.iter().fold(Rule::new(format!("rule {number}")), |rule, route| rule.route(*route));
        rule = said.methods.iter().map(|name| name.parse::<Method>().unwrap()).fold(rule, Rule::method);
        rule = said.source.into_iter().map(source).fold(rule, Rule::identify);
        for (place, said) in said.limits.iter().enumerate() {
            let name = format!("limit {number}.{place}");
            let limit = match said.per {
                0 => Limit::per_client(name, said.quota),
                1 => Limit::per_client_and_route(name, said.quota),
                _ => Limit::shared(name, said.quota),
            };
            let limit = match said.cost {
                0 => limit,
                1 => limit.cost(0),
                2 => limit.cost(2),
                _ => limit.cost(Cost::header("x-cost", 0..=3).trusting(["192.0.2.0/24"])),
            };
            let limit = match said.settle {
                0 => limit,
                1 => limit.settle(Settle::refund(|status| status == 404)),
                2 => limit.settle(Settle::header("x-units")),
                3 => limit.settle(Settle::body_bytes(2)),
                _ => limit.settle(Bandwidth::requests(2).pace(Duration::from_millis(5))),
            };
            let limit = said.max_debt.into_iter().fold(limit, Limit::max_debt);
            rule = rule
                .limit(limit.store_down([StoreDown::Deny, StoreDown::Allow, StoreDown::Local][said.down]));
        }
        if let Some((per, max)) = said.concurrency {
            let name = format!("permits {number}");
            let limit = match per {
                0 => Concurrency::per_client(name, max),
                1 => Concurrency::per_client_and_route(name, max),
                _ => Concurrency::shared(name, max),
            };
            let limit = limit.wait(1, Duration::from_millis(5)).store_down(StoreDown::Local);
            rule = rule.concurrency(if max == 1 { limit.per_instance() } else { limit });
        }
        rule = if said.shadow { rule.shadow() } else { rule };
        policy = policy.rule(if said.only { rule.only() } else { rule });
    }
    policy =
        said.blocked.iter().fold(policy, |policy, n| policy.block(Identity::name(format!("tenant-{n}"))));
    policy = policy.block_networks(said.blocked.iter().map(|n| format!("192.0.2.{n}")));
    if said.preflights {
        policy = policy.exempt_preflights();
    }
    policy = policy.headers(FIELDS[said.fields].1);
    match said.ban {
        Some((refusals, doubles)) => {
            let ban = Ban::after(refusals, Duration::from_secs(60)).lasting(Duration::from_secs(30));
            policy.ban(if doubles { ban.doubling_up_to(Duration::from_secs(90)) } else { ban })
        }
        None => policy,
    }
}

/// As a file says it.
fn written(said: &Said) -> String {
    let mut out = format!("[answers]\nfields = \"{}\"\n", FIELDS[said.fields].0);
    if let Some((sources, refuse)) = &said.source {
        let sources: Vec<_> = sources.iter().map(|number| SOURCES[*number]).collect();
        write!(out, "[identity]\nsources = [{}]\nrefuse = {refuse}\n", sources.join(", ")).unwrap();
    }
    if let Some(hops) = said.proxies {
        out.push_str("[trusted_proxies]\nnetworks = [\"10.0.0.0/8\"]\n");
        hops.into_iter().for_each(|hops| writeln!(out, "hops = {hops}").unwrap());
    }
    for (number, said) in said.rules.iter().enumerate() {
        let SaidRule { routes, methods, shadow, only, .. } = said;
        let flags = format!("shadow = {shadow}\nonly = {only}");
        write!(
            out,
            "[[rule]]\nname = \"rule {number}\"\nroutes = {routes:?}\nmethods = {methods:?}\n{flags}\n"
        )
        .unwrap();
        if let Some(source) = said.source {
            writeln!(out, "identity = {{ sources = [{}] }}", SOURCES[source]).unwrap();
        }
        for (place, said) in said.limits.iter().enumerate() {
            write!(out, "[[rule.limit]]\nname = \"limit {number}.{place}\"\nquota = \"{}\"\n", said.quota)
                .unwrap();
            writeln!(out, "per = \"{}\"", ["client", "client_and_route", "all"][said.per]).unwrap();
            writeln!(out, "store_down = \"{}\"", ["deny", "allow", "local"][said.down]).unwrap();
            out.push_str(match said.cost {
                0 => "",
                1 => "cost = 0\n",
                2 => "cost = 2\n",
                _ => "cost = { header = { name = \"x-cost\", least = 0, most = 3, trusting = [\"192.0.2.0/24\"] } }\n",
            });
            out.push_str(match said.settle {
                0 => "",
                1 => "settle = { refund = [\"404\"] }\n",
                2 => "settle = { header = \"x-units\" }\n",
                3 => "settle = { body_bytes = 2 }\n",
                _ => "settle = { bandwidth = { grain = 2, of = \"requests\", pace = \"5ms\" } }\n",
            });
            said.max_debt.into_iter().for_each(|units| writeln!(out, "max_debt = {units}").unwrap());
        }
        if let Some((per, max)) = said.concurrency {
            let per = ["client", "client_and_route", "all"][per];
            let more = format!("store_down = \"local\"\nper_instance = {}", max == 1);
            let wait = format!("wait = {{ queue = 1, patience = \"5ms\" }}\n{more}");
            write!(
                out,
                "[[rule.concurrency]]\nname = \"permits {number}\"\nmax = {max}\nper = \"{per}\"\n{wait}\n"
            )
            .unwrap();
        }
    }
    let names: Vec<_> = said.blocked.iter().map(|n| format!("tenant-{n}")).collect();
    let networks: Vec<_> = said.blocked.iter().map(|n| format!("192.0.2.{n}")).collect();
    write!(
        out,
        "[block]\nnames = {names:?}\nnetworks = {networks:?}\n[allow]\npreflights = {}\n",
        said.preflights
    )
    .unwrap();
    if let Some((refusals, doubles)) = said.ban {
        let doubling = if doubles { "doubling_up_to = \"90s\"" } else { "" };
        write!(out, "[ban]\nrefusals = {refusals}\nlasting = \"30s\"\n{doubling}\n").unwrap();
    }
    out
}

#[derive(Debug, Clone)]
struct Asked {
    peer: u8,
    method: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    later: u64,
}

fn asked() -> impl Strategy<Value = Asked> {
    let methods = select(vec!["GET", "GET", "POST", "PUT", "HEAD", "OPTIONS"]);
    let paths = select(vec!["/a", "/a/", "/b/7", "/b/8?key=k1", "//a", "/c", "/missing"]);
    let headers = select(vec![
        ("x-key", "k1"),
        ("x-key", "k2"),
        ("x-tenant", "tenant-1"),
        ("x-cost", "3"),
        ("x-cost", "9"),
        ("authorization", "Bearer t"),
        ("x-forwarded-for", "198.51.100.7, 10.0.0.9"),
        ("origin", "https://a.example"),
        ("access-control-request-method", "PUT"),
    ]);
    (0..5u8, methods, paths, prop::collection::vec(headers, 0..3), 0..4u64)
        .prop_map(|(peer, method, path, headers, later)| Asked { peer, method, path, headers, later })
}

async fn answer(service: &impl App, asked: &Asked) -> String {
    let peer = if asked.peer == 4 { "10.0.0.9".to_owned() } else { format!("192.0.2.{}", asked.peer) };
    let request = from(&peer, asked.method, asked.path);
    let request = asked.headers.iter().fold(request, |request, (name, value)| with(request, name, value));
    let answer = service.send(request).await;
    let (parts, body) = answer.into_parts();
    let body = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
    format!("{} {:?} {body:?}", parts.status, parts.headers)
}

fn served(layer: &ThrottleLayer) -> impl App + use<> {
    app(layer, |request| {
        let mut response = reply(if request.uri().path() == "/missing" { 404 } else { 200 });
        response.headers_mut().insert("x-units", 1.into());
        response
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn a_file_and_a_program_make_the_same_policy(said in said(), asked in prop::collection::vec(asked(), 1..40)) {
        let (config, policy) = (sound(&written(&said)), described(&said));
        prop_assert_eq!(format!("{:?}", config.policy()), format!("{policy:?}"));

        let (from_file, file_clock) = limiter(&config);
        let clock = ManualClock::new();
        let built = Limiter::builder(policy).timer(tokio::time::sleep).clock(clock.clone()).build().unwrap();
        let one = served(&from_file.layer());
        let other = served(&built.layer());
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
            for asked in &asked {
                for clock in [&file_clock, &clock] {
                    clock.advance(Duration::from_secs(asked.later));
                }
                let (one, other) = (answer(&one, asked).await, answer(&other, asked).await);
                prop_assert_eq!(one, other);
            }
            Ok(())
        })?;
    }
}
