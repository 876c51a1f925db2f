#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use proptest::prelude::*;

fn compile(methods: &[Method], patterns: &[&str]) -> (Matcher, Vec<Mistake>) {
    let patterns: Vec<_> = patterns.iter().map(ToString::to_string).collect();
    let mut mistakes = Vec::new();
    let matcher = Matcher::compile("r", methods, &patterns, &mut mistakes);
    (matcher, mistakes)
}

fn matcher(methods: &[Method], patterns: &[&str]) -> Matcher {
    let (matcher, mistakes) = compile(methods, patterns);
    assert_eq!(mistakes, []);
    matcher
}

fn get(matcher: &Matcher, path: &str) -> Option<Match> {
    matcher.matches(&Method::GET, None, &Paths::of(path))
}

const WHOLE: Option<Match> = Some(Match::Whole);
const PARTIAL: Option<Match> = Some(Match::Partial);

#[test]
fn every_spelling_of_a_path_is_the_path() {
    let login = matcher(&[], &["/login"]);
    for path in ["/login", "/login/"] {
        assert_eq!(get(&login, path), WHOLE, "{path}");
    }
    let parameter = format!("/login;{}", "x".repeat(64 * 1024));
    let dots = format!("{}login", "/./".repeat(20_000));
    for path in [
        "//login",
        "/./login",
        "/a/../login",
        "/../login",
        "/%2e/login",
        "/%2E%2e/login",
        "/a/%2e%2e/login",
        "/login//",
        "/login/.",
        "/login/a/..",
        "/login;x=1",
        "/login;x=1/",
        "/;x/login",
        "/login;x=1/y",
        "/%6cogin",
        "/%6Cogi%6e",
        "/%2Flogin",
        "/login%2f",
        "/a/..%2flogin",
        "/a/..;/login",
        "/\\login",
        "\\login",
        "/a\\..\\login",
        "/a%5c..%5Clogin",
        "/a//../../login",
        "/x/.././/%6c%6Fgin;a=b//",
        &parameter,
        &dots,
    ] {
        assert_eq!(get(&login, path), PARTIAL, "{path:.40}");
    }
    for path in [
        "/",
        "",
        "*",
        "login.",
        "/login.json",
        "/LOGIN",
        "/logi",
        "/login/x",
        "/%256cogin",
        "/login%",
        "/%6login",
        "/login%ff",
        "/login%00",
        "/login%3Bx",
    ] {
        assert_eq!(get(&login, path), None, "{path}");
    }
    assert_eq!(get(&matcher(&[], &["/api/login"]), "/api%2Flogin"), PARTIAL);
    assert_eq!(get(&matcher(&[], &["/{file}"]), "/api%2Flogin"), PARTIAL);
    assert_eq!(get(&matcher(&[], &["/{name}"]), "/%ff%zz"), WHOLE);
    assert_eq!(get(&matcher(&[], &["/café"]), "/caf%C3%a9"), PARTIAL);
    assert_eq!(get(&matcher(&[], &["/login/"]), "/login"), WHOLE);
}

#[test]
fn a_rule_takes_its_methods_and_head_as_get() {
    let takes =
        |methods: &[Method], method| matcher(methods, &[]).matches(&method, None, &Paths::of("/")).is_some();
    assert!(takes(&[], Method::TRACE));
    assert!(takes(&[Method::POST, Method::GET], Method::HEAD));
    assert!(takes(&[Method::HEAD], Method::HEAD));
    assert!(!takes(&[Method::HEAD], Method::GET));
    assert!(!takes(&[Method::POST], Method::HEAD));
}

#[test]
fn a_rule_without_patterns_takes_every_path() {
    for path in ["", "*", "/", "//x/../%2f"] {
        assert_eq!(get(&matcher(&[], &[]), path), WHOLE);
    }
}

#[test]
fn a_catch_all_needs_a_rest() {
    let api = matcher(&[], &["/api/{*rest}", "/"]);
    assert_eq!(get(&api, "/api/a/b"), WHOLE);
    assert_eq!(get(&api, "/api"), None);
    assert_eq!(get(&api, "/api/"), None);
    assert_eq!(get(&api, "/"), WHOLE);
}

