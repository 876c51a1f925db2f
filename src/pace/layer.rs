use super::{
    ByAnswer, Costs, JudgeBy, Outcome, Pace, PaceError, PaceFuture, Pacer, Priority, SendError, Unjudged,
    wait::{Manner, Patience},
};
use crate::Identity;
use std::{
    fmt,
    future::{Ready, ready},
    sync::Arc,
    time::Duration,
};
use tower_layer::Layer;

/// Paces the requests to a service, be it over HTTP or not: a client of an API, a producer, a queue.
///
/// Closures say whose quota a request counts against, and what it costs of each limit. A request that may not go yet waits in
/// its future, as long as the pacer's [`max_wait`](Pacer::max_wait) allows, with the service that was polled ready.
///
/// ```
/// use std::convert::Infallible;
/// use tidegate::{Costs, Identity, Limit, PaceLayer, Pacer, Quota};
/// use tower::{Layer, Service, ServiceExt, service_fn};
///
/// struct Batch {
///     topic: String,
///     records: u32,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pacer = Pacer::new([
///     Limit::per_client("requests", Quota::per_second(500)),
///     Limit::per_client("records", Quota::per_second(50_000)),
/// ])?;
/// let layer = PaceLayer::new(pacer, |batch: &Batch| Identity::name(&batch.topic))
///     .cost(|batch| Costs::from([("records", batch.records)]));
/// let mut producer = layer.layer(service_fn(|batch: Batch| async move { Ok::<_, Infallible>(batch.records) }));
/// let sent = producer.ready().await?.call(Batch { topic: "orders".into(), records: 100 }).await?;
/// assert_eq!(sent, 100);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct PaceLayer<R, D = Reject, J = Unjudged> {
    pub(super) face: Arc<Face<R>>,
    pub(super) divert: D,
    pub(super) judge: J,
}

/// How requests are paced.
pub(super) struct Face<R> {
    pub(super) pacer: Pacer,
    key: Arc<KeyOf<R>>,
    cost: Arc<CostOf<R>>,
    priority: Arc<PriorityOf<R>>,
    waits: bool,
}

type KeyOf<R> = dyn for<'r> Fn(&'r R) -> Identity<'r> + Send + Sync;
type CostOf<R> = dyn for<'r> Fn(&'r R) -> Costs<'r> + Send + Sync;
type PriorityOf<R> = dyn Fn(&R) -> Priority + Send + Sync;

impl<R> PaceLayer<R> {
    /// A layer whose requests count against the client that `key` finds, and cost 1 of each limit.
    pub fn new(pacer: Pacer, key: impl for<'r> Fn(&'r R) -> Identity<'r> + Send + Sync + 'static) -> Self {
        let face = Face {
            pacer,
            key: Arc::new(key),
            cost: Arc::new(|_| Costs::default()),
            priority: Arc::new(|_| Priority::Normal),
            waits: true,
        };
        Self { face: Arc::new(face), divert: Reject, judge: Unjudged }
    }
}

impl<R, D, J> PaceLayer<R, D, J> {
    /// What a request costs of each limit.
    pub fn cost(self, cost: impl for<'r> Fn(&'r R) -> Costs<'r> + Send + Sync + 'static) -> Self {
        self.with(|face| face.cost = Arc::new(cost))
    }

    /// How urgent a request is; [`Priority::Normal`] unless set.
    pub fn priority(self, priority: impl Fn(&R) -> Priority + Send + Sync + 'static) -> Self {
        self.with(|face| face.priority = Arc::new(priority))
    }

    /// Rejects at once what may not go yet, instead of letting it wait.
    pub fn reject(self) -> Self {
        self.with(|face| face.waits = false)
    }

    /// Hands what is rejected to a closure: to put it into another queue, to spill it, to drop and count it. What the closure
    /// answers with is the answer.
    pub fn divert<F>(self, divert: F) -> PaceLayer<R, DivertBy<F>, J> {
        PaceLayer { face: self.face, divert: DivertBy(divert), judge: self.judge }
    }

    /// Reports what a closure makes of each answer or error to the pacer, with the time that it took, for its
    /// [feedback](Pacer::feedback): `|answer: Result<&T, &E>| Outcome::done()`.
    pub fn judge<F>(self, judge: F) -> PaceLayer<R, D, JudgeBy<F>> {
        PaceLayer { face: self.face, divert: self.divert, judge: JudgeBy(judge) }
    }

    /// The same by what answers over HTTP say: see [`Outcome::answer`]. Errors are of the class `error`.
    pub fn judge_answers(self) -> PaceLayer<R, D, ByAnswer> {
        PaceLayer { face: self.face, divert: self.divert, judge: ByAnswer }
    }

    fn with(self, set: impl FnOnce(&mut Face<R>)) -> Self {
        let Face { ref pacer, ref key, ref cost, ref priority, waits } = *self.face;
        let mut face = Face {
            pacer: pacer.clone(),
            key: key.clone(),
            cost: cost.clone(),
            priority: priority.clone(),
            waits,
        };
        set(&mut face);
        Self { face: Arc::new(face), divert: self.divert, judge: self.judge }
    }
}

