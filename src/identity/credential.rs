//! Credentials: absent, found or malformed.
//!
//! Two of a kind are malformed even where they are equal: another reader of the request might take the other one.

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use percent_encoding::percent_decode;
use std::borrow::Cow;

/// The credential is empty, repeated or not what it claims to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

pub(crate) type Extracted<'a> = Result<Option<Cow<'a, [u8]>>, Malformed>;

/// The token in `Authorization: Bearer` (RFC 6750, section 2.1); another scheme's credentials are absent.
pub(super) fn bearer(headers: &HeaderMap) -> Extracted<'_> {
    let Some(line) = only(headers, &header::AUTHORIZATION)? else { return Ok(None) };
    let Some((scheme, rest)) = line.split_at_checked(b"bearer".len()) else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case(b"bearer") || rest.first().is_some_and(|b| is_token_byte(*b)) {
        return Ok(None);
    }
    let token = rest.trim_ascii();
    let padding = token.iter().rev().take_while(|b| **b == b'=').count();
    let mut body = token.iter().take(token.len() - padding).peekable();
    let sound = rest.starts_with(b" ") && body.peek().is_some() && body.all(|b| is_token68_byte(*b));
    if sound { Ok(Some(Cow::Borrowed(token))) } else { Err(Malformed) }
}

/// The value of a header, as opaque bytes.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Extracted<'a> {
    Ok(line(headers, name)?.map(Cow::Borrowed))
}

/// The only line of a header, which is not empty.
#[inline]
pub(super) fn line<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Malformed> {
    match only(headers, name)? {
        Some([]) => Err(Malformed),
        line => Ok(line),
    }
}

/// The value of a query parameter, form-decoded.
pub(crate) fn query<'a>(uri: &'a Uri, name: &str) -> Extracted<'a> {
    let pairs = uri.query().unwrap_or_default().as_bytes().split(|b| *b == b'&');
    pairs
        .map(pair)
        .filter(|(key, _)| form_decode(key) == name.as_bytes())
        .try_fold(None, |seen, (_, value)| one(seen, form_decode(value)))
}

/// Whether a pair of a query has this name.
pub(super) fn is_named(text: &[u8], name: &str) -> bool {
    form_decode(pair(text).0) == name.as_bytes()
}

/// The value of a cookie, without the quotes it may stand in (RFC 6265, section 4.1.1).
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Extracted<'a> {
    let lines = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let pairs = lines.flat_map(|line| line.split(|b| *b == b';')).map(|cookie| pair(cookie.trim_ascii()));
    pairs.filter(|(key, _)| *key == name.as_bytes()).try_fold(None, |seen, (_, value)| {
        let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        one(seen, Cow::Borrowed(bare.unwrap_or(value)))
    })
}

/// The only line of a header; two are malformed.
#[inline]
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Malformed> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (_, Some(_)) => Err(Malformed),
        (line, None) => Ok(line.map(|line| line.as_bytes().trim_ascii())),
    }
}

/// `value`, where none was seen before and it is not empty.
fn one<'a>(seen: Option<Cow<'a, [u8]>>, value: Cow<'a, [u8]>) -> Extracted<'a> {
    if seen.is_some() || value.is_empty() { Err(Malformed) } else { Ok(Some(value)) }
}

/// Name and value; without `=` the value is empty.
fn pair(text: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = text.splitn(2, |b| *b == b'=');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// Undoes `application/x-www-form-urlencoded`; allocates only where something is encoded.
fn form_decode(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|b| matches!(b, b'+' | b'%')) {
        return Cow::Borrowed(text);
    }
    let spaced: Vec<u8> = text.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
    Cow::Owned(percent_decode(&spaced).collect())
}

