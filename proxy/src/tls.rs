//! TLS, towards clients and towards upstreams.

use crate::{
    settings::{HttpVersion, Target, TlsSettings},
    stream::Stream,
};
use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor, TlsConnector, TlsStream,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The certificate that clients are shown, read anew when its files change.
#[derive(Debug)]
pub(crate) struct Certificate {
    files: TlsSettings,
    current: Mutex<Arc<ServerConfig>>,
}

impl Certificate {
    pub(crate) fn load(files: &TlsSettings) -> Result<Self, String> {
        let current = Mutex::new(Arc::new(read(files)?));
        Ok(Self { files: files.clone(), current })
    }

    /// Shakes hands with a client.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<Stream> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let stream = TlsAcceptor::from(current).accept(stream).await?;
        Ok(Stream::Tls(Box::new(TlsStream::Server(stream))))
    }

    /// Looks for changes as long as the worker runs. Connections that are open keep what they were shown; files that
    /// cannot be read leave all as it is.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut seen = self.stamps();
        loop {
            tokio::time::sleep(LOOK).await;
            let stamps = self.stamps();
            if stamps == seen {
                continue;
            }
            match read(&self.files) {
                Ok(new) => {
                    *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                    seen = stamps;
                    tracing::info!("the certificate was read anew");
                }
                // Perhaps only one of the files is there yet.
                Err(error) => tracing::warn!(error, "the certificate stays as it was"),
            }
        }
    }

    fn stamps(&self) -> [Option<(SystemTime, u64)>; 2] {
        [&self.files.certificate, &self.files.key].map(|path| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.modified().ok()?, file.len()))
        })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| format!("cannot read certificates from {}: {error}", path.display()))?;
    if read.is_empty() {
        return Err(format!("{} has no certificate; it has to be in PEM", path.display()));
    }
    Ok(read)
}

fn read(files: &TlsSettings) -> Result<ServerConfig, String> {
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| format!("cannot read a key from {}: {error}", files.key.display()))?;
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?.with_no_client_auth();
    let config = builder.with_single_cert(certificates(&files.certificate)?, key);
    let mut config = config.map_err(|error| format!("the certificate and its key: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// How an upstream proves who it is.
#[derive(Clone)]
pub(crate) struct Trust {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Trust {
    /// By the certificates in a file, or those that the system trusts.
    pub(crate) fn new(target: &Target, ca: Option<&Path>, http: HttpVersion) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let trusted = match ca {
            Some(path) => certificates(path)?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        roots.add_parsable_certificates(trusted);
        if roots.is_empty() {
            return Err("no certificate is trusted; name a file of them as `ca`".to_owned());
        }
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![match http {
            HttpVersion::One => b"http/1.1".to_vec(),
            HttpVersion::Two => b"h2".to_vec(),
        }];
        let name = ServerName::try_from(target.host().to_owned());
        let name = name.map_err(|_| format!("{} is no name that a certificate can have", target.host()))?;
        Ok(Self { connector: Arc::new(config).into(), name })
    }

    /// Shakes hands with the upstream.
    pub(crate) async fn connect(&self, stream: TcpStream) -> io::Result<Stream> {
        let stream = self.connector.connect(self.name.clone(), stream).await?;
        Ok(Stream::Tls(Box::new(TlsStream::Client(stream))))
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust").field("name", &self.name).finish_non_exhaustive()
    }
}
