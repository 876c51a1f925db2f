//! Far more clients than there is room for: nobody innocent is refused, and nothing is forgiven that is not counted.
#![allow(clippy::unwrap_used)]

mod common;

use common::now;
use proptest::{collection::vec, prelude::*};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use tidegate::{Client, Decision, Identity, Limit, Limiter, ManualClock, Policy, Quota, Rule};

const CLIENTS: usize = 16;
const RULES: [&str; 2] = ["three", "one"];
const MILLISECOND: u64 = 1_000_000;

/// Limits of which none is paid so soon that its entry always goes first.
fn policy() -> Policy {
    Policy::new()
        .rule(
            Rule::new(RULES[0])
                .limit(Limit::per_client("8 s", Quota::per_second(2).burst(16)))
                .limit(Limit::per_client("10 s", Quota::per_second(1).burst(10)))
                .limit(Limit::per_client("14 s", Quota::per_minute(30).burst(7))),
        )
        .rule(Rule::new(RULES[1]).limit(Limit::per_client("12 s", Quota::per_minute(60).burst(12))))
}

/// A client, a rule, and which of its limits.
type Place = (usize, usize, usize);

/// What a limit says in a decision, in nanoseconds.
struct Seen {
    place: Place,
    debt: u64,
    interval: u64,
    full: u64,
}

fn seen(client: usize, rule: usize, decision: &Decision) -> Vec<Seen> {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap();
    let limits = decision.limits().enumerate();
    let seen = limits.map(|(limit, status)| Seen {
        place: (client, rule, limit),
        debt: nanos(status.reading().reset_after()),
        interval: nanos(status.rate().interval()),
        full: nanos(status.rate().interval() * status.rate().burst().get()),
    });
    seen.collect()
}

struct Gate {
    clock: ManualClock,
    limiter: Limiter,
    clients: Vec<Client>,
    now: u64,
    /// Until when each would owe if nothing were ever forgotten; units that were admitted because something was
    /// forgotten come on top.
    owed: HashMap<Place, u64>,
    /// Until when each owes as far as has been seen.
    kept: HashMap<Place, u64>,
    forgiven: HashSet<Place>,
}

impl Gate {
    fn new(bytes: usize) -> Self {
        let clock = ManualClock::new();
        let builder = Limiter::builder(policy()).memory_bytes(bytes).secret([7; 16]).clock(clock.clone());
        let limiter = builder.build().unwrap();
        let clients = (0..CLIENTS).map(|n| limiter.client(&Identity::name(n.to_string()))).collect();
        let (owed, kept, forgiven) = (HashMap::new(), HashMap::new(), HashSet::new());
        Self { clock, limiter, clients, now: 1, owed, kept, forgiven }
    }

    fn wait(&mut self, nanos: u64) {
        self.clock.advance(Duration::from_nanos(nanos));
        self.now += nanos;
    }

    fn charge(&mut self, client: usize, rule: usize, cost: u32) {
        let evicted = self.limiter.evicted();
        let decision = now(self.clients[client].charge(RULES[rule]).cost(cost));
        let seen = seen(client, rule, &decision);
        let owed = |seen: &Seen| self.owed.get(&seen.place).map_or(0, |until| until.saturating_sub(self.now));
        let units = |seen: &Seen| seen.interval * u64::from(cost);
        let innocent = seen.iter().all(|seen| owed(seen) + units(seen) <= seen.full);
        if innocent {
            assert!(decision.is_allowed(), "an innocent client was refused");
        } else if decision.is_allowed() {
            assert!(seen.iter().any(|seen| self.forgiven.contains(&seen.place)), "forgiven for no reason");
        }
        if decision.is_allowed() && cost > 0 {
            for seen in &seen {
                for debts in [&mut self.owed, &mut self.kept] {
                    let until = debts.entry(seen.place).or_default();
                    *until = self.now.max(*until) + units(seen);
                }
            }
        }
        assert_eq!(
            self.look(),
            self.limiter.evicted() - evicted,
            "more or less was forgotten than is counted"
        );
    }

    /// Looks at everybody, and answers how many limits of clients were forgotten since the last time.
    fn look(&mut self) -> u64 {
        let mut lost = 0;
        for (number, client) in self.clients.iter().enumerate() {
            for (rule, name) in RULES.iter().enumerate() {
                for Seen { place, debt, full, .. } in seen(number, rule, &now(client.peek(name))) {
                    let kept = self.kept.get(&place).map_or(0, |until| until.saturating_sub(self.now));
                    if debt == kept {
                        continue;
                    }
                    assert_eq!(debt, 0, "a debt of {kept} became another one");
                    assert!(kept <= full, "more than a burst was owed");
                    lost += 1;
                    self.kept.remove(&place);
                    self.forgiven.insert(place);
                }
            }
        }
        lost
    }
}

/// Mostly at once, and at a cost that most bursts have room for once or twice.
fn step() -> impl Strategy<Value = (usize, usize, u32, u64)> {
    let cost = prop_oneof![6 => 3..8u32, 2 => Just(1u32), 1 => Just(0), 1 => 8..14u32];
    let wait = prop_oneof![6 => Just(0), 4 => 1..150 * MILLISECOND, 1 => 0..2_000 * MILLISECOND];
    (0..CLIENTS, 0..RULES.len(), cost, wait)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// From the smallest table, in which all have the same 40 places, to one of five homes.
    #[test]
    fn the_innocent_pass_and_what_is_forgiven_is_counted(
        lines in 8..=12usize,
        steps in vec(step(), 1..400),
    ) {
        let mut gate = Gate::new(lines * 128);
        for (client, rule, cost, wait) in steps {
            gate.charge(client, rule, cost);
            gate.wait(wait);
        }
    }
}
