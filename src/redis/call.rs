//! What is asked for in one call, and what is answered.

use super::{
    leases::{Part, Parts},
    names::Names,
};
use crate::{Charge, Place, Reading, Slot, SlotReading};
use smallvec::smallvec;
use std::time::Duration;

/// Charges, and the slots without which none of them is made.
pub(super) struct Call {
    pub(super) charges: Vec<Charge>,
    pub(super) stay: Option<Stay>,
    /// What is paid from leases, and what they are to get.
    pub(super) parts: Parts,
    /// It gives back what was leased, which forgives nothing.
    pub(super) returns: bool,
}

/// Slots, who asks for them, and how long they are kept without a sign of life.
pub(super) struct Stay {
    pub(super) slots: Vec<Slot>,
    pub(super) member: [u8; 16],
    pub(super) life: Duration,
}

/// What limits say: no readings where a slot refuses.
pub(super) struct Answer {
    pub(super) slots: Vec<SlotReading>,
    pub(super) readings: Vec<Reading>,
    /// Units that were leased with each charge.
    pub(super) granted: Vec<u32>,
}

impl Call {
    pub(super) const fn new(charges: Vec<Charge>, stay: Option<Stay>, parts: Parts) -> Self {
        Self { charges, stay, parts, returns: false }
    }

    /// One that only leases.
    pub(super) fn fetching(charge: Charge, more: u32) -> Self {
        Self::new(vec![charge], None, smallvec![Part { held: 0, more }])
    }

    /// One that gives back what was leased.
    pub(super) fn returning(charge: Charge) -> Self {
        Self { returns: true, ..Self::new(vec![charge], None, Parts::new()) }
    }

    /// What a charge takes from leases, and what they are to get with it.
    pub(super) fn part(&self, number: usize) -> Part {
        self.parts.get(number).copied().unwrap_or_default()
    }

    /// Whether anything is leased.
    pub(super) fn leases(&self) -> bool {
        self.parts.iter().any(|part| part.more > 0)
    }

    pub(super) fn slots(&self) -> &[Slot] {
        self.stay.as_ref().map_or(&[], |stay| &stay.slots)
    }

    /// Whose connection it goes through.
    pub(super) fn place(&self) -> Option<Place> {
        let slot = self.slots().first().map(|slot| slot.place);
        slot.or_else(|| self.charges.first().map(|charge| charge.place))
    }
}

impl Call {
    /// The first of its keys.
    pub(super) fn key(&self, names: &Names) -> Vec<u8> {
        let slot = self.slots().first().map(|slot| (slot.place, slot.limit));
        let first = slot.or_else(|| self.charges.first().map(|charge| (charge.place, charge.limit)));
        first.map_or_else(Vec::new, |(place, limit)| names.at(place, limit))
    }
}

impl Answer {
    /// Whether a slot was taken: all enforced ones together with all enforced charges, and watched ones beside them where all
    /// of those were free.
    pub(super) fn takes(&self, call: &Call, number: usize) -> bool {
        let free = |shadow| {
            let mut slots = call.slots().iter().zip(&self.slots);
            slots.all(|(slot, reading)| slot.shadow != shadow || reading.is_free)
        };
        let mut charges = call.charges.iter().zip(&self.readings);
        let charged = charges.all(|(charge, reading)| charge.shadow || reading.is_allowed());
        let shadow = call.slots().get(number).is_some_and(|slot| slot.shadow);
        charged && free(false) && (!shadow || free(true))
    }
}
