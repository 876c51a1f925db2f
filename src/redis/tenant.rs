//! Slots of requests: given back with them, and shown to be needed until then.

use super::{
    failure::Failure,
    holdings::{Holdings, Kept, Listed},
    line::send,
    link::Link,
    shards::slot,
    wires::{Node, Wires},
};
use crate::{Place, Slot, StoreChange};
use redis::{Cmd, Value};
use std::{sync::Arc, time::Duration};
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
            let member = self.link.holdings.member(self.name);
            self.link.give_back(slot.key.clone(), slot.place, member);
        }
    }
}

/// So many slots are told to be needed at once, that Redis is held up for no longer than some 100 us.
const BATCH: usize = 100;

impl Link {
    /// Gives a slot back. Nobody waits for the answer: where it is lost, the slot is kept for its life.
    pub(super) fn give_back(self: &Arc<Self>, key: Vec<u8>, place: Place, member: [u8; 16]) {
        let Ok(wires) = self.wires() else { return };
        let Ok(node) = wires.node(|| key.clone()).cloned() else { return };
        if self.numbers.is_crowded() {
            return self.numbers.lost();
        }
        let _runtime = self.runtime.get().map(Handle::enter);
        let (link, line) = (self.clone(), node.line(Some(place)));
        let mut command = Cmd::new();
        command.arg("ZREM").arg(&key).arg(&member);
        let gone = timeout(self.timing.deadline, send(line, command));
        self.set_off(async move {
            let _flight = link.numbers.flight();
            if !matches!(gone.await, Ok(Ok(_))) {
                link.numbers.lost();
            }
        });
    }

    /// Shows that all that is held is still needed. What others were given meanwhile is counted again as soon as there is
    /// room. Where a node fails, the others are gone on with.
    async fn renew(self: &Arc<Self>, wires: &Wires) -> Result<(), (Arc<Node>, Failure)> {
        let (mut held, mut failed) = (self.holdings.list(), None);
        // One script for the keys of one hash slot, in a cluster.
        let home = |listed: &Listed| wires.shards.as_ref().map(|_| slot(&listed.2.key));
        held.sort_by_key(home);
        for batch in held.chunk_by(|one, next| home(one) == home(next)).flat_map(|same| same.chunks(BATCH)) {
            let key = batch.first().map_or_else(Vec::new, |(_, _, kept)| kept.key.clone());
            let Ok(node) = wires.node(|| key) else { continue };
            if failed.as_ref().is_some_and(|(failed, _)| Arc::ptr_eq(failed, node)) {
                continue;
            }
            if let Err(failure) = self.renew_at(node, batch).await {
                failed = Some((node.clone(), failure));
            }
        }
        if let Some(permits) = self.holdings.newly_uncounted() {
            self.tell(StoreChange::PermitsLost { permits });
        }
        failed.map_or(Ok(()), Err)
    }

    async fn renew_at(self: &Arc<Self>, node: &Node, batch: &[Listed]) -> Result<(), Failure> {
        let deadline = self.timing.deadline;
        let answer = timeout(deadline, send(node.line(None), self.renewal(batch))).await;
        let Value::Array(answers) = answer.map_err(|_| Failure::Late(deadline))?? else {
            return Err(Failure::Odd("it answered a renewal with no list".into()));
        };
        for (listed, answer) in batch.iter().zip(answers) {
            let (name, _, kept) = listed;
            if !self.holdings.note(listed, answer != Value::Int(0)) {
                // Given back meanwhile; which of the two Redis heard first nobody knows.
                let member = self.holdings.member(*name);
                self.give_back(kept.key.clone(), kept.place, member);
            }
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
    /// What is held at once, because nobody knows how long Redis was away. What is taken from now on is fresh.
    pub(super) fn of(holdings: &Holdings) -> Self {
        let pause = if holdings.is_empty() { holdings.life / 3 } else { Duration::ZERO };
        Self(Instant::now() + pause)
    }

    /// Shows it three times in the life of a slot.
    pub(super) async fn go_on(
        &mut self,
        link: &Arc<Link>,
        wires: &Wires,
    ) -> Result<(), (Arc<Node>, Failure)> {
        if Instant::now() < self.0 {
            return Ok(());
        }
        self.0 = Instant::now() + link.holdings.life / 3;
        link.renew(wires).await
    }
}
