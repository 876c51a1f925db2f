//! What calls go through: the connections while there are any, and the breaker.

use super::{
    call::{Answer, Call},
    failure::Failure,
    holdings::Holdings,
    leases::Leases,
    line::{send, send_asking},
    names::Names,
    numbers::Numbers,
    refusals::Refusals,
    rotation::Rotation,
    script::{self, Manual, Run},
    servers::Servers,
    timing::Timing,
    wires::{Node, Wires},
};
use crate::{Joining, ManualClock, StoreChange, clock::Timeline};
use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, Value};
use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
    task::{Context, Waker},
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, sync::watch, time::timeout_at};

/// All that charges and the task that keeps the connections share.
pub(super) struct Link {
    pub(super) servers: Servers,
    pub(super) names: Names,
    pub(super) timing: Timing,
    pub(super) connections: usize,
    clock: Option<ManualClock>,
    state: watch::Sender<State>,
    pub(super) numbers: Numbers,
    pub(super) refusals: Refusals,
    pub(super) holdings: Holdings,
    pub(super) leases: Leases,
    /// The runtime that it was built in.
    pub(super) runtime: OnceLock<Handle>,
    /// What counts by a former secret too, while it is changed.
    pub(super) rotation: OnceLock<Rotation>,
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

/// How long a refusal is known where others may give back.
const GIVEN_BACK: Duration = Duration::from_millis(50);
/// A call is sent anew so often, if it was told each time that nothing was done.
const MOST_TURNS: usize = 4;

impl Link {
    pub(super) fn new(
        servers: Servers,
        names: Names,
        timing: Timing,
        connections: usize,
        clock: Option<ManualClock>,
    ) -> Self {
        let timeline = || clock.clone().map_or_else(Timeline::system, Timeline::manual);
        // What is reserved in a cluster may be given back by any instance.
        let known = if servers.are_cluster() { timing.refusals.min(GIVEN_BACK) } else { timing.refusals };
        Self {
            servers,
            names,
            timing,
            connections,
            state: watch::Sender::new(State::Down("not connected yet".into())),
            numbers: Numbers::default(),
            refusals: Refusals::new(known, timeline()),
            holdings: Holdings::new(timing.permit_life),
            leases: Leases::new(timeline()),
            runtime: OnceLock::new(),
            clock,
            rotation: OnceLock::new(),
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
        if let State::Up(wires) = &state {
            wires.nodes.iter().for_each(|node| node.succeeded());
        }
        self.refusals.clear();
        self.state.send_replace(state);
    }

    pub(super) fn tell(&self, change: StoreChange<'_>) {
        if let Some(host) = self.host.get() {
            host.tell(change);
        }
    }

    /// Has a call decided by the node that has all of its keys, until a time or within the deadline. Nothing is ever sent twice,
    /// unless Redis has said that it did nothing.
    pub(super) fn ask(
        self: &Arc<Self>,
        wires: Arc<Wires>,
        call: Arc<Call>,
        until: Option<tokio::time::Instant>,
    ) -> impl Future<Output = Result<Answer, Failure>> + Send + use<> {
        // Whoever waits may do so in another runtime, or in none.
        let _runtime = self.runtime.get().map(Handle::enter);
        let question = self.refusals.ask(&call.charges, call.returns);
        let node = wires.node(|| call.key(&self.names)).cloned();
        let sending = node.clone().map(|node| self.clone().send(wires.clone(), node, call.clone()));
        let start = Instant::now();
        let until = until.unwrap_or_else(|| tokio::time::Instant::now() + self.timing.deadline);
        let deadline = sending.map(|sending| timeout_at(until, sending));
        let link = self.clone();
        async move {
            let _flight = link.numbers.flight();
            let answer = match deadline {
                Ok(sending) => {
                    let answer = sending.await;
                    link.numbers.took(start.elapsed());
                    match answer {
                        Ok(Ok(answer)) => script::answer(&call, &answer).map_err(Failure::Odd),
                        Ok(Err(error)) => Err(Failure::from(error)),
                        Err(_) => Err(Failure::Late(link.timing.deadline)),
                    }
                }
                Err(failure) => Err(failure),
            };
            let readings = answer.as_ref().ok().map(|answer| &answer.readings[..]);
            // What was paid from leases says nothing of the whole cost.
            let readings = readings.filter(|_| call.parts.iter().all(|part| part.held == 0));
            link.refusals.note(&question, &call.charges, readings, call.returns);
            match node {
                Ok(node) => link.note(&wires, &node, answer.as_ref().err()),
                Err(failure) => link.numbers.failed(&failure),
            }
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

    /// Sends a call, and sends it anew where Redis said that nothing was done, and why.
    async fn send(
        self: Arc<Self>,
        wires: Arc<Wires>,
        node: Arc<Node>,
        call: Arc<Call>,
    ) -> RedisResult<Value> {
        let (mut node, mut knows_script, mut is_asked) = (node, true, false);
        for _ in 1..MOST_TURNS {
            match self.send_once(&node, &call, knows_script, is_asked).await {
                Err(error) => match error.kind() {
                    // Redis was restarted or its scripts were flushed; with its text it is known again.
                    ErrorKind::Server(ServerErrorKind::NoScript) => knows_script = false,
                    // The keys are elsewhere, from now on or on their way there.
                    ErrorKind::Server(kind @ (ServerErrorKind::Moved | ServerErrorKind::Ask)) => {
                        is_asked = kind == ServerErrorKind::Ask;
                        if !is_asked {
                            self.look_around(&wires);
                        }
                        let address = error.redirect_node().map(|(host, _)| host.to_owned());
                        let Some(next) = address.and_then(|address| wires.named(&address)) else {
                            // Where we are not connected to yet.
                            self.look_around(&wires);
                            return Err(error);
                        };
                        node = next.clone();
                    }
                    _ => return Err(error),
                },
                answer => return answer,
            }
        }
        self.send_once(&node, &call, knows_script, is_asked).await
    }

    async fn send_once(
        &self,
        node: &Node,
        call: &Call,
        knows_script: bool,
        is_asked: bool,
    ) -> RedisResult<Value> {
        let run = if knows_script { Run::Hash(&node.script) } else { Run::Text };
        let (line, command) = (node.line(call.place()), self.command(run, call));
        if is_asked { send_asking(line, command).await } else { send(line, command).await }
    }

    /// Has the keeper find out who has which keys.
    fn look_around(&self, wires: &Wires) {
        if wires.grow_stale() {
            self.state.send_modify(|_| ());
        }
    }

    fn command(&self, run: Run<'_>, call: &Call) -> Cmd {
        script::command(run, &self.names, call, self.manual().map(|micros| Manual { micros }))
    }

    /// The time by which what is given back ages, in nanoseconds.
    pub(super) fn now(&self) -> u64 {
        self.refusals.now()
    }

    /// The time by the clock of the tests, in microseconds, if there is one.
    pub(super) fn manual(&self) -> Option<u64> {
        self.clock.as_ref().map(|clock| micros(clock.elapsed()))
    }

    /// Goes by how a call to a node ended: too many in a row that failed open the breaker.
    pub(super) fn note(&self, wires: &Arc<Wires>, node: &Node, failure: Option<&Failure>) {
        let Some(failure) = failure else { return node.succeeded() };
        self.numbers.failed(failure);
        if !failure.is_of_store() {
            return;
        }
        let broken = matches!(failure, Failure::Broken(_));
        if node.failed() >= self.timing.failures || broken {
            self.interrupt(wires, node, failure, broken);
        }
    }

    /// Stops sending through these connections, unless somebody else has done so already; in a cluster to this node alone.
    fn interrupt(&self, wires: &Arc<Wires>, node: &Node, failure: &Failure, broken: bool) {
        let why = if broken { "the connection broke" } else { "too many calls in a row have failed" };
        let (stopped, error) = if wires.shards.is_some() {
            let stopped = node.shut(why.into());
            if stopped {
                self.state.send_modify(|_| ());
            }
            (stopped, format!("node {}: {failure}", node.address))
        } else {
            let stopped = self.state.send_if_modified(|state| {
                let current = matches!(state, State::Up(current) if Arc::ptr_eq(current, wires));
                if current {
                    *state = if broken { State::Down(why.into()) } else { State::Open(wires.clone()) };
                }
                current
            });
            (stopped, failure.to_string())
        };
        if stopped {
            let error = &error;
            self.tell(if broken { StoreChange::Lost { error } } else { StoreChange::Opened { error } });
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