/// What a method, scheme or cookie's name is made of (RFC 9110, section 5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What a bearer token is made of, up to its padding.
fn is_token68_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ABSENT: Result<Option<&[u8]>, Malformed> = Ok(None);
    const MALFORMED: Result<Option<&[u8]>, Malformed> = Err(Malformed);

    fn found(value: &[u8]) -> Result<Option<&[u8]>, Malformed> {
        Ok(Some(value))
    }

    fn headers(name: &'static str, lines: &[&[u8]]) -> HeaderMap {
        lines
            .iter()
            .map(|line| (HeaderName::from_static(name), HeaderValue::from_bytes(line).unwrap()))
            .collect()
    }

    #[track_caller]
    fn check(extracted: Extracted<'_>, expected: Result<Option<&[u8]>, Malformed>) {
        assert_eq!(extracted.as_ref().map(Option::as_deref), expected.as_ref().map(|value| *value));
    }

    #[test]
    fn bearer_tokens() {
        for (lines, expected) in [
            (&[][..], ABSENT),
            (&[b"Bearer abc-._~+/9=="], found(b"abc-._~+/9==")),
            (&[b"bEARER   abc"], found(b"abc")),
            (&[b"Basic YWJj"], ABSENT),
            (&[b"BearerX abc"], ABSENT),
            (&[b""], ABSENT),
            (&[b"Bearer"], MALFORMED),
            (&[b"Bearer "], MALFORMED),
            (&[b"Bearer =="], MALFORMED),
            (&[b"Bearer a b"], MALFORMED),
            (&[b"Bearer a=b"], MALFORMED),
            (&[b"Bearer\tabc"], MALFORMED),
            (&[b"Bearer,abc"], MALFORMED),
            (&[b"Bearer caf\xe9"], MALFORMED),
            (&[b"Bearer abc", b"Bearer abc"], MALFORMED),
            (&[b"Basic YWJj", b"Bearer abc"], MALFORMED),
        ] as [(&[&[u8]], _); 16]
        {
            check(bearer(&headers("authorization", lines)), expected);
        }
    }

    #[test]
    fn header_values() {
        let name = HeaderName::from_static("x-api-key");
        for (lines, expected) in [
            (&[][..], ABSENT),
            (&[b"abc"], found(b"abc")),
            (&[b" a b\t"], found(b"a b")),
            (&[b"\xff\xfe"], found(b"\xff\xfe")),
            (&[b""], MALFORMED),
            (&[b" "], MALFORMED),
            (&[b"abc", b"abc"], MALFORMED),
        ] as [(&[&[u8]], _); 7]
        {
            check(header(&headers("x-api-key", lines), &name), expected);
        }
    }

    #[test]
    fn query_parameters() {
        for (query_text, expected) in [
            ("", ABSENT),
            ("keys=1&Key=2&xkey=3", ABSENT),
            ("a=1&key=abc=&b", found(b"abc=")),
            ("key=a%2Bb+c%00%ff%zz", found(b"a+b c\0\xff%zz")),
            ("%6bey=abc", found(b"abc")),
            ("key=", MALFORMED),
            ("key", MALFORMED),
            ("key=abc&key=abc", MALFORMED),
            ("key=abc&%6Bey=abd", MALFORMED),
        ] {
            let uri: Uri = format!("/path?{query_text}").parse().unwrap();
            check(query(&uri, "key"), expected);
        }
        check(query(&Uri::from_static("/key=abc"), "key"), ABSENT);
    }

    #[test]
    fn cookies() {
        for (lines, expected) in [
            (&[][..], ABSENT),
            (&[b"KEY=1; keys=2; a=key=3"], ABSENT),
            (&[b"a=1; key=abc=; b=2"], found(b"abc=")),
            (&[b"a=1", b"b;key=\"abc\""], found(b"abc")),
            (&[b"key=\""], found(b"\"")),
            (&[b"key="], MALFORMED),
            (&[b"key"], MALFORMED),
            (&[b"key=\"\""], MALFORMED),
            (&[b"key=abc; key=abc"], MALFORMED),
            (&[b"key=abc", b"key=abd"], MALFORMED),
        ] as [(&[&[u8]], _); 10]
        {
            check(cookie(&headers("cookie", lines), "key"), expected);
        }
    }
}
