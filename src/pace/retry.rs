use super::{Backoff, feedback::told, timer};
use crate::{Event, Observe, observe::tell};
use http::{Method, Request, Response, StatusCode};
use std::{fmt, pin::Pin, sync::Arc, time::Duration};
use tower::retry::{
    Policy,
    budget::{Budget, TpsBudget},
};

/// A policy for tower's [`RetryLayer`](tower::retry::RetryLayer): when a request over HTTP is sent again.
///
/// ```
/// use std::time::Duration;
/// use tidegate::Retry;
/// use tower::{BoxError, retry::RetryLayer};
///
/// let retry = Retry::<BoxError>::new().tries(4).backoff(Duration::from_millis(50), Duration::from_secs(5));
/// let layer = RetryLayer::new(retry);
/// ```
///
/// Answers with 429 count for every method, because such a request was not done. Answers with 502, 503 and 504, and errors, count
/// for idempotent methods (RFC 9110). Before the n-th retry it waits for a random time up to the first backoff times 2^(n-1) (full
/// jitter), so that clients that failed together do not return together. Where the answer says when to come back, in `Retry-After`
/// or the `RateLimit` field of draft 10, that time comes first and the random one follows.
///
/// Clones share the budget, and nothing else.
#[must_use]
pub struct Retry<E> {
    statuses: Arc<StatusCounts>,
    errors: Arc<ErrorCounts<E>>,
    budget: Arc<dyn Budget + Send + Sync>,
    backoff: Backoff,
    tries: u32,
    max_time: Duration,
    max_told: Duration,
    observers: Vec<Arc<dyn Observe>>,
    /// When the first answer came.
    start: Option<timer::Instant>,
}

type StatusCounts = dyn Fn(&Method, StatusCode) -> bool + Send + Sync;
type ErrorCounts<E> = dyn Fn(&Method, &E) -> bool + Send + Sync;

impl<E> Retry<E> {
    /// At most 3 tries in 30 seconds, with backoffs of up to 100 ms at first and 10 s at last; retries may be a fifth of the
    /// requests of the last 10 seconds, and 10 a second besides. An answer is obeyed up to 60 seconds.
    pub fn new() -> Self {
        Self {
            statuses: Arc::new(|method, status| match status.as_u16() {
                429 => true,
                502..=504 => method.is_idempotent(),
                _ => false,
            }),
            errors: Arc::new(|method, _| method.is_idempotent()),
            budget: Arc::new(TpsBudget::default()),
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(10)),
            tries: 3,
            max_time: Duration::from_secs(30),
            max_told: Duration::from_secs(60),
            observers: Vec::new(),
            start: None,
        }
    }

    /// How often a request is sent at most, the first time included.
    pub fn tries(self, most: u32) -> Self {
        Self { tries: most, ..self }
    }

    /// How long after the first answer a request may be sent again.
    pub fn max_time(self, most: Duration) -> Self {
        Self { max_time: most, ..self }
    }

    /// The most that is waited before the first retry, which doubles with each, and the most that it grows to.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff.bounds(first, longest);
        self
    }

    /// Draws each backoff between the first one and three times the last one drawn, instead of from 0 to a power of two.
    pub fn decorrelated(self) -> Self {
        Self { backoff: self.backoff.decorrelated(), ..self }
    }

    /// How long an answer may ask to wait; one that asks for more is not tried again, because coming earlier would only be
    /// refused.
    pub fn max_told(self, most: Duration) -> Self {
        Self { max_told: most, ..self }
    }

    /// Which answers count.
    pub fn statuses(self, count: impl Fn(&Method, StatusCode) -> bool + Send + Sync + 'static) -> Self {
        Self { statuses: Arc::new(count), ..self }
    }

    /// Which errors count.
    pub fn errors(self, count: impl Fn(&Method, &E) -> bool + Send + Sync + 'static) -> Self {
        Self { errors: Arc::new(count), ..self }
    }

    /// What all requests together may retry.
    pub fn budget(self, budget: impl Budget + Send + Sync + 'static) -> Self {
        Self { budget: Arc::new(budget), ..self }
    }

    /// Makes backoffs so many times as long, as a closure says before each, up to the longest: by signals of a
    /// [`Pacer`](crate::Pacer::signals), say, such as the number of rebalances.
    pub fn stretch(self, times: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        Self { backoff: self.backoff.stretch(times), ..self }
    }

    /// Tells `observer` of retries, and of requests that are given up, beside the `tracing` events that are always there.
    pub fn observe(mut self, observer: impl Observe) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    fn tell(&self, event: &Event<'_>) {
        tell(&self.observers, event, None);
    }

    /// How long to wait before the next try, or why there is none.
    fn next(&mut self, told: Option<Duration>) -> Result<Duration, &'static str> {
        let start = *self.start.get_or_insert_with(timer::now);
        if self.sent() >= self.tries {
            return Err("no tries are left");
        }
        if told.is_some_and(|told| told > self.max_told) {
            return Err("the answer asks for too long a wait");
        }
        let wait = told.unwrap_or_default().saturating_add(self.backoff.draw());
        if start.elapsed().saturating_add(wait) > self.max_time {
            return Err("no time is left");
        }
        if self.budget.withdraw() { Ok(wait) } else { Err("the budget is spent") }
    }

    /// How often the request was sent.
    const fn sent(&self) -> u32 {
        self.backoff.drawn().saturating_add(1)
    }
}

impl<B: Clone, T, E> Policy<Request<B>, Response<T>, E> for Retry<E> {
    type Future = Pin<Box<dyn Future<Output = ()> + Send>>;

    fn retry(
        &mut self,
        request: &mut Request<B>,
        result: &mut Result<Response<T>, E>,
    ) -> Option<Self::Future> {
        let (counts, told) = match result {
            Ok(response) => {
                ((self.statuses)(request.method(), response.status()), told::wait(response.headers()))
            }
            Err(error) => ((self.errors)(request.method(), error), None),
        };
        if !counts {
            self.budget.deposit();
            return None;
        }
        let tries = self.sent();
        match self.next(told) {
            Ok(wait) => {
                self.tell(&Event::Retried { next: self.sent(), wait });
                Some(Box::pin(timer::sleep(wait)))
            }
            Err(reason) => {
                self.tell(&Event::GivenUp { tries, reason });
                None
            }
        }
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        Some(request.clone())
    }
}

impl<E> Clone for Retry<E> {
    fn clone(&self) -> Self {
        Self {
            statuses: self.statuses.clone(),
            errors: self.errors.clone(),
            budget: self.budget.clone(),
            backoff: self.backoff.clone(),
            observers: self.observers.clone(),
            ..*self
        }
    }
}

impl<E> Default for Retry<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> fmt::Debug for Retry<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("tries", &self.tries)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}
