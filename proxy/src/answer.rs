//! The body of an answer, on its way from an upstream.

use crate::{
    patience::Patience,
    upstream::{Link, Pool, poll_through},
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

/// The body of an answer: an upstream's as it comes, or one of ours.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Ours(Bytes),
    Coming(Coming),
}

/// What comes from an upstream.
#[derive(Debug)]
struct Coming {
    incoming: Incoming,
    from: From,
    is_awaited: bool,
    span: Duration,
    /// Told in the next poll, so that what came before it is sent.
    failed: Option<AnswerError>,
}

/// Who drives the connection.
#[derive(Debug)]
enum From {
    /// We do, and put it back afterwards.
    Link(Box<Link>, Arc<Pool>),
    /// A task.
    Task(Patience),
    /// Nobody, because all has come.
    Nowhere,
}

impl AnswerBody {
    pub(crate) const fn of(bytes: Bytes) -> Self {
        Self { kind: Kind::Ours(bytes) }
    }

    /// What comes over a connection, which goes back to its pool at the end. Bytes are never longer apart than `span`.
    pub(crate) fn over(incoming: Incoming, link: Box<Link>, pool: &Arc<Pool>, span: Duration) -> Self {
        let from = From::Link(link, pool.clone());
        let mut coming = Coming { incoming, from, is_awaited: false, span, failed: None };
        if coming.incoming.is_end_stream() {
            coming.finish();
        }
        Self { kind: Kind::Coming(coming) }
    }

    /// What comes over a connection that a task drives.
    pub(crate) fn beside(incoming: Incoming, span: Duration) -> Self {
        let from = From::Task(Patience::new(span));
        Self { kind: Kind::Coming(Coming { incoming, from, is_awaited: false, span, failed: None }) }
    }
}

impl Coming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let Self { incoming, from, .. } = self;
        let frame = match from {
            From::Link(link, _) => poll_through(link, cx, |cx| Pin::new(&mut *incoming).poll_frame(cx)),
            From::Task(_) | From::Nowhere => Pin::new(&mut *incoming).poll_frame(cx),
        };
        let Poll::Ready(frame) = frame else {
            ready!(self.poll_over(cx));
            return self.fail(AnswerError::TooSlow, cx);
        };
        self.is_awaited = false;
        match frame {
            Some(Err(error)) => return self.fail(AnswerError::Broken(error), cx),
            Some(Ok(_)) if !self.incoming.is_end_stream() => {}
            Some(Ok(_)) | None => self.finish(),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(AnswerError::Broken)))
    }

    /// Whoever sends the body drops its connection with an error, bytes that wait to be sent included.
    fn fail<T>(&mut self, error: AnswerError, cx: &Context<'_>) -> Poll<T> {
        self.from = From::Nowhere;
        self.failed = Some(error);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready when the next bytes are overdue.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let patience = match &mut self.from {
            From::Link(link, _) => &mut link.patience,
            From::Task(patience) => patience,
            From::Nowhere => return Poll::Pending,
        };
        if !self.is_awaited {
            self.is_awaited = true;
            patience.renew_by(self.span);
        }
        patience.poll_over(cx)
    }

    /// All has come.
    fn finish(&mut self) {
        if let From::Link(link, pool) = std::mem::replace(&mut self.from, From::Nowhere) {
            pool.put(link);
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match &mut self.kind {
            Kind::Ours(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Ours(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Coming(coming) => coming.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Ours(bytes) => bytes.is_empty(),
            Kind::Coming(coming) => coming.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Ours(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Coming(coming) => coming.incoming.size_hint(),
        }
    }
}

/// Why an answer's body does not go on. Its client sees that it is cut off.
#[derive(Debug)]
pub(crate) enum AnswerError {
    TooSlow,
    Broken(hyper::Error),
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSlow => f.write_str("the upstream's body comes too slowly"),
            Self::Broken(error) => write!(f, "the upstream's body broke off: {error}"),
        }
    }
}

impl std::error::Error for AnswerError {}
