//! Calls whose keys lie with several nodes of a cluster, so that no script can decide them at once.
//!
//! What all share is reserved first, then what is the client's own; where a later part refuses, what was reserved is given
//! back. So nothing is ever admitted beyond a limit, and what is reserved without being used is at most what the requests in
//! flight ask for.

use super::{
    call::{Answer, Call, Stay},
    failure::Failure,
    leases::{Part, Parts},
    link::Link,
    names::Names,
    shards::slot,
    wires::Wires,
};
use crate::{Charge, Op, Place, Reading, Slot, SlotReading, store::Fit};
use std::{collections::BTreeMap, future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};
use tokio::time::Instant;

/// The numbers of charges and of slots whose keys can be asked for together.
#[derive(Default)]
struct Share {
    charges: Vec<usize>,
    slots: Vec<usize>,
}

/// What can be asked for together, what all share first; nothing where that is everything.
fn parts(names: &Names, wires: &Wires, call: &Call) -> Option<Vec<Share>> {
    wires.shards.as_ref()?;
    let mut parts = BTreeMap::<_, Share>::new();
    let order = |place, limit| (matches!(place, Place::Client(_)), slot(&names.at(place, limit)));
    for (number, Charge { place, limit, .. }) in call.charges.iter().enumerate() {
        parts.entry(order(*place, *limit)).or_default().charges.push(number);
    }
    for (number, Slot { place, limit, .. }) in call.slots().iter().enumerate() {
        parts.entry(order(*place, *limit)).or_default().slots.push(number);
    }
    (parts.len() > 1).then(|| parts.into_values().collect())
}

type Asking = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;

/// Has a call decided, by one node or by several. What it answers with may be polled anywhere.
pub(super) fn ask(
    link: &Arc<Link>,
    wires: Arc<Wires>,
    call: Arc<Call>,
) -> impl Future<Output = Result<Answer, Failure>> + Send + use<> {
    let parts = parts(&link.names, &wires, &call);
    let (one, several) = match parts {
        None => (Some(link.ask(wires, call, None)), None),
        Some(parts) => (None, Some(decide(link.clone(), wires, call, parts))),
    };
    async move {
        match (one, several) {
            (Some(one), _) => one.await,
            (None, Some(several)) => several.await,
            (None, None) => Err(Failure::Odd("there was nothing to ask".into())),
        }
    }
}

/// Has a call decided in parts.
fn decide(link: Arc<Link>, wires: Arc<Wires>, call: Arc<Call>, parts: Vec<Share>) -> Asking {
    let takes = |charge: &Charge| matches!(charge.op, Op::Take(_));
    if call.stay.is_none() && !call.charges.iter().any(takes) {
        return Box::pin(all(link, wires, call, parts));
    }
    // A task of its own: it goes on to its end, also if nobody waits for it any more.
    let deciding = link
        .runtime
        .get()
        .map(|runtime| runtime.spawn(Reserving::new(link.clone(), wires, call, parts).run()));
    Box::pin(async move {
        let gone = || Err(Failure::NotSent("the runtime has ended".into()));
        match deciding {
            Some(deciding) => deciding.await.unwrap_or_else(|_| gone()),
            None => gone(),
        }
    })
}

