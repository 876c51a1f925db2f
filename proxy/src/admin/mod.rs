//! A listener for operators: whether the proxy lives and is ready, its numbers, and the limiter's admin API.

mod answers;
mod serve;

use crate::{Server, StartError, metrics, settings::Listen};
use answers::Desk;
use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
};
use tidegate::{Admin, Limiter};
use tokio::sync::watch;

/// What a listener for operators is told.
#[derive(Clone)]
pub struct AdminSettings {
    /// Where to listen; port 0 takes a free one. Keep it off the public network.
    pub listen: SocketAddr,
    /// Whoever asks for numbers has to send it as `Authorization: Bearer`. An address of all interfaces needs one.
    pub token: Option<String>,
    /// The admin API, which has keys of its own, below `/admin`.
    pub api: Option<Admin>,
}

/// A listener for operators, which serves until it is dropped.
///
/// | path | |
/// |---|---|
/// | `/healthz` | 200 while the process lives |
/// | `/readyz` | 503 while the server stops, or the limiter's store is down and limits refuse without it |
/// | `/metrics` | numbers for Prometheus |
/// | `/admin/..` | the admin API, if there is one |
#[derive(Debug)]
#[must_use = "it stops when it is dropped"]
pub struct AdminListener {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// A shorter one can be guessed.
const SHORTEST_TOKEN: usize = 16;

impl AdminSettings {
    /// A listener without a token and without an admin API.
    pub const fn new(listen: SocketAddr) -> Self {
        Self { listen, token: None, api: None }
    }

    fn check(&self) -> Result<(), StartError> {
        let wrong = |reason: &str| Err(StartError::Setting { setting: "admin", reason: reason.to_owned() });
        match &self.token {
            None if self.listen.ip().to_canonical().is_unspecified() => wrong(
                "everybody on all networks could read its numbers; set a token, or listen at one address like 127.0.0.1:9090",
            ),
            Some(token)
                if token.len() < SHORTEST_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) =>
            {
                wrong("a token is 16 or more printable characters; `openssl rand -hex 32` makes one")
            }
            _ => Ok(()),
        }
    }
}

impl AdminListener {
    /// Starts to listen, for a server and its limiter.
    ///
    /// # Errors
    ///
    /// If a setting cannot be kept, the address cannot be listened at, or metrics cannot be recorded.
    pub fn start(settings: AdminSettings, server: &Server, limiter: &Limiter) -> Result<Self, StartError> {
        settings.check()?;
        let at = || Listen::Tcp(settings.listen);
        let bound = |error| StartError::Listen { at: at(), error };
        let socket = TcpListener::bind(settings.listen).map_err(bound)?;
        socket.set_nonblocking(true).map_err(bound)?;
        let address = socket.local_addr().map_err(bound)?;
        let numbers =
            metrics::handle().map_err(|reason| StartError::Setting { setting: "metrics", reason })?;
        let desk = Desk { numbers, limiter: limiter.clone(), stop: server.stopping(), token: settings.token };
        let (stop, stopped) = watch::channel(false);
        let router = answers::router(Arc::new(desk), settings.api.as_ref());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(StartError::Thread)?;
        let thread = thread::Builder::new().name("admin".into()).spawn(move || {
            runtime.block_on(serve::serve(socket, router, numbers, stopped));
        });
        Ok(Self { address, stop, thread: Some(thread.map_err(StartError::Thread)?) })
    }

    /// Where it listens, with the port that it was given.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminListener {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for AdminSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminSettings")
            .field("listen", &self.listen)
            .field("has_token", &self.token.is_some())
            .field("has_api", &self.api.is_some())
            .finish()
    }
}

/// What a listener's thread cannot do is told, and it goes on.
fn complain(error: &io::Error) {
    ::tracing::warn!(%error, "cannot accept a connection to the admin listener");
}
