/* SPDX-License-Identifier: BSD-3-Clause */
/* doctor_checks.c - one function for each thing that "guestmem doctor" looks at. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "doctor.h"
#include "heatmap.h"

#ifndef PR_SET_VMA /* Linux 5.17 */
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

#define THP "/sys/kernel/mm/transparent_hugepage"

static const char *bytes_or_unknown(uint64_t bytes, char buf[TOOL_UNIT_CAP])
{
	if (bytes == GM_HOST_UNKNOWN)
		return "unknown";
	return tool_bytes(bytes, buf);
}

static char *say(const char *text)
{
	return tool_strdup(text);
}

static const char *or_unknown(const char *word)
{
	return word[0] ? word : "unknown";
}

static void check_memory(struct doctor *d)
{
	const struct gm_host *h = &d->host;
	char a[TOOL_UNIT_CAP];
	char b[TOOL_UNIT_CAP];
	bool known = h->mem_total != GM_HOST_UNKNOWN;

	doctor_add(d, "kernel", DOCTOR_OK,
		tool_printf("%s, base pages of %s, %" PRIu64 " CPUs", or_unknown(h->kernel),
			tool_bytes(h->base_page, a), h->cpus),
		NULL);
	doctor_add(d, "memory", known ? DOCTOR_OK : DOCTOR_BROKEN,
		tool_printf("%s, %s available", bytes_or_unknown(h->mem_total, a),
			bytes_or_unknown(h->mem_available, b)),
		known ? NULL : say("mount -t proc proc /proc"));
	if (h->overcommit == 2)
		doctor_add(d, "overcommit", DOCTOR_OFF,
			say("strict: address space is accounted for, sparse memory may be refused"),
			say("sysctl -w vm.overcommit_memory=0"));
}

static void check_cgroup(struct doctor *d)
{
	const struct gm_host *h = &d->host;
	char a[TOOL_UNIT_CAP];
	char b[TOOL_UNIT_CAP];

	if (h->cgroup_version == 0)
		doctor_add(d, "cgroup", DOCTOR_OK, say("no memory controller, no limit"), NULL);
	else if (h->cgroup_limit == GM_HOST_UNKNOWN)
		doctor_add(d, "cgroup", DOCTOR_OK,
			tool_printf("version %u, no memory limit", h->cgroup_version), NULL);
	else
		doctor_add(d, "cgroup", h->cgroup_limit < h->mem_total ? DOCTOR_OFF : DOCTOR_OK,
			tool_printf("version %u, limit %s, %s in use", h->cgroup_version,
				tool_bytes(h->cgroup_limit, a),
				bytes_or_unknown(h->cgroup_current, b)),
			h->cgroup_limit < h->mem_total
				? tool_printf("echo %s > %s", h->cgroup_version == 1 ? "-1" : "max",
					  h->cgroup_file)
				: NULL);
}

static void check_memfd(struct doctor *d)
{
	bool has = d->host.memfd == GM_HOST_YES;

	doctor_add(d, "memfd", has ? DOCTOR_OK : DOCTOR_BROKEN,
		say(has ? "with seals" : "memfd_create or its seals do not work"),
		has ? NULL
		    : say("use a kernel with CONFIG_MEMFD_CREATE and a sandbox that allows it"));
}

static bool can_name_memory(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	/* cppcheck-suppress invalidFunctionArg ; anonymous memory has no file */
	void *at = mmap(NULL, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool can;

	if (at == MAP_FAILED)
		return false;
	can = prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, at, page, "guestmem") == 0;
	munmap(at, page);
	return can;
}

static void check_names(struct doctor *d)
{
	bool can = can_name_memory();

	doctor_add(d, "memory names", can ? DOCTOR_OK : DOCTOR_MISSING,
		say(can ? "shown in /proc/PID/maps, also of memory without a file"
			: "shown of memfds only: inspect finds other memory by its flags"),
		can ? NULL : say("use a kernel with CONFIG_ANON_VMA_NAME"));
}

static void check_pagemap(struct doctor *d)
{
	const struct gm_host *h = &d->host;
	bool has = h->pagemap == GM_HOST_YES;
	bool frames = h->pagemap_pfn == GM_HOST_YES && h->kpageflags == GM_HOST_YES;

	doctor_add(d, "pagemap", has ? DOCTOR_OK : DOCTOR_BROKEN,
		say(has ? "can be read" : "/proc/self/pagemap cannot be read"),
		has ? NULL
		    : say("mount -t proc proc /proc (the kernel needs CONFIG_PROC_PAGE_MONITOR)"));
	doctor_add(d, "PAGEMAP_SCAN", h->pagemap_scan == GM_HOST_YES ? DOCTOR_OK : DOCTOR_MISSING,
		say(h->pagemap_scan != GM_HOST_YES ? "not there: pagemap is read word by word"
			: h->pagemap_guard == GM_HOST_YES ? "there, knows guard pages"
							  : "there"),
		h->pagemap_scan == GM_HOST_YES ? NULL : say("use Linux 6.7 or newer"));
	doctor_add(d, "page frames", frames ? DOCTOR_OK : DOCTOR_MISSING,
		say(frames ? "numbers and flags can be read: multi-size huge pages are seen"
			   : "not visible: multi-size huge pages count as base pages"),
		frames ? NULL : say("sudo guestmem inspect ... (CAP_SYS_ADMIN)"));
}

