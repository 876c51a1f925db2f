//! The same policy answers alike in the layer, in the proxy and by hand.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::{Proxy, Upstream, settings};
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body, Frame};
use proptest::prelude::*;
use std::{
    convert::Infallible,
    future::{IntoFuture, ready},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tidegate::{
    Limit, Limiter, ManualClock, PeerAddr, Policy, Quota, RequestHead, Rule, Source, ThrottleLayer,
};
use tower_layer::Layer;
use tower_service::Service;

/// A rule about routes that no other rule is about, so that it is charged alone, as by hand.
#[derive(Debug, Clone)]
struct Said {
    methods: Vec<Method>,
    shadow: bool,
    limits: Vec<(u8, Quota, u32)>,
}

#[derive(Debug, Clone)]
struct Asked {
    rule: usize,
    route: usize,
    method: Method,
    tenant: Option<u8>,
    later: u64,
}

/// The routes of a rule: as the policy has them, and as requests do.
const ROUTES: [(&str, &str); 3] = [("", ""), ("/a/{id}", "/a/7"), ("/b/{*rest}", "//b/./x/y?q=1")];

fn method() -> impl Strategy<Value = Method> {
    prop_oneof![Just(Method::GET), Just(Method::POST), Just(Method::DELETE)]
}

fn said() -> impl Strategy<Value = Said> {
    let quota = (3..9u64, 1..40u64, 3..9u64)
        .prop_map(|(amount, seconds, burst)| Quota::per(amount, Duration::from_secs(seconds)).burst(burst));
    let limits = prop::collection::vec((0..3u8, quota, 0..4u32), 0..4);
    (prop::collection::vec(method(), 0..3), any::<bool>(), limits)
        .prop_map(|(methods, shadow, limits)| Said { methods, shadow: shadow && limits.len() > 2, limits })
}

fn asked() -> impl Strategy<Value = Asked> {
    let later = prop_oneof![3 => Just(0), 1 => 0..9_000u64];
    (0..4usize, 0..ROUTES.len(), method(), prop::option::of(0..3u8), later)
        .prop_map(|(rule, route, method, tenant, later)| Asked { rule, route, method, tenant, later })
}

fn policy(rules: &[Said]) -> Policy {
    let mut policy = Policy::new().identify(Source::header("x-tenant").or(Source::address()));
    for (number, said) in rules.iter().enumerate() {
        let mut rule = Rule::new(format!("rule {number}"));
        rule = ROUTES.iter().map(|(route, _)| format!("/{number}{route}")).fold(rule, Rule::route);
        rule = said.methods.iter().cloned().fold(rule, Rule::method);
        for (place, (per, quota, cost)) in said.limits.iter().enumerate() {
            let name = format!("limit {number}.{place}");
            let limit = match per {
                0 => Limit::per_client(name, *quota),
                1 => Limit::per_client_and_route(name, *quota),
                _ => Limit::shared(name, *quota),
            };
            rule = rule.limit(limit.cost(*cost));
        }
        policy = policy.rule(if said.shadow { rule.shadow() } else { rule });
    }
    policy
}

/// What a client learns.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    fields: Vec<Option<String>>,
}

const FIELDS: [&str; 6] =
    ["ratelimit", "ratelimit-policy", "retry-after", "content-type", "cache-control", "content-length"];

struct Stage {
    clock: ManualClock,
    limiter: Limiter,
}

impl Stage {
    fn new(rules: &[Said]) -> Self {
        let clock = ManualClock::new();
        let limiter = Limiter::builder(policy(rules)).clock(clock.clone()).build().unwrap();
        Self { clock, limiter }
    }
}

impl Asked {
    fn target(&self) -> String {
        format!("/{}{}", self.rule, ROUTES[self.route].1)
    }

