//! The examples do what they say: each one is started as users start it, and driven over a real socket.
#![allow(clippy::unwrap_used, clippy::panic)]
#![cfg_attr(not(feature = "axum"), allow(dead_code, unused_imports))]

use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use std::{
    env,
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr},
    process::{Child, Command, Stdio},
};
use tokio_tungstenite::tungstenite::Message;

const ANN: [(&str, &str); 1] = [("x-api-key", "ann")];

/// A running example, which ends with it.
struct Example {
    process: Child,
    address: String,
}

impl Example {
    fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    fn start_with(name: &str, args: &[&str]) -> Self {
        Self::run(name, |example| example.args(args))
    }

    fn start_with_key(name: &str, key: &str) -> Self {
        Self::run(name, |example| example.env("ADMIN_API_KEY", key))
    }

    /// Cargo builds examples along with tests, as `examples/<name>` beside the `deps` that this test lies in.
    fn run(name: &str, set: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let test = env::current_exe().unwrap();
        let path = test.ancestors().nth(2).unwrap().join("examples").join(name);
        let mut example = Command::new(path.with_extension(env::consts::EXE_EXTENSION));
        let mut process = set(&mut example)
            .env("ADDR", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{path:?}: {error}; `cargo build --examples` makes it"));
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.split_once("127.0.0.1:").unwrap().1;
        let port = port.split_once('/').unwrap().0;
        Self { process, address: format!("127.0.0.1:{port}") }
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Caller::default(), "GET", path, headers, "").await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.send(Caller::default(), "POST", path, &[], body).await
    }

    async fn send(
        &self,
        caller: Caller,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
        let mut connector = HttpConnector::new();
        connector.set_local_address(caller.address);
        let client =
            Client::builder(TokioExecutor::new()).http2_only(caller.http2).build::<_, Full<Bytes>>(connector);
        let (head, body) = client.request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, body: String::from_utf8(body.into()).unwrap() }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[derive(Default)]
struct Caller {
    http2: bool,
    address: Option<IpAddr>,
}

impl Caller {
    /// At another address, where a host owns all of 127.0.0.0/8.
    fn elsewhere() -> Self {
        let address = cfg!(target_os = "linux").then_some(Ipv4Addr::new(127, 0, 0, 2).into());
        Self { address, ..Self::default() }
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers)).to_str().unwrap()
    }

    #[track_caller]
    fn is_ok(&self) {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
    }

    fn retry_after(&self) -> u32 {
        self.header("retry-after").parse().unwrap()
    }

    /// It is a 429 by that limit, which says when to come back.
    #[track_caller]
    fn is_refused_by(&self, limit: &str) {
        assert_eq!(self.status, StatusCode::TOO_MANY_REQUESTS, "{}", self.body);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert!((1..=30).contains(&self.retry_after()));
        assert!(self.body.contains(&format!("\"violated-policies\":[\"{limit}\"]")), "{}", self.body);
    }
}

