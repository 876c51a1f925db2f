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
#[inline(always)]
pub(crate) fn peer(head: &RequestHead<'_>) -> Option<IpAddr> {
    Some(socket(head)?.ip().to_canonical())
}

#[inline(always)]
fn socket<'a>(head: &RequestHead<'a>) -> Option<&'a SocketAddr> {
    let extensions = head.extensions();
    if let Some(PeerAddr(peer)) = extensions.get() {
        return Some(peer);
    }
    #[cfg(feature = "axum")]
    {
        use axum::extract::connect_info::{ConnectInfo, MockConnectInfo};
        if let Some(ConnectInfo(peer)) = extensions.get() {
            return Some(peer);
        }
        if let Some(MockConnectInfo(peer)) = extensions.get() {
            return Some(peer);
        }
    }
    None
}
