//! What connections go over: unix sockets, and the PROXY protocol.
#![allow(clippy::unwrap_used)]

mod common;

use common::{
    Proxy, Upstream, limited, open,
    place::{Place, ask},
    settings,
};
use std::fs;
use tidegate_proxy::Server;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn unix_sockets_work_on_both_sides() {
    let place = Place::new();
    let (front, back) = (place.file("front"), place.file("back"));
    let upstream = UnixListener::bind(&back).unwrap();
    let mut settings = settings("127.0.0.1:9".parse().unwrap());
    settings.server.threads = Some(2.try_into().unwrap());
    settings.server.listen = vec![format!("unix:{}", front.display()).parse().unwrap()];
    settings.upstreams[0].url = format!("unix:{}", back.display()).parse().unwrap();
    let server = Server::start(&settings, &limited("1/hour").layer()).unwrap();
    assert!(server.addresses().is_empty());
    let asked = tokio::spawn(async move { ask(UnixStream::connect(&front).await.unwrap(), GET).await });
    let (mut stream, _) = upstream.accept().await.unwrap();
    let mut seen = String::new();
    while !seen.ends_with("\r\n\r\n") {
        seen.push(char::from(stream.read_u8().await.unwrap()));
    }
    assert!(seen.contains("x-forwarded-for: 127.0.0.1\r\n"), "{seen}");
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    assert!(asked.await.unwrap().ends_with("\r\n\r\nok"));
    // All of them are one client, unless a proxy that is trusted says otherwise.
    let front = place.file("front");
    assert!(ask(UnixStream::connect(&front).await.unwrap(), GET).await.starts_with("HTTP/1.1 429 "));

    // A socket in use is not taken away.
    let error = Server::start(&settings, &open().layer()).unwrap_err();
    assert!(error.to_string().contains("is in use"), "{error}");
    tokio::task::spawn_blocking(move || server.stop()).await.unwrap();
    assert!(!front.exists());
    // One that was left behind is, and a file that is none stays.
    drop(UnixListener::bind(&front).unwrap());
    assert!(front.exists());
    drop(Server::start(&settings, &open().layer()).unwrap());
    fs::write(&front, "precious").unwrap();
    assert!(Server::start(&settings, &open().layer()).is_err());
    assert_eq!(fs::read_to_string(&front).unwrap(), "precious");
}

/// A header of version 2 for an address.
fn binary(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(addresses.len()).unwrap().to_be_bytes());
    header.extend(addresses);
    header
}

#[tokio::test]
async fn the_proxy_protocol_says_who_the_client_is() {
    let upstream = Upstream::ok().await;
    let mut settings = settings(upstream.address);
    settings.server.proxy_protocol_from = vec!["127.0.0.1/32".parse().unwrap()];
    let proxy = Proxy::start(&settings, &limited("1/hour"));
    let v4 = [192, 0, 2, 9, 10, 0, 0, 1, 0, 80, 0, 81];
    let mut v6 = vec![0x20, 1, 0x0d, 0xb8];
    v6.resize(36, 7);
    let with_more = [&v4[..], &[4, 0, 1, 9]].concat();
    let mut cases: Vec<(Vec<u8>, &str)> = vec![
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 1234 80\r\n".to_vec(), "192.0.2.1"),
        (b"PROXY TCP6 2001:db8:1::1 2001:db8::2 1234 80\r\n".to_vec(), "2001:db8:1::1"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (binary(0x21, 0x11, &v4), "192.0.2.9"),
        (binary(0x21, 0x21, &v6), "2001:db8:707:707:707:707:707:707"),
    ];
    for (header, client) in &cases {
        let answer = proxy.ask([&header[..], GET.as_bytes()].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{client}: {answer}");
        assert!(upstream.seen().contains(&format!("x-forwarded-for: {client}\r\n")), "{client}");
    }
    // They were counted by these addresses.
    cases.push((binary(0x21, 0x11, &with_more), "192.0.2.9"));
    cases.push((binary(0x20, 0, &[]), "127.0.0.1"));
    cases.push((binary(0x21, 0x31, &[0; 216]), "127.0.0.1"));
    for (header, client) in &cases {
        let answer = proxy.ask([&header[..], GET.as_bytes()].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 429 "), "{client}: {answer}");
    }
    for header in [
        &b""[..],
        b"PROXY TCP4 192.0.2.1 10.0.0.1 1234\r\n",
        b"PROXY TCP4 2001:db8::1 10.0.0.1 1234 80\r\n",
        b"PROXY TCP6 192.0.2.1 10.0.0.1 1234 80\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 1234 99999\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 +1 80\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 1 80 x\r\n",
        b"PROXY TCP4  192.0.2.1 10.0.0.1 1 80\r\n",
        &[&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat(),
        &binary(0x31, 0x11, &v4),
        &binary(0x22, 0x11, &v4),
        &binary(0x21, 0x11, &v4[..8]),
        &binary(0x21, 0x21, &v4),
        &binary(0x21, 0x11, &[0; 5000]),
    ] {
        let answer = proxy.ask([header, GET.as_bytes()].concat()).await;
        assert_eq!(answer, "", "{}", String::from_utf8_lossy(header));
    }
}

#[tokio::test]
async fn strangers_do_not_speak_the_proxy_protocol() {
    let upstream = Upstream::ok().await;
    let mut settings = settings(upstream.address);
    settings.server.proxy_protocol_from = vec!["192.0.2.0/24".parse().unwrap()];
    let proxy = Proxy::start(&settings, &open());
    let answer = proxy.ask(format!("PROXY TCP4 9.9.9.9 10.0.0.1 1234 80\r\n{GET}")).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(proxy.ask(GET).await.ends_with("\r\n\r\nok"));
    assert!(!upstream.seen().contains("9.9.9.9"));
}
