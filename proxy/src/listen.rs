//! Sockets that clients connect to.

use crate::settings::Listen;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{SocketAddr, TcpListener},
};

/// How many connections may wait to be accepted.
pub(crate) const BACKLOG: i32 = 4096;

/// Sockets at an address, one for each worker, which share what comes.
pub(crate) fn bind(listen: &Listen, workers: usize) -> io::Result<Vec<TcpListener>> {
    let Listen::Tcp(address) = listen;
    // A port can be shared by sockets of several processes too. Two proxies by mistake would each admit a whole quota.
    let alone = socket(*address)?;
    alone.bind(&(*address).into())?;
    alone.listen(1)?;
    let address = TcpListener::from(alone).local_addr()?;
    (0..workers).map(|_| listener(address)).collect()
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}
