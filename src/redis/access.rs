//! How servers are entered: the address, the login and TLS.

use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion, RedisConnectionInfo,
    RedisResult,
};
use std::fmt;

/// What it takes to enter each of several servers, wherever they are.
#[derive(Clone, Default)]
pub(super) struct Access {
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) certificates: Certificates,
    /// Whether it is to be told what others do, which the third version of the protocol can.
    pub(super) hears: bool,
}

/// Certificates in PEM.
#[derive(Clone, Default)]
pub(super) struct Certificates {
    /// Those that are trusted, instead of the system's.
    pub(super) roots: Option<Vec<u8>>,
    /// Our own, and its key.
    pub(super) own: Option<(Vec<u8>, Vec<u8>)>,
}

const FORMS: &str = "redis://host:6379/0, rediss://host:6379/0 (through TLS) or redis+unix:///path/to/socket";

impl Access {
    /// The server of a URL. The URL may hold a password, so it stands in no message.
    pub(super) fn client(&self, url: &str) -> Result<Client, String> {
        let info = url.into_connection_info().map_err(|error| {
            format!("it does not name a server of Redis ({}); write {FORMS}", error.category())
        })?;
        if let ConnectionAddr::TcpTls { insecure: true, .. } = info.addr() {
            return Err("a server whose certificate is not checked can be anybody; leave `#insecure` out, and set what is trusted with `.root_certificates(..)`".to_owned());
        }
        if is_tls(&info) && cfg!(not(feature = "redis-tls")) {
            return Err("TLS needs the feature `redis-tls` of this crate".to_owned());
        }
        if let Some(missing) = self.certificates.missing() {
            return Err(format!(
                "there is no {missing} in what was set; it begins with `-----BEGIN`, in PEM"
            ));
        }
        if !is_tls(&info) && !self.certificates.is_empty() {
            return Err("certificates are of no use without TLS; begin it with `rediss://`".to_owned());
        }
        if !info.addr().is_supported() {
            return Err(format!("its kind of address is not supported here; write {FORMS}"));
        }
        self.open(info).map_err(|error| match error.detail() {
            Some(detail) => format!("its certificates cannot be used: {detail}"),
            None => format!("its certificates cannot be used: {error}"),
        })
    }

    /// A server that another one has told of; through TLS, if that one was entered so.
    pub(super) fn told(&self, by: &Client, host: String, port: u16) -> RedisResult<Client> {
        let tls = is_tls(by.get_connection_info());
        let info = (host.clone(), port).into_connection_info()?;
        let through = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
        self.open(if tls { info.set_addr(through) } else { info })
    }

    /// The same with the login of a server that was entered.
    pub(super) fn like(&self, login: &RedisConnectionInfo) -> Self {
        let (username, password) = (login.username(), login.password());
        let certificates = self.certificates.clone();
        let (username, password) = (username.map(str::to_owned), password.map(str::to_owned));
        Self { username, password, certificates, hears: self.hears }
    }

    /// Redis needs not know what library it is, and an access list need not allow to tell it.
    fn open(&self, info: ConnectionInfo) -> RedisResult<Client> {
        let mut login = info.redis_settings().clone().set_skip_set_lib_name();
        login = self.username.iter().fold(login, RedisConnectionInfo::set_username);
        login = self.password.iter().fold(login, RedisConnectionInfo::set_password);
        if self.hears {
            login = login.set_protocol(ProtocolVersion::RESP3);
        }
        let info = info.set_redis_settings(login);
        if is_tls(&info) { self.open_tls(info) } else { Client::open(info) }
    }

    #[cfg(feature = "redis-tls")]
    fn open_tls(&self, info: ConnectionInfo) -> RedisResult<Client> {
        // Without one, or where other crates bring two, rustls would panic when it connects. Who is late is no mistake.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let Certificates { roots, own } = self.certificates.clone();
        let client_tls =
            own.map(|(client_cert, client_key)| redis::ClientTlsConfig { client_cert, client_key });
        Client::build_with_tls(info, redis::TlsCertificates { client_tls, root_cert: roots })
    }

    #[cfg(not(feature = "redis-tls"))]
    fn open_tls(&self, info: ConnectionInfo) -> RedisResult<Client> {
        Client::open(info)
    }
}

fn is_tls(info: &ConnectionInfo) -> bool {
    matches!(info.addr(), ConnectionAddr::TcpTls { .. })
}

impl Certificates {
    /// Whether none were set.
    const fn is_empty(&self) -> bool {
        self.roots.is_none() && self.own.is_none()
    }

    /// What was set and is not there. The TLS library would trust nobody and go on.
    fn missing(&self) -> Option<&'static str> {
        let has = |pem: &[u8], kind: &str| String::from_utf8_lossy(pem).contains(kind);
        let roots = self.roots.as_deref().is_none_or(|pem| has(pem, "BEGIN CERTIFICATE"));
        let (own, key) = self
            .own
            .as_ref()
            .map_or((true, true), |(pem, key)| (has(pem, "BEGIN CERTIFICATE"), has(key, "PRIVATE KEY")));
        if !roots || !own { Some("certificate") } else { (!key).then_some("private key") }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}
