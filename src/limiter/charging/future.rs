//! A charge that is being decided.

use super::{
    super::{ChargeError, Charged, Limiter, Pending, Verdict},
    Act, Charging,
};
use crate::{Decision, Grant, Key, StoreError, identity::ClientLabel, registry::Who};
use std::{
    fmt,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// The decision; ready when first polled, and made without allocation, where the limiter counts in memory and the client
/// is known.
#[must_use = "futures do nothing unless polled"]
pub struct ChargeFuture {
    answer: Option<Result<Decision, ChargeError>>,
    waiting: Option<Box<Waiting>>,
}

impl ChargeFuture {
    pub(super) fn new(charging: &Charging<'_>) -> Self {
        let mut charged = Charged::default();
        match charging.ask(None, &mut charged) {
            Ok(Some(pending)) => {
                let waiting = Waiting { pending, charging: Kept::new(charging) };
                Self { answer: None, waiting: Some(Box::new(waiting)) }
            }
            Ok(None) => Self { answer: Some(Ok(charging.decide(charged))), waiting: None },
            Err(error) => Self { answer: Some(Err(error)), waiting: None },
        }
    }
}

/// A registry or a store elsewhere is being asked.
struct Waiting {
    pending: Pending,
    charging: Kept,
}

/// A charge that borrows nothing.
struct Kept {
    limiter: Limiter,
    key: Key,
    label: ClientLabel,
    rule: String,
    route: Option<String>,
    cost: Option<u32>,
    act: Act,
    who: Option<Arc<Who>>,
    address: Option<IpAddr>,
    resource: Option<String>,
    limits: Option<Grant>,
}

impl Kept {
    fn new(charging: &Charging<'_>) -> Self {
        Self {
            limiter: charging.limiter.clone(),
            key: charging.key,
            label: charging.label,
            rule: charging.rule.to_owned(),
            route: charging.route.map(str::to_owned),
            cost: charging.cost,
            act: charging.act,
            who: charging.who.clone(),
            address: charging.address,
            resource: charging.resource.map(str::to_owned),
            limits: charging.limits.cloned(),
        }
    }

    fn charging(&self) -> Charging<'_> {
        Charging {
            limiter: &self.limiter,
            key: self.key,
            label: self.label,
            rule: &self.rule,
            route: self.route.as_deref(),
            cost: self.cost,
            act: self.act,
            who: self.who.clone(),
            address: self.address,
            resource: self.resource.as_deref(),
            limits: self.limits.as_ref(),
        }
    }
}

impl Waiting {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Decision, ChargeError>> {
        let inner = self.charging.limiter.inner.clone();
        loop {
            let charged = match ready!(self.pending.poll(&inner, cx)) {
                Ok(Verdict::Charged(charged)) => charged,
                Ok(Verdict::Known(_, looked)) => {
                    inner.note_looked(&looked);
                    let mut charged = Charged::default();
                    match self.charging.charging().ask(Some(looked.outcome), &mut charged)? {
                        None => charged,
                        Some(pending) => {
                            self.pending = pending;
                            continue;
                        }
                    }
                }
                Err(error) => {
                    inner.report_store(&error, None);
                    return Poll::Ready(Err(ChargeError::Store(error)));
                }
            };
            return Poll::Ready(Ok(self.charging.charging().decide(charged)));
        }
    }
}

impl Future for ChargeFuture {
    type Output = Result<Decision, ChargeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(waiting) = &mut self.waiting {
            let answer = ready!(waiting.poll(cx));
            self.waiting = None;
            return Poll::Ready(answer);
        }
        let again = || Err(ChargeError::Store(StoreError::new("polled again after it had answered")));
        Poll::Ready(self.answer.take().unwrap_or_else(again))
    }
}

impl fmt::Debug for ChargeFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChargeFuture").finish_non_exhaustive()
    }
}
