//! The server behind the proxy, and the connections to it.

mod connect;
mod gate;
mod health;
mod link;
mod pauses;
mod pool;
mod streams;
mod watch;

use crate::{
    answer::AnswerBody,
    problem::Problem,
    settings::{HttpVersion, Scheme, UpstreamSettings, UpstreamTimeouts},
    stream::Stream,
    upload::{Stage, Upload},
};
pub(crate) use connect::Way;
pub(crate) use gate::Gate;
pub(crate) use health::{Health, watch};
use http::{
    HeaderValue, Method, Request, Response, Uri, Version,
    header::{CONNECTION, HOST, TRANSFER_ENCODING},
    uri::Authority,
};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use link::Lost;
pub(crate) use link::{Limits, Link, poll_through};
pub(crate) use pauses::Pauses;
pub(crate) use pool::Pool;
use std::sync::Arc;
use streams::Streams;

/// One worker's way to an upstream.
#[derive(Debug)]
pub(crate) struct Upstream {
    way: Arc<Way>,
    /// What requests without a host of their own are sent with.
    host: HeaderValue,
    timeouts: UpstreamTimeouts,
    limits: Limits,
    pool: Arc<Pool>,
    health: Arc<Health>,
    pauses: Option<Arc<Pauses>>,
    /// Where it speaks HTTP/2.
    streams: Option<Streams>,
}

/// What all workers know of an upstream.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    pub(crate) way: Arc<Way>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) health: Arc<Health>,
    pub(crate) pauses: Option<Arc<Pauses>>,
}

/// An answer's head, and where its body comes from.
pub(crate) struct Answered {
    pub(crate) response: Response<Incoming>,
    /// Over HTTP/1.1, the connection.
    pub(crate) link: Option<Box<Link>>,
}

