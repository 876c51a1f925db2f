//! Slots of requests: given back with them, and shown to be needed until then.

use super::{
    failure::Failure,
    holdings::{Kept, Listed},
    line::send,
    link::{Link, Wires},
};
use crate::{Slot, StoreChange};
use redis::{Cmd, Value};
use std::sync::Arc;
use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

/// The slots of one request, which are given back with this.
pub(super) struct Tenant {
    link: Arc<Link>,
    name: u64,
    /// Those that Redis may count.
    slots: Vec<Kept>,
}

impl Tenant {
    /// One that asks for slots: whatever becomes of the question, they are given back.
    pub(super) fn asks(link: Arc<Link>, name: u64, slots: &[Slot]) -> Self {
        let kept = |slot: &Slot| Kept {
            key: link.names.at(slot.place, slot.limit),
            max: slot.max,
            place: slot.place,
            counted: true,
        };
        let slots = slots.iter().map(kept).collect();
        Self { link, name, slots }
    }

    /// It has got those of which `is_taken` says so by their number, and no others.
    pub(super) fn settles(&mut self, is_taken: impl Fn(usize) -> bool) {
        let mut numbers = 0..;
        self.slots.retain(|_| numbers.next().is_some_and(&is_taken));
        if !self.slots.is_empty() {
            self.link.holdings.enter(self.name, self.slots.clone());
        }
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        self.link.holdings.leave(self.name);
        for slot in &self.slots {
            self.link.give_back(slot, self.name);
        }
    }
}

/// So many slots are told to be needed at once, that Redis is held up for no longer than some 100 us.
const BATCH: usize = 100;

impl Link {
    /// Gives a slot back. Nobody waits for the answer: where it is lost, the slot is kept for its life.
    fn give_back(self: &Arc<Self>, slot: &Kept, name: u64) {
        let Ok(wires) = self.wires() else { return };
        if self.numbers.is_crowded() {
            return self.numbers.lost();
        }
        let _runtime = self.runtime.get().map(Handle::enter);
        let (link, line) = (self.clone(), wires.line(Some(slot.place)));
        let mut command = Cmd::new();
        command.arg("ZREM").arg(&slot.key).arg(&self.holdings.member(name));
        let gone = timeout(self.timing.deadline, send(line, command));
        self.set_off(async move {
            let _flight = link.numbers.flight();
            if !matches!(gone.await, Ok(Ok(_))) {
                link.numbers.lost();
            }
        });
    }

    /// Shows that all that is held is still needed. What others were given meanwhile is counted again as soon as there is
    /// room.
    async fn renew(self: &Arc<Self>, wires: &Wires) -> Result<(), Failure> {
        for batch in self.holdings.list().chunks(BATCH) {
            let deadline = self.timing.deadline;
            let answer = timeout(deadline, send(wires.line(None), self.renewal(batch))).await;
            let Value::Array(answers) = answer.map_err(|_| Failure::Late(deadline))?? else {
                return Err(Failure::Odd("it answered a renewal with no list".into()));
            };
            for (listed, answer) in batch.iter().zip(answers) {
                let (name, _, kept) = listed;
                if !self.holdings.note(listed, answer != Value::Int(0)) {
                    // Given back meanwhile; which of the two Redis heard first nobody knows.
                    self.give_back(kept, *name);
                }
            }
        }
        if let Some(permits) = self.holdings.newly_uncounted() {
            self.tell(StoreChange::PermitsLost { permits });
        }
        Ok(())
    }

    fn renewal(&self, batch: &[Listed]) -> Cmd {
        let mut renew = Cmd::new();
        renew.arg("EVAL").arg(include_str!("renew.lua")).arg(batch.len());
        for (_, _, kept) in batch {
            renew.arg(&kept.key);
        }
        let now = self.manual().map_or(-1, |micros| i64::try_from(micros).unwrap_or(i64::MAX));
        renew.arg(self.holdings.life.as_micros() as u64).arg(now);
        for (name, _, kept) in batch {
            renew.arg(kept.max).arg(&self.holdings.member(*name));
        }
        renew
    }
}

/// When slots are to be shown to be needed.
pub(super) struct Renewals(Instant);

impl Renewals {
    /// At once, because nobody knows how long Redis was away.
    pub(super) fn due() -> Self {
        Self(Instant::now())
    }

    /// Shows it three times in the life of a slot.
    pub(super) async fn go_on(&mut self, link: &Arc<Link>, wires: &Wires) -> Result<(), Failure> {
        if Instant::now() < self.0 {
            return Ok(());
        }
        self.0 = Instant::now() + link.holdings.life / 3;
        link.renew(wires).await
    }
}
