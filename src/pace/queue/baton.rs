//! What whoever was served leaves to whoever goes next: when that is, and the timer that wakes it then. So it sleeps on until it is
//! due, rather than being woken to set a timer of its own.

use super::Units;
use crate::pace::timer::{Alarm, Home};
use smallvec::SmallVec;
use std::{task::Waker, time::Duration};

/// What is known of limits once something was served.
pub(in super::super) struct Handing<'a> {
    pub(in super::super) now: u64,
    /// Nobody sleeps longer than this.
    pub(in super::super) longest: u64,
    /// When each limit has drained.
    pub(in super::super) drained: &'a [u64],
    /// When something that costs so much is due by the key's own limits, and by those that all share.
    pub(in super::super) own: &'a dyn Fn(&Units) -> u64,
    pub(in super::super) shared: &'a dyn Fn(&Units) -> u64,
}

/// What is left to one of those that wait.
#[derive(Debug)]
pub(in super::super) struct Baton {
    /// When it is due, if timers were exact.
    pub(in super::super) due: u64,
    /// When each limit has drained.
    pub(in super::super) drained: SmallVec<[u64; 4]>,
    _alarm: Alarm,
}

impl Baton {
    /// Has a task woken when it is due, but no later than `until`. Nothing where that is now.
    pub(super) fn new(
        handing: &Handing<'_>,
        due: u64,
        until: u64,
        home: Option<&Home>,
        waker: &Waker,
    ) -> Option<Self> {
        let end = due.min(until).min(handing.now.saturating_add(handing.longest));
        let time = Duration::from_nanos(end.saturating_sub(handing.now));
        let alarm = Alarm::set(home?, time, waker)?;
        Some(Self { due, drained: SmallVec::from(handing.drained), _alarm: alarm })
    }
}
