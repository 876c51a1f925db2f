//! The way of one send: its place in the queue, its turn, the charge.

use super::{
    PaceError, Rejected,
    pacer::Shared,
    queue::{Full, Sums, Ticket},
    spacing::nanos,
    timer::{go_on, wait},
};
use crate::{
    Decision, Place, StoreError,
    limiter::{Paced, Question},
    store::Asked,
};
use smallvec::SmallVec;
use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

/// How long something may wait.
#[derive(Debug, Clone, Copy)]
pub(super) enum Patience {
    None,
    Upto(Duration),
    Endless,
}

impl Patience {
    /// In nanoseconds.
    fn most(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Upto(most) => u64::try_from(most.as_nanos()).unwrap_or(u64::MAX),
            Self::Endless => u64::MAX,
        }
    }
}

/// Nobody sleeps longer than this without looking again, because quotas may change meanwhile.
const LONGEST_SLEEP: u64 = 1_000_000_000;

/// Waits for a place, a turn and the limits, and charges them.
pub(super) async fn pass(shared: &Shared, paced: &Paced, patience: Patience) -> Result<Decision, PaceError> {
    if paced.shadow {
        return watch(shared, paced, patience).await;
    }
    let start = paced.now();
    let deadline = start.saturating_add(patience.most());
    let ticket = match shared.queues.enter(paced.key, &paced.units) {
        Ok(ticket) => ticket,
        Err(Full) => return Err(full(shared, paced, patience).await),
    };
    if !matches!(patience, Patience::Endless) {
        let ahead = ticket.ahead();
        if ahead.iter().any(|units| *units > 0) {
            let look = Look::at(shared, paced, ahead).await?;
            if paced.now().saturating_add(look.wait()) > deadline {
                return Err(look.reject(paced, PaceError::Limited));
            }
        }
    }
    poll_fn(|cx| ticket.poll_head(cx)).await;
    let mut head = Head { shared, paced, ticket, deadline, due: None };
    let decision = head.lead(matches!(patience, Patience::None)).await?;
    let waited = head.due.map(|_| Duration::from_nanos(paced.now().saturating_sub(start)));
    head.ticket.serve();
    paced.report_passed(&decision, waited);
    Ok(decision)
}

/// Lets something pass at once, and tells what would have become of it.
async fn watch(shared: &Shared, paced: &Paced, patience: Patience) -> Result<Decision, PaceError> {
    let look = Look::at(shared, paced, Sums::new()).await?;
    let mut decision = paced.take().await.map_err(|error| failed(paced, error))?;
    decision.refuse_for(|number, _| look.waits.get(number).copied().flatten().unwrap_or(0));
    let wait = look.wait();
    if look.waits.contains(&None) || wait > patience.most() {
        paced.report_would_refuse(&decision);
    } else if wait > 0 {
        paced.report_would_wait(&decision, Duration::from_nanos(wait));
    } else {
        paced.report_passed(&decision, None);
    }
    Ok(decision)
}

/// What becomes of a send for which there is no place in the queue.
async fn full(shared: &Shared, paced: &Paced, patience: Patience) -> PaceError {
    let ahead = shared.queues.sums(paced.key);
    match Look::at(shared, paced, ahead).await {
        Ok(look) if matches!(patience, Patience::None) => look.reject(paced, PaceError::Limited),
        Ok(look) => look.reject(paced, PaceError::Full),
        Err(error) => error,
    }
}

/// The first in the queue of its key.
struct Head<'a> {
    shared: &'a Shared,
    paced: &'a Paced,
    ticket: Ticket,
    deadline: u64,
    /// When it could have gone if timers were exact, and when each limit had drained.
    due: Option<(u64, SmallVec<[u64; 4]>)>,
}

