//! Quotas: what they promise, what they accept, how they are written.
#![allow(clippy::unwrap_used)]

use proptest::{prelude::*, sample::select};
use std::time::Duration;
use tidegate::{Quota, QuotaError};

const SECOND: u64 = 1_000_000_000;
const DAY: Duration = Duration::from_secs(86_400);

fn interval(quota: Quota) -> u64 {
    quota.rate().unwrap().interval().as_nanos().try_into().unwrap()
}

fn burst(quota: Quota) -> u64 {
    quota.rate().unwrap().burst().get().into()
}

fn refusal(quota: Quota) -> String {
    quota.rate().unwrap_err().to_string()
}

fn parse_error(text: &str) -> String {
    text.parse::<Quota>().unwrap_err().to_string()
}

#[test]
fn texts_read_as_they_mean() {
    let ten_seconds = Duration::from_secs(10);
    for (text, quota) in [
        ("100/minute", Quota::per_minute(100)),
        ("10/second burst 20", Quota::per_second(10).burst(20)),
        ("5 per 10s", Quota::per(5, ten_seconds)),
        ("5/10 seconds", Quota::per(5, ten_seconds)),
        ("5per10SEC", Quota::per(5, ten_seconds)),
        ("1000/h", Quota::per_hour(1000)),
        ("1000/hr", Quota::per_hour(1000)),
        ("1/30d", Quota::per(1, DAY * 30)),
        ("7 / DAY", Quota::per_day(7)),
        ("10_000/s", Quota::per_second(10_000)),
        ("3/500ms", Quota::per(3, Duration::from_millis(500))),
        ("1/2m", Quota::per(1, Duration::from_secs(120))),
        ("1/250us", Quota::per(1, Duration::from_micros(250))),
        ("1/1_001ns", Quota::per(1, Duration::from_nanos(1001))),
        ("\t100 /minute  Strict ", Quota::per_minute(100).strict()),
        ("100/minute burst 10 strict", Quota::per_minute(100).burst(10).strict()),
        ("100/minute strict burst 10", Quota::per_minute(100).burst(10).strict()),
    ] {
        assert_eq!(text.parse(), Ok(quota), "{text}");
    }
}

#[test]
fn canonical_texts_use_the_longest_unit() {
    for (text, canonical) in [
        ("100 per 60 s", "100/minute"),
        ("5 per 48h", "5/2d"),
        ("5/90min", "5/90min"),
        ("5/90s burst 7", "5/90s burst 7"),
        ("10_000/1000ms strict", "10000/second strict"),
        ("1/1001ns", "1/1001ns"),
    ] {
        assert_eq!(text.parse::<Quota>().unwrap().to_string(), canonical);
    }
}

