//! How much, how fast.

#[cfg(feature = "pace")]
mod slowed;

use crate::QuotaError;
use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

/// The nanoseconds a unit at the fastest rate, 10,000,000 per second.
const SHORTEST: u128 = 100;
/// The nanoseconds a unit at the slowest rate, 1 per 365 days.
const LONGEST: u128 = 365 * 86_400 * SECOND;
/// The most nanoseconds that an empty bucket may take to fill.
const FULL: u128 = 1 << 62;
const SECOND: u128 = 1_000_000_000;
const RANGE: &str = "1/365d to 10_000_000/second is accepted";

/// Nanoseconds and names, the longest unit first. `Display` writes one of a unit by the first name, several
/// by the second.
const UNITS: [(u128, &[&str]); 7] = [
    (86_400 * SECOND, &["day", "d", "days"]),
    (3_600 * SECOND, &["hour", "h", "hr", "hrs", "hours"]),
    (60 * SECOND, &["minute", "min", "m", "mins", "minutes"]),
    (SECOND, &["second", "s", "sec", "secs", "seconds"]),
    (1_000_000, &["millisecond", "ms", "milliseconds"]),
    (1_000, &["microsecond", "us", "microseconds"]),
    (1, &["nanosecond", "ns", "nanoseconds"]),
];

/// So many units in a period, and how many of them at once.
///
/// ```
/// use tidegate::Quota;
/// let quota = Quota::per_minute(60).burst(10);
/// assert_eq!("60/minute burst 10".parse(), Ok(quota));
/// assert_eq!(quota.to_string(), "60/minute burst 10");
/// ```
///
/// It is counted as a token bucket: up to the burst can be spent at once, and units come back one by one,
/// evenly, `amount` in each period. Without [`burst`](Self::burst) the burst is the amount n, so that the
/// **worst period admits 2n - 1**: n at once at its start and then n - 1 more as they come back. With a burst
/// b the worst is b + n - 1. (A period does not contain its end; rounding can only make these fewer.) Where
/// that is too many, [`strict`](Self::strict) never admits more than n. `docs/algorithms.md` has the
/// arithmetic, and says which quota stands for which algorithm.
///
/// A quota only describes. [`rate`](Self::rate) checks it, which building a limiter and parsing do for you.
/// Rates from 1 per 365 days to 10,000,000 per second are accepted, and bursts from 1 to 4,294,967,295.
///
/// # As text
///
/// An amount, `/` or `per`, a period, and then `burst` with a number, `strict` or both: `100/minute`,
/// `10/second burst 20`, `5 per 10s`, `10_000/h`, `1/30d`, `100/minute strict`. Units are ns, us, ms, s, min
/// (or m), h, d and their names in full; neither case nor spaces matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quota {
    amount: u64,
    period: Duration,
    burst: Option<u64>,
    strict: bool,
}

impl Quota {
    /// `amount` units in each second.
    #[must_use]
    pub const fn per_second(amount: u64) -> Self {
        Self::per(amount, Duration::from_secs(1))
    }

    /// `amount` units in each minute.
    #[must_use]
    pub const fn per_minute(amount: u64) -> Self {
        Self::per(amount, Duration::from_secs(60))
    }

    /// `amount` units in each hour.
    #[must_use]
    pub const fn per_hour(amount: u64) -> Self {
        Self::per(amount, Duration::from_secs(3_600))
    }

    /// `amount` units in each 24 hours, whenever they begin.
    #[must_use]
    pub const fn per_day(amount: u64) -> Self {
        Self::per(amount, Duration::from_secs(86_400))
    }

    /// `amount` units in each `period`.
    #[must_use]
    pub const fn per(amount: u64, period: Duration) -> Self {
        Self { amount, period, burst: None, strict: false }
    }

    /// Sets how many units can be spent at once, from 1 to 4,294,967,295, and at most the amount if the quota
    /// is strict.
    #[must_use]
    pub const fn burst(mut self, units: u64) -> Self {
        self.burst = Some(units);
        self
    }

