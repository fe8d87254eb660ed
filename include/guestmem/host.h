/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * host.h - what this machine offers for guest memory.
 *
 * One call reads sysfs, procfs and a few devices, changes nothing and needs no privilege. What
 * cannot be found out is marked unknown, never guessed: GM_HOST_UNKNOWN for numbers, an empty
 * string for words, GM_HOST_UNSURE for yes/no questions. Words are the kernel's own ("madvise",
 * "advise" …).
 */
#ifndef GUESTMEM_HOST_H
#define GUESTMEM_HOST_H

#include <stddef.h>
#include <stdint.h>

#include <guestmem/error.h>
#include <guestmem/export.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GM_HOST_UNKNOWN UINT64_MAX
#define GM_HOST_WORD_MAX 24
#define GM_HOST_PATH_MAX 256
#define GM_HOST_THP_MAX 16   /* sizes of transparent huge pages */
#define GM_HOST_POOLS_MAX 8  /* sizes of explicit huge pages */
#define GM_HOST_NODES_MAX 64 /* memory nodes that are described */

/** enum gm_host_answer - yes, no, or it could not be found out */
enum gm_host_answer {
	GM_HOST_UNSURE = 0,
	GM_HOST_NO,
	GM_HOST_YES,
};

/**
 * struct gm_host_thp - one size of transparent huge pages
 * @page_size:     bytes
 * @enabled:       for anonymous memory: always, inherit, madvise, never; empty where the size has
 * no such knob
 * @shmem_enabled: for shared memory: always, inherit, within_size, advise, never
 */
struct gm_host_thp {
	uint64_t page_size;
	char enabled[GM_HOST_WORD_MAX];
	char shmem_enabled[GM_HOST_WORD_MAX];
};

/**
 * struct gm_host_pool - a pool of explicit huge pages
 * @page_size:  bytes
 * @total:      pages, surplus included
 * @free:       pages not handed out; @reserved of them are promised
 * @reserved:   pages that are promised to mappings and not yet touched
 * @surplus:    pages above the configured number
 * @overcommit: how many surplus pages may be taken
 */
struct gm_host_pool {
	uint64_t page_size;
	uint64_t total;
	uint64_t free;
	uint64_t reserved;
	uint64_t surplus;
	uint64_t overcommit;
};

/**
 * struct gm_host_node - a memory node
 * @node:       its number
 * @reserved:   zero
 * @total:      bytes
 * @free:       bytes
 * @huge_total: pages of pools[i] on this node
 * @huge_free:  free pages of pools[i] on this node
 */
struct gm_host_node {
	uint32_t node;
	uint32_t reserved;
	uint64_t total;
	uint64_t free;
	uint64_t huge_total[GM_HOST_POOLS_MAX];
	uint64_t huge_free[GM_HOST_POOLS_MAX];
};

/* gm_host.uffd_ways: how the calling process may get a userfaultfd */
#define GM_HOST_UFFD_DEVICE 1u /* /dev/userfaultfd can be opened: faults of the kernel as well */
#define GM_HOST_UFFD_SYSCALL                                                                       \
	2u /* userfaultfd(2): faults of the kernel as well (privilege or sysctl) */
#define GM_HOST_UFFD_USER_ONLY 4u /* userfaultfd(2) with UFFD_USER_MODE_ONLY */

