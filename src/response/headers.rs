//! The fields that tell a client its limits and what is left of them.

use super::{number, text::Text, whole_seconds};
use crate::{LimitStatus, PermitStatus, Quota, Rate, Reading, status::Words};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::{
    cmp::Reverse,
    collections::BTreeSet,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How answers tell clients their limits.
///
/// Limits that only watch are never shown. Only [`Draft10`](Self::Draft10) shows every limit; the older styles
/// have room for one and show the tightest: the one that refuses (the longest wait, where several do), else the one
/// with the fewest units remaining, else the one that takes longest to recover. Their limit is the burst, the most that can
/// ever remain, and their reset the time until the whole burst is there again, in seconds rounded up; drafts and
/// services differ in what they mean by it, and this is the meaning that is never too early.
///
/// What the wrapped service says itself stays. Where a style has room for one limit only, the fewer units remaining win.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeaderStyle {
    /// `RateLimit-Policy: "burst";q=100;w=60` and `RateLimit: "burst";r=50;t=30`, as in
    /// draft-ietf-httpapi-ratelimit-headers-10.
    ///
    /// `q` units each `w` seconds are the limit's rate (at most a tenth less, where whole numbers cannot say it), `r` units can be
    /// spent now, and `t` is the seconds, rounded up, until one more can be, left out when none is missing.
    #[default]
    Draft10,
    /// `RateLimit-Policy: 100;w=60` and `RateLimit: limit=100, remaining=50, reset=30`, as in draft 7.
    Draft7,
    /// `RateLimit-Policy: 100;w=60`, `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset`, as in draft 6.
    Draft6,
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset` with the seconds to go.
    XRateLimit,
    /// The same fields with the reset in seconds since 1970, as GitHub has it.
    XRateLimitEpoch,
    /// No fields.
    Off,
}

static RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The fields for limit, remaining and reset in the styles that have one for each.
type Names = [HeaderName; 3];
static DRAFT_6: Names = [
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
];
static X: Names = [
    HeaderName::from_static("x-ratelimit-limit"),
    HeaderName::from_static("x-ratelimit-remaining"),
    HeaderName::from_static("x-ratelimit-reset"),
];

/// A value is put together on the stack, so that it is allocated once and in its right size.
type Value = Text<192>;

const SECOND_NS: u128 = 1_000_000_000;

/// Tells `statuses` and `permits` in `headers`, beside what stands there already. `policies` is what [`Fields::new`] takes.
/// The older styles have no words for permits.
pub(crate) fn write(
    style: HeaderStyle,
    statuses: &[LimitStatus<'_>],
    permits: &[PermitStatus<'_>],
    policies: Option<&HeaderValue>,
    now: impl FnOnce() -> SystemTime,
    headers: &mut HeaderMap,
) {
    match style {
        HeaderStyle::Off => {}
        HeaderStyle::Draft10 => Fields::new(statuses, policies).and(permits).append_to(headers),
        _ => {
            if let Some(tightest) = shown(statuses).min_by_key(|status| tightness(status)) {
                write_tightest(style, tightest, now, headers);
                if matches!(style, HeaderStyle::Draft6 | HeaderStyle::Draft7) {
                    append(headers, &RATELIMIT_POLICY, list(statuses, push_window));
                }
            }
        }
    }
}

/// A name as a String of RFC 9651, and of JSON as well, because names are printable ASCII.
pub(crate) fn quoted(name: &str) -> String {
    let mut quoted = String::from('"');
    for char in name.chars() {
        if matches!(char, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(char);
    }
    quoted.push('"');
    quoted
}

/// A limit and the quota that it is built with, in words.
pub(crate) fn words(name: &str, quota: Quota, rate: Rate, grain: Option<NonZeroU32>) -> Words {
    let quoted = quoted(name);
    let mut policy = Value::new();
    push_policy(&mut policy, &quoted, quota, rate, grain);
    let policy = String::from_utf8_lossy(policy.as_bytes()).into_owned();
    Words { name: name.to_owned(), quoted, policy, quota: quota.to_string(), grain }
}

/// A header value that answers can share without counting how many do: a count would be written by all processors, for
/// each answer.
///
/// It is never freed, so equal ones are one: what limiters leave behind grows with the number of different policies that
/// they had, not with that of limiters.
pub(crate) fn lasting_value(text: String) -> Option<HeaderValue> {
    static ALL: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    HeaderValue::from_str(&text).ok()?;
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    let known = all.get(&*text).copied();
    let lasting = known.unwrap_or_else(|| text.leak());
    all.insert(lasting);
    HeaderValue::from_maybe_shared(Bytes::from_static(lasting.as_bytes())).ok()
}

fn shown<'a, 's>(statuses: &'s [LimitStatus<'a>]) -> impl Iterator<Item = &'s LimitStatus<'a>> {
    statuses.iter().filter(|status| !status.shadow)
}

fn append(headers: &mut HeaderMap, name: &HeaderName, value: Option<HeaderValue>) {
    if let Some(value) = value {
        // A map that can hold no more fields goes without these.
        let _ = headers.try_append(name, value);
    }
}

/// The two fields of draft 10, put together while the request is decided, so that no more than they need be kept
/// until its response is there.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    policies: Option<HeaderValue>,
    limits: Option<HeaderValue>,
}

impl Fields {
    /// `policies` is what the first of them says of these limits, where that was made beforehand.
    pub(crate) fn new(statuses: &[LimitStatus<'_>], policies: Option<&HeaderValue>) -> Self {
        let policies = policies.cloned().or_else(|| {
            list(statuses, |out, status| match status.told() {
                Some(words) => out.push(words.policy.as_bytes()),
                None => {
                    let Words { quoted, grain, .. } = status.words;
                    push_policy(out, quoted, status.quota(), status.rate, *grain);
                }
            })
        });
        Self { policies, limits: list(statuses, push_status) }
    }

    /// The same for limits that all are shown: each one's name between quotes, its rate and what it says.
    pub(crate) fn of<'a>(
        policies: Option<&HeaderValue>,
        limits: impl Iterator<Item = (&'a str, Rate, Reading)>,
    ) -> Self {
        let mut out = Value::new();
        for (quoted, rate, reading) in limits {
            if !out.is_empty() {
                out.push(b", ");
            }
            push_reading(&mut out, quoted, rate, reading, None);
        }
        Self { policies: policies.cloned(), limits: HeaderValue::from_bytes(out.as_bytes()).ok() }
    }

    /// Adds the limits on concurrency.
    pub(crate) fn and(self, permits: &[PermitStatus<'_>]) -> Self {
        if !permits.iter().any(|permit| !permit.shadow) {
            return self;
        }
        let policies = join(self.policies, permits, |out, permit| {
            out.push(b";q=");
            out.push_number(permit.max.into());
            out.push(b";qu=\"concurrent-requests\"");
        });
        let limits = join(self.limits, permits, |out, permit| {
            out.push(b";r=");
            out.push_number(permit.remaining().into());
        });
        Self { policies, limits }
    }

    pub(crate) fn append_to(self, headers: &mut HeaderMap) {
        append(headers, &RATELIMIT_POLICY, self.policies);
        append(headers, &RATELIMIT, self.limits);
    }
}

/// Nothing where nothing is to be shown.
fn list(statuses: &[LimitStatus<'_>], push: impl Fn(&mut Value, &LimitStatus<'_>)) -> Option<HeaderValue> {
    let mut out = Value::new();
    for status in shown(statuses) {
        if !out.is_empty() {
            out.push(b", ");
        }
        push(&mut out, status);
    }
    if out.is_empty() { None } else { HeaderValue::from_bytes(out.as_bytes()).ok() }
}

/// A list that goes on.
fn join(
    list: Option<HeaderValue>,
    permits: &[PermitStatus<'_>],
    push: impl Fn(&mut Value, &PermitStatus<'_>),
) -> Option<HeaderValue> {
    let mut out = Value::new();
    if let Some(list) = list {
        out.push(list.as_bytes());
    }
    for permit in permits.iter().filter(|permit| !permit.shadow) {
        if !out.is_empty() {
            out.push(b", ");
        }
        out.push(permit.quoted.as_bytes());
        push(&mut out, permit);
    }
    HeaderValue::from_bytes(out.as_bytes()).ok()
}

fn push_policy(out: &mut Value, quoted: &str, quota: Quota, rate: Rate, grain: Option<NonZeroU32>) {
    let (quota, window) = window(quota, rate);
    out.push(quoted.as_bytes());
    out.push(b";q=");
    out.push_number(told(quota, grain));
    out.push(b";w=");
    out.push_number(window);
    if grain.is_some() {
        out.push(b";qu=\"content-bytes\"");
    }
}

/// Units as clients are told them: as bytes where they are grains, as far as an integer of a structured field goes.
fn told(units: u64, grain: Option<NonZeroU32>) -> u64 {
    match grain {
        None => units,
        Some(grain) => units.saturating_mul(grain.get().into()).min(999_999_999_999_999),
    }
}

fn push_status(out: &mut Value, status: &LimitStatus<'_>) {
    push_reading(out, &status.words.quoted, status.rate, status.reading, status.words.grain);
}

#[inline]
fn push_reading(out: &mut Value, quoted: &str, rate: Rate, reading: Reading, grain: Option<NonZeroU32>) {
    out.push(quoted.as_bytes());
    out.push(b";r=");
    let (remaining, next) = reading.levels(rate);
    out.push_number(told(remaining.into(), grain));
    if let Some(nanos) = next {
        out.push(b";t=");
        out.push_number(nanos.div_ceil(SECOND_NS as u64));
    }
}

fn push_window(out: &mut Value, status: &LimitStatus<'_>) {
    let (quota, window) = window(status.quota(), status.rate);
    out.push_number(told(quota, status.words.grain));
    out.push(b";w=");
    out.push_number(window);
}

/// The quota and the window in seconds by which clients are told a limit.
///
/// The window is the smallest that lets an empty bucket fill and whose whole units are at least 0.9 of what really
/// comes in it, never more: a client that keeps to them is neither refused nor slowed by more than a tenth.
pub(super) fn window(quota: Quota, rate: Rate) -> (u64, u64) {
    let (amount, period) = asked(quota, rate).unwrap_or((1, rate.interval_ns().into()));
    let mut units = u128::from(rate.burst().get());
    loop {
        let window = (units * period).div_ceil(amount * SECOND_NS);
        units = window * SECOND_NS * amount / period;
        // Less than a unit is rounded away, which is within a tenth from 9 units on: so this ends within 9 turns.
        if 10 * units * period >= 9 * window * SECOND_NS * amount {
            // At most burst + 10^9 units and 2^62 ns + 1 s, far within the 15 digits of a structured field.
            return (units as u64, window as u64);
        }
        units += 1;
    }
}

/// The asked amount and period in nanoseconds, where the rounding of the interval is nothing that a client could notice:
/// a millionth at most, and a burst to absorb it. Then 30 a second is told as `q=30;w=1`, though a unit takes a third of
/// a nanosecond longer.
fn asked(quota: Quota, rate: Rate) -> Option<(u128, u128)> {
    let (amount, period) = (u128::from(quota.amount()), quota.period().as_nanos());
    let interval = rate.interval_ns();
    let unnoticed = interval >= 1_000_000 && rate.burst().get() > 1;
    // A strict quota counts less than was asked. No product of `window` overflows: 32 and 64 bits, or 64 bits of amount
    // and at most 63 of nanoseconds.
    let same = amount > 0 && period >> 64 == 0 && period.div_ceil(amount) == interval.into();
    (unnoticed && same).then_some((amount, period))
}

/// The smallest is the tightest.
fn tightness(status: &LimitStatus<'_>) -> impl Ord + use<> {
    let wait = match status.reading.retry_after() {
        None if status.reading.is_never() => Duration::MAX,
        wait => wait.unwrap_or_default(),
    };
    (Reverse(wait), status.remaining(), Reverse(status.reading.reset_after()))
}

/// Never before a refused charge fits, whatever a store says.
fn reset_after(status: &LimitStatus<'_>) -> Duration {
    status.reading.reset_after().max(status.reading.retry_after().unwrap_or_default())
}

fn write_tightest(
    style: HeaderStyle,
    status: &LimitStatus<'_>,
    now: impl FnOnce() -> SystemTime,
    headers: &mut HeaderMap,
) {
    let units = |units: u32| told(units.into(), status.words.grain);
    let (limit, remaining) = (units(status.rate.burst().get()), units(status.remaining()));
    let reset = whole_seconds(match style {
        HeaderStyle::XRateLimitEpoch => {
            now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(reset_after(status))
        }
        _ => reset_after(status),
    });
    let [limit_field, remaining_field, reset_field] = match style {
        HeaderStyle::Draft7 => return write_joined(limit, remaining, reset, headers),
        HeaderStyle::Draft6 => &DRAFT_6,
        _ => &X,
    };
    if !keeps(headers, remaining_field, remaining) {
        let _ = headers.try_insert(limit_field, number(limit));
        let _ = headers.try_insert(remaining_field, number(remaining));
        let _ = headers.try_insert(reset_field, number(reset));
    }
}

fn write_joined(limit: u64, remaining: u64, reset: u64, headers: &mut HeaderMap) {
    let mut out = Value::new();
    for (piece, number) in [(&b"limit="[..], limit), (b", remaining=", remaining), (b", reset=", reset)] {
        out.push(piece);
        out.push_number(number);
    }
    match HeaderValue::from_bytes(out.as_bytes()) {
        Ok(value) if !keeps(headers, &RATELIMIT, remaining) => {
            let _ = headers.try_insert(&RATELIMIT, value);
        }
        _ => {}
    }
}

/// Whether the wrapped service says something in `field` that may not be replaced: fewer units, or what we cannot read.
fn keeps(headers: &HeaderMap, field: &HeaderName, remaining: u64) -> bool {
    let Some(value) = headers.get(field) else { return false };
    let text = value.to_str().unwrap_or_default();
    let number = text.split_once("remaining=").map_or(text, |(_, number)| number);
    let number = number.split(',').next().unwrap_or_default().trim().parse::<u64>();
    number.map_or(true, |theirs| theirs <= remaining)
}
