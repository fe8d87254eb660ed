// SPDX-License-Identifier: BSD-3-Clause
//! Beside bench_access.c: objects and atomic accesses, one address after the other.

use std::hint::black_box;
use std::os::raw::c_void;
use std::sync::atomic::Ordering;
use std::sync::OnceLock;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const WALK: u64 = 32 * 1024 - 8;

/// Two regions of 1 MiB that touch, as in the C program.
fn memory() -> &'static GuestMemoryMmap {
    static MEMORY: OnceLock<GuestMemoryMmap> = OnceLock::new();
    MEMORY.get_or_init(|| {
        let ranges = [(GuestAddress(0), 1 << 20), (GuestAddress(1 << 20), 1 << 20)];
        let memory = GuestMemoryMmap::from_ranges(&ranges).unwrap();
        for at in (0..1 << 21).step_by(4096) {
            memory.write_obj(1u8, GuestAddress(at)).unwrap();
        }
        memory
    })
}

/// Four accesses a round, as in the C program.
fn walk(iters: u64, mut step: impl FnMut(u64, u64)) {
    let mut at = 0;
    let mut i = 0;
    while i < iters {
        for _ in 0..4 {
            step(at, i);
            at = (at + 8) & WALK;
            i += 1;
        }
    }
}

#[no_mangle]
pub extern "C" fn peer_read_obj(_ctx: *mut c_void, iters: u64) {
    let memory = memory();
    let mut sum = 0u64;
    walk(iters, |at, _| {
        sum = sum.wrapping_add(memory.read_obj::<u64>(GuestAddress(at)).unwrap());
    });
    black_box(sum);
}

#[no_mangle]
pub extern "C" fn peer_write_obj(_ctx: *mut c_void, iters: u64) {
    let memory = memory();
    walk(iters, |at, i| {
        memory.write_obj(i, GuestAddress(65536 + at)).unwrap()
    });
}

#[no_mangle]
pub extern "C" fn peer_load(_ctx: *mut c_void, iters: u64) {
    let memory = memory();
    let mut sum = 0u64;
    walk(iters, |at, _| {
        sum = sum.wrapping_add(
            memory
                .load::<u64>(GuestAddress(at), Ordering::Relaxed)
                .unwrap(),
        );
    });
    black_box(sum);
}

#[no_mangle]
pub extern "C" fn peer_store(_ctx: *mut c_void, iters: u64) {
    let memory = memory();
    walk(iters, |at, i| {
        memory
            .store(i, GuestAddress(65536 + at), Ordering::Relaxed)
            .unwrap()
    });
}

#[no_mangle]
pub extern "C" fn peer_load_u16(_ctx: *mut c_void, iters: u64) {
    let memory = memory();
    let mut sum = 0u16;
    walk(iters, |at, _| {
        sum = sum.wrapping_add(
            memory
                .load::<u16>(GuestAddress(at), Ordering::Acquire)
                .unwrap(),
        );
    });
    black_box(sum);
}

#[no_mangle]
pub extern "C" fn peer_store_u16(_ctx: *mut c_void, iters: u64) {
    let memory = memory();
    walk(iters, |at, i| {
        memory
            .store(i as u16, GuestAddress(65536 + at), Ordering::Release)
            .unwrap()
    });
}

#[no_mangle]
pub extern "C" fn peer_store_seq(_ctx: *mut c_void, iters: u64) {
    let memory = memory();
    walk(iters, |at, i| {
        memory
            .store(i, GuestAddress(65536 + at), Ordering::SeqCst)
            .unwrap()
    });
}
