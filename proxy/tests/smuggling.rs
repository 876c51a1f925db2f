//! Requests that two servers could read differently. For each, what the upstream sees is known to the byte.
//!
//! Behind each stands a sound request to `/end`. It has to reach the upstream by itself or not at all: were it taken for
//! part of the one before, or part of that one for a request, this would show.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Proxy, Upstream};

/// What we add to a head.
const OURS: &str =
    "x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: a\r\nvia: 1.1 tide\r\n";
const END: &str = "GET /end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// What the upstream sees.
#[derive(Debug, Clone, Copy)]
enum Sees {
    /// These requests, written as what they have before our fields and after them, and then that to `/end`.
    Both(&'static [(&'static str, &'static str)]),
    /// The same without that to `/end`, because the connection is closed behind them.
    Only(&'static [(&'static str, &'static str)]),
    /// No more than this much of a request, whose body breaks off; the answer is 400.
    Part(&'static str, &'static str),
    /// Nothing; the answer has this status.
    Nothing(u16),
}
use Sees::{Both, Nothing, Only, Part};

const POST_ABC: &[(&str, &str)] = &[("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n", "\r\nabc")];
const POST_CHUNKED: &[(&str, &str)] =
    &[("POST / HTTP/1.1\r\nhost: a\r\n", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")];
const GET: &[(&str, &str)] = &[("GET / HTTP/1.1\r\nhost: a\r\n", "\r\n")];

const CASES: &[(&str, &str, Sees)] = &[
    // Sound ones, to know that the others fail for their reasons.
    ("a length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", Both(POST_ABC)),
    (
        "chunks",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Both(POST_CHUNKED),
    ),
    ("no body", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", Both(GET)),
    // Length against chunks.
    (
        "CL.TE",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        Only(&[("POST / HTTP/1.1\r\nhost: a\r\n", "transfer-encoding: chunked\r\n\r\n0\r\n\r\n")]),
    ),
    (
        "TE.CL",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Only(POST_CHUNKED),
    ),
    (
        "TE.CL with a request inside",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n20\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n",
        Only(&[(
            "POST / HTTP/1.1\r\nhost: a\r\n",
            "transfer-encoding: chunked\r\n\r\n20\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n",
        )]),
    ),
    (
        "GET with both",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Only(&[("GET / HTTP/1.1\r\nhost: a\r\n", "transfer-encoding: chunked\r\n\r\n0\r\n\r\n")]),
    ),
    // Lengths.
    (
        "two lengths that differ",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        Nothing(400),
    ),
    (
        "two lengths that agree",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        Both(POST_ABC),
    ),
    ("a list of lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc", Nothing(400)),
    (
        "a list of other lengths",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 4\r\n\r\nabc",
        Nothing(400),
    ),
    ("a length with a sign", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", Nothing(400)),
    ("a negative length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc", Nothing(400)),
    ("a length in hex", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc", Nothing(400)),
    ("a length with a space", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3 0\r\n\r\nabc", Nothing(400)),
    ("a length with a point", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3.0\r\n\r\nabc", Nothing(400)),
    (
        "a length with an underscore",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\nabc",
        Nothing(400),
    ),
    ("an empty length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nabc", Nothing(400)),
    (
        "a length beyond numbers",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nabc",
        Nothing(400),
    ),
    (
        "a length that wraps to 3",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551619\r\n\r\nabc",
        Nothing(400),
    ),
    (
        "a length with zeros before",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\nabc",
        Both(POST_ABC),
    ),
    ("a length behind a tab", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\t3\r\n\r\nabc", Both(POST_ABC)),
    (
        "a length before a space",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3 \r\n\r\nabc",
        Both(POST_ABC),
    ),
    (
        "a length behind a form feed",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \x0c3\r\n\r\nabc",
        Nothing(400),
    ),
    ("a length in capitals", "POST / HTTP/1.1\r\nHost: a\r\nCONTENT-LENGTH: 3\r\n\r\nabc", Both(POST_ABC)),
    (
        "a length with an underscore in its name",
        "POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\nContent-Length: 3\r\n\r\nabc",
        Both(POST_ABC),
    ),
    // Codings.
    (
        "another coding before",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    (
        "another coding behind",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    (
        "another coding alone",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    (
        "identity",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc",
        Nothing(400),
    ),
    (
        "chunked twice in a list",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    (
        "chunked twice in lines",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    (
        "chunked and identity in lines",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    (
        "a misspelt coding",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    (
        "a coding with a parameter",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;a=b\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    (
        "a coding in quotes",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    (
        "a coding behind a vertical tab",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    (
        "a coding in capitals",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Both(POST_CHUNKED),
    ),
    (
        "an empty coding",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\nContent-Length: 3\r\n\r\nabc",
        Nothing(400),
    ),
    (
        "a coding with a comma before",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    (
        "a coding's name before a space",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    (
        "a coding's name with an underscore",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
        Both(POST_ABC),
    ),
    (
        "chunks to HTTP/1.0",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    // Chunks.
    (
        "a chunk's extension",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n",
        Both(POST_CHUNKED),
    ),
    (
        "a chunk's extension in quotes",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\"b;c\"\r\nabc\r\n0;d\r\n\r\n",
        Both(POST_CHUNKED),
    ),
    (
        "a chunk's extension with a bare LF",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    (
        "a chunk's extension with a bare CR",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a\rb\r\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    (
        "a chunk's size before a bare LF",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    (
        "a chunk's size in hex with 0x",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    (
        "a chunk's size with a sign",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    (
        "a chunk's size with an underscore",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0_3\r\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    (
        "a chunk's size beyond numbers",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    (
        "a chunk without a size",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    (
        "a chunk longer than its size",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
        Part("POST / HTTP/1.1\r\nhost: a\r\n", "transfer-encoding: chunked\r\n\r\n2\r\nab\r\n"),
    ),
    (
        "a chunk that ends with a bare LF",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n",
        Part("POST / HTTP/1.1\r\nhost: a\r\n", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"),
    ),
    (
        "a trailer that frames",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 9\r\n\r\n",
        Both(POST_CHUNKED),
    ),
    (
        "a trailer that is not announced",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n",
        Both(POST_CHUNKED),
    ),
    // Lines.
    (
        "obs-fold",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Nothing(400),
    ),
    ("obs-fold behind a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\tc\r\n\r\n", Nothing(400)),
    ("a line that begins with a space", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", Nothing(400)),
    ("a bare CR in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rX-B: c\r\n\r\n", Nothing(400)),
    ("a bare CR before a line's end", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\r\n\r\n", Nothing(400)),
    ("a NUL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n", Nothing(400)),
    ("a NUL in a name", "GET / HTTP/1.1\r\nHost: a\r\nX-\0A: b\r\n\r\n", Nothing(400)),
    ("lines that end with a bare LF", "GET / HTTP/1.1\nHost: a\n\n", Both(GET)),
    (
        "one line that ends with a bare LF",
        "POST / HTTP/1.1\r\nHost: a\nContent-Length: 3\r\n\r\nabc",
        Both(POST_ABC),
    ),
    ("a line without a colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A\r\n\r\n", Nothing(400)),
    ("a line without a name", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", Nothing(400)),
    ("a name with a space", "GET / HTTP/1.1\r\nHost: a\r\nX A: b\r\n\r\n", Nothing(400)),
    ("empty lines before", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Both(GET)),
    // Request lines.
    ("two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Nothing(400)),
    ("a tab for a space", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Nothing(400)),
    ("a space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", Nothing(400)),
    ("no version", "GET /\r\nHost: a\r\n\r\n", Nothing(400)),
    ("another version", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", Nothing(400)),
    ("a version of 2 in text", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", Nothing(400)),
    ("a version in small letters", "GET / http/1.1\r\nHost: a\r\n\r\n", Nothing(400)),
    ("a CR in the target", "GET /a\rb HTTP/1.1\r\nHost: a\r\n\r\n", Nothing(400)),
    (
        "a fragment",
        "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
        Both(&[("GET /a HTTP/1.1\r\nhost: a\r\n", "\r\n")]),
    ),
    (
        "an encoded line end in the target",
        "GET /a%0d%0ab HTTP/1.1\r\nHost: a\r\n\r\n",
        Both(&[("GET /a%0d%0ab HTTP/1.1\r\nhost: a\r\n", "\r\n")]),
    ),
    (
        "dots in the target",
        "GET /a/../b//c;d?e=/../f HTTP/1.1\r\nHost: a\r\n\r\n",
        Both(&[("GET /a/../b//c;d?e=/../f HTTP/1.1\r\nhost: a\r\n", "\r\n")]),
    ),
    ("a target without a slash", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", Nothing(400)),
    ("a star to GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", Nothing(400)),
    (
        "a star to OPTIONS",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        Both(&[("OPTIONS * HTTP/1.1\r\nhost: a\r\n", "\r\n")]),
    ),
    ("CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Nothing(501)),
    ("TRACE", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", Nothing(501)),
    // Hosts.
    ("no Host", "GET / HTTP/1.1\r\n\r\n", Nothing(400)),
    ("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Nothing(400)),
    ("two Hosts that agree", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Nothing(400)),
    ("a list of Hosts", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Nothing(400)),
    ("an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", Nothing(400)),
    ("a Host with a user", "GET / HTTP/1.1\r\nHost: b@a\r\n\r\n", Nothing(400)),
    ("a Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Nothing(400)),
    ("a Host with a port that is none", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", Nothing(400)),
    ("a Host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Nothing(400)),
    ("a Host with a quote", "GET / HTTP/1.1\r\nHost: a\"b\r\n\r\n", Nothing(400)),
    ("a Host with half a bracket", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", Nothing(400)),
    ("a Host whose name ends before a space", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", Nothing(400)),
    // Absolute targets.
    ("an absolute target that agrees", "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Both(GET)),
    ("an absolute target without a path", "GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", Both(GET)),
    (
        "an absolute target with a query alone",
        "GET http://a?b HTTP/1.1\r\nHost: a\r\n\r\n",
        Both(&[("GET /?b HTTP/1.1\r\nhost: a\r\n", "\r\n")]),
    ),
    ("an absolute target that differs", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", Nothing(400)),
    ("an absolute target with another port", "GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n", Nothing(400)),
    ("an absolute target with a user", "GET http://b@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Nothing(400)),
    ("an absolute target of another scheme", "GET file://a/etc HTTP/1.1\r\nHost: a\r\n\r\n", Nothing(400)),
    ("an absolute target without Host", "GET http://a/ HTTP/1.1\r\n\r\n", Both(GET)),
    ("an absolute target in HTTP/1.0", "GET http://b/ HTTP/1.0\r\nHost: a\r\n\r\n", Nothing(400)),
    // What Connection removes.
    (
        "Connection names the length",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\nabc",
        Nothing(400),
    ),
    ("Connection names Host", "GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n", Nothing(400)),
    (
        "an upgrade to h2c",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        Both(GET),
    ),
    (
        "an upgrade to WebSocket with a body",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc",
        Both(POST_ABC),
    ),
    // Bodies where few expect them.
    (
        "GET with a length",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        Both(&[("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n", "\r\nabc")]),
    ),
    (
        "GET with chunks",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Both(&[("GET / HTTP/1.1\r\nhost: a\r\n", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")]),
    ),
    (
        "HEAD with chunks",
        "HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Both(&[(
            "HEAD / HTTP/1.1\r\nhost: a\r\n",
            "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        )]),
    ),
    (
        "a length of 0",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        Both(&[("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n", "\r\n")]),
    ),
    (
        "a body without a length",
        "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
        Both(&[("POST / HTTP/1.1\r\nhost: a\r\n", "\r\n")]),
    ),
];

fn written(requests: &[(&str, &str)]) -> String {
    requests.iter().map(|(head, body)| format!("{head}{OURS}{body}")).collect()
}

#[tokio::test]
async fn the_upstream_sees_nothing_that_was_not_sent() {
    let mut wrong = Vec::new();
    for (name, request, sees) in CASES {
        let upstream = Upstream::ok().await;
        let proxy = Proxy::open(upstream.address);
        let answers = proxy.ask(format!("{request}{END}")).await;
        proxy.stop().await;
        upstream.settled().await;
        let end = format!("GET /end HTTP/1.1\r\nhost: a\r\n{OURS}\r\n");
        let (status, expected) = match sees {
            Both(requests) => (200, written(requests) + &end),
            Only(requests) => (200, written(requests)),
            Part(head, rest) => (400, written(&[(head, rest)])),
            Nothing(status) => (*status, String::new()),
        };
        let is_status = answers.split(' ').nth(1) == Some(&status.to_string());
        let seen = upstream.seen();
        let is_seen = seen == expected || matches!(sees, Part(..)) && expected.starts_with(&seen);
        if !is_seen || !is_status {
            wrong.push(format!("{name}: {answers:?}\n  sees    {seen:?}\n  expects {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}
