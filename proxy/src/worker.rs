//! A thread that serves clients by itself: its connections, and those to upstreams, never leave it.

use crate::{
    connection::{self, Host},
    forward::Client,
    listen::BACKLOG,
    settings::UpstreamSettings,
    stream::Stream,
    upstream::{self, Health},
};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, mpsc},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

/// How long to wait where no connection can be accepted, because there are no descriptors left.
const SHORTAGE: Duration = Duration::from_millis(50);

/// Serves until the server stops, and then until all connections have ended or the time for that is over. At most so many
/// connections are served at a time; others wait to be accepted. Whether that begins is told first.
pub(crate) fn run(
    sockets: Vec<std::net::TcpListener>,
    host: Arc<Host>,
    places: usize,
    watched: Vec<(UpstreamSettings, Arc<Health>)>,
    tell: &mpsc::Sender<io::Result<()>>,
) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(tell.send(Err(error))),
    };
    runtime.block_on(async {
        let listeners: io::Result<Vec<_>> = sockets.into_iter().map(TcpListener::from_std).collect();
        let listeners = match listeners {
            Ok(listeners) => listeners,
            Err(error) => return drop(tell.send(Err(error))),
        };
        let _ = tell.send(Ok(()));
        let places = places.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let free = Arc::new(Semaphore::new(places));
        for upstream in &host.forwarder.upstreams {
            tokio::spawn(upstream.pool().clone().sweep());
        }
        for (settings, health) in watched {
            tokio::spawn(upstream::watch(settings, health));
        }
        let accept = |listener| tokio::spawn(accept(listener, host.clone(), free.clone()));
        let accepting: Vec<_> = listeners.into_iter().map(accept).collect();
        host.stop.watch().begun().await;
        for listener in accepting {
            let _ = listener.await;
        }
        let all = u32::try_from(places).unwrap_or(u32::MAX);
        if timeout(host.settings.timeouts.drain.get(), free.acquire_many(all)).await.is_err() {
            tracing::warn!("connections are cut off, because their time to end is over");
        }
    });
}

/// Accepts connections until the server stops, and then those that had been made by then.
async fn accept(listener: TcpListener, host: Arc<Host>, free: Arc<Semaphore>) {
    let mut stopping = host.stop.watch();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopping.begun() => break,
            accepted = next(&listener, &free) => accepted,
        };
        match accepted {
            Ok((stream, peer, place)) => begin(&host, stream, peer, place),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(SHORTAGE).await;
            }
        }
    }
    // tokio asks the kernel only when that has said something, so the last ones are asked for without it. Whoever connects
    // between that and the socket's end gets a reset, which is nobody's choice.
    let Ok(listener) = listener.into_std() else { return };
    for _ in 0..BACKLOG {
        let Ok(place) = free.clone().try_acquire_owned() else { break };
        let Ok((stream, peer)) = listener.accept() else { break };
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            begin(&host, stream, peer, place);
        }
    }
}

async fn next(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = free.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

fn begin(host: &Arc<Host>, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
    if stream.set_nodelay(true).is_err() {
        return; // it is gone already
    }
    let peer = host.forwarder.check.forwarding.peer(peer, false);
    let client = Client { peer, place: Arc::new(place) };
    tokio::spawn(connection::serve(host.clone(), Stream::Tcp(stream), client));
}
