//! A thread that serves clients by itself: its connections, and those to upstreams, never leave it.

use crate::{
    connection::{self, Host},
    listen::{Accepted, Listener, Socket},
};
use std::{
    io,
    sync::{Arc, mpsc},
    time::Duration,
};
use tokio::{
    runtime::Builder,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

/// How long to wait where no connection can be accepted, because there are no descriptors left.
const SHORTAGE: Duration = Duration::from_millis(50);

/// Serves until the server stops, and then until all connections have ended or the time for that is over. At most so many
/// connections are served at a time; others wait to be accepted. Whether that begins is told first; `watch` runs within the worker's runtime.
pub(crate) fn run(
    sockets: Vec<Socket>,
    host: Arc<Host>,
    places: usize,
    watch: impl FnOnce(),
    tell: &mpsc::Sender<io::Result<()>>,
) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(tell.send(Err(error))),
    };
    runtime.block_on(async {
        let listeners: io::Result<Vec<_>> = sockets.into_iter().map(Listener::watch).collect();
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
        watch();
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
async fn accept(listener: Listener, host: Arc<Host>, free: Arc<Semaphore>) {
    let mut stopping = host.stop.watch();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopping.begun() => break,
            accepted = next(&listener, &free) => accepted,
        };
        match accepted {
            Ok((accepted, place)) => drop(tokio::spawn(connection::serve(host.clone(), accepted, place))),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(SHORTAGE).await;
            }
        }
    }
    for accepted in listener.rest().unwrap_or_default() {
        let Ok(place) = free.clone().try_acquire_owned() else { break };
        tokio::spawn(connection::serve(host.clone(), accepted, place));
    }
}

async fn next(listener: &Listener, free: &Arc<Semaphore>) -> io::Result<(Accepted, OwnedSemaphorePermit)> {
    let place = free.clone().acquire_owned().await.map_err(io::Error::other)?;
    Ok((listener.accept().await?, place))
}
