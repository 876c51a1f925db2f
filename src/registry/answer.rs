use super::RegistryError;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

/// What a registry answers: at once, or once it has asked elsewhere. Await it.
#[must_use = "a registry that is elsewhere does nothing before it is awaited"]
pub struct RegistryAnswer<T>(Kind<T>);

enum Kind<T> {
    Now(Option<Result<T, RegistryError>>),
    Later(Pin<Box<dyn Future<Output = Result<T, RegistryError>> + Send>>),
}

impl<T> RegistryAnswer<T> {
    /// An answer that is there already.
    pub const fn now(answer: Result<T, RegistryError>) -> Self {
        Self(Kind::Now(Some(answer)))
    }

    /// An answer to wait for. It must end: a request may be waiting for it.
    pub fn later(answer: impl Future<Output = Result<T, RegistryError>> + Send + 'static) -> Self {
        Self(Kind::Later(Box::pin(answer)))
    }
}

/// Nothing in it is pinned.
impl<T> Unpin for RegistryAnswer<T> {}

impl<T> Future for RegistryAnswer<T> {
    type Output = Result<T, RegistryError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Kind::Later(answer) => answer.as_mut().poll(cx),
            Kind::Now(answer) => Poll::Ready(
                answer
                    .take()
                    .unwrap_or_else(|| Err(RegistryError::unavailable("polled again after it had answered"))),
            ),
        }
    }
}

impl<T> fmt::Debug for RegistryAnswer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryAnswer").finish_non_exhaustive()
    }
}
