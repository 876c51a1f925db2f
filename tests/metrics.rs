//! What happens, in numbers, as the exporter for Prometheus shows them.
#![allow(clippy::unwrap_used, clippy::panic)]

use http::{Method, Request, Response};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::{convert::Infallible, future::ready, time::Duration};
use tidegate::{
    Aimd, Ban, Batch, BatchPlan, Batches, Breaker, Charge, ClientPatch, Clients, Concurrency, Feedback,
    Identity, InFlight, Joining, Limit, Limiter, ManualClock, MemoryRegistry, Mistake, Outcome, PaceLayer,
    Pacer, Policy, Quota, Retry, Rule, Source, Store, StoreChange, StoreDown, StoreError, StoreFuture,
    UnknownClients,
};
use tower::{Layer, ServiceExt, retry::RetryLayer, service_fn};

/// Runs a scene by a recorder of its own, on paused time, and answers with what the exporter shows then.
fn shown<F: Future<Output = ()>>(scene: impl FnOnce() -> F) -> String {
    let recorder = PrometheusBuilder::new().set_buckets(&[0.01, 1.0, 100.0]).unwrap().build_recorder();
    let handle: PrometheusHandle = recorder.handle();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    metrics::with_local_recorder(&recorder, || runtime.block_on(scene()));
    handle.render()
}

/// The number of a line, by all that stands before it.
fn number(shown: &str, line: &str) -> f64 {
    let found = shown.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("{line} is not in\n{shown}")).parse().unwrap()
}

fn ask(name: &str) -> Request<()> {
    Request::builder().uri("/").header("client", name).body(()).unwrap()
}

async fn requests(limiter: &Limiter, name: &str, times: usize) {
    let service = limiter.layer().layer(service_fn(|_: Request<()>| ready(Ok::<_, Infallible>(empty()))));
    for _ in 0..times {
        service.clone().oneshot(ask(name)).await.unwrap();
    }
}

fn empty() -> Response<http_body_util::Empty<bytes::Bytes>> {
    Response::default()
}

/// Rules by header: three a minute, a watched one of one a minute, and another one that has no client.
async fn requests_of_all_sorts() {
    let rule = |name: &str, limit| Rule::new(name).limit(Limit::per_client(name, Quota::per_minute(limit)));
    let policy = Policy::new()
        .identify(Source::header("client").or_refuse())
        .rule(rule("three", 3))
        .rule(rule("watched", 1).shadow())
        .rule(Rule::new("runs").concurrency(Concurrency::per_client("runs", 1)))
        .ban(Ban::after(3, Duration::from_secs(60)));
    let limiter = Limiter::builder(policy).clock(ManualClock::new()).build().unwrap();
    requests(&limiter, "zoe", 3).await;
    requests(&limiter, "zoe", 4).await;
    requests(&limiter, "bob", 1).await;
    let service = limiter.layer().layer(service_fn(|_: Request<()>| ready(Ok::<_, Infallible>(empty()))));
    service.oneshot(Request::new(())).await.unwrap();
    limiter.set_gauges("front");
}

#[test]
fn decisions_are_counted_by_rule_and_outcome() {
    let shown = shown(requests_of_all_sorts);
    for (line, count) in [
        ("tidegate_decisions_total{rule=\"three\",outcome=\"allowed\"}", 4.0),
        ("tidegate_decisions_total{rule=\"three\",outcome=\"refused\"}", 3.0),
        ("tidegate_decisions_total{rule=\"watched\",outcome=\"allowed\"}", 2.0),
        ("tidegate_decisions_total{rule=\"runs\",outcome=\"allowed\"}", 4.0),
        ("tidegate_rejected_total", 1.0),
        ("tidegate_bans_total", 1.0),
        ("tidegate_blocked_total", 1.0),
        ("tidegate_tracked{limiter=\"front\"}", 4.0),
        ("tidegate_evicted_total{limiter=\"front\"}", 0.0),
        ("tidegate_in_flight{limiter=\"front\"}", 0.0),
    ] {
        assert_eq!(number(&shown, line), count, "{line}\n{shown}");
    }
    assert!(!shown.contains("tidegate_send"), "nothing is sent");
}

