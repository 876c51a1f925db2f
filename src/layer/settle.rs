//! What only the response tells: what a request really cost, and the fields that say what is left.

use super::{ThrottleBody, layer::Face, meter::Meter, ongoing::Ongoing};
use crate::{
    Decision,
    limiter::{Permits, statuses},
    policy::{Settlement, whole_number},
    response,
    store::Asked,
};
use http::{Extensions, HeaderMap, Response, StatusCode};
use smallvec::SmallVec;
use std::{sync::Arc, time::SystemTime};

/// What is to be done once a response is there. Dropped before, it does nothing: the request stays charged.
pub(super) struct After {
    pub(super) face: Arc<Face>,
    pub(super) decision: Arc<Decision>,
    pub(super) kept: Kept,
}

/// What a request holds until its response's body has been sent or is dropped, or there is no response.
pub(super) enum Kept {
    Permits(Permits),
    /// The same and what counts its bytes, where the request got that.
    Ongoing(Option<Ongoing>),
}

/// No future is larger for it than for the fields that most responses wait for.
const _: () = assert!(size_of::<Option<After>>() <= size_of::<response::Fields>());

impl After {
    /// Shows the wrapped service what was asked for.
    pub(super) fn expose(&self, extensions: &mut Extensions) {
        if let Kept::Ongoing(Some(ongoing)) = &self.kept {
            extensions.insert(ongoing.clone());
        }
        if self.face.expose_decision {
            extensions.insert(self.decision.clone());
        }
    }

    pub(super) fn finish<B>(self, mut response: Response<B>) -> Response<ThrottleBody<B>> {
        let Self { face, decision, kept } = self;
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
        let ongoing = match kept {
            Kept::Ongoing(ongoing) => ongoing,
            Kept::Permits(permits) => Ongoing::new(Meter::new(&decision), permits),
        };
        if face.expose_decision {
            response.extensions_mut().insert(decision);
        }
        match ongoing {
            Some(ongoing) => {
                ongoing.answered();
                response.map(|body| ThrottleBody::followed(body, ongoing))
            }
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
            Settlement::Bytes(_) => None,
        };
        let corrected = actual.and_then(|actual| decision.correct(number, taken.into(), actual.into()));
        if let Some(reading) = corrected {
            asked[number].reading = reading;
        }
    }
    asked
}
