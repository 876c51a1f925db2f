//! What is written of each request.

use super::TextError;
use serde::Deserialize;
use std::{fmt, path::PathBuf, str::FromStr};

/// The access log.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// Where a line for each request goes: `stdout`, or a file's path; nowhere, unless set.
    pub access: Option<LogTarget>,
    /// How lines look.
    pub format: LogFormat,
    /// Query parameters whose values are not written, besides those that usually are credentials; `*` is all of them.
    pub redact: Vec<String>,
    /// Whether requests have an id in `X-Request-Id`: a trusted proxy's own, else a new one, for the upstream and the client.
    /// As long as there is an access log, unless set.
    pub request_ids: Option<bool>,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LogTarget {
    /// The standard output.
    Stdout,
    /// The end of a file. When it was moved or removed, another one is begun within a second.
    File(PathBuf),
}

/// How lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// An object of JSON for each request.
    #[default]
    Json,
    /// Apache's combined format, with ours behind it.
    Combined,
}

impl FromStr for LogTarget {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        match text {
            "" => Err(TextError(
                "there is no path; write `stdout` or a path like /var/log/tidegate/access.log".into(),
            )),
            "stdout" => Ok(Self::Stdout),
            path => Ok(Self::File(path.into())),
        }
    }
}

impl TryFrom<String> for LogTarget {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        text.parse()
    }
}

impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl FromStr for LogFormat {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        match text {
            "json" => Ok(Self::Json),
            "combined" => Ok(Self::Combined),
            _ => Err(TextError(format!("`{text}` is no format; write json or combined"))),
        }
    }
}
