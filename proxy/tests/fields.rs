//! Header fields on their way through, in both directions.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Proxy, Upstream, open, settings};
use tidegate_proxy::settings::ForwardedStyle;

const OURS: [&str; 4] =
    ["x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http", "x-forwarded-host: a", "via: 1.1 tide"];

/// The lines of the head that the upstream gets for these, sorted, without the request line and `Host`.
async fn seen(proxy: &Proxy, upstream: &Upstream, lines: &str) -> (u16, Vec<String>) {
    let before = upstream.seen().len();
    let mut client = proxy.connect().await;
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).await;
    let status = client.answer().await.status;
    let seen = upstream.seen().split_off(before);
    let mut lines: Vec<_> = seen.lines().skip(2).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    lines.sort();
    (status, lines)
}

async fn check(proxy: &Proxy, upstream: &Upstream, lines: &str, expected: &[&str]) {
    let (status, seen) = seen(proxy, upstream, lines).await;
    let mut expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
    expected.sort();
    assert_eq!((status, seen), (200, expected), "{lines}");
}

#[tokio::test]
async fn what_is_for_one_connection_ends_here() {
    let upstream = Upstream::ok().await;
    let proxy = Proxy::open(upstream.address);
    for lines in [
        "Connection: x-a, X-B\r\nX-A: 1\r\nX-B: 2\r\n",
        "Connection: x-a\r\nConnection: keep-alive, ,x-b\r\nX-A: 1\r\nX-B: 2\r\nX-B: 3\r\n",
        "Keep-Alive: timeout=5\r\n",
        "Proxy-Connection: keep-alive\r\nProxy-Authorization: a\r\nProxy-Authenticate: b\r\n",
        "TE: gzip\r\n",
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\nUpgrade: h2c\r\n",
        "Connection: upgrade\r\nUpgrade: chat\r\n",
        "HTTP2-Settings: AAMAAABk\r\n",
        "Expect: 100-continue\r\n",
        "Connection: \"x-a\", x y\r\n",
    ] {
        check(&proxy, &upstream, lines, &OURS).await;
    }
}

#[tokio::test]
async fn everything_else_goes_on() {
    let upstream = Upstream::ok().await;
    let proxy = Proxy::open(upstream.address);
    let lines =
        "X-A: 1\r\nX-A: 2\r\nCookie: a=b\r\nAuthorization: c\r\nTrailer: x\r\nX_A: d\r\nX-B: \u{fc}\r\n";
    let all = ["x-a: 1", "x-a: 2", "cookie: a=b", "authorization: c", "trailer: x", "x_a: d", "x-b: \u{fc}"];
    check(&proxy, &upstream, lines, &[&all[..], &OURS].concat()).await;
    let trailers = [&["te: trailers", "connection: te"], &OURS[..]].concat();
    check(&proxy, &upstream, "TE: trailers\r\n", &trailers).await;
    check(&proxy, &upstream, "Connection: TE\r\nTE: gzip;q=0.5, Trailers;q=0.1\r\n", &trailers).await;
}

#[tokio::test]
async fn what_says_who_asks_cannot_be_removed() {
    let upstream = Upstream::ok().await;
    let mut settings = settings(upstream.address);
    settings.server.protected_fields = vec!["X-Tenant".to_owned()];
    let proxy = Proxy::start(&settings, &open());
    for name in [
        "host",
        "Forwarded",
        "X-FORWARDED-FOR",
        "x-forwarded-anything",
        "authorization",
        "cookie",
        "via",
        "x-tenant",
        "content-length",
        "x-api-key",
    ] {
        for lines in
            [format!("Connection: {name}\r\n"), format!("Connection: x-a\r\nConnection: close, {name}\r\n")]
        {
            assert_eq!(seen(&proxy, &upstream, &lines).await, (400, Vec::new()), "{lines}");
        }
    }
}

#[tokio::test]
async fn strangers_do_not_say_whom_they_come_from() {
    let upstream = Upstream::ok().await;
    let proxy = Proxy::open(upstream.address);
    for lines in [
        "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 8.8.8.8\r\n",
        "X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nX-Forwarded-User: root\r\n",
        "Forwarded: for=9.9.9.9\r\n",
        "X_Forwarded_For: 9.9.9.9\r\nX_FORWARDED-User: root\r\nTransfer_Encoding: chunked\r\n",
    ] {
        check(&proxy, &upstream, lines, &OURS).await;
    }
}

