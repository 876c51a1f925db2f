//! The embedded engine agrees with an exact model of GCRA in all that can be seen, through the handle and the layer.
#![allow(clippy::unwrap_used)]

mod gcra;

use bytes::Bytes;
use futures_util::FutureExt as _;
use gcra::{Act, CLIENTS, LIMITS, Model, Place, ROUTES, RULES, SHADOW, Scope, Seen, place};
use http::{Request, Response};
use http_body_util::Full;
use proptest::{collection::vec, prelude::*, sample::select};
use std::{convert::Infallible, future::IntoFuture as _, sync::Arc, time::Duration};
use tidegate::{
    Charging, Cost, Decision, HeaderStyle, Identity, Limit, Limiter, ManualClock, Policy, Quota, Rule, Source,
};
use tower::{Layer as _, ServiceExt as _, service_fn};

fn policy(quotas: &[Quota]) -> Policy {
    let header = |name: &'static str, head: tidegate::RequestHead<'_>| -> Option<String> {
        Some(head.headers().get(name)?.to_str().ok()?.to_owned())
    };
    let mut policy =
        Policy::new().identify(Source::with(move |head| Some(Identity::name(header("client", head)?))));
    for (number, name) in RULES.iter().enumerate() {
        let mut rule = Rule::new(*name).route(ROUTES[0]).route(ROUTES[1]);
        for ((name, _, scope, by_head, cost), quota) in
            LIMITS.iter().zip(quotas).filter(|(limit, _)| limit.1 == number)
        {
            let limit = match scope {
                Scope::Client => Limit::per_client(*name, *quota),
                Scope::Route => Limit::per_client_and_route(*name, *quota),
                Scope::Shared => Limit::shared(*name, *quota),
            };
            rule = rule.limit(if *by_head {
                limit.cost(Cost::by(move |head| header("cost", head).map_or(1, |cost| cost.parse().unwrap())))
            } else {
                limit.cost(*cost)
            });
        }
        policy = policy.rule(if number == SHADOW { rule.shadow() } else { rule });
    }
    policy
}

#[derive(Debug, Clone)]
enum Step {
    Charge { rule: usize, client: usize, route: usize, cost: Option<u32> },
    Peek { rule: usize, client: usize, route: usize, cost: Option<u32> },
    Reset { rule: usize, client: usize, route: usize },
    Request { client: usize, route: usize, cost: u32 },
    Refund(usize),
    Quota { limit: usize, quota: (u64, u64) },
    Forward(u64),
    Back(u64),
}

/// Nanoseconds a unit, and a burst that no fixed cost exceeds.
fn quota() -> impl Strategy<Value = (u64, u64)> {
    let second = 1_000_000_000;
    let intervals =
        vec![100, 1_000, 10_000, 999_999, second, 10 * second, 70 * second + 1, 86_400 * second + 12_345];
    (select(intervals), select(vec![3, 4, 5, 10, 1_000]))
}

fn step() -> impl Strategy<Value = Step> {
    let who = || (0..RULES.len(), 0..CLIENTS.len(), 0..ROUTES.len());
    let cost = || prop_oneof![Just(0u32), 1..5u32, Just(1), 5..12u32, 900..1_100u32];
    let time = || prop_oneof![0..3_000u64, 0..20_000_000_000u64, 0..1_000_000_000_000_000u64];
    prop_oneof![
        6 => (who(), proptest::option::of(cost()))
            .prop_map(|((rule, client, route), cost)| Step::Charge { rule, client, route, cost }),
        8 => (0..CLIENTS.len(), 0..ROUTES.len(), cost())
            .prop_map(|(client, route, cost)| Step::Request { client, route, cost }),
        2 => (who(), proptest::option::of(cost()))
            .prop_map(|((rule, client, route), cost)| Step::Peek { rule, client, route, cost }),
        1 => who().prop_map(|(rule, client, route)| Step::Reset { rule, client, route }),
        2 => any::<usize>().prop_map(Step::Refund),
        3 => (0..LIMITS.len(), quota()).prop_map(|(limit, quota)| Step::Quota { limit, quota }),
        4 => time().prop_map(Step::Forward),
        1 => time().prop_map(Step::Back),
    ]
}

fn of(quota: (u64, u64)) -> Quota {
    Quota::per(1, Duration::from_nanos(quota.0)).burst(quota.1)
}

