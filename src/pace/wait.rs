//! The way of one send: its place in the queue, its turn, the charge.

use super::{
    PaceError, Priority,
    feedback::{Control, Room},
    look::{Look, failed},
    queue::{self, Entrant, Full, Handing, Sums, Ticket, Units},
    shared::Shared,
    spacing::nanos,
    timer::{go_on, wait},
};
use crate::{
    Decision, Event, Place, StoreError,
    limiter::{Paced, Question},
    store::Asked,
};
use smallvec::SmallVec;
use std::{
    future::poll_fn,
    iter::repeat,
    pin::Pin,
    sync::Arc,
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

/// How something is to be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) patience: Patience,
    pub(super) priority: Priority,
    /// Whether it is known when it is no longer on its way, so that it takes room.
    pub(super) takes_room: bool,
}

/// Nobody sleeps longer than this without looking again, because quotas may change meanwhile.
const LONGEST_SLEEP: u64 = 1_000_000_000;
/// The same for whoever waits for room: who was woken for it may have left meanwhile.
const LONGEST_ROOM: u64 = 50_000_000;

/// Something to be sent, and how long it may wait.
pub(super) struct Send {
    /// Boxed, because it is moved often.
    pub(super) paced: Box<Paced>,
    pub(super) manner: Manner,
}

/// What was let through, with the room that it takes.
pub(super) type Passed = (Decision, Option<Room>);

/// Waits for a place, a turn and the limits, and charges them.
pub(super) async fn pass(shared: Arc<Shared>, send: Send) -> Result<Passed, PaceError> {
    let shared = &*shared;
    let Send { mut paced, manner: Manner { patience, priority, takes_room } } = send;
    // What few need is boxed, because a future is as large as all that it may wait for, and many may wait.
    if paced.is_looked_up() {
        Box::pin(paced.look_up()).await?;
    }
    if paced.shadow {
        return Box::pin(watch(shared, &mut paced, patience)).await.map(|decision| (decision, None));
    }
    let start = paced.now();
    if let Some(share) = shared.control.as_ref().and_then(|control| control.sheds(start)) {
        paced.tell(&Event::Shed { share });
        return Err(PaceError::Shed);
    }
    let deadline = start.saturating_add(patience.most());
    let ticket =
        match shared.queues.enter(&Entrant { key: paced.key, priority, units: &paced.units, deadline }) {
            Ok(ticket) => ticket,
            Err(Full) => return Err(Box::pin(full(shared, &mut paced, priority, patience)).await),
        };
    let only_tries = matches!(patience, Patience::None);
    // Made before anything is waited for, or the future would have room for its parts twice.
    let mut head = Head {
        shared,
        paced,
        ticket,
        deadline,
        only_tries,
        takes_room,
        room: None,
        due: None,
        waited: false,
        has_slept: false,
        drained: Vec::new(),
    };
    if !matches!(patience, Patience::Endless) {
        let ahead = head.ticket.ahead();
        if ahead.iter().any(|units| *units > 0) {
            let look = Box::pin(Look::at(shared, &mut head.paced, ahead)).await?;
            if head.paced.now().saturating_add(look.wait()) > deadline {
                return Err(look.reject(&head.paced, PaceError::Limited));
            }
        }
    }
    head.place().await;
    let decision = Box::pin(head.lead()).await?;
    let Head { paced, ticket, waited, room, drained, .. } = head;
    serve(shared, &paced, ticket, &decision, &drained);
    let waited = waited.then(|| Duration::from_nanos(paced.now().saturating_sub(start)));
    paced.report_passed(&decision, waited);
    Ok((decision, room))
}

/// Leaves the queue, and leaves to those who go next what they have to know.
fn serve(shared: &Shared, paced: &Paced, ticket: Ticket, decision: &Decision, drained: &[u64]) {
    let spacing = shared.settings.spacing;
    let due = |units: &Units, of: fn(&Place) -> bool| {
        let limits = decision.charged.asked.iter().zip(drained).zip(units);
        let limits = limits.filter(|((asked, _), _)| of(&asked.charge.place));
        limits
            .map(|((asked, drained), units)| spacing.due(asked.charge.rate, *drained, *units))
            .max()
            .unwrap_or(0)
    };
    ticket.serve(&Handing {
        now: paced.now(),
        longest: LONGEST_SLEEP,
        drained,
        own: &|units| due(units, |place| matches!(place, Place::Client(_))),
        shared: &|units| due(units, |place| matches!(place, Place::Shared(_))),
    });
}

