//! What threads meet in: the standard library's atomics, mutex and ways to wait; in the tests of `scripts/races` loom's.
//!
//! Loom's are for our own tests alone. Whoever builds their program with `--cfg loom` gets the standard library's here.

#[cfg(all(test, loom))]
pub(crate) use self::races::LockWord;
#[cfg(all(test, loom))]
pub(crate) use loom::{
    hint::spin_loop,
    sync::{
        Mutex,
        atomic::{AtomicU64, fence},
    },
    thread::yield_now,
};
#[cfg(not(all(test, loom)))]
pub(crate) use std::{
    hint::spin_loop,
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicU64 as LockWord, fence},
    },
    thread::yield_now,
};

#[cfg(all(test, loom))]
mod races {
    use super::AtomicU64;
    use std::sync::atomic::Ordering;

    /// A word that others try to lock while its holder stores to it.
    ///
    /// Loom would let such a store come before what others have tried meanwhile, and they would wait for ever. A swap
    /// comes after it, as the holder's store does on any machine.
    #[derive(Debug, Default)]
    pub(crate) struct LockWord(AtomicU64);

    impl LockWord {
        pub(crate) fn load(&self, order: Ordering) -> u64 {
            self.0.load(order)
        }

        pub(crate) fn store(&self, value: u64, order: Ordering) {
            self.0.swap(value, order);
        }

        pub(crate) fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
            self.0.fetch_or(bits, order)
        }
    }
}