/**
 * struct gm_host - what gm_host_probe() found
 * @size:           sizeof(struct gm_host), set by the caller
 * @kernel:         kernel release
 * @base_page:      base page size in bytes
 * @mem_total:      bytes
 * @mem_available:  bytes that can be had without swapping
 * @swap_total:     bytes
 * @cgroup_version: 1 or 2: the one that has the memory controller of this process; 0 = none found
 * @cgroup_limit:   smallest memory limit of this process's control group and its parents; UNKNOWN
 * if unlimited or unreadable
 * @cgroup_current: bytes charged to the group that has that limit
 * @cgroup_file:    the file that has that limit; empty if there is none
 * @thp_enabled:    always, madvise, never
 * @thp_defrag:     always, defer, defer+madvise, madvise, never
 * @shmem_enabled:  always, within_size, advise, never, deny, force
 * @thp_page:       size of a PMD-sized transparent huge page
 * @thp:            @nr_thp sizes in rising order
 * @pools:          @nr_pools sizes in rising order
 * @hugetlb_default: size of the default huge page
 * @hvo:            enum gm_host_answer: struct pages of huge pages are freed
 * (hugetlb_optimize_vmemmap)
 * @nodes:          @nr_nodes described nodes; @nr_nodes_online says how many there are
 * @kvm_present:    enum gm_host_answer: the device exists
 * @kvm_usable:     the calling process can open it and the API version is 12
 * @kvm_error:      errno value of the attempt to open it, 0 if it worked
 * @kvm_kind:       kvm_intel, kvm_amd, kvm_pvm, kvm (built in or other); empty = none found
 * @kvm_guest_memfd, @kvm_guest_memfd_flags, @kvm_pre_fault: what KVM_CHECK_EXTENSION says, or
 * UNKNOWN
 * @uffd_ways:      GM_HOST_UFFD_* bits
 * @uffd_features:  feature bits of userfaultfd, or UNKNOWN
 * @uffd_sysctl:    vm.unprivileged_userfaultfd, or UNKNOWN
 * @pagemap:        enum gm_host_answer: /proc/self/pagemap can be read
 * @pagemap_scan:   the PAGEMAP_SCAN ioctl works (Linux 6.7)
 * @pagemap_guard:  it knows guard pages (Linux 6.15)
 * @pagemap_pfn:    it shows page frame numbers (privilege)
 * @kpageflags:     /proc/kpageflags can be read (root)
 * @maps_query:     the PROCMAP_QUERY ioctl works (Linux 6.11)
 * @memfd:          memfd_create(2) with sealing works
 * @memlock_limit:  RLIMIT_MEMLOCK in bytes; UNKNOWN when unlimited
 * @memlock_free:   enum gm_host_answer: the process may lock beyond it (CAP_IPC_LOCK)
 * @max_map_count:  vm.max_map_count
 * @overcommit:     vm.overcommit_memory
 * @perf_paranoid:  kernel.perf_event_paranoid plus 1 (so that -1 is 0), or UNKNOWN
 * @ksm_run:        /sys/kernel/mm/ksm/run
 * @cpus:           CPUs the process may run on
 */
struct gm_host {
	size_t size;
	char kernel[80];
	uint64_t base_page;
	uint64_t mem_total;
	uint64_t mem_available;
	uint64_t swap_total;
	uint64_t cgroup_limit;
	uint64_t cgroup_current;
	uint32_t cgroup_version;
	uint32_t nr_thp;
	char cgroup_file[GM_HOST_PATH_MAX];
	char thp_enabled[GM_HOST_WORD_MAX];
	char thp_defrag[GM_HOST_WORD_MAX];
	char shmem_enabled[GM_HOST_WORD_MAX];
	uint64_t thp_page;
	struct gm_host_thp thp[GM_HOST_THP_MAX];
	struct gm_host_pool pools[GM_HOST_POOLS_MAX];
	uint64_t hugetlb_default;
	uint32_t nr_pools;
	uint32_t hvo;
	uint32_t nr_nodes;
	uint32_t nr_nodes_online;
	struct gm_host_node nodes[GM_HOST_NODES_MAX];
	uint32_t kvm_present;
	uint32_t kvm_usable;
	int32_t kvm_error;
	uint32_t uffd_ways;
	char kvm_kind[GM_HOST_WORD_MAX];
	uint64_t kvm_guest_memfd;
	uint64_t kvm_guest_memfd_flags;
	uint64_t kvm_pre_fault;
	uint64_t uffd_features;
	uint64_t uffd_sysctl;
	uint32_t pagemap;
	uint32_t pagemap_scan;
	uint32_t pagemap_guard;
	uint32_t pagemap_pfn;
	uint32_t kpageflags;
	uint32_t maps_query;
	uint32_t memfd;
	uint32_t memlock_free;
	uint64_t memlock_limit;
	uint64_t max_map_count;
	uint64_t overcommit;
	uint64_t perf_paranoid;
	uint64_t ksm_run;
	uint64_t cpus;
};

/**
 * gm_host_probe() - find out what this machine offers
 * @ret: its size member says how much is filled in; all of it is written
 * @err: optional
 *
 * A source that is missing or may not be read makes its members unknown, it is not an error.
 * Returns 0; -EINVAL (size smaller than that of version 0.1).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_host_probe(struct gm_host *ret, struct gm_error *err);

/**
 * gm_host_demote() - make smaller pages of free huge pages in a pool (as root)
 * @page_size: of the pool, in bytes: 1 GiB pages become 2 MiB pages
 * @nr:        number of pages
 * @ret_done:  optional: pages that were split, as the pool shows it
 * @err:       optional
 *
 * The kernel splits no other huge pages. Those in use are never touched, nor those promised to mappings.
 * Returns 0; -ENOTSUP (no such pool, or nothing smaller); -EBUSY (fewer than @nr are free: nothing was
 * done); -EACCES; -ENOMEM.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_host_demote(
	uint64_t page_size, uint64_t nr, uint64_t *ret_done, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
