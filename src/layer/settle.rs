//! What only the response tells: what a request really cost, and the fields that say what is left.

use super::{ThrottleBody, layer::Face};
use crate::{
    Decision,
    limiter::{Permits, statuses},
    policy::{Grain, Settlement, whole_number},
    response,
    store::Asked,
};
use http::{Extensions, HeaderMap, Response, StatusCode};
use smallvec::SmallVec;
use std::{fmt, sync::Arc, time::SystemTime};

/// What is to be done once a response is there. Dropped before, it does nothing: the request stays charged.
pub(super) struct After {
    pub(super) face: Arc<Face>,
    pub(super) decision: Arc<Decision>,
    /// Given back when the response's body has been sent or is dropped, or when there is no response.
    pub(super) permits: Permits,
}

/// No future is larger for it than for the fields that most responses wait for.
const _: () = assert!(size_of::<Option<After>>() <= size_of::<response::Fields>());

impl After {
    /// Shows the decision to the wrapped service, if that was asked for.
    pub(super) fn expose(&self, extensions: &mut Extensions) {
        if self.face.expose_decision {
            extensions.insert(self.decision.clone());
        }
    }

    pub(super) fn finish<B>(self, mut response: Response<B>) -> Response<ThrottleBody<B>> {
        let Self { face, decision, permits } = self;
        let asked = settle(&decision, response.status(), response.headers());
        let limits = statuses(&asked, &decision.inner);
        let policies = decision.charged.policies(&decision.inner);
        let said = decision.charged.permits(&decision.inner);
        response::write(
            face.style(&decision.inner).headers,
            &limits,
            &said,
            policies,
            SystemTime::now,
            response.headers_mut(),
        );
        drop((limits, said));
        let meter = Meter::new(&decision);
        if face.expose_decision {
            response.extensions_mut().insert(decision);
        }
        match Tail::new(meter, permits) {
            Some(tail) => response.map(|body| ThrottleBody::followed(body, tail)),
            None => response.map(ThrottleBody::inner),
        }
    }
}

/// Gives back what does not count and adds what was not known, and answers with what the limits say then.
pub(super) fn settle(decision: &Decision, status: StatusCode, headers: &HeaderMap) -> SmallVec<[Asked; 4]> {
    let mut asked = decision.charged.asked.clone();
    for (number, settlement, taken) in decision.settlements() {
        let actual = match settlement {
            Settlement::Count(counts) => Some(if counts(status) { taken } else { 0 }),
            Settlement::Header(name) => whole_number(headers, name),
            Settlement::BodyBytes(_) => None,
        };
        let corrected = actual.and_then(|actual| decision.correct(number, taken.into(), actual.into()));
        if let Some(reading) = corrected {
            asked[number].reading = reading;
        }
    }
    asked
}

/// What is to be done while a response's body is sent, and at its end.
#[derive(Debug)]
pub(super) struct Tail {
    meter: Option<Meter>,
    permits: Permits,
}

impl Tail {
    /// Nothing where there is nothing to be done.
    fn new(meter: Option<Meter>, permits: Permits) -> Option<Self> {
        (meter.is_some() || !permits.is_empty()).then_some(Self { meter, permits })
    }

    pub(super) fn count(&mut self, bytes: usize) {
        if let Some(meter) = &mut self.meter {
            meter.count(bytes);
        }
    }

    /// The body has ended, though it may not be dropped for a while.
    pub(super) fn end(&mut self) {
        self.permits.clear();
    }
}

/// Counts the bytes of a response's body as they are sent.
pub(super) struct Meter {
    decision: Arc<Decision>,
    bytes: u64,
    limits: SmallVec<[Metered; 1]>,
}

struct Metered {
    number: usize,
    grain: Grain,
    /// The units charged so far, those on the way in included.
    charged: u64,
}

impl Meter {
    fn new(decision: &Arc<Decision>) -> Option<Self> {
        let metered = |(number, settlement, taken): (usize, &Settlement, u32)| match settlement {
            Settlement::BodyBytes(grain) => Some(Metered { number, grain: *grain, charged: taken.into() }),
            _ => None,
        };
        let limits: SmallVec<[Metered; 1]> = decision.settlements().filter_map(metered).collect();
        (!limits.is_empty()).then(|| Self { decision: decision.clone(), bytes: 0, limits })
    }

    /// Adds the grains that these bytes fill.
    pub(super) fn count(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        for limit in &mut self.limits {
            let grains = self.bytes / u64::from(limit.grain.get());
            if grains > limit.charged {
                self.decision.correct(limit.number, limit.charged, grains);
                limit.charged = grains;
            }
        }
    }
}

/// The body is sent, or nobody wants the rest: the last grain is begun, and grains that were not sent are given back.
impl Drop for Meter {
    fn drop(&mut self) {
        for limit in &self.limits {
            let grains = self.bytes.div_ceil(limit.grain.get().into());
            self.decision.correct(limit.number, limit.charged, grains);
        }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