/* Appends a word to a list in @text, which is taken. */
static char *append(char *text, const char *between, const char *word)
{
	char *longer = tool_printf("%s%s%s", text, text[0] ? between : "", word);

	free(text);
	return longer;
}

static bool is_off(const char *word)
{
	return !word[0] || strcmp(word, "never") == 0 || strcmp(word, "deny") == 0;
}

/* deny and force of all shared memory stand above what the sizes say. */
static bool is_above(const char *word)
{
	return strcmp(word, "deny") == 0 || strcmp(word, "force") == 0;
}

/* Does the file of a size, private or shared, give pages of that size? */
static bool size_is_on(const struct gm_host *h, const struct gm_host_thp *t, bool shared)
{
	const char *all = shared ? h->shmem_enabled : h->thp_enabled;
	const char *word = shared ? t->shmem_enabled : t->enabled;

	if (strcmp(word, "inherit") == 0)
		return !is_off(all);
	return !is_off(word) && !(shared && is_above(all));
}

/* PMD-sized pages: the file of all sizes, and where the kernel has it that of this one. */
static void check_pmd(struct doctor *d, const char *name, bool shared, char *text)
{
	const struct gm_host *h = &d->host;
	const char *all = shared ? h->shmem_enabled : h->thp_enabled;
	const char *file = shared ? "shmem_enabled" : "enabled";
	const char *advise = shared ? "advise" : "madvise";
	enum doctor_state state = is_off(all) ? DOCTOR_OFF : DOCTOR_OK;
	char *mend = NULL;

	if (!all[0]) {
		state = DOCTOR_MISSING;
		mend = say("use a kernel with CONFIG_SHMEM and CONFIG_TRANSPARENT_HUGEPAGE");
	} else if (state == DOCTOR_OFF) {
		mend = tool_printf("echo %s > " THP "/%s", advise, file);
	}
	for (uint32_t i = 0; i < h->nr_thp && state == DOCTOR_OK; i++) {
		const struct gm_host_thp *t = &h->thp[i];

		if (t->page_size != h->thp_page || size_is_on(h, t, shared) ||
			!(shared ? t->shmem_enabled : t->enabled)[0])
			continue;
		state = DOCTOR_OFF;
		text = append(text, ", ", "but off for this size");
		mend = tool_printf("echo inherit > " THP "/hugepages-%" PRIu64 "kB/%s",
			t->page_size / 1024, file);
	}
	doctor_add(d, name, state, text, mend);
}

static void check_thp(struct doctor *d)
{
	const struct gm_host *h = &d->host;
	char a[TOOL_UNIT_CAP];

	if (!h->thp_enabled[0]) {
		doctor_add(d, "THP", DOCTOR_MISSING, say("no transparent huge pages"),
			say("use a kernel with CONFIG_TRANSPARENT_HUGEPAGE"));
		return;
	}
	check_pmd(d, "THP", false,
		tool_printf("%s, defrag %s, pages of %s", h->thp_enabled, or_unknown(h->thp_defrag),
			bytes_or_unknown(h->thp_page, a)));
	check_pmd(d, "THP, shared", true, say(or_unknown(h->shmem_enabled)));
}

/* Sizes between base pages and PMD-sized ones: each has a file of its own. */
static void check_sizes(struct doctor *d, const char *name, bool shared)
{
	const struct gm_host *h = &d->host;
	bool above = shared && is_above(h->shmem_enabled);
	char *on = say("");
	char *off = say("");
	char *mend = NULL;
	char size[TOOL_UNIT_CAP];

	for (uint32_t i = 0; i < h->nr_thp; i++) {
		const struct gm_host_thp *t = &h->thp[i];

		if (t->page_size == h->thp_page || !(shared ? t->shmem_enabled : t->enabled)[0])
			continue;
		tool_page_name(tool_log2(t->page_size), size);
		if (size_is_on(h, t, shared))
			on = append(on, " ", size);
		else
			off = append(off, " ", size);
	}
	if (!on[0] && !off[0]) {
		doctor_add(d, name, DOCTOR_MISSING, say("the kernel has none"),
			say(shared ? "use Linux 6.11 or newer" : "use Linux 6.8 or newer"));
	} else {
		if (!on[0])
			mend = tool_printf("%secho %s > " THP "/hugepages-64kB/%s",
				above ? "echo advise > " THP "/shmem_enabled; " : "",
				shared ? "advise" : "madvise",
				shared ? "shmem_enabled" : "enabled");
		doctor_add(d, name, on[0] ? DOCTOR_OK : DOCTOR_OFF,
			tool_printf("on: %s; off: %s%s%s", on[0] ? on : "none",
				off[0] ? off : "none", above ? "; all shared memory: " : "",
				above ? h->shmem_enabled : ""),
			mend);
	}
	free(on);
	free(off);
}

