//! Several upstreams, and whether they are well.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Client, Proxy, Upstream, open, settings};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};
use tidegate_proxy::{
    Settings,
    settings::{HealthSettings, UpstreamSettings},
};

/// An upstream that answers with its name.
async fn named(name: &'static str) -> Upstream {
    Upstream::new(move |mut exchange| async move {
        while exchange.request().await.is_some() {
            exchange.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len())).await;
        }
    })
    .await
}

fn to(upstream: &Upstream, hosts: &[&str], paths: &[&str]) -> UpstreamSettings {
    let mut settings = UpstreamSettings::new(format!("http://{}", upstream.address).parse().unwrap());
    settings.hosts = hosts.iter().map(ToString::to_string).collect();
    settings.paths = paths.iter().map(ToString::to_string).collect();
    settings
}

async fn ask(client: &mut Client, host: &str, path: &str) -> String {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    let answer = client.answer().await;
    if answer.status == 200 { answer.text().to_owned() } else { answer.status.to_string() }
}

#[tokio::test]
async fn hosts_come_before_paths_and_long_paths_before_short_ones() {
    let (any, api, jobs, host) =
        (named("any").await, named("api").await, named("jobs").await, named("host").await);
    let mut settings = settings(any.address);
    settings.upstreams = vec![
        to(&any, &[], &["/"]),
        to(&api, &[], &["/api", "/v1/"]),
        to(&jobs, &[], &["/api/jobs"]),
        to(&host, &["Host.example", "[::1]"], &["/only", "/api"]),
    ];
    let proxy = Proxy::start(&settings, &open());
    let mut client = proxy.connect().await;
    for (host, path, name) in [
        ("a", "/", "any"),
        ("a", "/api", "api"),
        ("a", "/api/", "api"),
        ("a", "/api?q=/api/jobs", "api"),
        ("a", "/apis", "any"),
        ("a", "/API", "any"),
        ("a", "/v1", "api"),
        ("a", "/v1/x", "api"),
        ("a", "/api/jobs/7", "jobs"),
        ("a", "/api/jobsx", "api"),
        ("host.example", "/api/jobs", "host"),
        ("HOST.example:81", "/only", "host"),
        ("[::1]", "/only", "host"),
        ("[::1]:81", "/only", "host"),
        ("host.example", "/other", "any"),
        ("x.host.example", "/only", "any"),
    ] {
        assert_eq!(ask(&mut client, host, path).await, name, "{host}{path}");
    }
    client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer().await.text(), "any");
}

#[tokio::test]
async fn what_no_upstream_is_for_is_a_404() {
    let upstream = named("a").await;
    let mut settings = settings(upstream.address);
    settings.upstreams = vec![to(&upstream, &["a"], &["/x"])];
    let proxy = Proxy::start(&settings, &open());
    let mut client = proxy.connect().await;
    for (host, path, name) in [("a", "/x", "a"), ("a", "/", "404"), ("b", "/x", "404"), ("a", "/xy", "404")] {
        assert_eq!(ask(&mut client, host, path).await, name, "{host}{path}");
    }
}

#[tokio::test]
async fn mistakes_are_told() {
    let upstream = named("a").await;
    type Change = fn(&mut Settings);
    let changes: [(&str, Change); 8] = [
        ("is for no path", |it| it.upstreams[0].paths.clear()),
        ("write it like /api", |it| it.upstreams[0].paths = vec!["api".to_owned()]),
        ("write it like /api", |it| it.upstreams[0].paths = vec!["/{x}".to_owned()]),
        ("without scheme", |it| it.upstreams[0].hosts = vec!["http://a".to_owned()]),
        ("without scheme", |it| it.upstreams[0].hosts = vec!["a:80".to_owned()]),
        ("leads to both", |it| it.upstreams.push(it.upstreams[0].clone())),
        ("leads to both", |it| it.upstreams[0].paths = vec!["/a".to_owned(), "/a/".to_owned()]),
        ("like /healthz", |it| it.upstreams[0].health = Some(health("healthz"))),
    ];
    for (words, change) in changes {
        let mut settings = settings(upstream.address);
        change(&mut settings);
        let error = tidegate_proxy::Server::start(&settings, &open().layer()).unwrap_err();
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
}

fn health(path: &str) -> HealthSettings {
    HealthSettings {
        path: path.to_owned(),
        interval: "10ms".parse().unwrap(),
        timeout: "2s".parse().unwrap(),
        failures: 2.try_into().unwrap(),
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_well_is_left_alone_until_it_is() {
    let is_well = Arc::new(AtomicBool::new(true));
    let well = is_well.clone();
    let upstream = Upstream::new(move |mut exchange| {
        let well = well.clone();
        async move {
            while let Some(request) = exchange.request().await {
                let is_asked = request.starts_with("GET /healthz HTTP/1.1\r\n");
                let status = if is_asked && !well.load(SeqCst) { "503 No" } else { "200 OK" };
                exchange.send(format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nok")).await;
            }
        }
    })
    .await;
    let mut settings = settings(upstream.address);
    settings.server.threads = Some(2.try_into().unwrap());
    settings.upstreams[0].health = Some(health("/healthz"));
    let proxy = Proxy::start(&settings, &open());
    let mut client = proxy.connect().await;
    assert_eq!(ask(&mut client, "a", "/").await, "ok");
    for (well, answer) in [(false, "503"), (true, "ok")] {
        is_well.store(well, SeqCst);
        while ask(&mut client, "a", "/").await != answer {}
        // On the other worker too.
        for _ in 0..10 {
            let mut other = proxy.connect().await;
            assert_eq!(ask(&mut other, "a", "/").await, answer);
        }
    }
}
