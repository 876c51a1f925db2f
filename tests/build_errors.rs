//! Every mistake in a policy is found when the limiter is built, with where it stands and how to mend it.
#![allow(clippy::unwrap_used, clippy::panic)]

use http::Method;
use std::time::Duration;
use tidegate::{
    BuildError, Cost, Limit, Limiter, Mistake, Policy, Quota, Rule, Settle, Source, TrustedProxies,
};

fn limit(name: &str) -> Limit {
    Limit::per_client(name, Quota::per_minute(10))
}

fn rule(name: &str) -> Rule {
    Rule::new(name).limit(limit(name))
}

fn error(policy: Policy) -> BuildError {
    Limiter::new(policy).unwrap_err()
}

/// The one mistake in a policy, and that its message has all of `parts`.
#[track_caller]
fn one(policy: Policy, parts: &[&str]) -> Mistake {
    let error = error(policy);
    let [mistake] = error.mistakes() else { panic!("not one mistake:\n{error}") };
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing in {message:?}");
    }
    mistake.clone()
}

#[test]
fn names_are_unique_and_can_stand_in_headers() {
    let two_rules = Policy::new().rule(rule("api")).rule(Rule::new("api"));
    let mistake = one(two_rules, &["two rules are named \"api\"", "give each rule a name of its own"]);
    assert!(matches!(mistake, Mistake::DuplicateRule { .. }));

    let in_one = Policy::new().rule(rule("api").limit(limit("api")));
    let in_two = Policy::new().rule(rule("first")).rule(Rule::new("api").limit(limit("first")));
    for (policy, name) in [(in_one, "\"api\""), (in_two, "\"first\"")] {
        let mistake = one(policy, &["rule \"api\"", name, "give each one its own"]);
        assert!(matches!(mistake, Mistake::DuplicateLimit { .. }));
    }

    for name in ["", "grün", "a\nb", &"x".repeat(65)] {
        for policy in
            [Policy::new().rule(Rule::new(name)), Policy::new().rule(Rule::new("r").limit(limit(name)))]
        {
            let mistake = one(policy, &[&format!("{name:?}"), "1 to 64 printable ASCII characters"]);
            assert!(matches!(mistake, Mistake::Name { .. }));
        }
    }
    Limiter::new(Policy::new().rule(rule(&"x".repeat(64))).rule(rule("a \"quoted\" name"))).unwrap();
}

#[test]
fn a_quota_must_be_countable() {
    for (quota, text, mend) in [
        (Quota::per_minute(0), "\"0/minute\"", "1/365d to 10_000_000/second is accepted"),
        (Quota::per(1, Duration::ZERO), "quota", "is accepted"),
        (Quota::per_second(10_000_001), "10000001/second", "10_000_000/second is accepted"),
        (Quota::per_second(9_950_000), "9950000/second", "the nearest rates are"),
        (Quota::per_minute(5).burst(0), "5/minute burst 0", "1 to 4294967295 is accepted"),
        (Quota::per_minute(5).burst(6).strict(), "5/minute burst 6 strict", "1 to 5 is accepted"),
    ] {
        let policy = Policy::new().rule(Rule::new("api").limit(Limit::shared("all", quota)));
        let mistake = one(policy, &["rule \"api\", limit \"all\"", text, mend]);
        assert!(matches!(mistake, Mistake::Quota { .. }));
    }
}

