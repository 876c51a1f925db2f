//! Texts of a kind: quotas, times, networks. Each kind says how it is read and is a format of the schema.

use crate::{Quota, identity::is_network};
use http::{HeaderName, Method, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{borrow::Cow, fmt, ops::Deref, time::Duration};

/// A time as a file has it: `250ms`, `10s`, `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Period(pub Duration);

/// A number of bytes as a file has it: `512`, `"64KiB"`, `"4MiB"`, `"1GiB"`, or `"10MB"` by thousands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size(pub u64);

/// What must not be shown. It is never printed, neither by `Debug` nor in mistakes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "writeOnly": true })
    }
}

/// A text that was read.
pub(super) trait Kind: Sized {
    /// What the schema calls it.
    const FORMAT: &'static str;

    fn read(text: &str) -> Result<Self, String>;
}

macro_rules! kind {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal, $example:literal, $pattern:literal, $read:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub(super) struct $name(pub(super) $inner);

        impl Deref for $name {
            type Target = $inner;

            fn deref(&self) -> &$inner {
                &self.0
            }
        }

        kind!($name, $format, $example, $pattern, |text: &str| $read(text).map(Self));
    };
    ($name:ident, $format:literal, $example:literal, $pattern:literal, $read:expr) => {
        impl Kind for $name {
            const FORMAT: &'static str = $format;

            fn read(text: &str) -> Result<Self, String> {
                $read(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::read(&String::deserialize(deserializer)?).map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $format.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "pattern": $pattern, "examples": [$example] })
            }
        }
    };
}

kind!(Period, "duration-text", "10s", r"^\s*\d+\s*[a-zA-Zµ]+", |text: &str| {
    let time = humantime::parse_duration(text).map(Self);
    time.map_err(|error| {
        format!("{text:?} is no time ({error}); write it like \"250ms\", \"10s\" or \"1h 30m\"")
    })
});
kind!(
    /// A quota.
    Amount(Quota), "quota", "100/minute burst 20", r"^\s*[\d_]+\s*(/|[pP][eE][rR]\s)",
    |text: &str| text.parse::<Quota>().map_err(|error| error.to_string())
);
kind!(
    /// An address or network.
    Network(String), "network", "10.0.0.0/8", r"^[0-9a-fA-F:.]+(/\d{1,3})?$",
    |text: &str| match is_network(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is no address or network; write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32")),
    }
);
kind!(
    /// A header's name.
    Header(String), "header-name", "x-api-key", r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$",
    |text: &str| match text.parse::<HeaderName>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("{text:?} is no header name; one is made of letters, digits and !#$%&'*+-.^_`|~")),
    }
);
kind!(
    /// A method of HTTP.
    Verb(Method), "method", "GET", r"^[A-Z0-9!#$%&'*+.^_`|~-]+$",
    |text: &str| match text.parse::<Method>() {
        Ok(method) if !text.bytes().any(|byte| byte.is_ascii_lowercase()) => Ok(method),
        _ => Err(format!("{text:?} is no method; write one in capitals, such as GET or POST")),
    }
);
kind!(
    /// One status or a class of them.
    Statuses(std::ops::RangeInclusive<u16>), "statuses", "5xx", r"^([1-5]xx|[1-9][0-9]{2}(-[1-9][0-9]{2})?)$",
    read_statuses
);
kind!(
    /// A key that hashes are made with: 16 bytes in hexadecimal digits.
    HashKey([u8; 16]), "hash-key", "32 hexadecimal digits", r"^[0-9a-fA-F]{32}$",
    read_key
);

fn read_statuses(text: &str) -> Result<std::ops::RangeInclusive<u16>, String> {
    let status = |text: &str| {
        text.parse::<u16>().ok().filter(|status| (100..=999).contains(status) && text.len() == 3)
    };
    let range = match text.strip_suffix("xx").and_then(|class| class.parse::<u16>().ok()) {
        Some(class @ 1..=5) => Some(class * 100..=class * 100 + 99),
        Some(_) => None,
        None => match text.split_once('-') {
            Some((first, last)) => status(first).zip(status(last)).map(|(first, last)| first..=last),
            None => status(text).map(|status| status..=status),
        },
    };
    let range = range.filter(|range| !range.is_empty());
    range.ok_or_else(|| format!("{text:?} is no status; write one like \"404\", \"5xx\" or \"400-403\""))
}

/// No digit of it is in any message.
fn read_key(text: &str) -> Result<[u8; 16], String> {
    let mut key = [0; 16];
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    for (place, byte) in key.iter_mut().enumerate() {
        let pair = text.get(2 * place..2 * place + 2).filter(|_| digits);
        *byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(|| {
            "it has 32 hexadecimal digits; make some with `openssl rand -hex 16`".to_owned()
        })?;
    }
    Ok(key)
}

impl Statuses {
    pub(super) fn has(&self, status: StatusCode) -> bool {
        self.contains(&status.as_u16())
    }
}

impl Size {
    fn read(text: &str) -> Result<Self, String> {
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let unit = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            _ => 0,
        };
        let number = number.replace('_', "").parse::<u64>().ok().filter(|_| unit > 0);
        let size = number.and_then(|number| number.checked_mul(unit)).map(Self);
        size.ok_or_else(|| {
            format!("{text:?} is no number of bytes; write it like 512, \"64KiB\" or \"4MiB\"")
        })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Bytes(u64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Bytes(bytes) => Ok(Self(bytes)),
            Either::Text(text) => Self::read(&text).map_err(D::Error::custom),
        }
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"], "minimum": 0, "format": "size",
            "pattern": r"^[\d_]+\s*([kKmMgG][iI]?)?[bB]?$", "examples": ["4MiB"],
        })
    }
}

/// How many bytes are one unit: as [`Size`], from 1 to 4,294,967,295.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grain(pub(super) u32);

impl Grain {
    fn read(text: &str) -> Result<Self, String> {
        Self::of(Size::read(text)?)
    }

    fn of(size: Size) -> Result<Self, String> {
        let bytes = u32::try_from(size.0).ok().filter(|bytes| *bytes > 0).map(Self);
        bytes.ok_or_else(|| format!("{} bytes are no unit; 1 byte to 4294967295 are accepted", size.0))
    }
}

impl<'de> Deserialize<'de> for Grain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(Size::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for Grain {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Grain".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Size::json_schema(generator);
        schema.insert("format".into(), "grain".into());
        schema.insert("minimum".into(), 1.into());
        schema.insert("maximum".into(), u32::MAX.into());
        schema
    }
}

/// What is wrong with a text of a format; nothing where the format is not one of ours.
pub(super) fn mistake(format: &str, text: &str) -> Option<String> {
    fn read<K: Kind>(text: &str) -> Option<String> {
        K::read(text).err()
    }
    match format {
        Period::FORMAT => read::<Period>(text),
        Amount::FORMAT => read::<Amount>(text),
        Network::FORMAT => read::<Network>(text),
        Header::FORMAT => read::<Header>(text),
        Verb::FORMAT => read::<Verb>(text),
        Statuses::FORMAT => read::<Statuses>(text),
        HashKey::FORMAT => read::<HashKey>(text),
        "size" => Size::read(text).err(),
        "grain" => Grain::read(text).err(),
        _ => None,
    }
}
