use super::{NONE, Slab};
use std::ops::{Index, IndexMut};

/// Values that are found by a hash: a slab, and a chain of numbers for each of as many buckets.
///
/// The hash has to be keyed, or somebody could make one chain of all.
#[derive(Debug)]
pub(crate) struct Table<T> {
    slab: Slab<T>,
    buckets: Box<[u32]>,
}

impl<T: Default> Table<T> {
    /// Room for so many.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { slab: Slab::new(capacity), buckets: vec![NONE; buckets(capacity)].into() }
    }

    /// The bytes that so many values take.
    pub(crate) const fn bytes(capacity: usize) -> usize {
        Slab::<T>::bytes(capacity) + buckets(capacity) * size_of::<u32>()
    }

    /// How many are taken.
    pub(crate) const fn len(&self) -> usize {
        self.slab.len()
    }

    /// How many there are places for.
    pub(crate) fn capacity(&self) -> usize {
        self.slab.capacity()
    }

    /// Every place, the free ones with the default in them.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> + use<T> {
        self.slab.numbers()
    }

    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<u32> {
        let mut number = self.buckets[self.bucket(hash)];
        while number != NONE && !is_it(&self.slab[number]) {
            number = self.slab.after(number);
        }
        (number != NONE).then_some(number)
    }

    /// The number of the value from now on; nothing where there is no room. It must not be there already.
    pub(crate) fn insert(&mut self, hash: u64, value: T) -> Option<u32> {
        let number = self.slab.insert(value)?;
        let bucket = self.bucket(hash);
        *self.slab.next(number) = std::mem::replace(&mut self.buckets[bucket], number);
        Some(number)
    }

    /// Takes out a value that was inserted under this hash.
    pub(crate) fn remove(&mut self, hash: u64, number: u32) -> T {
        let after = self.slab.after(number);
        let bucket = self.bucket(hash);
        let mut before = self.buckets[bucket];
        if before == number {
            self.buckets[bucket] = after;
        } else {
            while before != NONE && self.slab.after(before) != number {
                before = self.slab.after(before);
            }
            if before != NONE {
                *self.slab.next(before) = after;
            }
        }
        self.slab.remove(number)
    }

    fn bucket(&self, hash: u64) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }
}

/// A power of two, and not fewer than values.
const fn buckets(capacity: usize) -> usize {
    match capacity.checked_next_power_of_two() {
        Some(buckets) => buckets,
        None => 1,
    }
}

impl<T> Index<u32> for Table<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        &self.slab[number]
    }
}

impl<T> IndexMut<u32> for Table<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.slab[number]
    }
}
