//! The time of day, by which grants and keys expire, and how records write it.

use crate::ManualClock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// 2026-01-01T00:00:00Z, where the day begins for whoever counts by a clock that is moved by hand.
const MANUAL_EPOCH: Duration = Duration::from_secs(1_767_225_600);
/// 9999-12-31T23:59:59Z, the last second that RFC 3339 can write.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// What time of day it is.
#[derive(Debug, Clone, Default)]
pub(crate) enum WallClock {
    #[default]
    System,
    Manual(ManualClock),
}

impl WallClock {
    /// Now, in whole milliseconds, as records keep it.
    pub(crate) fn now(&self) -> SystemTime {
        whole_millis(match self {
            Self::System => SystemTime::now(),
            Self::Manual(clock) => UNIX_EPOCH + MANUAL_EPOCH + clock.elapsed(),
        })
    }
}

/// A time that can be written, without what is below a millisecond.
pub(crate) fn whole_millis(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST);
    UNIX_EPOCH + Duration::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// After so long; the end of time, where there is none so late.
pub(crate) fn after(time: SystemTime, wait: Duration) -> SystemTime {
    whole_millis(time.checked_add(wait).unwrap_or(UNIX_EPOCH + LAST))
}

/// RFC 3339 in UTC, with milliseconds: `2026-01-15T10:30:00.000Z`.
pub(crate) fn to_text(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(whole_millis(time)).to_string()
}

pub(crate) fn from_text(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok().map(whole_millis)
}

pub(super) mod serde_rfc3339 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::{borrow::Cow, time::SystemTime};

    pub(crate) fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::to_text(*time))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        super::from_text(&text).ok_or_else(|| {
            Error::custom(format!("{text:?} is no time; write it in UTC, like 2026-01-15T10:30:00Z"))
        })
    }

    pub(crate) mod option {
        use serde::{Deserialize, Deserializer, Serializer};
        use std::time::SystemTime;

        pub(crate) fn serialize<S: Serializer>(
            time: &Option<SystemTime>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<SystemTime>, D::Error> {
            #[derive(Deserialize)]
            struct Time(#[serde(with = "super")] SystemTime);
            Ok(Option::<Time>::deserialize(deserializer)?.map(|Time(time)| time))
        }
    }
}
