//! One connection to an upstream over HTTP/1.1.

use super::{pool::Place, watch::Watch};
use crate::{patience::Patience, stream::Stream, upload::Upload};
use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{Builder, Connection, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use std::{
    fmt,
    future::{Future as _, poll_fn},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// What the heads of answers may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_head: usize,
    pub(crate) max_fields: usize,
}

/// How many fields hyper reads a head of without taking memory for them.
const FREE_FIELDS: usize = 100;

/// A connection to an upstream, with one request at a time.
///
/// It has no task of its own: whoever sends a request or takes its answer drives it, so an exchange switches no tasks.
/// Whatever passes between its two halves happens while it is driven, so nobody has to be woken for it.
pub(crate) struct Link {
    sender: SendRequest<Upload>,
    connection: Connection<TokioIo<Stream>, Upload>,
    is_over: bool,
    /// For whatever the upstream owes next.
    pub(crate) patience: Patience,
    _place: Place,
}

/// Why an exchange has no answer.
pub(crate) enum Lost {
    /// The request was not sent.
    Unsent(Box<Request<Upload>>),
    /// The connection was closed, perhaps before the upstream saw the request.
    Closed,
    /// What came is no answer.
    Garbage,
    /// Nothing came in time.
    TimedOut,
}

impl From<TrySendError<Request<Upload>>> for Lost {
    fn from(mut error: TrySendError<Request<Upload>>) -> Self {
        match error.take_message() {
            Some(request) => Self::Unsent(Box::new(request)),
            None if error.error().is_parse() => Self::Garbage,
            None => Self::Closed,
        }
    }
}

impl Link {
    pub(crate) async fn new(
        stream: Stream,
        place: Place,
        limits: &Limits,
    ) -> Result<Box<Self>, hyper::Error> {
        let mut builder = Builder::new();
        builder.max_header_size(limits.max_head);
        if limits.max_fields != FREE_FIELDS {
            builder.max_headers(limits.max_fields);
        }
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        let patience = Patience::new(Duration::ZERO);
        Ok(Box::new(Self { sender, connection, is_over: false, patience, _place: place }))
    }

    /// Moves bytes. It has to be called whenever something may have come for it.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.is_over && self.connection.poll_without_shutdown(cx).is_ready() {
            self.is_over = true;
        }
    }

    /// Whether another request can be sent, as far as is known. Bytes that nobody asked for are the end of it.
    pub(crate) fn is_usable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.is_over && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of its answer, for so long once it is sent.
    pub(crate) async fn exchange(
        mut self: Box<Self>,
        request: Request<Upload>,
        span: Duration,
    ) -> Result<(Response<Incoming>, Box<Self>), Lost> {
        let mut watch = Watch::new(&request);
        self.patience.renew_by(span);
        let mut answer = pin!(self.sender.try_send_request(request));
        let answer = poll_fn(|cx| {
            self.drive(cx);
            match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending => watch.poll_over(&mut self.patience, cx).map(|()| None),
            }
        });
        match answer.await {
            Some(Ok(response)) => Ok((response, self)),
            Some(Err(error)) => Err(error.into()),
            None => Err(Lost::TimedOut),
        }
    }

    /// What is left of it once it has been upgraded: the stream, and what was read from it already.
    pub(crate) fn upgraded(self) -> Option<(TokioIo<Stream>, Bytes, Place)> {
        let Self { connection, is_over, _place, .. } = self;
        is_over.then(|| {
            let parts = connection.into_parts();
            (parts.io, parts.read_buf, _place)
        })
    }

    /// Goes on until the connection is closed: where an answer comes before all of its request is sent, both have to
    /// go on though nobody may take the answer for a while.
    pub(crate) fn detach(mut self: Box<Self>) {
        tokio::spawn(poll_fn(move |cx| {
            self.drive(cx);
            if self.is_over { Poll::Ready(()) } else { Poll::Pending }
        }));
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

/// Reads what an answer's body has next while its connection is driven.
pub(crate) fn poll_through<T>(
    link: &mut Link,
    cx: &mut Context<'_>,
    mut next: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Poll<T> {
    let mut quiet = Context::from_waker(Waker::noop());
    match next(&mut quiet) {
        // Asking has told the connection that more is wanted.
        Poll::Pending => {
            link.drive(cx);
            next(&mut quiet)
        }
        ready => ready,
    }
}