impl<R> Face<R> {
    pub(super) fn pace(&self, request: &R) -> PaceFuture {
        let (key, cost) = ((self.key)(request), (self.cost)(request));
        let patience = if self.waits { self.pacer.patience() } else { Patience::None };
        let manner = Manner { patience, priority: (self.priority)(request), takes_room: true };
        self.pacer.start_as(&key, &cost, manner)
    }

    /// Reports what became of a request that was sent at a time.
    pub(super) fn report(&self, outcome: Outcome, sent: u64) {
        let took = Duration::from_nanos(self.pacer.now().saturating_sub(sent));
        let outcome = if outcome.took.is_some() { outcome } else { outcome.took(took) };
        self.pacer.report(&outcome);
    }

    /// Whether what could not be counted goes all the same.
    pub(super) fn overlooks(&self, error: &PaceError) -> bool {
        self.pacer.is_shadow() && !matches!(error, PaceError::UnknownLimit { .. })
    }
}

/// What becomes of a request that is rejected.
pub trait Divert<R, T, E> {
    /// The answer on its way.
    type Future: Future<Output = Result<T, SendError<E>>>;

    /// Whether the request goes elsewhere, which is told as an event.
    const DIVERTS: bool = true;

    /// Takes a request that was not sent, and why.
    fn divert(&self, request: R, error: PaceError) -> Self::Future;
}

/// A request that is rejected is dropped, and answered with why.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reject;

impl<R, T, E> Divert<R, T, E> for Reject {
    type Future = Ready<Result<T, SendError<E>>>;

    const DIVERTS: bool = false;

    fn divert(&self, _: R, error: PaceError) -> Self::Future {
        ready(Err(SendError::Paced(error)))
    }
}

/// A request that is rejected goes to a closure.
#[derive(Clone, Copy)]
pub struct DivertBy<F>(F);

impl<R, T, E, F, A> Divert<R, T, E> for DivertBy<F>
where
    F: Fn(R, PaceError) -> A,
    A: Future<Output = Result<T, SendError<E>>>,
{
    type Future = A;

    fn divert(&self, request: R, error: PaceError) -> A {
        (self.0)(request, error)
    }
}

impl<F> fmt::Debug for DivertBy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DivertBy").finish_non_exhaustive()
    }
}

impl<S, R, D: Clone, J: Clone> Layer<S> for PaceLayer<R, D, J> {
    type Service = Pace<S, R, D, J>;

    fn layer(&self, inner: S) -> Pace<S, R, D, J> {
        Pace::new(inner, self.clone())
    }
}

// Requests need not be `Clone` for their layer to be.
impl<R, D: Clone, J: Clone> Clone for PaceLayer<R, D, J> {
    fn clone(&self) -> Self {
        Self { face: self.face.clone(), divert: self.divert.clone(), judge: self.judge.clone() }
    }
}

impl<R, D, J> fmt::Debug for PaceLayer<R, D, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaceLayer")
            .field("pacer", &self.face.pacer)
            .field("waits", &self.face.waits)
            .finish_non_exhaustive()
    }
}
