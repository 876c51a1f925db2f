//! One worker's connection to an upstream over HTTP/2, which all its requests share.

use super::{
    link::{Limits, Lost},
    pool::Place,
    watch::Watch,
};
use crate::{patience::Patience, problem::Problem, stream::Stream, upload::Upload};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    fmt,
    future::{Future as _, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};
use tokio::sync::Mutex;

/// How often an upstream that owes answers is asked whether it lives, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(10));

/// How much an upstream may send before it is read, for a stream and for all.
const WINDOWS: (u32, u32) = (256 << 10, 4 << 20);

/// A connection that requests share, made when the first one comes and again when it has ended.
#[derive(Default)]
pub(crate) struct Streams {
    sender: Mutex<Option<SendRequest<Upload>>>,
}

impl Streams {
    /// The connection; one request at a time makes a new one where there is none.
    pub(crate) async fn sender<F>(&self, limits: &Limits, connect: F) -> Result<SendRequest<Upload>, Problem>
    where
        F: Future<Output = Result<(Stream, Place), Problem>>,
    {
        let mut sender = self.sender.lock().await;
        if let Some(sender) = sender.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let (stream, place) = connect.await?;
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1)
            .max_header_list_size(u32::try_from(limits.max_head).unwrap_or(u32::MAX))
            .initial_stream_window_size(WINDOWS.0)
            .initial_connection_window_size(WINDOWS.1);
        let made = builder.handshake(TokioIo::new(stream)).await.map_err(|_| Problem::Unreachable)?;
        let (new, connection) = made;
        tokio::spawn(async move {
            let _place = place;
            let _ = connection.await; // whoever waits for an answer is told
        });
        *sender = Some(new.clone());
        Ok(new)
    }
}

/// Sends a request and waits for the head of its answer, for so long once it is sent.
pub(crate) async fn exchange(
    sender: &mut SendRequest<Upload>,
    request: Request<Upload>,
    span: Duration,
) -> Result<Response<Incoming>, Lost> {
    let mut watch = Watch::new(&request);
    let mut patience = Patience::new(span);
    let mut answer = pin!(sender.try_send_request(request));
    let answer = poll_fn(|cx| match answer.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => watch.poll_over(&mut patience, cx).map(|()| None),
    });
    match answer.await {
        Some(answer) => answer.map_err(Lost::from),
        None => Err(Lost::TimedOut),
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}
