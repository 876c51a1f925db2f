//! What gRPC clients understand.

use crate::RequestHead;
use http::{HeaderName, Method, StatusCode, header::CONTENT_TYPE};
use percent_encoding::{AsciiSet, CONTROLS};

pub(super) static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(super) static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
pub(super) static GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// What `grpc-message` escapes besides bytes that are not ASCII (gRPC over HTTP/2, "Percent-Encoded").
pub(super) const GRPC_MESSAGE_ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

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
pub(super) fn grpc_type(head: RequestHead<'_>) -> Option<&'static str> {
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
pub(super) const fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 3,
        401 => 16,
        403 => 7,
        429 => 8,
        503 => 14,
        _ => 2,
    }
}
