//! Policies that charge all requests alike.

use super::{CompiledLimit, CompiledRule, Scope, compile::GROUP, cost::UnitCost};
use crate::Key;

/// A rule that is all of a policy, and charges each request the same units of a few limits of one client's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sole {
    pub(crate) source: usize,
    /// What sets its limits apart in the client's key.
    pub(crate) group: Key,
    /// Which limits it has, from the first.
    pub(crate) limits: usize,
}

impl Sole {
    /// What needs anything but the rates of a few limits goes another way.
    pub(super) fn of(rules: &[CompiledRule], limits: &[CompiledLimit]) -> Option<Self> {
        let [rule] = rules else { return None };
        let Scope::Client(group) = limits.first()?.scope else { return None };
        let is_usual = |limit: &CompiledLimit| {
            limit.scope.is_of(group) && limit.settle.is_none() && matches!(limit.cost, UnitCost::Fixed(1..))
        };
        let is_sole = rule.takes_all
            && !rule.registered
            && !rule.shadow
            && rule.policy.is_some()
            && rule.concurrency.is_empty()
            && limits.iter().all(is_usual)
            && limits.len() <= GROUP;
        is_sole.then_some(Self { source: rule.source, group, limits: limits.len() })
    }
}
