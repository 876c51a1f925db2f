//! What is wrong with a file, and where.

use super::document::Place;
use std::{error::Error, fmt, sync::Arc};

/// Why a file cannot be used: every mistake in it, not only the first.
///
/// Its message has a line for each mistake, `tidegate.toml:3:9: what is wrong and how to mend it`.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigError {
    mistakes: Vec<ConfigMistake>,
}

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMistake {
    file: Arc<str>,
    /// Line and column, both from 1.
    at: Option<(usize, usize)>,
    variable: Option<Arc<str>>,
    reason: String,
}

impl ConfigError {
    /// The mistakes, in the order of the file; those of variables come after.
    pub fn mistakes(&self) -> &[ConfigMistake] {
        &self.mistakes
    }

    /// A file that cannot be read at all.
    pub(super) fn unreadable(file: &str, reason: &str) -> Self {
        let reason = format!("it cannot be read ({reason}); name a file that is there, in UTF-8");
        Self { mistakes: vec![ConfigMistake { file: file.into(), at: None, variable: None, reason }] }
    }
}

impl ConfigMistake {
    /// The name of the file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line, from 1, where the mistake is in the file itself.
    pub fn line(&self) -> Option<usize> {
        self.at.map(|(line, _)| line)
    }

    /// The column, from 1 and in characters, where the mistake is in the file itself.
    pub fn column(&self) -> Option<usize> {
        self.at.map(|(_, column)| column)
    }

    /// The variable of the environment that brought the value along, if one did.
    pub fn variable(&self) -> Option<&str> {
        self.variable.as_deref()
    }

    /// What is wrong, and how to mend it.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for ConfigMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.variable, self.at) {
            (Some(variable), _) => write!(f, "{}: variable {variable}: {}", self.file, self.reason),
            (None, Some((line, column))) => write!(f, "{}:{line}:{column}: {}", self.file, self.reason),
            (None, None) => write!(f, "{}: {}", self.file, self.reason),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.mistakes.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

/// The message, because that is what a `main` that returns the error prints.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for ConfigError {}

/// Mistakes as they are found.
#[derive(Debug, Default)]
pub(super) struct Found {
    mistakes: Vec<(Place, String)>,
    /// Where syntax is none: what else seems to be wrong in the same line comes of that.
    no_syntax: Vec<usize>,
}

impl Found {
    pub(super) fn add(&mut self, place: &Place, reason: impl Into<String>) {
        self.mistakes.push((place.clone(), reason.into()));
    }

    /// Takes note of syntax that is none, so many bytes into the file.
    pub(super) fn add_syntax(&mut self, offset: usize, reason: &str) {
        self.add(&Place::At(offset), format!("this is no TOML: {reason}"));
        self.no_syntax.push(offset);
    }

    /// Whether something is wrong there already.
    pub(super) fn has(&self, place: &Place) -> bool {
        self.mistakes.iter().any(|(other, _)| other == place)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// The error that tells them all, if there are any. `hidden` are values that no message shows, and what it shows instead.
    pub(super) fn error(
        mut self,
        file: &str,
        text: &str,
        hidden: &[(String, String)],
    ) -> Option<ConfigError> {
        if self.mistakes.is_empty() {
            return None;
        }
        let lines: Vec<_> = self.no_syntax.iter().map(|offset| line_and_column(text, *offset).0).collect();
        self.mistakes.retain(|(place, _)| match place {
            Place::At(offset) => {
                self.no_syntax.contains(offset) || !lines.contains(&line_and_column(text, *offset).0)
            }
            Place::Variable(_) => true,
        });
        self.mistakes.sort_by(|(one, _), (other, _)| one.cmp(other));
        self.mistakes.dedup();
        let file: Arc<str> = file.into();
        let mistake = |(place, reason): (Place, String)| {
            let reason = hidden.iter().fold(reason, |reason, (value, shown)| reason.replace(value, shown));
            let (at, variable) = match place {
                Place::At(offset) => (Some(line_and_column(text, offset)), None),
                Place::Variable(name) => (None, Some(name)),
            };
            ConfigMistake { file: file.clone(), at, variable, reason }
        };
        Some(ConfigError { mistakes: self.mistakes.into_iter().map(mistake).collect() })
    }
}

/// Both from 1, the column in characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}
