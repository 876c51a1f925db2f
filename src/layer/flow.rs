//! The bytes of one body, or of one way of an upgraded connection, on their way.

use super::{
    meter::{Meter, Piece},
    ongoing::Ongoing,
};
use crate::{
    limiter::{Sleep, Turn},
    policy::Direction,
};
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use std::{
    fmt,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, ready},
};

/// Counts bytes that go one way, and makes them wait where a limit says so.
///
/// Dropped while bytes wait, it gives back what they were charged.
pub struct Flow {
    ongoing: Ongoing,
    direction: Direction,
    /// Nobody waits for the lock: it makes bodies fit where they have to be `Sync`, which timers are not.
    wait: Mutex<Wait>,
}

enum Wait {
    Nothing,
    /// For an answer.
    Asked(Piece),
    /// For its turn.
    Turn(Piece, Sleep),
    /// For a place in the queue.
    Place(Sleep),
}

impl Flow {
    pub(super) const fn new(ongoing: Ongoing, direction: Direction) -> Self {
        Self { ongoing, direction, wait: Mutex::new(Wait::Nothing) }
    }

    /// How many of these bytes may go now: at least 1 of them, or all where nothing counts them.
    ///
    /// What it says has gone, as far as it is counted. While it is pending, it must be asked for no fewer.
    pub fn poll_pass(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<usize> {
        let Self { ongoing, direction, wait } = self;
        let Some(meter) = ongoing.meter() else { return Poll::Ready(bytes) };
        let wait = wait.get_mut().unwrap_or_else(PoisonError::into_inner);
        let passed = ready!(poll_turn(meter, *direction, wait, cx, bytes as u64));
        meter.count(*direction, passed);
        // It is no more than was asked for.
        Poll::Ready(usize::try_from(passed).unwrap_or(bytes))
    }

    /// Whether bytes wait.
    pub fn is_waiting(&self) -> bool {
        !matches!(*self.wait.lock().unwrap_or_else(PoisonError::into_inner), Wait::Nothing)
    }
}

fn poll_turn(
    meter: &Meter,
    direction: Direction,
    wait: &mut Wait,
    cx: &mut Context<'_>,
    bytes: u64,
) -> Poll<u64> {
    let inner = &meter.decision().inner;
    loop {
        match wait {
            Wait::Nothing => {
                let size = meter.piece(direction, bytes);
                match meter.reserve(direction, size) {
                    Some(piece) => *wait = Wait::Asked(piece),
                    None => return Poll::Ready(size),
                }
            }
            Wait::Asked(piece) => {
                let turn = ready!(piece.reservation.poll(inner, cx));
                let Wait::Asked(piece) = std::mem::replace(wait, Wait::Nothing) else { continue };
                // Without a timer no limiter is built that makes bodies wait.
                let sleep = match turn {
                    Turn::In(time) if time.is_zero() => None,
                    Turn::In(time) | Turn::Full(time) => inner.sleep(time),
                };
                match (turn, sleep) {
                    (Turn::In(_), Some(sleep)) => *wait = Wait::Turn(piece, sleep),
                    (Turn::In(_), None) => return Poll::Ready(piece.bytes),
                    (Turn::Full(_), sleep) => {
                        let size = piece.bytes;
                        meter.take_back(direction, piece);
                        match sleep {
                            Some(sleep) => *wait = Wait::Place(sleep),
                            None => return Poll::Ready(size),
                        }
                    }
                }
            }
            Wait::Turn(piece, sleep) => {
                ready!(sleep.as_mut().poll(cx));
                let size = piece.bytes;
                *wait = Wait::Nothing;
                return Poll::Ready(size);
            }
            Wait::Place(sleep) => {
                ready!(sleep.as_mut().poll(cx));
                *wait = Wait::Nothing;
            }
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        let wait = self.wait.get_mut().unwrap_or_else(PoisonError::into_inner);
        let wait = std::mem::replace(wait, Wait::Nothing);
        if let (Wait::Asked(piece) | Wait::Turn(piece, _), Some(meter)) = (wait, self.ongoing.meter()) {
            meter.take_back(self.direction, piece);
        }
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow").field("direction", &self.direction).finish_non_exhaustive()
    }
}

/// What of a body has come and waits.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) flow: Flow,
    data: Bytes,
}

impl Held {
    pub(super) const fn new(flow: Flow) -> Self {
        Self { flow, data: Bytes::new() }
    }

    /// The next frame of a body. While one waits, no other is asked for.
    pub(super) fn poll_frame<B: Body<Data = Bytes>>(
        &mut self,
        mut body: Pin<&mut B>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        loop {
            if self.data.has_remaining() {
                let passed = ready!(self.flow.poll_pass(cx, self.data.len()));
                let piece = self.data.split_to(passed.min(self.data.len()));
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            match ready!(body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Ok(data) => self.data = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end => return Poll::Ready(end),
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// What a body says of its size, and what waits.
    pub(super) fn size_hint(&self, of_body: SizeHint) -> SizeHint {
        let held = self.data.len() as u64;
        let mut hint = SizeHint::new();
        // The upper bound first: the lower one must not exceed it.
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint.set_lower(of_body.lower().saturating_add(held));
        hint
    }
}
