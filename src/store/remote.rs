use super::{Charge, Joining, OccupiedFuture, Reading, Slot};
use crate::Mistake;
use std::{error::Error, fmt, pin::Pin};

/// A store outside of the process, or one of your own.
///
/// What it must keep to: all enforced charges of a list happen or none of them does, and nobody sees a state in
/// between; watched ones (`shadow`) never refuse the others, and are counted as if all of them were enforced.
pub trait Store: Send + Sync + 'static {
    /// Decides a list of charges and answers with a reading for each, in its order.
    ///
    /// The request waits for as long as the future does, so it must end: put a deadline into it, and answer with an error
    /// when that has passed. What becomes of a request whose store fails is up to its limits:
    /// see [`StoreDown`](crate::StoreDown).
    fn charge(&self, charges: Vec<Charge>) -> StoreFuture;

    /// What is known of a list of charges without waiting, if it is refused for sure: a reading for each. Where it says
    /// nothing, [`charge`](Self::charge) decides.
    fn known(&self, charges: &[Charge]) -> Option<Vec<Reading>> {
        let _ = charges;
        None
    }

    /// Decides a list by units that this instance has debited in advance, where they are enough for all of it; nothing where
    /// [`charge`](Self::charge) has to decide.
    fn spend(&self, charges: &[Charge]) -> Option<Vec<Reading>> {
        let _ = charges;
        None
    }

    /// Takes slots and decides a list of charges: all enforced slots and charges are taken or none is, and where a slot
    /// refuses nothing is asked of the rates. Watched slots never refuse the others.
    ///
    /// Where it answers with nothing, it counts no slots: then each instance lets as many run at once as a limit says.
    fn occupy(&self, slots: Vec<Slot>, charges: Vec<Charge>) -> Option<OccupiedFuture> {
        let _ = (slots, charges);
        None
    }

    /// Gives back or adds, without an answer. It must not block; a store that needs to wait does so elsewhere.
    fn settle(&self, charges: Vec<Charge>);

    /// Is told once, before anything else, who will count in it.
    ///
    /// # Errors
    ///
    /// If that cannot be; then the limiter is not built.
    fn join(&self, joining: Joining) -> Result<(), Mistake> {
        let _ = joining;
        Ok(())
    }

    /// Whether it can be asked now, as far as is known. It must answer at once.
    fn is_up(&self) -> bool {
        true
    }

    /// How many instances share it, this one among them. While it fails, each of them admits its part of what limits
    /// with [`StoreDown::Local`](crate::StoreDown::Local) do.
    fn instances(&self) -> u32 {
        1
    }
}

/// The answer of a [`Store`].
pub type StoreFuture = Pin<Box<dyn Future<Output = Result<Vec<Reading>, StoreError>> + Send>>;

/// A store could not decide.
#[derive(Debug)]
pub struct StoreError {
    kind: &'static str,
    source: Box<dyn Error + Send + Sync>,
}

impl StoreError {
    /// Wraps what went wrong.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::of("other", source)
    }

    /// The same for an error of a kind: one of few words, by which metrics tell errors apart.
    pub fn of(kind: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, source: source.into() }
    }

    /// Of what kind it is: `registry`, for `RedisStore` `not_sent`, `late`, `broken`, `refused`, `odd` or `other_secret`, what a store of
    /// your own says, or `other`.
    pub const fn kind(&self) -> &'static str {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store could not decide: {}", self.source)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}
