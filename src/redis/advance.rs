//! What is leased with a call, booked whatever becomes of it.

use super::{
    call::{Answer, Call, Stay},
    failure::Failure,
    leases::Heard,
    link::Link,
    resets, split,
    wires::Wires,
};
use crate::{Charge, Op};
use std::sync::Arc;

/// Books what a call leases when it is answered, or when nobody waits for that any more.
pub(super) struct Advance {
    link: Arc<Link>,
    call: Arc<Call>,
    is_booked: bool,
}

impl Advance {
    pub(super) fn new(link: Arc<Link>, call: Arc<Call>) -> Self {
        let is_booked = call.parts.is_empty();
        Self { link, call, is_booked }
    }

    pub(super) fn book(&mut self, answer: Option<&Answer>) {
        if std::mem::replace(&mut self.is_booked, true) {
            return;
        }
        let Call { charges, parts, .. } = &*self.call;
        let heard = answer.map(|Answer { readings, granted, .. }| Heard { readings, granted });
        let returns = self.link.leases.book(charges, parts, heard);
        self.link.give_units(returns);
    }
}

impl Drop for Advance {
    fn drop(&mut self) {
        self.book(None);
    }
}

impl Link {
    /// A call that leases as it may.
    pub(super) fn lease(
        self: &Arc<Self>,
        wires: Arc<Wires>,
        charges: Vec<Charge>,
        stay: Option<Stay>,
    ) -> (impl Future<Output = Result<Answer, Failure>> + Send + use<>, Arc<Call>) {
        for charge in charges.iter().filter(|charge| charge.op == Op::Clear) {
            self.leases.forget(charge.place, charge.limit);
        }
        let (parts, returns) = self.leases.ask(&charges);
        let call = Arc::new(Call::new(charges, stay, parts));
        let mut advance = Advance::new(self.clone(), call.clone());
        let asking = split::ask(self, wires.clone(), call.clone());
        self.give_units(returns);
        let (link, asked) = (self.clone(), call.clone());
        let leasing = async move {
            let answer = asking.await;
            advance.book(answer.as_ref().ok());
            if answer.is_ok() {
                resets::tell(&link, &wires, &asked);
            }
            answer
        };
        (leasing, call)
    }

    /// Fetches units before those that are held are spent. Nobody waits for the answer.
    pub(super) fn fetch(self: &Arc<Self>, charge: Charge, more: u32) {
        let call = Call::fetching(charge, more);
        match self.wires() {
            Ok(wires) if !self.numbers.is_crowded() => {
                let call = Arc::new(call);
                let (asking, mut advance) =
                    (self.ask(wires, call.clone(), None), Advance::new(self.clone(), call));
                self.set_off(async move { advance.book(asking.await.as_ref().ok()) });
            }
            _ => Advance::new(self.clone(), Arc::new(call)).book(None),
        }
    }

    /// Gives back units that were leased. Where that is lost, they count as spent.
    pub(super) fn give_units(self: &Arc<Self>, returns: Vec<Charge>) {
        for charge in returns {
            let asking = self.wires().ok().filter(|_| !self.numbers.is_crowded());
            let Some(wires) = asking else {
                self.numbers.lost();
                continue;
            };
            let (asking, link) = (self.ask(wires, Arc::new(Call::returning(charge)), None), self.clone());
            self.set_off(async move {
                if asking.await.is_err() {
                    link.numbers.lost();
                }
            });
        }
    }
}
