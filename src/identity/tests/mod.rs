#![allow(clippy::unwrap_used)]
//! Pitfalls of identification seen in the field, each with a test by its name.

use super::*;
use crate::key::{Key, Keys};
use http::{Request, StatusCode, request::Builder};
use std::net::{IpAddr, SocketAddr};

mod properties;
mod walk;

const PROXY: &str = "10.0.0.1";
const CLIENT: &str = "198.51.100.7";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn key(identity: Identity<'_>) -> Key {
    identity.key(&Keys::new([7; 16]))
}

fn from(peer: &str) -> Builder {
    Request::builder().extension(PeerAddr(SocketAddr::new(ip(peer), 443)))
}

fn compiled(trusted: &TrustedProxies) -> Proxies {
    let mut mistakes = Vec::new();
    let proxies = trusted.compile(&mut mistakes);
    assert_eq!(mistakes, []);
    proxies
}

fn x_forwarded_for() -> TrustedProxies {
    TrustedProxies::x_forwarded_for(["10.0.0.0/8", "fd00::/8"])
}

fn forwarded() -> TrustedProxies {
    TrustedProxies::forwarded(["10.0.0.0/8", "fd00::/8"])
}

/// Whom `source` finds in the request, as a key.
fn find(source: &Source, request: Builder) -> Result<Key, Rejection> {
    find_behind(source, None, request)
}

fn find_behind(
    source: &Source,
    trusted: Option<&TrustedProxies>,
    request: Builder,
) -> Result<Key, Rejection> {
    let mut mistakes = Vec::new();
    let identify = source.compile(&mut mistakes);
    assert_eq!(mistakes, []);
    let request = request.body(()).unwrap();
    let proxies = trusted.map(compiled);
    identify.identify(RequestHead::new(&request), proxies.as_ref()).map(key)
}

#[test]
fn leftmost_or_any_header_is_not_trusted() {
    let spoofed = || from(CLIENT).header("x-forwarded-for", "10.0.0.9").header("forwarded", "for=10.0.0.9");
    for trusted in [None, Some(&x_forwarded_for()), Some(&forwarded())] {
        let found = find_behind(&Source::address(), trusted, spoofed());
        assert_eq!(found, Ok(key(Identity::address(ip(CLIENT)))), "an untrusted peer is the client");
    }
    let behind = from(PROXY).header("x-forwarded-for", format!("203.0.113.1, {CLIENT}, 10.0.0.2"));
    let found = find_behind(&Source::address(), Some(&x_forwarded_for()), behind);
    assert_eq!(found, Ok(key(Identity::address(ip(CLIENT)))), "the first untrusted from the right");
    let other = from(PROXY).header("x-forwarded-for", CLIENT);
    let found = find_behind(&Source::address(), Some(&forwarded()), other);
    assert_eq!(found, Ok(key(Identity::address(ip(PROXY)))), "only the configured header is read");
    let behind = from(PROXY).header("x-forwarded-for", CLIENT);
    let found = find_behind(&Source::peer(), Some(&x_forwarded_for()), behind);
    assert_eq!(found, Ok(key(Identity::address(ip(PROXY)))), "the peer stays the peer");
}

#[test]
fn ipv4_mapped_addresses_do_not_share_a_bucket() {
    for (mapped, plain) in [("::ffff:192.0.2.7", "192.0.2.7"), ("::ffff:c000:207", "192.0.2.7")] {
        assert_eq!(key(Identity::address(ip(mapped))), key(Identity::address(ip(plain))));
        assert_eq!(find(&Source::address(), from(mapped)), find(&Source::peer(), from(plain)));
        let prefix = Source::address().ipv4_prefix(24);
        assert_eq!(find(&prefix, from(mapped)), find(&prefix, from(plain)));
    }
    assert_ne!(
        key(Identity::address(ip("::ffff:192.0.2.7"))),
        key(Identity::address(ip("::ffff:192.0.2.8")))
    );
    assert_ne!(key(Identity::address(ip("::192.0.2.7"))), key(Identity::address(ip("192.0.2.7"))));
    let trusted = find_behind(
        &Source::address(),
        Some(&x_forwarded_for()),
        from("::ffff:10.0.0.1").header("x-forwarded-for", CLIENT),
    );
    assert_eq!(trusted, Ok(key(Identity::address(ip(CLIENT)))), "a mapped proxy is trusted");
}

