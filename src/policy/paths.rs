//! The ways in which servers read one request path.
//!
//! An attacker writes `/login` as `/x/..%2flogin` in the hope that the limiter and the server behind it read it differently.
//! So a path is read as each common server would, and a rule holds if it matches any of the readings.
//!
//! What is deliberately absent: `%252e` is decoded once, to `%2e`, because a server that decodes twice breaks the paths of
//! honest clients too. Case counts, and `/login.json` is another path than `/login`, as both do for axum. What is no
//! valid escape stays as it is.

/// Decodes percent-escapes, once.
const DECODE: u8 = 1;
/// Decodes an escaped separator too, so that it separates.
const SEPARATORS: u8 = 2;
/// Takes `\` for `/`.
const BACKSLASH: u8 = 4;
/// Drops `;parameters` from each segment.
const PARAMETERS: u8 = 8;
/// Takes `;` for the start of the query.
const CUT: u8 = 16;
/// Resolves `.` and `..`.
const DOTS: u8 = 32;
/// Drops empty segments before `..` could take one away.
const MERGE_FIRST: u8 = 64;
/// Drops empty segments in the end.
const MERGE: u8 = 128;

/// Envoy, and whoever uses the URL standard.
const URL_STANDARD: u8 = DECODE | BACKSLASH | DOTS | MERGE;

/// How servers read, besides those that take the path as it comes (axum, hyper, Express).
///
/// Empty segments may always go in the end: hardly a server routes them, except those that read the raw path.
const SERVERS: [u8; 7] = [
    // Go, actix
    DECODE | MERGE,
    // Starlette, Django
    DECODE | SEPARATORS | MERGE,
    URL_STANDARD,
    // nginx, Apache
    DECODE | SEPARATORS | DOTS | MERGE_FIRST | MERGE,
    // Spring
    DECODE | PARAMETERS | MERGE,
    // Fastify 4
    DECODE | CUT | MERGE,
    // Tomcat, with escaped slashes and backslashes allowed
    DECODE | SEPARATORS | BACKSLASH | PARAMETERS | DOTS | MERGE_FIRST | MERGE,
];

/// The readings of a request path: the raw one, and at most eight others.
///
/// A plain path has one and allocates nothing. Time and memory are linear in the path's length.
#[derive(Debug)]
pub(crate) struct Paths<'a> {
    raw: &'a str,
    others: Vec<String>,
}

impl<'a> Paths<'a> {
    pub(crate) fn of(path: &'a str) -> Self {
        let mut others = Vec::new();
        let present = ambiguities(path);
        if present == 0 {
            return Self::raw(path);
        }
        for (i, server) in SERVERS.iter().enumerate() {
            let steps = server & present;
            // Servers that differ only in what the path does not contain read it alike.
            if steps == 0 || SERVERS.iter().take(i).any(|earlier| earlier & present == steps) {
                continue;
            }
            let reading = read(path, steps);
            if reading != path && !others.contains(&reading) {
                others.push(reading);
            }
        }
        if let Some(reading) = behind_authority(path).map(|rest| read(rest, URL_STANDARD & present)) {
            if reading != path && !others.contains(&reading) {
                others.push(reading);
            }
        }
        Self { raw: path, others }
    }

    /// The raw reading alone.
    pub(crate) const fn raw(path: &'a str) -> Self {
        Self { raw: path, others: Vec::new() }
    }

    /// The readings, the raw one first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.raw).chain(self.others.iter().map(String::as_str))
    }
}

/// What is left where `//host/path` is taken for an address without a scheme, as `new URL(path, base)` does in JavaScript.
fn behind_authority(path: &str) -> Option<&str> {
    let is_slash = |c| c == '/' || c == '\\';
    let rest = path.strip_prefix('/')?.strip_prefix(is_slash)?;
    rest.get(rest.find(is_slash)?..)
}

/// The steps that could change how `path` reads; none for a plain one.
fn ambiguities(path: &str) -> u8 {
    let bytes = path.as_bytes();
    // Folds do not branch, so the compiler makes them look at many bytes at once.
    let odd = bytes.iter().fold(false, |odd, b| odd | matches!(b, b'%' | b';' | b'\\'));
    let pairs = bytes.iter().zip(bytes.iter().skip(1));
    let doubled = pairs.fold(false, |odd, (a, b)| odd | ((*a == b'/') & matches!(b, b'/' | b'.')));
    let rooted = path.starts_with('/');
    // `*` (OPTIONS) and the empty path (CONNECT) name no resource.
    if (rooted && !odd && !doubled) || matches!(path, "" | "*") {
        return 0;
    }

    let any = |needles: &[&str]| needles.iter().any(|needle| path.contains(needle));
    let mut present = 0;
    let mut add = |steps, found| present |= if found { steps } else { 0 };
    let parameters = path.contains(';');
    let backslash = any(&["\\", "%5c", "%5C"]);
    let separators = backslash || any(&["%2f", "%2F"]);
    let dots = any(&["/.", "%2e", "%2E"]) || (!rooted || separators) && path.contains('.');
    let merge = !rooted || separators || parameters || path.contains("//");
    add(DECODE, path.contains('%'));
    add(SEPARATORS, separators);
    add(BACKSLASH, backslash);
    add(PARAMETERS | CUT, parameters);
    add(DOTS, dots);
    add(MERGE_FIRST, merge && dots);
    add(MERGE, merge);
    present
}