/// Asks for all parts at once, where none depends on the others. All are sent when this is first polled.
async fn all(
    link: Arc<Link>,
    wires: Arc<Wires>,
    call: Arc<Call>,
    parts: Vec<Share>,
) -> Result<Answer, Failure> {
    let ask = |part: &Share| {
        let charges = part.charges.iter().map(|number| call.charges[*number]).collect();
        let asking: Asking =
            Box::pin(link.ask(wires.clone(), Arc::new(Call::new(charges, None, Parts::new())), None));
        (asking, None)
    };
    let mut asking: Vec<_> = parts.iter().map(ask).collect();
    poll_fn(|cx| {
        for (future, answer) in asking.iter_mut().filter(|(_, answer)| answer.is_none()) {
            if let Poll::Ready(ready) = future.as_mut().poll(cx) {
                *answer = Some(ready);
            }
        }
        if asking.iter().all(|(_, answer)| answer.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let mut readings = vec![Reading::allowed_ns(0); call.charges.len()];
    for ((_, answer), part) in asking.into_iter().zip(&parts) {
        let Some(answer) = answer else { continue };
        for (number, reading) in part.charges.iter().zip(answer?.readings) {
            readings[*number] = reading;
        }
    }
    Ok(Answer { slots: Vec::new(), readings, granted: vec![0; call.charges.len()] })
}

/// A call that is decided part by part.
struct Reserving {
    link: Arc<Link>,
    wires: Arc<Wires>,
    call: Arc<Call>,
    parts: Vec<Share>,
    readings: Vec<Reading>,
    said: Vec<SlotReading>,
    granted: Vec<u32>,
    /// Charges and slots that were made for sure.
    charged: Vec<usize>,
    taken: Vec<usize>,
    /// Whether all that was asked so far fits, and whether no slot refuses.
    fit: Fit,
    free: bool,
}

impl Reserving {
    fn new(link: Arc<Link>, wires: Arc<Wires>, call: Arc<Call>, parts: Vec<Share>) -> Self {
        let readings = vec![Reading::allowed_ns(0); call.charges.len()];
        let said = vec![SlotReading { used: 0, is_free: true }; call.slots().len()];
        let (fit, granted) = (Fit::default(), vec![0; call.charges.len()]);
        Self {
            link,
            wires,
            call,
            parts,
            readings,
            said,
            granted,
            charged: vec![],
            taken: vec![],
            fit,
            free: true,
        }
    }

    async fn run(mut self) -> Result<Answer, Failure> {
        let start = self.link.now();
        let until = Instant::now() + self.link.timing.deadline;
        // Nothing is reserved where a node is away that is needed later, nor for who is refused in any case.
        for part in &self.parts {
            self.wires.node(|| self.part_of(part).key(&self.link.names))?;
        }
        let question = self.link.refusals.ask(&self.call.charges, false);
        self.fit.enforced = !self.link.refusals.refuse(&self.call.charges);
        let is_known = !self.fit.enforced;
        for part in std::mem::take(&mut self.parts) {
            let call = Arc::new(self.part_of(&part));
            if call.charges.is_empty() && call.slots().is_empty() {
                continue;
            }
            let answer = self.link.ask(self.wires.clone(), call.clone(), Some(until)).await;
            match answer {
                Ok(answer) => self.note(&part, &call, &answer),
                Err(failure) => {
                    // What is not known to be charged counts as charged, and so does what was reserved for it.
                    if !failure.is_unsure() {
                        self.undo(start, |_| true, |_| true);
                    }
                    return Err(failure);
                }
            }
        }
        if is_known {
            self.link.refusals.note(&question, &self.call.charges, Some(&self.readings), false);
        }
        Ok(self.end(start))
    }

    /// What is asked of a part: nothing is taken any more where something before refused.
    fn part_of(&self, part: &Share) -> Call {
        let passes = |shadow: bool| self.free && self.fit.enforced && (self.fit.watched || !shadow);
        let mut call = Call::new(Vec::new(), None, Parts::new());
        for number in &part.charges {
            let charge = self.call.charges[*number];
            let (op, leased) = match charge.op {
                Op::Take(units) if !passes(charge.shadow) => (Op::Peek(units), Part::default()),
                op => (op, self.call.part(*number)),
            };
            call.charges.push(Charge { op, ..charge });
            call.parts.push(leased);
        }
        if let Some(stay) = self.call.stay.as_ref().filter(|_| !part.slots.is_empty() && passes(false)) {
            let slots = part.slots.iter().map(|number| stay.slots[*number]).collect();
            call.stay = Some(Stay { slots, member: stay.member, life: stay.life });
        }
        call
    }

    fn note(&mut self, part: &Share, call: &Call, answer: &Answer) {
        for (nth, (number, said)) in part.slots.iter().zip(&answer.slots).enumerate() {
            self.said[*number] = *said;
            self.free &= said.is_free || self.call.slots()[*number].shadow;
            if answer.takes(call, nth) {
                self.taken.push(*number);
            }
        }
        let fit = Fit::of(
            call.charges
                .iter()
                .zip(&answer.readings)
                .map(|(charge, reading)| (charge.shadow, reading.is_allowed())),
        );
        for (number, reading) in part.charges.iter().zip(&answer.readings) {
            self.readings[*number] = *reading;
        }
        for (number, granted) in part.charges.iter().zip(&answer.granted) {
            self.granted[*number] = *granted;
        }
        for ((number, charge), reading) in part.charges.iter().zip(&call.charges).zip(&answer.readings) {
            let applies = fit.enforced && (fit.watched || !charge.shadow);
            if matches!(charge.op, Op::Take(_)) && applies && reading.is_allowed() {
                self.charged.push(*number);
            }
        }
        self.fit.enforced &= fit.enforced;
        self.fit.watched &= fit.watched;
    }

    /// Gives back what was reserved and is not to be.
    fn end(mut self, start: u64) -> Answer {
        let mut answer =
            Answer { slots: self.said.clone(), readings: self.readings.clone(), granted: vec![] };
        let call = self.call.clone();
        let passes = |shadow: bool| self.free && self.fit.enforced && (self.fit.watched || !shadow);
        let charges: Vec<_> = call.charges.iter().map(|charge| !passes(charge.shadow)).collect();
        let slots: Vec<_> =
            (0..call.slots().len()).map(|slot| !(passes(false) && answer.takes(&call, slot))).collect();
        self.undo(start, |charge| charges[charge], |slot| slots[slot]);
        (answer.slots, answer.granted) = (self.said, self.granted);
        answer.readings = if self.free { self.readings } else { Vec::new() };
        answer
    }

    /// Gives back what was reserved at a time or later. It is sent and not waited for.
    fn undo(&mut self, start: u64, charge: impl Fn(usize) -> bool, slot: impl Fn(usize) -> bool) {
        let age = Duration::from_nanos(self.link.now().saturating_sub(start));
        let mut gifts = Vec::new();
        for number in self.charged.iter().copied().filter(|number| charge(*number)) {
            let (asked, reading) = (self.call.charges[number], &mut self.readings[number]);
            let Op::Take(units) = asked.op else { continue };
            let (owed, by) = (crate::clock::nanos(reading.reset_after()), asked.rate.interval_ns());
            let by = by.saturating_mul(units.saturating_sub(self.call.part(number).held).into());
            // What was taken last drains last, so at most what is owed yet is there to be given back.
            let given = by.min(owed.saturating_sub(crate::clock::nanos(age)));
            *reading = Reading::allowed_ns(owed.saturating_sub(by));
            gifts.push(Charge { op: Op::Give(given), ..asked });
        }
        for gift in gifts {
            let link = self.link.clone();
            let call = Arc::new(Call::new(vec![gift], None, Parts::new()));
            let giving = link.ask(self.wires.clone(), call, None);
            self.link.set_off(async move {
                if giving.await.is_err() {
                    link.numbers.lost();
                }
            });
        }
        if let Some(stay) = &self.call.stay {
            for number in self.taken.iter().copied().filter(|number| slot(*number)) {
                self.said[number].used = self.said[number].used.saturating_sub(1);
                let Slot { place, limit, .. } = stay.slots[number];
                let key = self.link.names.at(place, limit);
                self.link.give_back(key, place, stay.member);
            }
        }
    }
}
