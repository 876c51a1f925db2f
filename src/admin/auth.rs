//! Who may use the admin API.

use super::{Office, problem::Problem};
use crate::{
    BuildError, Charge, Identity, KeyHash, Mistake, Op, Place, Quota, RequestHead,
    clock::Timeline,
    event::{AdminAct, Event},
    identity::{ClientLabel, Networks, client_address},
    response::whole_seconds,
    store::{Asked, Memory},
};
use axum::{
    extract::{Request, State},
    http::{HeaderName, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{fmt, net::IpAddr, sync::Arc};
use subtle::ConstantTimeEq;
use tokio::runtime::Handle;

/// The header that an admin's key comes in.
pub(super) static ADMIN_KEY: HeaderName = HeaderName::from_static("x-admin-key");

/// So many wrong keys are heard from one address.
const GUESSES: Quota = Quota::per_minute(10);
/// So many bytes for the addresses that guess: 8,000 of them at a time.
const TABLE_BYTES: usize = 256 << 10;

pub(super) struct Auth {
    keys: Vec<KeyHash>,
    networks: Networks,
    open_on_loopback: bool,
    guesses: Memory,
    guess: Charge,
}

/// What is set about it.
#[derive(Clone, Default)]
pub(super) struct AuthSettings {
    pub(super) keys: Vec<KeyHash>,
    pub(super) networks: Vec<String>,
    pub(super) open_on_loopback: bool,
    pub(super) mistakes: Vec<Mistake>,
}

/// Who is admitted, as audit events name it.
#[derive(Debug, Clone)]
pub(super) struct Actor {
    /// The first digits of its key's hash.
    pub(super) name: String,
    pub(super) from: Option<ClientLabel>,
}

impl Auth {
    pub(super) fn new(settings: AuthSettings, timeline: Timeline) -> Result<Self, BuildError> {
        let mut mistakes = settings.mistakes;
        let networks = Networks::compile(&settings.networks, "networks of admins", &mut mistakes);
        let mut mistake = |reason: String| mistakes.push(Mistake::Setting { setting: "Admin", reason });
        if settings.keys.is_empty() && !settings.open_on_loopback {
            mistake("nobody could use it; set a key, with `.key(..)` or `.key_hash(..)`".to_owned());
        }
        let guesses = Memory::new(timeline, TABLE_BYTES, 0)
            .map_err(|error| mistake(format!("there is no memory to count guesses in ({error})")));
        let rate = GUESSES.rate().map_err(|error| mistake(error.to_string()));
        let (Ok(guesses), Ok(rate), true) = (guesses, rate, mistakes.is_empty()) else {
            return Err(BuildError::new(mistakes));
        };
        let place = Place::Client(crate::Key::new(0, 0));
        let guess = Charge { place, limit: 0, rate, max_debt: 0, op: Op::Take(1), shadow: false };
        Ok(Self {
            keys: settings.keys,
            networks,
            open_on_loopback: settings.open_on_loopback,
            guesses,
            guess,
        })
    }
}

impl Office {
    /// Whoever sends a request, if it may.
    pub(super) fn admit(&self, head: RequestHead<'_>) -> Result<Actor, Problem> {
        let inner = self.limiter.now();
        let address = client_address(&head, inner.policy.proxies.as_ref())?;
        let identity = address.map_or(Identity::anonymous(), Identity::address);
        let from = identity.label(identity.key(&inner.keys));
        self.check(head, address).map(|name| Actor { name, from: Some(from) }).inspect_err(|problem| {
            let (status, reason) = (problem.status().as_u16(), problem.detail());
            let act = AdminAct {
                actor: "nobody",
                from: Some(from),
                plain: inner.plain_addresses,
                ..AdminAct::NONE
            };
            inner.emit(&Event::AdminRefused { act: &act, status, reason });
        })
    }

    fn check(&self, head: RequestHead<'_>, address: Option<IpAddr>) -> Result<String, Problem> {
        let auth = &self.auth;
        let forbidden = |detail: &str| Err(Problem::new(StatusCode::FORBIDDEN, detail));
        if !auth.networks.is_empty() && !address.is_some_and(|address| auth.networks.contains(address)) {
            return forbidden("this address may not use the admin API");
        }
        let mut lines = head.headers().get_all(&ADMIN_KEY).iter();
        let (line, more) = (lines.next(), lines.next());
        if line.is_none() && auth.open_on_loopback {
            return match address {
                Some(address) if address.is_loopback() && is_local(head) => Ok("open".to_owned()),
                _ => forbidden("without a key, the admin API is for this machine only"),
            };
        }
        let Some(line) = line.filter(|_| more.is_none()) else {
            return Err(unauthorized("a key is required; send it once, in X-Admin-Key"));
        };
        // Nobody learns by asking often whether a key is right.
        self.guess(address, Op::Peek(1))?;
        let hash = KeyHash::of(line.as_bytes());
        // All of them, so that the time does not tell which one it was.
        let known = auth
            .keys
            .iter()
            .fold(subtle::Choice::from(0), |known, key| known | key.to_bytes().ct_eq(&hash.to_bytes()));
        if !bool::from(known) {
            self.guess(address, Op::Take(1))?;
            return Err(unauthorized("the key in X-Admin-Key is not accepted"));
        }
        Ok(format!("key#{:.8}", hash.to_string()))
    }

    /// Counts a guess, or asks whether one more would be heard.
    fn guess(&self, address: Option<IpAddr>, op: Op) -> Result<(), Problem> {
        let identity = address.map_or(Identity::anonymous(), Identity::address);
        let place = Place::Client(identity.key(&self.limiter.inner.keys));
        let mut asked = [Asked::new(0, Charge { place, op, ..self.auth.guess })];
        self.auth.guesses.charge(&mut asked);
        match asked[0].reading.retry_after() {
            None => Ok(()),
            Some(wait) => {
                let problem =
                    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many wrong keys came from this address");
                Err(problem.with(header::RETRY_AFTER, whole_seconds(wait).max(1).into()))
            }
        }
    }
}

fn unauthorized(detail: &str) -> Problem {
    let problem = Problem::new(StatusCode::UNAUTHORIZED, detail);
    problem.with(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("X-Admin-Key"))
}

/// Whether a request was really sent from this machine and meant for it: neither passed on by a proxy nor made by a page
/// that a browser shows.
fn is_local(head: RequestHead<'_>) -> bool {
    let headers = head.headers();
    let passed_on = headers.keys().any(|name| {
        let name = name.as_str();
        name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "via" | "x-real-ip" | "origin")
    });
    let by_page = headers.get("sec-fetch-site").is_some_and(|site| site != "none");
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| head.uri().authority().map(|authority| authority.as_str()));
    let host = host.and_then(|host| host.parse::<axum::http::uri::Authority>().ok());
    !passed_on
        && !by_page
        && host.is_some_and(|host| matches!(host.host(), "localhost" | "127.0.0.1" | "[::1]"))
}

/// Lets those through who may.
pub(super) async fn guard(State(office): State<Arc<Office>>, mut request: Request, next: Next) -> Response {
    match office.admit(RequestHead::new(&request)) {
        Ok(actor) => {
            request.extensions_mut().insert(actor);
            to_its_end(!request.method().is_safe(), next.run(request)).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Makes a change to its end, and tells of it, also when the admin has gone away meanwhile: what was begun may have been
/// done.
async fn to_its_end(changes: bool, answer: impl Future<Output = Response> + Send + 'static) -> Response {
    let Some(runtime) = Handle::try_current().ok().filter(|_| changes) else { return answer.await };
    match runtime.spawn(answer).await {
        Ok(answer) => answer,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is going down").into_response(),
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}
