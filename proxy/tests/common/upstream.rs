//! An upstream that records requests byte by byte and answers as it is told.

use super::{PATIENCE, eventually};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// One connection from the proxy.
pub struct Exchange {
    pub stream: TcpStream,
    read: Vec<u8>,
    log: Arc<Mutex<Vec<u8>>>,
}

impl Exchange {
    /// Reads more, or says that nothing comes any more.
    pub async fn more(&mut self) -> bool {
        let before = self.read.len();
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
        let read = read.expect("the proxy sends nothing").unwrap_or(0);
        self.log.lock().unwrap().extend_from_slice(&self.read[before..]);
        read > 0
    }

    /// Up to these bytes and with them, or nothing where the connection is closed before.
    pub async fn until(&mut self, end: &str) -> Option<String> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end.as_bytes()) {
                let bytes = self.read.drain(..at + end.len()).collect();
                return Some(String::from_utf8(bytes).unwrap());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The next request's head.
    pub async fn head(&mut self) -> Option<String> {
        self.until("\r\n\r\n").await
    }

    /// The next request as it came, its body included.
    pub async fn request(&mut self) -> Option<String> {
        let mut request = self.head().await?;
        let lower = request.to_ascii_lowercase();
        let field = |name: &str| {
            lower.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
        };
        if field("transfer-encoding").is_some() {
            loop {
                let size = self.until("\r\n").await?;
                let bytes = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
                request.push_str(&size);
                if bytes == 0 {
                    break;
                }
                let chunk = self.bytes(bytes + 2).await?;
                request.push_str(&String::from_utf8(chunk).unwrap());
            }
            loop {
                let line = self.until("\r\n").await?;
                request.push_str(&line);
                if line == "\r\n" {
                    break;
                }
            }
        } else if let Some(length) = field("content-length") {
            let body = self.bytes(length.parse().unwrap()).await?;
            request.push_str(&String::from_utf8(body).unwrap());
        }
        Some(request)
    }

    pub async fn bytes(&mut self, bytes: usize) -> Option<Vec<u8>> {
        while self.read.len() < bytes {
            if !self.more().await {
                return None;
            }
        }
        Some(self.read.drain(..bytes).collect())
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The proxy may have gone away, as the test wants it.
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Until the proxy closes the connection.
    pub async fn closed(&mut self) {
        while self.more().await {}
    }
}

pub struct Upstream {
    pub address: SocketAddr,
    log: Arc<Mutex<Vec<u8>>>,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    peers: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Upstream {
    /// Serves each connection with the closure.
    pub async fn new<F, Fut>(serve: F) -> Self
    where
        F: Fn(Exchange) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::at("127.0.0.1:0".parse().unwrap(), serve).await
    }

    /// The same at an address.
    pub async fn at<F, Fut>(address: SocketAddr, serve: F) -> Self
    where
        F: Fn(Exchange) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let this = Self {
            address,
            log: Arc::default(),
            connections: Arc::default(),
            open: Arc::default(),
            peers: Arc::default(),
        };
        let peers = this.peers.clone();
        let (log, connections, open) = (this.log.clone(), this.connections.clone(), this.open.clone());
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                connections.fetch_add(1, SeqCst);
                open.fetch_add(1, SeqCst);
                peers.lock().unwrap().push(peer);
                let serving = serve(Exchange { stream, read: Vec::new(), log: log.clone() });
                let open = open.clone();
                tokio::spawn(async move {
                    serving.await;
                    open.fetch_sub(1, SeqCst);
                });
            }
        });
        this
    }

    /// Answers each request with these bytes.
    pub async fn answering(answer: &'static str) -> Self {
        Self::new(move |mut exchange| async move {
            while exchange.request().await.is_some() {
                exchange.send(answer).await;
            }
        })
        .await
    }

    /// Answers each request with `ok`.
    pub async fn ok() -> Self {
        Self::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await
    }

    /// Answers the first request of each connection with these bytes and closes it.
    pub async fn closing(answer: &'static str) -> Self {
        Self::new(move |mut exchange| async move {
            if exchange.request().await.is_some() {
                exchange.send(answer).await;
            }
        })
        .await
    }

    /// All bytes that came, over all connections.
    pub fn seen(&self) -> String {
        String::from_utf8(self.log.lock().unwrap().clone()).unwrap()
    }

    /// Until all that was sent to it is seen, once nobody sends any more: connections are accepted in the order in which
    /// they were made, and read to their end.
    pub async fn settled(&self) {
        let last = TcpStream::connect(self.address).await.unwrap();
        let address = last.local_addr().unwrap();
        drop(last);
        let is_settled = || self.peers.lock().unwrap().contains(&address) && self.open() == 0;
        eventually("the upstream has seen all", is_settled).await;
    }

    /// How many connections came.
    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }

    /// How many connections are being served.
    pub fn open(&self) -> usize {
        self.open.load(SeqCst)
    }
}