impl Upstream {
    pub(crate) fn new(settings: &UpstreamSettings, common: &Common, limits: Limits) -> Self {
        let host = HeaderValue::from_str(settings.url.authority().as_str());
        Self {
            // An authority is a value that a field can have.
            host: host.unwrap_or_else(|_| HeaderValue::from_static("localhost")),
            way: common.way.clone(),
            timeouts: settings.timeouts.clone(),
            limits,
            pool: Arc::new(Pool::new(common.gate.clone(), settings.timeouts.idle.get())),
            health: common.health.clone(),
            pauses: common.pauses.clone(),
            streams: (settings.http == HttpVersion::Two).then(Streams::default),
        }
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Who is not to be sent on, where that is remembered.
    pub(crate) fn pauses(&self) -> Option<&Pauses> {
        self.pauses.as_deref()
    }

    /// Whether requests can be upgraded.
    pub(crate) const fn has_upgrades(&self) -> bool {
        self.streams.is_none()
    }

    /// Sends a request, and once more over a new connection where the kept one was closed meanwhile: what was never
    /// sent, or may be done twice and has no body.
    pub(crate) async fn send(&self, mut request: Request<Upload>) -> Result<Answered, Problem> {
        if !self.health.is_well() {
            return Err(Problem::Unhealthy);
        }
        if !request.headers().contains_key(HOST) {
            request.headers_mut().insert(HOST, self.host.clone());
        }
        let progress = request.body().progress();
        let sent = match &self.streams {
            Some(streams) => self.send_in_stream(streams, request, progress.is_none()).await,
            None => self.send_over_link(request, progress.is_none()).await,
        };
        sent.map_err(|failed| match failed {
            Failed::Lost(lost) => problem(lost, progress.as_deref()),
            Failed::Problem(problem) => problem,
        })
    }

    async fn send_over_link(&self, mut request: Request<Upload>, is_whole: bool) -> Result<Answered, Failed> {
        let can_repeat = is_whole && request.method().is_idempotent();
        let span = self.timeouts.response.get();
        if let Some(link) = self.pool.take() {
            let copy = can_repeat.then(|| copy(&request));
            match link.exchange(request, span).await {
                Ok((response, link)) => return Ok(Answered { response, link: Some(link) }),
                Err(lost) => request = lost.again(copy)?,
            }
        }
        let link = self.obtain().await?;
        let (response, link) = link.exchange(request, span).await?;
        Ok(Answered { response, link: Some(link) })
    }

    async fn send_in_stream(
        &self,
        streams: &Streams,
        request: Request<Upload>,
        is_whole: bool,
    ) -> Result<Answered, Failed> {
        let (mut parts, body) = request.into_parts();
        let host = parts.headers.remove(HOST);
        parts.headers.remove(CONNECTION);
        parts.headers.remove(TRANSFER_ENCODING);
        parts.version = Version::HTTP_2;
        let host = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let mut uri = parts.uri.into_parts();
        uri.scheme = Some(match self.way.target().scheme() {
            Scheme::Https => http::uri::Scheme::HTTPS,
            Scheme::Http | Scheme::Unix => http::uri::Scheme::HTTP,
        });
        uri.authority = Some(host.unwrap_or_else(|| self.way.target().authority().clone()));
        let malformed = || Problem::Malformed("The request's target is no URL.");
        parts.uri = Uri::from_parts(uri).map_err(|_| malformed())?;
        let request = Request::from_parts(parts, body);

        let copy = (is_whole && request.method().is_idempotent()).then(|| copy(&request));
        let span = self.timeouts.response.get();
        let mut sender = self.stream_sender(streams).await?;
        let request = match streams::exchange(&mut sender, request, span).await {
            Ok(response) => return Ok(Answered { response, link: None }),
            Err(lost) => lost.again(copy)?,
        };
        let mut sender = self.stream_sender(streams).await?;
        let response = streams::exchange(&mut sender, request, span).await?;
        Ok(Answered { response, link: None })
    }

    async fn stream_sender(&self, streams: &Streams) -> Result<SendRequest<Upload>, Problem> {
        self.in_time(streams.sender(&self.limits, async {
            let place = self.pool.place().await;
            Ok((self.connect().await?, place))
        }))
        .await
    }

    /// A connection on which nothing was sent yet, or that somebody else has just done with.
    async fn obtain(&self) -> Result<Box<Link>, Problem> {
        self.in_time(async {
            match self.pool.obtain().await {
                pool::Obtained::Link(link) => Ok(link),
                pool::Obtained::Place(place) => {
                    let link = Link::new(self.connect().await?, place, &self.limits).await;
                    link.map_err(|_| Problem::Unreachable)
                }
            }
        })
        .await
    }

    async fn connect(&self) -> Result<Stream, Problem> {
        self.way.connect().await.map_err(|error| {
            tracing::warn!(upstream = %self.way.target(), %error, "cannot connect");
            Problem::Unreachable
        })
    }

    async fn in_time<T>(&self, connected: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
        tokio::time::timeout(self.timeouts.connect.get(), connected).await.unwrap_or_else(|_| {
            let is_full = self.pool.is_full();
            tracing::warn!(upstream = %self.way.target(), is_full, "no connection in time");
            Err(if is_full { Problem::Busy } else { Problem::TooSlow })
        })
    }

    /// The body of an answer whose head is checked.
    pub(crate) fn body(&self, incoming: Incoming, link: Option<Box<Link>>, is_uploading: bool) -> AnswerBody {
        let span = self.timeouts.body.get();
        match link {
            Some(link) if is_uploading => {
                link.detach();
                AnswerBody::beside(incoming, span)
            }
            Some(link) => AnswerBody::over(incoming, link, &self.pool, span),
            None => AnswerBody::beside(incoming, span),
        }
    }
}

/// Why a request was not answered.
enum Failed {
    Lost(Lost),
    Problem(Problem),
}

impl From<Lost> for Failed {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl Lost {
    /// What to send again: the request if it was not sent, or its copy if it may have been.
    fn again(self, copy: Option<Request<Upload>>) -> Result<Request<Upload>, Self> {
        match (self, copy) {
            (Self::Unsent(request), _) => Ok(*request),
            (Self::Closed, Some(copy)) => Ok(copy),
            (lost, _) => Err(lost),
        }
    }
}

/// The same request again, which has no body.
fn copy(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::empty());
    *copy.method_mut() = request.method().clone();
    *copy.version_mut() = request.version();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// What to answer where an exchange came to nothing. Often it is the upload's doing.
fn problem(lost: Lost, progress: Option<&crate::upload::Progress>) -> Problem {
    match (progress.map(crate::upload::Progress::stage), lost) {
        (Some(Stage::TooLarge), _) => Problem::BodyTooLarge,
        (Some(Stage::TooSlow), _) => Problem::BodyTooSlow,
        (Some(Stage::Broken), _) => Problem::Malformed("The request's body is malformed, or broke off."),
        (_, Lost::TimedOut) => Problem::TooSlow,
        (_, Lost::Garbage) => Problem::BadAnswer,
        (_, Lost::Closed | Lost::Unsent(_)) => Problem::Closed,
    }
}

/// Whether a method's requests may have bodies that are left unsaid.
pub(crate) fn is_bodiless(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE)
}
