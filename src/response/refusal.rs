//! The answer to a refused request.

use super::{HeaderStyle, number, text::Text, whole_seconds, write};
use crate::{
    LimitStatus, Rejection, RequestHead,
    status::{Words, retry_after},
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
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
    /// The client is on a block list: 403.
    Blocked,
    /// The request does not say who is asking, or says it wrongly: 401 for a credential, 400 for an address or header.
    Unidentified(Rejection),
    /// The request says a cost that is malformed or not accepted: 400.
    BadCost {
        /// What is wrong and what is accepted, without a full stop.
        detail: String,
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
        let retry_after = match reason {
            Reason::Limited => retry_after(limits.iter().copied()),
            Reason::StoreDown { retry_after } => Some(retry_after),
            _ => None,
        };
        let mut refusal = Self { reason, limits, policies, retry_after, retry_after_secs: None };
        refusal.retry_after_secs = retry_after.map(|wait| {
            let units = refusal.violated().filter_map(|status| status.reading.next_after(status.rate));
            whole_seconds(units.fold(wait, Duration::max)).max(1)
        });
        refusal
    }

    /// Why the request is refused.
    pub const fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The status that the default answer has.
    pub const fn status(&self) -> StatusCode {
        match self.reason {
            Reason::Limited => StatusCode::TOO_MANY_REQUESTS,
            Reason::Blocked => StatusCode::FORBIDDEN,
            Reason::Unidentified(rejection) => rejection.status(),
            Reason::BadCost { .. } => StatusCode::BAD_REQUEST,
            Reason::StoreDown { .. } => StatusCode::SERVICE_UNAVAILABLE,
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

    /// How long until the request can be admitted, if nothing else is charged: the longest wait of the violated
    /// limits. Nothing where waiting does not help.
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
        write(style, refusal.limits, refusal.policies, now, response.headers_mut());
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
            Reason::StoreDown { .. } => (
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
            for (number, status) in refusal.violated().enumerate() {
                body.ours(if number == 0 { "" } else { "," });
                body.ours(&status.words.quoted);
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
            Reason::Unidentified(rejection) => out.theirs(&format!("{rejection}.")),
            Reason::BadCost { detail } => out.theirs(&format!("{detail}.")),
            Reason::StoreDown { .. } => out.ours("Requests cannot be counted at the moment."),
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
    out.ours(if before.is_empty() { "." } else { ")." });
}

/// A body or a message that is being put together, as it is or as the inside of a string of JSON.
struct Prose {
    text: Text<512>,
    json: bool,
}

impl Prose {
    const fn new(json: bool) -> Self {
        Self { text: Text::new(), json }
    }

    /// Text in which JSON has nothing to escape.
    #[inline]
    fn ours(&mut self, text: &str) {
        self.text.push(text.as_bytes());
    }

    /// Text in which anything may stand.
    fn theirs(&mut self, text: &str) {
        if !self.json {
            return self.ours(text);
        }
        // A string is always one of JSON.
        let quoted = serde_json::to_string(text).unwrap_or_default();
        self.ours(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
    }

    fn name(&mut self, words: &Words) {
        self.ours(if self.json { words.escaped() } else { &words.name });
    }

    fn number(&mut self, number: u64) {
        self.text.push_number(number);
    }
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
    write(style, refusal.limits, refusal.policies, now, &mut missing);
    refusal.tell(&mut missing);
    for (name, value) in &missing {
        if !response.headers().contains_key(name) {
            let _ = response.headers_mut().try_insert(name, value.clone());
        }
    }
    response
}

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
static GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// What `grpc-message` escapes besides bytes that are not ASCII (gRPC over HTTP/2, "Percent-Encoded").
const GRPC_MESSAGE_ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

const GRPC_TYPES: [&str; 5] = [
    "application/grpc",
    "application/grpc-web",
    "application/grpc-web+proto",
    "application/grpc-web-text",
    "application/grpc-web-text+proto",
];

/// The content type of the answer, where the request is gRPC.
///
/// A type is answered with one of ours, not with the client's own text, which can be of any size.
///
/// Only a POST can be gRPC. Any other request with such a type would make its refusal a 200 for whoever goes by the status.
fn grpc_type(head: RequestHead<'_>) -> Option<&'static str> {
    if head.method() != Method::POST {
        return None;
    }
    let text = head.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    let text = text.split(';').next()?.trim_ascii();
    let base = text.split('+').next()?;
    let known = |text: &str| GRPC_TYPES.into_iter().find(|known| known.eq_ignore_ascii_case(text));
    known(text).or_else(|| known(base))
}

/// The gRPC status code beside an HTTP status.
const fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 3,
        401 => 16,
        403 => 7,
        429 => 8,
        503 => 14,
        _ => 2,
    }
}