#[test]
fn one_decision_in_16_is_timed() {
    let shown = shown(|| async {
        let policy = Policy::per_client(Quota::per_minute(3)).identify(Source::header("client"));
        let limiter = Limiter::builder(policy).clock(moving()).build().unwrap();
        requests(&limiter, "zoe", 160).await;
    });
    assert_eq!(number(&shown, "tidegate_decision_seconds_count"), 10.0);
    // A policy's only rule goes a way of its own, where it allows.
    let said = |outcome: &str| format!("tidegate_decisions_total{{rule=\"client\",outcome=\"{outcome}\"}}");
    assert_eq!([number(&shown, &said("allowed")), number(&shown, &said("refused"))], [3.0, 157.0]);
}

/// Fails each charge, and tells as much.
struct Down;

impl Store for Down {
    fn charge(&self, _: Vec<Charge>) -> StoreFuture {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Err(StoreError::of("late", "no answer"))
        })
    }

    fn settle(&self, _: Vec<Charge>) {}

    fn join(&self, joining: Joining) -> Result<(), Mistake> {
        joining.tell(StoreChange::Joined { instances: 3 });
        joining.tell(StoreChange::Opened { error: "no answer" });
        Ok(())
    }
}

async fn a_store_that_is_down() {
    for store_down in [StoreDown::Deny, StoreDown::Allow] {
        let limit = Limit::per_client("all", Quota::per_minute(3)).store_down(store_down);
        let policy = Policy::new().identify(Source::header("client")).rule(Rule::new("all").limit(limit));
        let limiter = Limiter::builder(policy).store(Down).clock(moving()).build().unwrap();
        requests(&limiter, "zoe", 2).await;
    }
}

#[test]
fn errors_of_stores_are_counted_by_kind() {
    let shown = shown(a_store_that_is_down);
    for (line, count) in [
        ("tidegate_store_errors_total{kind=\"late\"}", 4.0),
        ("tidegate_without_store_total", 2.0),
        ("tidegate_store_open", 1.0),
        ("tidegate_store_instances", 3.0),
        ("tidegate_decisions_total{rule=\"all\",outcome=\"allowed\"}", 2.0),
        ("tidegate_decision_seconds_count", 4.0),
    ] {
        assert_eq!(number(&shown, line), count, "{line}\n{shown}");
    }
    let took = number(&shown, "tidegate_decision_seconds_sum");
    assert!((0.196..=0.204).contains(&took), "each waits 50 ms: {took}");
}

async fn newcomers() {
    let clients = Clients::new(MemoryRegistry::new()).unknown(UnknownClients::create());
    clients.set("zoe", ClientPatch::new()).await.unwrap();
    let limit = Limit::per_client("all", Quota::per_minute(3));
    let policy =
        Policy::new().identify(Source::header("client").registered()).rule(Rule::new("all").limit(limit));
    let limiter = Limiter::builder(policy).clients(clients).build().unwrap();
    requests(&limiter, "zoe", 1).await;
    requests(&limiter, "bob", 1).await;
}

/// A clock that moves along with tokio's.
fn moving() -> ManualClock {
    let clock = ManualClock::new();
    let moved = clock.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            moved.advance(Duration::from_millis(1));
        }
    });
    clock
}

/// Five sends at ten a second, and all that can happen to what is sent.
async fn sends_of_all_sorts() {
    let millis = Duration::from_millis;
    let rule = |name: &str| Rule::new(name).by_hand().limit(Limit::shared(name, Quota::per_second(10)));
    let policy = Policy::new().rule(rule("orders")).rule(rule("batches"));
    let limiter = Limiter::builder(policy).clock(moving()).build().unwrap();
    let feedback = Feedback::new()
        .adapt(Aimd::new().start(1.0).slow_after(millis(100)))
        .breaker(Breaker::new().budget(2).stay_open(millis(100), millis(100)))
        .in_flight(InFlight::new());
    let paced = Pacer::on(&limiter, "orders").unwrap();
    for _ in 0..5 {
        paced.until_ready("zoe", 1).await.unwrap();
    }
    paced.try_take("zoe", 1).await.unwrap_err();
    paced.try_take("zoe", 1).await.unwrap_err();
    paced.try_take("zoe", 11).await.unwrap_err();
    let watching = paced.clone().shadow();
    watching.until_ready("zoe", 1).await.unwrap();
    watching.until_ready("zoe", 11).await.unwrap();
    let layer = PaceLayer::new(paced.clone(), |_: &()| Identity::name("zoe")).reject();
    let diverting =
        layer.divert(|(), _| ready(Ok(()))).layer(service_fn(|()| ready(Ok::<_, Infallible>(()))));
    diverting.oneshot(()).await.unwrap();

    let listening = paced.feedback(feedback).unwrap();
    listening.report(&Outcome::done().took(millis(5)));
    listening.report(&Outcome::refused().pause(millis(10)));
    listening.report(&Outcome::failed("timeout"));
    listening.report(&Outcome::failed("timeout"));
    listening.set_gauges();
    let batches = Batches::new(
        Pacer::on(&limiter, "batches").unwrap(),
        BatchPlan::new(2, millis(5)),
        |_: Batch<u8>| ready(()),
    );
    for item in 0..3 {
        batches.push("zoe", item, 100).await.unwrap();
    }
    assert_eq!(batches.close(Duration::from_secs(5)).await, 0);

    let refuse = service_fn(|_: Request<()>| {
        ready(Ok::<_, Infallible>(Response::builder().status(429).body(()).unwrap()))
    });
    let request = Request::builder().method(Method::GET).body(()).unwrap();
    RetryLayer::new(Retry::<Infallible>::new()).layer(refuse).oneshot(request).await.unwrap();
}

