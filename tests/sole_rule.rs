//! A policy of one rule takes a shorter way than others. What it answers is what it would answer on the longer one.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use proptest::prelude::*;
use std::{future::IntoFuture, time::Duration};
use tidegate::{
    Charging, HeaderStyle, Identity, Limit, LimitStatus, Limiter, Lists, ManualClock, Policy, Quota, Rule,
};

const NAMES: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];
const STYLES: [HeaderStyle; 3] = [HeaderStyle::Draft10, HeaderStyle::Off, HeaderStyle::XRateLimit];

#[derive(Debug, Clone)]
enum Step {
    /// A request of this client's.
    Request(u8),
    Advance(u64),
    SetBack(u64),
    SetQuota(usize, Quota),
    /// By hand, under the address by which requests are counted too.
    Charge(u8, u32),
    Reset(u8),
    Block(u8),
    Unblock(u8),
}

fn quota() -> impl Strategy<Value = Quota> {
    let periods = prop_oneof![Just(1u64), Just(60), Just(3_600)];
    (1..=12u64, periods, prop::option::of(1..=9u64)).prop_map(|(amount, seconds, burst)| {
        let quota = Quota::per(amount, Duration::from_secs(seconds));
        burst.map_or(quota, |burst| quota.burst(burst))
    })
}

fn step() -> impl Strategy<Value = Step> {
    let client = || 0..3u8;
    prop_oneof![
        12 => client().prop_map(Step::Request),
        4 => (0..5_000u64).prop_map(Step::Advance),
        1 => (0..5_000u64).prop_map(Step::SetBack),
        1 => (0..5usize, quota()).prop_map(|(limit, quota)| Step::SetQuota(limit, quota)),
        1 => (client(), 1..4u32).prop_map(|(client, units)| Step::Charge(client, units)),
        1 => client().prop_map(Step::Reset),
        1 => client().prop_map(Step::Block),
        1 => client().prop_map(Step::Unblock),
    ]
}

fn address(client: u8) -> std::net::IpAddr {
    [192, 0, 2, client].into()
}

/// Each limit's name and all that it says.
fn told<'a>(limits: impl Iterator<Item = LimitStatus<'a>>) -> String {
    limits.map(|limit| format!("{limit:?};")).collect()
}

fn by_hand(charging: Charging<'_>) -> String {
    let answer = charging.into_future().now_or_never().unwrap();
    answer.map_or_else(|error| error.to_string(), |decision| told(decision.limits()))
}

struct Side<A> {
    limiter: Limiter,
    clock: ManualClock,
    app: A,
}

/// With a rule that never matches, no rule is the only one.
fn side(quotas: &[Quota], style: usize, alone: bool) -> Side<impl App> {
    let limits = NAMES.iter().zip(quotas).map(|(name, quota)| Limit::per_client(*name, *quota));
    let policy = Policy::new().rule(limits.fold(Rule::new("all"), Rule::limit));
    let never = || Rule::new("never").when(|_| false).limit(Limit::per_client("never", Quota::per_day(1)));
    let (limiter, clock) = build(if alone { policy } else { policy.rule(never()) });
    let layer = match style {
        3 => limiter.layer().expose_decision(),
        style => limiter.layer().headers(STYLES[style]),
    };
    Side { app: app(&layer, |_| reply(200)), limiter, clock }
}

impl<A: App> Side<A> {
    /// What is seen of it from outside.
    fn act(&self, step: &Step) -> String {
        let Self { limiter, clock, app } = self;
        let millis = Duration::from_millis;
        let named = |client: u8| limiter.client(&Identity::address(address(client)));
        match step {
            Step::Request(client) => {
                let answer =
                    app.send(from(&address(*client).to_string(), "GET", "/")).now_or_never().unwrap();
                let status = answer.status();
                let headers = format!("{:?}", answer.headers());
                let exposed = answer.extensions().get::<std::sync::Arc<tidegate::Decision>>();
                let exposed = exposed.map(|decision| told(decision.limits()));
                let body = answer.into_body().collect().now_or_never();
                format!("{status} {headers} {exposed:?} {:?}", body.unwrap().unwrap().to_bytes())
            }
            Step::Advance(by) => {
                clock.advance(millis(*by));
                String::new()
            }
            Step::SetBack(by) => {
                // Time goes on from where somebody last saw it, and a decision that is timed, as one in several is, looks
                // more than once. So it is looked at before and after, for a client whom nobody blocks.
                let look = || by_hand(named(9).peek("all"));
                let before = look();
                clock.set_back(millis(*by));
                before + &look()
            }
            Step::SetQuota(limit, quota) => format!("{:?}", limiter.set_quota(NAMES[*limit], *quota).ok()),
            Step::Charge(client, units) => by_hand(named(*client).charge("all").cost(*units)),
            Step::Reset(client) => by_hand(named(*client).reset("all")),
            Step::Block(client) => {
                let lists = Lists::new().block_networks([address(*client).to_string()]);
                format!("{:?}", limiter.add_to_lists(&lists))
            }
            Step::Unblock(client) => {
                let lists = Lists::new().block_networks([address(*client).to_string()]);
                format!("{:?}", limiter.remove_from_lists(&lists))
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_short_way_answers_as_the_long_one(
        quotas in prop::collection::vec(quota(), 1..=5),
        style in 0..4usize,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let (short, long) = (side(&quotas, style, true), side(&quotas, style, false));
        for step in &steps {
            prop_assert_eq!(short.act(step), long.act(step), "{:?}", step);
        }
    }
}
