use super::NONE;
use std::ops::IndexMut;

/// An order of values that lie elsewhere and carry its links, so that it takes no room of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct List {
    first: u32,
    last: u32,
}

/// A value's place in a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hook {
    before: u32,
    after: u32,
}

/// A value that can be in one list.
pub(crate) trait Listed {
    fn hook(&mut self) -> &mut Hook;
}

impl List {
    pub(crate) const fn is_empty(&self) -> bool {
        self.first == NONE
    }

    /// The number at the front.
    pub(crate) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    /// Puts a value that is in no list at the end.
    pub(crate) fn push<A>(&mut self, all: &mut A, number: u32)
    where
        A: IndexMut<u32, Output: Listed>,
    {
        let before = std::mem::replace(&mut self.last, number);
        *all[number].hook() = Hook { before, after: NONE };
        match before {
            NONE => self.first = number,
            before => all[before].hook().after = number,
        }
    }

    /// Takes out a value that is in this list.
    pub(crate) fn remove<A>(&mut self, all: &mut A, number: u32)
    where
        A: IndexMut<u32, Output: Listed>,
    {
        let Hook { before, after } = std::mem::take(all[number].hook());
        match before {
            NONE => self.first = after,
            before => all[before].hook().after = after,
        }
        match after {
            NONE => self.last = before,
            after => all[after].hook().before = before,
        }
    }
}

impl Hook {
    /// The number that follows in the list.
    pub(crate) fn after(&self) -> Option<u32> {
        (self.after != NONE).then_some(self.after)
    }
}

impl Default for List {
    fn default() -> Self {
        Self { first: NONE, last: NONE }
    }
}

impl Default for Hook {
    fn default() -> Self {
        Self { before: NONE, after: NONE }
    }
}
