//! Text for people and programs.

use super::text::Text;
use crate::status::Words;

/// A body or a message that is being put together, as it is or as the inside of a string of JSON.
pub(super) struct Prose {
    pub(super) text: Text<512>,
    pub(super) json: bool,
}

impl Prose {
    pub(super) const fn new(json: bool) -> Self {
        Self { text: Text::new(), json }
    }

    /// Text in which JSON has nothing to escape.
    #[inline]
    pub(super) fn ours(&mut self, text: &str) {
        self.text.push(text.as_bytes());
    }

    /// Text in which anything may stand.
    pub(super) fn theirs(&mut self, text: &str) {
        if !self.json {
            return self.ours(text);
        }
        // A string is always one of JSON.
        let quoted = serde_json::to_string(text).unwrap_or_default();
        self.ours(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
    }

    pub(super) fn name(&mut self, words: &Words) {
        self.ours(if self.json { words.escaped() } else { &words.name });
    }

    pub(super) fn number(&mut self, number: u64) {
        self.text.push_number(number);
    }
}
