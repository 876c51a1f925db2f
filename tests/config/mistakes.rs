//! Every mistake at once, each with its place and how to mend it.

use crate::stage::{format, mistakes, parse, sound};

#[test]
fn all_mistakes_of_form_are_told_at_once_with_their_places() {
    let text = r#"
[identity]
sources = ["adress", { api_key_heder = "x-api-key" }, { header = "no header" }]
ipv6_prefix = 129

[[rule]]
nam = "api"
methods = ["get"]
shadow = "yes"

[[rule.limit]]
quota = "lots"
cost = -1
settle = { count = ["6xx"] }

[[rule]]
name = "b"
limit = "10/second"

[bans]
refusals = 3

[store]
memory = "4 lightyears"
redis = { deadline = "soon", url = 3 }
"#;
    let expected = r#"
3:12: "adress" is not known here; did you mean "address"?
3:24: "api_key_heder" is not known here; did you mean "api_key_header"?
3:66: "no header" is no header name; one is made of letters, digits and !#$%&'*+-.^_`|~
4:15: 129 is out of range; 1 or more and 128 or less is accepted
6:1: "name" is missing; it is a name that no other rule has, 1 to 64 printable ASCII characters
7:1: "nam" is not known here; did you mean "name"?
8:12: "get" is no method; write one in capitals, such as GET or POST
9:10: a text stands where true or false belongs
12:9: quota "lots": "lots" stands where an amount in digits, below 2^64, is accepted; write it like "100/minute" or "5 per 10s burst 20 strict"
13:8: -1 is out of range; 0 or more and 4294967295 or less is accepted
14:21: "6xx" is no status; write one like "404", "5xx" or "400-403"
18:9: a text stands where a list in [ ] belongs
20:2: "bans" is not known here; did you mean "ban"?
24:10: "4 lightyears" is no number of bytes; write it like 512, "64KiB" or "4MiB"
25:22: "soon" is no time (expected number at 0); write it like "250ms", "10s" or "1h 30m"
25:36: a whole number stands where a text belongs
"#;
    assert_eq!(mistakes(text), expected.trim());
}

#[test]
fn all_mistakes_of_sense_are_told_at_once_with_their_places() {
    let text = r#"
[identity]
sources = [{ header = "x-forwarded-for" }]

[[rule]]
name = "api"
routes = ["/a", "/b/{", "/c"]
only = true

[[rule.limit]]
name = "one"
quota = "10/second"
cost = 11

[[rule.limit]]
name = "one"
quota = "10/second"

[[rule.limit]]
name = "two"
quota = "10/second"
granted = true

[[rule]]
name = "api"
routes = ["/z"]

[[rule.limit]]
quota = "1/second"

[[rule.limit]]
quota = "1/second"

[tier.default]
max_concurrent = 3

[ban]
refusals = 3
lasting = "10m"
doubling_up_to = "1m"

[answers.body]
content_type = "json"
text = "no"
"#;
    let expected = r#"
3:23: identity from "x-forwarded-for": any client can write an address there; use "address" and [trusted_proxies]
7:17: rule "api": pattern "/b/{": a "{" is not closed; write "{id}", or "{{" for the character itself
13:1: rule "api", limit "one": a request that costs 11 can never pass "10/second", because only 10 fit at once; raise its burst to 11
22:1: Limit::granted: rule "api": limit "two": its clients are not looked up in the registry; set registered = true in its [identity]
25:1: two rules are named "api"; give each rule a name of its own
31:1: rule "api": a limit named "api" exists already; clients are told limits by name, so give each one its own
34:7: tiers.default: it has to say max_concurrent and requests_per_min, because nothing comes after it
37:2: ban: the longest ban is shorter than the first one; set it as long at least
43:1: "json" is no media type; write one like "application/json"
"#;
    assert_eq!(mistakes(text), expected.trim());
}

#[test]
fn syntax_that_is_none_is_told_with_its_place() {
    let found = mistakes("[store\nmemory = 4MiB\n[[rule]]\nname = \"api\n");
    let places: Vec<_> = found.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(places, ["1", "4"], "{found}");
}