impl Head<'_> {
    async fn lead(&mut self, only_tries: bool) -> Result<Decision, PaceError> {
        loop {
            let mut look = Look::at(self.shared, self.paced, Sums::new()).await?;
            let now = self.paced.now();
            let contends = self.shared.takes_turns && look.own == 0;
            let has_turn = !contends || self.has_turn().await;
            if look.wait() == 0 && has_turn {
                match self.charge().await? {
                    Some(decision) => return Ok(decision),
                    None => continue, // somebody else charged meanwhile
                }
            }
            if !has_turn {
                look.mind_turns();
            }
            if only_tries || now.saturating_add(look.wait()) > self.deadline {
                return Err(look.reject(self.paced, PaceError::Limited));
            }
            if self.ticket.stay().is_err() {
                return Err(look.reject(self.paced, PaceError::Full));
            }
            self.sleep(&look, now, has_turn).await;
        }
    }

    async fn has_turn(&self) -> bool {
        poll_fn(|cx| Poll::Ready(self.ticket.poll_turn(cx).is_ready())).await
    }

    async fn sleep(&mut self, look: &Look, now: u64, has_turn: bool) {
        if look.own > 0 {
            self.ticket.pass_turn();
        }
        if has_turn {
            self.due = Some((now.saturating_add(look.wait()), look.drained(now)));
            let time = Duration::from_nanos(look.wait().min(LONGEST_SLEEP));
            return wait(time, |_| Poll::Pending).await;
        }
        self.due = Some((u64::MAX, SmallVec::new()));
        let time = Duration::from_nanos(self.deadline.saturating_sub(now).min(LONGEST_SLEEP));
        wait(time, |cx| self.ticket.poll_turn(cx)).await;
    }

    /// Charges the limits, and gives back what a late timer cost.
    async fn charge(&self) -> Result<Option<Decision>, PaceError> {
        let decision = InFlight(Some(self.paced.take())).await;
        let decision = decision.map_err(|error| failed(self.paced, error))?;
        if !decision.is_allowed() {
            return Ok(None);
        }
        if let Some((due, drained)) = &self.due {
            let now = self.paced.now();
            self.paced.forgive(&decision, |number, Asked { charge, reading, .. }| {
                let Some(drained) = drained.get(number) else { return 0 };
                let units = self.paced.units[number];
                let alone = nanos(*reading) == charge.rate.interval_ns().saturating_mul(units.into());
                let spacing = self.shared.settings.spacing;
                if alone { spacing.forgive(charge.rate, units, [*drained, *due, now]) } else { 0 }
            });
        }
        Ok(Some(decision))
    }
}

/// What the limits say, and how long that means to wait, in nanoseconds.
struct Look {
    decision: Decision,
    /// For each limit; nothing where it never fits.
    waits: SmallVec<[Option<u64>; 4]>,
    /// The longest wait of limits that are the key's own, and of those that all share.
    own: u64,
    shared: u64,
}

impl Look {
    /// # Errors
    ///
    /// If the store fails, or a limit never admits what it costs.
    async fn at(shared: &Shared, paced: &Paced, ahead: Sums) -> Result<Self, PaceError> {
        let decision = paced.peek().await.map_err(|error| failed(paced, error))?;
        let spacing = shared.settings.spacing;
        let mut look = Self { decision, waits: SmallVec::new(), own: 0, shared: 0 };
        for (number, Asked { charge, reading, .. }) in look.decision.charged.asked.iter().enumerate() {
            let ahead = ahead.get(number).copied().unwrap_or(0);
            let wait = spacing.wait(charge.rate, *reading, ahead, paced.units[number]);
            let longest = match charge.place {
                Place::Client(_) => &mut look.own,
                Place::Shared(_) => &mut look.shared,
            };
            *longest = (*longest).max(wait.unwrap_or(0));
            look.waits.push(wait);
        }
        if look.waits.contains(&None) && !paced.shadow {
            return Err(look.reject(paced, PaceError::TooLarge));
        }
        Ok(look)
    }

    fn wait(&self) -> u64 {
        self.own.max(self.shared)
    }

    /// When each limit will have drained, or has.
    fn drained(&self, now: u64) -> SmallVec<[u64; 4]> {
        let asked = self.decision.charged.asked.iter();
        asked.map(|asked| now.saturating_add(nanos(asked.reading))).collect()
    }

    /// Somebody else's turn takes as long as one's own, as far as can be known.
    fn mind_turns(&mut self) {
        for (wait, Asked { charge, .. }) in self.waits.iter_mut().zip(&self.decision.charged.asked) {
            if let (Place::Shared(_), Some(wait)) = (charge.place, wait) {
                *wait = (*wait).max(charge.rate.interval_ns());
            }
        }
    }

    fn reject(mut self, paced: &Paced, kind: impl Fn(Rejected) -> PaceError) -> PaceError {
        let waits = &self.waits;
        self.decision.refuse_for(|number, _| waits.get(number).copied().flatten().unwrap_or(0));
        paced.report_refused(&self.decision);
        kind(Rejected::new(self.decision))
    }
}

fn failed(paced: &Paced, error: StoreError) -> PaceError {
    paced.report_store(&error);
    PaceError::Store(error)
}

/// A charge on its way. Where nobody waits for it any more, it is given back once it has been decided.
struct InFlight(Option<Question>);

impl Future for InFlight {
    type Output = Result<Decision, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(question) = &mut self.0 else { return Poll::Pending };
        let answer = ready!(Pin::new(question).poll(cx));
        self.0 = None;
        Poll::Ready(answer)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(question) = self.0.take() {
            go_on(async move {
                if let Ok(decision) = question.await {
                    decision.refund();
                }
            });
        }
    }
}
