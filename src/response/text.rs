//! Text that is put together.

/// Bytes on the stack, as long as there are at most `N` of them.
///
/// Answers are made of many short pieces, which this takes at less than half of what a growing vector takes.
pub(super) struct Text<const N: usize> {
    space: [u8; N],
    len: usize,
    /// All of it, once it has outgrown the space.
    grown: Vec<u8>,
}

impl<const N: usize> Text<N> {
    pub(super) const fn new() -> Self {
        Self { space: [0; N], len: 0, grown: Vec::new() }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(super) fn push(&mut self, piece: &[u8]) {
        let end = self.len + piece.len();
        match self.space.get_mut(self.len..end) {
            Some(place) => place.copy_from_slice(piece),
            None => self.grow(piece),
        }
        self.len = end;
    }

    #[cold]
    fn grow(&mut self, piece: &[u8]) {
        if self.grown.is_empty() {
            self.grown.extend_from_slice(&self.space[..self.len]);
        }
        self.grown.extend_from_slice(piece);
    }

    pub(super) fn push_number(&mut self, number: u64) {
        self.push(itoa::Buffer::new().format(number).as_bytes());
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.space.get(..self.len).unwrap_or(&self.grown)
    }
}
