//! The PROXY protocol, by which a proxy in front says whose connection it passes on (versions 1 and 2).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};
use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The longest line of version 1.
const LONGEST_LINE: usize = 107;

/// What version 2 may add behind its addresses, at most.
const LONGEST_REST: usize = 4096;

/// Reads the header that begins a connection and nothing behind it. Where it names nobody, as in a proxy's own check of
/// our health, the proxy is the client.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut first = [0; SIGNATURE.len()];
    stream.read_exact(&mut first).await?;
    if first == SIGNATURE {
        return read_binary(stream).await;
    }
    let mut line = first.to_vec();
    // Byte by byte, because what follows the line is not ours to take.
    while !line.ends_with(b"\r\n") {
        if line.len() >= LONGEST_LINE || !line.starts_with(b"PROXY ") {
            return Err(malformed());
        }
        line.push(stream.read_u8().await?);
    }
    parse_line(&line).ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the connection does not begin as the PROXY protocol says")
}

/// The source that a line names, if it names one; nothing where it is malformed.
fn parse_line(line: &[u8]) -> Option<Option<SocketAddr>> {
    let text = std::str::from_utf8(line).ok()?.strip_prefix("PROXY ")?.strip_suffix("\r\n")?;
    if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let mut words = text.split(' ');
    let family = words.next()?;
    let (source, target): (IpAddr, IpAddr) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let (port, target_port) = (port(words.next()?)?, port(words.next()?)?);
    let is_sound = match family {
        "TCP4" => source.is_ipv4() && target.is_ipv4(),
        "TCP6" => source.is_ipv6() && target.is_ipv6(),
        _ => false,
    };
    let _ = target_port;
    (is_sound && words.next().is_none()).then_some(Some(SocketAddr::new(source, port)))
}

fn port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

async fn read_binary(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let (command, family) = (stream.read_u8().await?, stream.read_u8().await?);
    let length = usize::from(stream.read_u16().await?);
    if length > LONGEST_REST {
        return Err(malformed());
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match command {
        0x20 => Ok(None), // the proxy's own
        0x21 => parse_addresses(family, &rest).ok_or_else(malformed),
        _ => Err(malformed()),
    }
}

fn parse_addresses(family: u8, rest: &[u8]) -> Option<Option<SocketAddr>> {
    match family {
        0x11 => {
            let (source, ports) = (rest.first_chunk::<4>()?, rest.get(8..12)?);
            let port = u16::from_be_bytes(*ports.first_chunk()?);
            Some(Some(SocketAddr::new(Ipv4Addr::from(*source).into(), port)))
        }
        0x21 => {
            let (source, ports) = (rest.first_chunk::<16>()?, rest.get(32..36)?);
            let port = u16::from_be_bytes(*ports.first_chunk()?);
            Some(Some(SocketAddr::new(Ipv6Addr::from(*source).into(), port)))
        }
        // Unix sockets, datagrams, and what it does not know: nobody who could be named.
        _ => Some(None),
    }
}
