//! The answer to a refused request.

use super::{
    HeaderStyle,
    grpc::{GRPC_MESSAGE, GRPC_MESSAGE_ESCAPED, GRPC_PUSHBACK, GRPC_STATUS, grpc_status, grpc_type},
    number,
    prose::Prose,
    whole_seconds, write,
};
use crate::{LimitStatus, PermitStatus, Rejection, RequestHead, status::retry_after};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use percent_encoding::percent_encode;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Why a request is refused, and when it may come again.
#[derive(Debug, Clone)]
pub struct Refusal<'a> {
    reason: Reason,
    limits: &'a [LimitStatus<'a>],
    permits: &'a [PermitStatus<'a>],
    /// What `RateLimit-Policy` says of them, where that was made beforehand.
    policies: Option<&'a HeaderValue>,
    retry_after: Option<Duration>,
    retry_after_secs: Option<u64>,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A limit does not admit it: 429.
    Limited,
    /// There is no room left to count what runs at once, or who waits: 503.
    NoRoom,
    /// The client is on a block list: 403.
    Blocked,
    /// The client is banned, because it was refused too often or by hand: 403.
    Banned {
        /// How long yet.
        retry_after: Duration,
    },
    /// The request does not say who is asking, or says it wrongly: 401 for a credential, 400 for an address or header.
    Unidentified(Rejection),
    /// The client may not use the resource that the request is for: 403.
    ResourceNotAllowed {
        /// The resource.
        resource: String,
    },
    /// The request brings limits along that are malformed or too high: 400.
    BadOverride {
        /// What is wrong and what is accepted, without a full stop.
        detail: String,
    },
    /// The request brings limits along, which its client may not: 403.
    OverrideNotAllowed,
    /// The request says a cost that is malformed or not accepted: 400.
    BadCost {
        /// What is wrong and what is accepted, without a full stop.
        detail: String,
    },
    /// What the request needs from elsewhere cannot be had at the moment: 503.
    Overloaded {
        /// When it is worth another try.
        retry_after: Duration,
    },
    /// The store cannot be reached and the policy is to refuse then: 503.
    StoreDown {
        /// When the store will be tried again.
        retry_after: Duration,
    },
}

impl<'a> Refusal<'a> {
    pub(crate) fn new(
        reason: Reason,
        limits: &'a [LimitStatus<'a>],
        policies: Option<&'a HeaderValue>,
    ) -> Self {
        let mut refusal =
            Self { reason, limits, permits: &[], policies, retry_after: None, retry_after_secs: None };
        refusal.reckon();
        refusal
    }

    /// With what limits on concurrency said.
    pub(crate) fn and(mut self, permits: &'a [PermitStatus<'a>]) -> Self {
        self.permits = permits;
        self.reckon();
        self
    }

    /// Finds out when the request may come again.
    fn reckon(&mut self) {
        self.retry_after = match self.reason {
            Reason::Limited => retry_after(self.limits.iter().copied(), self.permits.iter().copied()),
            Reason::StoreDown { retry_after }
            | Reason::Overloaded { retry_after }
            | Reason::Banned { retry_after } => Some(retry_after),
            Reason::NoRoom => Some(NO_ROOM_RETRY),
            _ => None,
        };
        self.retry_after_secs = self.retry_after.map(|wait| {
            let units = self.violated().filter_map(|status| status.reading.next_after(status.rate));
            whole_seconds(units.fold(wait, Duration::max)).max(1)
        });
    }

    /// Why the request is refused.
    pub const fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The status that the default answer has.
    pub const fn status(&self) -> StatusCode {
        match self.reason {
            Reason::Limited => StatusCode::TOO_MANY_REQUESTS,
            Reason::Blocked
            | Reason::Banned { .. }
            | Reason::ResourceNotAllowed { .. }
            | Reason::OverrideNotAllowed => StatusCode::FORBIDDEN,
            Reason::Unidentified(rejection) => rejection.status(),
            Reason::BadCost { .. } | Reason::BadOverride { .. } => StatusCode::BAD_REQUEST,
            Reason::StoreDown { .. } | Reason::Overloaded { .. } | Reason::NoRoom => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// Every limit that was asked, those that would have admitted the request and those that only watch among them.
    pub const fn limits(&self) -> &'a [LimitStatus<'a>] {
        self.limits
    }

    /// The limits that refuse.
    pub fn violated(&self) -> impl Iterator<Item = &'a LimitStatus<'a>> + use<'a> {
        self.limits.iter().filter(|status| status.refuses())
    }

    /// Every limit on concurrency that was asked.
    pub const fn permits(&self) -> &'a [PermitStatus<'a>] {
        self.permits
    }

    /// The limits on concurrency that refuse.
    pub fn violated_permits(&self) -> impl Iterator<Item = &'a PermitStatus<'a>> + use<'a> {
        self.permits.iter().filter(|status| status.refuses())
    }

    /// How long until the request can be admitted, if nothing else is charged: the longest wait of the violated
    /// limits, and a second where a limit on concurrency refuses. Nothing where waiting does not help.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The same in whole seconds, as `Retry-After` has it (RFC 9110): rounded up, at least 1, and never before
    /// the violated limits have one more unit.
    pub const fn retry_after_secs(&self) -> Option<u64> {
        self.retry_after_secs
    }

    /// Adds the fields that any answer over HTTP has, whatever its status: a refusal is about this client at this moment,
    /// so no cache may give it to another.
    fn tell(&self, headers: &mut HeaderMap) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(secs) = self.retry_after_secs {
            headers.insert(RETRY_AFTER, number(secs));
        }
        if let Reason::Unidentified(rejection) = self.reason {
            if let Some(challenge) = rejection.challenge() {
                headers.insert(WWW_AUTHENTICATE, challenge);
            }
        }
    }

    fn is_never(&self) -> bool {
        self.violated().any(|status| status.reading.is_never())
    }
}