    /// Never admits more than the amount in any period of that length, wherever it begins.
    ///
    /// Some of the sustained rate pays for it: with a burst b, the amount n comes down to n - b + 1 in each
    /// period. Without a burst, b is a tenth of n, rounded up, which keeps at least 90 % of the rate:
    /// `100/minute strict` admits 10 at once and 91 a minute in the long run. A burst of 1 keeps the whole
    /// rate; a burst of n leaves one unit a period.
    #[must_use]
    pub const fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// The units in each period.
    pub const fn amount(&self) -> u64 {
        self.amount
    }

    /// The period.
    pub const fn period(&self) -> Duration {
        self.period
    }

    /// The burst in force: the one that was set, else the amount, or a tenth of it (rounded up) if the quota
    /// is strict.
    pub const fn burst_size(&self) -> u64 {
        match self.burst {
            Some(burst) => burst,
            None if self.strict => self.amount.div_ceil(10),
            None => self.amount,
        }
    }

    /// The burst that was set.
    pub(crate) const fn own_burst(&self) -> Option<u64> {
        self.burst
    }

    /// Whether no period ever admits more than the amount.
    pub const fn is_strict(&self) -> bool {
        self.strict
    }

    /// The quota as it is counted, in whole nanoseconds a unit, rounded up: it never admits more than was
    /// asked.
    ///
    /// # Errors
    ///
    /// If the rate or the burst is outside its range, a strict burst exceeds the amount, the burst would take
    /// more than 146 years (2^62 ns) to come back, or rounding would miss the rate by more than 0.1 %, which
    /// some rates above 1,000,000 per second do. Strict quotas are free of that last rule: they promise a
    /// most, not a rate.
    pub fn rate(&self) -> Result<Rate, QuotaError> {
        self.count().map_err(|reason| QuotaError::new(format!("quota \"{self}\": {reason}")))
    }

    /// The rate, or what is wrong. No product overflows 128 bits: amounts have 64, periods 94, `LONGEST` 55.
    fn count(&self) -> Result<Rate, String> {
        let (amount, period) = (u128::from(self.amount), self.period.as_nanos());
        if amount == 0 || period > amount * LONGEST {
            return Err(format!("slower than one unit in 365 days; {RANGE}"));
        }
        if period < amount * SHORTEST {
            return Err(format!("faster than 10,000,000 units a second; {RANGE}"));
        }
        let burst = self.burst_units()?;
        let size = u128::from(burst.get());
        // A bucket admits at most burst + ceil(period / interval) - 1 in a half-open period, so the strict
        // interval is the shortest that keeps this at the amount. No underflow: a strict burst is at most the
        // amount.
        let units = if self.strict { amount - size + 1 } else { amount };
        // Rounding up leaves the range alone, because both of its ends are whole: only the reduction can pass
        // LONGEST.
        let interval = period.div_ceil(units);
        if interval > LONGEST {
            return Err(format!(
                "a strict burst of {burst} leaves {units} in each period, slower than one unit in 365 days; set a smaller burst"
            ));
        }
        // The share missed is 1 - period / (amount * interval).
        if !self.strict && period * 1_000 < amount * interval * 999 {
            return Err(missed(interval));
        }
        if interval * size > FULL {
            let most = FULL / interval;
            return Err(format!(
                "a burst of {burst} takes over 146 years to come back; set one of 1 to {most}"
            ));
        }
        // No loss: at most LONGEST.
        Ok(Rate::new(interval as u64, burst))
    }

    fn burst_units(&self) -> Result<NonZeroU32, String> {
        let burst = self.burst_size();
        let most = if self.strict { self.amount.min(u32::MAX.into()) } else { u32::MAX.into() };
        match u32::try_from(burst).ok().and_then(NonZeroU32::new) {
            Some(units) if burst <= most => Ok(units),
            _ if self.burst.is_none() => Err(format!(
                "no burst is set, so it would be {burst}, which is too large; set one of 1 to {most} with `.burst(n)` or \"burst n\""
            )),
            _ if self.strict => {
                Err(format!("a strict quota cannot have a burst of {burst}; 1 to {most} is accepted"))
            }
            _ => Err(format!("a burst of {burst} cannot be counted; 1 to {most} is accepted")),
        }
    }
}

