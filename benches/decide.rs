//! What a decision costs, for users of criterion. `scripts/bench decide` measures the same beside the peers.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use criterion::{Criterion, criterion_group, criterion_main};
use http::{Request, Response};
use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    net::IpAddr,
    pin::pin,
    task::{Context, Poll, Waker},
};
use tidegate::{HeaderStyle, Identity, Limit, Limiter, PeerAddr, Policy, Quota, Rule, ThrottleLayer};
use tower::{Service, layer::Layer, service_fn};

/// A burst that no run uses up.
const ALWAYS: Quota = Quota::per_second(1_000).burst(u32::MAX as u64);
const ONCE: Quota = Quota::per_day(1);

fn limiter(quotas: &[Quota]) -> Limiter {
    let names = ["client", "second"];
    let limits = names.iter().zip(quotas).map(|(name, quota)| Limit::per_client(*name, *quota));
    let rule = limits.fold(Rule::new("client"), Rule::limit);
    Limiter::new(Policy::new().rule(rule)).expect("a policy without mistakes")
}

fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("in memory nothing waits"),
    }
}

fn request() -> Request<http_body_util::Empty<bytes::Bytes>> {
    let mut request = Request::default();
    request.extensions_mut().insert(PeerAddr(([192, 0, 2, 7], 40_000).into()));
    request
}

fn inner<B>(_: Request<B>) -> Ready<Result<Response<http_body_util::Empty<bytes::Bytes>>, Infallible>> {
    ready(Ok(Response::default()))
}

/// A request is built and dropped each time, as in the bare service, which is what to compare with.
fn layer(criterion: &mut Criterion, name: &str, layer: &ThrottleLayer) {
    let mut service = layer.layer(service_fn(inner));
    criterion.bench_function(name, |bencher| bencher.iter(|| now(service.call(request()))));
}

fn decide(criterion: &mut Criterion) {
    let mut bare = service_fn(inner);
    criterion.bench_function("bare service", |bencher| bencher.iter(|| now(bare.call(request()))));
    layer(criterion, "allowed", &limiter(&[ALWAYS]).layer().headers(HeaderStyle::Off));
    layer(criterion, "allowed, headers", &limiter(&[ALWAYS]).layer());
    layer(criterion, "two limits", &limiter(&[ALWAYS; 2]).layer().headers(HeaderStyle::Off));
    layer(criterion, "two limits, headers", &limiter(&[ALWAYS; 2]).layer());
    layer(criterion, "refused", &limiter(&[ONCE]).layer());
    let limiter = limiter(&[ALWAYS]);
    let client = limiter.client(&Identity::address(IpAddr::from([192, 0, 2, 7])));
    criterion.bench_function("client's charge", |bencher| {
        bencher.iter(|| black_box(now(client.charge("client").into_future())));
    });
}

criterion_group!(benches, decide);
criterion_main!(benches);
