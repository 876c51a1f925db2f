//! The files in `examples/config` do what their comments say.

use crate::{
    common::{App, from, get, line, with},
    stage::{example, format, limiter, service},
};
use futures_util::FutureExt;
use http::Request;
use std::time::Duration;
use tidegate::{ClientPatch, Limiter, PaceError};

const SECOND: Duration = Duration::from_secs(1);

fn post(path: &str) -> Request<()> {
    from("192.0.2.1", "POST", path)
}

#[tokio::test]
async fn asgi_holds_each_client_behind_the_proxy_and_bans_floods() {
    let config = example("asgi");
    let (limiter, clock) = limiter(&config);
    let service = service(&limiter);
    let client =
        |n: u8| move || with(from("10.1.2.3", "GET", "/"), "x-forwarded-for", &format!("198.51.100.{n}"));
    assert_eq!(service.admits(100, client(1)).await, 40);
    clock.advance(SECOND);
    assert_eq!(service.admits(100, client(1)).await, 20);
    assert_eq!(service.admits(30, client(2)).await, 30);
    assert!(limiter.capacity() >= 200_000);
    // 60 and 80 were refused; 500 in half a minute are a ban, on routes that are not counted too.
    service.admits(400, client(1)).await;
    let health =
        |n: u8| with(from("10.1.2.3", "GET", "/healthz"), "x-forwarded-for", &format!("198.51.100.{n}"));
    assert_eq!(service.status(health(1)).await, 403);
    assert_eq!(service.admits(1_000, || health(3)).await, 1_000);
    clock.advance(600 * SECOND);
    assert_eq!(service.status(health(1)).await, 200);
}

#[tokio::test]
async fn dispatcher_grants_what_tiers_and_records_say() {
    let config = example("dispatcher");
    let (limiter, _) = limiter(&config);
    let clients = limiter.clients().unwrap().clone();
    clients.set("service-a", ClientPatch::new().tier("premium")).await.unwrap();
    clients.set("service-b", ClientPatch::new().tier("enterprise")).await.unwrap();
    clients.set("service-c", ClientPatch::new().tier("free").allowed_queues(["mail"])).await.unwrap();
    let service = service(&limiter);
    let mut peer = 0;
    let mut of = |id: &'static str| {
        peer += 1;
        let peer = format!("192.0.2.{peer}");
        move || with(from(&peer, "POST", "/enqueue"), "x-client-id", id)
    };
    assert_eq!(service.admits(1_100, of("service-a")).await, 1_000);
    // Unknown clients are created in the tier default, and those without an id are the fallback client.
    assert_eq!(service.admits(60, of("newcomer")).await, 50);
    assert_eq!(service.admits(60, || post("/enqueue")).await, 50);
    // Queues are restricted by the client's record.
    let mail = with(of("service-c")(), "x-queue", "mail");
    assert_eq!(service.status(mail).await, 200);
    assert_eq!(service.status(with(of("service-c")(), "x-queue", "video")).await, 403);
    // Overrides are for enterprise, up to a bound.
    let override_by = |value| with(of("service-b")(), "x-rate-limit", value);
    let mut override_by = override_by;
    assert_eq!(service.status(override_by("requests_per_min=9000")).await, 200);
    assert_eq!(service.status(override_by("requests_per_min=20000")).await, 400);
    assert_eq!(service.status(with(of("service-a")(), "x-rate-limit", "requests_per_min=9")).await, 403);
    // Whoever invents ids is slowed down by its address.
    let guess = || with(from("192.0.2.99", "POST", "/enqueue"), "x-client-id", "??");
    let mut statuses = Vec::new();
    for _ in 0..1_201 {
        statuses.push(service.status(guess()).await);
    }
    assert_eq!((statuses[0], statuses[1_200]), (400, 429));
    assert!(config.admin(&limiter).unwrap().is_some());
    assert_eq!(config.admin_address().unwrap().port(), 9090);
}

#[tokio::test]
async fn dispatcher_bounds_tasks_at_once() {
    let config = example("dispatcher");
    let (limiter, _) = limiter(&config);
    let service = service(&limiter);
    let newcomer = || with(post("/enqueue"), "x-client-id", "newcomer");
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(service.send(newcomer()).await);
    }
    assert!(running.iter().all(|answer| answer.status() == 200));
    assert_eq!(service.status(newcomer()).await, 429);
    running.pop();
    assert_eq!(service.status(newcomer()).await, 200);
}

