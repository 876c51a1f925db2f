//! Reaching an upstream.

use crate::{
    settings::{Scheme, Target, UpstreamSettings},
    stream::Stream,
    tls::Trust,
};
use std::{io, net::IpAddr};
use tokio::net::{TcpStream, UnixStream};

/// The way to an upstream.
#[derive(Debug)]
pub(crate) struct Way {
    target: Target,
    trust: Option<Trust>,
}

impl Way {
    /// Answers with what is wrong, where something is.
    pub(crate) fn new(settings: &UpstreamSettings) -> Result<Self, String> {
        let target = settings.url.clone();
        let trust = match target.scheme() {
            Scheme::Https => Some(Trust::new(&target, settings.ca.as_deref(), settings.http)?),
            Scheme::Http | Scheme::Unix => None,
        };
        Ok(Self { target, trust })
    }

    pub(crate) const fn target(&self) -> &Target {
        &self.target
    }

    /// Connects. Names are looked up each time, so that they may move.
    pub(crate) async fn connect(&self) -> io::Result<Stream> {
        if let Some(path) = self.target.path() {
            return UnixStream::connect(path).await.map(Stream::Unix);
        }
        let (host, port) = (self.target.host(), self.target.port());
        let stream = match host.parse::<IpAddr>() {
            Ok(ip) => TcpStream::connect((ip, port)).await?,
            Err(_) => TcpStream::connect((host, port)).await?,
        };
        stream.set_nodelay(true)?;
        match &self.trust {
            Some(trust) => trust.connect(stream).await,
            None => Ok(Stream::Tcp(stream)),
        }
    }
}
