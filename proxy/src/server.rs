//! The proxy as a whole: its threads, and how it starts and stops.

use crate::{
    access::Access,
    account::Accounts,
    check::Check,
    connection::Host,
    fields::{Forwarding, Hops},
    forward::Forwarder,
    listen::{self, Bound, Socket, SocketFile},
    routes::Routes,
    settings::{Listen, LogTarget, ServerSettings, Settings, UpstreamSettings},
    stop::Stop,
    tls::Certificate,
    upstream::{self, Common, Gate, Health, Limits, Pauses, Upstream, Way},
    worker,
};
use http::HeaderName;
use std::{
    fmt, io,
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};
use tidegate::ThrottleLayer;

/// A proxy that serves until it is stopped or dropped.
///
/// ```no_run
/// use tidegate::{Limiter, Policy};
/// use tidegate_proxy::{Server, Settings};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limiter = Limiter::new(Policy::per_client("10/second".parse()?))?;
/// let settings = Settings::new("http://127.0.0.1:8265".parse()?);
/// let server = Server::start(&settings, &limiter.layer())?;
/// // until something says that it is enough
/// server.stop();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a server stops when it is dropped"]
pub struct Server {
    addresses: Vec<SocketAddr>,
    stop: Arc<Stop>,
    workers: Vec<JoinHandle<()>>,
    accounts: Option<Arc<Accounts>>,
    /// Removed when all has ended.
    _files: Vec<SocketFile>,
}

/// Why a proxy does not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A setting, and what is wrong with it.
    Setting {
        /// The setting.
        setting: &'static str,
        /// What is wrong, and how to mend it.
        reason: String,
    },
    /// It cannot listen at an address.
    Listen {
        /// The address.
        at: Listen,
        /// Why.
        error: io::Error,
    },
    /// It cannot write its access log.
    Log {
        /// Where to.
        to: LogTarget,
        /// Why.
        error: io::Error,
    },
    /// A thread or its runtime cannot be made.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting { setting, reason } => write!(f, "{setting}: {reason}"),
            Self::Listen { at, error } if error.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "cannot listen at {at}: it is in use; stop what listens there, or choose another port"
                )
            }
            Self::Listen { at, error } => write!(f, "cannot listen at {at}: {error}"),
            Self::Log { to, error } => write!(f, "cannot write the access log to {to}: {error}"),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl Server {
    /// Starts to listen and to serve.
    ///
    /// # Errors
    ///
    /// Where a setting cannot be kept, or an address cannot be listened at.
    pub fn start(settings: &Settings, layer: &ThrottleLayer) -> Result<Self, StartError> {
        let server = &settings.server;
        let check = Arc::new(check(settings)?);
        let routes = Routes::new(&settings.upstreams);
        let routes = routes.map_err(|reason| StartError::Setting { setting: "upstream", reason })?;
        let routes = Arc::new(routes);
        let certificate = certificate(server)?;
        let threads = server.threads.or_else(|| thread::available_parallelism().ok());
        let threads = threads.map_or(1, NonZeroUsize::get);
        let common = |upstream: &UpstreamSettings| Ok((upstream.clone(), common(upstream, threads)?));
        let upstreams = settings.upstreams.iter().map(common).collect::<Result<Vec<_>, StartError>>()?;

        let Sockets { sockets, addresses, files } = Sockets::bind(&server.listen, threads)?;
        let accounts = Accounts::open(&settings.log, layer.limiter()).map_err(|error| StartError::Log {
            to: settings.log.access.clone().unwrap_or(LogTarget::Stdout),
            error,
        })?;
        let accounts = accounts.map(Arc::new);
        let layer = if accounts.is_some() { layer.clone().expose_decision() } else { layer.clone() };
        let client_field = client_field(settings)?;
        let access = Access::new(&settings.access, client_field, layer.limiter()).map(Arc::new);
        let stop = Arc::new(Stop::new());
        let max_head = usize::try_from(server.max_head.bytes()).unwrap_or(usize::MAX);
        let places = server.max_connections.get().div_ceil(threads);
        let mut this = Self {
            addresses,
            stop: stop.clone(),
            workers: Vec::new(),
            accounts: accounts.clone(),
            _files: files,
        };
        for (number, sockets) in sockets.into_iter().enumerate() {
            let limits = Limits { max_head, max_fields: server.max_fields };
            let way =
                |(settings, common): &(UpstreamSettings, Common)| Upstream::new(settings, common, limits);
            let forwarder = Forwarder {
                check: check.clone(),
                routes: routes.clone(),
                upstreams: upstreams.iter().map(way).collect(),
                limiter: layer.limiter().clone(),
                upgraded_span: server.timeouts.upgraded.get(),
            };
            let host = Host {
                settings: server.clone(),
                layer: layer.clone().expose_ongoing(),
                forwarder: Arc::new(forwarder),
                stop: stop.clone(),
                certificate: certificate.clone(),
                accounts: accounts.clone(),
                access: access.clone(),
                has_request_ids: settings.log.request_ids.unwrap_or(settings.log.access.is_some()),
            };
            // One worker watches for all.
            let watch = (number == 0).then(|| watch(&upstreams, certificate.clone()));
            let watch = move || watch.map_or((), |watch| watch());
            let thread = thread::Builder::new().name(format!("worker-{number}"));
            let (tell, told) = mpsc::channel();
            let run = move || worker::run(sockets, Arc::new(host), places, watch, &tell);
            this.workers.push(thread.spawn(run).map_err(StartError::Thread)?);
            let started = told.recv().unwrap_or_else(|_| Err(io::Error::other("it ended at once")));
            started.map_err(StartError::Thread)?;
        }
        Ok(this)
    }

    /// Where it listens over TCP, with the ports that it was given, in the order of the settings.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) fn stopping(&self) -> Arc<Stop> {
        self.stop.clone()
    }

    /// Accepts no more connections, answers the requests that run, and returns when they have ended or the time for that
    /// is over.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.begin();
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
        if let Some(accounts) = &self.accounts {
            accounts.close();
        }
    }
}