#[test]
fn errors_name_the_text_the_fault_and_what_is_accepted() {
    for (text, parts) in [
        ("", ["it ends", "an amount in digits"]),
        ("ten/s", ["\"ten\"", "an amount in digits"]),
        ("-1/s", ["\"-\"", "an amount in digits"]),
        ("_/s", ["\"_\"", "an amount in digits"]),
        ("18446744073709551616/s", ["\"18446744073709551616\"", "below 2^64"]),
        ("1.5/s", ["\".\"", "\"per\""]),
        ("5", ["it ends", "\"per\""]),
        ("5//s", ["\"//\"", "\"per\""]),
        ("5/fortnight", ["\"fortnight\"", "ns, us, ms, s, min, h or d"]),
        ("5/10", ["it ends", "ns, us, ms, s, min, h or d"]),
        ("5/99999999999999999999d", ["too long", "2^64 seconds"]),
        // 2^112 + 1 days: a day, where 128 bits wrap.
        ("5/5192296858534827628530496329220097d", ["too long", "2^64 seconds"]),
        ("5/s burst", ["it ends", "a burst in digits"]),
        ("5/s burst 1 burst 2", ["\"burst\" stands", "each once"]),
        ("5/s strict strict", ["\"strict\" stands", "each once"]),
        ("5/s please", ["\"please\"", "\"strict\""]),
        ("5/0s", ["faster", "1/365d to 10_000_000/second"]),
        ("5 PER s burst 0", ["burst of 0", "1 to 4294967295"]),
    ] {
        let message = parse_error(text);
        assert!(message.starts_with(&format!("quota {text:?}: ")), "{message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}

#[test]
fn rates_have_two_ends() {
    assert_eq!(interval(Quota::per_second(10_000_000)), 100);
    assert!(refusal(Quota::per_second(10_000_001)).contains("faster"));
    assert!(refusal(Quota::per(1, Duration::ZERO)).contains("faster"));
    let year = DAY * 365;
    assert_eq!(interval(Quota::per(1, year)), 365 * 86_400 * SECOND);
    let message = refusal(Quota::per(1, year + Duration::from_nanos(1)));
    assert!(message.starts_with("quota \"1/31536000000000001ns\": slower"), "{message}");
    for never in [Quota::per_minute(0), Quota::per(0, Duration::ZERO), Quota::per_day(0).strict()] {
        assert!(refusal(never).contains("slower"));
    }
    // The longest period there is, and a rate within the range.
    let longest = Quota::per(u64::MAX, Duration::MAX).burst(1);
    assert_eq!(interval(longest), SECOND + 1);
    assert_eq!(longest.to_string().parse(), Ok(longest));
}

#[test]
fn bursts_have_two_ends() {
    let most = u64::from(u32::MAX);
    assert_eq!(burst(Quota::per_second(1).burst(most)), most);
    assert!(refusal(Quota::per_second(1).burst(most + 1)).contains("1 to 4294967295"));
    assert!(refusal(Quota::per_second(1).burst(0)).contains("1 to 4294967295"));
    // Without a burst of its own.
    let hourly = Quota::per_hour(5_000_000_000);
    assert!(refusal(hourly).contains(".burst(n)"), "{}", refusal(hourly));
    assert_eq!(interval(hourly.burst(1000)), 720);
}

#[test]
fn a_burst_comes_back_within_146_years() {
    let slowest = Quota::per(1, DAY * 365);
    assert_eq!(burst(slowest.burst(146)), 146);
    // Unchecked, 586 intervals wrap 64 bits and become a burst of one.
    for too_large in [147, 586, u64::from(u32::MAX)] {
        let message = refusal(slowest.burst(too_large));
        assert!(message.contains("set one of 1 to 146"), "{message}");
    }
}

#[test]
fn strict_keeps_most_of_the_rate() {
    // 91 a minute and 10 at once.
    let quota = Quota::per_minute(100).strict();
    assert_eq!((burst(quota), interval(quota)), (10, (60 * SECOND).div_ceil(91)));
    assert_eq!(interval(quota.burst(1)), 600_000_000);
    assert_eq!(interval(quota.burst(100)), 60 * SECOND);
    let message = refusal(quota.burst(101));
    assert!(message.contains("strict") && message.contains("1 to 100"), "{message}");
    // The reduced rate must be in range too.
    let slow = Quota::per(2, DAY * 730).strict();
    assert_eq!(interval(slow), 365 * 86_400 * SECOND);
    assert!(refusal(slow.burst(2)).contains("smaller burst"));
    // 8,955,001 per second is no whole interval, and strict has promised none.
    assert_eq!(interval(Quota::per_second(9_950_000).strict()), 112);
}

#[test]
fn a_missed_rate_is_told_its_neighbours() {
    let message = refusal(Quota::per_second(9_950_000));
    assert!(message.contains("0.1 %"), "{message}");
    assert!(message.ends_with("9_900_991/second and 10_000_000/second"), "{message}");
}

/// A token bucket by its textbook: tokens that flow in, counted in nanoseconds. Returns when each unit was
/// admitted.
fn admitted(interval: u64, burst: u64, arrivals: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let (mut tokens, mut last) = (burst * interval, 0);
    arrivals
        .into_iter()
        .filter(|&now| {
            tokens = (tokens + (now - last)).min(burst * interval);
            last = now;
            let admit = tokens >= interval;
            tokens -= if admit { interval } else { 0 };
            admit
        })
        .collect()
}

/// The most units admitted in any half-open period; the fullest ones begin with an admission.
fn worst(period: u64, admitted: &[u64]) -> u64 {
    let within = |(i, &start)| admitted[i..].partition_point(|&time| time < start + period) as u64;
    admitted.iter().enumerate().map(within).max().unwrap_or(0)
}

/// Takes everything it can get: a full bucket at once, and then each unit as it comes back.
fn greedy(period: u64, burst: u64) -> impl Iterator<Item = u64> {
    (0..3 * period)
        .flat_map(move |now| std::iter::repeat_n(now, if now == 0 { burst as usize + 1 } else { 1 }))
}

/// Small quotas with short periods, which can be tried nanosecond by nanosecond.
fn small() -> impl Strategy<Value = (u64, u64, Option<u64>)> {
    (1_u64..=24).prop_flat_map(|n| (Just(n), n * 100..=n * 130, proptest::option::of(1..=n)))
}

fn quota(n: u64, period: u64, burst: Option<u64>) -> Quota {
    let quota = Quota::per(n, Duration::from_nanos(period));
    burst.map_or(quota, |burst| quota.burst(burst))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn strict_never_admits_more_than_the_amount(
        (n, period, b) in small(),
        gaps in prop::collection::vec(select(vec![0, 0, 0, 1, 40, 99, 100, 101, 117, 900]), 0..300),
    ) {
        let quota = quota(n, period, b).strict();
        let (t, b) = (interval(quota), burst(quota));
        let arrivals = gaps.iter().scan(0, |now, gap| { *now += gap; Some(*now) });
        prop_assert!(worst(period, &admitted(t, b, arrivals)) <= n);
        prop_assert!(worst(period, &admitted(t, b, greedy(period, b))) <= n);
        // No shorter interval would do: nothing more than needed is taken away.
        prop_assert_eq!(worst(period, &admitted(t - 1, b, greedy(period, b))), n + 1);
    }

    #[test]
    fn the_worst_period_without_strict_is_as_documented(n in 1_u64..=24, t in 100_u64..=130, b in 1_u64..40) {
        let period = n * t;
        let plain = quota(n, period, None);
        let times = admitted(interval(plain), burst(plain), greedy(period, n));
        prop_assert_eq!(worst(period, &times), 2 * n - 1);
        let bursty = plain.burst(b);
        let times = admitted(interval(bursty), burst(bursty), greedy(period, b));
        prop_assert_eq!(worst(period, &times), b + n - 1);
    }

    #[test]
    fn strict_keeps_nine_tenths(n in 1_u64..=u64::from(u32::MAX)) {
        let quota = Quota::per_day(n).strict();
        // Units a day, at least; in u128 because both factors may be long.
        prop_assert!((n - burst(quota) + 1) as u128 * 10 >= n as u128 * 9);
    }
}

/// Every order of magnitude, and what lies just beside the accepted ones.
fn any_quota() -> impl Strategy<Value = Quota> {
    let amount = (any::<u64>(), 0..64).prop_map(|(n, shift)| n >> shift);
    let interval = (any::<u64>(), 4..60).prop_map(|(t, shift)| t >> shift);
    let rest = select(vec![0_u128, 0, 1, 999, 1_000_000, 60_000_000_000]);
    let burst = proptest::option::of((any::<u64>(), 20..64).prop_map(|(n, shift)| n >> shift));
    (amount, interval, rest, burst, any::<bool>()).prop_map(|(n, interval, rest, burst, strict)| {
        let period = u128::from(n) * u128::from(interval) + rest;
        let nanos = (period % u128::from(SECOND)) as u32;
        let period = Duration::new((period / u128::from(SECOND)) as u64, nanos);
        let quota = burst.map_or(Quota::per(n, period), |burst| Quota::per(n, period).burst(burst));
        if strict { quota.strict() } else { quota }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A quota that cannot be kept cannot be parsed either, for the same reason.
    #[test]
    fn display_parses_to_the_same_quota(quota in any_quota()) {
        prop_assert_eq!(quota.to_string().parse::<Quota>(), quota.rate().map(|_| quota));
    }

    #[test]
    fn a_rate_is_never_more_than_asked_and_at_most_a_thousandth_less(quota in any_quota()) {
        let Ok(rate) = quota.rate() else { return Ok(()) };
        let (asked, interval) = (quota.period().as_nanos(), rate.interval().as_nanos());
        let counted = interval * u128::from(quota.amount());
        prop_assert!(counted >= asked);
        prop_assert!(quota.is_strict() || (counted - asked) * 1000 <= counted);
        prop_assert!((100..=365 * 86_400 * u128::from(SECOND)).contains(&interval));
        prop_assert!(interval * u128::from(rate.burst().get()) <= 1 << 62);
        prop_assert_eq!(u64::from(rate.burst().get()), quota.burst_size());
    }

    /// Fast rates are the ones that whole nanoseconds can miss; both neighbours named are accepted as they
    /// stand.
    #[test]
    fn neighbours_are_accepted_and_adjacent(n in 1_000_000_u64..=10_000_000) {
        let nearest = SECOND.div_ceil(n);
        match Quota::per_second(n).rate() {
            Ok(rate) => prop_assert_eq!(rate.interval(), Duration::from_nanos(nearest)),
            Err(error) => {
                prop_assert!((nearest * n - SECOND) * 1000 > nearest * n);
                let message = error.to_string();
                let named = message.split(' ').filter(|word| word.contains('_'));
                let named: Vec<Quota> = named.map(|word| word.parse().unwrap()).collect();
                prop_assert!(named[0].amount() < n && n < named[1].amount(), "{}", message);
                prop_assert_eq!([interval(named[0]), interval(named[1])], [nearest, nearest - 1]);
            }
        }
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = text.parse::<Quota>();
    }

    #[test]
    fn what_parses_can_be_kept(parts in prop::collection::vec(select(vec![
        "1", "100", "0", "_", "18446744073709551615", "340282366920938463463374607431768211456", "/", "per", " ",
        "\u{a0}", "s", "m", "d", "ns", "Minute", "burst", "strict", "µ", "-", ".",
    ]), 0..9)) {
        let parsed: Result<Quota, QuotaError> = parts.concat().parse();
        if let Ok(quota) = parsed {
            prop_assert!(quota.rate().is_ok());
            prop_assert_eq!(quota.to_string().parse(), Ok(quota));
        }
    }
}
