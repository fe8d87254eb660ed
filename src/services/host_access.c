/* SPDX-License-Identifier: BSD-3-Clause */
/* host_access.c - what the calling process may use: KVM, userfaultfd, the page maps, memfd. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "services/host.h"
#include "services/text.h"
#include "sys/sys.h"
#include "sys/uapi.h"

/* Numbers of linux/kvm.h that older headers lack. */
#define CAP_GUEST_MEMFD 234
#define CAP_PRE_FAULT_MEMORY 236
#define CAP_GUEST_MEMFD_FLAGS 244

static uint64_t kvm_cap(int fd, long cap)
{
	int rc = gm_sys_ioctl(fd, KVM_CHECK_EXTENSION, (void *)cap);

	return rc < 0 ? GM_HOST_UNKNOWN : (uint64_t)rc;
}

static void probe_kvm_kind(struct gm_host *host)
{
	static const char *const kinds[] = {
		"kvm_intel", "kvm_amd", "kvm_pvm", "kvm_hv", "kvm_pr", "kvm"};
	struct stat st;
	char path[64];

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		int fd;

		snprintf(path, sizeof(path), "/sys/module/%s", kinds[i]);
		fd = gm_sys_open(path, O_PATH, 0);
		if (fd < 0)
			continue;
		if (gm_sys_fstat(fd, &st) == 0)
			snprintf(host->kvm_kind, GM_HOST_WORD_MAX, "%s", kinds[i]);
		gm_sys_close(fd);
		if (host->kvm_kind[0])
			return;
	}
}

static void probe_kvm(struct gm_host *host)
{
	int fd = gm_sys_open("/dev/kvm", O_RDWR, 0);

	probe_kvm_kind(host);
	if (fd < 0) {
		host->kvm_error = -fd;
		host->kvm_usable = GM_HOST_NO;
		host->kvm_present =
			fd == -ENOENT || fd == -ENODEV || fd == -ENXIO ? GM_HOST_NO : GM_HOST_YES;
		return;
	}
	host->kvm_present = GM_HOST_YES;
	host->kvm_usable =
		gm_sys_ioctl(fd, KVM_GET_API_VERSION, NULL) == 12 ? GM_HOST_YES : GM_HOST_NO;
	host->kvm_guest_memfd = kvm_cap(fd, CAP_GUEST_MEMFD);
	host->kvm_guest_memfd_flags = kvm_cap(fd, CAP_GUEST_MEMFD_FLAGS);
	host->kvm_pre_fault = kvm_cap(fd, CAP_PRE_FAULT_MEMORY);
	gm_sys_close(fd);
}

/* Takes @fd. A userfaultfd says its features once, at its first UFFDIO_API. */
static void uffd_found(struct gm_host *host, int fd, uint32_t way)
{
	struct uffdio_api api = {.api = UFFD_API};

	host->uffd_ways |= way;
	if (host->uffd_features == GM_HOST_UNKNOWN && gm_sys_ioctl(fd, UFFDIO_API, &api) >= 0)
		host->uffd_features = api.features;
	gm_sys_close(fd);
}

static void probe_uffd(struct gm_host *host)
{
	int dev = gm_sys_open("/dev/userfaultfd", O_RDWR, 0);
	int fd;

	host->uffd_sysctl = gm_text_file_number("/proc/sys/vm/unprivileged_userfaultfd");
	if (dev >= 0) {
		fd = gm_sys_ioctl(dev, USERFAULTFD_IOC_NEW, (void *)(long)O_CLOEXEC);
		if (fd >= 0)
			uffd_found(host, fd, GM_HOST_UFFD_DEVICE);
		gm_sys_close(dev);
	}
	fd = gm_sys_userfaultfd(0);
	if (fd >= 0)
		uffd_found(host, fd, GM_HOST_UFFD_SYSCALL);
	fd = gm_sys_userfaultfd(UFFD_USER_MODE_ONLY);
	if (fd >= 0)
		uffd_found(host, fd, GM_HOST_UFFD_USER_ONLY);
}

static uint32_t scan_works(int fd, uint64_t mask)
{
	struct page_region region;
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = (uintptr_t)&region & ~(uint64_t)(gm_sys_page_size() - 1),
		.vec = (uintptr_t)&region,
		.vec_len = 1,
		.category_anyof_mask = mask,
		.return_mask = mask,
	};

	arg.end = arg.start + gm_sys_page_size();
	return gm_sys_ioctl(fd, PAGEMAP_SCAN, &arg) >= 0 ? GM_HOST_YES : GM_HOST_NO;
}

static void probe_pagemap(struct gm_host *host)
{
	int fd = gm_sys_open("/proc/self/pagemap", O_RDONLY, 0);
	uint64_t entry;

	host->pagemap = fd >= 0 ? GM_HOST_YES : GM_HOST_NO;
	if (fd < 0)
		return;
	host->pagemap_scan = scan_works(fd, PAGE_IS_PRESENT | PAGE_IS_HUGE | PAGE_IS_PFNZERO);
	host->pagemap_guard = scan_works(fd, PAGE_IS_PRESENT | PAGE_IS_GUARD);
	/* The stack of this call is present; its frame number is 0 without privilege. */
	if (gm_sys_pread(fd, &entry, sizeof(entry), (uintptr_t)&entry / host->base_page * 8) == 8)
		host->pagemap_pfn = entry & ((UINT64_C(1) << 55) - 1) ? GM_HOST_YES : GM_HOST_NO;
	gm_sys_close(fd);
}

static void probe_proc(struct gm_host *host)
{
	struct procmap_query query = {
		.size = sizeof(query),
		.query_flags = PROCMAP_QUERY_COVERING_OR_NEXT_VMA,
	};
	uint64_t flags;
	int fd = gm_sys_open("/proc/kpageflags", O_RDONLY, 0);

	host->kpageflags = GM_HOST_NO;
	if (fd >= 0) {
		if (gm_sys_pread(fd, &flags, sizeof(flags), 0) == 8)
			host->kpageflags = GM_HOST_YES;
		gm_sys_close(fd);
	}
	fd = gm_sys_open("/proc/self/maps", O_RDONLY, 0);
	if (fd < 0)
		return;
	host->maps_query = gm_sys_ioctl(fd, PROCMAP_QUERY, &query) >= 0 ? GM_HOST_YES : GM_HOST_NO;
	gm_sys_close(fd);
}

static void probe_memfd(struct gm_host *host)
{
	int fd = gm_sys_memfd("guestmem-probe", MFD_ALLOW_SEALING);

	host->memfd =
		fd >= 0 && gm_sys_add_seals(fd, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0
			? GM_HOST_YES
			: GM_HOST_NO;
	if (fd >= 0)
		gm_sys_close(fd);
}

void gm_host_probe_access(struct gm_host *host)
{
	probe_kvm(host);
	probe_uffd(host);
	probe_pagemap(host);
	probe_proc(host);
	probe_memfd(host);
}
