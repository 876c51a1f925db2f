//! Sockets that clients connect to.

use crate::{settings::Listen, stream::Stream};
use socket2::{Domain, Protocol, Socket as AnySocket, Type};
use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::{fs::FileTypeExt, net as unix},
    path::{Path, PathBuf},
};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// How many connections may wait to be accepted.
pub(crate) const BACKLOG: i32 = 4096;

/// Who comes over a unix socket, as whoever trusts this machine names it.
const THIS_MACHINE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A socket for one worker, which does not watch it yet.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp { socket: std::net::TcpListener, is_tls: bool },
    Unix(unix::UnixListener),
}

/// Sockets at an address, one for each worker, which share what comes.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) sockets: Vec<Socket>,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) file: Option<SocketFile>,
}

/// The file of a unix socket, removed when the server ends.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

pub(crate) fn bind(listen: &Listen, workers: usize) -> io::Result<Bound> {
    match listen {
        Listen::Tcp(address) => bind_tcp(*address, workers, false),
        Listen::Tls(address) => bind_tcp(*address, workers, true),
        Listen::Unix(path) => bind_unix(path, workers),
    }
}

fn bind_tcp(address: SocketAddr, workers: usize, is_tls: bool) -> io::Result<Bound> {
    // A port can be shared by sockets of several processes too. Two proxies by mistake would each admit a whole quota.
    let alone = socket(address)?;
    alone.bind(&address.into())?;
    alone.listen(1)?;
    let address = std::net::TcpListener::from(alone).local_addr()?;
    let socket = |_| Ok(Socket::Tcp { socket: shared(address)?, is_tls });
    let sockets = (0..workers).map(socket).collect::<io::Result<_>>()?;
    Ok(Bound { sockets, address: Some(address), file: None })
}

fn shared(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<AnySocket> {
    let socket = AnySocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// All workers accept from one socket. A file that a server left behind which is gone is replaced.
fn bind_unix(path: &Path, workers: usize) -> io::Result<Bound> {
    if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        match unix::UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            Err(error) => return Err(error),
        }
    }
    let socket = unix::UnixListener::bind(path)?;
    socket.set_nonblocking(true)?;
    let file = Some(SocketFile(path.to_owned()));
    let sockets = (0..workers).map(|_| socket.try_clone().map(Socket::Unix)).collect::<io::Result<_>>()?;
    Ok(Bound { sockets, address: None, file })
}

/// A socket that a worker watches.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp { listener: TcpListener, is_tls: bool },
    Unix(UnixListener),
}

/// A connection that was just accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: Stream,
    pub(crate) peer: SocketAddr,
    pub(crate) is_tls: bool,
}

impl Accepted {
    fn tcp((stream, peer): (TcpStream, SocketAddr), is_tls: bool) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream: Stream::Tcp(stream), peer, is_tls })
    }

    const fn unix(stream: UnixStream) -> Self {
        Self { stream: Stream::Unix(stream), peer: THIS_MACHINE, is_tls: false }
    }
}

impl Listener {
    /// Within the worker's runtime.
    pub(crate) fn watch(socket: Socket) -> io::Result<Self> {
        Ok(match socket {
            Socket::Tcp { socket, is_tls } => Self::Tcp { listener: TcpListener::from_std(socket)?, is_tls },
            Socket::Unix(socket) => Self::Unix(UnixListener::from_std(socket)?),
        })
    }

    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp { listener, is_tls } => Accepted::tcp(listener.accept().await?, *is_tls),
            Self::Unix(listener) => Ok(Accepted::unix(listener.accept().await?.0)),
        }
    }

    /// The connections that had been made by now, and no more. tokio asks the kernel only when that has said something,
    /// so they are asked for without it. Whoever connects between that and the socket's end gets a reset, which is
    /// nobody's choice.
    pub(crate) fn rest(self) -> io::Result<Vec<Accepted>> {
        let mut rest = Vec::new();
        match self {
            Self::Tcp { listener, is_tls } => {
                let listener = listener.into_std()?;
                while let (Ok((stream, peer)), true) = (listener.accept(), rest.len() < BACKLOG as usize) {
                    let watched = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                    rest.extend(watched.and_then(|stream| Accepted::tcp((stream, peer), is_tls)));
                }
            }
            Self::Unix(listener) => {
                let listener = listener.into_std()?;
                while let (Ok((stream, _)), true) = (listener.accept(), rest.len() < BACKLOG as usize) {
                    let watched = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
                    rest.extend(watched.map(Accepted::unix));
                }
            }
        }
        Ok(rest)
    }
}