type Charges = Vec<(Place, Act)>;

/// Units that a decision took, when, at which interval, and what was owed with them.
struct Taken {
    place: Place,
    units: u128,
    at: u128,
    interval: u128,
    owed: u128,
}

impl Taken {
    /// No more than is still owed of them, whether the interval changed at once or only now.
    fn give(&self, model: &Model) -> (Place, Act) {
        let interval = model.rates[self.place.0].0;
        let age = model.now - self.at;
        let if_now = self.owed.saturating_sub(age) * interval / self.interval;
        let if_at_once = (self.owed * interval / self.interval).saturating_sub(age);
        (self.place, Act::Give((self.units * interval).min(if_now).min(if_at_once)))
    }
}

/// The engine and the model, side by side.
struct Both {
    clock: ManualClock,
    limiter: Limiter,
    model: Model,
    /// What can be refunded, with what each decision took; emptied once it was.
    decisions: Vec<(Arc<Decision>, Vec<Taken>)>,
}

impl Both {
    fn new(quotas: &[(u64, u64)], start: u64) -> Self {
        let clock = ManualClock::new();
        let policy = policy(&quotas.iter().copied().map(of).collect::<Vec<_>>());
        let limiter = Limiter::builder(policy).clock(clock.clone()).memory_bytes(1 << 15).build().unwrap();
        let rates = quotas.iter().map(|(interval, burst)| ((*interval).into(), (*burst).into())).collect();
        let mut both = Self { clock, limiter, model: Model::new(rates), decisions: Vec::new() };
        both.step(&Step::Forward(start));
        both
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Charge { rule, client, route, cost } => {
                let act = |limit: usize| Act::Take(cost.unwrap_or(LIMITS[limit].4));
                let decision = self.ask(rule, client, route, cost, Charged::Take, act);
                self.keep(decision.into(), charges(rule, client, route, act));
            }
            Step::Peek { rule, client, route, cost } => {
                let act = |limit: usize| Act::Peek(cost.unwrap_or(LIMITS[limit].4));
                self.ask(rule, client, route, cost, Charged::Peek, act);
            }
            Step::Reset { rule, client, route } => {
                let act = |limit: usize| match LIMITS[limit].2 {
                    Scope::Shared => Act::Peek(0),
                    Scope::Client | Scope::Route => Act::Clear,
                };
                self.ask(rule, client, route, None, Charged::Reset, act);
            }
            Step::Request { client, route, cost } => self.request(client, route, cost),
            Step::Refund(number) if !self.decisions.is_empty() => {
                let number = number % self.decisions.len();
                let (decision, taken) = &mut self.decisions[number];
                self.limiter.refund(decision);
                let taken = std::mem::take(taken);
                if !taken.is_empty() {
                    self.model.tick();
                    let given: Charges = taken.iter().map(|taken| taken.give(&self.model)).collect();
                    self.model.decide(&given);
                }
            }
            Step::Refund(_) => {}
            Step::Quota { limit, quota } => {
                self.limiter.set_quota(LIMITS[limit].0, of(quota)).unwrap();
                self.model.rates[limit] = (quota.0.into(), quota.1.into());
            }
            Step::Forward(nanos) => {
                self.clock.advance(Duration::from_nanos(nanos));
                self.model.clock = (self.model.clock + u128::from(nanos)).min(u64::MAX.into());
            }
            Step::Back(nanos) => {
                self.clock.set_back(Duration::from_nanos(nanos));
                self.model.clock = self.model.clock.saturating_sub(nanos.into());
            }
        }
    }

    /// Asks both through the handle, and compares.
    fn ask(
        &mut self,
        rule: usize,
        client: usize,
        route: usize,
        cost: Option<u32>,
        what: Charged,
        act: impl Fn(usize) -> Act,
    ) -> Decision {
        let client_handle = self.limiter.client(&Identity::name(CLIENTS[client]));
        let charging: Charging<'_> = match what {
            Charged::Take => client_handle.charge(RULES[rule]),
            Charged::Peek => client_handle.peek(RULES[rule]),
            Charged::Reset => client_handle.reset(RULES[rule]),
        };
        let charging = charging.route(ROUTES[route]);
        let charging = cost.map_or(charging.clone(), |cost| charging.cost(cost));
        let decision = charging.into_future().now_or_never().unwrap().unwrap();
        let expected = self.model.decide(&charges(rule, client, route, act));
        let seen: Vec<_> = decision.limits().map(|status| Seen::of(&status)).collect();
        assert_eq!(seen, expected);
        assert_eq!(decision.is_allowed(), rule == SHADOW || expected.iter().all(|seen| seen.allowed));
        let refused = || expected.iter().filter(|seen| !seen.allowed && rule != SHADOW);
        let wait = if refused().any(|seen| seen.never) { None } else { refused().map(|s| s.retry).max() };
        assert_eq!(decision.retry_after().map(|wait| wait.as_nanos()), wait.flatten());
        decision
    }

    /// Sends a request to which all rules apply through the layer, and compares.
    fn request(&mut self, client: usize, route: usize, cost: u32) {
        let layer = self.limiter.layer().headers(HeaderStyle::Off).expose_decision();
        let layer = layer.refusal(|refusal, _| {
            let mut response = Response::new(Bytes::new());
            response.extensions_mut().insert(refusal.limits().iter().map(Seen::of).collect::<Vec<_>>());
            response
        });
        let service = layer.layer(service_fn(|_: Request<()>| async {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }));
        let request = Request::get(ROUTES[route]).header("client", CLIENTS[client]).header("cost", cost);
        let response = service.oneshot(request.body(()).unwrap()).now_or_never().unwrap().unwrap();

        let act = |limit: usize| Act::Take(if LIMITS[limit].3 { cost } else { LIMITS[limit].4 });
        let charged: Vec<_> = (0..RULES.len()).flat_map(|rule| charges(rule, client, route, act)).collect();
        let expected = self.model.decide(&charged);
        let decision = response.extensions().get::<Arc<Decision>>().unwrap();
        let seen: Vec<_> = decision.limits().map(|status| Seen::of(&status)).collect();
        assert_eq!(seen, expected);
        assert_eq!(decision.is_allowed(), allowed(&expected, false));
        if decision.is_allowed() {
            self.keep(decision.clone(), charged);
        } else {
            assert_eq!(response.extensions().get::<Vec<Seen>>(), Some(&expected));
        }
    }

    /// Remembers what a decision took, so that it can be given back.
    fn keep(&mut self, decision: Arc<Decision>, charges: Charges) {
        let seen: Vec<_> = decision.limits().map(|status| Seen::of(&status)).collect();
        let (at, rates) = (self.model.now, &self.model.rates);
        let taken = charges.into_iter().zip(&seen).filter_map(|((place, act), after)| match act {
            Act::Take(units) if allowed(&seen, LIMITS[place.0].1 == SHADOW) => {
                Some(Taken { place, units: units.into(), at, interval: rates[place.0].0, owed: after.reset })
            }
            _ => None,
        });
        self.decisions.push((decision, taken.collect()));
    }

    /// Nothing is anywhere but where the model has it.
    fn compare_all(&mut self) {
        for rule in 0..RULES.len() {
            for client in 0..CLIENTS.len() {
                for route in 0..ROUTES.len() {
                    self.step(&Step::Peek { rule, client, route, cost: None });
                }
            }
        }
        assert_eq!(self.limiter.evicted(), 0);
    }
}

enum Charged {
    Take,
    Peek,
    Reset,
}

fn charges(rule: usize, client: usize, route: usize, act: impl Fn(usize) -> Act) -> Charges {
    let limits = (0..LIMITS.len()).filter(|limit| LIMITS[*limit].1 == rule);
    limits.map(|limit| (place(limit, client, route), act(limit))).collect()
}

/// Whether all enforced limits admit, and with `watched` all that only watch as well.
fn allowed(seen: &[Seen], watched: bool) -> bool {
    let is_watched = |seen: &Seen| LIMITS.iter().any(|limit| limit.0 == seen.limit && limit.1 == SHADOW);
    seen.iter().all(|seen| seen.allowed || (!watched && is_watched(seen)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_agrees_with_the_model(
        quotas in vec(quota(), LIMITS.len()),
        start in select(vec![0, 100 * 365 * 86_400_000_000_000, (1 << 62) - 200_000_000_000_000_000, u64::MAX]),
        steps in vec(step(), 1..120),
    ) {
        let mut both = Both::new(&quotas, start);
        for step in &steps {
            both.step(step);
        }
        both.compare_all();
    }
}