/// Names the rates on both sides of one that `interval` misses: the least per second that rounds up to
/// `interval`, and to a nanosecond less. They have seven or eight digits, since only intervals below 1000 ns
/// miss by 0.1 %.
fn missed(interval: u128) -> String {
    let [below, above] = [interval, interval - 1].map(|interval| {
        let amount = SECOND.div_ceil(interval);
        format!("{}_{:03}_{:03}/second", amount / 1_000_000, amount / 1_000 % 1_000, amount % 1_000)
    });
    format!(
        "whole nanoseconds a unit miss this rate by more than 0.1 %; the nearest rates are {below} and {above}"
    )
}

/// The canonical text, which parses to the same quota if it is a valid one.
impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.amount)?;
        let nanos = self.period.as_nanos();
        // Always found: every number is a multiple of the last unit, 1.
        if let Some((unit, [one, several, ..])) = UNITS.iter().find(|(unit, _)| nanos % unit == 0) {
            match nanos / unit {
                1 => f.write_str(one)?,
                count => write!(f, "{count}{several}")?,
            }
        }
        if let Some(burst) = self.burst {
            write!(f, " burst {burst}")?;
        }
        f.write_str(if self.strict { " strict" } else { "" })
    }
}

/// Reads what [`Quota`] describes, and accepts only what [`Quota::rate`] accepts.
impl FromStr for Quota {
    type Err = QuotaError;

    fn from_str(text: &str) -> Result<Self, QuotaError> {
        let quota = parse(text).and_then(|quota| quota.count().map(|_| quota));
        quota.map_err(|reason| QuotaError::new(format!("quota {text:?}: {reason}")))
    }
}

fn parse(mut text: &str) -> Result<Quota, String> {
    let text = &mut text;
    let amount = number(token(text), "an amount")?;
    let per = token(text);
    if per != "/" && !per.eq_ignore_ascii_case("per") {
        return Err(unexpected(per, "\"/\" or \"per\""));
    }
    let mut quota = Quota::per(amount, period(text)?);
    loop {
        let word = token(text);
        if word.is_empty() {
            return Ok(quota);
        } else if word.eq_ignore_ascii_case("burst") && quota.burst.is_none() {
            quota.burst = Some(number(token(text), "a burst")?);
        } else if word.eq_ignore_ascii_case("strict") && !quota.strict {
            quota.strict = true;
        } else {
            return Err(unexpected(word, "\"burst\" with a number or \"strict\", each once,"));
        }
    }
}

fn period(text: &mut &str) -> Result<Duration, String> {
    let mut name = token(text);
    let mut count = 1;
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        count = number(name, "a period")?;
        name = token(text);
    }
    let Some((unit, _)) = UNITS.iter().find(|(_, names)| names.iter().any(|n| n.eq_ignore_ascii_case(name)))
    else {
        return Err(unexpected(name, "a unit (ns, us, ms, s, min, h or d)"));
    };
    let nanos = unit.checked_mul(count);
    let seconds = nanos.and_then(|nanos| u64::try_from(nanos / SECOND).ok());
    let (Some(nanos), Some(seconds)) = (nanos, seconds) else {
        return Err(format!("a period of {count}{name} is too long; it must be below 2^64 seconds"));
    };
    // No loss, and no carry into the seconds: below 10^9.
    Ok(Duration::new(seconds, (nanos % SECOND) as u32))
}

/// Takes the next token off `text`: a run of digits and underscores, of letters, or of anything else but
/// spaces. It is empty at the end.
fn token<'a>(text: &mut &'a str) -> &'a str {
    let kind = |c: char| match c {
        '0'..='9' | '_' => 0,
        _ if c.is_alphabetic() => 1,
        _ if c.is_whitespace() => 2,
        _ => 3,
    };
    let rest = text.trim_start();
    let end = rest.chars().next().and_then(|first| rest.find(|c| kind(c) != kind(first)));
    let (token, rest) = rest.split_at(end.unwrap_or(rest.len()));
    *text = rest;
    token
}

