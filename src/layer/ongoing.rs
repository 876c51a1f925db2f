//! What a request holds and is counted by until it is over.

use super::{flow::Flow, meter::Meter};
use crate::{limiter::Permits, policy::Direction};
use std::{fmt, sync::Arc};

/// What a request that was admitted holds until it is over: its permits, and what counts its bytes.
///
/// It is in the request's extensions where the layer was told to [`expose_ongoing`](crate::ThrottleLayer::expose_ongoing).
/// The permits are given back when the response's body has been sent or is dropped and no clone of this is left. So whoever
/// keeps one keeps them: for an upgraded connection, whose end the layer cannot see.
#[derive(Clone)]
pub struct Ongoing(Arc<Parts>);

struct Parts {
    meter: Option<Meter>,
    _permits: Permits,
}

impl Ongoing {
    /// Nothing where there is nothing to be held or counted.
    pub(super) fn new(meter: Option<Meter>, permits: Permits) -> Option<Self> {
        let is_any = meter.is_some() || !permits.is_empty();
        is_any.then(|| Self(Arc::new(Parts { meter, _permits: permits })))
    }

    pub(super) fn meter(&self) -> Option<&Meter> {
        self.0.meter.as_ref()
    }

    /// There is a response.
    pub(super) fn answered(&self) {
        if let Some(meter) = self.meter() {
            meter.answered();
        }
    }

    /// What bytes go through that come from the client; nothing where no limit counts them.
    pub fn up(&self) -> Option<Flow> {
        self.flow(Direction::Up)
    }

    /// What bytes go through that go to the client; nothing where no limit counts them. The layer has one for the response's
    /// body already.
    pub fn down(&self) -> Option<Flow> {
        self.flow(Direction::Down)
    }

    fn flow(&self, direction: Direction) -> Option<Flow> {
        self.meter()?.counts(direction).then(|| Flow::new(self.clone(), direction))
    }
}

impl fmt::Debug for Ongoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ongoing").finish_non_exhaustive()
    }
}
