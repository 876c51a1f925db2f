//! TLS, towards clients and towards upstreams.
#![allow(clippy::unwrap_used)]

mod common;

use common::{
    Client, PATIENCE, Proxy, Upstream, open,
    place::{Place, ask},
    settings,
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Instant};
use tidegate_proxy::{
    Server,
    settings::{HttpVersion, TlsSettings},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// A certificate for `localhost`, and the files that it is in.
fn certificate(place: &Place, name: &str) -> TlsSettings {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = TlsSettings {
        certificate: place.file(&format!("{name}.pem")),
        key: place.file(&format!("{name}.key")),
    };
    fs::write(&files.certificate, cert.pem()).unwrap();
    fs::write(&files.key, signing_key.serialize_pem()).unwrap();
    files
}

async fn secure(address: SocketAddr, trusted: &Path, alpn: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await
}

#[tokio::test]
async fn tls_serves_both_versions_and_shows_a_new_certificate_without_a_pause() {
    let place = Place::new();
    let upstream = Upstream::ok().await;
    let mut settings = settings(upstream.address);
    settings.server.listen = vec!["tls:127.0.0.1:0".parse().unwrap()];
    let files = certificate(&place, "first");
    settings.server.tls = Some(files.clone());
    let proxy = Proxy::start(&settings, &open());
    let answer = ask(secure(proxy.address, &files.certificate, "http/1.1").await.unwrap(), GET).await;
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    assert!(upstream.seen().contains("x-forwarded-proto: https\r\n"), "{}", upstream.seen());

    let stream = secure(proxy.address, &files.certificate, "h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let stream = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://localhost/").body(http_body_util::Empty::<bytes::Bytes>::new());
    assert_eq!(sender.send_request(request.unwrap()).await.unwrap().status(), 200);

    // Without TLS there is no answer.
    assert_eq!(proxy.ask(GET).await.find("HTTP/1.1"), None);

    // Files that are broken leave the old one; a new pair is shown to whoever connects from then on.
    fs::write(&files.key, "no key").unwrap();
    let second = certificate(&place, "second");
    fs::copy(&second.certificate, &files.certificate).unwrap();
    fs::copy(&second.key, &files.key).unwrap();
    let began = Instant::now();
    while secure(proxy.address, &second.certificate, "http/1.1").await.is_err() {
        assert!(began.elapsed() < PATIENCE, "the new certificate is never shown");
    }
    let answer = ask(secure(proxy.address, &second.certificate, "http/1.1").await.unwrap(), GET).await;
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    assert!(!sender.is_closed());
}

#[tokio::test]
async fn a_certificate_is_asked_for_before_anybody_connects() {
    let place = Place::new();
    let files = certificate(&place, "a");
    let other = certificate(&place, "b");
    fs::write(place.file("empty"), "").unwrap();
    let with = |certificate: &Path, key: &Path| {
        Some(TlsSettings { certificate: certificate.to_owned(), key: key.to_owned() })
    };
    for (tls, words) in [
        (None, "needs a certificate"),
        (with(&place.file("gone"), &files.key), "cannot read certificates"),
        (with(&place.file("empty"), &files.key), "has no certificate"),
        (with(&files.certificate, &place.file("empty")), "cannot read a key"),
        (with(&files.certificate, &other.key), "the certificate and its key"),
    ] {
        let mut settings = settings("127.0.0.1:9".parse().unwrap());
        settings.server.listen = vec!["tls:127.0.0.1:0".parse().unwrap()];
        settings.server.tls = tls;
        let error = Server::start(&settings, &open().layer()).unwrap_err();
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
}

#[tokio::test]
async fn an_upstream_has_to_prove_who_it_is() {
    let place = Place::new();
    let (files, other) = (certificate(&place, "a"), certificate(&place, "b"));
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let shown = vec![CertificateDer::from_pem_file(&files.certificate).unwrap()];
    let config = builder.with_single_cert(shown, PrivateKeyDer::from_pem_file(&files.key).unwrap()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut seen = String::new();
            while !seen.ends_with("\r\n\r\n") {
                seen.push(char::from(stream.read_u8().await.unwrap()));
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
                .await
                .unwrap();
            let _ = stream.shutdown().await;
        }
    });
    for (name, trusted, status) in
        [("localhost", &files, "200"), ("localhost", &other, "502"), ("127.0.0.1", &files, "502")]
    {
        let mut settings = settings("127.0.0.1:9".parse().unwrap());
        settings.upstreams[0].url = format!("https://{name}:{port}").parse().unwrap();
        settings.upstreams[0].ca = Some(trusted.certificate.clone());
        let proxy = Proxy::start(&settings, &open());
        let answer = proxy.ask(GET).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
    }
    // One that does not speak HTTP/2 is not taken for one that does.
    let mut settings = settings("127.0.0.1:9".parse().unwrap());
    settings.upstreams[0].url = format!("https://localhost:{port}").parse().unwrap();
    settings.upstreams[0].ca = Some(files.certificate.clone());
    settings.upstreams[0].http = HttpVersion::Two;
    let proxy = Proxy::start(&settings, &open());
    let mut client = Client::connect(proxy.address).await;
    client.send(GET).await;
    assert_eq!(client.answer().await.status, 502);
}
