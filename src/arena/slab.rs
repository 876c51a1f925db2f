use super::NONE;
use std::ops::{Index, IndexMut};

/// So many values and no more, each known by its number until it is removed.
///
/// A place that nobody has holds the default, so a number is never a reason to panic.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    values: Box<[T]>,
    /// The next free place after a free one. What follows a taken one is its [`Table`](super::Table)'s business.
    next: Box<[u32]>,
    free: u32,
    len: usize,
}

impl<T: Default> Slab<T> {
    /// Room for so many; never for more than there are numbers.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = u32::try_from(capacity).unwrap_or(NONE).min(NONE - 1);
        Self {
            values: (0..capacity).map(|_| T::default()).collect(),
            next: (1..=capacity).map(|next| if next == capacity { NONE } else { next }).collect(),
            free: if capacity == 0 { NONE } else { 0 },
            len: 0,
        }
    }

    /// The bytes that so many values take.
    pub(crate) const fn bytes(capacity: usize) -> usize {
        capacity * (size_of::<T>() + size_of::<u32>())
    }

    /// How many are taken.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// How many there are places for.
    pub(crate) fn capacity(&self) -> usize {
        self.values.len()
    }

    /// How many more there is room for.
    pub(crate) fn room(&self) -> usize {
        self.values.len() - self.len
    }

    /// Every place, the free ones with the default in them.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> + use<T> {
        0..self.values.len() as u32 // no more than there are numbers
    }

    /// The number of the value from now on; nothing where there is no room.
    pub(crate) fn insert(&mut self, value: T) -> Option<u32> {
        let number = self.free;
        *self.values.get_mut(number as usize)? = value;
        self.free = std::mem::replace(&mut self.next[number as usize], NONE);
        self.len += 1;
        Some(number)
    }

    /// Takes out a value that is there.
    pub(crate) fn remove(&mut self, number: u32) -> T {
        self.next[number as usize] = std::mem::replace(&mut self.free, number);
        self.len -= 1;
        std::mem::take(&mut self.values[number as usize])
    }

    pub(super) fn next(&mut self, number: u32) -> &mut u32 {
        &mut self.next[number as usize]
    }

    pub(super) fn after(&self, number: u32) -> u32 {
        self.next[number as usize]
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        &self.values[number as usize]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.values[number as usize]
    }
}
