//! One client's connection.

use crate::{
    access::Access,
    account::{Account, Accounts, Sent},
    answer::AnswerBody,
    fields::{self, Peer},
    forward::{Client, Forwarder},
    listen::Accepted,
    proxy_protocol,
    pulse::{Due, InFlight, LAST_CALL, Pulse},
    settings::ServerSettings,
    stop::Stop,
    stream::{ClientStream, Stream},
    tls::Certificate,
    upload::{Stage, Upload},
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Version, header::CONNECTION};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};
use tidegate::{PeerAddr, ThrottleLayer};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, sleep_until, timeout},
};
use tower_layer::Layer;
use tower_service::Service;

/// What all connections of a worker have in common.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) settings: ServerSettings,
    pub(crate) layer: ThrottleLayer,
    pub(crate) forwarder: Arc<Forwarder>,
    pub(crate) stop: Arc<Stop>,
    pub(crate) certificate: Option<Arc<Certificate>>,
    /// Who is told what requests came to.
    pub(crate) accounts: Option<Arc<Accounts>>,
    pub(crate) access: Option<Arc<Access>>,
    pub(crate) has_request_ids: bool,
}

/// How many fields hyper reads a head of without taking memory for them.
const FREE_FIELDS: usize = 100;

/// How much an HTTP/2 client may send before it is read, for a stream and for all.
const WINDOWS: (u32, u32) = (256 << 10, 1 << 20);

/// How many requests an HTTP/2 client may have at a time.
const STREAMS: u32 = 128;

/// Serves a client until either side closes.
pub(crate) async fn serve(host: Arc<Host>, accepted: Accepted, place: OwnedSemaphorePermit) {
    let pulse = Arc::new(Pulse::new());
    let Some((stream, peer, is_http2)) = begin(&host, accepted, &pulse).await else { return };
    let stream = TokioIo::new(stream);
    let client = Arc::new(Client { peer, place: Arc::new(place) });
    let forwarder = host.forwarder.clone();
    let asking = client.clone();
    let access = host.access.clone();
    let throttle = host.layer.layer(Forward(move |mut request: Request<Upload>| {
        let (forwarder, client, access) = (forwarder.clone(), client.clone(), access.clone());
        async move {
            if let Some(access) = access {
                if let Err(problem) = access.admit(&mut request).await {
                    return Ok(problem.answer(request.method()));
                }
            }
            Sent::note(request.extensions());
            Ok(forwarder.forward(&client, request).await)
        }
    }));
    let beginning = pulse.clone();
    let respond_on = host.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        respond(respond_on.clone(), throttle.clone(), asking.clone(), beginning.begin(), request)
    });
    let max_head = host.settings.max_head.bytes();
    if is_http2 {
        pulse.goes_on_in_http2();
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(max_head).unwrap_or(u32::MAX))
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(WINDOWS.0)
            .initial_connection_window_size(WINDOWS.1);
        drive(builder.serve_connection(stream, service), &host, &pulse, http2::Connection::graceful_shutdown)
            .await;
    } else {
        let mut builder = http1::Builder::new();
        builder.max_header_size(usize::try_from(max_head).unwrap_or(usize::MAX));
        if host.settings.max_fields != FREE_FIELDS {
            builder.max_headers(host.settings.max_fields);
        }
        let connection = builder.serve_connection(stream, service).with_upgrades();
        drive(connection, &host, &pulse, http1::UpgradeableConnection::graceful_shutdown).await;
    }
}

/// Finds out who the client is and what it speaks, unless it says nothing for too long.
async fn begin(host: &Host, accepted: Accepted, pulse: &Arc<Pulse>) -> Option<(ClientStream, Peer, bool)> {
    let mut stopping = host.stop.watch();
    let last_call = async {
        stopping.begun().await;
        sleep(LAST_CALL).await;
    };
    tokio::select! {
        biased;
        opened = timeout(host.settings.timeouts.head.get(), open(host, accepted, pulse)) => opened.ok()?.ok(),
        () = last_call => None,
    }
}

/// What comes before the first request: the PROXY protocol's header, from whom it is expected, and TLS.
async fn open(host: &Host, accepted: Accepted, pulse: &Arc<Pulse>) -> io::Result<(ClientStream, Peer, bool)> {
    let Accepted { mut stream, mut peer, is_tls } = accepted;
    let ip = peer.ip().to_canonical();
    if host.settings.proxy_protocol_from.iter().any(|net| net.contains(&ip)) {
        peer = proxy_protocol::read(&mut stream).await?.unwrap_or(peer);
    }
    if is_tls {
        let (Stream::Tcp(tcp), Some(certificate)) = (stream, &host.certificate) else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        stream = certificate.accept(tcp).await?;
    }
    let mut stream = ClientStream::new(stream, pulse.clone());
    let is_http2 = stream.is_http2().await?;
    Ok((stream, host.forwarder.check.forwarding.peer(peer, is_tls), is_http2))
}

/// Drives a connection, and ends it when it is idle for too long, its client is too slow, or the server stops.
async fn drive<C: Future>(connection: C, host: &Host, pulse: &Pulse, graceful: fn(Pin<&mut C>)) {
    let timeouts = &host.settings.timeouts;
    let mut connection = pin!(connection);
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
                    graceful(connection.as_mut());
                    pulse.lingers();
                }
                Due::Close | Due::Drop => return,
            },
            () = stopping.begun() => {
                // It tells the client which requests are still answered; HTTP/1.1 tells with the next answer.
                if pulse.is_http2() {
                    graceful(connection.as_mut());
                }
                timer.as_mut().reset(Instant::now());
            }
        }
    }
}

/// The answer to one request.
async fn respond<S, B>(
    host: Arc<Host>,
    mut throttle: S,
    client: Arc<Client>,
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
    let is_http2 = request.version() == Version::HTTP_2;
    let peer = &client.peer;
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
    if is_http2 {
        response.headers_mut().remove(CONNECTION); // there is none to close for one request
    } else if is_unread || host.stop.is_begun() {
        // What is left of a body is not read, so the next request cannot be found.
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
