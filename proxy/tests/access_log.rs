//! The access log: a line for each request, whatever clients send, and ids that join it with other logs.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Client, Proxy, Upstream, eventually, limited, settings};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering::SeqCst},
};
use tidegate::{Limit, Limiter, Policy, Quota, Rule, Source};
use tidegate_proxy::{
    Settings,
    settings::{LogFormat, LogTarget},
};
use tokio::io::AsyncWriteExt;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A file of its own, which is removed in the end.
struct LogFile(PathBuf);

impl LogFile {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tidegate-access-{}-{}.log", std::process::id(), COUNT.fetch_add(1, SeqCst));
        Self(std::env::temp_dir().join(name))
    }

    fn settings(&self, upstream: &Upstream) -> Settings {
        let mut settings = settings(upstream.address);
        settings.log.access = Some(LogTarget::File(self.0.clone()));
        settings
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.0).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
            .collect()
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn a_line_says_what_was_asked_what_was_decided_and_how_long_it_took() {
    let upstream = Upstream::ok().await;
    let file = LogFile::new();
    let proxy = Proxy::start(&file.settings(&upstream), &limited("1/minute"));
    let mut client = proxy.connect().await;
    for status in [200, 429] {
        client
            .send("GET /a?b=c HTTP/1.1\r\nHost: example.com\r\nUser-Agent: me\r\nReferer: http://b/\r\n\r\n")
            .await;
        assert_eq!(client.answer().await.status, status);
    }
    drop(client);
    proxy.stop().await;
    let [allowed, refused] = &file.lines()[..] else { panic!("{}", file.text()) };
    for line in [allowed, refused] {
        for (member, value) in [
            ("client", "127.0.0.1"),
            ("method", "GET"),
            ("target", "/a?b=c"),
            ("protocol", "HTTP/1.1"),
            ("host", "example.com"),
            ("referer", "http://b/"),
            ("user_agent", "me"),
            ("rule", "client"),
        ] {
            assert_eq!(line[member], value, "{member}");
        }
        assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
        assert_eq!(line["id"].as_str().unwrap().len(), 32);
        assert!(line["whole"].as_bool().unwrap(), "{line}");
        assert!(line["decision_us"].as_u64().unwrap() <= line["total_us"].as_u64().unwrap(), "{line}");
    }
    assert_eq!(
        (&allowed["decision"], &allowed["status"], &allowed["bytes"]),
        (&"allowed".into(), &200.into(), &2.into())
    );
    assert!(allowed["upstream_us"].as_u64().unwrap() <= allowed["total_us"].as_u64().unwrap(), "{allowed}");
    assert_eq!((&refused["decision"], &refused["status"]), (&"refused".into(), &429.into()));
    assert!(refused["upstream_us"].is_null() && refused["bytes"].as_u64().unwrap() > 0, "{refused}");
    assert_ne!(allowed["id"], refused["id"]);
}

#[tokio::test]
async fn a_decision_says_whose_it_was() {
    let upstream = Upstream::ok().await;
    let file = LogFile::new();
    let quota = |text: &str| text.parse::<Quota>().unwrap();
    let policy = Policy::new()
        .rule(Rule::new("watched").route("/watched").limit(Limit::per_client("w", quota("1/hour"))).shadow())
        .rule(
            Rule::new("keys")
                .route("/keys")
                .identify(Source::bearer().or_refuse())
                .limit(Limit::per_client("k", quota("1/hour"))),
        )
        .rule(Rule::new("strict").route("/both").limit(Limit::per_client("s", quota("1/hour"))))
        .rule(Rule::new("loose").route("/both").limit(Limit::per_client("l", quota("9/hour"))));
    let proxy = Proxy::start(&file.settings(&upstream), &Limiter::new(policy).unwrap());
    let mut client = proxy.connect().await;
    for path in ["/free", "/watched", "/watched", "/keys", "/both", "/both"] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        client.answer().await;
    }
    drop(client);
    proxy.stop().await;
    let said: Vec<_> = file
        .lines()
        .iter()
        .map(|line| (line["decision"].clone(), line["rule"].clone(), line["status"].clone()))
        .collect();
    let expect =
        |decision: &str, rule: Option<&str>, status: u16| (decision.into(), rule.into(), status.into());
    assert_eq!(
        said,
        [
            expect("unlimited", None, 200),
            expect("allowed", Some("watched"), 200),
            expect("shadow_refused", Some("watched"), 200),
            expect("rejected", None, 401),
            expect("allowed", Some("strict"), 200),
            expect("refused", Some("strict"), 429),
        ]
    );
}