static void check_multi_size(struct doctor *d)
{
	check_sizes(d, "multi-size THP", false);
	check_sizes(d, "multi-size, shared", true);
}

static void check_pools(struct doctor *d)
{
	const struct gm_host *h = &d->host;

	for (uint32_t i = 0; i < h->nr_pools; i++) {
		const struct gm_host_pool *p = &h->pools[i];
		uint64_t usable = p->free > p->reserved ? p->free - p->reserved : 0;
		char name[TOOL_UNIT_CAP];

		tool_page_name(tool_log2(p->page_size), name);
		doctor_add(d, "huge-page pool", usable ? DOCTOR_OK : DOCTOR_OFF,
			tool_printf("%s: %" PRIu64 " pages, %" PRIu64 " to be had (%" PRIu64
				    " free, %" PRIu64 " promised, %" PRIu64 " more on demand)",
				name, p->total, usable, p->free, p->reserved, p->overcommit),
			usable ? NULL
			       : tool_printf("echo %d > "
					     "/sys/kernel/mm/hugepages/hugepages-%" PRIu64
					     "kB/nr_hugepages",
					 p->page_size >= UINT64_C(1) << 30 ? 1 : 512,
					 p->page_size / 1024));
	}
	if (h->nr_pools == 0)
		doctor_add(d, "huge-page pool", DOCTOR_MISSING, say("the kernel has none"),
			say("use a kernel with CONFIG_HUGETLBFS"));
	if (h->nr_pools && h->hvo == GM_HOST_NO)
		doctor_add(d, "huge-page structs", DOCTOR_OFF,
			say("each 2 MiB page keeps 32 KiB of descriptions"),
			say("sysctl -w vm.hugetlb_optimize_vmemmap=1"));
}

static void check_numa(struct doctor *d)
{
	const struct gm_host *h = &d->host;
	char *text;

	if (h->nr_nodes_online == 0) {
		doctor_add(d, "NUMA", DOCTOR_OK, say("not in this kernel: one node"), NULL);
		return;
	}
	text = tool_printf(
		"%u memory node%s", h->nr_nodes_online, h->nr_nodes_online > 1 ? "s" : "");
	for (uint32_t i = 0; i < h->nr_nodes && h->nr_nodes > 1; i++) {
		char total[TOOL_UNIT_CAP];
		char free_bytes[TOOL_UNIT_CAP];
		char *node = tool_printf("node %u: %s, %s free", h->nodes[i].node,
			bytes_or_unknown(h->nodes[i].total, total),
			bytes_or_unknown(h->nodes[i].free, free_bytes));

		text = append(text, "; ", node);
		free(node);
	}
	doctor_add(d, "NUMA", DOCTOR_OK, text, NULL);
}

static void check_kvm(struct doctor *d)
{
	const struct gm_host *h = &d->host;

	if (h->kvm_usable == GM_HOST_YES)
		doctor_add(d, "KVM", DOCTOR_OK,
			tool_printf("%s%s%s", or_unknown(h->kvm_kind),
				h->kvm_guest_memfd != GM_HOST_UNKNOWN && h->kvm_guest_memfd
					? ", guest_memfd"
					: "",
				h->kvm_pre_fault != GM_HOST_UNKNOWN && h->kvm_pre_fault
					? ", pre-fault"
					: ""),
			NULL);
	else if (h->kvm_present != GM_HOST_YES)
		doctor_add(d, "KVM", DOCTOR_MISSING, say("no /dev/kvm: guests run by emulation"),
			say("modprobe kvm_intel || modprobe kvm_amd"));
	else
		doctor_add(d, "KVM", DOCTOR_MISSING,
			tool_printf("%s, /dev/kvm: %s", or_unknown(h->kvm_kind),
				strerror(h->kvm_error)),
			say("usermod -aG kvm \"$USER\""));
}

