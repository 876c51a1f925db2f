//! One answer of an endpoint over HTTP, in bounds.

use crate::BuildError;
use http::{
    Request, StatusCode, Uri,
    header::{ACCEPT, HOST},
};
use http_body::Body;
use hyper::{body::Incoming, client::conn::http1::handshake};
use hyper_util::rt::TokioIo;
use std::{
    error::Error,
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    time::Duration,
};
use tokio::net::TcpStream;

const MEBIBYTE: usize = 1 << 20;

#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// The host and port, as the request has them and as they are connected to.
    host: String,
    address: String,
    path: String,
    pub(super) max_bytes: usize,
}

impl Endpoint {
    pub(super) fn new(url: &str) -> Result<Self, String> {
        let wrong =
            || format!("{url:?} is no address over HTTP; write one such as `http://broker:7071/metrics`");
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            return Err(format!(
                "{:?} has a user, who would be sent unencrypted; leave it out",
                authority.host()
            ));
        }
        let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { host: authority.to_string(), address, path, max_bytes: MEBIBYTE })
    }

    pub(super) async fn fetch(&self) -> Result<String, ScrapeError> {
        let stream = TcpStream::connect(&self.address).await?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        let request = Request::get(&self.path).header(HOST, &self.host);
        let request = request.header(ACCEPT, "text/plain;version=0.0.4").body(String::new())?;
        let answer = async {
            let response = sender.send_request(request).await?;
            if response.status() != StatusCode::OK {
                return Err(ScrapeError::new(format!("it answered with {}", response.status())));
            }
            self.read(response.into_body()).await
        };
        beside(answer, connection).await
    }

    async fn read(&self, mut body: Incoming) -> Result<String, ScrapeError> {
        let mut bytes = Vec::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let Ok(data) = frame?.into_data() else { continue };
            if bytes.len() + data.len() > self.max_bytes {
                let error = format!("it answered with more than {} bytes", self.max_bytes);
                return Err(ScrapeError::new(error));
            }
            bytes.extend_from_slice(&data);
        }
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }
}

/// Waits for `future`, and lets `other` do what it can meanwhile. Dropped, it leaves nothing behind that goes on.
async fn beside<F: Future>(future: F, other: impl Future) -> F::Output {
    let (mut future, mut other, mut is_over) = (pin!(future), pin!(other), false);
    poll_fn(|cx| {
        is_over = is_over || other.as_mut().poll(cx).is_ready();
        future.as_mut().poll(cx)
    })
    .await
}

/// Why an endpoint was not scraped.
#[derive(Debug)]
pub struct ScrapeError(Box<dyn Error + Send + Sync>);

impl ScrapeError {
    fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(error.into())
    }

    pub(super) fn late(timeout: Duration) -> Self {
        Self::new(format!("it did not answer within {timeout:?}"))
    }
}

impl fmt::Display for ScrapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the endpoint was not scraped: {}", self.0)
    }
}

impl Error for ScrapeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

macro_rules! wraps {
    ($($error:ty),*) => {
        $(impl From<$error> for ScrapeError {
            fn from(error: $error) -> Self {
                Self::new(error)
            }
        })*
    };
}

wraps!(std::io::Error, hyper::Error, http::Error, BuildError);
