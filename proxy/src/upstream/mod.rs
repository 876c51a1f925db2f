//! The server behind the proxy, and the connections to it.

mod connect;
mod gate;
mod link;
mod pool;

use crate::{
    answer::AnswerBody,
    problem::Problem,
    settings::{Target, UpstreamSettings, UpstreamTimeouts},
    upload::{Stage, Upload},
};
pub(crate) use gate::Gate;
use http::{HeaderValue, Method, Request, Response, header::HOST};
use hyper::body::Incoming;
use link::{Limits, Lost};
pub(crate) use link::{Link, poll_through};
pub(crate) use pool::Pool;
use std::{sync::Arc, time::Duration};

/// One worker's way to an upstream.
#[derive(Debug)]
pub(crate) struct Upstream {
    target: Target,
    /// What requests without a host of their own are sent with.
    host: HeaderValue,
    timeouts: UpstreamTimeouts,
    limits: Limits,
    pool: Arc<Pool>,
}

/// An answer's head, and where its body comes from.
pub(crate) struct Answered {
    pub(crate) response: Response<Incoming>,
    pub(crate) link: Box<Link>,
}

impl Upstream {
    pub(crate) fn new(
        settings: &UpstreamSettings,
        gate: Arc<Gate>,
        max_head: usize,
        max_fields: usize,
    ) -> Self {
        let target = settings.url.clone();
        let host = HeaderValue::from_str(target.authority().as_str());
        Self {
            // An authority is a value that a field can have.
            host: host.unwrap_or_else(|_| HeaderValue::from_static("localhost")),
            target,
            timeouts: settings.timeouts.clone(),
            limits: Limits { max_head, max_fields },
            pool: Arc::new(Pool::new(gate, settings.timeouts.idle.get())),
        }
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Sends a request, and once more over a new connection where the kept one was closed meanwhile: what was never
    /// sent, or may be done twice and has no body.
    pub(crate) async fn send(&self, mut request: Request<Upload>) -> Result<Answered, Problem> {
        if !request.headers().contains_key(HOST) {
            request.headers_mut().insert(HOST, self.host.clone());
        }
        let progress = request.body().progress();
        let can_repeat = progress.is_none() && request.method().is_idempotent();
        let response_span = self.timeouts.response.get();
        if let Some(link) = self.pool.take() {
            let copy = can_repeat.then(|| copy(&request));
            match link.exchange(request, response_span).await {
                Ok((response, link)) => return Ok(Answered { response, link }),
                Err(Lost::Unsent(unsent)) => request = *unsent,
                Err(Lost::Closed) => match copy {
                    Some(copy) => request = copy,
                    None => return Err(problem(Lost::Closed, progress.as_deref())),
                },
                Err(lost) => return Err(problem(lost, progress.as_deref())),
            }
        }
        let link = self.obtain().await?;
        match link.exchange(request, response_span).await {
            Ok((response, link)) => Ok(Answered { response, link }),
            Err(lost) => Err(problem(lost, progress.as_deref())),
        }
    }

    /// A connection on which nothing was sent yet, or that somebody else has just done with.
    async fn obtain(&self) -> Result<Box<Link>, Problem> {
        let span = self.timeouts.connect.get();
        let within = tokio::time::timeout(span, async {
            match self.pool.obtain().await {
                pool::Obtained::Link(link) => Ok(link),
                pool::Obtained::Place(place) => {
                    let stream = connect::connect(&self.target).await.map_err(|error| {
                        tracing::warn!(upstream = %self.target, %error, "cannot connect");
                        Problem::Unreachable
                    })?;
                    Link::new(stream, place, &self.limits).await.map_err(|_| Problem::Unreachable)
                }
            }
        });
        within.await.unwrap_or_else(|_| {
            let is_full = self.pool.is_full();
            tracing::warn!(upstream = %self.target, is_full, "no connection in time");
            Err(if is_full { Problem::Busy } else { Problem::TooSlow })
        })
    }

    /// The body of an answer whose head is checked.
    pub(crate) fn body(&self, incoming: Incoming, link: Box<Link>) -> AnswerBody {
        AnswerBody::over(incoming, link, &self.pool, self.body_span())
    }

    pub(crate) fn body_span(&self) -> Duration {
        self.timeouts.body.get()
    }
}

/// The same request again, which has no body.
fn copy(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::empty());
    *copy.method_mut() = request.method().clone();
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
