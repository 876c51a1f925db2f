//! The other end of the TCP connection.

use super::RequestHead;
use std::net::{IpAddr, SocketAddr};

/// The peer's address, for servers that axum does not run: insert it into each request's extensions.
///
/// With feature `axum`, `into_make_service_with_connect_info::<SocketAddr>()` does as much; where both are there, this
/// one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// The peer's address, unmapped, where the server attached it.
pub(crate) fn peer(head: &RequestHead<'_>) -> Option<IpAddr> {
    Some(socket(head)?.ip().to_canonical())
}

fn socket<'a>(head: &RequestHead<'a>) -> Option<&'a SocketAddr> {
    let extensions = head.extensions();
    let peer = extensions.get::<PeerAddr>().map(|peer| &peer.0);
    #[cfg(feature = "axum")]
    let peer = {
        use axum::extract::connect_info::{ConnectInfo, MockConnectInfo};
        peer.or_else(|| extensions.get::<ConnectInfo<SocketAddr>>().map(|info| &info.0))
            .or_else(|| extensions.get::<MockConnectInfo<SocketAddr>>().map(|info| &info.0))
    };
    peer
}