#[test]
fn mistakes_of_pacers_and_stores_are_told_with_their_places() {
    let text = r#"
[[pace]]
name = "orders"
guarantee_normal = 60
guarantee_low = 50
[[pace.limit]]
quota = "10/second"
[pace.feedback]
floor = 2.0
[[pace.feedback.rule]]
signal = "lag"
factor = 0.5

[store]
redis = { prefix = "{tg}", url = "redis://localhost" }

[admin]
key_hashes = ["abc"]
networks = ["127.0.0.0/8"]
"#;
    let expected = r#"
5:1: Pacer::guarantee: 50 % for Low makes 110 % together with the others; guarantee 100 % at most in all
10:17: no signal is named "lag"; declare it under signals
15:1: instances that share a store need one and the same secret; set secret in [store], and make one with `openssl rand -hex 16`
15:11: prefix: "{tg}" cannot begin a key; use up to 64 printable ASCII characters without braces
17:2: Admin: a key's hash has 64 hexadecimal digits
17:2: Admin: the limiter has no registry; add [registry]
17:2: Admin: nobody could use it; set keys or key_hashes
"#;
    let found = mistakes(text);
    if cfg!(feature = "redis") {
        assert_eq!(found, expected.trim());
    }
    assert_eq!(
        mistakes("[store.redis]\ndeadline = \"1s\"").lines().next(),
        Some("1:8: it needs either url or sentinels; set one of them")
    );
}

/// Whoever reads a log of the mistakes must learn no secret by it.
#[test]
fn no_secret_stands_in_a_mistake() {
    const SECRET: &str = "hunter2-hunter2";
    let text = r#"
[store]
secret = "hunter2-hunter2"
[store.redis]
url = "hunter2-hunter2"
password = "${PASSWORD}"
[[rule]]
name = "api"
routes = ["/${PASSWORD}/{"]
methods = ["${PASSWORD}"]
[[rule.limit]]
quota = "${PASSWORD}"
[admin]
keys = ["hunter2-hunter2"]
key_hashes = ["hunter2-hunter2"]
"#;
    let format = format().variables([("PASSWORD", SECRET), ("TIDEGATE_RULE__API__LIMIT__0__PER", SECRET)]);
    let of_sense = text.replace("methods", "#").replace("quota = ", "per = \"all\"\nquota = \"1/second\" #");
    let of_sense = of_sense.replace("secret", "#").replace("per = \"all\"\n", "");
    for text in [text, &of_sense] {
        let error = format.parse("tidegate.toml", text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(SECRET), "{error}");
    }
    let format = self::format().variables([("PASSWORD", SECRET)]);
    let error = format.parse("tidegate.toml", &of_sense).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(SECRET), "{error}");
    assert!(error.to_string().contains("/${PASSWORD}/{"), "{error}");
    let config = sound("[store]\nsecret = \"0123456789abcdef0123456789abcdef\"\n");
    assert!(!format!("{config:?}").contains("0123456789abcdef"));
}

#[test]
fn a_file_that_is_not_there_or_says_nothing_is_no_surprise() {
    let error = format().read("/nowhere/tidegate.toml").unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/tidegate.toml: it cannot be read"), "{error}");
    assert!(parse("").is_ok());
    assert!(parse("# nothing\n").is_ok());
}

/// However a file is cut off or changed, there is an answer and no panic.
#[test]
fn no_text_makes_the_reader_panic() {
    for name in ["asgi", "dispatcher", "enqueue", "kafka", "ray"] {
        let path = format!("{}/examples/config/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        for cut in (0..text.len()).step_by(29).filter(|cut| text.is_char_boundary(*cut)) {
            let _ = parse(&text[..cut]);
            let mut changed = text.clone();
            let pieces = ["=", "[", "\"", "}", "\u{e9}", "\0", "\n[[rule]]\n", "${", "\n[rule]\n", "-"];
            changed.insert_str(cut, pieces[cut % pieces.len()]);
            let _ = parse(&changed);
        }
    }
}
