//! One route pattern: its syntax, and how it lies to other patterns.

use std::cmp::Reverse;

/// The parameters that matchit can count in one pattern; it panics at one more.
const MAX_PARAMETERS: usize = 25;

/// A route pattern in matchit's syntax, checked and taken apart. A slash at its end is left out.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    text: String,
    segments: Vec<Segment>,
}

/// In order, the more specific comes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    /// `me`
    Literal(String),
    /// `{id}`, or `v{major}` with a prefix
    Parameter(Reverse<String>),
    /// `{*rest}`, or `v{*rest}` with a prefix
    Rest(Reverse<String>),
}

impl Pattern {
    /// Takes a pattern apart, or says what is wrong with it and what is accepted.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix('/') else {
            return Err(format!("a pattern starts with a slash; write {:?}", format!("/{text}")));
        };
        if text.contains("//") {
            return Err(
                "an empty segment never matches, because doubled slashes are merged; write one slash".into(),
            );
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        let segments = match path {
            "" => Vec::new(),
            path => path.split('/').map(Segment::parse).collect::<Result<Vec<_>, _>>()?,
        };
        if segments.iter().rev().skip(1).any(|segment| matches!(segment, Segment::Rest(_))) {
            return Err("a catch-all stands only at the end, as in \"/files/{*rest}\"".into());
        }
        if segments.iter().filter(|s| matches!(s, Segment::Parameter(_))).count() > MAX_PARAMETERS {
            return Err(format!("a pattern has at most {MAX_PARAMETERS} parameters"));
        }
        Ok(Self { text: format!("/{path}"), segments })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the pattern ends in `{*rest}`.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.segments.last(), Some(Segment::Rest(_)))
    }

    /// How many segments it has.
    pub(crate) fn depth(&self) -> usize {
        self.segments.len()
    }

    /// What to compare when the most specific pattern is to come first; equal for patterns that take the same paths.
    pub(crate) fn shape(&self) -> &impl Ord {
        &self.segments
    }

    /// Whether `other` takes no path that `self` does not take.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let mut theirs = other.segments.iter();
        for segment in &self.segments {
            let Some(their) = theirs.next() else { return false };
            match segment {
                Segment::Rest(prefix) => return their.starts_with(prefix, theirs.len() > 0),
                Segment::Parameter(prefix) if !matches!(their, Segment::Rest(_)) => {
                    if !their.starts_with(prefix, false) {
                        return false;
                    }
                }
                _ if segment == their => {}
                _ => return false,
            }
        }
        theirs.len() == 0
    }

    /// Whether a matchit router cannot hold both: they take the same paths, or one's catch-all stands where the other
    /// has a parameter.
    pub(crate) fn clashes(&self, other: &Self) -> bool {
        self.segments == other.segments || self.swallows(other) || other.swallows(self)
    }

    fn swallows(&self, other: &Self) -> bool {
        let Some((Segment::Rest(prefix), before)) = self.segments.split_last() else { return false };
        let same = other.segments.iter().zip(before).all(|(a, b)| a == b);
        match other.segments.get(before.len()) {
            Some(Segment::Parameter(their) | Segment::Rest(their)) => same && their == prefix,
            _ => false,
        }
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix(':') {
            return Err(format!("{text:?} is the old syntax for a parameter; write \"{{{name}}}\""));
        }
        if let Some(name) = text.strip_prefix('*') {
            return Err(format!("{text:?} is the old syntax for a catch-all; write \"{{*{name}}}\""));
        }
        if matches!(text, "." | "..") {
            return Err(format!("{text:?} never matches, because dots are resolved; leave it out"));
        }
        if text.contains(['?', '#']) {
            return Err("a pattern is for the path alone; leave out what follows \"?\" or \"#\"".into());
        }
        let hex = u8::is_ascii_hexdigit;
        if text.as_bytes().windows(3).any(|w| matches!(w, [b'%', a, b] if hex(a) && hex(b))) {
            return Err(
                "paths are decoded before they are compared; write the character itself, as in \"/café\""
                    .into(),
            );
        }

        let mut literal = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '{' | '}' if chars.peek() == Some(&c) => {
                    chars.next();
                    literal.push(c);
                }
                '{' => return Self::wildcard(literal, &chars.collect::<String>()),
                '}' => return Err("a \"}\" closes nothing; write \"}}\" for the character itself".into()),
                c => literal.push(c),
            }
        }
        Ok(Self::Literal(literal))
    }

    /// The segment whose opening brace is followed by `text`.
    fn wildcard(prefix: String, text: &str) -> Result<Self, String> {
        let Some((name, after)) = text.split_once('}') else {
            return Err("a \"{\" is not closed; write \"{id}\", or \"{{\" for the character itself".into());
        };
        if !after.is_empty() {
            return Err(
                "a segment has one parameter, at its end, as in \"/users/{id}\" or \"/v{major}\"".into()
            );
        }
        let rest = name.strip_prefix('*');
        let name = rest.unwrap_or(name);
        if name.is_empty() || name.contains(['{', '*']) {
            return Err(
                "a parameter has a name without braces and stars, as in \"{id}\" or \"{*rest}\"".into()
            );
        }
        let prefix = Reverse(prefix);
        Ok(if rest.is_some() { Self::Rest(prefix) } else { Self::Parameter(prefix) })
    }

    /// Whether all that the segment takes has `prefix` and more after it; `followed` where a slash comes next.
    fn starts_with(&self, prefix: &Reverse<String>, followed: bool) -> bool {
        match self {
            Self::Literal(text) => text.starts_with(&prefix.0) && (followed || text.len() > prefix.0.len()),
            Self::Parameter(own) | Self::Rest(own) => own.0.starts_with(&prefix.0),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_names_its_mend() {
        for (text, mend) in [
            ("users", "write \"/users\""),
            ("", "write \"/\""),
            ("/a//b", "one slash"),
            ("/users/:id", "\"{id}\""),
            ("/files/*rest", "\"{*rest}\""),
            ("/a/../b", "leave it out"),
            ("/a?b=c", "leave out"),
            ("/caf%C3%A9", "write the character itself"),
            ("/{a", "not closed"),
            ("/a}", "closes nothing"),
            ("/{}", "has a name"),
            ("/{*}", "has a name"),
            ("/{a}b", "at its end"),
            ("/{a}{b}", "at its end"),
            ("/{*a}/b", "only at the end"),
            (&"/{a}".repeat(26), "at most 25"),
        ] {
            let reason = Pattern::parse(text).unwrap_err();
            assert!(reason.contains(mend), "{text:?}: {reason}");
        }
    }

    #[test]
    fn covering_is_by_segments() {
        let covers = |a: &str, b: &str| Pattern::parse(a).unwrap().covers(&Pattern::parse(b).unwrap());
        for (wide, narrow) in [
            ("/u/{id}", "/u/me"),
            ("/u/{*rest}", "/u/{id}/posts"),
            ("/u/{*rest}", "/u/v{*r}"),
            ("/v{a}", "/v1"),
            ("/v{*a}", "/v/b"),
            ("/{a}/b", "/{c}/b/"),
            ("/{{a}}", "/{{a}}"),
        ] {
            assert!(covers(wide, narrow), "{wide} {narrow}");
        }
        for (a, b) in [
            ("/u/{*rest}", "/u"),
            ("/{*rest}", "/"),
            ("/u/{id}", "/u/{*rest}"),
            ("/u/me", "/u/{id}"),
            ("/v{a}", "/v"),
            ("/v{*a}", "/v"),
            ("/v{a}", "/{b}"),
            ("/u/{id}", "/u/{id}/x"),
            ("/u/{id}/x", "/u/{id}"),
            ("/{a}", "/{a}/{*r}"),
        ] {
            assert!(!covers(a, b), "{a} {b}");
        }
    }
}
