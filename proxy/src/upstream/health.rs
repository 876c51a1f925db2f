//! Whether an upstream is well.

use super::{Common, connect::Way};
use crate::settings::{HealthSettings, HttpVersion, UpstreamSettings};
use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header::HOST};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    error::Error,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};
use tokio::time::{sleep, timeout};

/// What is known of an upstream's health, by all workers.
#[derive(Debug)]
pub(crate) struct Health {
    is_well: AtomicBool,
}

impl Health {
    /// It is well until it is known not to be.
    pub(crate) fn new() -> Self {
        Self { is_well: AtomicBool::new(true) }
    }

    pub(crate) fn is_well(&self) -> bool {
        self.is_well.load(Relaxed)
    }
}

/// Asks an upstream again and again.
pub(crate) async fn watch(settings: UpstreamSettings, common: Common) {
    let health = &common.health;
    let Some(check) = &settings.health else { return };
    let mut failures = 0;
    loop {
        let asked = timeout(check.timeout.get(), ask(&settings, &common.way, check)).await;
        let failed = match asked {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("it does not answer".to_owned()),
        };
        failures = if failed.is_some() { failures + 1 } else { 0 };
        if let (Some(error), true) = (&failed, failures >= check.failures.get()) {
            if health.is_well.swap(false, Relaxed) {
                tracing::warn!(upstream = %settings.url, error, "unhealthy, and left alone");
            }
        } else if failed.is_none() && !health.is_well.swap(true, Relaxed) {
            tracing::info!(upstream = %settings.url, "healthy again");
        }
        sleep(check.interval.get()).await;
    }
}

async fn ask(
    settings: &UpstreamSettings,
    way: &Way,
    check: &HealthSettings,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let stream = TokioIo::new(way.connect().await?);
    let authority = settings.url.authority();
    let mut request = Request::new(Empty::<Bytes>::new());
    let status = match settings.http {
        HttpVersion::One => {
            *request.uri_mut() = check.path.parse()?;
            request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str())?);
            let (mut sender, connection) = http1::handshake(stream).await?;
            tokio::select! {
                answer = sender.send_request(request) => answer?.status(),
                ended = connection => return Err(ended.err().map_or("it closes".into(), Into::into)),
            }
        }
        HttpVersion::Two => {
            let uri = Uri::builder()
                .scheme("http")
                .authority(authority.clone())
                .path_and_query(check.path.as_str());
            *request.uri_mut() = uri.build()?;
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            tokio::select! {
                answer = sender.send_request(request) => answer?.status(),
                ended = connection => return Err(ended.err().map_or("it closes".into(), Into::into)),
            }
        }
    };
    if status.as_u16() < 400 { Ok(()) } else { Err(format!("it answers with {status}").into()) }
}