#[tokio::test]
async fn quickstart() {
    let example = Example::start("quickstart");
    for left in (0..5).rev() {
        let answer = example.get("/", &[]).await;
        answer.is_ok();
        assert_eq!(answer.body, "hello\n");
        assert!(answer.header("ratelimit").starts_with(&format!("\"client\";r={left};")));
    }
    example.get("/", &[]).await.is_refused_by("client");
    let http2 = Caller { http2: true, ..Caller::default() };
    example.send(http2, "GET", "/", &[], "").await.is_refused_by("client");
    if cfg!(target_os = "linux") {
        example.send(Caller::elsewhere(), "GET", "/", &[], "").await.is_ok();
    }
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn api_keys() {
    let example = Example::start("api_keys");
    for _ in 0..5 {
        example.get("/", &ANN).await.is_ok();
    }
    example.get("/", &ANN).await.is_refused_by("client");
    example.get("/", &[]).await.is_ok();
    let missing = example.get("/reports", &[]).await;
    assert_eq!((missing.status, missing.header("www-authenticate")), (StatusCode::UNAUTHORIZED, "ApiKey"));
    // What is rejected counts for the address too.
    for i in 7..12 {
        example.get("/", &[("x-api-key", &format!("invented {i}"))]).await.is_ok();
    }
    example.get("/", &[("x-api-key", "one too many")]).await.is_refused_by("address");
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn per_route() {
    let example = Example::start("per_route");
    for i in 0..4 {
        example.get(&format!("/items/{i}"), &[]).await.is_ok();
    }
    example.get("/items/4", &[]).await.is_refused_by("route");
    for _ in 0..2 {
        example.post("/items", "").await.is_ok();
    }
    example.post("/items", "").await.is_refused_by("write");
    // What the refused one would have taken of its other limit is still there.
    example.get("/items", &[]).await.is_ok();
    for _ in 0..3 {
        example.get("/search", &[]).await.is_ok();
    }
    example.send(Caller::elsewhere(), "GET", "/search", &[], "").await.is_refused_by("search");
    for _ in 0..20 {
        let answer = example.get("/health", &[]).await;
        answer.is_ok();
        assert!(!answer.headers.contains_key("ratelimit"));
    }
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn behind_proxy() {
    let example = Example::start("behind_proxy");
    for i in 0..5 {
        let forwarded = format!("198.51.100.{i}, 203.0.113.7");
        example.get("/", &[("x-forwarded-for", &forwarded)]).await.is_ok();
    }
    example.get("/", &[("x-forwarded-for", "203.0.113.7")]).await.is_refused_by("client");
    example.get("/", &[("x-forwarded-for", "203.0.113.8")]).await.is_ok();
}

#[tokio::test]
async fn hyper_service() {
    let example = Example::start("hyper_service");
    for i in 0..6 {
        let caller = Caller { http2: i % 2 == 0, ..Caller::default() };
        let answer = example.send(caller, "GET", "/", &[], "").await;
        if i < 5 { answer.is_ok() } else { answer.is_refused_by("client") }
    }
    if cfg!(target_os = "linux") {
        example.send(Caller::elsewhere(), "GET", "/", &[], "").await.is_ok();
    }
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn login_failures() {
    let example = Example::start("login_failures");
    for _ in 0..7 {
        example.post("/login", "open sesame").await.is_ok();
    }
    for _ in 0..5 {
        assert_eq!(example.post("/login", "a guess").await.status, StatusCode::UNAUTHORIZED);
    }
    for password in ["a guess", "open sesame"] {
        example.post("/login", password).await.is_refused_by("failed logins");
    }
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn check_in_handler() {
    let example = Example::start("check_in_handler");
    for _ in 0..2 {
        example.post("/query", "{ user { name posts { title } } }").await.is_ok();
    }
    let refused = example.post("/query", "{ user { name posts { title } } }").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!((1..=2).contains(&refused.retry_after()));
    let never = example.post("/query", "a b c d e f g h i j k").await;
    assert_eq!(never.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(!never.headers.contains_key("retry-after"));

    let url = format!("ws://{}/chat", example.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    for answer in ["hello", "hello", "hello", "slow down"] {
        socket.send(Message::text("hello")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(answer));
    }
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn custom_refusal() {
    let example = Example::start("custom_refusal");
    for _ in 0..2 {
        example.get("/", &[]).await.is_ok();
    }
    for (accept, content_type, text) in [
        ("*/*", "application/json", "{\"error\":\"slow_down\",\"seconds\":SECS}\n"),
        ("text/html", "text/html", "<h1>Not so fast</h1><p>Come back in SECS s.</p>\n"),
    ] {
        let answer = example.get("/", &[("accept", accept)]).await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.header("content-type"), content_type);
        assert_eq!(answer.body, text.replace("SECS", answer.header("retry-after")));
        assert_eq!(answer.header("cache-control"), "no-store");
    }
}

/// As operators do, with and without a key.
#[cfg(all(feature = "admin", unix))]
#[test]
fn admin_by_script() {
    let script = |example: &Example, key: Option<&str>| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/admin.sh");
        let mut script = Command::new(path);
        script.arg(format!("http://{}", example.address)).envs(key.map(|key| ("ADMIN_API_KEY", key)));
        let output = script.output().unwrap();
        let told = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        (output.status.success(), told)
    };
    let open = Example::start_with("admin", &["--open-without-key-on-loopback"]);
    let (done, told) = script(&open, None);
    assert!(done && told.ends_with("all as expected\n"), "{told}");
    let closed = Example::start_with_key("admin", "a key");
    let (done, told) = script(&closed, Some("a key"));
    assert!(done, "{told}");
    let (done, told) = script(&closed, None);
    assert!(!done && told.contains("-> 401 "), "{told}");
}

/// Tasks are answered as the example says.
#[cfg(feature = "admin")]
#[tokio::test]
async fn admin() {
    let example = Example::start_with("admin", &["--open-without-key-on-loopback"]);
    let json = |answer: &Answer| serde_json::from_str::<serde_json::Value>(&answer.body).unwrap();
    for (id, tier) in [("service-a", "premium"), ("service-b", "basic"), ("service-c", "free")] {
        let body = format!(r#"{{ "client_id": "{id}", "tier": "{tier}", "enabled": true }}"#);
        let answer = example.post("/admin/clients/set", &body).await;
        answer.is_ok();
        assert_eq!(json(&answer)["tier"], tier);
    }
    let task = async |id: &str, more: &str| {
        let body = format!(
            r#"{{ "queue": "default", "client_id": "{id}", {more} "task": {{ "url": "https://a.example" }} }}"#
        );
        example.post("/v1/enqueue", &body).await
    };
    for _ in 0..10 {
        let answer = task("service-c", "").await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
        let (answer, limits) =
            (json(&answer), serde_json::json!({ "max_concurrent": 1, "requests_per_min": 10 }));
        assert_eq!((&answer["status"], &answer["rate_limit"]), (&"enqueued".into(), &limits));
        assert_eq!((&answer["client_id"], &answer["queue"]), (&"service-c".into(), &"default".into()));
        assert!(answer["task_id"].is_string());
    }
    let refused = task("service-c", "").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    let problem = json(&refused);
    assert_eq!(
        (&problem["error"], &problem["requests_per_min"]),
        (&"Rate limit exceeded".into(), &10.into())
    );
    assert_eq!(task("new-one", "").await.status, StatusCode::CREATED, "created on its first task");
    for body in ["{", r#"{ "client_id": 7 }"#, r#"{ "client_id": ["service-a"] }"#] {
        assert_eq!(example.post("/v1/enqueue", body).await.status, StatusCode::BAD_REQUEST, "{body}");
    }
    let legacy = example.post("/v1/enqueue", "{}").await;
    assert_eq!(json(&legacy)["client_id"], "legacy-default");
    assert_eq!(json(&example.get("/admin/clients", &[]).await)["count"], 5);
    let own = json(&example.get("/v1/rate-limit", &[("x-client-id", "service-c")]).await);
    assert_eq!((&own["client_id"], &own["remaining"]), (&"service-c".into(), &0.into()));
    let gone =
        example.send(Caller::default(), "DELETE", "/admin/clients/delete?client_id=service-c", &[], "").await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert_eq!(
        example.get("/admin/clients/get?client_id=service-c", &[]).await.status,
        StatusCode::NOT_FOUND
    );
}

/// It serves nothing, so it is run to its end. Times are at least what the quotas ask for; how much longer is the machine's.
#[cfg(feature = "pace")]
#[test]
fn pace() {
    let test = env::current_exe().unwrap();
    let path =
        test.ancestors().nth(2).unwrap().join("examples/pace").with_extension(env::consts::EXE_EXTENSION);
    let output = Command::new(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    let millis = |line: &str| line.split(' ').rev().nth(1).unwrap().parse::<u64>().unwrap();
    // The last of six goes after five times 50 ms; 1,000 others would have taken 5 s alone.
    assert!((250..2_500).contains(&millis(lines[0])), "{text}");
    assert!(
        lines[1].starts_with("reject: 429 Too Many Requests it may not go now: records (100/second);"),
        "{text}"
    );
    assert_eq!(lines[2], "divert: spilled");
    assert!((150..4_000).contains(&millis(lines[3])), "{text}");
}

#[cfg(feature = "pace")]
#[test]
fn polite_client() {
    let test = env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples/polite_client");
    let output = Command::new(path.with_extension(env::consts::EXE_EXTENSION)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, seconds) = text.split_once("in the seconds [").unwrap_or_else(|| panic!("{text}"));
    let seconds = seconds.trim_end().trim_end_matches(']');
    let late = seconds.split(", ").filter(|second| !second.is_empty() && second.parse::<u64>().unwrap() >= 2);
    assert_eq!(late.count(), 0, "{text}");
}
