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
use tidegate::{Flow, Ongoing};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional},
    time::{Instant, sleep_until},
};

/// What is joined.
pub(crate) struct Ends {
    /// Once it is free.
    pub(crate) client: OnUpgrade,
    pub(crate) upstream: TokioIo<Stream>,
    /// What was read from the upstream already.
    pub(crate) early: Bytes,
    /// The permits that the connection holds, and what its bytes go through.
    pub(crate) ongoing: Option<Ongoing>,
}

/// Joins a client's connection to an upstream's.
pub(crate) fn spawn<P: Send + 'static>(ends: Ends, idle: Duration, places: P) {
    tokio::spawn(async move {
        let Ends { client, upstream, early, ongoing } = ends;
        let (up, down) = (ongoing.as_ref().and_then(Ongoing::up), ongoing.as_ref().and_then(Ongoing::down));
        let _kept = (places, ongoing);
        let Ok(client) = client.await else { return };
        let began = Instant::now();
        let moved = Arc::new(AtomicU64::new(0));
        let client = Watched { inner: TokioIo::new(client), began, moved: moved.clone() };
        let mut client = Paced::new(client, down);
        // What is written to one side was read from the other, so one of them is enough to watch.
        let mut upstream = Paced::new(upstream.into_inner(), up);
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

/// What is written goes through a flow.
struct Paced<T> {
    inner: T,
    flow: Option<Flow>,
    /// So many bytes have been let through and are not written yet.
    passed: usize,
}

impl<T> Paced<T> {
    const fn new(inner: T, flow: Option<Flow>) -> Self {
        Self { inner, flow, passed: 0 }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Paced<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Paced<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { inner, flow, passed } = self.get_mut();
        let Some(flow) = flow else { return Pin::new(inner).poll_write(cx, buf) };
        if *passed == 0 && !buf.is_empty() {
            *passed = ready!(flow.poll_pass(cx, buf.len()));
        }
        let most = (*passed).min(buf.len());
        let written = ready!(Pin::new(inner).poll_write(cx, &buf[..most]))?;
        *passed = passed.saturating_sub(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
