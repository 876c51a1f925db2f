//! What the fields say.

use super::*;
use crate::response::headers::window;

#[test]
fn the_draft_s_own_examples() {
    let burst = allowed("burst", SECOND * 6 / 10, 100, 0);
    let daily = allowed("daily", SECOND * 864 / 10, 1000, 0);
    let headers = written(HeaderStyle::Draft10, &[burst, daily]);
    assert_eq!(lines(&headers, "ratelimit-policy"), [r#""burst";q=100;w=60, "daily";q=1000;w=86400"#]);

    let half = allowed("burst", 60 * SECOND, 100, 50 * 60 * SECOND - 30 * SECOND);
    assert_eq!(lines(&written(HeaderStyle::Draft10, &[half]), "ratelimit"), [r#""burst";r=50;t=30"#]);
}

#[test]
fn lists_parse_back_with_any_name_and_without_shadows() {
    let odd = allowed(r#"a "b" \c, d;e"#, SECOND, 10, 10 * SECOND - 1);
    let full = allowed("full", SECOND / 5, 2, 0);
    let shadow = LimitStatus { shadow: true, ..odd };
    let mut headers = HeaderMap::new();
    headers.append("ratelimit", HeaderValue::from_static(r#""inner";r=1"#));
    write(HeaderStyle::Draft10, &[shadow, odd, full], &[], None, SystemTime::now, &mut headers);

    let member = |name: &str, params: &[(&str, i64)]| {
        (name.to_owned(), params.iter().map(|&(key, value)| (key.to_owned(), value)).collect::<Vec<_>>())
    };
    assert_eq!(
        parsed(&headers, "ratelimit"),
        [
            member("inner", &[("r", 1)]),
            member(odd.limit(), &[("r", 0), ("t", 1)]),
            member("full", &[("r", 2)])
        ]
    );
    assert_eq!(
        parsed(&headers, "ratelimit-policy"),
        [member(odd.limit(), &[("q", 10), ("w", 10)]), member("full", &[("q", 5), ("w", 1)])]
    );
    assert!(written(HeaderStyle::Draft10, &[shadow]).is_empty());
    assert!(written(HeaderStyle::Off, &[odd]).is_empty());
}

#[test]
fn a_policy_made_beforehand_reads_as_one_made_on_the_way() {
    let limits = [allowed("one", SECOND, 10, 0), allowed("two", 7, 7, 0)];
    let changed = limits.map(|limit| {
        let quota = Box::leak(Box::new(QuotaCell::new(QUOTA, limit.rate)));
        quota.set(QUOTA, limit.rate);
        LimitStatus { quota, ..limit }
    });
    for (made, rendered) in [(&limits[..1], &changed[..1]), (&limits[..], &changed[..])] {
        let (made, rendered) = (written(HeaderStyle::Draft10, made), written(HeaderStyle::Draft10, rendered));
        assert_eq!(made, rendered);
    }
}

#[test]
fn older_styles_show_the_tightest_limit() {
    let loose = allowed("loose", SECOND, 100, 90 * SECOND + 1);
    let tight = allowed("tight", SECOND * 6 / 10, 100, 59 * SECOND + SECOND / 10);
    let slow = allowed("slow", 60 * SECOND, 100, 99 * 60 * SECOND);
    let waits = |secs| refused("refused", Duration::from_secs(secs));
    let x = |statuses: &[_]| {
        let headers = written(HeaderStyle::XRateLimit, statuses);
        ["limit", "remaining", "reset"].map(|field| {
            let value = headers.get(format!("x-ratelimit-{field}")).unwrap();
            value.to_str().unwrap().parse::<u64>().unwrap()
        })
    };
    assert_eq!(x(&[loose, tight]), [100, 1, 60]);
    assert_eq!(x(&[tight, slow]), [100, 1, 5940], "equally few remain, so the longer reset");
    assert_eq!(x(&[waits(7), waits(6001), tight]), [100, 0, 6001], "never reset before the charge fits");
    let never = status("never", tight.rate, Reading::never(Duration::ZERO));
    assert_eq!(x(&[waits(7), never]), [100, 100, 0], "what never admits it is tighter than any wait");

    let headers = written(HeaderStyle::Draft7, &[loose, tight]);
    assert_eq!(lines(&headers, "ratelimit"), ["limit=100, remaining=1, reset=60"]);
    assert_eq!(lines(&headers, "ratelimit-policy"), ["100;w=100, 100;w=60"]);
    let headers = written(HeaderStyle::Draft6, &[loose, tight]);
    assert_eq!(lines(&headers, "ratelimit-remaining"), ["1"]);
    assert_eq!(lines(&headers, "ratelimit-policy"), ["100;w=100, 100;w=60"]);
    let headers = written(HeaderStyle::XRateLimitEpoch, &[tight]);
    assert_eq!(lines(&headers, "x-ratelimit-reset"), ["1060"], "1000.5 s + 59.1 s, rounded up once");
}

#[test]
fn older_styles_never_make_the_inner_service_look_looser() {
    let ours = allowed("ours", SECOND, 10, 5 * SECOND);
    for (style, field, theirs, left) in [
        (HeaderStyle::Draft6, "ratelimit-remaining", "4", "4"),
        (HeaderStyle::Draft6, "ratelimit-remaining", "6", "5"),
        (HeaderStyle::XRateLimit, "x-ratelimit-remaining", "a few", "a few"),
        (HeaderStyle::Draft7, "ratelimit", "limit=9, remaining=1, reset=1", "limit=9, remaining=1, reset=1"),
        (HeaderStyle::Draft7, "ratelimit", "limit=9, remaining=9, reset=1", "limit=10, remaining=5, reset=5"),
        (HeaderStyle::Draft7, "ratelimit", r#""inner";r=9"#, r#""inner";r=9"#),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(field, HeaderValue::from_static(theirs));
        write(style, &[ours], &[], None, SystemTime::now, &mut headers);
        assert_eq!(lines(&headers, field), [left], "{style:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn q_over_w_is_the_rate_or_up_to_a_tenth_less(rate in any_rate()) {
        let (quota, window) = window(QUOTA.strict(), rate);
        let interval = u128::from(rate.interval_ns());
        let needs = u128::from(quota) * interval;
        let has = u128::from(window) * u128::from(SECOND);
        prop_assert!(needs <= has && 10 * needs >= 9 * has, "{quota} in {window} s");
        prop_assert!(quota >= rate.burst().get().into() && window >= 1);
        prop_assert!(quota.max(window) <= 999_999_999_999_999);

        // No smaller window would do, and few of them had to be looked at.
        let first = rate.full_ns().div_ceil(SECOND);
        prop_assert!(window >= first && window - first <= 10, "{window} s, from {first} s");
        for less in first..window {
            let has = u128::from(less) * u128::from(SECOND);
            prop_assert!(10 * (has / interval * interval) < 9 * has, "{less} s would do");
        }
        if rate.full_ns() % SECOND == 0 {
            prop_assert_eq!((quota, window), (rate.burst().get().into(), first));
        }
    }

    /// The bucket starts as empty as steady use leaves it: its first unit has just come.
    #[test]
    fn a_client_paced_at_q_over_w_is_neither_refused_nor_slowed(rate in any_rate(), turns in 1..300u128) {
        let (quota, window) = window(QUOTA.strict(), rate);
        let (interval, full) = (u128::from(rate.interval_ns()), u128::from(rate.full_ns()));
        let mut empty_until = full - interval;
        let mut now = 0;
        for turn in 0..turns {
            now = turn * u128::from(window) * u128::from(SECOND) / u128::from(quota);
            let debt = empty_until.saturating_sub(now) + interval;
            prop_assert!(debt <= full, "refused at {now} ns");
            empty_until = now + debt;
        }
        prop_assert!(9 * now <= 10 * (turns - 1) * interval, "{turns} units took {now} ns");
    }

    #[test]
    fn retry_after_is_never_early_nor_zero_nor_a_second_late(
        limits in prop::collection::vec((any_rate(), any::<u64>(), 1..u64::MAX, any::<bool>()), 1..4),
    ) {
        let limits: Vec<_> = limits
            .into_iter()
            .map(|(rate, debt, wait, allowed)| {
                let (debt, wait) = (debt % (2 * rate.full_ns()), wait % (40 * 86_400 * SECOND));
                let reading = if allowed { Reading::allowed_ns(debt) } else { Reading::refused_ns(debt, wait) };
                status("limit", rate, reading)
            })
            .collect();
        let refusal = Refusal::new(Reason::Limited, &limits, None);
        let response = answer(&RefusalStyle::default(), &refusal, None);
        let said = lines(response.headers(), "retry-after");
        let Some(wait) = refusal.retry_after() else {
            prop_assert!(said.is_empty() && refusal.violated().count() == 0);
            return Ok(());
        };
        let secs: u64 = said[0].parse().unwrap();
        prop_assert!(secs >= 1 && Duration::from_secs(secs) >= wait);
        let mut least = wait;
        for (limit, (_, params)) in limits.iter().zip(parsed(response.headers(), "ratelimit")) {
            let t = params.iter().find(|(key, _)| key == "t").map_or(0, |(_, t)| *t);
            if !limit.reading.is_allowed() {
                prop_assert!(secs >= t as u64, "{secs} s is before t={t}");
                least = least.max(Duration::from_secs(t as u64));
            }
        }
        prop_assert!(Duration::from_secs(secs) < least + Duration::from_secs(1));
    }

    #[test]
    fn no_reading_of_any_store_panics(rate in any_rate(), debt: Duration, wait: Duration, style in 0..5usize) {
        use HeaderStyle::*;
        let style = [Draft10, Draft7, Draft6, XRateLimit, XRateLimitEpoch][style];
        for reading in [Reading::allowed(debt), Reading::refused(debt, wait), Reading::never(debt)] {
            let limits = [status("limit", rate, reading)];
            let answer = RefusalStyle::default();
            let request = http::Request::new(());
            let refusal = Refusal::new(Reason::Limited, &limits, None);
            answer.respond(&refusal, RequestHead::new(&request), style, || UNIX_EPOCH);
        }
    }
}

#[test]
fn quotas_are_told_as_they_were_asked() {
    for (quota, told) in [
        (Quota::per_second(3), (3, 1)),
        (Quota::per_second(30), (30, 1)),
        (Quota::per_second(10).burst(15), (20, 2)),
        (Quota::per_minute(7), (7, 60)),
        (Quota::per(5, Duration::from_secs(10)), (5, 10)),
        (Quota::per_second(1_000).burst(1), (1_000, 1)),
        // A burst of one cannot absorb what rounding takes, so the window shows it.
        (Quota::per_second(3).burst(1), (11, 4)),
    ] {
        assert_eq!(window(quota, quota.rate().unwrap()), told, "{quota}");
    }
}
