//! A proxy between raw sockets: clients that send exactly what a test says, and an upstream that records what it gets.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

pub mod place;
pub mod upstream;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tidegate::{Limiter, Policy, Quota};
use tidegate_proxy::{Server, Settings};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
pub use upstream::Upstream;

/// Longer than anything takes here, so that a test that hangs fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Proxy {
    pub server: Server,
    pub address: SocketAddr,
}

/// Settings for tests: one thread, a free port, a name that is known.
pub fn settings(upstream: SocketAddr) -> Settings {
    let mut settings = Settings::new(format!("http://{upstream}").parse().unwrap());
    settings.server.listen = vec!["127.0.0.1:0".parse().unwrap()];
    settings.server.threads = Some(1.try_into().unwrap());
    settings.server.name = Some("tide".to_owned());
    settings.server.timeouts.drain = "5s".parse().unwrap();
    settings
}

/// A limiter that refuses nobody.
pub fn open() -> Limiter {
    Limiter::new(Policy::new()).unwrap()
}

pub fn limited(quota: &str) -> Limiter {
    Limiter::new(Policy::per_client(quota.parse::<Quota>().unwrap())).unwrap()
}

impl Proxy {
    pub fn start(settings: &Settings, limiter: &Limiter) -> Self {
        let server = Server::start(settings, &limiter.layer()).unwrap();
        let address = server.addresses()[0];
        Self { server, address }
    }

    /// A proxy that refuses nobody.
    pub fn open(upstream: SocketAddr) -> Self {
        Self::start(&settings(upstream), &open())
    }

    pub async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// One request over a connection of its own, and all that comes back until it is closed.
    pub async fn ask(&self, request: impl AsRef<[u8]>) -> String {
        let mut client = self.connect().await;
        client.send(request).await;
        client.rest().await
    }

    /// Stops it; all that it does is done afterwards.
    pub async fn stop(self) {
        tokio::task::spawn_blocking(move || self.server.stop()).await.unwrap();
    }
}

/// A raw connection.
pub struct Client {
    pub stream: TcpStream,
    read: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a field that stands there once.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let mut found = lines.by_ref().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value);
        assert!(found.next().is_none(), "{name} stands there twice in {}", self.head);
        value
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.unwrap()
    }

    pub async fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::new() })
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads more, or says that nothing comes any more.
    async fn more(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
        // A reset ends it as well.
        read.expect("nothing comes").unwrap_or(0) > 0
    }

    /// All that comes until the connection is closed.
    pub async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8(std::mem::take(&mut self.read)).unwrap()
    }

    /// So many bytes.
    pub async fn take(&mut self, bytes: usize) -> Vec<u8> {
        while self.read.len() < bytes {
            assert!(self.more().await, "closed after {:?}", String::from_utf8_lossy(&self.read));
        }
        self.read.drain(..bytes).collect()
    }

    /// Up to these bytes and with them.
    pub async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end.as_bytes()) {
                let bytes = self.read.drain(..at + end.len()).collect();
                return String::from_utf8(bytes).unwrap();
            }
            assert!(self.more().await, "closed after {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    /// The next answer to a request other than HEAD.
    pub async fn answer(&mut self) -> Answer {
        self.answer_to("GET").await
    }

    pub async fn answer_to(&mut self, method: &str) -> Answer {
        let head = self.until("\r\n\r\n").await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        if method == "HEAD" || status < 200 || matches!(status, 204 | 304) {
            return answer;
        }
        if answer.field("transfer-encoding") == Some("chunked") {
            loop {
                let size = self.until("\r\n").await;
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                if size == 0 {
                    break;
                }
                answer.body.extend(self.take(size).await);
                self.until("\r\n").await;
            }
            // Trailers stay in the head, for tests to see.
            loop {
                let line = self.until("\r\n").await;
                if line == "\r\n" {
                    break;
                }
                answer.head.push_str(&line);
            }
        } else if let Some(length) = answer.field("content-length").map(|length| length.parse().unwrap()) {
            answer.body = self.take(length).await;
        } else {
            answer.body = self.rest().await.into_bytes();
        }
        answer
    }

    /// Whether the next thing that comes is a reset.
    pub async fn is_reset(&mut self) -> bool {
        let mut byte = [0];
        matches!(self.stream.peek(&mut byte).await, Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset)
    }

    pub async fn is_closed(&mut self) -> bool {
        self.read.is_empty() && !self.more().await
    }
}

/// Waits until something is so that no event tells of.
pub async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
