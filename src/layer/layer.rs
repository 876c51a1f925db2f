use super::{Throttle, UploadLayer};
use crate::{
    Decision, HeaderStyle, Limiter, Reason, Refusal, RequestHead, limiter::Inner, response::AnswerStyle,
};
use bytes::Bytes;
use http::Response;
use std::sync::Arc;
use tower_layer::{Layer, Stack};

/// Holds the requests to a service to a limiter's policy.
///
/// It goes around an axum `Router` (`.layer()`) or any other service over HTTP. Clones, and all services made from them,
/// share the limiter.
#[derive(Debug, Clone)]
#[must_use]
pub struct ThrottleLayer {
    face: Arc<Face>,
}

/// How a limiter speaks HTTP.
#[derive(Debug, Clone)]
pub(super) struct Face {
    pub(super) limiter: Limiter,
    /// How limits and refusals are told, where that is not what the policy says.
    style: Option<AnswerStyle>,
    pub(super) expose_decision: bool,
    pub(super) expose_ongoing: bool,
}

impl Face {
    /// How limits and refusals are told.
    pub(super) fn style<'a>(&'a self, inner: &'a Inner) -> &'a AnswerStyle {
        self.style.as_ref().unwrap_or(&inner.policy.answers)
    }
}

impl Limiter {
    /// The limiter as a tower layer.
    pub fn layer(&self) -> ThrottleLayer {
        ThrottleLayer::new(self.clone())
    }
}

impl ThrottleLayer {
    /// The layer of a limiter, with the fields and refusals of its policy, until one of the methods below sets others: these
    /// stay, whatever policy follows.
    pub fn new(limiter: Limiter) -> Self {
        Self { face: Arc::new(Face { limiter, style: None, expose_decision: false, expose_ongoing: false }) }
    }

    /// The limiter.
    pub fn limiter(&self) -> &Limiter {
        &self.face.limiter
    }

    /// The fields by which answers tell clients their limits.
    pub fn headers(self, style: HeaderStyle) -> Self {
        self.styled(|own| own.headers = style)
    }

    /// A sentence of your own that follows ours in a refusal's `detail`.
    pub fn refusal_text(self, text: impl Into<String>) -> Self {
        self.styled(|own| own.refusal.text = Some(text.into()))
    }

    /// A page about your limits, which a refusal points to in its `detail` and its member `help`.
    pub fn refusal_link(self, link: impl Into<String>) -> Self {
        self.styled(|own| own.refusal.link = Some(link.into()))
    }

    /// A refusal of your own.
    ///
    /// `Retry-After`, `Cache-Control: no-store` and the `RateLimit` fields are added where it has none. gRPC requests
    /// get a gRPC refusal all the same, because their clients understand nothing else.
    pub fn refusal(
        self,
        respond: impl Fn(&Refusal<'_>, RequestHead<'_>) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        self.styled(|own| own.refusal.custom = Some(Arc::new(respond)))
    }

    /// Puts the [`Decision`](crate::Decision) as `Arc<Decision>` into the extensions of the request and of its
    /// response, a refusal's too, where limits apply. It costs a few allocations, so it is off unless asked for.
    pub fn expose_decision(self) -> Self {
        self.with(|face| face.expose_decision = true)
    }

    /// Puts [`Ongoing`](crate::Ongoing) into the extensions of requests that hold permits or whose bytes count: for whoever
    /// counts requests' bodies or upgraded connections.
    pub fn expose_ongoing(self) -> Self {
        self.with(|face| face.expose_ongoing = true)
    }

    /// The layer, and one inside that counts requests' bodies ([`Bandwidth::requests`](crate::Bandwidth::requests)). The
    /// service gets them as [`UploadBody`](crate::UploadBody).
    pub fn uploads(self) -> Stack<UploadLayer, Self> {
        Stack::new(UploadLayer, self.expose_ongoing())
    }

    /// The answer to a request whose charge by hand was refused: what the layer answers where it refuses itself.
    pub fn refuse(&self, decision: &Decision, head: RequestHead<'_>) -> Response<Bytes> {
        self.face.refuse(&decision.inner, Reason::Limited, Some(&decision.charged), head)
    }

    fn styled(self, set: impl FnOnce(&mut AnswerStyle)) -> Self {
        self.with(|face| {
            let policy = || face.limiter.now().policy.answers.clone();
            set(face.style.get_or_insert_with(policy));
        })
    }

    fn with(mut self, set: impl FnOnce(&mut Face)) -> Self {
        set(Arc::make_mut(&mut self.face));
        self
    }
}

impl<S> Layer<S> for ThrottleLayer {
    type Service = Throttle<S>;

    fn layer(&self, inner: S) -> Throttle<S> {
        if !self.face.expose_ongoing && self.face.limiter.now().policy.counts_uploads() {
            tracing::warn!("a limit counts requests' bodies, and this layer does not; use `.uploads()`");
        }
        Throttle::new(inner, self.face.clone())
    }
}
