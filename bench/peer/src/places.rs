// SPDX-License-Identifier: BSD-3-Clause
//! Beside bench_bytes.c, bench_object.c and bench_io.c: vm-memory's own 56 measurements of accesses.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::os::raw::c_void;
use std::sync::OnceLock;
use vm_memory::{ByteValued, Bytes, GuestAddress, GuestMemoryMmap};

use super::each;

const REGION: u64 = 0x8000_0000;
const REGIONS: u64 = 8;
const LEN: usize = 512;

/// The start of struct place in bench_places.h.
#[repr(C)]
pub struct Place {
    gpa: u64,
}

#[repr(C)]
#[derive(Copy, Clone, Default)]
struct Small {
    words: [u32; 2],
}
unsafe impl ByteValued for Small {}

#[repr(C)]
#[derive(Copy, Clone, Default)]
struct Big {
    words: [u64; 12],
}
unsafe impl ByteValued for Big {}

fn memory() -> &'static GuestMemoryMmap {
    static MEMORY: OnceLock<GuestMemoryMmap> = OnceLock::new();
    MEMORY.get_or_init(|| {
        let ranges: Vec<_> = (0..REGIONS)
            .map(|i| (GuestAddress(i * REGION), REGION as usize))
            .collect();
        let memory = GuestMemoryMmap::from_ranges(&ranges).unwrap();
        for i in 0..REGIONS {
            memory
                .write_slice(&[1u8; 4096], GuestAddress(i * REGION))
                .unwrap();
            memory
                .write_slice(&[1u8; 4096], GuestAddress((i + 1) * REGION - 4096))
                .unwrap();
        }
        memory
    })
}

/// The step at the place that the C program gives.
fn at(ctx: *mut c_void, iters: u64, mut step: impl FnMut(&GuestMemoryMmap, GuestAddress)) {
    let memory = memory();
    let address = GuestAddress(unsafe { &*(ctx as *const Place) }.gpa);
    each(iters, || step(black_box(memory), address));
}

#[no_mangle]
pub extern "C" fn peer_read_from(ctx: *mut c_void, iters: u64) {
    let image = [7u8; LEN];
    at(ctx, iters, |memory, address| {
        assert_eq!(
            memory
                .read_from(address, &mut black_box(&image[..]), LEN)
                .unwrap(),
            LEN
        );
    });
}

#[no_mangle]
pub extern "C" fn peer_read_exact_from(ctx: *mut c_void, iters: u64) {
    let image = [7u8; LEN];
    at(ctx, iters, |memory, address| {
        memory
            .read_exact_from(address, &mut black_box(&image[..]), LEN)
            .unwrap();
    });
}

#[no_mangle]
pub extern "C" fn peer_read_from_file(ctx: *mut c_void, iters: u64) {
    let mut file = File::open("/dev/zero").unwrap();
    at(ctx, iters, |memory, address| {
        assert_eq!(memory.read_from(address, &mut file, LEN).unwrap(), LEN);
    });
}

#[no_mangle]
pub extern "C" fn peer_write_to(ctx: *mut c_void, iters: u64) {
    let mut image = [7u8; LEN];
    at(ctx, iters, |memory, address| {
        assert_eq!(
            memory
                .write_to(address, &mut black_box(&mut image[..]), LEN)
                .unwrap(),
            LEN
        );
    });
}

#[no_mangle]
pub extern "C" fn peer_write_all_to(ctx: *mut c_void, iters: u64) {
    let mut image = [7u8; LEN];
    at(ctx, iters, |memory, address| {
        memory
            .write_all_to(address, &mut black_box(&mut image[..]), LEN)
            .unwrap();
    });
}

#[no_mangle]
pub extern "C" fn peer_write_to_file(ctx: *mut c_void, iters: u64) {
    let mut file = OpenOptions::new().write(true).open("/dev/null").unwrap();
    at(ctx, iters, |memory, address| {
        assert_eq!(memory.write_to(address, &mut file, LEN).unwrap(), LEN);
    });
}

#[no_mangle]
pub extern "C" fn peer_read_slice(ctx: *mut c_void, iters: u64) {
    let mut buffer = [0u8; LEN];
    at(ctx, iters, |memory, address| {
        memory
            .read_slice(black_box(&mut buffer[..]), address)
            .unwrap();
    });
}

#[no_mangle]
pub extern "C" fn peer_read(ctx: *mut c_void, iters: u64) {
    let mut buffer = [0u8; LEN];
    at(ctx, iters, |memory, address| {
        assert_eq!(
            memory.read(black_box(&mut buffer[..]), address).unwrap(),
            LEN
        );
    });
}

#[no_mangle]
pub extern "C" fn peer_write_slice(ctx: *mut c_void, iters: u64) {
    let buffer = [7u8; LEN];
    at(ctx, iters, |memory, address| {
        memory.write_slice(black_box(&buffer[..]), address).unwrap();
    });
}

#[no_mangle]
pub extern "C" fn peer_write(ctx: *mut c_void, iters: u64) {
    let buffer = [7u8; LEN];
    at(ctx, iters, |memory, address| {
        assert_eq!(memory.write(black_box(&buffer[..]), address).unwrap(), LEN);
    });
}

fn read_object<T: ByteValued>(ctx: *mut c_void, iters: u64) {
    at(ctx, iters, |memory, address| {
        black_box(memory.read_obj::<T>(address).unwrap());
    });
}

fn write_object<T: ByteValued>(ctx: *mut c_void, iters: u64, object: T) {
    at(ctx, iters, |memory, address| {
        memory.write_obj(black_box(object), address).unwrap()
    });
}

#[no_mangle]
pub extern "C" fn peer_read_small_obj(ctx: *mut c_void, iters: u64) {
    read_object::<Small>(ctx, iters);
}

#[no_mangle]
pub extern "C" fn peer_read_big_obj(ctx: *mut c_void, iters: u64) {
    read_object::<Big>(ctx, iters);
}

#[no_mangle]
pub extern "C" fn peer_write_small_obj(ctx: *mut c_void, iters: u64) {
    write_object(
        ctx,
        iters,
        Small {
            words: [0x1111_2222; 2],
        },
    );
}

#[no_mangle]
pub extern "C" fn peer_write_big_obj(ctx: *mut c_void, iters: u64) {
    write_object(
        ctx,
        iters,
        Big {
            words: [0x1111_2222; 12],
        },
    );
}