#[test]
fn a_cost_must_be_one_that_the_limit_can_admit() {
    let header = |range| Cost::header("x-cost", range).trusting(["10.0.0.0/8"]);
    #[allow(clippy::reversed_empty_ranges)]
    let empty = 5..=4;
    for (limit, wrong, mend) in [
        (limit("l").cost(11), "costs 11", "raise its burst to 11"),
        (limit("l").cost(header(1..=11)), "costs 11", "raise its burst to 11"),
        (limit("l").cost(header(empty)), "5..=4", "no cost is in the range"),
        (limit("l").cost(Cost::header("x-cost", 1..=5)), "nobody may set", "`trusting`"),
        (
            limit("l").cost(Cost::header("x cost", 1..=5).trusting(["::1"])),
            "\"x cost\" is no header name",
            "digits",
        ),
        (limit("l").cost(Cost::header("x-cost", 1..=5).trusting(["10/8"])), "\"10/8\" is no", "192.0.2.0/24"),
        (limit("l").settle(Settle::header("x cost")), "\"x cost\" is no header name", "letters, digits"),
        (limit("l").settle(Settle::body_bytes(0)), "0 bytes", "at least 1"),
    ] {
        let mistake =
            one(Policy::new().rule(Rule::new("r").limit(limit)), &["rule \"r\", limit \"l\"", wrong, mend]);
        assert!(matches!(mistake, Mistake::Cost { .. }));
    }
    let fits = [limit("a").cost(10), limit("b").cost(header(0..=10)), limit("c").cost(Cost::by(|_| 99))];
    Limiter::new(Policy::new().rule(fits.into_iter().fold(Rule::new("r"), Rule::limit))).unwrap();
}

#[test]
fn a_pattern_must_parse_and_stand_once() {
    for (patterns, wrong, mend) in [
        (&["login"][..], "\"login\"", "write \"/login\""),
        (&["/users/:id"], "\"/users/:id\"", "\"{id}\""),
        (&["/a", "/a/"], "\"/a/\"", "leave one out"),
        (&["/u/{a}", "/u/{b}"], "\"/u/{b}\"", "\"/u/{a}\""),
    ] {
        let rule = patterns.iter().fold(Rule::new("login"), |rule, pattern| rule.route(*pattern));
        let mistake = one(Policy::new().rule(rule), &["rule \"login\"", wrong, mend]);
        assert!(matches!(mistake, Mistake::Pattern { .. }));
    }
}

#[test]
fn a_rule_that_nothing_reaches_is_a_mistake() {
    let all = Rule::new("all").only();
    let files = Rule::new("files").route("/files/{*path}").only();
    let narrow = || rule("narrow").route("/files/{id}").method(Method::GET);
    for (wide, name) in [(all, "all"), (files.clone(), "files"), (files.clone().method(Method::GET), "files")]
    {
        let parts = [&format!("{name:?} takes all that it matches"), "move \"narrow\" before"];
        let mistake = one(Policy::new().rule(wide.clone()).rule(narrow()), &parts);
        assert_eq!(mistake, Mistake::Hidden { rule: "narrow".into(), by: name.into() });
        Limiter::new(Policy::new().rule(narrow()).rule(wide)).unwrap();
    }
    let others =
        [files.clone().when(|_| true), files.method(Method::POST), Rule::new("open").route("/{*all}")];
    for reaching in others {
        Limiter::new(Policy::new().rule(reaching).rule(narrow())).unwrap();
    }
}

#[test]
fn networks_and_sources_must_parse() {
    let network = |text: &str, place: &str, policy: Policy| {
        let mistake = one(policy, &[place, &format!("{text:?}"), "write 192.0.2.7, 192.0.2.0/24"]);
        assert!(matches!(mistake, Mistake::Network { .. }));
    };
    network("10.0.0.0/33", "allow list", Policy::new().allow_networks(["10.0.0.0/33", "::/0"]));
    network("localhost", "block list", Policy::new().block_networks(["localhost"]));
    let proxies = TrustedProxies::forwarded(["10.0.0.1:80"]);
    network("10.0.0.1:80", "trusted proxies", Policy::new().trust_proxies(proxies));

    for (source, name, mend) in [
        (Source::api_key_header("x key"), "\"x key\"", "letters, digits"),
        (Source::api_key_cookie("a=b"), "\"a=b\"", "letters, digits"),
        (Source::api_key_query(""), "\"\"", "not empty"),
        (
            Source::header("X-Forwarded-For"),
            "\"X-Forwarded-For\"",
            "use Source::address() and trusted proxies",
        ),
    ] {
        let of_policy = Policy::new().identify(Source::address().or(source.clone()));
        let of_rule = Policy::new().rule(rule("r").identify(source));
        for policy in [of_policy, of_rule] {
            assert!(matches!(one(policy, &[name, mend]), Mistake::Source { .. }));
        }
    }
}