#[tokio::test]
async fn nothing_that_a_client_sends_forges_a_line() {
    let upstream = Upstream::ok().await;
    let file = LogFile::new();
    let mut settings = file.settings(&upstream);
    let hostile: [&[u8]; 7] = [
        b"\",\"status\":200,\"x\":\"",
        b"a\\",
        b"tab\there",
        b"\xff\xfe\x80invalid",
        "\u{202e}\u{2028}\u{85}\u{1f600}".as_bytes(),
        &[b'a'; 20_000],
        b"{}[]%0a%0d\\n",
    ];
    for format in [LogFormat::Json, LogFormat::Combined] {
        let _ = fs::remove_file(&file.0);
        settings.log.format = format;
        let proxy = Proxy::start(&settings, &common::open());
        for value in hostile {
            for request in [
                [b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: ", value, b"\r\n\r\n"].concat(),
                [b"GET / HTTP/1.1\r\nHost: a\r\nReferer: ", value, b"\r\n\r\n"].concat(),
                [b"GET /?", value, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat(),
            ] {
                let mut client = proxy.connect().await;
                client.send(request).await;
                client.answer().await;
            }
        }
        proxy.stop().await;
        let text = file.text();
        assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')), "{text:?}");
        assert!(text.lines().all(|line| line.len() < 4000));
        // What hyper does not take for a request is answered by hyper, and no request.
        assert!(text.lines().count() >= 14, "{text}");
        match format {
            LogFormat::Json => {
                for line in file.lines() {
                    assert_eq!(line["decision"], "unlimited", "{line}");
                    assert!(line["x"].is_null(), "{line}");
                }
            }
            LogFormat::Combined => {
                for line in text.lines() {
                    let quotes = line.replace("\\x22", "").matches('"').count();
                    assert_eq!(quotes, 8, "{line}");
                }
            }
        }
    }
}

#[tokio::test]
async fn credentials_are_not_written() {
    let upstream = Upstream::ok().await;
    let file = LogFile::new();
    let mut settings = file.settings(&upstream);
    settings.log.redact = vec!["mine".to_owned()];
    let rule = Rule::new("keys").limit(Limit::per_client("k", "9/hour".parse().unwrap()));
    let source = Source::api_key_query("tidekey").or(Source::address());
    let limiter = Limiter::new(Policy::new().identify(source).rule(rule)).unwrap();
    for format in [LogFormat::Json, LogFormat::Combined] {
        settings.log.format = format;
        let proxy = Proxy::start(&settings, &limiter);
        let mut client = proxy.connect().await;
        client
            .send(
                "GET /a?tidekey=hidden1&page=2&Mine=hidden2&access_token=hidden3 HTTP/1.1\r\nHost: a\r\n\
                 Referer: https://user@b/?code=hidden4&page=3\r\nAuthorization: Bearer hidden5\r\n\
                 X-API-Key: hidden6\r\nCookie: session=hidden7\r\n\r\n",
            )
            .await;
        assert_eq!(client.answer().await.status, 200);
        drop(client);
        proxy.stop().await;
    }
    let text = file.text();
    assert!(!text.contains("hidden"), "{text}");
    let target = "/a?tidekey=***&page=2&Mine=***&access_token=***";
    assert!(
        text.lines().count() == 2
            && text.lines().all(|line| line.contains(target) && line.contains("page=3")),
        "{text}"
    );
}

#[tokio::test]
async fn combined_lines_are_as_apache_writes_them() {
    let upstream = Upstream::ok().await;
    let file = LogFile::new();
    let mut settings = file.settings(&upstream);
    settings.log.format = LogFormat::Combined;
    settings.log.request_ids = Some(false);
    let proxy = Proxy::start(&settings, &limited("9/minute"));
    proxy.ask("GET /a HTTP/1.1\r\nHost: a\r\nUser-Agent: me\r\nConnection: close\r\n\r\n").await;
    proxy.stop().await;
    let text = file.text();
    let (head, rest) = text.split_once(" - - [").unwrap();
    assert_eq!(head, "127.0.0.1");
    let (time, rest) = rest.split_once("] ").unwrap();
    assert!(time.len() == 26 && time.ends_with(" +0000"), "{time}");
    let (line, times) = rest.split_once(" decision_us=").unwrap();
    assert_eq!(
        line,
        "\"GET /a HTTP/1.1\" 200 2 \"-\" \"me\" id=- whole=true decision=allowed rule=\"client\""
    );
    let names: Vec<_> = times.trim().split(' ').map(|part| part.split('=').next().unwrap()).collect();
    assert_eq!(names[1..], ["upstream_us", "total_us"]);
}

#[tokio::test]
async fn who_leaves_early_is_noted() {
    let upstream = Upstream::new(|mut exchange| async move {
        let request = exchange.request().await.unwrap_or_default();
        if request.contains("/half") {
            exchange.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
        }
        exchange.closed().await;
    })
    .await;
    let file = LogFile::new();
    let proxy = Proxy::start(&file.settings(&upstream), &common::open());
    let mut client = proxy.connect().await;
    client.send("GET /half HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.until("half").await;
    drop(client);
    eventually("the first is over", || Path::exists(&file.0) && file.text().contains("/half")).await;
    let mut client = proxy.connect().await;
    client.send(GET).await;
    eventually("the request runs", || upstream.seen().contains("GET / ")).await;
    drop(client);
    eventually("the second is over", || file.text().lines().count() == 2).await;
    proxy.stop().await;
    let [half, none] = &file.lines()[..] else { panic!("{}", file.text()) };
    assert_eq!((&half["status"], &half["bytes"], &half["whole"]), (&200.into(), &4.into(), &false.into()));
    assert_eq!((&none["status"], &none["bytes"], &none["whole"]), (&499.into(), &0.into(), &false.into()));
    assert!(none["upstream_us"].as_u64() > Some(0), "{none}");
}

#[tokio::test]
async fn a_file_that_was_moved_is_begun_anew() {
    let upstream = Upstream::ok().await;
    let file = LogFile::new();
    let proxy = Proxy::start(&file.settings(&upstream), &common::open());
    let mut client = proxy.connect().await;
    client.send(GET).await;
    client.answer().await;
    eventually("there is a line", || !file.text().is_empty()).await;
    let old = LogFile::new();
    fs::rename(&file.0, &old.0).unwrap();
    let began = std::time::Instant::now();
    while !Path::exists(&file.0) {
        client.send(GET).await;
        client.answer().await;
        assert!(began.elapsed() < common::PATIENCE);
    }
    drop(client);
    proxy.stop().await;
    assert!(!file.lines().is_empty() && !old.lines().is_empty());
}

#[tokio::test]
async fn ids_come_from_trusted_proxies_or_are_made() {
    let upstream = Upstream::ok().await;
    let file = LogFile::new();
    let mut settings = file.settings(&upstream);
    for (is_trusted, sent, is_kept) in [
        (false, "x-request-id: mine\r\n", false),
        (true, "x-request-id: mine\r\n", true),
        (true, "", false),
        (true, "x-request-id: mine\r\nx-request-id: too\r\n", false),
        (true, "x-request-id: mi\"ne\r\n", false),
    ] {
        settings.server.trusted_proxies =
            if is_trusted { vec!["127.0.0.0/8".parse().unwrap()] } else { Vec::new() };
        let seen = upstream.seen().len();
        let proxy = Proxy::start(&settings, &common::open());
        let mut client = proxy.connect().await;
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{sent}\r\n")).await;
        let answer = client.answer().await;
        let id = answer.field("x-request-id").unwrap();
        assert_eq!(id == "mine", is_kept, "{id}");
        assert!(is_kept || id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        let seen = upstream.seen()[seen..].to_owned();
        assert_eq!(seen.matches("x-request-id").count(), 1, "{seen}");
        assert!(seen.contains(&format!("x-request-id: {id}\r\n")), "{seen}");
        drop(client);
        proxy.stop().await;
        assert_eq!(file.lines().last().unwrap()["id"], id);
    }
}

#[tokio::test]
async fn requests_without_a_log_are_as_they_were() {
    let upstream = Upstream::ok().await;
    let proxy = Proxy::open(upstream.address);
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n\r\n").await;
    assert_eq!(client.answer().await.field("x-request-id"), None);
    assert!(upstream.seen().contains("x-request-id: mine\r\n"), "{}", upstream.seen());
}

#[tokio::test]
async fn a_client_behind_a_trusted_proxy_is_named() {
    let upstream = Upstream::ok().await;
    let file = LogFile::new();
    let mut settings = file.settings(&upstream);
    settings.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let proxies = tidegate::TrustedProxies::x_forwarded_for(["127.0.0.0/8"]);
    let limiter = Limiter::new(Policy::new().trust_proxies(proxies)).unwrap();
    let proxy = Proxy::start(&settings, &limiter);
    proxy
        .ask(
            "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.9, 192.0.2.1\r\nConnection: close\r\n\r\n",
        )
        .await;
    proxy.stop().await;
    assert_eq!(file.lines()[0]["client"], "192.0.2.1");
}

#[tokio::test]
async fn a_log_that_cannot_be_written_is_told_at_the_start() {
    let upstream = Upstream::ok().await;
    let mut settings = settings(upstream.address);
    settings.log.access = Some("/nowhere/at/all".parse().unwrap());
    let error = tidegate_proxy::Server::start(&settings, &common::open().layer()).unwrap_err();
    assert!(error.to_string().contains("cannot write the access log to /nowhere/at/all"), "{error}");
}

#[tokio::test]
async fn pipelined_requests_have_a_line_each() {
    let upstream = Upstream::ok().await;
    let file = LogFile::new();
    let proxy = Proxy::start(&file.settings(&upstream), &common::open());
    let mut client = Client::connect(proxy.address).await;
    client.stream.write_all(GET.repeat(50).as_bytes()).await.unwrap();
    for _ in 0..50 {
        client.answer().await;
    }
    drop(client);
    proxy.stop().await;
    assert_eq!(file.lines().len(), 50);
}
