//! Requests' bodies, which count where a limit says so.

use super::{
    flow::{Flow, Held},
    ongoing::Ongoing,
};
use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tower_layer::Layer;
use tower_service::Service;

/// Counts requests' bodies, inside of a [`ThrottleLayer`](crate::ThrottleLayer) that
/// [exposes](crate::ThrottleLayer::expose_ongoing) what to count them by.
///
/// [`ThrottleLayer::uploads`](crate::ThrottleLayer::uploads) is both of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct UploadLayer;

impl<S> Layer<S> for UploadLayer {
    type Service = Uploads<S>;

    fn layer(&self, inner: S) -> Uploads<S> {
        Uploads { inner }
    }
}

/// The service that [`UploadLayer`] makes.
#[derive(Debug, Clone)]
pub struct Uploads<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Uploads<S>
where
    S: Service<Request<UploadBody<B>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        let flow = request.extensions().get::<Ongoing>().and_then(Ongoing::up);
        self.inner.call(request.map(|body| UploadBody::new(body, flow)))
    }
}

pin_project! {
    /// A request's body, which counts where a limit says so.
    #[derive(Debug)]
    pub struct UploadBody<B> {
        #[pin]
        body: B,
        // Boxed, because few requests' bodies are counted and all have this size.
        held: Option<Box<Held>>,
    }
}

impl<B> UploadBody<B> {
    /// A body, and what its bytes go through.
    pub fn new(body: B, flow: Option<Flow>) -> Self {
        Self { body, held: flow.map(|flow| Box::new(Held::new(flow))) }
    }

    /// Lets the bytes that are still to come go through a flow.
    pub fn go_through(&mut self, flow: Flow) {
        self.held = Some(Box::new(Held::new(flow)));
    }

    /// The body as it comes.
    pub const fn get_ref(&self) -> &B {
        &self.body
    }

    /// Whether bytes have come and wait, because a limit makes them.
    pub fn is_waiting(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.flow.is_waiting())
    }
}

impl<B: Body<Data = Bytes>> Body for UploadBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        match this.held {
            Some(held) => held.poll_frame(this.body, cx),
            None => this.body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.held.as_ref().is_none_or(|held| held.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.size_hint();
        match &self.held {
            Some(held) => held.size_hint(hint),
            None => hint,
        }
    }
}
