//! What the clones of a pacer, and all that goes through them, share.

use super::{
    feedback::Control,
    priority::Shares,
    queue::{Bounds, Queues},
    spacing::Spacing,
};
use crate::{Limiter, limiter::Inner};
use std::{sync::Arc, time::Duration};

/// What a pacer is.
pub(super) struct Shared {
    pub(super) limiter: Limiter,
    /// The policy that was in force when it was made, and the number of its rule there.
    pub(super) first: Arc<Inner>,
    pub(super) rule: usize,
    /// Whether heads of queues have to take turns.
    pub(super) takes_turns: bool,
    pub(super) settings: Settings,
    pub(super) queues: Arc<Queues>,
    /// What is known of the other side, if that matters.
    pub(super) control: Option<Arc<Control>>,
}

impl Shared {
    /// The policy that a send is held to, where that is not the first one, and the number of the rule there. Where no rule has
    /// its name any more, or its limits are shared otherwise, the first one it is.
    pub(super) fn in_force(&self) -> (Option<Arc<Inner>>, usize) {
        let now = self.limiter.now();
        if Arc::ptr_eq(&now, &self.first) {
            return (None, self.rule);
        }
        let name = self.first.policy.rules.get(self.rule).map(|rule| &rule.name);
        let rule = now.policy.rules.iter().position(|rule| Some(&rule.name) == name);
        // Queues are made for limits that are shared, or for such as are not.
        let is_alike = |rule: &usize| now.shares_limits(*rule) == self.first.shares_limits(self.rule);
        rule.filter(is_alike).map_or((None, self.rule), |rule| (Some(now.clone()), rule))
    }
}

/// How a pacer was set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) spacing: Spacing,
    pub(super) max_wait: Option<Duration>,
    pub(super) shadow: bool,
    pub(super) bounds: Bounds,
    pub(super) shares: Shares,
}
