//! What only clients of a registry can have.

use super::{
    super::{Rule, Shares},
    Compiler,
};
use crate::Mistake;

impl Compiler<'_> {
    /// What is granted to clients, only those have whom the registry knows.
    pub(super) fn check_registered(&mut self, rule: &Rule, registered: bool) {
        let mut mistake = |setting, reason: String| {
            let reason = format!("rule {:?}: {reason}", rule.name);
            self.mistakes.push(Mistake::Setting { setting, reason });
        };
        for limit in rule.limits.iter().filter(|limit| limit.granted) {
            if limit.shares == Shares::All {
                let reason = "all clients share it, so that no client can have a quota of its own";
                mistake("Limit::granted", format!("limit {:?}: {reason}", limit.name));
            }
            if !registered {
                let reason =
                    "its clients are not looked up in the registry; add `.registered()` to the source";
                mistake("Limit::granted", format!("limit {:?}: {reason}", limit.name));
            }
        }
        for concurrency in rule.concurrency.iter().filter(|concurrency| concurrency.granted) {
            if concurrency.shares == Shares::All || !registered {
                let reason = "it is for each client that the rule's source looks up in the registry, with `.registered()`";
                mistake("Concurrency::granted", format!("limit {:?}: {reason}", concurrency.name));
            }
        }
        if rule.resource.is_some() && !registered {
            let reason = "its clients are not looked up in the registry; add `.registered()` to the source";
            mistake("Rule::resource", reason.to_owned());
        }
    }

    /// The number of one more granted limit.
    pub(super) fn granted(&self) -> usize {
        self.limits.iter().filter(|limit| limit.granted.is_some()).count()
    }
}