/// Sockets for each worker.
struct Sockets {
    sockets: Vec<Vec<Socket>>,
    addresses: Vec<SocketAddr>,
    files: Vec<SocketFile>,
}

impl Sockets {
    /// One for each worker at each address.
    fn bind(listen: &[Listen], workers: usize) -> Result<Self, StartError> {
        let sockets = (0..workers).map(|_| Vec::new()).collect();
        let mut this = Self { sockets, addresses: Vec::new(), files: Vec::new() };
        for at in listen {
            let error = |error| StartError::Listen { at: at.clone(), error };
            let Bound { sockets, address, file } = listen::bind(at, workers).map_err(error)?;
            this.addresses.extend(address);
            this.files.extend(file);
            for (worker, socket) in this.sockets.iter_mut().zip(sockets) {
                worker.push(socket);
            }
        }
        Ok(this)
    }
}

/// Begins to watch, within a worker's runtime, what may change while the server runs.
fn watch(
    upstreams: &[(UpstreamSettings, Common)],
    certificate: Option<Arc<Certificate>>,
) -> impl FnOnce() + use<> {
    let asked = upstreams.iter().filter(|(settings, _)| settings.health.is_some());
    let asked: Vec<_> = asked.cloned().collect();
    move || {
        for (settings, common) in asked {
            tokio::spawn(upstream::watch(settings, common));
        }
        if let Some(certificate) = certificate {
            tokio::spawn(certificate.watch());
        }
    }
}

/// What all workers know of an upstream.
fn common(upstream: &UpstreamSettings, threads: usize) -> Result<Common, StartError> {
    let way = Way::new(upstream).map_err(|reason| StartError::Setting {
        setting: "upstream",
        reason: format!("{}: {reason}", upstream.url),
    })?;
    Ok(Common {
        way: Arc::new(way),
        gate: Arc::new(Gate::new(upstream.max_connections.get(), threads)),
        health: Arc::new(Health::new()),
        pauses: upstream.obey_retry_after.map(|longest| Arc::new(Pauses::new(longest.get()))),
    })
}

/// The certificate, where addresses need one.
fn certificate(server: &ServerSettings) -> Result<Option<Arc<Certificate>>, StartError> {
    let error = |reason| StartError::Setting { setting: "tls", reason };
    match (&server.tls, server.listen.iter().find(|at| matches!(at, Listen::Tls(_)))) {
        (Some(files), _) => Certificate::load(files).map(|it| Some(Arc::new(it))).map_err(error),
        (None, Some(at)) => {
            Err(error(format!("{at} needs a certificate; name its files as `certificate` and `key`")))
        }
        (None, None) => Ok(None),
    }
}

fn check(settings: &Settings) -> Result<Check, StartError> {
    let server = &settings.server;
    let mut protected = Vec::new();
    for name in &server.protected_fields {
        let reason = || format!("{name:?} is no name of a field; write it like x-tenant");
        let name = HeaderName::try_from(name.as_str())
            .map_err(|_| StartError::Setting { setting: "protected_fields", reason: reason() })?;
        protected.push(name);
    }
    protected.extend(client_field(settings)?);
    for protocol in &server.upgrades {
        // What follows would be requests that nobody limits.
        if ["h2c", "h2", "http", "tls"].iter().any(|risky| protocol.to_ascii_lowercase().starts_with(risky)) {
            let reason = format!("{protocol} would carry requests past the limits; leave it out");
            return Err(StartError::Setting { setting: "upgrades", reason });
        }
    }
    if server.listen.is_empty() {
        let reason = "there is no address; write one, like 127.0.0.1:8080".to_owned();
        return Err(StartError::Setting { setting: "listen", reason });
    }
    let name = match &server.name {
        Some(name) => name.clone(),
        None => random_name(),
    };
    let forwarding = Forwarding::new(server.forwarded, &server.trusted_proxies, &name).ok_or_else(|| {
        let reason = format!("{name:?} cannot stand in Via; use letters, digits, `-`, `.` and `_`");
        StartError::Setting { setting: "name", reason }
    })?;
    Ok(Check { hops: Hops::new(protected), forwarding, upgrades: server.upgrades.clone() })
}

/// The field in which upstreams get a client's id.
fn client_field(settings: &Settings) -> Result<Option<HeaderName>, StartError> {
    let Some(name) = &settings.access.client_field else { return Ok(None) };
    let wrong = |reason| StartError::Setting { setting: "client_field", reason };
    let field = HeaderName::try_from(name.as_str())
        .map_err(|_| wrong(format!("{name:?} is no name of a field; write it like X-Client")))?;
    if !field.as_str().starts_with("x-") || field.as_str().starts_with("x-forwarded-") {
        return Err(wrong(format!(
            "{name} may mean something already; begin its name with X-, like X-Client"
        )));
    }
    Ok(Some(field))
}

/// A name that no other proxy has.
fn random_name() -> String {
    let mut bytes = [0; 6];
    if getrandom::fill(&mut bytes).is_err() {
        bytes.copy_from_slice(&[b't'; 6]);
    }
    bytes.iter().fold("tidegate-".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}
