//! Upgraded connections: bytes in both directions, until either side closes or nothing has come for too long.

use crate::stream::Stream;
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional},
    time::{Instant, sleep_until},
};

/// Joins a client's connection, once it is free, to an upstream's, of which `early` was read already.
pub(crate) fn spawn<P: Send + 'static>(
    client: OnUpgrade,
    upstream: TokioIo<Stream>,
    early: Bytes,
    idle: Duration,
    places: P,
) {
    tokio::spawn(async move {
        let _places = places;
        let Ok(client) = client.await else { return };
        let began = Instant::now();
        let moved = Arc::new(AtomicU64::new(0));
        let mut client = Watched { inner: TokioIo::new(client), began, moved: moved.clone() };
        // What is written to one side was read from the other, so one of them is enough to watch.
        let mut upstream = upstream.into_inner();
        let both = async {
            client.write_all(&early).await?;
            copy_bidirectional(&mut client, &mut upstream).await
        };
        let silence = async {
            loop {
                let last = began + Duration::from_millis(moved.load(Relaxed));
                if last + idle <= Instant::now() {
                    break;
                }
                sleep_until(last + idle).await;
            }
        };
        tokio::select! {
            _ = both => {}
            () = silence => {}
        }
    });
}

/// Notes when bytes last passed.
struct Watched<T> {
    inner: T,
    began: Instant,
    /// In milliseconds since it began.
    moved: Arc<AtomicU64>,
}

impl<T> Watched<T> {
    fn note(&self) {
        self.moved.store(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.note();
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.note();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
