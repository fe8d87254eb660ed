/* SPDX-License-Identifier: BSD-3-Clause */
/* guestmem.h - all of guestmem. See guestmem(7). */
#ifndef GUESTMEM_GUESTMEM_H
#define GUESTMEM_GUESTMEM_H

#include <guestmem/access.h>
#include <guestmem/acpi.h>
#include <guestmem/addr_pool.h>
#include <guestmem/atomic.h>
#include <guestmem/backend.h>
#include <guestmem/balloon.h>
#include <guestmem/balloon_hint.h>
#include <guestmem/block.h>
#include <guestmem/budget.h>
#include <guestmem/cache.h>
#include <guestmem/chain.h>
#include <guestmem/checksum.h>
#include <guestmem/control.h>
#include <guestmem/control_message.h>
#include <guestmem/counters.h>
#include <guestmem/device.h>
#include <guestmem/discard.h>
#include <guestmem/dump.h>
#include <guestmem/error.h>
#include <guestmem/grant.h>
#include <guestmem/guard.h>
#include <guestmem/host.h>
#include <guestmem/iommu.h>
#include <guestmem/kvm.h>
#include <guestmem/layout.h>
#include <guestmem/listener.h>
#include <guestmem/loader.h>
#include <guestmem/log.h>
#include <guestmem/memmap.h>
#include <guestmem/object.h>
#include <guestmem/pager.h>
#include <guestmem/pager_run.h>
#include <guestmem/part.h>
#include <guestmem/piece.h>
#include <guestmem/policy.h>
#include <guestmem/residency.h>
#include <guestmem/scan.h>
#include <guestmem/slice.h>
#include <guestmem/slice_access.h>
#include <guestmem/source.h>
#include <guestmem/space.h>
#include <guestmem/sparse.h>
#include <guestmem/stream.h>
#include <guestmem/txn.h>
#include <guestmem/uring.h>
#include <guestmem/view.h>
#include <guestmem/virtio_mem.h>
#include <guestmem/walk.h>
#include <guestmem/waste.h>
#include <guestmem/watch.h>
#include <guestmem/workingset.h>

#endif
