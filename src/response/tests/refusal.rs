//! What refusals say, over HTTP and gRPC.

use super::*;

#[test]
fn a_refusal_says_what_when_and_where_to_read_on() {
    let limits = [refused(r"a\b", Duration::from_millis(30_001)), allowed("fine", SECOND, 5, 0)];
    let style = RefusalStyle {
        text: Some("Ask \"us\",\u{7}\nor näher.".into()),
        link: Some("https://example.com/limits".into()),
        custom: None,
    };
    let response = answer(&style, &Refusal::new(Reason::Limited, &limits, None), Some("application/json"));
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    // One more unit takes 60 s, longer than the wait that the store tells.
    assert_eq!(lines(response.headers(), "retry-after"), ["60"]);
    assert_eq!(parsed(response.headers(), "ratelimit").len(), 2);
    let detail = format!(
        "Limit exceeded: a\\b ({QUOTA}). Try again in 60 seconds. Ask \"us\",\u{7}\nor näher. See https://example.com/limits"
    );
    assert_eq!(
        problem(&response),
        json!({
            "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
            "title": "Quota exceeded",
            "status": 429,
            "detail": detail,
            "violated-policies": ["a\\b"],
            "retry-after": 60,
            "help": "https://example.com/limits",
        })
    );
}

#[test]
fn a_charge_that_never_fits_gets_no_time_to_come_back() {
    let never = status("small", Rate::for_test(SECOND, 5), Reading::never(Duration::ZERO));
    let shadow = LimitStatus { shadow: true, ..never };
    let limits = [refused("later", Duration::from_secs(9)), never, shadow];
    let refusal = Refusal::new(Reason::Limited, &limits, None);
    assert_eq!((refusal.retry_after(), refusal.limits().len(), refusal.violated().count()), (None, 3, 2));

    let response = answer(&RefusalStyle::default(), &refusal, None);
    assert!(!response.headers().contains_key("retry-after"));
    let body = problem(&response);
    assert_eq!(body["detail"], format!("The request costs more than a limit ever admits: small ({QUOTA})."));
    assert_eq!(body["violated-policies"], json!(["later", "small"]));
    assert_eq!(body.get("retry-after"), None);

    let response = answer(&RefusalStyle::default(), &refusal, Some("application/grpc"));
    assert_eq!(lines(response.headers(), "grpc-retry-pushback-ms"), ["-1"]);
}

#[test]
fn every_reason_has_its_status_over_http_and_grpc() {
    let limits = [refused("limit", Duration::from_nanos(60_000_000_001))];
    let down = Reason::StoreDown { retry_after: Duration::from_millis(1500) };
    for (reason, limits, http, grpc, retry) in [
        (Reason::Limited, &limits[..], 429, "8", Some(("61", "60001"))),
        (Reason::Blocked, &[], 403, "7", None),
        (Reason::Unidentified(Rejection::MissingToken), &[], 401, "16", None),
        (Reason::Unidentified(Rejection::MissingAddress), &[], 400, "3", None),
        (Reason::BadCost { detail: "50% is no cost – at all.".into() }, &[], 400, "3", None),
        (down, &[], 503, "14", Some(("2", "1500"))),
    ] {
        let refusal = Refusal::new(reason, limits, None);
        let response = answer(&RefusalStyle::default(), &refusal, None);
        let body = problem(&response);
        assert_eq!((response.status().as_u16(), &body["status"]), (http, &json!(http)));
        assert_eq!(lines(response.headers(), "retry-after"), Vec::from_iter(retry.map(|retry| retry.0)));
        assert_eq!(response.headers().contains_key("www-authenticate"), http == 401);
        assert_eq!(body["type"] == "about:blank", retry.is_none());

        let response = answer(&RefusalStyle::default(), &refusal, Some("application/grpc+proto"));
        assert_eq!((response.status().as_u16(), response.body().len()), (200, 0));
        assert_eq!(lines(response.headers(), "grpc-status"), [grpc]);
        assert_eq!(
            lines(response.headers(), "grpc-retry-pushback-ms"),
            Vec::from_iter(retry.map(|retry| retry.1))
        );
        assert_eq!(response.headers().contains_key("ratelimit"), !limits.is_empty());
        let message = lines(response.headers(), "grpc-message")[0];
        let decoded = percent_encoding::percent_decode_str(message).decode_utf8().unwrap();
        assert_eq!(body["detail"], *decoded);
    }
}

#[test]
fn grpc_messages_are_escaped_and_grpc_types_told_apart() {
    let refusal = Refusal::new(Reason::BadCost { detail: "50% – no".into() }, &[], None);
    let custom: crate::response::answer::Custom = Arc::new(|_, _| Response::new(Bytes::from_static(b"own")));
    let style = RefusalStyle { custom: Some(custom), ..RefusalStyle::default() };
    let response = answer(&style, &refusal, Some("application/grpc"));
    assert_eq!(lines(response.headers(), "grpc-message"), ["50%25 %E2%80%93 no."]);
    for (sent, got) in [
        ("Application/gRPC; charset=utf-8", "application/grpc"),
        ("application/grpc+json", "application/grpc"),
        ("application/grpc-web", "application/grpc-web"),
        ("application/grpc-web+proto", "application/grpc-web+proto"),
        ("application/grpc-web-text+proto;a=b", "application/grpc-web-text+proto"),
        ("application/grpc-web-text+thrift", "application/grpc-web-text"),
    ] {
        let response = answer(&style, &refusal, Some(sent));
        assert_eq!(lines(response.headers(), "content-type"), [got], "{sent}");
    }
    for other in ["application/grpcish", "application/json", "text/application/grpc", ""] {
        assert_eq!(answer(&style, &refusal, Some(other)).body(), "own", "{other}");
    }
}

#[test]
fn a_custom_answer_keeps_what_it_sets_and_gets_what_it_lacks() {
    let limits = [refused("limit", Duration::from_secs(90))];
    let refusal = Refusal::new(Reason::Limited, &limits, None);
    let answered = |set: &'static [(&'static str, &'static str)]| {
        let custom: crate::response::answer::Custom = Arc::new(move |refusal, _| {
            let mut response = Response::builder().status(refusal.status());
            for (name, value) in set {
                response = response.header(*name, *value);
            }
            response.body(Bytes::from(format!("{:?}", refusal.retry_after_secs()))).unwrap()
        });
        answer(&RefusalStyle { custom: Some(custom), ..RefusalStyle::default() }, &refusal, None)
    };
    let response = answered(&[]);
    assert_eq!((response.status().as_u16(), &response.body()[..]), (429, &b"Some(90)"[..]));
    assert_eq!(lines(response.headers(), "retry-after"), ["90"]);
    assert_eq!(lines(response.headers(), "cache-control"), ["no-store"]);
    assert_eq!(lines(response.headers(), "ratelimit"), [r#""limit";r=0;t=60"#]);

    let response =
        answered(&[("retry-after", "7"), ("cache-control", "private"), ("ratelimit", "\"x\";r=1")]);
    assert_eq!(lines(response.headers(), "retry-after"), ["7"]);
    assert_eq!(lines(response.headers(), "cache-control"), ["private"]);
    assert_eq!(lines(response.headers(), "ratelimit"), ["\"x\";r=1"]);
    assert!(response.headers().contains_key("ratelimit-policy"));
}
