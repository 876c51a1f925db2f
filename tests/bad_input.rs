//! Bad input: every oddity has one defined answer wherever it stands, none of it is kept, and no bytes make a panic or an
//! answer that cannot be read.
#![allow(clippy::unwrap_used, clippy::panic)]

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, request::Builder};
use http_body_util::BodyExt;
use proptest::prelude::*;
use sfv::{BareItem, Item, List, ListEntry, Parser};
use std::{convert::Infallible, future};
use tidegate::*;
use tower::{Layer, ServiceExt, service_fn};

const PEER: &str = "10.0.0.1:443";

fn limiter(policy: Policy) -> Limiter {
    Limiter::builder(policy).clock(ManualClock::new()).memory_bytes(64 << 10).build().unwrap()
}

fn request() -> Builder {
    Request::builder().extension(PeerAddr(PEER.parse().unwrap()))
}

fn ask(limiter: &Limiter, request: Builder) -> Response<Bytes> {
    let inner = service_fn(|_| future::ready(Ok::<_, Infallible>(Response::new(String::new()))));
    let answer = limiter.layer().layer(inner).oneshot(request.body(()).unwrap());
    let (head, body) = answer.now_or_never().unwrap().unwrap().into_parts();
    Response::from_parts(head, body.collect().now_or_never().unwrap().unwrap().to_bytes())
}

/// The status; no answer grows with what was asked.
fn status(limiter: &Limiter, request: Builder) -> u16 {
    let answer = ask(limiter, request);
    let fields: usize = answer.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    assert!(fields + answer.body().len() < 2048);
    answer.status().as_u16()
}

fn with_lines(name: &str, lines: &[&[u8]]) -> Builder {
    lines.iter().fold(request(), |request, line| request.header(name, *line))
}

/// `before` and 64 KiB that differ from others' in the last byte alone.
fn long(before: &str, last: char) -> Vec<u8> {
    format!("{before}{}{last}", "x".repeat(64 << 10)).into_bytes()
}

/// Where a header identifies: how values begin there, and the status for one that is malformed.
fn header_sources() -> [(Source, &'static str, &'static str, u16); 4] {
    [
        (Source::bearer(), "authorization", "Bearer ", 401),
        (Source::api_key_header("x-key"), "x-key", "", 401),
        (Source::api_key_cookie("key"), "cookie", "a=b; key=", 401),
        (Source::header("x-tenant"), "x-tenant", "", 400),
    ]
}

#[test]
fn what_identifies_counts_whole_and_what_is_malformed_is_refused() {
    for (source, name, before, malformed) in header_sources() {
        let limiter = limiter(Policy::per_client(Quota::per_minute(1)).identify(source));
        let ask = |lines: &[&[u8]]| status(&limiter, with_lines(name, lines));
        let (a, b, empty) = (long(before, 'a'), long(before, 'b'), before.as_bytes());
        assert_eq!([ask(&[&a]), ask(&[&b]), ask(&[&a]), ask(&[&b])], [200, 200, 429, 429], "{name}");
        assert_eq!(ask(&[empty]), malformed, "empty {name}");
        assert_eq!(ask(&[&a, &a]), malformed, "{name} twice");
        assert_eq!(ask(&[&a, empty]), malformed, "{name} twice, once empty");
        let odd = [before.as_bytes(), b"caf\xe9\xff"].concat();
        let expected = if name == "authorization" { [401, 401] } else { [200, 429] };
        assert_eq!([ask(&[&odd]), ask(&[&odd])], expected, "{name} that is not ASCII");
        assert_eq!([ask(&[]), ask(&[])], [200, 429], "anonymous without {name}");
    }
}

#[test]
fn a_query_identifies_by_what_it_decodes_to() {
    let policy = Policy::per_client(Quota::per_minute(1)).identify(Source::api_key_query("key"));
    let limiter = limiter(policy);
    let ask = |query: &str| status(&limiter, request().uri(format!("/?{query}")));
    let long = |last| format!("key={}{last}", "x".repeat(32 << 10));
    assert_eq!([ask(&long("a")), ask(&long("b")), ask(&long("%61"))], [200, 200, 429]);
    assert_eq!([ask("key=%ff%00"), ask("%6bey=%FF%00"), ask("key=%zz")], [200, 429, 200]);
    for malformed in ["key=", "key", "key=1&key=1", "key=1&%6bey=2"] {
        assert_eq!(ask(malformed), 401, "{malformed}");
    }
}

