// SPDX-License-Identifier: BSD-3-Clause
//! The same loops as bench_*.c, over Debian's vm-memory: the peer that guestmem is measured against.
//!
//! Each function is called with what the C program's own loop gets as its context, and a number of rounds.

mod access;
mod bits;
mod map;
mod places;
mod slice;

use std::ops::Deref;

/// What is made once and then read by all: vm-memory's maps may be shared between threads, a few of its
/// parts with raw pointers are not marked so.
struct Shared<T>(T);

unsafe impl<T> Send for Shared<T> {}
unsafe impl<T> Sync for Shared<T> {}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Four steps a round, as in the C programs: the cost of a loop of one depends on where the linker puts it.
fn each(iters: u64, mut step: impl FnMut()) {
    for _ in 0..iters / 4 {
        step();
        step();
        step();
        step();
    }
    for _ in 0..iters % 4 {
        step();
    }
}