#[tokio::test]
async fn trusted_proxies_are_passed_on_with_themselves_added() {
    let upstream = Upstream::ok().await;
    let mut settings = settings(upstream.address);
    settings.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let proxy = Proxy::start(&settings, &open());
    check(
        &proxy,
        &upstream,
        "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 8.8.8.8 \r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\n\
         Forwarded: for=7.7.7.7\r\nX-Forwarded-User: root\r\n",
        &["x-forwarded-for: 9.9.9.9, 8.8.8.8, 127.0.0.1", "x-forwarded-proto: https", "x-forwarded-host: b", OURS[3]],
    )
    .await;
    // Two of what there is one of would be read differently by different servers.
    check(&proxy, &upstream, "X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n", &OURS).await;

    settings.server.forwarded = ForwardedStyle::Forwarded;
    let proxy = Proxy::start(&settings, &open());
    check(
        &proxy,
        &upstream,
        "Forwarded: for=7.7.7.7\r\nX-Forwarded-For: 9.9.9.9\r\n",
        &["forwarded: for=7.7.7.7, for=127.0.0.1;host=\"a\";proto=http", OURS[3]],
    )
    .await;
    settings.server.forwarded = ForwardedStyle::Off;
    let proxy = Proxy::start(&settings, &open());
    check(&proxy, &upstream, "Forwarded: for=7.7.7.7\r\nX-Forwarded-For: 9.9.9.9\r\n", &[OURS[3]]).await;
}

#[tokio::test]
async fn via_tells_the_way_and_finds_loops() {
    let upstream = Upstream::ok().await;
    let proxy = Proxy::open(upstream.address);
    let with = |via| [&OURS[..3], &[via]].concat();
    check(
        &proxy,
        &upstream,
        "Via: 1.0 fred, 1.1 p.example\r\nVia: 2 other\r\n",
        &with("via: 1.0 fred, 1.1 p.example, 2 other, 1.1 tide"),
    )
    .await;
    check(
        &proxy,
        &upstream,
        "Via: 1.1 tidal, 1.1 x (tide)\r\n",
        &with("via: 1.1 tidal, 1.1 x (tide), 1.1 tide"),
    )
    .await;
    for lines in
        ["Via: 1.1 tide\r\n", "Via: 1.0 fred,HTTP/1.1  TIDE (x)\r\n", "Via: a b\r\nVia: 1.1 tide\r\n"]
    {
        assert_eq!(seen(&proxy, &upstream, lines).await, (508, Vec::new()), "{lines}");
    }
}

#[tokio::test]
async fn a_proxy_in_front_of_itself_is_a_loop() {
    // The upstream's address is known before the proxy is, so it listens there itself.
    let probe = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = probe.local_addr().unwrap();
    drop(probe);
    let mut settings = settings(address);
    settings.server.listen = vec![address.to_string().parse().unwrap()];
    settings.server.name = None;
    let proxy = Proxy::start(&settings, &open());
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 508);
}

#[tokio::test]
async fn an_old_client_without_a_host_gets_the_upstreams() {
    let upstream = Upstream::ok().await;
    let proxy = Proxy::open(upstream.address);
    let answer = proxy.ask("GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{answer}");
    let expected = format!(
        "GET / HTTP/1.1\r\nx-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\nvia: 1.0 tide\r\nhost: {}\r\n\r\n",
        upstream.address
    );
    assert_eq!(upstream.seen(), expected);
}

#[tokio::test]
async fn an_answers_fields_for_one_connection_end_here() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nConnection: x-a, keep-alive\r\nConnection: set-cookie, Retry-After\r\nX-A: 1\r\n\
         Keep-Alive: timeout=5\r\nUpgrade: h2c\r\nProxy-Authenticate: b\r\nSet-Cookie: c\r\nRetry-After: 5\r\n\
         Content-Length: 2\r\nX-B: 2\r\n\r\nok",
    )
    .await;
    let proxy = Proxy::open(upstream.address);
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = client.answer().await;
    for gone in ["x-a", "keep-alive", "upgrade", "proxy-authenticate", "connection"] {
        assert_eq!(answer.field(gone), None, "{gone}");
    }
    let kept = ["set-cookie", "retry-after", "x-b"].map(|name| answer.field(name));
    assert_eq!((kept, answer.text()), ([Some("c"), Some("5"), Some("2")], "ok"));
}

#[tokio::test]
async fn trailers_go_through_where_they_are_announced_and_wanted() {
    let upstream = Upstream::new(|mut exchange| async move {
        while exchange.request().await.is_some() {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n";
            exchange.send(format!("{head}2\r\nok\r\n0\r\nx-sum: 7\r\nx-other: 8\r\n\r\n")).await;
        }
    })
    .await;
    let proxy = Proxy::open(upstream.address);
    let mut client = proxy.connect().await;
    client
        .send(
            "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\nTrailer: x-sent\r\n\
             Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sent: 1\r\nX-Not: 2\r\n\r\n",
        )
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.text(), answer.field("x-sum"), answer.field("x-other")), ("ok", Some("7"), None));
    assert!(upstream.seen().ends_with("3\r\nabc\r\n0\r\nx-sent: 1\r\n\r\n"), "{}", upstream.seen());
    // Who did not ask for them gets none.
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.text(), answer.field("x-sum")), ("ok", None));
}
