//! The system's allocator, which counts what each thread takes.
#![allow(unsafe_code, reason = "an allocator cannot be written without")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

/// How many allocations this thread has made; moving one to a larger place is one.
pub(crate) fn taken() -> u64 {
    TAKEN.get()
}

/// The bytes that this thread has taken and not given back.
pub(crate) fn live_bytes() -> i64 {
    LIVE.get()
}

pub(crate) struct Counting;

fn count(bytes: i64, taken: u64) {
    TAKEN.set(TAKEN.get() + taken);
    LIVE.set(LIVE.get() + bytes);
}

// SAFETY: every call is the system allocator's own; the counters neither allocate nor have destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64, 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64, 1);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as i64), 0);
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64, 1);
        unsafe { System.realloc(at, layout, size) }
    }
}
