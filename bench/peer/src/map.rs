// SPDX-License-Identifier: BSD-3-Clause
//! Beside bench_map.c and bench_threads.c: the map that can be replaced, the guard that keeps it, hotplug.

use std::hint::black_box;
use std::os::raw::c_void;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use vm_memory::{
    Bytes, GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap, GuestRegionMmap,
    MmapRegion,
};

use super::{each, Shared};

const REGION: usize = 1 << 20;
const REGIONS: u64 = 64;

type Map = GuestMemoryAtomic<GuestMemoryMmap>;

fn map() -> &'static Map {
    static MAP: OnceLock<Map> = OnceLock::new();
    MAP.get_or_init(|| {
        let ranges: Vec<_> = (0..REGIONS)
            .map(|i| (GuestAddress(i * REGION as u64), REGION))
            .collect();
        let memory: GuestMemoryMmap = GuestMemoryMmap::from_ranges(&ranges).unwrap();
        memory.write_obj(1u64, GuestAddress(4096)).unwrap();
        GuestMemoryAtomic::new(memory)
    })
}

#[no_mangle]
pub extern "C" fn peer_guard(_ctx: *mut c_void, iters: u64) {
    let map = map();
    each(iters, || {
        black_box(map.memory());
    });
}

fn guard_and_load(map: &Map, iters: u64) {
    each(iters, || {
        black_box(
            map.memory()
                .load::<u16>(GuestAddress(4096), Ordering::Relaxed)
                .unwrap(),
        );
    });
}

#[no_mangle]
pub extern "C" fn peer_guard_and_load(_ctx: *mut c_void, iters: u64) {
    guard_and_load(map(), iters);
}

#[no_mangle]
pub extern "C" fn peer_guard_within_eight(_ctx: *mut c_void, iters: u64) {
    let map = map();
    let held: Vec<_> = (0..8).map(|_| map.memory()).collect();
    guard_and_load(map, iters);
    drop(black_box(held));
}

/// A region that is mapped already comes as the 65th, and the map of before comes back: two changes.
#[no_mangle]
pub extern "C" fn peer_hotplug(_ctx: *mut c_void, iters: u64) {
    static MORE: OnceLock<Shared<Arc<GuestRegionMmap>>> = OnceLock::new();
    let map = map();
    let more = MORE.get_or_init(|| {
        let region = MmapRegion::new(REGION).unwrap();
        Shared(Arc::new(
            GuestRegionMmap::new(region, GuestAddress(REGIONS * REGION as u64)).unwrap(),
        ))
    });
    for i in 0..iters {
        let now = map.memory().into_inner();
        if i % 2 == 0 {
            let next = now.insert_region(Arc::clone(more)).unwrap();
            map.lock().unwrap().replace(next);
        }
        if i % 2 == 1 || i == iters - 1 {
            let now = map.memory().into_inner();
            let (next, _) = now
                .remove_region(GuestAddress(REGIONS * REGION as u64), REGION as u64)
                .unwrap();
            map.lock().unwrap().replace(next);
        }
    }
}
