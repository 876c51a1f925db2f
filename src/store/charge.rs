use super::Reading;
use crate::{Key, Rate};

/// One limit's part in a decision: who pays, under which rate, and what is to be done.
///
/// In one list of charges each pair of place and limit stands at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// Who pays.
    pub place: Place,
    /// The limit, as a hash of its name.
    pub limit: u64,
    /// How fast debt drains, and how much of it fits.
    pub rate: Rate,
    /// The units beyond the burst that may be owed: [`Op::Owe`] may leave them as debt, and so may a former charge at
    /// another rate.
    pub max_debt: u32,
    /// What to do.
    pub op: Op,
    /// Counted as if enforced, but never refuses the others.
    pub shadow: bool,
}

/// Who pays for a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// One client, or one client on one route.
    Client(Key),
    /// All clients together; the number is the shared limit's place in its policy.
    Shared(u16),
}

/// What a charge does to a debt. All of it happens under one lock, or in one script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Adds units if every enforced charge of the list fits; otherwise changes nothing.
    Take(u32),
    /// Answers as `Take` would and changes nothing.
    Peek(u32),
    /// Takes so many nanoseconds off what is owed at the charge's rate; nothing is ever owed less than nothing.
    Give(u64),
    /// Adds units whether they fit or not, up to the burst and `max_debt`.
    Owe(u32),
    /// Forgives everything.
    Clear,
}

impl Charge {
    /// Whether it can add to what is owed.
    pub(crate) const fn adds(&self) -> bool {
        match self.op {
            Op::Take(units) | Op::Owe(units) => units > 0,
            Op::Peek(_) | Op::Give(_) | Op::Clear => false,
        }
    }

    /// The most that can be owed, in nanoseconds: at most 2^62, so that no sum with a time overflows.
    pub(crate) fn most_ns(&self) -> u64 {
        let units = self.rate.burst().get() as u64 + self.max_debt as u64;
        self.rate.interval_ns().saturating_mul(units).min(1 << 62)
    }
}

/// A charge, and what its limit says once it is decided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// The limit's number in whoever asks.
    pub(crate) limit: usize,
    pub(crate) charge: Charge,
    pub(crate) reading: Reading,
}

impl Asked {
    pub(crate) const fn new(limit: usize, charge: Charge) -> Self {
        Self { limit, charge, reading: Reading::allowed_ns(0) }
    }
}

/// Whether all enforced charges of a decision fit, and whether all watched ones do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fit {
    pub(crate) enforced: bool,
    pub(crate) watched: bool,
}

impl Fit {
    /// Takes whether each charge is only watched, and whether it fits.
    pub(crate) fn of(charges: impl Iterator<Item = (bool, bool)>) -> Self {
        let mut fit = Self::default();
        for (shadow, fits) in charges {
            fit.heed(shadow, fits);
        }
        fit
    }

    /// Adds a charge.
    #[inline(always)]
    pub(crate) fn heed(&mut self, shadow: bool, fits: bool) {
        self.enforced &= fits | shadow;
        self.watched &= fits | !shadow;
    }
}

/// Of no charges, all fit.
impl Default for Fit {
    fn default() -> Self {
        Self { enforced: true, watched: true }
    }
}
