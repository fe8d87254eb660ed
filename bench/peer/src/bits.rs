// SPDX-License-Identifier: BSD-3-Clause
//! Beside bench_bits.c: vm-memory's bitmap of written pages, and accesses that mark in it.

use std::hint::black_box;
use std::os::raw::c_void;
use std::sync::atomic::Ordering;
use std::sync::OnceLock;
use vm_memory::bitmap::{AtomicBitmap, Bitmap};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::each;

const GIB: usize = 1 << 30;
const PAGE: usize = 4096;

fn bitmap() -> &'static AtomicBitmap {
    static BITMAP: OnceLock<AtomicBitmap> = OnceLock::new();
    BITMAP.get_or_init(|| AtomicBitmap::new(GIB, PAGE))
}

fn memory() -> &'static GuestMemoryMmap<AtomicBitmap> {
    static MEMORY: OnceLock<GuestMemoryMmap<AtomicBitmap>> = OnceLock::new();
    MEMORY.get_or_init(|| {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), GIB)]).unwrap();
        for at in (0..1 << 20).step_by(PAGE) {
            memory.write_obj(1u8, GuestAddress(at)).unwrap();
        }
        memory
    })
}

#[no_mangle]
pub extern "C" fn peer_mark_range(_ctx: *mut c_void, iters: u64) {
    let bitmap = bitmap();
    for _ in 0..iters {
        black_box(bitmap).set_addr_range(0, GIB);
    }
}

#[no_mangle]
pub extern "C" fn peer_mark_and_take(_ctx: *mut c_void, iters: u64) {
    let bitmap = bitmap();
    for _ in 0..iters {
        black_box(bitmap).set_addr_range(0, GIB);
        black_box(bitmap.get_and_reset());
    }
}

#[no_mangle]
pub extern "C" fn peer_take_clean(_ctx: *mut c_void, iters: u64) {
    let bitmap = bitmap();
    bitmap.reset();
    for _ in 0..iters {
        black_box(black_box(bitmap).get_and_reset());
    }
}

#[no_mangle]
pub extern "C" fn peer_reset(_ctx: *mut c_void, iters: u64) {
    let bitmap = bitmap();
    for _ in 0..iters {
        black_box(bitmap).reset();
    }
}

fn scan(bitmap: &AtomicBitmap, iters: u64) {
    for _ in 0..iters {
        let mut count = 0;
        for page in 0..GIB / PAGE {
            count += black_box(bitmap).dirty_at(page * PAGE) as u32;
        }
        black_box(count);
    }
}

#[no_mangle]
pub extern "C" fn peer_scan_clean(_ctx: *mut c_void, iters: u64) {
    let bitmap = bitmap();
    bitmap.reset();
    scan(bitmap, iters);
}

/// One page in 64 is marked.
#[no_mangle]
pub extern "C" fn peer_scan_sparse(_ctx: *mut c_void, iters: u64) {
    let bitmap = bitmap();
    bitmap.reset();
    for page in (0..GIB / PAGE).step_by(64) {
        bitmap.set_addr_range(page * PAGE, 1);
    }
    scan(bitmap, iters);
}

#[no_mangle]
pub extern "C" fn peer_logged_obj(_ctx: *mut c_void, iters: u64) {
    let memory = memory();
    let mut at = 0;
    each(iters, || {
        memory.write_obj(at, GuestAddress(at)).unwrap();
        at = (at + 8) & (32 * 1024 - 8);
    });
}

#[no_mangle]
pub extern "C" fn peer_logged_store(_ctx: *mut c_void, iters: u64) {
    let memory = memory();
    let mut at = 0;
    each(iters, || {
        memory
            .store(at as u16, GuestAddress(at), Ordering::Relaxed)
            .unwrap();
        at = (at + 8) & (32 * 1024 - 8);
    });
}

/// The context is the number of bytes.
#[no_mangle]
pub extern "C" fn peer_logged_slice(ctx: *mut c_void, iters: u64) {
    let memory = memory();
    let buffer = vec![7u8; unsafe { *(ctx as *const usize) }];
    each(iters, || {
        memory
            .write_slice(black_box(&buffer[..]), GuestAddress(0))
            .unwrap()
    });
}
