//! Two secrets at once, while instances change from one to the other.
//!
//! Each charge is made by both, all or nothing. So instances that know only the former one count together with those that know
//! both, and those with those that will know only the new one.

use crate::{Charge, Place, Reading, Slot, SlotReading, store::Former};
use std::sync::Arc;

/// How limits and clients were called by the former secret.
pub(super) struct Rotation(Arc<Former>);

impl Rotation {
    pub(super) const fn new(former: Arc<Former>) -> Self {
        Self(former)
    }

    fn limit(&self, limit: u64) -> Option<u64> {
        self.0.limits.iter().find(|(now, _)| *now == limit).map(|(_, then)| *then)
    }

    fn place(place: Place) -> Option<Place> {
        match place {
            Place::Client(key) => key.former().map(Place::Client),
            shared @ Place::Shared(_) => Some(shared),
        }
    }

    /// Adds the twin of each charge, and answers with whose twins they are.
    pub(super) fn charges(&self, charges: &mut Vec<Charge>) -> Vec<usize> {
        let twin = |(number, charge): (usize, &Charge)| {
            let (place, limit) = (Self::place(charge.place)?, self.limit(charge.limit)?);
            Some((number, Charge { place, limit, ..*charge }))
        };
        let (whose, twins): (Vec<_>, Vec<_>) = charges.iter().enumerate().filter_map(twin).unzip();
        charges.extend(twins);
        whose
    }

    /// The same for slots.
    pub(super) fn slots(&self, slots: &mut Vec<Slot>) -> Vec<usize> {
        let twin = |(number, slot): (usize, &Slot)| {
            let (place, limit) = (Self::place(slot.place)?, self.limit(slot.limit)?);
            Some((number, Slot { place, limit, ..*slot }))
        };
        let (whose, twins): (Vec<_>, Vec<_>) = slots.iter().enumerate().filter_map(twin).unzip();
        slots.extend(twins);
        whose
    }
}

/// Of each charge and its twin, what the tighter one says.
pub(super) fn readings(mut readings: Vec<Reading>, whose: &[usize]) -> Vec<Reading> {
    // Where a slot refused there are none.
    let twins = readings.split_off(readings.len().saturating_sub(whose.len()));
    for (number, twin) in whose.iter().zip(twins) {
        if let Some(reading) = readings.get_mut(*number) {
            *reading = if twin.tightness() > reading.tightness() { twin } else { *reading };
        }
    }
    readings
}

/// The same of slots.
pub(super) fn slots(mut slots: Vec<SlotReading>, whose: &[usize]) -> Vec<SlotReading> {
    let twins = slots.split_off(slots.len().saturating_sub(whose.len()));
    for (number, twin) in whose.iter().zip(twins) {
        if let Some(slot) = slots.get_mut(*number) {
            slot.used = slot.used.max(twin.used);
            slot.is_free &= twin.is_free;
        }
    }
    slots
}
