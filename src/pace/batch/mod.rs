//! What is sent together: batches by count, bytes and time, in the order of each key.

mod plan;
mod run;

pub use plan::BatchPlan;

use super::{PaceError, Pacer};
use run::Shared;
use std::{error::Error, fmt, sync::Arc, time::Duration};

/// Collects what is pushed, and sends it in batches through a [`Pacer`].
///
/// A batch goes when it is full by count or bytes, or when its first item has waited for the interval. Limits on requests and on
/// items hold together, because the plan says what a batch costs of each. Each key's batches go one after the other, in the
/// order of the pushes: the next one is not sent before the closure is done with the last, with all of its retries. What the
/// closure sends twice is duplicated, and nothing else is.
///
/// ```
/// use std::time::Duration;
/// use tidegate::{Batch, BatchPlan, Batches, Limit, Pacer, Quota};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pacer = Pacer::new([
///     Limit::per_client("requests", Quota::per_second(50)),
///     Limit::per_client("records", Quota::per_second(20_000)),
/// ])?;
/// let plan = BatchPlan::new(500, Duration::from_millis(20)).items_limit("records");
/// let batches = Batches::new(pacer, plan, |batch: Batch<String>| async move {
///     // Send batch.items to batch.key, again and again where that fails.
/// });
/// batches.push("orders", "one".to_owned(), 3).await?;
/// let unsent = batches.close(Duration::from_secs(5)).await;
/// assert_eq!(unsent, 0);
/// # Ok(())
/// # }
/// ```
///
/// Clones share everything. It needs tokio's runtime, where each key that has something to send has a task. Once all clones are
/// dropped, what was pushed is still sent, for as long as the runtime lives; [`close`](Self::close) waits for it.
pub struct Batches<T> {
    shared: Arc<Shared<T>>,
}

/// What is sent together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Batch<T> {
    /// Whose quota it counts against.
    pub key: String,
    /// In the order in which they were pushed.
    pub items: Vec<T>,
    /// The bytes of all of them.
    pub bytes: u64,
}

/// Why something was not taken into a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PushError {
    /// Nothing is taken any more, because [`Batches::close`] was called.
    Closed,
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the batches are closed, and nothing more is sent")
    }
}

impl Error for PushError {}

impl<T: Send + 'static> Batches<T> {
    /// Sends batches with a closure, which deals with errors itself. What the pacer rejects, for good or after its longest wait,
    /// is dropped and [counted](Self::rejected), unless it is [diverted](Self::diverting).
    pub fn new<F, A>(pacer: Pacer, plan: BatchPlan, send: F) -> Self
    where
        F: Fn(Batch<T>) -> A + Send + Sync + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        Self::diverting(pacer, plan, send, |_, _| std::future::ready(()))
    }

    /// The same with a closure for what the pacer rejects.
    pub fn diverting<F, A, G, B>(pacer: Pacer, plan: BatchPlan, send: F, divert: G) -> Self
    where
        F: Fn(Batch<T>) -> A + Send + Sync + 'static,
        A: Future<Output = ()> + Send + 'static,
        G: Fn(Batch<T>, PaceError) -> B + Send + Sync + 'static,
        B: Future<Output = ()> + Send + 'static,
    {
        let send = Box::new(move |batch| -> run::Sending { Box::pin(send(batch)) });
        let divert = Box::new(move |batch, error| -> run::Sending { Box::pin(divert(batch, error)) });
        Self { shared: Arc::new(Shared::new(pacer, plan, send, divert)) }
    }

    /// Adds an item of so many bytes to the batch of a key. It waits while as many items of the key as may are not sent yet.
    ///
    /// # Errors
    ///
    /// If the batches are closed.
    pub async fn push(&self, key: &str, item: T, bytes: u32) -> Result<(), PushError> {
        self.shared.push(key, item, bytes).await
    }

    /// Takes nothing more, sends what there is without waiting for intervals, and answers with how many items are not sent by
    /// the deadline: none, if all went well. What waits for limits then is dropped. What is being sent goes on, and is
    /// among those that are answered.
    pub async fn close(&self, deadline: Duration) -> usize {
        self.shared.close(deadline).await
    }

    /// How many items were pushed and are not sent yet.
    pub fn pending(&self) -> usize {
        self.shared.pending()
    }

    /// How many items the pacer rejected.
    pub fn rejected(&self) -> u64 {
        self.shared.rejected()
    }
}

impl<T> Clone for Batches<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T> fmt::Debug for Batches<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches").field("plan", &self.shared.plan).finish_non_exhaustive()
    }
}