/// Lets something pass at once, and tells what would have become of it.
async fn watch(shared: &Shared, paced: &mut Paced, patience: Patience) -> Result<Decision, PaceError> {
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
async fn full(shared: &Shared, paced: &mut Paced, priority: Priority, patience: Patience) -> PaceError {
    let ahead = shared.queues.sums(paced.key, priority);
    match Look::at(shared, paced, ahead).await {
        Ok(look) if matches!(patience, Patience::None) => look.reject(paced, PaceError::Limited),
        Ok(look) => look.reject(paced, PaceError::Full),
        Err(error) => error,
    }
}

/// One that is in the queue of its key, and the head of it sooner or later.
struct Head<'a> {
    shared: &'a Shared,
    paced: Box<Paced>,
    ticket: Ticket,
    deadline: u64,
    only_tries: bool,
    takes_room: bool,
    room: Option<Room>,
    /// When it could have gone. Boxed, as only who goes next knows it.
    due: Option<Box<Due>>,
    waited: bool,
    /// Whether it waited since the client was looked up last.
    has_slept: bool,
    /// When each limit has drained what it was charged, once it was.
    drained: Vec<u64>,
}

/// When a send could have gone if timers were exact, and when each limit had drained.
struct Due {
    at: u64,
    drained: SmallVec<[u64; 4]>,
}

impl Due {
    fn new(at: u64, drained: SmallVec<[u64; 4]>) -> Option<Box<Self>> {
        Some(Box::new(Self { at, drained }))
    }
}