#[test]
fn ipv6_rotation_inside_a_64_gains_nothing() {
    let (a, b, far) = ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", "2001:db8:0:1::1");
    let by = |source: Source, peer| find(&source, from(peer)).unwrap();
    assert_eq!(by(Source::address(), a), by(Source::address(), b));
    assert_ne!(by(Source::address(), a), by(Source::address(), far));
    assert_eq!(by(Source::address().ipv6_prefix(56), a), by(Source::address().ipv6_prefix(56), far));
    assert_ne!(by(Source::address().ipv6_prefix(128), a), by(Source::address().ipv6_prefix(128), b));
    assert_eq!(
        by(Source::peer().ipv4_prefix(24), "192.0.2.7"),
        by(Source::peer().ipv4_prefix(24), "192.0.2.8")
    );
    for (net, longer, shorter) in [("2001:db8::", 64, 56), ("192.0.2.0", 32, 24)] {
        let by = |prefix| key(Identity::network(ip(net), prefix));
        assert_ne!(by(longer), by(shorter), "a network is not its first address");
    }
    assert_eq!(key(Identity::network(ip("192.0.2.7"), 64)), key(Identity::address(ip("192.0.2.7"))));
}

#[test]
fn delimiters_and_kinds_do_not_collide() {
    let (short, long) = ("x-a".parse().unwrap(), "x-ab".parse().unwrap());
    let header = |name, value: &'static str| Identity::header_value(name, value.as_bytes().into());
    let (v4, v6) = (ip("49.46.50.46"), ip("2001:db8::1"));
    let identities = [
        Identity::anonymous(),
        Identity::name(""),
        Identity::name("anonymous"),
        Identity::name("x-a"),
        Identity::name("192.0.2.7"),
        Identity::api_key("192.0.2.7"),
        Identity::api_key("x-a"),
        Identity::address(ip("192.0.2.7")),
        Identity::address(v4),
        Identity::api_key("1.2."),
        Identity::name("1.2."),
        Identity::network(v6, 0),
        Identity::network(v4, 0),
        header(&short, "bc"),
        header(&long, "c"),
        header(&short, "192.0.2.7"),
    ];
    let keys: std::collections::HashSet<_> =
        identities.iter().map(|identity| identity.key(&Keys::new([0; 16]))).collect();
    assert_eq!(keys.len(), identities.len());
    assert_ne!(
        key(Identity::name("a")),
        Identity::name("a").key(&Keys::new([8; 16])),
        "keys depend on the secret"
    );
}

#[test]
fn a_truncated_api_key_is_another_client() {
    let long = "k".repeat(64 * 1024);
    let found =
        |value: &str| find(&Source::api_key_header("x-api-key"), from(PROXY).header("X-API-Key", value));
    assert_ne!(found(&long), found(&long[..long.len() - 1]));
    assert_eq!(found(&long), Ok(key(Identity::api_key(long.as_str()))));
}

#[test]
fn one_key_is_one_client_whichever_way_it_comes() {
    let expected = Ok(key(Identity::api_key("s3cret")));
    assert_eq!(
        find(&Source::bearer(), Request::builder().header("authorization", "Bearer s3cret")),
        expected
    );
    assert_eq!(
        find(&Source::api_key_header("X-Key"), Request::builder().header("x-key", "s3cret")),
        expected
    );
    assert_eq!(find(&Source::api_key_query("key"), Request::builder().uri("/?key=s3c%72et")), expected);
    assert_eq!(
        find(&Source::api_key_cookie("key"), Request::builder().header("cookie", "a=b; key=s3cret")),
        expected
    );
    assert_ne!(find(&Source::header("x-key"), Request::builder().header("x-key", "s3cret")), expected);
}

#[test]
fn a_chain_falls_on_only_where_the_credential_is_absent() {
    let source = Source::bearer().or(Source::api_key_query("key")).or(Source::address());
    let address = Ok(key(Identity::address(ip(CLIENT))));
    assert_eq!(find(&source, from(CLIENT)), address);
    assert_eq!(find(&source, from(CLIENT).header("authorization", "Basic YTpi")), address);
    assert_eq!(find(&source, from(CLIENT).uri("/?key=k")), Ok(key(Identity::api_key("k"))));
    assert_eq!(
        find(&source, from(CLIENT).header("authorization", "Bearer ")),
        Err(Rejection::MalformedToken)
    );
    assert_eq!(find(&source, from(CLIENT).uri("/?key=a&key=b")), Err(Rejection::MalformedApiKey));
    let header = Source::header("x-tenant").or(Source::address());
    assert_eq!(find(&header, from(CLIENT).header("x-tenant", "")), Err(Rejection::MalformedHeader));
}

