//! The way of a request under a policy that charges all requests alike, which is most policies' and most requests'.

use super::{Charged, Inner};
use crate::{
    Charge, Key, Place, RequestHead,
    identity::By,
    policy::{CompiledLimit, Sole},
    response::Fields,
    store::{Answers, Asked, Ready},
};

impl Inner {
    /// Charges the limits of the sole rule. Nothing where anything is unusual: nothing is charged then, and the request goes
    /// the way of all others.
    #[inline(always)]
    pub(crate) fn ask_sole<const N: usize>(&self, sole: Sole, head: &RequestHead<'_>) -> Option<Sure<'_, N>> {
        let memory = self.engine.memory()?;
        if self.policy.lists.exempts() {
            return None;
        }
        let source = self.policy.sources.get(sole.source)?;
        let (client, by) = source.key(head, self.policy.proxies.as_ref(), &self.keys).ok()?;
        if by == By::Nothing {
            return None;
        }
        let place = client.and(sole.group);
        let limits: &[CompiledLimit; N] = self.policy.limits.first_chunk()?;
        let mut ready = [limits.first()?.ready()?; N];
        for number in 1..N {
            ready[number] = limits[number].ready()?;
        }
        let answers = memory.charge_home(place, ready)?;
        Some(Sure { place, ready, answers })
    }
}

/// What the limits of a sole rule were asked, and what they say.
pub(crate) struct Sure<'p, const N: usize> {
    place: Key,
    ready: [&'p Ready; N],
    pub(crate) answers: Answers<N>,
}

impl<const N: usize> Sure<'_, N> {
    /// What the response tells of them.
    #[inline(never)]
    pub(crate) fn fields(&self, inner: &Inner) -> Fields {
        let policies = inner.policy.rules.first().and_then(|rule| rule.policy.as_ref());
        let limits = inner.policy.limits.iter().zip(self.ready).zip(self.answers.readings);
        Fields::of(
            policies,
            limits.map(|((limit, ready), reading)| (&*limit.words.quoted, ready.charge.rate, reading)),
        )
    }

    /// The same as of any other request.
    pub(crate) fn charged(self) -> Charged {
        let Self { place, ready, answers: Answers { at, fit, readings } } = self;
        let asked = ready.iter().zip(readings).enumerate().map(|(limit, (ready, reading))| {
            let charge = Charge { place: Place::Client(place), ..ready.charge };
            Asked { limit, charge, reading }
        });
        Charged { asked: asked.collect(), at, fit, ..Charged::default() }
    }
}