    fn request(&self) -> Request<()> {
        let mut request = Request::builder().method(&self.method).uri(self.target());
        if let Some(tenant) = self.tenant {
            request = request.header("x-tenant", format!("tenant-{tenant}"));
        }
        request.extension(PeerAddr(([127, 0, 0, 1], 9).into())).body(()).unwrap()
    }

    async fn by_layer(&self, layer: &ThrottleLayer) -> Answer {
        let mut service = layer.layer(Ok200);
        let response = service.call(self.request()).await.unwrap();
        let mut fields = fields(response.headers());
        if response.status() == 429 {
            // The layer leaves that to whoever sends the body.
            fields[5] = response.body().size_hint().exact().map(|length| length.to_string());
        }
        Answer { status: response.status().as_u16(), fields }
    }

    async fn by_proxy(&self, client: &mut common::Client) -> Answer {
        let tenant = self.tenant.map(|tenant| format!("X-Tenant: tenant-{tenant}\r\n")).unwrap_or_default();
        client.send(format!("{} {} HTTP/1.1\r\nHost: a\r\n{tenant}\r\n", self.method, self.target())).await;
        let answer = client.answer().await;
        let fields = FIELDS.iter().map(|name| answer.field(name).map(str::to_owned)).collect();
        Answer { status: answer.status, fields }
    }

    /// What the limits say by hand, if the rule is about the request: whether it passes, and what is left of each that is told.
    async fn by_hand(&self, limiter: &Limiter, rules: &[Said]) -> (u16, Vec<u32>) {
        let is_about = |said: &Said| said.methods.is_empty() || said.methods.contains(&self.method);
        if !rules.get(self.rule).is_some_and(is_about) {
            return (200, Vec::new());
        }
        let request = self.request();
        let client = limiter.identify(RequestHead::new(&request)).unwrap();
        let (rule, route) =
            (format!("rule {}", self.rule), format!("/{}{}", self.rule, ROUTES[self.route].0));
        let decision = client.charge(&rule).route(&route).into_future().await.unwrap();
        let told =
            decision.limits().filter(|limit| !limit.is_shadow()).map(|limit| limit.remaining()).collect();
        (if decision.is_allowed() { 200 } else { 429 }, told)
    }
}

fn fields(headers: &HeaderMap) -> Vec<Option<String>> {
    FIELDS.iter().map(|name| Some(headers.get(*name)?.to_str().unwrap().to_owned())).collect()
}

/// What is left of each limit that an answer tells of.
fn told(answer: &Answer) -> Vec<u32> {
    let field = answer.fields[0].iter().flat_map(|field| field.split(", "));
    field
        .map(|member| member.split(";r=").nth(1).unwrap().split(';').next().unwrap().parse().unwrap())
        .collect()
}

#[derive(Clone)]
struct Ok200;

impl Service<Request<()>> for Ok200 {
    type Response = Response<Full>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Full>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(Response::builder().header("content-length", "2").body(Full).unwrap()))
    }
}

/// Nobody reads it.
#[derive(Default)]
struct Full;

impl Body for Full {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_layer_the_proxy_and_the_handle_agree(
        rules in prop::collection::vec(said(), 1..4),
        requests in prop::collection::vec(asked(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let [in_layer, in_proxy, by_hand] = [(); 3].map(|()| Stage::new(&rules));
            let upstream = Upstream::ok().await;
            let proxy = Proxy::start(&settings(upstream.address), &in_proxy.limiter);
            let (layer, mut client) = (in_layer.limiter.layer(), proxy.connect().await);
            for asked in &requests {
                for stage in [&in_layer, &in_proxy, &by_hand] {
                    stage.clock.advance(Duration::from_millis(asked.later));
                }
                let answer = asked.by_layer(&layer).await;
                assert_eq!(asked.by_proxy(&mut client).await, answer, "{asked:?}");
                let (status, left) = asked.by_hand(&by_hand.limiter, &rules).await;
                assert_eq!((status, left), (answer.status, told(&answer)), "by hand: {asked:?}");
            }
        });
    }
}
