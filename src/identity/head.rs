//! What a decision may look at.

use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Uri, Version, request::Parts};
use std::fmt;

/// A request without its body.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    method: &'a Method,
    uri: &'a Uri,
    version: Version,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> RequestHead<'a> {
    /// The head of `request`.
    pub fn new<B>(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }

    /// The head in `parts`, as axum's extractors have it.
    pub const fn from_parts(parts: &'a Parts) -> Self {
        let Parts { method, uri, version, headers, extensions, .. } = parts;
        Self { method, uri, version: *version, headers, extensions }
    }

    /// The method.
    pub const fn method(&self) -> &'a Method {
        self.method
    }

    /// The target, as the server received it.
    pub const fn uri(&self) -> &'a Uri {
        self.uri
    }

    /// The target's path, neither decoded nor normalised.
    pub fn path(&self) -> &'a str {
        self.uri.path()
    }

    /// The HTTP version.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The headers.
    pub const fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The first header line of that name, in any case of letters.
    pub fn header(&self, name: &str) -> Option<&'a HeaderValue> {
        self.headers.get(name)
    }

    /// What the server and outer layers attached to the request.
    pub const fn extensions(&self) -> &'a Extensions {
        self.extensions
    }
}

/// Prints method and path; query and headers may hold secrets.
impl fmt::Debug for RequestHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", self.method)
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}
