//! Connections of operators: few, and none for long.

use super::complain;
use axum::Router;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tidegate::PeerAddr;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{interval, sleep, timeout},
};
use tower_service::Service;

/// So many connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 64;

/// A head takes no longer, and neither does the next request.
const HEAD: Duration = Duration::from_secs(10);

/// No connection is kept for longer.
const LONGEST: Duration = Duration::from_secs(300);

/// How long to wait where no connection can be accepted, because there are no descriptors left.
const SHORTAGE: Duration = Duration::from_millis(50);

/// How often samples are put into their buckets. They take memory until then.
const UPKEEP: Duration = Duration::from_secs(1);

/// Serves until it is told to stop; connections end with it.
pub(super) async fn serve(
    socket: std::net::TcpListener,
    router: Router,
    numbers: &'static PrometheusHandle,
    mut stopped: watch::Receiver<bool>,
) {
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => return complain(&error),
    };
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let mut upkeep = interval(UPKEEP);
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            _ = upkeep.tick() => numbers.run_upkeep(),
            accepted = next(&listener, &free) => match accepted {
                Ok((stream, peer, place)) => {
                    tokio::spawn(connection(stream, peer, router.clone(), place));
                }
                Err(error) => {
                    complain(&error);
                    sleep(SHORTAGE).await;
                }
            },
        }
    }
}

async fn next(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = free.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, _place: OwnedSemaphorePermit) {
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(PeerAddr(peer));
        router.clone().call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let _ = timeout(LONGEST, builder.serve_connection(TokioIo::new(stream), service)).await;
}