#[test]
fn a_template_and_the_path_both_count() {
    let matches = |patterns: &[&str], template, path: &str| {
        matcher(&[], patterns).matches(&Method::GET, Some(template), &Paths::of(path))
    };
    assert_eq!(matches(&["/users/{name}"], "/users/{id}", "/nested"), WHOLE);
    assert_eq!(matches(&["/users/{*rest}"], "/users/{id}/", "/nested"), WHOLE);
    assert_eq!(
        matches(&["/users/me"], "/users/{id}", "/users/me"),
        PARTIAL,
        "another route, says the router"
    );
    assert_eq!(matches(&["/users/me"], "/users/{id}", "/users/you"), None);
    assert_eq!(matches(&["/{page}"], "/{*rest}", "/assets/app.js"), None, "only part of the template");
    assert_eq!(matches(&["/{page}"], "/{*rest}", "/about"), PARTIAL);
    assert_eq!(matches(&["/static/{*file}"], "/static/{*rest}", "/static/../login"), PARTIAL);
}

#[test]
fn a_match_is_whole_only_under_every_reading() {
    assert_eq!(get(&matcher(&[], &["/static/{*rest}"]), "/static/../login"), PARTIAL);
    assert_eq!(get(&matcher(&[], &["/static/{*rest}"]), "/static/a%20b"), WHOLE);
    assert_eq!(get(&matcher(&[], &["/static/{*rest}", "/login"]), "/static/../login"), WHOLE);
}

#[test]
fn a_mistake_names_rule_pattern_and_mend() {
    for (patterns, wrong, mend) in [
        (&["/a", "/u/:id"][..], "/u/:id", "\"{id}\""),
        (&["/a", "/a/"], "/a/", "twice"),
        (&["/u/{a}", "/u/{b}"], "/u/{b}", "\"/u/{a}\", in the same rule, takes the same paths"),
        (&["/u/{*rest}", "/u/{id}/x"], "/u/{id}/x", "\"/u/{*rest}\", in the same rule, takes the same paths"),
    ] {
        match &compile(&[], patterns).1[..] {
            [Mistake::Pattern { rule, pattern, reason }] => {
                assert_eq!((rule.as_str(), pattern.as_str()), ("r", wrong));
                assert!(reason.contains(mend), "{reason}");
            }
            other => panic!("{patterns:?}: {other:?}"),
        }
    }
    matcher(&[], &["/u/me", "/u/{id}", "/u/{id}/x", "/f/{*rest}", "/f/a", "/f", "/v{x}", &"/{a}".repeat(25)]);
}

#[test]
fn a_rule_covers_a_narrower_one() {
    let (get, head, all) = (&[Method::GET][..], &[Method::HEAD][..], &[][..]);
    let covers =
        |a: (&[Method], &[&str]), b: (&[Method], &[&str])| matcher(a.0, a.1).covers(&matcher(b.0, b.1));
    assert!(covers((all, &[]), (get, &["/a"])));
    assert!(covers((get, &[]), (head, &[])));
    assert!(covers((all, &["/b", "/{*rest}"]), (all, &["/a/{b}", "/b"])));
    assert!(!covers((head, &[]), (get, &[])));
    assert!(!covers((get, &[]), (all, &[])));
    assert!(!covers((all, &["/{*rest}"]), (all, &[])));
    assert!(!covers((all, &["/a"]), (all, &["/a", "/b"])));
}

#[test]
fn the_most_specific_template_names_a_route() {
    let templates = Templates::new([
        "/{*any}",
        "/u/{a}",
        "bad",
        "/u/{b}/",
        "/u/me",
        "/u/{*rest}",
        "/u/v{n}",
        "/{x}/{y}/z",
        "/{x}/{*tail}",
    ]);
    let name = |path: &str| templates.name(&Paths::of(path));
    for (path, expected) in [
        ("/u/me", "/u/me"),
        ("/u/me/", "/u/me"),
        ("/u/you", "/u/{a}"),
        ("/u/v1", "/u/v{n}"),
        ("/u/you/x", "/u/{*rest}"),
        ("/a/b/z", "/{x}/{y}/z"),
        ("/a/b/c", "/{x}/{*tail}"),
        ("/a", "/{*any}"),
        ("/%75/you", "/{x}/{*tail}"),
        ("/u//you", "/u/{*rest}"),
    ] {
        assert_eq!(name(path), Some(expected), "{path}");
    }
    assert_eq!(name("/"), None);
    assert_eq!(templates.patterns.len(), 7);
}

