//! How a refusal is written: as problem details, as gRPC, or in a user's own way.

use super::{
    HeaderStyle, Reason, Refusal,
    grpc::{GRPC_MESSAGE, GRPC_MESSAGE_ESCAPED, GRPC_PUSHBACK, GRPC_STATUS, grpc_status, grpc_type},
    number,
    prose::Prose,
    write,
};
use crate::RequestHead;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response,
    header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE},
};
use percent_encoding::percent_encode;
use std::{fmt, sync::Arc, time::SystemTime};

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
