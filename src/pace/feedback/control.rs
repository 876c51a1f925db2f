//! What is known of the other side, and how fast that lets a pacer go.

use super::{
    Feedback, Outcome, Signals,
    admission::Admission,
    aimd::Adaptive,
    breaker::{Change, Fuse, Stop},
    in_flight::Rooms,
    spread::Spread,
};
use crate::{clock::nanos, event::Event, limiter::Slowness};
use std::{
    borrow::Cow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

/// Rules are asked again after so many nanoseconds.
const RULES: u64 = 50_000_000;
/// A factor that changes by less than this share of itself is no event.
const NOTABLE: f64 = 0.05;

#[derive(Debug)]
pub(in super::super) struct Control {
    settings: Feedback,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    paused_until: u64,
    spread: Spread,
    adaptive: Option<Adaptive>,
    fuse: Option<Fuse>,
    admission: Option<Admission>,
    rooms: Option<Rooms>,
    signals: Signals,
    /// What the rules made of the signals, and until when that holds.
    rules: (f64, u64),
    /// The factor that was told last.
    told: f64,
}

/// Whether and how fast something may go.
#[derive(Debug)]
pub(in super::super) struct Gate {
    pub(in super::super) slowness: Slowness,
    /// How long nothing may go, in nanoseconds.
    pub(in super::super) wait: u64,
    /// The class of errors that opened the breaker, if that is why.
    pub(in super::super) open: Option<Cow<'static, str>>,
}

impl Gate {
    pub(in super::super) const NONE: Self = Self { slowness: Slowness::NONE, wait: 0, open: None };
}

/// What is to be told, outside of the lock.
#[derive(Debug, Default)]
pub(in super::super) struct News {
    pause: Option<Duration>,
    factor: Option<(f64, f64)>,
    change: Option<Change>,
    now: u64,
}

impl Control {
    pub(in super::super) fn new(settings: Feedback) -> Self {
        let factor = settings.aimd.map_or(1.0, |aimd| aimd.start);
        let state = State {
            paused_until: 0,
            spread: Spread::default(),
            adaptive: settings.aimd.map(Adaptive::new),
            fuse: settings.breaker.map(Fuse::new),
            admission: settings.admission.map(Admission::new),
            rooms: settings.in_flight.map(Rooms::new),
            signals: settings.signals.clone(),
            rules: (1.0, 0),
            told: settings.clamp(factor),
        };
        Self { settings, state: Mutex::new(state) }
    }

    /// Whether the other side will most likely refuse a newcomer: the share that is rejected here.
    pub(in super::super) fn sheds(&self, now: u64) -> Option<f64> {
        self.lock().admission.as_mut()?.request(now)
    }

    /// Whether and how fast something may go now.
    pub(in super::super) fn gate(&self, now: u64) -> (Gate, News) {
        let mut state = self.lock();
        let factor = self.settings.factor(&mut state, now);
        let interval = state.spread.interval(now);
        let stop = state.fuse.as_ref().and_then(|fuse| fuse.stop(now));
        let open_for = stop.map_or(0, |stop| stop.until.saturating_sub(now));
        let gate = Gate {
            slowness: Slowness { factor, interval },
            wait: state.paused_until.saturating_sub(now).max(open_for),
            open: stop.map(|stop| stop.class.clone()),
        };
        (gate, News { factor: state.note_factor(factor), now, ..News::default() })
    }

    /// Something is about to go; answers whether it still may.
    pub(in super::super) fn claim(&self, now: u64) -> bool {
        let mut state = self.lock();
        if let Some(fuse) = &mut state.fuse {
            if fuse.stop(now).is_some() {
                return false;
            }
            fuse.claim(now);
        }
        if let Some(adaptive) = &mut state.adaptive {
            adaptive.send(now);
        }
        true
    }

    /// It has not gone after all.
    pub(in super::super) fn unclaim(&self, now: u64) {
        if let Some(fuse) = &mut self.lock().fuse {
            fuse.unclaim(now);
        }
    }

    /// Takes note that somebody had to wait.
    pub(in super::super) fn press(&self, now: u64) {
        if let Some(adaptive) = &mut self.lock().adaptive {
            adaptive.press(now);
        }
    }

    /// Takes note of what became of a send.
    pub(in super::super) fn report(&self, outcome: &Outcome, now: u64) -> News {
        let mut state = self.lock();
        if let Some(admission) = state.admission.as_mut().filter(|_| !outcome.refused) {
            admission.accept(now);
        }
        if let Some(adaptive) = &mut state.adaptive {
            adaptive.answer(outcome.refused || outcome.error.is_some(), outcome.took, now);
        }
        if let Some(rooms) = &mut state.rooms {
            rooms.answer(outcome.refused || outcome.error.is_some(), outcome.took);
        }
        let change = state.fuse.as_mut().and_then(|fuse| fuse.answer(outcome.error.as_ref(), now));
        if let (Some(Change::Closed(_)), Some(adaptive)) = (&change, &mut state.adaptive) {
            adaptive.restart();
        }
        let spent = state.spread.note(&outcome.limits, self.settings.max_pause, now);
        let pause = outcome.pause.unwrap_or_default().max(Duration::from_nanos(spent));
        let pause = self.settings.pause(&mut state, pause, now);
        let factor = self.settings.factor(&mut state, now);
        News { pause, factor: state.note_factor(factor), change, now }
    }

    /// Takes room for a send through a layer; or else the task is woken when there is some.
    pub(in super::super) fn poll_room(self: &Arc<Self>, cx: &Context<'_>) -> Poll<Option<Room>> {
        let taken = self.lock().rooms.as_mut().map(|rooms| rooms.take(cx.waker()));
        match taken {
            None => Poll::Ready(None),
            Some(true) => Poll::Ready(Some(Room(self.clone()))),
            Some(false) => Poll::Pending,
        }
    }

    pub(in super::super) fn in_flight(&self) -> Option<u32> {
        self.lock().rooms.as_ref().map(Rooms::limit)
    }

    pub(in super::super) fn pause(&self, time: Duration, now: u64) -> News {
        News { pause: self.settings.pause(&mut self.lock(), time, now), now, ..News::default() }
    }

    /// Sets a signal, if there is one of that name.
    ///
    /// # Errors
    ///
    /// The names that there are.
    pub(in super::super) fn signal(&self, name: &str, value: f64, now: u64) -> Result<(), Vec<String>> {
        let mut state = self.lock();
        state.rules.1 = 0;
        if state.signals.set(name, value, now) { Ok(()) } else { Err(state.signals.names()) }
    }

    pub(in super::super) fn signals(&self, now: u64) -> Signals {
        let mut signals = self.lock().signals.clone();
        signals.now = now;
        signals
    }

    pub(in super::super) fn factor(&self, now: u64) -> f64 {
        self.settings.factor(&mut self.lock(), now)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one send, until this is dropped.
#[derive(Debug)]
pub(in super::super) struct Room(Arc<Control>);

impl Drop for Room {
    fn drop(&mut self) {
        let next = self.0.lock().rooms.as_mut().and_then(Rooms::give);
        // Outside of the lock, because a waker may poll at once.
        if let Some(next) = next {
            next.wake();
        }
    }
}

impl Feedback {
    /// The factor as of now: what follows answers, times what each rule makes of the signals.
    fn factor(&self, state: &mut State, now: u64) -> f64 {
        let adaptive = state.adaptive.as_mut().map_or(1.0, |adaptive| {
            adaptive.window(now);
            adaptive.factor = self.clamp(adaptive.factor);
            adaptive.factor
        });
        if now >= state.rules.1 {
            state.signals.now = now;
            let rules = self.rules.iter().map(|rule| rule.factor(&state.signals)).product();
            state.rules = (rules, now.saturating_add(RULES));
        }
        self.clamp(adaptive * state.rules.0)
    }

    fn pause(&self, state: &mut State, time: Duration, now: u64) -> Option<Duration> {
        let time = time.min(self.max_pause);
        let until = now.saturating_add(nanos(time));
        let is_longer = until > state.paused_until;
        state.paused_until = state.paused_until.max(until);
        is_longer.then_some(time).filter(|time| !time.is_zero())
    }
}

impl State {
    fn note_factor(&mut self, factor: f64) -> Option<(f64, f64)> {
        let is_notable = (factor - self.told).abs() >= NOTABLE * self.told.min(factor);
        (is_notable && factor != self.told).then(|| (std::mem::replace(&mut self.told, factor), factor))
    }
}

impl News {
    pub(in super::super) fn tell(&self, emit: impl Fn(&Event<'_>)) {
        if let Some(time) = self.pause {
            emit(&Event::Paused { time });
        }
        if let Some((old, new)) = self.factor {
            emit(&Event::FactorChanged { old, new });
        }
        match &self.change {
            Some(Change::Opened(Stop { class, time, .. })) => {
                emit(&Event::BreakerOpened { error: class, time: *time });
            }
            Some(Change::Closed(Stop { class, since, .. })) => {
                let after = Duration::from_nanos(self.now.saturating_sub(*since));
                emit(&Event::BreakerClosed { error: class, after });
            }
            None => {}
        }
    }
}