/// A server that takes every step reads each of these as the plain path.
fn disguised() -> impl Strategy<Value = (String, String)> {
    let spelled = |(letter, how): (char, u8)| match how {
        0 => format!("%{:02x}", letter as u32),
        1 => format!("%{:02X}", letter as u32),
        _ => letter.into(),
    };
    let segment =
        prop::collection::vec((prop::char::range('a', 'z'), 0..4_u8), 1..6).prop_map(move |letters| {
            (letters.iter().map(|l| l.0).collect(), letters.into_iter().map(spelled).collect())
        });
    let separator = prop::sample::select(vec![
        "/",
        "//",
        "/./",
        "/%2e/",
        "/x/../",
        "/x/%2E./",
        "/x;y/..;z/",
        "/;/",
        ";a=b/",
        "%2f",
        "%2F./",
        "\\",
        "%5c",
        "/x%5C..\\",
    ]);
    let end = prop::sample::select(vec!["", "/", "//", ";a", "/.", "/x/..", "%2f", "\\"]);
    (prop::collection::vec((separator, segment), 1..5), end).prop_map(|(segments, end)| {
        let (mut plain, mut odd) = (String::new(), String::new());
        for (separator, (name, spelling)) in segments {
            let (name, spelling): (String, String) = (name, spelling);
            plain += &format!("/{name}");
            odd += &format!("{separator}{spelling}");
        }
        (plain, odd + end)
    })
}

const PATTERN: &str =
    "/|(/(a|b|ab|\\{p\\}|a\\{q\\}|\\{\\{a\\}\\})){1,4}|(/(a|b|\\{p\\}|a\\{q\\})){0,2}/a?\\{\\*r\\}";

proptest! {
    #[test]
    fn no_disguise_escapes_a_rule((plain, odd) in disguised()) {
        prop_assert!(get(&matcher(&[], &[&plain]), &odd).is_some(), "{odd:?} escapes {plain:?}");
    }

    #[test]
    fn no_text_panics(pattern in "(/|[{}*:.%a]|\\PC){0,20}", path in "\\PC*") {
        let (matcher, mistakes) = compile(&[], &[&pattern, "/{a}", "/b/{*r}"]);
        let _ = (get(&matcher, &path), get(&matcher, &pattern), mistakes);
        let _ = Templates::new([pattern.as_str(), "/{*r}"]).name(&Paths::of(&path));
    }

    #[test]
    fn a_clash_is_what_matchit_refuses(a in PATTERN, b in PATTERN) {
        let mut router = Router::new();
        router.insert(a.as_str(), 0).unwrap();
        let clashes = Pattern::parse(&a).unwrap().clashes(&Pattern::parse(&b).unwrap());
        prop_assert_eq!(router.insert(b.as_str(), 1).is_err(), clashes);
    }

    #[test]
    fn what_covers_matches_too(a in PATTERN, b in PATTERN, path in "(/|a|b|ac|\\{a\\}|[a-c/]){0,8}") {
        let (a, b) = (matcher(&[], &[&a]), matcher(&[], &[&b]));
        if a.covers(&b) && get(&b, &path).is_some() {
            prop_assert!(get(&a, &path).is_some());
        }
    }

    #[test]
    fn templates_name_what_any_pattern_matches(patterns in prop::collection::vec(PATTERN, 1..8), path in "(/[a-c]{1,2}){1,5}/?") {
        let templates = Templates::new(patterns.iter().map(String::as_str));
        let any = patterns.iter().any(|pattern| get(&matcher(&[], &[pattern]), &path).is_some());
        prop_assert_eq!(templates.name(&Paths::of(&path)).is_some(), any);
    }
}
