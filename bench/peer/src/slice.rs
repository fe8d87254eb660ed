// SPDX-License-Identifier: BSD-3-Clause
//! Beside bench_slice.c: vm-memory's measurements of slices and of the search for a region, large copies,
//! and what it offers to look at an address.

use std::hint::black_box;
use std::os::raw::c_void;
use std::sync::OnceLock;
use vm_memory::{
    Bytes, GuestAddress, GuestAddressSpace, GuestMemory, GuestMemoryAtomic, GuestMemoryMmap,
    VolatileMemory, VolatileSlice,
};

use super::each;

const KIB: usize = 1024;
const REGIONS: u64 = 256;
const REGION: u64 = 1 << 20;

/// The 256 regions of 1 MiB that find_region is measured in.
fn memory() -> &'static GuestMemoryAtomic<GuestMemoryMmap> {
    static MEMORY: OnceLock<GuestMemoryAtomic<GuestMemoryMmap>> = OnceLock::new();
    MEMORY.get_or_init(|| {
        let ranges: Vec<_> = (0..REGIONS)
            .map(|i| (GuestAddress(i * REGION), REGION as usize))
            .collect();
        let memory: GuestMemoryMmap = GuestMemoryMmap::from_ranges(&ranges).unwrap();
        for at in (0..REGIONS * REGION).step_by(4096) {
            memory.write_obj(1u8, GuestAddress(at)).unwrap();
        }
        GuestMemoryAtomic::new(memory)
    })
}

fn guest_slice(bytes: &mut [u8]) -> VolatileSlice<'_> {
    unsafe { VolatileSlice::new(bytes.as_mut_ptr(), bytes.len()) }
}

#[no_mangle]
pub extern "C" fn peer_copy_to_u8(_ctx: *mut c_void, iters: u64) {
    let mut guest = [0xa5u8; KIB];
    let mut host = [0u8; KIB];
    let slice = guest_slice(&mut guest);
    each(iters, || {
        black_box(&slice).copy_to(black_box(&mut host[..]));
    });
}

#[no_mangle]
pub extern "C" fn peer_copy_from_u8(_ctx: *mut c_void, iters: u64) {
    let mut guest = [0xa5u8; KIB];
    let host = [0u8; KIB];
    let slice = guest_slice(&mut guest);
    each(iters, || black_box(&slice).copy_from(black_box(&host[..])));
}

#[no_mangle]
pub extern "C" fn peer_copy_to_u16(_ctx: *mut c_void, iters: u64) {
    let mut guest = [0xa5u8; KIB];
    let mut host = [0u16; KIB / 2];
    let slice = guest_slice(&mut guest);
    let half = slice.get_slice(0, KIB / 2).unwrap();
    each(iters, || {
        black_box(&half).copy_to(black_box(&mut host[..]));
    });
}

#[no_mangle]
pub extern "C" fn peer_copy_from_u16(_ctx: *mut c_void, iters: u64) {
    let mut guest = [0xa5u8; KIB];
    let host = [0u16; KIB / 2];
    let slice = guest_slice(&mut guest);
    let half = slice.get_slice(0, KIB / 2).unwrap();
    each(iters, || black_box(&half).copy_from(black_box(&host[..])));
}

#[no_mangle]
pub extern "C" fn peer_copy_to_volatile_slice(_ctx: *mut c_void, iters: u64) {
    let mut from = [0xa5u8; 10 * KIB];
    let mut to = [0u8; 10 * KIB];
    let source = guest_slice(&mut from);
    let target = guest_slice(&mut to);
    each(iters, || {
        black_box(&source).copy_to_volatile_slice(black_box(target))
    });
}

/// A round looks for all 256 regions by their first address.
#[no_mangle]
pub extern "C" fn peer_find_region(_ctx: *mut c_void, iters: u64) {
    let memory = memory().memory();
    for _ in 0..iters {
        for i in 0..REGIONS {
            black_box(
                memory
                    .find_region(black_box(GuestAddress(i * REGION)))
                    .unwrap(),
            );
        }
    }
}

#[no_mangle]
pub extern "C" fn peer_check_range(_ctx: *mut c_void, iters: u64) {
    let memory = memory().memory();
    each(iters, || {
        assert!(memory.check_range(black_box(GuestAddress(3 * REGION + 8192)), 4096))
    });
}

#[no_mangle]
pub extern "C" fn peer_get_host_address(_ctx: *mut c_void, iters: u64) {
    let memory = memory().memory();
    each(iters, || {
        black_box(
            memory
                .get_host_address(black_box(GuestAddress(3 * REGION + 8192)))
                .unwrap(),
        );
    });
}

/// With the guard that keeps the map: what a pinned slice is compared with.
#[no_mangle]
pub extern "C" fn peer_get_slice(_ctx: *mut c_void, iters: u64) {
    let all = memory();
    each(iters, || {
        let memory = all.memory();
        black_box(
            memory
                .get_slice(black_box(GuestAddress(3 * REGION + 8192)), 4096)
                .unwrap(),
        );
    });
}

/// The context is struct large of bench_slice.c: bytes, and the caller's buffer.
#[repr(C)]
struct Large {
    len: usize,
    buffer: *mut u8,
}

fn large(ctx: *mut c_void) -> &'static mut [u8] {
    let large = unsafe { &*(ctx as *const Large) };
    unsafe { std::slice::from_raw_parts_mut(large.buffer, large.len) }
}

#[no_mangle]
pub extern "C" fn peer_read_large(ctx: *mut c_void, iters: u64) {
    let memory = memory().memory();
    let buffer = large(ctx);
    for _ in 0..iters {
        memory
            .read_slice(black_box(&mut *buffer), GuestAddress(0))
            .unwrap();
    }
}

#[no_mangle]
pub extern "C" fn peer_write_large(ctx: *mut c_void, iters: u64) {
    let memory = memory().memory();
    let buffer = large(ctx);
    for _ in 0..iters {
        memory
            .write_slice(black_box(&*buffer), GuestAddress(0))
            .unwrap();
    }
}
