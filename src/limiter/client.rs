//! Charging without HTTP.

use super::{
    Charged, Holding, Limiter, Pending,
    held::{Demands, Outcome},
};
use crate::{
    Decision, Key, Op, StoreError,
    identity::ClientLabel,
    policy::{CompiledRule, List, Scope},
    response::{NO_ROOM, whole_seconds},
    store::Asked,
};
use smallvec::smallvec;
use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

/// One client of a limiter, to be charged by hand.
#[derive(Debug, Clone)]
pub struct Client {
    limiter: Limiter,
    key: Key,
    label: ClientLabel,
}

impl Client {
    pub(super) const fn new(limiter: Limiter, key: Key, label: ClientLabel) -> Self {
        Self { limiter, key, label }
    }

    /// Charges the limits of a rule, all of them or none; await it.
    ///
    /// It costs what each limit says of every request, or 1 where that depends on a request's head, unless
    /// [`cost`](Charging::cost) is set. What the rule says about methods, routes and responses does not matter here, nor
    /// do its limits on concurrency, which are for [`hold`](Self::hold).
    pub fn charge<'a>(&'a self, rule: &'a str) -> Charging<'a> {
        Charging::new(&self.limiter, self.key, self.label, rule)
    }

    /// Takes the permits of a rule and charges its limits, all of them or none; await it, and keep the [`Hold`](crate::Hold) for
    /// as long as the work goes on.
    ///
    /// Where the rule's limits on concurrency let requests wait, so does this. Work that the layer does not see the end of
    /// is held this way: a WebSocket, say, whose upgrade is all that the layer sees.
    ///
    /// ```
    /// # use tidegate::{ChargeError, Client};
    /// # async fn export() {}
    /// # async fn test(client: Client) -> Result<(), ChargeError> {
    /// let hold = client.hold("exports").await?;
    /// if hold.is_allowed() {
    ///     export().await;
    /// }
    /// drop(hold);
    /// # Ok(())
    /// # }
    /// ```
    pub fn hold<'a>(&'a self, rule: &'a str) -> Holding<'a> {
        Holding(Charging { act: Act::Hold, ..self.charge(rule) })
    }

    /// Asks what [`charge`](Self::charge) would answer, and charges nothing.
    pub fn peek<'a>(&'a self, rule: &'a str) -> Charging<'a> {
        Charging { act: Act::Peek, ..self.charge(rule) }
    }

    /// Forgives everything that the client owes to the limits of a rule, but not what it shares with all clients.
    pub fn reset<'a>(&'a self, rule: &'a str) -> Charging<'a> {
        Charging { act: Act::Reset, ..self.charge(rule) }
    }

    /// Gives back what a decision charged, once, and as far as it is still owed: what has drained since is not given back.
    /// A decision that refused charged nothing.
    pub fn refund(&self, decision: &Decision) {
        self.limiter.refund(decision);
    }
}

/// A charge, a peek or a reset that is being put together; await it.
#[derive(Debug, Clone)]
#[must_use = "nothing is charged before it is awaited, or made a future"]
pub struct Charging<'a> {
    limiter: &'a Limiter,
    key: Key,
    label: ClientLabel,
    rule: &'a str,
    route: Option<&'a str>,
    cost: Option<u32>,
    act: Act,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Take,
    Hold,
    Peek,
    Reset,
}

impl<'a> Charging<'a> {
    pub(super) const fn new(limiter: &'a Limiter, key: Key, label: ClientLabel, rule: &'a str) -> Self {
        Self { limiter, key, label, rule, route: None, cost: None, act: Act::Take }
    }

    /// The units that each limit is charged.
    pub const fn cost(mut self, units: u32) -> Self {
        self.cost = Some(units);
        self
    }

    /// The template of the route, for limits per client and route; without it they count as unmatched.
    pub const fn route(mut self, template: &'a str) -> Self {
        self.route = Some(template);
        self
    }

    fn start(&self) -> ChargeFuture {
        let failed = |error| ChargeFuture { answer: Some(Err(error)), waiting: None };
        let inner = &self.limiter.inner;
        let Some(rule) = inner.policy.rule(self.rule) else {
            let known = inner.policy.rules.iter().map(|rule| rule.name.clone()).collect();
            return failed(ChargeError::UnknownRule { rule: self.rule.to_owned(), known });
        };
        let mut charged = Charged::default();
        let goes_by_lists = self.act != Act::Reset && inner.policy.has_exemptions;
        if goes_by_lists {
            if let Some(retry_after) = inner.banned_client(self.key) {
                return failed(ChargeError::Banned { retry_after });
            }
            if self.is_on(&inner.policy.blocked) {
                return failed(ChargeError::Blocked);
            }
        }
        if !goes_by_lists || !self.is_on(&inner.policy.allowed) {
            self.collect(rule, &mut charged);
        }
        let asked = match self.demands(rule, goes_by_lists) {
            Some(demands) => self.ask_held(demands, &mut charged),
            None => Ok(inner.engine.ask(&mut charged)),
        };
        let pending = match asked {
            Ok(pending) => pending,
            Err(error) => return failed(error),
        };
        match pending {
            Some(pending) => {
                let tell = self.tells().map(|route| route.map(str::to_owned));
                let waiting = Waiting {
                    pending,
                    limiter: self.limiter.clone(),
                    key: self.key,
                    label: self.label,
                    tell,
                };
                ChargeFuture { answer: None, waiting: Some(Box::new(waiting)) }
            }
            None => {
                if let Some(route) = self.tells() {
                    inner.report_handled(&charged, self.key, self.label, route);
                }
                ChargeFuture { answer: Some(Ok(Decision::new(inner.clone(), charged))), waiting: None }
            }
        }
    }

