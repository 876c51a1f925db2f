//! Answers of our own to requests that are not forwarded, or whose upstream has none.

use crate::answer::AnswerBody;
use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};

/// Why a request gets no answer from an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The request is none that can be forwarded without being misread; the text says why, and how to mend it.
    Malformed(&'static str),
    BodyTooLarge,
    BodyTooSlow,
    /// A method that we do not forward.
    Method,
    /// The request came through here before.
    Loop,
    /// Nobody who is known and may come asks.
    UnknownClient,
    /// It cannot be told who asks.
    NoRegistry,
    /// The upstream cannot be connected to.
    Unreachable,
    /// The upstream closed the connection before its answer.
    Closed,
    /// The upstream's answer is no HTTP, or none that can be forwarded.
    BadAnswer,
    /// The upstream was too slow.
    TooSlow,
    /// No upstream is for the request's host and path.
    NoUpstream,
    /// The upstream does not answer when it is asked how it is.
    Unhealthy,
    /// The upstream asked this client to wait, with this status, and for so many seconds more.
    Paused(StatusCode, u64),
    /// The upstream has all the connections that it may have.
    Busy,
}

impl Problem {
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Method => StatusCode::NOT_IMPLEMENTED,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::UnknownClient => StatusCode::UNAUTHORIZED,
            Self::Unreachable | Self::Closed | Self::BadAnswer => StatusCode::BAD_GATEWAY,
            Self::TooSlow => StatusCode::GATEWAY_TIMEOUT,
            Self::NoUpstream => StatusCode::NOT_FOUND,
            Self::Paused(status, _) => status,
            Self::Busy | Self::Unhealthy | Self::NoRegistry => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What happened, in words that tell nothing of the network behind us.
    pub(crate) const fn detail(self) -> &'static str {
        match self {
            Self::Malformed(why) => why,
            Self::BodyTooLarge => "The request's body is larger than is accepted here.",
            Self::BodyTooSlow => "The request's body did not come in time.",
            Self::Method => "CONNECT and TRACE are not forwarded.",
            Self::Loop => "The request came through this proxy before.",
            Self::UnknownClient => {
                "Only registered clients get through here; send a key that was issued for one."
            }
            Self::NoRegistry => "It cannot be told at the moment who asks; try again later.",
            Self::Unreachable => "The server behind this proxy cannot be reached.",
            Self::Closed => "The server behind this proxy closed the connection without an answer.",
            Self::BadAnswer => "The server behind this proxy answered with what cannot be forwarded.",
            Self::TooSlow => "The server behind this proxy did not answer in time.",
            Self::NoUpstream => "Nothing is set up for this host and path.",
            Self::Paused(..) => "The server behind this proxy has asked you to wait.",
            Self::Unhealthy => "The server behind this proxy is not well at the moment.",
            Self::Busy => "The server behind this proxy has all the connections that it may have.",
        }
    }

    /// Whether what follows on the connection is not worth reading: whoever sends this may mean it to be misread.
    const fn ends_connection(self) -> bool {
        matches!(self, Self::Malformed(_) | Self::BodyTooLarge | Self::BodyTooSlow | Self::Method)
    }

    /// The answer to a request, problem details (RFC 9457); to HEAD, without its body.
    pub(crate) fn answer(self, method: &Method) -> Response<AnswerBody> {
        let status = self.status();
        let title = status.canonical_reason().unwrap_or("Problem");
        // Nothing in here needs escapes.
        let body = format!(
            "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{},\"detail\":\"{}\"}}",
            status.as_u16(),
            self.detail()
        );
        let length = HeaderValue::from(body.len());
        let body = if method == Method::HEAD { Bytes::new() } else { body.into() };
        let mut response = Response::new(AnswerBody::of(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CONTENT_LENGTH, length);
        if self.ends_connection() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        match self {
            Self::UnknownClient => drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            Self::Busy | Self::Unhealthy | Self::NoRegistry => {
                drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("1")))
            }
            Self::Paused(_, secs) => drop(headers.insert(RETRY_AFTER, secs.into())),
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_need_no_escapes() {
        use Problem::*;
        let all = [
            BodyTooLarge,
            BodyTooSlow,
            Method,
            Loop,
            Unreachable,
            Closed,
            BadAnswer,
            TooSlow,
            Busy,
            NoUpstream,
            Unhealthy,
            UnknownClient,
            NoRegistry,
        ];
        for problem in all {
            assert!(!problem.detail().contains(['"', '\\']), "{problem:?}");
        }
    }
}