fn number<N: FromStr>(token: &str, what: &str) -> Result<N, String> {
    let bits = 8 * size_of::<N>();
    let number = token.replace('_', "").parse();
    number.map_err(|_| unexpected(token, &format!("{what} in digits, below 2^{bits},")))
}

fn unexpected(token: &str, accepted: &str) -> String {
    let found = if token.is_empty() { "it ends".into() } else { format!("{token:?} stands") };
    format!(
        "{found} where {accepted} is accepted; write it like \"100/minute\" or \"5 per 10s burst 20 strict\""
    )
}

/// A quota as it is counted: whole nanoseconds a unit, and how many units fit at once.
///
/// `interval * burst` is at most 2^62 ns (146 years), so no sum of a time and a debt overflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Seconds and nanoseconds apart, because governor takes a `Duration` on each decision, and taking one apart is
    /// quicker than putting it together.
    seconds: u32,
    nanos: u32,
    burst: NonZeroU32,
}

impl Rate {
    /// An interval of at most 2^32 seconds.
    pub(crate) const fn new(interval_ns: u64, burst: NonZeroU32) -> Self {
        Self {
            seconds: (interval_ns / 1_000_000_000) as u32,
            nanos: (interval_ns % 1_000_000_000) as u32,
            burst,
        }
    }

    /// The plainest quota that is counted like this, for rates whose quota is not at hand.
    pub(crate) fn quota(self) -> Quota {
        let burst = u64::from(self.burst.get());
        let counted_alike = |amount: &u64, seconds: u64| {
            *amount > 0 && (seconds * SECOND as u64).div_ceil(*amount) == self.interval_ns()
        };
        let in_seconds = |amount, seconds| Quota::per(amount, Duration::from_secs(seconds));
        let periods = || [1, 60, 3_600, 86_400].into_iter();
        if let Some(seconds) = periods().find(|seconds| counted_alike(&burst, *seconds)) {
            return in_seconds(burst, seconds);
        }
        let plain = periods().find_map(|seconds| {
            let nearest = (seconds * SECOND as u64 + self.interval_ns() / 2) / self.interval_ns();
            Some(nearest).filter(|amount| counted_alike(amount, seconds)).map(|n| in_seconds(n, seconds))
        });
        plain.unwrap_or(Quota::per(1, self.interval())).burst(burst)
    }

    #[cfg(test)]
    pub(crate) fn for_test(interval_ns: u64, burst: u32) -> Self {
        let burst = NonZeroU32::new(burst).expect("a burst of at least 1");
        assert!(interval_ns > 0 && u128::from(interval_ns) * u128::from(burst.get()) <= 1 << 62);
        Self::new(interval_ns, burst)
    }

    /// The interval in seconds and nanoseconds, and the burst: what [`from_parts`](Self::from_parts) takes.
    pub(crate) const fn parts(self) -> [u32; 3] {
        [self.seconds, self.nanos, self.burst.get()]
    }

    /// Puts together what a rate was taken apart into.
    pub(crate) fn from_parts([seconds, nanos, burst]: [u32; 3]) -> Self {
        Self { seconds, nanos, burst: NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN) }
    }

    /// The time that it takes until one unit is there again, from 100 ns to 365 days.
    pub const fn interval(&self) -> Duration {
        Duration::new(self.seconds as u64, self.nanos)
    }

    /// The units that can be spent at once.
    pub const fn burst(&self) -> NonZeroU32 {
        self.burst
    }

    /// The interval in nanoseconds, at least 100.
    pub(crate) const fn interval_ns(&self) -> u64 {
        self.seconds as u64 * 1_000_000_000 + self.nanos as u64
    }

    /// The time in nanoseconds that an empty bucket takes to fill.
    pub(crate) const fn full_ns(&self) -> u64 {
        self.interval_ns() * self.burst.get() as u64
    }
}
