//! Who overtakes whom, and what is left to those who are overtaken.

use crate::{BuildError, Mistake};

/// How urgent a send is.
///
/// Among those that wait, the more urgent go first. The others keep a guaranteed share, in units, of what goes while they
/// wait: see [`Pacer::guarantee`](crate::Pacer::guarantee).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Overtakes the others.
    High,
    /// What has no other priority.
    #[default]
    Normal,
    /// Is overtaken by the others.
    Low,
}

impl Priority {
    /// The number of priorities.
    pub(super) const COUNT: usize = 3;

    pub(super) const fn number(self) -> usize {
        self as usize
    }
}

/// What each priority is guaranteed, in percent; what is left goes to the most urgent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shares([u8; Priority::COUNT]);

impl Default for Shares {
    fn default() -> Self {
        Self([0, 20, 5])
    }
}

impl Shares {
    pub(super) fn set(&mut self, priority: Priority, percent: u8) -> Result<(), BuildError> {
        let mut shares = self.0;
        shares[priority.number()] = percent;
        let sum: u32 = shares.into_iter().map(u32::from).sum();
        if sum > 100 {
            let reason = format!(
                "{percent} % for {priority:?} makes {sum} % together with the others; guarantee 100 % at most in all"
            );
            return Err(BuildError::one(Mistake::Setting { setting: "Pacer::guarantee", reason }));
        }
        self.0 = shares;
        Ok(())
    }
}

/// What each priority still has to get of its share, in hundredths of a unit.
#[derive(Debug, Default)]
pub(super) struct Credits([u64; Priority::COUNT]);

impl Credits {
    /// Whose turn it is: the most urgent of those whose share has come to what their first one costs, or else the most
    /// urgent that waits. `first` are the units of each priority's first one.
    pub(super) fn next(&self, first: [Option<u32>; Priority::COUNT]) -> Option<usize> {
        let waits = |number: &usize| first[*number].is_some();
        let is_due = |number: &usize| {
            first[*number].is_some_and(|units| self.0[*number] >= 100 * u64::from(units.max(1)))
        };
        let numbers = || 0..Priority::COUNT;
        numbers().find(is_due).or_else(|| numbers().find(waits))
    }

    /// Takes note of units that went, and of who was waiting for them.
    pub(super) fn went(
        &mut self,
        shares: Shares,
        number: usize,
        units: u32,
        waited: [bool; Priority::COUNT],
    ) {
        for ((credit, share), waited) in self.0.iter_mut().zip(shares.0).zip(waited) {
            // Who does not wait saves nothing up.
            let more = u64::from(units).saturating_mul(share.into());
            *credit = if waited { credit.saturating_add(more) } else { 0 };
        }
        self.0[number] = self.0[number].saturating_sub(u64::from(units).saturating_mul(100));
    }

    /// Who does not wait any more saves nothing up.
    pub(super) fn forget(&mut self, number: usize) {
        self.0[number] = 0;
    }
}
