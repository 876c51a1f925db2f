//! One request to an upstream, and its answer back.

use crate::{
    answer::AnswerBody,
    check::Check,
    fields::{Hops, Peer},
    problem::Problem,
    routes::Routes,
    tunnel::{self, Ends},
    upload::{Progress, Stage, Upload},
    upstream::{Answered, Upstream, is_bodiless},
};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE},
    uri::Authority,
};
use hyper::upgrade::OnUpgrade;
use std::{sync::Arc, time::Duration};
use tidegate::{Limiter, Ongoing, RequestHead};
use tokio::sync::OwnedSemaphorePermit;

/// What a worker forwards with.
#[derive(Debug)]
pub(crate) struct Forwarder {
    pub(crate) check: Arc<Check>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) upstreams: Vec<Upstream>,
    /// Tells who a client is, where that matters to an upstream.
    pub(crate) limiter: Limiter,
    /// For the next bytes of an upgraded connection.
    pub(crate) upgraded_span: Duration,
}

/// A client's connection, for the requests on it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) peer: Peer,
    /// Its place among the connections that the worker serves.
    pub(crate) place: Arc<OwnedSemaphorePermit>,
}

/// An upgrade that a request asks for.
struct Upgrade {
    protocol: HeaderValue,
    client: OnUpgrade,
    /// What it holds and is counted by until its end.
    ongoing: Option<Ongoing>,
}

impl Forwarder {
    /// The answer to a request: the upstream's, or why there is none.
    pub(crate) async fn forward(&self, client: &Client, request: Request<Upload>) -> Response<AnswerBody> {
        let method = request.method().clone();
        match self.try_forward(client, &method, request).await {
            Ok(response) => response,
            Err(problem) => problem.answer(&method),
        }
    }

    async fn try_forward(
        &self,
        client: &Client,
        method: &Method,
        request: Request<Upload>,
    ) -> Result<Response<AnswerBody>, Problem> {
        if request.body().is_too_large() {
            return Err(Problem::BodyTooLarge);
        }
        let progress = request.body().progress();
        let head = RequestHead::new(&request);
        let upstream = self.upstream(head);
        let pauses = upstream.and_then(Upstream::pauses);
        let waits = pauses.and_then(|pauses| Some((pauses, self.limiter.identify(head).ok()?.key())));
        let (mut parts, mut body) = request.into_parts();
        let can_upgrade = progress.is_none() && upstream.is_some_and(Upstream::has_upgrades);
        let protocol = self.check.admit(&client.peer, &mut parts, can_upgrade)?;
        let upstream = upstream.ok_or(Problem::NoUpstream)?;
        if let Some((status, secs)) = waits.and_then(|(pauses, key)| pauses.find(key)) {
            return Err(Problem::Paused(status, secs));
        }
        let ongoing = parts.extensions.remove::<Ongoing>();
        if let Some(flow) = ongoing.as_ref().and_then(Ongoing::up) {
            body.go_through(flow);
        }
        // hyper attaches that to whatever could be one.
        let upgrade = match (protocol, parts.extensions.remove::<OnUpgrade>()) {
            (Some(protocol), Some(client)) => Some(Upgrade { protocol, client, ongoing }),
            _ => None,
        };
        // They were for the layer.
        parts.extensions.clear();
        // hyper would take a GET without a length for one without a body.
        if progress.is_some() && is_bodiless(method) && !parts.headers.contains_key(CONTENT_LENGTH) {
            parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let answered = upstream.send(Request::from_parts(parts, body)).await?;
        if let Some((pauses, key)) = waits {
            pauses.note(key, answered.response.status(), answered.response.headers());
        }
        self.answer(client, upstream, answered, upgrade, progress.as_deref())
    }

    /// The upstream for a request that is yet to be checked.
    fn upstream(&self, head: RequestHead<'_>) -> Option<&Upstream> {
        let host = || head.headers().get(HOST).and_then(|host| host.to_str().ok());
        let host = head.uri().authority().map(Authority::as_str).or_else(host);
        self.upstreams.get(self.routes.find(host, head.uri().path())?)
    }

    /// The answer as the client gets it.
    fn answer(
        &self,
        client: &Client,
        upstream: &Upstream,
        answered: Answered,
        upgrade: Option<Upgrade>,
        progress: Option<&Progress>,
    ) -> Result<Response<AnswerBody>, Problem> {
        let Answered { response, link } = answered;
        let (mut parts, incoming) = response.into_parts();
        parts.version = Version::HTTP_11;
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            let upgrade =
                upgrade.filter(|upgrade| parts.headers.get(UPGRADE).is_some_and(|to| is_same(to, upgrade)));
            let (upgrade, (stream, early, place)) =
                upgrade.zip(link.and_then(|link| link.upgraded())).ok_or(Problem::BadAnswer)?;
            let places = (client.place.clone(), place);
            let ends = Ends { client: upgrade.client, upstream: stream, early, ongoing: upgrade.ongoing };
            tunnel::spawn(ends, self.upgraded_span, places);
            self.check.hops.strip_answer(&mut parts.headers);
            parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(UPGRADE, upgrade.protocol);
            return Ok(Response::from_parts(parts, AnswerBody::of(bytes::Bytes::new())));
        }
        admit_answer(&self.check.hops, &mut parts.headers)?;
        let is_uploading = progress.is_some_and(|progress| progress.stage() != Stage::Ended);
        Ok(Response::from_parts(parts, upstream.body(incoming, link, is_uploading)))
    }
}

fn is_same(protocol: &HeaderValue, upgrade: &Upgrade) -> bool {
    protocol.as_bytes().eq_ignore_ascii_case(upgrade.protocol.as_bytes())
}

/// Takes off what was for our connection alone. Framing that other readers could take differently is no answer.
fn admit_answer(hops: &Hops, headers: &mut HeaderMap) -> Result<(), Problem> {
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    let is_length = length.is_none_or(|length| length.as_bytes().iter().all(u8::is_ascii_digit));
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_coding = codings.next().is_none_or(|coding| is_chunked(coding) && length.is_none());
    if !is_length || lengths.next().is_some() || !is_coding || codings.next().is_some() {
        return Err(Problem::BadAnswer);
    }
    hops.strip_answer(headers);
    Ok(())
}