#[test]
fn a_forwarding_header_that_says_nothing_leaves_the_proxy_as_the_client() {
    let networks = ["10.0.0.0/8"];
    for (name, trusted) in [
        ("x-forwarded-for", TrustedProxies::x_forwarded_for(networks)),
        ("forwarded", TrustedProxies::forwarded(networks)),
    ] {
        let policy = Policy::per_client(Quota::per_hour(1)).trust_proxies(trusted.clone());
        let commas = vec![b','; 64 << 10];
        let trusts = b"for=10.0.0.2, 10.0.0.2, ".repeat(3000);
        let quotes = b"\"".repeat((64 << 10) + 1);
        for lines in [
            &[&b""[..]][..],
            &[b"caf\xe9"],
            &[&long("", 'x')],
            &[&commas],
            &[&trusts],
            &[&quotes],
            &[b"", b""],
        ] {
            let limiter = limiter(policy.clone());
            let ask = |lines| status(&limiter, with_lines(name, lines));
            assert_eq!([ask(&[]), ask(lines)], [200, 429], "{name}");
            let client = &b"for=198.51.100.7"[if name == "forwarded" { 0 } else { 4 }..];
            let behind = [lines, &[client]].concat();
            assert_eq!([ask(&behind), ask(&[client])], [200, 429], "{name}");
        }
        let limiter = limiter(policy.trust_proxies(trusted.hops(2)));
        assert_eq!(status(&limiter, with_lines(name, &[b"198.51.100.7"])), 400, "{name}");
    }
}

#[test]
fn a_cost_is_one_whole_number_of_its_range() {
    let cost = Cost::header("x-cost", 1..=50).trusting(["10.0.0.0/8"]);
    let limit = Limit::per_client("units", Quota::per_hour(50)).cost(cost);
    let limiter = limiter(Policy::new().rule(Rule::new("rule").limit(limit)));
    let ask = |lines: &[&[u8]]| status(&limiter, with_lines("x-cost", lines));
    let zeros = vec![b'0'; 64 << 10];
    for lines in [
        &[&b""[..]][..],
        &[b"0"],
        &[b"51"],
        &[b"-1"],
        &[b"1.0"],
        &[b"1e1"],
        &[b"1 1"],
        &[b"\xb2"],
        &[b"4294967297"],
        &[&long("", '1')],
        &[&zeros],
        &[b"1", b"1"],
        &[b"1", b""],
    ] {
        assert_eq!(ask(lines), 400, "{:?}", lines.iter().map(|line| line.get(..9)).collect::<Vec<_>>());
    }
    assert_eq!([ask(&[]), ask(&[b"49"]), ask(&[])], [200, 200, 429], "and none of that was charged");
}

/// 2,000 values of 64 KiB would be 125 MiB.
#[cfg(target_os = "linux")]
#[test]
fn nothing_of_a_value_is_kept() {
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    for (source, name, before, _) in header_sources() {
        let limiter = limiter(Policy::per_client(Quota::per_hour(1)).identify(source));
        let (bytes, start) = (limiter.memory_bytes(), resident());
        for n in 0..500 {
            let line = [&long(before, 'x')[..], n.to_string().as_bytes()].concat();
            assert_eq!([0, 1].map(|_| status(&limiter, with_lines(name, &[&line]))), [200, 429], "{name}");
        }
        assert_eq!(limiter.memory_bytes(), bytes);
        assert!(resident().saturating_sub(start) < 16 << 20, "{name}");
    }
}

/// The members of a List field: names and their integer parameters.
fn members(headers: &HeaderMap, field: &str) -> Vec<(String, Vec<(String, i64)>)> {
    let lines: Vec<_> = headers.get_all(field).iter().map(HeaderValue::as_bytes).collect();
    let list: List = Parser::new(&lines.join(&b","[..])).parse().unwrap();
    let member = |entry| {
        let ListEntry::Item(Item { bare_item: BareItem::String(name), params }) = entry else {
            panic!("{entry:?} is no String")
        };
        let integer = |value: &BareItem| i64::from(value.as_integer().unwrap());
        (name.into(), params.iter().map(|(key, value)| (key.to_string(), integer(value))).collect())
    };
    list.into_iter().map(member).collect()
}

fn check(answer: &Response<Bytes>, method: &Method) {
    let (status, headers) = (answer.status().as_u16(), answer.headers());
    let (policies, limits) = (members(headers, "ratelimit-policy"), members(headers, "ratelimit"));
    assert_eq!(policies.len(), limits.len());
    for ((name, policy), (same, limit)) in policies.iter().zip(&limits) {
        assert_eq!(name, same);
        assert!(matches!(&policy[..], [(q, 1..), (w, 1..)] if q == "q" && w == "w"), "{policy:?}");
        assert!(
            matches!(&limit[..], [(r, 0..)] if r == "r")
                || matches!(&limit[..], [(r, 0..), (t, 1..)] if r == "r" && t == "t"),
            "{limit:?}"
        );
    }
    if let Some(code) = headers.get("grpc-status") {
        assert!(status == 200 && ["3", "8", "16"].iter().any(|known| code == known), "{code:?}");
        return;
    }
    assert!([200, 400, 401, 429].contains(&status), "{status}");
    // What is rejected may have been charged by another rule; by the one for all requests only what is not.
    let counted = limits.iter().any(|(name, _)| name == "units");
    let rejected = status == 400 || status == 401;
    assert!(!(rejected && counted) && (rejected || !limits.is_empty()), "{status}: {limits:?}");
    assert_eq!(headers.contains_key("www-authenticate"), status == 401);
    if status == 429 {
        let secs: i64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!(secs >= 1);
    }
    if status != 200 {
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["content-type"], "application/problem+json");
        if method != Method::HEAD {
            let problem: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
            assert_eq!(problem["status"], status);
        }
    }
}