#[test]
fn sends_are_counted_by_pacer() {
    let shown = shown(sends_of_all_sorts);
    for (line, count) in [
        ("tidegate_send_attempts_total{pacer=\"orders\"}", 11.0),
        ("tidegate_sent_total{pacer=\"orders\"}", 7.0),
        ("tidegate_send_rejected_total{pacer=\"orders\",reason=\"limited\"}", 3.0),
        ("tidegate_send_rejected_total{pacer=\"orders\",reason=\"too_large\"}", 1.0),
        ("tidegate_send_waited_seconds_count{pacer=\"orders\"}", 4.0),
        ("tidegate_send_waited_seconds_bucket{pacer=\"orders\",le=\"0.01\"}", 0.0),
        ("tidegate_send_watched_total{pacer=\"orders\",outcome=\"would_wait\"}", 1.0),
        ("tidegate_send_watched_total{pacer=\"orders\",outcome=\"would_be_rejected\"}", 1.0),
        ("tidegate_send_diverted_total{pacer=\"orders\"}", 1.0),
        ("tidegate_send_errors_total{pacer=\"orders\",error=\"timeout\"}", 2.0),
        ("tidegate_send_refused_total{pacer=\"orders\"}", 1.0),
        ("tidegate_send_seconds_sum{pacer=\"orders\"}", 0.005),
        ("tidegate_pauses_total{pacer=\"orders\"}", 1.0),
        ("tidegate_send_open{pacer=\"orders\"}", 1.0),
        ("tidegate_send_in_flight_limit{pacer=\"orders\"}", 10.0),
        ("tidegate_send_waiting{pacer=\"orders\"}", 0.0),
        ("tidegate_factor{pacer=\"orders\"}", 1.0),
        ("tidegate_batch_items_sum{pacer=\"batches\"}", 3.0),
        ("tidegate_batch_bytes_sum{pacer=\"batches\"}", 300.0),
        ("tidegate_retries_total", 2.0),
        ("tidegate_backoff_seconds_count", 2.0),
        ("tidegate_given_up_total{reason=\"no tries are left\"}", 1.0),
    ] {
        assert_eq!(number(&shown, line), count, "{line}\n{shown}");
    }
}

/// No metric is in the docs alone, none is missing there, and no client is in any label.
#[test]
fn each_metric_in_the_docs_is_shown_and_no_other() {
    let all = || async {
        requests_of_all_sorts().await;
        a_store_that_is_down().await;
        newcomers().await;
        sends_of_all_sorts().await;
    };
    let shown = shown(all);
    let types = shown.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut types: Vec<String> = types.map(|line| line.replace(' ', " | ")).collect();
    let rows = include_str!("../docs/metrics.md").lines().filter_map(|line| line.strip_prefix("| `"));
    let mut rows: Vec<String> =
        rows.map(|row| row.split(" | ").take(2).collect::<Vec<_>>().join(" | ").replace('`', "")).collect();
    types.sort();
    rows.sort();
    assert_eq!(types, rows);
    assert!(!shown.contains("zoe") && !shown.contains("bob"), "{shown}");
}
