//! Through TLS.

use crate::stage::{self, Server};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::{net::TcpListener, time::Duration};
use tidegate::{Identity, Limiter, Policy, Quota, RedisBuilder, RedisStore};

/// Who signs, and what was signed: a certificate and its key, in PEM.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        // Or all would have one name, and seem to have signed themselves.
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

/// A server that speaks TLS on a port besides its plain one.
struct Guarded {
    server: Server,
    port: u16,
    authority: Authority,
    _dir: Dir,
}

struct Dir(std::path::PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Guarded {
    /// For a name that its certificate has, and with certificates of clients or without.
    fn start(test: &str, name: &str, clients: &str) -> Self {
        let dir = Dir(std::env::temp_dir().join(format!("tidegate-tls-{test}-{}", std::process::id())));
        std::fs::create_dir_all(&dir.0).unwrap();
        let authority = Authority::new();
        let (certificate, key) = authority.sign(name);
        let write = |file: &str, text: String| {
            let path = dir.0.join(file);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (root, certificate, key) =
            (write("root", authority.pem()), write("certificate", certificate), write("key", key));
        let (server, port) = (0..20)
            .find_map(|_| {
                let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
                let tls = port.to_string();
                let settings = [
                    "--tls-port",
                    &tls,
                    "--tls-auth-clients",
                    clients,
                    "--tls-ca-cert-file",
                    &root,
                    "--tls-cert-file",
                    &certificate,
                    "--tls-key-file",
                    &key,
                ];
                Some((Server::on(free_port(), &settings)?, port))
            })
            .unwrap();
        Self { server, port, authority, _dir: dir }
    }

    fn store(&self) -> RedisBuilder {
        let url = format!("rediss://127.0.0.1:{}", self.port);
        RedisStore::builder(url)
            .deadline(Duration::from_secs(30))
            .connect_timeout(Duration::from_secs(30))
            .root_certificates(self.authority.pem())
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn policy() -> Policy {
    Policy::per_client(Quota::per_day(3))
}

async fn counts(store: RedisBuilder) {
    let store = store.build().unwrap();
    let limiter = stage::limiter(&store, policy()).await;
    assert!(limiter.charge(&Identity::name("ann"), "client").await.unwrap().is_allowed());
}

/// What is told of a store that cannot be joined.
async fn told(store: RedisBuilder) -> String {
    let (events, store) = (stage::Events::default(), store.build().unwrap());
    let builder = Limiter::builder(policy()).secret(stage::SECRET).store(store).observe(events.observer());
    let _limiter = builder.build().unwrap();
    events.until("Unreachable").await
}

#[tokio::test]
async fn a_server_is_reached_through_tls() {
    let guarded = Guarded::start("reached", "127.0.0.1", "no");
    counts(guarded.store()).await;
    assert_eq!(guarded.server.counts().len(), 1);
}

/// Not with a certificate that somebody else signed, nor with one for another name.
#[tokio::test]
async fn a_server_that_cannot_show_who_it_is_gets_no_charge() {
    let guarded = Guarded::start("stranger", "127.0.0.1", "no");
    let told_of_stranger = told(guarded.store().root_certificates(Authority::new().pem())).await;
    assert!(told_of_stranger.contains("certificate"), "{told_of_stranger}");
    let other = Guarded::start("other", "elsewhere.example", "no");
    let told_of_name = told(other.store()).await;
    assert!(told_of_name.contains("certificate"), "{told_of_name}");
    assert!(guarded.server.keys().is_empty() && other.server.keys().is_empty());
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_one() {
    let guarded = Guarded::start("asks", "127.0.0.1", "yes");
    told(guarded.store()).await;
    let (certificate, key) = guarded.authority.sign("instance");
    counts(guarded.store().client_certificate(certificate, key)).await;
}

/// The primary that a sentinel names is reached as the sentinel is.
#[tokio::test]
async fn sentinels_lead_through_tls_to_servers_with_tls() {
    let guarded = Guarded::start("sentinels", "127.0.0.1", "no");
    let settings = |name: &str| guarded._dir.0.join(name).to_str().unwrap().to_owned();
    let watch = format!("sentinel monitor gate 127.0.0.1 {} 1\n", guarded.port);
    let (port, sentinel) = (0..20)
        .find_map(|_| {
            let port = free_port();
            let config = format!(
                "tls-port {port}\ntls-auth-clients no\ntls-replication yes\ntls-ca-cert-file {}\ntls-cert-file {}\ntls-key-file {}\n{watch}",
                settings("root"),
                settings("certificate"),
                settings("key"),
            );
            Some((port, Server::launch(free_port(), Some(&config), &["--sentinel"])?))
        })
        .unwrap();
    let store = RedisStore::sentinels("gate", [format!("rediss://127.0.0.1:{port}")])
        .deadline(Duration::from_secs(30))
        .connect_timeout(Duration::from_secs(30))
        .root_certificates(guarded.authority.pem());
    counts(store).await;
    drop(sentinel);
}

#[test]
fn certificates_that_cannot_be_used_are_mistakes() {
    let build = |builder: RedisBuilder| builder.build().unwrap_err().to_string();
    for text in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"] {
        let error = build(RedisStore::builder("rediss://host").root_certificates(text));
        assert!(error.starts_with("url: ") && error.contains("certificate"), "{error}");
        let error = build(RedisStore::builder("rediss://host").client_certificate(text, text));
        assert!(error.starts_with("url: ") && error.contains("-----BEGIN"), "{error}");
    }
    let error = build(RedisStore::builder("redis://host").root_certificates(Authority::new().pem()));
    assert!(error.contains("begin it with `rediss://`"), "{error}");
    let error = build(RedisStore::builder("rediss://:hunter2@host/#insecure"));
    assert!(error.contains(".root_certificates(..)") && !error.contains("hunter2"), "{error}");
}
