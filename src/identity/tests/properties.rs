//! Properties over raw header bytes.

use super::*;
use proptest::prelude::*;

/// Bytes that a header may carry, rich in what the parsers look for.
fn header_bytes() -> impl Strategy<Value = Vec<u8>> {
    let syntax = prop::sample::select(b",;=\"\\ \t:[]%._+-/019afor\xff".to_vec());
    let any = prop_oneof![syntax, any::<u8>()]
        .prop_filter("not in headers", |b| *b == b'\t' || *b >= 32 && *b != 127);
    let word =
        prop::sample::select(vec!["for=", "10.0.0.2", "Bearer ", "key=", "\"[::1]:80\"", ", ", "::ffff:"]);
    prop::collection::vec(
        prop_oneof![word.prop_map(|word| word.as_bytes().to_vec()), prop::collection::vec(any, 0..6)],
        0..12,
    )
    .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn raw_header_bytes_never_panic(lines in prop::collection::vec(header_bytes(), 0..4), query in "[!-~]{0,40}") {
        let mut request = from(PROXY);
        if let Ok(uri) = format!("/?{query}").parse::<http::Uri>() {
            request = request.uri(uri);
        }
        for line in &lines {
            for name in ["authorization", "cookie", "x-key", "x-forwarded-for", "forwarded"] {
                request = request.header(name, line.as_slice());
            }
        }
        let request = request.body(()).unwrap();
        for trusted in [x_forwarded_for(), x_forwarded_for().hops(2), forwarded(), forwarded().hops(1)] {
            for source in [
                Source::address(), Source::peer(), Source::bearer(), Source::api_key_header("x-key"),
                Source::api_key_query("key"), Source::api_key_cookie("key"), Source::header("x-key"),
            ] {
                let identify = source.or_refuse().compile(&mut Vec::new());
                if let Err(rejection) = identify.identify(RequestHead::new(&request), Some(&compiled(&trusted))) {
                    prop_assert_eq!(rejection.challenge().is_some(), rejection.status() == StatusCode::UNAUTHORIZED);
                }
            }
        }
    }

    #[test]
    fn a_forged_prefix_never_changes_the_client(
        forged in prop::collection::vec(header_bytes(), 0..4), joined in any::<bool>(), port in any::<bool>(), v6 in any::<bool>(),
    ) {
        let client = if v6 { "2001:db8::7" } else { CLIENT };
        let entry = match (v6, port) {
            (true, true) => format!("[{client}]:4711"),
            (false, true) => format!("{client}:4711"),
            _ => client.into(),
        };
        for (trusted, own) in [
            (x_forwarded_for(), format!("{entry}, 10.0.0.2")),
            (forwarded(), format!("proto=https;for=\"{entry}\", for=10.0.0.2;host=\"a,\\\"b\"")),
        ] {
            let mut lines = forged.clone();
            match lines.last_mut().filter(|_| joined) {
                Some(last) => last.extend_from_slice(format!(", {own}").as_bytes()),
                None => lines.push(own.into_bytes()),
            }
            let request = lines.iter().fold(from(PROXY), |request, line| {
                request.header("x-forwarded-for", line.as_slice()).header("forwarded", line.as_slice())
            });
            let request = request.body(()).unwrap();
            for trusted in [trusted.clone(), trusted.hops(2)] {
                prop_assert_eq!(compiled(&trusted).client_address(Some(ip(PROXY)), request.headers()), Ok(Some(ip(client))));
            }
        }
    }
}