#[tokio::test(start_paused = true)]
async fn enqueue_paces_services_and_slows_down_with_the_backlog() {
    let config = example("enqueue");
    let (limiter, _) = limiter(&config);
    let services = config.pacer(&limiter, "services").unwrap();
    // A burst at once, then 50 a second.
    for _ in 0..50 {
        services.try_take("mailer", 1).now_or_never().unwrap().unwrap();
    }
    let error = services.try_take("mailer", 1).now_or_never().unwrap().unwrap_err();
    assert!(error.retry_after().is_some(), "the workers' burst is spent");
    assert_eq!(services.factor(), 1.0);
    services.signal("backlog", 5_000.0).unwrap();
    assert_eq!(services.factor(), 0.5);
    services.signal("backlog", 50_000.0).unwrap();
    assert_eq!(services.factor(), 0.05);
    let types = config.pacer(&limiter, "types").unwrap();
    for key in ["report", "mail"] {
        types.until_ready(key, 1).await.unwrap();
    }
    let rejected = types.until_ready("report", 1).now_or_never().unwrap().unwrap_err();
    assert!(matches!(rejected, PaceError::Limited(_)), "{rejected:?}");
    assert!(config.pacer(&limiter, "type").unwrap_err().to_string().contains("types"));
}

#[tokio::test(start_paused = true)]
async fn kafka_paces_records_and_bytes_and_follows_the_brokers() {
    let config = example("kafka");
    let (limiter, _) = limiter(&config);
    let producer = config.pacer(&limiter, "producer").unwrap();
    assert_eq!(producer.factor(), 0.1);
    producer.signal("broker_ms", 350.0).unwrap();
    assert_eq!(producer.factor(), 0.05);
    producer.until_ready("orders", [("records", 100), ("kibibytes", 64)]).await.unwrap();
    let wrong = producer.until_ready("orders", [("bytes", 1)]).await.unwrap_err();
    assert!(matches!(wrong, PaceError::UnknownLimit { .. }), "{wrong:?}");
    let consumer = config.pacer(&limiter, "consumer").unwrap();
    assert_eq!(consumer.factor(), 1.0);
    consumer.signal("rebalances", 3.0).unwrap();
    assert_eq!(consumer.factor(), 0.25);
}

/// How many of 1,000 such requests pass at once in front of Ray.
async fn at_once(limiter: &Limiter, method: &str, path: &str) -> usize {
    let service = service(limiter);
    service.admits(1_000, || from("192.0.2.1", method, path)).await
}

#[tokio::test]
async fn ray_has_a_rule_for_each_group() {
    for (method, path, passes) in [
        ("POST", "/api/jobs/", 5),
        ("PUT", "/api/packages/gcs/pkg.zip", 10),
        ("GET", "/api/jobs/job-1", 30),
        ("GET", "/api/jobs/", 30),
        ("POST", "/api/jobs/job-1/stop", 20),
        ("GET", "/api/v0/actors", 10),
        ("GET", "/api/v0/tasks/summarize", 10),
        ("GET", "/api/jobs/job-1/logs", 10),
        ("GET", "/api/jobs/job-1/logs/tail", 10),
        ("GET", "/logical/actors", 200),
        ("GET", "/api/serve/applications/", 10),
        ("POST", "/ray.rpc.RayletDriver/KVGet", 500),
        ("GET", "/unknown", 1_000),
    ] {
        let config = example("ray");
        let (limiter, _) = limiter(&config);
        assert_eq!(at_once(&limiter, method, path).await, passes, "{method} {path}");
    }
}

#[tokio::test]
async fn ray_counts_packages_by_size_logs_by_bytes_and_streams_at_once() {
    let config = example("ray");
    let (limiter, clock) = limiter(&config);
    let service = service(&limiter);
    let upload = |mib: u64| {
        let request = from("192.0.2.1", "PUT", "/api/packages/gcs/pkg.zip");
        with(request, "content-length", Box::leak((mib << 20).to_string().into_boxed_str()))
    };
    assert_eq!(service.status(upload(1_000)).await, 200);
    let refused = service.send(upload(100)).await;
    assert_eq!(refused.status(), 429);
    assert!(line(&refused, "ratelimit").unwrap().contains("\"package MiB\""));
    clock.advance(Duration::from_secs(400));
    assert_eq!(service.status(upload(100)).await, 200);
    // A job that is stopped is none that is submitted, and an app is told by its host.
    let tail = || get("/api/jobs/job-1/logs/tail");
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(service.send(tail()).await);
    }
    assert_eq!(service.status(tail()).await, 429);
    streams.clear();
    assert_eq!(service.status(tail()).await, 200);
    let app = || with(get("/predict"), "host", "App.Example.com:8000");
    assert_eq!(service.admits(200, app).await, 100);
    assert_eq!(service.admits(200, || with(get("/predict"), "host", "other.example.com")).await, 200);
}

#[test]
fn examples_take_their_variables() {
    let path = format!("{}/examples/config/ray.toml", env!("CARGO_MANIFEST_DIR"));
    let format = format().variables([("APP_HOST", "*.example.org"), ("TIDEGATE_RULE__JOBS__SHADOW", "true")]);
    let policy = format!("{:?}", format.read(path).unwrap().policy());
    assert!(policy.contains("shadow: true"));
}
