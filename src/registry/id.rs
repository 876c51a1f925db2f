use std::fmt;

/// Which texts may be a client's id: 3 to 64 letters of ASCII, digits, `_` and `-`, unless set.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct IdRule {
    shortest: usize,
    longest: usize,
    more: String,
}

impl IdRule {
    /// From `shortest` to `longest` bytes; letters of ASCII, digits, `_` and `-`.
    pub const fn new(shortest: usize, longest: usize) -> Self {
        Self { shortest, longest, more: String::new() }
    }

    /// Further characters that an id may have, such as `.:@`. Control characters never are among them.
    pub fn and(mut self, characters: &str) -> Self {
        self.more.extend(characters.chars().filter(|char| !char.is_control()));
        self
    }

    /// Whether any text may be an id.
    pub(super) const fn is_possible(&self) -> bool {
        self.longest > 0 && self.shortest <= self.longest
    }

    /// Whether a text may be an id.
    pub fn accepts(&self, text: &str) -> bool {
        (self.shortest.max(1)..=self.longest).contains(&text.len())
            && text.chars().all(|char| {
                char.is_ascii_alphanumeric() || matches!(char, '_' | '-') || self.more.contains(char)
            })
    }
}

impl Default for IdRule {
    fn default() -> Self {
        Self::new(3, 64)
    }
}

/// What is accepted, for whoever sent something else.
impl fmt::Display for IdRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} letters, digits, _ and -", self.shortest, self.longest)?;
        if self.more.is_empty() { Ok(()) } else { write!(f, " and any of {:?}", self.more) }
    }
}