/// The path after `steps`, with a slash in front and none at the end.
fn read(path: &str, steps: u8) -> String {
    let on = |step| steps & step != 0;
    let path = if on(CUT) { path.split(';').next().unwrap_or(path) } else { path };
    let mut out = Vec::with_capacity(path.len() + 1);
    for segment in decode(path.as_bytes(), steps).split(|&b| b == b'/') {
        match segment {
            b"." if on(DOTS) => {}
            b".." if on(DOTS) => out.truncate(out.iter().rposition(|&b| b == b'/').unwrap_or(0)),
            b"" if on(MERGE_FIRST) => {}
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    out.dedup_by(|a, b| *a == b'/' && *b == b'/');
    if out.len() > 1 && out.last() == Some(&b'/') {
        out.pop();
    }
    if out.is_empty() {
        out.push(b'/');
    }
    // What is not UTF-8 equals no pattern's text, and a parameter takes anything.
    String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// The steps that look at single characters. Parameters go first: an escaped `;` begins none.
fn decode(mut path: &[u8], steps: u8) -> Vec<u8> {
    let on = |step| steps & step != 0;
    let mut out = Vec::with_capacity(path.len());
    while let [byte, tail @ ..] = path {
        path = tail;
        match *byte {
            b'\\' if on(BACKSLASH) => out.push(b'/'),
            b';' if on(PARAMETERS) => {
                let end = tail.iter().position(|&b| b == b'/').unwrap_or(tail.len());
                path = tail.get(end..).unwrap_or_default();
            }
            b'%' if on(DECODE) => match unescape(tail) {
                Some((decoded, after)) => {
                    path = after;
                    match decoded {
                        b'/' if !on(SEPARATORS) => out.extend_from_slice(b"%2F"),
                        b'\\' if on(BACKSLASH) && on(SEPARATORS) => out.push(b'/'),
                        _ => out.push(decoded),
                    }
                }
                None => out.push(b'%'),
            },
            byte => out.push(byte),
        }
    }
    out
}

/// The byte that two hexadecimal digits mean, and what follows them.
fn unescape(text: &[u8]) -> Option<(u8, &[u8])> {
    let [high, low, after @ ..] = text else { return None };
    let digit = |b: u8| char::from(b).to_digit(16);
    let byte = u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?;
    Some((byte, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn readings(path: &str) -> Vec<String> {
        Paths::of(path).iter().map(str::to_owned).collect()
    }

    #[test]
    fn each_ambiguity_has_its_readings() {
        let long = format!("/{}", "a/../".repeat(13_000));
        let table: &[(&str, &[&str])] = &[
            ("/login", &[]),
            ("/login/", &[]),
            ("/a.b/c~d", &[]),
            ("/.well-known/x", &[]),
            ("", &[]),
            ("*", &[]),
            ("//login", &["/login"]),
            ("/login//", &["/login"]),
            ("/./login", &["/login"]),
            ("/a/../login", &["/login"]),
            ("/../../login", &["/login"]),
            ("/a//../b", &["/a/../b", "/a/b", "/b"]),
            ("/%2e/login", &["/./login", "/login"]),
            ("/%6cog%69n", &["/login"]),
            ("/caf%c3%A9%20x", &["/café x"]),
            ("/%25", &["/%"]),
            ("/api%2Flogin", &["/api/login"]),
            ("/api%2flogin", &["/api%2Flogin", "/api/login"]),
            ("/login;x=1/y", &["/login/y", "/login"]),
            ("/a/..;/b", &["/a/../b", "/a/..", "/b"]),
            ("/a%3Bx", &["/a;x"]),
            ("\\login", &["/\\login", "/login"]),
            ("/a\\..\\login", &["/login"]),
            ("login", &["/login"]),
            ("/%252e/x", &["/%2e/x"]),
            ("/%zz%4/%", &[]),
            ("/a/%ff", &["/a/\u{fffd}"]),
            (&long, &["/"]),
        ];
        for (path, others) in table {
            let mut expected = vec![*path];
            expected.extend(*others);
            assert_eq!(readings(path), expected, "{path:?}");
        }
    }

    /// `/files/{*rest}` behind Starlette would otherwise be free to whoever adds `..`.
    #[test]
    fn a_step_that_a_server_leaves_out_is_left_out() {
        for (path, expected) in [
            ("/%66iles/../x", "/files/../x"),
            ("/%66iles%2f../x", "/files/../x"),
            ("/x/../%66iles/a%2Fb", "/files/a%2Fb"),
            ("/x/;y/../%66iles", "/files"),
            ("/%66iles/a;/..;/x", "/files/a;/..;/x"),
            ("/f/../%66iles/a\\b", "/files/a\\b"),
        ] {
            assert!(
                readings(path).iter().any(|reading| reading == expected),
                "{path:?}: {:?}",
                readings(path)
            );
        }
    }

    proptest! {
        #[test]
        fn any_path_has_few_readings_of_its_length(path in "([/.;\\\\]|%2[eEfF5]|%5c|%[0-9a-f]{2}|%|\\PC){0,60}") {
            let readings = readings(&path);
            prop_assert_eq!(&readings[0], &path);
            prop_assert!(readings.len() <= 9);
            for (i, reading) in readings.iter().enumerate() {
                prop_assert!(reading.len() <= path.len() + 1);
                prop_assert!(!readings[..i].contains(reading));
            }
        }

        #[test]
        fn a_plain_path_reads_as_itself(path in "(/[a-zA-Z0-9_~!$&'()*+,:@=-][a-zA-Z0-9._~-]{0,8}){1,6}/?") {
            let paths = Paths::of(&path);
            prop_assert_eq!(paths.others.capacity(), 0);
            prop_assert_eq!(paths.raw, path.as_str());
        }

        #[test]
        fn reading_what_was_read_changes_nothing(path in "(/|//|\\\\|\\.|\\.\\.|;x|%2[eEfF]|%5C|%6c|[a-z]){0,40}") {
            let full = SERVERS[6];
            let once = read(&path, full);
            prop_assert_eq!(read(&once, full), once);
        }
    }
}
