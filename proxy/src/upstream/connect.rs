//! Reaching an upstream.

use crate::{
    settings::{Scheme, Target},
    stream::Stream,
};
use std::{io, net::IpAddr};
use tokio::net::TcpStream;

/// Connects to an upstream. Names are looked up each time, so that they may move.
pub(crate) async fn connect(target: &Target) -> io::Result<Stream> {
    match target.scheme() {
        Scheme::Http => {
            let stream = match target.host().parse::<IpAddr>() {
                Ok(ip) => TcpStream::connect((ip, target.port())).await?,
                Err(_) => TcpStream::connect((target.host(), target.port())).await?,
            };
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        }
    }
}