    /// The permits that it needs, if any. Whoever is on the allow list needs none.
    fn demands(&self, rule: &CompiledRule, goes_by_lists: bool) -> Option<Demands> {
        let inner = &self.limiter.inner;
        if self.act != Act::Hold
            || rule.concurrency.is_empty()
            || goes_by_lists && self.is_on(&inner.policy.allowed)
        {
            return None;
        }
        let mut demands = Demands::new(self.key);
        demands.add(inner, rule, self.key, || smallvec![inner.route_key(self.route)]);
        Some(demands)
    }

    #[inline(never)]
    fn ask_held(&self, demands: Demands, charged: &mut Charged) -> Result<Option<Pending>, ChargeError> {
        let inner = &self.limiter.inner;
        match inner.hold(demands) {
            Ok(Outcome::Answered(held)) => {
                charged.hold(held);
                Ok(inner.ask_held(charged))
            }
            Ok(Outcome::Waits(mut line)) => {
                line.charged = std::mem::take(charged);
                Ok(Some(Pending::line(line)))
            }
            Err(_) => Err(ChargeError::NoRoom),
        }
    }

    fn is_on(&self, list: &List) -> bool {
        list.contains(self.key) || self.label.address.is_some_and(|net| list.contains_address(net.ip()))
    }

    /// The route to tell of, unless nothing is to be told.
    fn tells(&self) -> Option<Option<&'a str>> {
        matches!(self.act, Act::Take | Act::Hold).then_some(self.route)
    }

    fn collect(&self, rule: &CompiledRule, charged: &mut Charged) {
        let inner = &self.limiter.inner;
        for number in rule.limits.clone() {
            let limit = &inner.policy.limits[number];
            let cost = self.cost.unwrap_or_else(|| limit.cost.usual());
            let op = match self.act {
                Act::Take | Act::Hold => Op::Take(cost),
                Act::Peek => Op::Peek(cost),
                Act::Reset if matches!(limit.scope, Scope::Shared(_)) => Op::Peek(0),
                Act::Reset => Op::Clear,
            };
            let place = limit.scope.place(self.key, || inner.route_key(self.route));
            charged.asked.push(Asked::new(number, limit.charge(place, op, rule.shadow)));
        }
    }
}

impl IntoFuture for Charging<'_> {
    type Output = Result<Decision, ChargeError>;
    type IntoFuture = ChargeFuture;

    fn into_future(self) -> ChargeFuture {
        self.start()
    }
}

/// The decision; ready when first polled, and made without allocation, where the limiter counts in memory.
#[must_use = "futures do nothing unless polled"]
pub struct ChargeFuture {
    answer: Option<Result<Decision, ChargeError>>,
    waiting: Option<Box<Waiting>>,
}

/// A remote store is being asked.
struct Waiting {
    pending: Pending,
    limiter: Limiter,
    key: Key,
    label: ClientLabel,
    tell: Option<Option<String>>,
}

impl Waiting {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Decision, ChargeError>> {
        let inner = &self.limiter.inner;
        Poll::Ready(match ready!(self.pending.poll(inner, cx)) {
            Ok(charged) => {
                if let Some(route) = &self.tell {
                    inner.report_handled(&charged, self.key, self.label, route.as_deref());
                }
                Ok(Decision::new(inner.clone(), charged))
            }
            Err(error) => {
                inner.report_store(&error, None);
                Err(ChargeError::Store(error))
            }
        })
    }
}

impl Future for ChargeFuture {
    type Output = Result<Decision, ChargeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(waiting) = &mut self.waiting {
            let answer = ready!(waiting.poll(cx));
            self.waiting = None;
            return Poll::Ready(answer);
        }
        let again = || Err(ChargeError::Store(StoreError::new("polled again after it had answered")));
        Poll::Ready(self.answer.take().unwrap_or_else(again))
    }
}

impl fmt::Debug for ChargeFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChargeFuture").finish_non_exhaustive()
    }
}

/// A charge could not be decided.
#[derive(Debug)]
#[non_exhaustive]
pub enum ChargeError {
    /// No rule has this name.
    UnknownRule {
        /// The name.
        rule: String,
        /// The rules that there are.
        known: Vec<String>,
    },
    /// The client is on the policy's block list.
    Blocked,
    /// The client is banned for a time.
    Banned {
        /// How long yet.
        retry_after: Duration,
    },
    /// There is no room left to count what runs at once.
    NoRoom,
    /// The store could not decide.
    Store(StoreError),
}

impl fmt::Display for ChargeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownRule { rule, known } => write!(f, "no rule is named {rule:?}; there are {known:?}"),
            Self::Blocked => f.write_str("the client is on the block list"),
            Self::Banned { retry_after } => {
                write!(f, "the client is banned for {} seconds more", whole_seconds(*retry_after))
            }
            Self::NoRoom => f.write_str(NO_ROOM),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl Error for ChargeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::UnknownRule { .. } | Self::Blocked | Self::Banned { .. } | Self::NoRoom => None,
            Self::Store(error) => Some(error),
        }
    }
}
