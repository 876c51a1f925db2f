//! Times and sizes as text.

use serde::Deserialize;
use std::{fmt, str::FromStr, time::Duration};

/// Why a text says no setting, and what would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextError(pub(super) String);

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TextError {}

/// A time longer than none: `500ms`, `30s`, `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(Duration);

impl Span {
    pub(super) const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// The time.
    pub const fn get(self) -> Duration {
        self.0
    }
}

/// Ten years: longer spans are mistakes, and too far away for some clocks.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl FromStr for Span {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        match humantime::parse_duration(text) {
            Ok(time) if time.is_zero() => Err(TextError(format!("`{text}` is no time; write 1ms or more"))),
            Ok(time) if time > LONGEST => {
                Err(TextError(format!("`{text}` is too long; write 10 years or less")))
            }
            Ok(time) => Ok(Self(time)),
            Err(error) => {
                Err(TextError(format!("`{text}` is no time ({error}); write it like 500ms or 30s")))
            }
        }
    }
}

impl TryFrom<String> for Span {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        text.parse()
    }
}

impl TryFrom<Duration> for Span {
    type Error = TextError;

    fn try_from(time: Duration) -> Result<Self, TextError> {
        humantime::format_duration(time).to_string().parse()
    }
}

/// A number of bytes: `16KiB`, `1MB`, `512`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(u64);

impl Size {
    /// So many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// How many bytes it is.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

const UNITS: [(&str, u64); 8] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

impl FromStr for Size {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let error = || TextError(format!("`{text}` is no size; write it like 512, 16KiB or 1GB"));
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| error())?;
        let unit = match unit.trim_start() {
            "" | "B" => 1,
            unit => UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(error)?.1,
        };
        number.checked_mul(unit).map(Self).ok_or_else(error)
    }
}

impl TryFrom<String> for Size {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        text.parse()
    }
}
