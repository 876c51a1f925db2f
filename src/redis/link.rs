//! What calls go through: the connections while there are any, and the breaker.

use super::{
    call::{Answer, Call},
    failure::Failure,
    holdings::Holdings,
    leases::Leases,
    line::send,
    names::Names,
    numbers::Numbers,
    refusals::Refusals,
    script::{self, Manual, Run},
    servers::Servers,
    timing::Timing,
};
use crate::{Joining, ManualClock, Place, StoreChange, clock::Timeline};
use redis::{Cmd, ErrorKind, ServerErrorKind, aio::MultiplexedConnection};
use std::{
    borrow::Cow,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Waker},
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, sync::watch, time::timeout};

/// All that charges and the task that keeps the connections share.
pub(super) struct Link {
    pub(super) servers: Servers,
    pub(super) names: Names,
    pub(super) timing: Timing,
    pub(super) connections: usize,
    clock: Option<ManualClock>,
    state: watch::Sender<State>,
    /// Calls in a row that failed.
    failures: AtomicU32,
    pub(super) numbers: Numbers,
    pub(super) refusals: Refusals,
    pub(super) holdings: Holdings,
    pub(super) leases: Leases,
    /// The runtime that it was built in.
    pub(super) runtime: OnceLock<Handle>,
    /// Whoever counts here, and wants to be told what happens.
    pub(super) host: OnceLock<Joining>,
}

/// Whether calls are sent. All but `Up` answer at once.
#[derive(Clone)]
pub(super) enum State {
    /// There is no connection yet, or not any more.
    Down(Cow<'static, str>),
    Up(Arc<Wires>),
    /// The breaker is open: there are connections, and only probes go through.
    Open(Arc<Wires>),
    /// Instances with another secret count here.
    Barred(Failure),
}

/// Connections to one server, and the hash of our script there.
pub(super) struct Wires {
    pub(super) lines: Vec<MultiplexedConnection>,
    pub(super) script: String,
}

impl Wires {
    /// A client's calls go through one connection, so that they arrive in order.
    pub(super) fn line(&self, place: Option<Place>) -> Option<MultiplexedConnection> {
        let number = match place {
            Some(Place::Client(key)) => key.lo as usize % self.lines.len().max(1),
            _ => 0,
        };
        self.lines.get(number).cloned()
    }
}

impl Link {
    pub(super) fn new(
        servers: Servers,
        names: Names,
        timing: Timing,
        connections: usize,
        clock: Option<ManualClock>,
    ) -> Self {
        let timeline = || clock.clone().map_or_else(Timeline::system, Timeline::manual);
        Self {
            servers,
            names,
            timing,
            connections,
            state: watch::Sender::new(State::Down("not connected yet".into())),
            failures: AtomicU32::new(0),
            numbers: Numbers::default(),
            refusals: Refusals::new(timing.refusals, timeline()),
            holdings: Holdings::new(timing.permit_life),
            leases: Leases::new(timeline()),
            runtime: OnceLock::new(),
            clock,
            host: OnceLock::new(),
        }
    }

    /// The connections, unless nothing is sent now.
    pub(super) fn wires(&self) -> Result<Arc<Wires>, Failure> {
        match &*self.state.borrow() {
            State::Up(wires) => Ok(wires.clone()),
            State::Down(why) => Err(Failure::NotSent(why.clone())),
            State::Open(_) => Err(Failure::NotSent("too many calls in a row have failed".into())),
            State::Barred(failure) => Err(failure.clone()),
        }
    }

    pub(super) fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub(super) fn enter(&self, state: State) {
        self.failures.store(0, Relaxed);
        self.refusals.clear();
        self.state.send_replace(state);
    }

    pub(super) fn tell(&self, change: StoreChange<'_>) {
        if let Some(host) = self.host.get() {
            host.tell(change);
        }
    }

    /// Has a call decided. Nothing is ever sent twice, unless Redis has said that it did nothing.
    pub(super) fn ask(
        self: &Arc<Self>,
        wires: Arc<Wires>,
        call: Arc<Call>,
    ) -> impl Future<Output = Result<Answer, Failure>> + Send + use<> {
        // Whoever waits may do so in another runtime, or in none.
        let _runtime = self.runtime.get().map(Handle::enter);
        let (line, link) = (wires.line(call.place()), self.clone());
        let by_hash = self.command(Run::Hash(&wires.script), &call);
        let question = self.refusals.ask(&call.charges, call.returns);
        let again = call.clone();
        let sending = async move {
            match send(line.clone(), by_hash).await {
                // Redis was restarted or its scripts were flushed; with its text it is known again.
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    send(line, link.command(Run::Text, &again)).await
                }
                answer => answer,
            }
        };
        let (start, deadline) = (Instant::now(), timeout(self.timing.deadline, sending));
        let link = self.clone();
        async move {
            let _flight = link.numbers.flight();
            let answer = deadline.await;
            link.numbers.took(start.elapsed());
            let answer = match answer {
                Ok(Ok(answer)) => script::answer(&call, &answer).map_err(Failure::Odd),
                Ok(Err(error)) => Err(Failure::from(error)),
                Err(_) => Err(Failure::Late(link.timing.deadline)),
            };
            let readings = answer.as_ref().ok().map(|answer| &answer.readings[..]);
            // What was paid from leases says nothing of the whole cost.
            let readings = readings.filter(|_| call.parts.iter().all(|part| part.held == 0));
            link.refusals.note(&question, &call.charges, readings, call.returns);
            link.note(&wires, answer.as_ref().err());
            answer
        }
    }

    /// Sets off what nobody waits for: it is sent at once, so that what follows finds it done.
    pub(super) fn set_off(&self, going: impl Future<Output = ()> + Send + 'static) {
        let mut going = Box::pin(going);
        if going.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            if let Some(runtime) = self.runtime.get() {
                runtime.spawn(going);
            }
        }
    }

    fn command(&self, run: Run<'_>, call: &Call) -> Cmd {
        script::command(run, &self.names, call, self.manual().map(|micros| Manual { micros }))
    }

    /// The time by the clock of the tests, in microseconds, if there is one.
    pub(super) fn manual(&self) -> Option<u64> {
        self.clock.as_ref().map(|clock| micros(clock.elapsed()))
    }

    /// Goes by how a call ended: too many in a row that failed open the breaker.
    pub(super) fn note(&self, wires: &Arc<Wires>, failure: Option<&Failure>) {
        let Some(failure) = failure else {
            // A load before the store, so that calls that succeed do not write to a shared line.
            if self.failures.load(Relaxed) > 0 {
                self.failures.store(0, Relaxed);
            }
            return;
        };
        self.numbers.failed(failure);
        if !failure.is_of_store() {
            return;
        }
        let broken = matches!(failure, Failure::Broken(_));
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        if broken || failures >= self.timing.failures {
            self.interrupt(wires, failure, broken);
        }
    }

    /// Stops sending through these connections, unless somebody else has done so already.
    fn interrupt(&self, wires: &Arc<Wires>, failure: &Failure, broken: bool) {
        let stopped = self.state.send_if_modified(|state| {
            let current = matches!(state, State::Up(current) if Arc::ptr_eq(current, wires));
            if current {
                *state = if broken {
                    State::Down("the connection broke".into())
                } else {
                    State::Open(wires.clone())
                };
            }
            current
        });
        if stopped {
            let error = &failure.to_string();
            self.tell(if broken { StoreChange::Lost { error } } else { StoreChange::Opened { error } });
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
