use super::{
    flow::{Flow, Held},
    ongoing::Ongoing,
};
use crate::policy::Direction;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

pin_project! {
    /// The body of a response through [`Throttle`](crate::Throttle): the inner service's untouched, or a refusal's.
    #[derive(Debug)]
    pub struct ThrottleBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    #[derive(Debug)]
    enum Kind<B> {
        Inner { #[pin] body: B },
        // Boxed, because few responses are followed and all have this size. Nothing once it has ended, though it may not be
        // dropped for a while.
        Followed { #[pin] body: B, held: Option<Box<Held>> },
        Refusal { body: Bytes },
    }
}

impl<B> ThrottleBody<B> {
    pub(super) const fn inner(body: B) -> Self {
        Self { kind: Kind::Inner { body } }
    }

    pub(super) fn followed(body: B, ongoing: Ongoing) -> Self {
        let held = Held::new(Flow::new(ongoing, Direction::Down));
        Self { kind: Kind::Followed { body, held: Some(Box::new(held)) } }
    }

    pub(super) const fn refusal(body: Bytes) -> Self {
        Self { kind: Kind::Refusal { body } }
    }
}

impl<B> Body for ThrottleBody<B>
where
    B: Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProjection::Inner { body } => body.poll_frame(cx),
            KindProjection::Followed { body, held } => {
                let Some(following) = held else { return body.poll_frame(cx) };
                let frame = ready!(following.poll_frame(body, cx));
                if !matches!(frame, Some(Ok(_))) {
                    *held = None;
                }
                Poll::Ready(frame)
            }
            KindProjection::Refusal { body } if body.is_empty() => Poll::Ready(None),
            KindProjection::Refusal { body } => Poll::Ready(Some(Ok(Frame::data(std::mem::take(body))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } => body.is_end_stream(),
            Kind::Followed { body, held } => {
                body.is_end_stream() && held.as_ref().is_none_or(|held| held.is_empty())
            }
            Kind::Refusal { body } => body.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } | Kind::Followed { body, held: None } => body.size_hint(),
            Kind::Followed { body, held: Some(held) } => held.size_hint(body.size_hint()),
            Kind::Refusal { body } => SizeHint::with_exact(body.len() as u64),
        }
    }
}
