//! What limits said, for the meters.

use super::{Charged, Inner};
use crate::observe::Said;
use smallvec::SmallVec;
use std::time::Duration;

impl Inner {
    /// Counts what each rule said to a request.
    #[inline]
    pub(crate) fn meter(&self, charged: &Charged) {
        if !self.meters.is_on() {
            return;
        }
        let mut rules: SmallVec<[(usize, Said); 4]> = SmallVec::new();
        let mut note = |rule: usize, fits: bool, shadow: bool| {
            let said = match (fits, shadow) {
                (true, _) => Said::Allowed,
                (false, true) => Said::ShadowRefused,
                (false, false) => Said::Refused,
            };
            match rules.iter_mut().find(|(known, _)| *known == rule) {
                Some((_, before)) => *before = said.max(*before),
                None => rules.push((rule, said)),
            }
        };
        for asked in &charged.asked {
            note(self.policy.limits[asked.limit].rule, asked.reading.is_allowed(), asked.charge.shadow);
        }
        for said in charged.held.iter().flat_map(|held| &held.said) {
            note(self.policy.concurrency[said.number].rule, said.fits, said.shadow);
        }
        for (rule, said) in rules {
            self.meters.said(rule, said);
        }
    }

    /// Counts that the only rule of a policy has allowed a request.
    #[inline]
    pub(crate) fn meter_sole(&self) {
        self.meters.said(0, Said::Allowed);
    }

    /// The time to measure a decision from, if it is to be: one in several, unless it `waits` for anything.
    #[inline]
    pub(crate) fn since(&self, waits: bool) -> Option<u64> {
        let is_timed = if waits { self.meters.is_on() } else { self.meters.is_timed() };
        is_timed.then(|| self.engine.now())
    }

    /// Measures how long a decision took.
    #[inline]
    pub(crate) fn took(&self, since: Option<u64>) {
        if let Some(since) = since {
            self.meters.took(Duration::from_nanos(self.engine.now().saturating_sub(since)));
        }
    }
}