#[test]
fn nobody_identified_is_anonymous_or_refused() {
    let anonymous = Ok(key(Identity::anonymous()));
    let closure = || Source::with(|_| None);
    for (source, status, challenge) in [
        (Source::address(), 400, None),
        (Source::peer(), 400, None),
        (Source::header("x-tenant"), 400, None),
        (Source::bearer(), 401, Some("Bearer")),
        (Source::api_key_header("x-key"), 401, Some("ApiKey")),
        (Source::api_key_cookie("key"), 401, Some("ApiKey")),
        (Source::api_key_query("key").or(Source::address()), 401, Some("ApiKey")),
        (closure(), 401, Some("Bearer")),
    ] {
        assert_eq!(find(&source, Request::builder()), anonymous);
        let rejection = find(&source.or_refuse(), Request::builder()).unwrap_err();
        assert_eq!(rejection.status(), StatusCode::from_u16(status).unwrap());
        assert_eq!(rejection.challenge().as_ref().map(|value| value.to_str().unwrap()), challenge);
    }
    for chain in [
        Source::bearer().or_refuse().or(Source::address()),
        Source::bearer().or(Source::address().or_refuse()),
    ] {
        assert_eq!(find(&chain, Request::builder()), Err(Rejection::MissingToken));
    }
}

#[test]
fn what_an_auth_layer_left_identifies() {
    #[derive(Clone)]
    struct User {
        name: String,
    }
    let source = Source::extension(|user: &User| Identity::name(&user.name)).or(Source::address());
    let user = User { name: "ada".into() };
    assert_eq!(find(&source, from(CLIENT).extension(user)), Ok(key(Identity::name("ada"))));
    assert_eq!(find(&source, from(CLIENT)), Ok(key(Identity::address(ip(CLIENT)))));
    let path = Source::with(|head| head.path().strip_prefix("/t/").map(Identity::name));
    assert_eq!(find(&path, Request::builder().uri("/t/acme")), Ok(key(Identity::name("acme"))));
}

#[cfg(feature = "axum")]
#[test]
fn axum_tells_the_peer() {
    use axum::extract::{ConnectInfo, connect_info::MockConnectInfo};
    let (client, other) = (SocketAddr::new(ip(CLIENT), 1), SocketAddr::new(ip(PROXY), 1));
    let expected = Ok(key(Identity::address(ip(CLIENT))));
    assert_eq!(find(&Source::peer(), Request::builder().extension(ConnectInfo(client))), expected);
    assert_eq!(find(&Source::peer(), Request::builder().extension(MockConnectInfo(client))), expected);
    assert_eq!(find(&Source::peer(), from(CLIENT).extension(ConnectInfo(other))), expected);
}

#[test]
fn mistakes_are_found_when_compiling() {
    let chain = Source::bearer()
        .ipv6_prefix(48)
        .or(Source::api_key_header("x key"))
        .or(Source::api_key_query(""))
        .or(Source::api_key_cookie("a=b"))
        .or(Source::header(""))
        .or(Source::header("X-Forwarded-For"))
        .or(Source::address().ipv4_prefix(0).ipv6_prefix(129));
    let mut mistakes = Vec::new();
    chain.compile(&mut mistakes);
    let text: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(text.len(), 8, "{text:#?}");
    assert_eq!(text[0], "ipv6_prefix: this source has no address; set it on Source::address()");
    assert!(text[1].starts_with("identity from \"x key\": a header's name is"));
    assert_eq!(text[7], "ipv6_prefix: 129 bits; 1 to 128 are accepted");
}

#[test]
fn secrets_and_addresses_are_not_printed() {
    let (name, owner) = ("x-tenant".parse().unwrap(), Keys::new([7; 16]));
    let header = Identity::header_value(&name, b"s3cret".as_slice().into());
    for (identity, kind) in [
        (Identity::api_key("s3cret"), "api_key"),
        (Identity::name("s3cret"), "name"),
        (header, "header"),
        (Identity::address(ip("192.0.2.7")), "address"),
    ] {
        assert_eq!(format!("{identity} {identity:?}"), format!("{kind} Identity({kind})"));
        let key = identity.key(&owner);
        let label = identity.label(key);
        let redacted = format!("{kind}#{:08x}", key.fingerprint());
        assert_eq!(label.display(false).to_string(), redacted);
        let plain = if kind == "address" { "192.0.2.7" } else { &redacted };
        assert_eq!(label.display(true).to_string(), plain);
    }
    let label = |identity: Identity<'_>| identity.label(key(identity.clone())).display(true).to_string();
    assert_eq!(label(Identity::address(ip("2001:db8::1"))), "2001:db8::/64");
    assert_eq!(label(Identity::anonymous()), "anonymous");
    let request =
        Request::builder().uri("/p?key=s3cret").header("authorization", "Bearer s3cret").body(()).unwrap();
    assert!(!format!("{:?}", RequestHead::new(&request)).contains("s3cret"));
}