static void check_uffd(struct doctor *d)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} features[] = {
		{0, "write-protect"},
		{4, "hugetlb"},
		{5, "shmem"},
		{9, "minor hugetlb"},
		{10, "minor shmem"},
		{14, "poison"},
		{15, "asynchronous write-protect"},
		{16, "move"},
	};
	const struct gm_host *h = &d->host;
	bool full = h->uffd_ways & (GM_HOST_UFFD_DEVICE | GM_HOST_UFFD_SYSCALL);
	char *text;

	if (!h->uffd_ways) {
		doctor_add(d, "userfaultfd", DOCTOR_MISSING, say("not to be had by this process"),
			say("setfacl -m \"u:$USER:rw\" /dev/userfaultfd"));
		return;
	}
	text = say(h->uffd_ways & GM_HOST_UFFD_DEVICE ? "by /dev/userfaultfd" : "");
	if (h->uffd_ways & GM_HOST_UFFD_SYSCALL)
		text = append(text, ", ", "by system call");
	if (!full)
		text = append(text, ", ", "for faults in user mode only");
	text = append(text, "", ":");
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		if (h->uffd_features != GM_HOST_UNKNOWN && h->uffd_features >> features[i].bit & 1)
			text = append(text, i ? ", " : " ", features[i].name);
	}
	doctor_add(d, "userfaultfd", full ? DOCTOR_OK : DOCTOR_OFF, text,
		full ? NULL : say("setfacl -m \"u:$USER:rw\" /dev/userfaultfd"));
}

static void check_limits(struct doctor *d)
{
	const struct gm_host *h = &d->host;
	bool free_lock = h->memlock_free == GM_HOST_YES || h->memlock_limit == GM_HOST_UNKNOWN;
	char a[TOOL_UNIT_CAP];

	doctor_add(d, "memlock", free_lock ? DOCTOR_OK : DOCTOR_OFF,
		tool_printf("limit %s%s",
			h->memlock_limit == GM_HOST_UNKNOWN ? "none"
							    : tool_bytes(h->memlock_limit, a),
			h->memlock_free == GM_HOST_YES ? ", does not bind this process" : ""),
		free_lock ? NULL
			  : say("ulimit -l unlimited (as root; or /etc/security/limits.conf)"));
	if (h->max_map_count == GM_HOST_UNKNOWN)
		return;
	doctor_add(d, "mappings", h->max_map_count < 65530 ? DOCTOR_OFF : DOCTOR_OK,
		tool_printf("at most %" PRIu64 " in a process", h->max_map_count),
		h->max_map_count < 65530 ? say("sysctl -w vm.max_map_count=262144") : NULL);
}

static void check_perf(struct doctor *d)
{
	const struct gm_host *h = &d->host;
	bool known = h->perf_paranoid != GM_HOST_UNKNOWN;
	bool user = known && h->perf_paranoid <= 3;
	bool full = geteuid() == 0 || (known && h->perf_paranoid <= 2);

	if (!known)
		doctor_add(d, "perf events", DOCTOR_MISSING,
			say("none: guestmem exec cannot count guest faults"),
			say("use a kernel with CONFIG_PERF_EVENTS"));
	else
		doctor_add(d, "perf events",
			full   ? DOCTOR_OK
			: user ? DOCTOR_OFF
			       : DOCTOR_MISSING,
			tool_printf("perf_event_paranoid is %d%s", (int)h->perf_paranoid - 1,
				full   ? ": guest faults are counted"
				: user ? ": those inside system calls are not counted"
				       : ": guest faults are not counted"),
			full ? NULL : say("sysctl -w kernel.perf_event_paranoid=1"));
}

static void check_rest(struct doctor *d)
{
	const struct gm_host *h = &d->host;
	bool merging = h->ksm_run == 1;

	if (h->ksm_run == GM_HOST_UNKNOWN)
		doctor_add(d, "KSM", DOCTOR_MISSING, say("not in this kernel"),
			say("use a kernel with CONFIG_KSM"));
	else
		doctor_add(d, "KSM", merging ? DOCTOR_OK : DOCTOR_OFF,
			say(merging ? "merges equal pages" : "does not run"),
			merging ? NULL : say("echo 1 > /sys/kernel/mm/ksm/run"));
	doctor_add(d, "heat maps", heatmap_built() ? DOCTOR_OK : DOCTOR_MISSING,
		say(heatmap_built() ? "PNG and SVG" : "built without cairo"),
		heatmap_built() ? NULL : say("apt-get install libcairo2-dev, and build again"));
}

void doctor_examine(struct doctor *d)
{
	check_memory(d);
	check_cgroup(d);
	check_memfd(d);
	check_names(d);
	check_pagemap(d);
	check_thp(d);
	check_multi_size(d);
	check_pools(d);
	check_numa(d);
	check_kvm(d);
	check_uffd(d);
	check_limits(d);
	check_perf(d);
	check_rest(d);
}