/// Whatever the request holds, some part of this policy looks at it.
fn policy(source: Source, trusted: TrustedProxies) -> Policy {
    let cost = Cost::header("x-cost", 1..=5).trusting(["10.0.0.0/8", "198.51.100.0/24"]);
    Policy::new()
        .identify(source.or(Source::address()))
        .trust_proxies(trusted)
        .exempt_preflights()
        .rule(
            Rule::new("free")
                .route("/static/{*rest}")
                .only()
                .limit(Limit::shared("shared", Quota::per_hour(3))),
        )
        .rule(
            Rule::new("login")
                .route("/login")
                .limit(Limit::per_client_and_route("login", Quota::per_hour(2))),
        )
        .rule(
            Rule::new("all")
                .limit(Limit::per_client("units", Quota::per_hour(6)).cost(cost))
                .limit(Limit::per_client_and_route("routes", Quota::per_second(4))),
        )
}

/// Bytes that a header may carry, rich in what the readers look for.
fn header_bytes() -> impl Strategy<Value = Vec<u8>> {
    let words = vec![
        "Bearer ",
        "key=",
        "for=",
        "10.0.0.2",
        "\"[::1]:8\"",
        "::ffff:",
        "5",
        "application/grpc",
        ",",
        ";",
        "\\\"",
    ];
    let word = prop::sample::select(words).prop_map(|word| word.as_bytes().to_vec());
    let byte = any::<u8>().prop_filter("not in headers", |byte| HeaderValue::from_bytes(&[*byte]).is_ok());
    prop::collection::vec(prop_oneof![word, prop::collection::vec(byte, 0..5)], 0..8)
        .prop_map(|parts| parts.concat())
}

fn uri() -> impl Strategy<Value = Uri> {
    let path = prop::collection::vec(
        prop_oneof![
            prop::sample::select(vec![
                "/", "login", "static", ".", "..", ";", "%2f", "%2e", "%", "\\", "?key=", "&", "key", "*"
            ])
            .prop_map(|word| word.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..3),
        ],
        0..10,
    );
    path.prop_filter_map("no target", |parts| {
        let raw = parts.concat();
        Uri::try_from(&raw[..]).or_else(|_| Uri::try_from([b"/", &raw[..]].concat())).ok()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_bytes_make_a_panic_or_an_answer_that_cannot_be_read(
        lines in prop::collection::vec((prop::sample::select(&[
            "authorization", "cookie", "x-key", "x-tenant", "x-forwarded-for", "forwarded", "x-cost", "content-type", "origin",
            "access-control-request-method",
        ]), header_bytes()), 0..6),
        uri in uri(),
        method in prop::sample::select(vec![Method::GET, Method::HEAD, Method::POST, Method::OPTIONS, Method::CONNECT]),
        source in 0..6_usize,
        trusted in 0..3_usize,
        refuse: bool,
        version in prop::sample::select(vec![http::Version::HTTP_10, http::Version::HTTP_11, http::Version::HTTP_2]),
    ) {
        let sources = [
            Source::bearer(), Source::api_key_header("x-key"), Source::api_key_cookie("key"), Source::api_key_query("key"),
            Source::header("x-tenant"), Source::with(|head| head.path().get(1..4).map(Identity::name)),
        ];
        let proxies = [
            TrustedProxies::x_forwarded_for(["10.0.0.0/8"]), TrustedProxies::forwarded(["10.0.0.0/8"]),
            TrustedProxies::x_forwarded_for(["10.0.0.0/8"]).hops(2),
        ];
        let source = sources[source].clone();
        let limiter = limiter(policy(if refuse { source.or_refuse() } else { source }, proxies[trusted].clone()));
        for _ in 0..4 {
            let mut request = request().method(method.clone()).uri(uri.clone()).version(version);
            for (name, line) in &lines {
                request = request.header(*name, &line[..]);
            }
            check_or_free(&ask(&limiter, request), &method, &lines);
        }
    }
}

/// A preflight passes uncounted, so it is told no limits.
fn check_or_free(answer: &Response<Bytes>, method: &Method, lines: &[(&str, Vec<u8>)]) {
    let has = |name| lines.iter().any(|(other, _)| *other == name);
    if method == Method::OPTIONS && has("origin") && has("access-control-request-method") {
        assert_eq!((answer.status().as_u16(), answer.headers().len()), (200, 0));
    } else {
        check(answer, method);
    }
}
