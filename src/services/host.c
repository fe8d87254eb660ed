/* SPDX-License-Identifier: BSD-3-Clause */
/* host.c - what this machine offers: the whole probe, and the plain numbers in it. */
#include "services/host.h"

#include <errno.h>
#include <linux/capability.h>
#include <string.h>

#include "core/error.h"
#include "services/text.h"
#include "sys/sys.h"

static void everything_unknown(struct gm_host *host)
{
	*host = (struct gm_host){
		.size = host->size,
		.base_page = GM_HOST_UNKNOWN,
		.mem_total = GM_HOST_UNKNOWN,
		.mem_available = GM_HOST_UNKNOWN,
		.swap_total = GM_HOST_UNKNOWN,
		.cgroup_limit = GM_HOST_UNKNOWN,
		.cgroup_current = GM_HOST_UNKNOWN,
		.thp_page = GM_HOST_UNKNOWN,
		.hugetlb_default = GM_HOST_UNKNOWN,
		.kvm_guest_memfd = GM_HOST_UNKNOWN,
		.kvm_guest_memfd_flags = GM_HOST_UNKNOWN,
		.kvm_pre_fault = GM_HOST_UNKNOWN,
		.uffd_features = GM_HOST_UNKNOWN,
		.uffd_sysctl = GM_HOST_UNKNOWN,
		.memlock_limit = GM_HOST_UNKNOWN,
		.max_map_count = GM_HOST_UNKNOWN,
		.overcommit = GM_HOST_UNKNOWN,
		.perf_paranoid = GM_HOST_UNKNOWN,
		.ksm_run = GM_HOST_UNKNOWN,
		.cpus = GM_HOST_UNKNOWN,
	};
}

static void probe_memory(struct gm_host *host)
{
	char text[8192];

	if (gm_sys_read_text("/proc/meminfo", text, sizeof(text)) < 0)
		return;
	host->mem_total = gm_text_field(text, "MemTotal:");
	host->mem_available = gm_text_field(text, "MemAvailable:");
	host->swap_total = gm_text_field(text, "SwapTotal:");
	host->hugetlb_default = gm_text_field(text, "Hugepagesize:");
}

static void probe_limits(struct gm_host *host)
{
	char text[32];
	struct rlimit limit;

	host->max_map_count = gm_text_file_number("/proc/sys/vm/max_map_count");
	host->overcommit = gm_text_file_number("/proc/sys/vm/overcommit_memory");
	host->ksm_run = gm_text_file_number("/sys/kernel/mm/ksm/run");
	if (gm_sys_read_text("/proc/sys/kernel/perf_event_paranoid", text, sizeof(text)) > 0) {
		uint64_t n;

		if (strncmp(text, "-1", 2) == 0)
			host->perf_paranoid = 0;
		else if (gm_text_number(text, 10, &n, NULL) && n < 100)
			host->perf_paranoid = n + 1;
	}
	/* RLIM_INFINITY is the value for "unlimited or unknown" as it is. */
	if (gm_sys_getrlimit(RLIMIT_MEMLOCK, &limit) == 0)
		host->memlock_limit = limit.rlim_cur;
	host->memlock_free = gm_sys_has_cap(CAP_IPC_LOCK) ? GM_HOST_YES : GM_HOST_NO;
}

int gm_host_probe(struct gm_host *ret, struct gm_error *err)
{
	size_t size = ret->size;

	if (size < sizeof(*ret))
		return gm_error_set(err, -EINVAL, 0, 0,
			"gm_host.size is %zu, at least %zu is needed", size, sizeof(*ret));
	memset(ret, 0, size);
	ret->size = size;
	everything_unknown(ret);
	ret->base_page = gm_sys_page_size();
	ret->cpus = (uint64_t)gm_sys_cpu_count();
	gm_sys_kernel_release(ret->kernel, sizeof(ret->kernel));
	probe_memory(ret);
	probe_limits(ret);
	gm_host_probe_cgroup(ret);
	gm_host_probe_pages(ret);
	gm_host_probe_access(ret);
	return 0;
}