/// Why a request is refused for which there is no room, for people and logs.
pub(crate) const NO_ROOM: &str =
    "no room is left to count what runs at once; raise the limiter's `max_in_flight` or `max_waiting`";

/// When there may be room again.
const NO_ROOM_RETRY: Duration = Duration::from_secs(1);

/// So many fields a refusal has at most, or nearly. A map for more is too large for the allocator's quick lists.
const FIELDS: usize = 6;

/// A user's own answer.
pub(crate) type Custom = Arc<dyn Fn(&Refusal<'_>, RequestHead<'_>) -> Response<Bytes> + Send + Sync>;

/// How refused requests are answered.
#[derive(Clone, Default)]
pub(crate) struct RefusalStyle {
    /// The operator's own words, which follow ours.
    pub(crate) text: Option<String>,
    /// Where the operator explains the limits.
    pub(crate) link: Option<String>,
    pub(crate) custom: Option<Custom>,
}

impl RefusalStyle {
    /// The answer to a request; to HEAD, without its body.
    pub(crate) fn respond(
        &self,
        refusal: &Refusal<'_>,
        head: RequestHead<'_>,
        style: HeaderStyle,
        now: impl FnOnce() -> SystemTime,
    ) -> Response<Bytes> {
        let mut response = self.answer(refusal, head, style, now);
        // Over HTTP/2 hyper leaves this to the service.
        if head.method() == Method::HEAD && !response.body().is_empty() {
            let length = std::mem::take(response.body_mut()).len() as u64;
            let _ = response.headers_mut().try_insert(CONTENT_LENGTH, number(length));
        }
        response
    }

    /// A gRPC client understands nothing but gRPC, so it gets that even where there is a custom answer.
    fn answer(
        &self,
        refusal: &Refusal<'_>,
        head: RequestHead<'_>,
        style: HeaderStyle,
        now: impl FnOnce() -> SystemTime,
    ) -> Response<Bytes> {
        let mut response = match (grpc_type(head), &self.custom) {
            (Some(content_type), _) => self.grpc(refusal, content_type),
            (None, Some(custom)) => return complete(custom(refusal, head), refusal, style, now),
            (None, None) => self.problem(refusal),
        };
        write(style, refusal.limits, refusal.permits, refusal.policies, now, response.headers_mut());
        response
    }

    /// Problem details for HTTP (RFC 9457).
    fn problem(&self, refusal: &Refusal<'_>) -> Response<Bytes> {
        let mut headers = HeaderMap::with_capacity(FIELDS);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        refusal.tell(&mut headers);
        let mut response = Response::new(self.problem_body(refusal));
        *response.status_mut() = refusal.status();
        *response.headers_mut() = headers;
        response
    }

    /// Written by hand because a refusal must stay cheap.
    fn problem_body(&self, refusal: &Refusal<'_>) -> Bytes {
        let status = refusal.status();
        let (kind, title) = match refusal.reason {
            Reason::Limited => {
                ("https://iana.org/assignments/http-problem-types#quota-exceeded", "Quota exceeded")
            }
            Reason::StoreDown { .. } | Reason::Overloaded { .. } | Reason::NoRoom => (
                "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
                "Temporarily reduced capacity",
            ),
            _ => ("about:blank", status.canonical_reason().unwrap_or("Refused")),
        };
        let mut body = Prose::new(true);
        body.ours("{\"type\":\"");
        body.ours(kind);
        body.ours("\",\"title\":\"");
        body.ours(title);
        body.ours("\",\"status\":");
        body.number(status.as_u16().into());
        body.ours(",\"detail\":\"");
        self.detail(refusal, &mut body);
        body.ours("\"");
        if refusal.reason == Reason::Limited {
            body.ours(",\"violated-policies\":[");
            let limits = refusal.violated().map(|status| status.words.quoted.as_str());
            let names = limits.chain(refusal.violated_permits().map(|permit| permit.quoted));
            for (number, quoted) in names.enumerate() {
                body.ours(if number == 0 { "" } else { "," });
                body.ours(quoted);
            }
            body.ours("]");
        }
        if let Some(secs) = refusal.retry_after_secs {
            body.ours(",\"retry-after\":");
            body.number(secs);
        }
        if let Some(link) = &self.link {
            body.ours(",\"help\":\"");
            body.theirs(link);
            body.ours("\"");
        }
        body.ours("}");
        Bytes::copy_from_slice(body.text.as_bytes())
    }

