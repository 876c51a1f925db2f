//! What an upstream says of its own limits.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Client, Proxy, Upstream, limited, settings};
use std::time::{Duration, Instant};
use tidegate::{HeaderStyle, Limiter, Policy, Source};
use tidegate_proxy::Server;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn its_limits_never_look_wider_than_they_are() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nRateLimit: \"up\";r=1;t=9\r\nRateLimit-Policy: \"up\";q=2;w=60\r\n\
         X-RateLimit-Limit: 2\r\nX-RateLimit-Remaining: 1\r\nX-RateLimit-Reset: 9\r\n\r\nok",
    )
    .await;
    // With draft 10 all limits have room, so both are said.
    let proxy = Proxy::start(&settings(upstream.address), &limited("100/minute"));
    let mut client = proxy.connect().await;
    client.send(GET).await;
    let head = client.answer().await.head.to_ascii_lowercase();
    for line in
        ["ratelimit: \"up\";r=1;t=9", "ratelimit: \"client\";r=99;t=1", "ratelimit-policy: \"up\";q=2;w=60"]
    {
        assert!(head.contains(line), "{line}: {head}");
    }
    // Where there is room for one, the tighter is.
    for (quota, limit, remaining) in [("100/minute", "2", "1"), ("1/minute", "1", "0")] {
        let layer = limited(quota).layer().headers(HeaderStyle::XRateLimit);
        let server = Server::start(&settings(upstream.address), &layer).unwrap();
        let mut client = Client::connect(server.addresses()[0]).await;
        client.send(GET).await;
        let answer = client.answer().await;
        let said = (answer.field("x-ratelimit-limit"), answer.field("x-ratelimit-remaining"));
        assert_eq!(said, (Some(limit), Some(remaining)));
    }
}

/// An upstream that refuses everybody whose name begins with `b`.
async fn refusing(status: &'static str, retry_after: &'static str) -> Upstream {
    Upstream::new(move |mut exchange| async move {
        while let Some(request) = exchange.request().await {
            let status = if request.contains("x-name: b") { status } else { "200 OK" };
            exchange
                .send(format!(
                    "HTTP/1.1 {status}\r\ncontent-length: 2\r\nretry-after: {retry_after}\r\n\r\nok"
                ))
                .await;
        }
    })
    .await
}

fn by_name() -> Limiter {
    Limiter::new(Policy::new().identify(Source::header("x-name"))).unwrap()
}

async fn ask(client: &mut Client, name: &str) -> (u16, Option<u64>) {
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Name: {name}\r\n\r\n")).await;
    let answer = client.answer().await;
    (answer.status, answer.field("retry-after").and_then(|secs| secs.parse().ok()))
}

#[tokio::test]
async fn a_client_that_was_asked_to_wait_is_not_sent_on_where_that_is_wished() {
    for (status, code) in [("429 Too Many Requests", 429), ("503 Service Unavailable", 503)] {
        let upstream = refusing(status, "7").await;
        let mut settings = settings(upstream.address);
        settings.upstreams[0].obey_retry_after = Some("1h".parse().unwrap());
        let proxy = Proxy::start(&settings, &by_name());
        let mut client = proxy.connect().await;
        assert_eq!(ask(&mut client, "bob").await, (code, Some(7)));
        for _ in 0..5 {
            let (again, wait) = ask(&mut client, "bob").await;
            assert!(again == code && wait.is_some_and(|wait| (5..=7).contains(&wait)), "{again} {wait:?}");
        }
        // Others are none the worse.
        assert_eq!(ask(&mut client, "ann").await.0, 200);
        assert_eq!(ask(&mut client, "bill").await.0, code);
        assert_eq!(upstream.seen().matches("x-name: bob").count(), 1);
    }
}

#[tokio::test]
async fn a_pause_ends_and_is_never_longer_than_it_may_be() {
    let upstream = refusing("429 Too Many Requests", "99999999999999999999").await;
    let mut settings = settings(upstream.address);
    settings.upstreams[0].obey_retry_after = Some("300ms".parse().unwrap());
    let proxy = Proxy::start(&settings, &by_name());
    let mut client = proxy.connect().await;
    let began = Instant::now();
    ask(&mut client, "bob").await;
    while upstream.seen().matches("x-name: bob").count() < 2 {
        assert_eq!(ask(&mut client, "bob").await.0, 429);
        assert!(began.elapsed() < common::PATIENCE);
    }
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn nothing_of_that_is_done_unless_it_is_wished() {
    let upstream = refusing("429 Too Many Requests", "7").await;
    let proxy = Proxy::start(&settings(upstream.address), &by_name());
    let mut client = proxy.connect().await;
    for _ in 0..3 {
        assert_eq!(ask(&mut client, "bob").await, (429, Some(7)));
    }
    assert_eq!(upstream.seen().matches("x-name: bob").count(), 3);
    // Nor where the upstream does not say how long, or says nothing sound.
    for words in ["soon", "-1", "0", "Sat, 01 Jan 2000 00:00:00 GMT"] {
        let upstream = refusing("429 Too Many Requests", words).await;
        let mut settings = settings(upstream.address);
        settings.upstreams[0].obey_retry_after = Some("1h".parse().unwrap());
        let proxy = Proxy::start(&settings, &by_name());
        let mut client = proxy.connect().await;
        for _ in 0..2 {
            ask(&mut client, "bob").await;
        }
        assert_eq!(upstream.seen().matches("x-name: bob").count(), 2, "{words}");
    }
}
