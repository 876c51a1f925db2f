//! Requests without the credentials that clients are known by.

use super::{
    credential,
    source::{Identify, Step},
};
use http::{
    HeaderMap, HeaderValue, Uri,
    header::{AUTHORIZATION, COOKIE},
    uri::PathAndQuery,
};

impl Identify {
    /// Takes all off that a source would take for a credential, sound or not.
    pub(crate) fn strip(&self, uri: &mut Uri, headers: &mut HeaderMap) {
        for step in &self.steps {
            match step {
                Step::Bearer => drop(headers.remove(AUTHORIZATION)),
                Step::ApiKeyHeader(name) => drop(headers.remove(name)),
                Step::ApiKeyQuery(name) => strip_query(uri, name),
                Step::ApiKeyCookie(name) => strip_cookie(headers, name),
                Step::Address(_) | Step::Peer(_) | Step::Header(_) | Step::Dyn(_) => {}
            }
        }
    }
}

fn strip_query(uri: &mut Uri, name: &str) {
    let Some(query) = uri.query() else { return };
    let kept: Vec<&str> =
        query.split('&').filter(|pair| !credential::is_named(pair.as_bytes(), name)).collect();
    if kept.len() == query.split('&').count() {
        return;
    }
    let target = match kept.is_empty() {
        true => uri.path().to_owned(),
        false => format!("{}?{}", uri.path(), kept.join("&")),
    };
    let mut parts = uri.clone().into_parts();
    // A part of a target is one.
    parts.path_and_query = PathAndQuery::try_from(target).ok();
    if let Ok(stripped) = Uri::from_parts(parts) {
        *uri = stripped;
    }
}

fn strip_cookie(headers: &mut HeaderMap, name: &str) {
    let is_named = |cookie: &&[u8]| {
        let end = cookie.iter().position(|byte| *byte == b'=').unwrap_or(cookie.len());
        cookie.get(..end).unwrap_or_default().trim_ascii() == name.as_bytes()
    };
    let lines: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    if !lines.iter().any(|line| line.as_bytes().split(|byte| *byte == b';').any(|cookie| is_named(&cookie))) {
        return;
    }
    headers.remove(COOKIE);
    for line in lines {
        let cookies = line.as_bytes().split(|byte| *byte == b';');
        let kept: Vec<_> = cookies.filter(|cookie| !is_named(cookie)).collect();
        let kept = kept.join(&b';');
        if let Some(kept) = Some(kept.trim_ascii()).filter(|kept| !kept.is_empty()) {
            // A part of a value is one.
            if let Ok(kept) = HeaderValue::from_bytes(kept) {
                headers.append(COOKIE, kept);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Source;

    #[test]
    fn credentials_go_and_all_else_stays() {
        let source = Source::bearer()
            .or(Source::api_key_header("x-key"))
            .or(Source::api_key_query("key"))
            .or(Source::api_key_cookie("sid"))
            .or(Source::header("x-tenant"));
        let identify = source.compile(&mut Vec::new());
        for (target, left) in [
            ("/a", "/a"),
            ("/a?b=c", "/a?b=c"),
            ("/a?key=k", "/a"),
            ("/a?b=c&key=k&d&k%65y=l", "/a?b=c&d"),
            ("http://h/a?key=k", "http://h/a"),
            ("/a?b=key&keys=1", "/a?b=key&keys=1"),
        ] {
            let (mut uri, mut headers) = (target.parse().unwrap(), HeaderMap::new());
            identify.strip(&mut uri, &mut headers);
            assert_eq!(uri.to_string(), left);
        }
        let (mut uri, mut headers) = (Uri::from_static("/"), HeaderMap::new());
        for (name, value) in [
            ("authorization", "Bearer t"),
            ("x-key", "k"),
            ("x-key", "l"),
            ("x-tenant", "t"),
            ("cookie", "a=b; sid=s; c=d"),
            ("cookie", "sid=s"),
            ("cookie", "sid2=s"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        identify.strip(&mut uri, &mut headers);
        let left: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(left, [("x-tenant", "t"), ("cookie", "a=b; c=d"), ("cookie", "sid2=s")]);
    }
}