#[test]
fn settings_have_their_ranges() {
    for (policy, setting, mend) in [
        (Policy::new().identify(Source::address().ipv4_prefix(33)), "ipv4_prefix", "1 to 32 are accepted"),
        (Policy::new().identify(Source::address().ipv6_prefix(0)), "ipv6_prefix", "1 to 128 are accepted"),
        (
            Policy::new().identify(Source::bearer().ipv6_prefix(56)),
            "ipv6_prefix",
            "set it on Source::address()",
        ),
        (Policy::new().trust_proxies(TrustedProxies::forwarded(["::/0"])), "trusted proxies", "set hops"),
        (
            Policy::new().trust_proxies(TrustedProxies::forwarded(["::/0"]).hops(0)),
            "hops",
            "1 to 64 are accepted",
        ),
    ] {
        assert!(matches!(one(policy, &[setting, mend]), Mistake::Setting { .. }));
    }
    let with_memory = |bytes| {
        let shared = Limit::shared("shared", Quota::per_minute(10));
        Limiter::builder(Policy::new().rule(Rule::new("r").limit(shared))).memory_bytes(bytes).build()
    };
    let message = with_memory(100).unwrap_err().to_string();
    assert!(message.starts_with("memory_bytes: 100 bytes are too few"), "{message}");
    let least = message.split("; set ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let least: usize = least.parse().unwrap();
    assert!(with_memory(least).unwrap().memory_bytes() <= least);
    with_memory(least - 1).unwrap_err();
    for too_many in [usize::MAX, isize::MAX as usize, 1 << 60] {
        let message = with_memory(too_many).unwrap_err().to_string();
        assert!(message.contains("are not to be had") && message.contains("set fewer"), "{message}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_policy() {
    let policy = Policy::new()
        .identify(Source::header("forwarded"))
        .rule(rule("a").route("a").route("/:b"))
        .rule(
            Rule::new("a")
                .limit(Limit::per_client("zero", Quota::per_minute(0)))
                .limit(limit("dear").cost(99)),
        )
        .rule(Rule::new("all").only())
        .rule(rule("late"))
        .block_networks(["here", "there"]);
    let error = Limiter::builder(policy).memory_bytes(1).build().unwrap_err();
    let expected = [
        "identity from \"forwarded\"",
        "rule \"a\": pattern \"a\"",
        "rule \"a\": pattern \"/:b\"",
        "limit \"zero\"",
        "limit \"dear\"",
        "two rules",
        "rule \"late\" is never reached",
        "\"here\"",
        "\"there\"",
        "memory_bytes",
    ];
    let message = error.to_string();
    let lines: Vec<_> = message.lines().collect();
    assert_eq!((lines.len(), error.mistakes().len()), (expected.len(), expected.len()), "{message}");
    for (line, part) in lines.iter().zip(expected) {
        assert!(line.contains(part), "{part:?} is missing in {line:?}");
    }
}

#[test]
fn another_quota_is_checked_like_the_first() {
    let limiter = Limiter::new(Policy::new().rule(Rule::new("r").limit(limit("l").cost(3)))).unwrap();
    for (limit, quota, parts) in [
        ("r", Quota::per_minute(5), &["nothing is named \"r\"", "there are [\"l\"]"][..]),
        ("l", Quota::per_minute(0), &["rule \"r\", limit \"l\"", "\"0/minute\"", "is accepted"]),
        ("l", Quota::per_minute(9).burst(2), &["rule \"r\", limit \"l\"", "costs 3", "raise its burst to 3"]),
    ] {
        let error = limiter.set_quota(limit, quota).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    assert_eq!(
        limiter.set_quota("l", Quota::per_minute(3)),
        Ok(Quota::per_minute(10)),
        "nothing was set before"
    );
    assert_eq!(limiter.set_quota("l", Quota::per_minute(4)), Ok(Quota::per_minute(3)));
}