    /// An answer of trailers only: the gRPC status, and nothing that a gRPC client does not read.
    fn grpc(&self, refusal: &Refusal<'_>, content_type: &'static str) -> Response<Bytes> {
        let mut headers = HeaderMap::with_capacity(FIELDS);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(&GRPC_STATUS, grpc_status(refusal.status()).into());
        let mut message = Prose::new(false);
        self.detail(refusal, &mut message);
        if let Ok(message) =
            percent_encode(message.text.as_bytes(), GRPC_MESSAGE_ESCAPED).to_string().try_into()
        {
            headers.insert(&GRPC_MESSAGE, message);
        }
        if let Some(wait) = refusal.retry_after() {
            let millis = wait.as_nanos().div_ceil(1_000_000);
            headers.insert(&GRPC_PUSHBACK, number(u64::try_from(millis).unwrap_or(u64::MAX)));
        } else if refusal.is_never() {
            // A negative pushback tells the client not to retry at all (gRFC A6).
            headers.insert(&GRPC_PUSHBACK, HeaderValue::from_static("-1"));
        }
        let mut response = Response::new(Bytes::new());
        *response.headers_mut() = headers;
        response
    }

    /// A sentence for people: what refused, when to come back, and the operator's own words.
    fn detail(&self, refusal: &Refusal<'_>, out: &mut Prose) {
        match &refusal.reason {
            Reason::Limited => limited(refusal, out),
            Reason::Blocked => out.ours("This client is blocked."),
            Reason::Banned { .. } => out.ours("This client is banned."),
            Reason::Unidentified(rejection) => out.theirs(&format!("{rejection}.")),
            Reason::NoRoom => out.ours("Too many requests are running at the moment."),
            Reason::BadCost { detail } | Reason::BadOverride { detail } => out.theirs(&format!("{detail}.")),
            Reason::ResourceNotAllowed { resource } => {
                out.theirs(&format!("This client may not use {resource:?}."));
            }
            Reason::OverrideNotAllowed => out.ours("This client may not override its limits."),
            Reason::StoreDown { .. } => out.ours("Requests cannot be counted at the moment."),
            Reason::Overloaded { .. } => out.ours("What this request needs is not to be had at the moment."),
        }
        if let Some(secs) = refusal.retry_after_secs {
            out.ours(" Try again in ");
            out.number(secs);
            out.ours(if secs == 1 { " second." } else { " seconds." });
        }
        if let Some(text) = &self.text {
            out.ours(" ");
            out.theirs(text);
        }
        // No full stop, which would become part of the link.
        if let Some(link) = &self.link {
            out.ours(" See ");
            out.theirs(link);
        }
    }
}

fn limited(refusal: &Refusal<'_>, out: &mut Prose) {
    let never = refusal.is_never();
    out.ours(if never { "The request costs more than a limit ever admits: " } else { "Limit exceeded: " });
    let mut before = "";
    for status in refusal.violated().filter(|status| status.reading.is_never() == never) {
        out.ours(before);
        out.name(status.words);
        out.ours(" (");
        match status.told() {
            Some(words) => out.ours(&words.quota),
            None => out.ours(&status.quota().to_string()),
        }
        before = "), ";
    }
    for permit in refusal.violated_permits() {
        out.ours(before);
        out.ours(if out.json { permit.escaped() } else { permit.limit });
        out.ours(" (");
        out.number(permit.max.into());
        out.ours(" at once");
        before = "), ";
    }
    out.ours(if before.is_empty() { "." } else { ")." });
}

impl fmt::Debug for RefusalStyle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusalStyle")
            .field("text", &self.text)
            .field("link", &self.link)
            .field("custom", &self.custom.is_some())
            .finish()
    }
}

/// Adds what a custom answer does not say itself.
fn complete(
    mut response: Response<Bytes>,
    refusal: &Refusal<'_>,
    style: HeaderStyle,
    now: impl FnOnce() -> SystemTime,
) -> Response<Bytes> {
    let mut missing = HeaderMap::new();
    write(style, refusal.limits, refusal.permits, refusal.policies, now, &mut missing);
    refusal.tell(&mut missing);
    for (name, value) in &missing {
        if !response.headers().contains_key(name) {
            let _ = response.headers_mut().try_insert(name, value.clone());
        }
    }
    response
}