impl Head<'_> {
    async fn lead(&mut self) -> Result<Decision, PaceError> {
        loop {
            let place = self.place().await;
            // What the client may do can have changed while it waited.
            if std::mem::take(&mut self.has_slept) && self.paced.is_looked_up() {
                self.paced.look_up().await?;
            }
            let ahead = if place == queue::Place::Head { Sums::new() } else { self.ticket.ahead() };
            let mut look = Look::at(self.shared, &mut self.paced, ahead).await?;
            let now = self.paced.now();
            let contends = self.shared.takes_turns && look.own == 0;
            let has_turn = !contends || self.has_turn().await;
            let may_go = look.wait() == 0 && has_turn && place == queue::Place::Head;
            let has_room = !may_go || self.has_room().await;
            if may_go && has_room {
                match self.charge().await? {
                    Some(decision) => return Ok(decision),
                    None => continue, // somebody else charged meanwhile, or overtook it
                }
            }
            if !has_turn {
                look.mind_turns();
            }
            let is_late = now.saturating_add(look.wait()) > self.deadline;
            if !has_room && (self.only_tries || now >= self.deadline) {
                return Err(look.reject(&self.paced, PaceError::Full));
            }
            if self.only_tries || place == queue::Place::Expired || is_late {
                return Err(look.reject(&self.paced, PaceError::Limited));
            }
            if self.ticket.stay().is_err() {
                return Err(look.reject(&self.paced, PaceError::Full));
            }
            if has_room {
                self.sleep(&look, now, has_turn).await;
            } else {
                self.wait_for_room(now).await;
            }
        }
    }

    /// Waits to be the head; sometimes it is overtaken and has to wait again.
    async fn place(&mut self) -> queue::Place {
        let Self { ticket, waited, has_slept, due, room, shared, paced, .. } = self;
        poll_fn(|cx| match ticket.poll_head(cx) {
            Poll::Ready((place, baton)) => {
                if let Some(baton) = baton {
                    *due = Due::new(baton.due, baton.drained);
                    shared.control.iter().for_each(|control| control.press(paced.now()));
                }
                Poll::Ready(place)
            }
            Poll::Pending => {
                // Whoever went before has changed when this one can go.
                (*waited, *has_slept, *due, *room) = (true, true, None, None);
                Poll::Pending
            }
        })
        .await
    }

    async fn has_turn(&self) -> bool {
        poll_fn(|cx| Poll::Ready(self.ticket.poll_turn(cx).is_ready())).await
    }

    async fn has_room(&mut self) -> bool {
        let control = self.shared.control.as_ref().filter(|_| self.takes_room && self.room.is_none());
        let Some(control) = control else { return true };
        poll_fn(|cx| {
            let room = control.poll_room(cx);
            let has_room = room.is_ready();
            if let Poll::Ready(room) = room {
                self.room = room;
            }
            Poll::Ready(has_room)
        })
        .await
    }

    async fn wait_for_room(&mut self, now: u64) {
        let Some(control) = &self.shared.control else { return };
        control.press(now);
        (self.waited, self.has_slept) = (true, true);
        self.due = None;
        let expiry = self.shared.queues.expire(self.paced.key, now).min(self.deadline);
        let time = Duration::from_nanos(expiry.saturating_sub(now).clamp(1, LONGEST_ROOM));
        let room = &mut self.room;
        wait(time, |cx| control.poll_room(cx).map(|taken| *room = taken)).await;
    }

    async fn sleep(&mut self, look: &Look, now: u64, has_turn: bool) {
        if let Some(control) = &self.shared.control {
            control.press(now);
        }
        (self.waited, self.has_slept) = (true, true);
        if look.own > 0 {
            self.ticket.pass_turn();
        }
        let expiry = self.shared.queues.expire(self.paced.key, now).saturating_sub(now).max(1);
        let longest = LONGEST_SLEEP.min(expiry);
        if has_turn {
            self.due = Due::new(now.saturating_add(look.wait()), look.drained(now));
            let time = Duration::from_nanos(look.wait().min(longest));
            return wait(time, |_| Poll::Pending).await;
        }
        self.due = Due::new(u64::MAX, SmallVec::new());
        let time = Duration::from_nanos(self.deadline.saturating_sub(now).min(longest));
        wait(time, |cx| self.ticket.poll_turn(cx)).await;
    }

    /// Charges the limits, and gives back what a late timer cost. Nobody overtakes it meanwhile.
    async fn charge(&mut self) -> Result<Option<Decision>, PaceError> {
        if !self.ticket.begin() {
            return Ok(None);
        }
        let Some(claim) = Claim::new(self.shared, &self.paced) else {
            self.ticket.end();
            return Ok(None);
        };
        let decision = InFlight(Some(self.paced.take())).await;
        let decision = decision.map_err(|error| failed(&self.paced, error))?;
        if !decision.is_allowed() {
            self.ticket.end();
            return Ok(None);
        }
        claim.keep();
        let now = self.paced.now();
        let late = self.late(&decision, now);
        self.paced.forgive(&decision, |number, _| late.get(number).copied().unwrap_or(0));
        let readings = decision.charged.asked.iter().map(|asked| nanos(asked.reading));
        let late = late.into_iter().chain(repeat(0));
        self.drained =
            readings.zip(late).map(|(debt, late)| now.saturating_add(debt.saturating_sub(late))).collect();
        Ok(Some(decision))
    }

    /// What a late timer cost, for each limit.
    fn late(&self, decision: &Decision, now: u64) -> SmallVec<[u64; 4]> {
        let Some(due) = &self.due else { return SmallVec::new() };
        let asked = decision.charged.asked.iter().zip(&due.drained).zip(&self.paced.units);
        let late = asked.map(|((Asked { charge, reading, .. }, drained), units)| {
            let alone = nanos(*reading) == charge.rate.interval_ns().saturating_mul((*units).into());
            let spacing = self.shared.settings.spacing;
            if alone { spacing.forgive(charge.rate, *units, [*drained, due.at, now]) } else { 0 }
        });
        late.collect()
    }
}

/// Leave to go from what is known of the other side, which is given back unless it is kept.
struct Claim<'a>(Option<(&'a Control, &'a Paced)>);

impl<'a> Claim<'a> {
    fn new(shared: &'a Shared, paced: &'a Paced) -> Option<Self> {
        let control = shared.control.as_deref();
        control
            .is_none_or(|control| control.claim(paced.now()))
            .then_some(Self(control.map(|control| (control, paced))))
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some((control, paced)) = self.0 {
            control.unclaim(paced.now());
        }
    }
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
