//! The walk along a chain of proxies.

use super::*;

/// The client's address behind `PROXY`, with these lines of the header that `trusted` reads.
#[track_caller]
fn walk(trusted: &TrustedProxies, lines: &[&str]) -> Result<String, Rejection> {
    let proxies = compiled(trusted);
    let request = lines.iter().fold(Request::builder(), |request, line| {
        request.header("x-forwarded-for", *line).header("forwarded", *line)
    });
    let request = request.body(()).unwrap();
    proxies.client_address(Some(ip(PROXY)), request.headers()).map(|client| client.unwrap().to_string())
}

#[test]
fn the_walk_goes_right_to_left_over_all_lines() {
    for (lines, client) in [
        (&[][..], PROXY),
        (&["203.0.113.1", "198.51.100.7", "10.0.0.2"], CLIENT),
        (&["203.0.113.1,198.51.100.7", "10.0.0.3 ,\t10.0.0.2"], CLIENT),
        (&["10.0.0.4, fd00::1"], "10.0.0.4"),
        (&["2001:db8::1, 10.0.0.2"], "2001:db8::1"),
    ] {
        assert_eq!(walk(&x_forwarded_for(), lines).as_deref(), Ok(client), "{lines:?}");
    }
    let long = vec!["10.9.9.9"; 63].join(",");
    assert_eq!(
        walk(&x_forwarded_for(), &["10.0.0.5,10.0.0.6", &long]).as_deref(),
        Ok("10.0.0.6"),
        "64 entries"
    );
}

#[test]
fn an_entry_that_does_not_parse_ends_the_walk() {
    for garbage in [
        "",
        "unknown",
        "_hidden",
        "198.51.100.7.5",
        "0198.51.100.7",
        "198.51.100",
        "198.51.100.7:",
        "198.51.100.7:+1",
        "198.51.100.7:65536",
        "198.51.100.7%eth0",
        "[198.51.100.7]",
        "[::1",
        "::1]",
        "[::1]80",
        "[::1]:",
        "::1%",
        "\"::1\"",
        "http://198.51.100.7",
        "1.2.3.4 5.6.7.8",
    ] {
        let line = format!("{CLIENT}, {garbage}, 10.0.0.2");
        assert_eq!(walk(&x_forwarded_for(), &[&line]).as_deref(), Ok("10.0.0.2"), "{garbage}");
    }
    for garbage in [
        "",
        "proto=https",
        "for",
        "for=",
        "for=unknown",
        "for=_x",
        "for=1.2.3.4;for=1.2.3.4",
        "for=\"1.2.3.4",
        "for =1.2.3.4",
    ] {
        let line = format!("for={CLIENT}, {garbage}, for=10.0.0.2");
        assert_eq!(walk(&forwarded(), &[&line]).as_deref(), Ok("10.0.0.2"), "{garbage}");
    }
}

#[test]
fn an_address_with_its_port_is_the_address() {
    for (entry, client) in [
        ("198.51.100.7:80", CLIENT),
        ("[2001:db8::1]:80", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("::1", "::1"),
        ("[::1]:80", "::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%eth0]:80", "fe80::1"),
        ("::ffff:198.51.100.7", CLIENT),
        ("[::ffff:c633:6407]:80", CLIENT),
    ] {
        assert_eq!(walk(&x_forwarded_for(), &[entry]).as_deref(), Ok(client), "{entry}");
        let quoted = format!("proto=https;FOR=\"{entry}\";by=10.0.0.1;");
        assert_eq!(walk(&forwarded(), &[&quoted]).as_deref(), Ok(client), "{quoted}");
    }
}

#[test]
fn quotes_in_forwarded_hide_separators() {
    for (line, client) in [
        (r#"for=203.0.113.1, for=198.51.100.7;host="a, for=203.0.113.2; x\", for=203.0.113.3""#, CLIENT),
        (r#"for="203.0.113.1, for=198.51.100.7"#, CLIENT),
        (r#"for=203.0.113.1\, for="[2001:db8::1]""#, "2001:db8::1"),
        (r#"host="\\", for=198.51.100.7, for=10.0.0.2;host="\\""#, CLIENT),
    ] {
        assert_eq!(walk(&forwarded(), &[line]).as_deref(), Ok(client), "{line}");
    }
}

#[test]
fn a_chain_shorter_than_its_hops_is_refused() {
    let two = x_forwarded_for().hops(2);
    for (line, client) in [
        ("198.51.100.7, 10.0.0.2", Ok(CLIENT)),
        ("203.0.113.1, 198.51.100.7, 10.0.0.2", Ok(CLIENT)),
        ("203.0.113.1, 10.0.0.3, 10.0.0.2", Ok("10.0.0.3")),
        ("198.51.100.7, unknown, 10.0.0.2", Ok("10.0.0.2")),
        ("10.0.0.2", Err(Rejection::ShortChain)),
        ("203.0.113.1, 198.51.100.7", Err(Rejection::ShortChain)),
        ("198.51.100.7, unknown", Err(Rejection::ShortChain)),
    ] {
        assert_eq!(walk(&two, &[line]).as_deref().map_err(|e| *e), client, "{line}");
    }
    assert_eq!(walk(&two, &[]), Err(Rejection::ShortChain));
    let everybody = TrustedProxies::x_forwarded_for(["0.0.0.0/0"]).hops(1);
    assert_eq!(walk(&everybody, &["203.0.113.1, 198.51.100.7"]).as_deref(), Ok(CLIENT));

    let mut mistakes = Vec::new();
    x_forwarded_for().hops(0).compile(&mut mistakes);
    x_forwarded_for().hops(65).compile(&mut mistakes);
    TrustedProxies::forwarded(["::/0"]).compile(&mut mistakes);
    TrustedProxies::forwarded(["proxy.internal"]).compile(&mut mistakes);
    assert_eq!(mistakes.len(), 4, "{mistakes:?}");
}
