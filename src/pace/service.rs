use super::{Divert, Judge, PaceLayer, Reject, SendError, SendFuture, Unjudged};
use std::{
    fmt, mem,
    task::{Context, Poll},
};
use tower_service::Service;

/// The service that [`PaceLayer`] makes.
///
/// It is as ready as the service inside, and never waits in `poll_ready`, which cannot see the request.
pub struct Pace<S, R, D = Reject, J = Unjudged> {
    inner: S,
    layer: PaceLayer<R, D, J>,
}

impl<S, R, D, J> Pace<S, R, D, J> {
    pub(super) const fn new(inner: S, layer: PaceLayer<R, D, J>) -> Self {
        Self { inner, layer }
    }

    /// The service inside.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S, R, D, J> Service<R> for Pace<S, R, D, J>
where
    S: Service<R> + Clone,
    D: Divert<R, S::Response, S::Error> + Clone,
    J: Judge<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = SendError<S::Error>;
    type Future = SendFuture<S, R, D, J>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(SendError::Inner)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let pace = self.layer.face.pace(&request);
        // The service that was polled ready goes along; the clone that stays has to be polled again.
        let clone = self.inner.clone();
        let service = mem::replace(&mut self.inner, clone);
        SendFuture::new(pace, service, request, self.layer.clone())
    }
}

impl<S: Clone, R, D: Clone, J: Clone> Clone for Pace<S, R, D, J> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: fmt::Debug, R, D, J> fmt::Debug for Pace<S, R, D, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pace").field("inner", &self.inner).field("layer", &self.layer).finish()
    }
}
