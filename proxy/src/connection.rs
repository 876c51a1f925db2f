//! One client's connection.

use crate::{
    account::{Account, Accounts, Sent},
    answer::AnswerBody,
    fields::{self, Peer},
    forward::{Client, Forwarder},
    pulse::{Due, InFlight, Pulse},
    settings::ServerSettings,
    stop::Stop,
    stream::{ClientStream, Stream},
    upload::{Stage, Upload},
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::CONNECTION};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};
use tidegate::{PeerAddr, ThrottleLayer};
use tokio::time::{Instant, sleep_until};
use tower_layer::Layer;
use tower_service::Service;

/// What all connections of a worker have in common.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) settings: ServerSettings,
    pub(crate) layer: ThrottleLayer,
    pub(crate) forwarder: Arc<Forwarder>,
    pub(crate) stop: Arc<Stop>,
    /// Who is told what requests came to.
    pub(crate) accounts: Option<Arc<Accounts>>,
    pub(crate) has_request_ids: bool,
}

/// How many fields hyper reads a head of without taking memory for them.
const FREE_FIELDS: usize = 100;

/// Serves a client until either side closes.
pub(crate) async fn serve(host: Arc<Host>, stream: Stream, client: Client) {
    let pulse = Arc::new(Pulse::new());
    let stream = TokioIo::new(ClientStream::new(stream, pulse.clone()));
    let (forwarder, client) = (host.forwarder.clone(), Arc::new(client));
    let peer = client.peer.clone();
    let throttle = host.layer.layer(Forward(move |request: Request<Upload>| {
        let (forwarder, client) = (forwarder.clone(), client.clone());
        Sent::note(request.extensions());
        async move { Ok(forwarder.forward(&client, request).await) }
    }));
    let service = service_fn(|request: Request<Incoming>| {
        let running = pulse.begin();
        respond(&host, throttle.clone(), &peer, running, request)
    });
    let mut builder = http1::Builder::new();
    let max_head = usize::try_from(host.settings.max_head.bytes()).unwrap_or(usize::MAX);
    builder.max_header_size(max_head);
    if host.settings.max_fields != FREE_FIELDS {
        builder.max_headers(host.settings.max_fields);
    }
    let mut connection = pin!(builder.serve_connection(stream, service).with_upgrades());

    let timeouts = &host.settings.timeouts;
    let mut stopping = host.stop.watch();
    let (mut is_closing, mut lingers) = (false, false);
    let mut timer = pin!(sleep_until(pulse.first_look(timeouts)));
    loop {
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            // That is far shorter than what the timer waits for.
            () = poll_fn(|_| if pulse.is_lingering() { Poll::Ready(()) } else { Poll::Pending }), if !lingers => {
                lingers = true;
                timer.as_mut().reset(Instant::now());
            }
            () = timer.as_mut() => match pulse.due(timeouts, host.stop.since()) {
                Due::At(at) => timer.as_mut().reset(at),
                Due::Close if !is_closing => {
                    is_closing = true;
                    connection.as_mut().graceful_shutdown();
                    pulse.lingers();
                }
                Due::Close | Due::Drop => return,
            },
            () = stopping.begun() => timer.as_mut().reset(Instant::now()),
        }
    }
}

/// The answer to one request.
async fn respond<S, B>(
    host: &Host,
    mut throttle: S,
    peer: &Peer,
    running: InFlight,
    request: Request<Incoming>,
) -> Result<Response<Running<B>>, Infallible>
where
    S: Service<Request<Upload>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes>,
{
    let settings = &host.settings;
    let mut request =
        request.map(|body| Upload::new(body, settings.max_body.bytes(), settings.timeouts.body.get()));
    let progress = request.body().progress();
    request.extensions_mut().insert(PeerAddr(peer.address));
    let id = host.has_request_ids.then(|| fields::identify(peer, request.headers_mut()));
    let mut account = host.accounts.as_ref().map(|accounts| {
        let id = id.as_ref().map(HeaderValue::as_bytes);
        Box::new(Account::begin(accounts, host.layer.limiter(), peer, id, &mut request))
    });
    let mut response = throttle.call(request).await?;
    if let Some(id) = id {
        fields::tell_id(id, response.headers_mut());
    }
    let is_unread = progress.is_some_and(|progress| progress.stage() != Stage::Ended);
    // What is left of the body is not read, so the next request cannot be found.
    if is_unread || host.stop.is_begun() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(account) = &mut account {
        account.answered(&response);
        account.passed(0, response.body().is_end_stream());
    }
    Ok(response.map(|body| Running { body, account, running }))
}

/// The forwarder as a service, whose future has no box and no name.
#[derive(Clone)]
struct Forward<F>(F);

impl<F, Fut> Service<Request<Upload>> for Forward<F>
where
    F: FnMut(Request<Upload>) -> Fut,
    Fut: Future<Output = Result<Response<AnswerBody>, Infallible>>,
{
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = Fut;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Upload>) -> Fut {
        self.0(request)
    }
}

pin_project! {
    /// The body of an answer; its request runs until it is dropped.
    struct Running<B> {
        #[pin]
        body: B,
        account: Option<Box<Account>>,
        running: InFlight,
    }
}

impl<B: Body<Data = Bytes>> Body for Running<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        if let Some(account) = this.account {
            let bytes =
                frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
            account.passed(bytes, frame.is_none() || this.body.is_end_stream());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
