/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_host.c - what a machine offers: this one as it is and after changes, and machines that are
 * made up.
 *
 * The linker sends gm_sys_read_text() here, so that a test can put files of its own in the place of
 * sysfs and procfs.
 */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memory/avail.h"
#include "services/text.h"

#define THP "/sys/kernel/mm/transparent_hugepage"
#define POOLS "/sys/kernel/mm/hugepages"
#define NODES "/sys/devices/system/node"

struct fake {
	const char *path;
	const char *text;
};

static const struct fake *fakes; /* NULL: the real files */

ssize_t __real_gm_sys_read_text(const char *path, char *buf, size_t cap);
ssize_t __wrap_gm_sys_read_text(const char *path, char *buf, size_t cap);

ssize_t __wrap_gm_sys_read_text(const char *path, char *buf, size_t cap)
{
	if (!fakes)
		return __real_gm_sys_read_text(path, buf, cap);
	for (const struct fake *f = fakes; f->path; f++) {
		if (strcmp(f->path, path) == 0) {
			int len = snprintf(buf, cap, "%s", f->text);

			return len < (int)cap ? len : (ssize_t)cap - 1;
		}
	}
	return -ENOENT;
}

static struct gm_host probe(void)
{
	struct gm_host host = {.size = sizeof(host)};
	struct gm_error err;

	assert_ok(gm_host_probe(&host, &err));
	return host;
}

static struct gm_host probe_fake(const struct fake *files)
{
	struct gm_host host;

	fakes = files;
	host = probe();
	fakes = NULL;
	return host;
}

static uint64_t number_in(const char *path)
{
	FILE *file = fopen(path, "r");
	unsigned long long n = 0;

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%llu", &n), 1);
	fclose(file);
	return n;
}

static void this_machine_is_described(void **state)
{
	struct gm_host host = probe();
	struct utsname names;
	struct rlimit limit;

	(void)state;
	uname(&names);
	getrlimit(RLIMIT_MEMLOCK, &limit);
	assert_string_equal(host.kernel, names.release);
	assert_int_equal(host.base_page, sysconf(_SC_PAGESIZE));
	assert_int_equal(host.mem_total,
		(uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
	assert_true(host.mem_available <= host.mem_total && host.mem_available > MIB(16));
	assert_int_equal(host.max_map_count, number_in("/proc/sys/vm/max_map_count"));
	assert_int_equal(host.memlock_limit, limit.rlim_cur);
	assert_int_equal(host.memfd, GM_HOST_YES);
	assert_int_equal(host.pagemap, GM_HOST_YES);
	assert_true(host.cpus >= 1 && host.nr_nodes >= 1);
	assert_true(host.nodes[0].total <= host.mem_total && host.nodes[0].free > 0);
}

static void settings_of_huge_pages_are_read(void **state)
{
	struct gm_host host;
	bool found = false;

	(void)state;
	assert_true(support_knob(THP "/shmem_enabled", "advise"));
	assert_true(support_knob(THP "/enabled", "madvise"));
	assert_true(support_knob(THP "/hugepages-64kB/enabled", "madvise"));
	host = probe();
	assert_string_equal(host.shmem_enabled, "advise");
	assert_string_equal(host.thp_enabled, "madvise");
	assert_int_equal(host.thp_page, number_in(THP "/hpage_pmd_size"));
	for (uint32_t i = 0; i < host.nr_thp; i++) {
		assert_true(i == 0 || host.thp[i].page_size > host.thp[i - 1].page_size);
		if (host.thp[i].page_size == KIB(64)) {
			assert_string_equal(host.thp[i].enabled, "madvise");
			found = true;
		}
	}
	assert_true(found);
	assert_true(support_knob(THP "/hugepages-64kB/enabled", "never"));
	assert_true(support_knob(THP "/shmem_enabled", "never"));
}

static void pools_are_read(void **state)
{
	struct gm_host host;
	uint64_t on_nodes = 0;

	(void)state;
	assert_true(support_pool(21, 3));
	host = probe();
	assert_true(host.nr_pools >= 1);
	assert_int_equal(host.pools[0].page_size, MIB(2));
	assert_int_equal(host.pools[0].total, number_in(POOLS "/hugepages-2048kB/nr_hugepages"));
	assert_int_equal(host.pools[0].free, number_in(POOLS "/hugepages-2048kB/free_hugepages"));
	assert_true(host.pools[0].free >= 3);
	for (uint32_t i = 0; i < host.nr_nodes; i++)
		on_nodes += host.nodes[i].huge_total[0];
	assert_int_equal(on_nodes, host.pools[0].total);
}

static void what_root_may_do_is_found(void **state)
{
	struct gm_host host = probe();

	(void)state;
	if (getuid() != 0)
		skip();
	assert_int_equal(host.pagemap_pfn, GM_HOST_YES);
	assert_int_equal(host.kpageflags, GM_HOST_YES);
	assert_int_equal(host.memlock_free, GM_HOST_YES);
	assert_true(host.uffd_ways & GM_HOST_UFFD_SYSCALL);
	assert_true(host.uffd_features != 0 && host.uffd_features != GM_HOST_UNKNOWN);
	if (access("/dev/kvm", F_OK) == 0) {
		assert_int_equal(host.kvm_present, GM_HOST_YES);
		assert_int_equal(host.kvm_usable, GM_HOST_YES);
		assert_int_equal(host.kvm_error, 0);
		assert_true(strncmp(host.kvm_kind, "kvm", 3) == 0);
	}
}

/* In a child, so that this process keeps its rights. */
static bool nobody_may_less(void)
{
	struct gm_host host = {.size = sizeof(host)};

	if (setgid(65534) || setuid(65534))
		return false;
	prctl(PR_SET_DUMPABLE, 1);
	return gm_host_probe(&host, NULL) == 0 && host.kpageflags == GM_HOST_NO &&
	       host.pagemap == GM_HOST_YES && host.pagemap_pfn == GM_HOST_NO &&
	       host.memlock_free == GM_HOST_NO && !(host.uffd_ways & GM_HOST_UFFD_DEVICE) &&
	       host.memfd == GM_HOST_YES && host.mem_total != GM_HOST_UNKNOWN &&
	       (host.kvm_present != GM_HOST_YES || host.kvm_error == EACCES ||
		       host.kvm_usable == GM_HOST_YES);
}

static void without_privilege_it_says_so(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	if (getuid() != 0)
		skip();
	pid = fork();
	if (pid == 0)
		_exit(nobody_may_less() ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void the_size_is_checked(void **state)
{
	struct gm_host host = {.size = sizeof(host) - 1};
	struct {
		struct gm_host host;
		char newer[64];
	} big = {.host.size = sizeof(big)};
	struct gm_error err;

	(void)state;
	memset(big.newer, 1, sizeof(big.newer));
	assert_fails(gm_host_probe(&host, &err), EINVAL, "size");
	assert_ok(gm_host_probe(&big.host, &err));
	assert_int_equal(big.host.size, sizeof(big));
	assert_int_equal(big.newer[0], 0);
	assert_int_equal(big.newer[63], 0);
}

static void a_machine_without_anything_is_unknown(void **state)
{
	static const struct fake none[] = {{NULL, NULL}};
	struct gm_host host = probe_fake(none);

	(void)state;
	assert_int_equal(host.mem_total, GM_HOST_UNKNOWN);
	assert_int_equal(host.mem_available, GM_HOST_UNKNOWN);
	assert_int_equal(host.cgroup_limit, GM_HOST_UNKNOWN);
	assert_int_equal(host.cgroup_version, 0);
	assert_int_equal(host.max_map_count, GM_HOST_UNKNOWN);
	assert_int_equal(host.perf_paranoid, GM_HOST_UNKNOWN);
	assert_int_equal(host.thp_page, GM_HOST_UNKNOWN);
	assert_string_equal(host.thp_enabled, "");
	assert_string_equal(host.shmem_enabled, "");
	assert_int_equal(host.nr_thp, 0);
	assert_int_equal(host.nr_pools, 0);
	assert_int_equal(host.nr_nodes, 0);
	assert_int_equal(host.hvo, GM_HOST_UNSURE);
}

static void nonsense_is_unknown(void **state)
{
	static const struct fake odd[] = {
		{"/proc/meminfo", "MemTotal: lots kB\nMemAvailable: 99999999999999999999 kB\n"
				  "XMemTotal: 5 kB\nSwapTotal: 18446744073709551615 kB\n"},
		{"/proc/sys/vm/max_map_count", "-1\n"},
		{"/proc/sys/kernel/perf_event_paranoid", "-1\n"},
		{THP "/enabled", "[a word that is much too long to be one of the kernel's]"},
		{THP "/defrag", "[]"},
		{THP "/shmem_enabled", "always [never"},
		{NODES "/has_memory", "0-99999999\n"},
		{POOLS "/hugepages-2048kB/nr_hugepages", ""},
		{NULL, NULL},
	};
	struct gm_host host = probe_fake(odd);

	(void)state;
	assert_int_equal(host.mem_total, GM_HOST_UNKNOWN);
	assert_int_equal(host.mem_available, GM_HOST_UNKNOWN);
	assert_int_equal(host.swap_total, GM_HOST_UNKNOWN);
	assert_int_equal(host.max_map_count, GM_HOST_UNKNOWN);
	assert_int_equal(host.perf_paranoid, 0);
	assert_string_equal(host.thp_enabled, "");
	assert_string_equal(host.thp_defrag, "");
	assert_string_equal(host.shmem_enabled, "");
	assert_int_equal(host.nr_nodes, 0);
	assert_int_equal(host.nr_pools, 0);
}

static void the_smallest_limit_above_a_group_counts(void **state)
{
	static const struct fake v2[] = {
		{"/proc/self/mountinfo",
			"24 1 0:22 / /proc rw - proc proc rw\n"
			"30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"},
		{"/proc/self/cgroup", "0::/a.slice/b.scope\n"},
		{"/sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n"},
		{"/sys/fs/cgroup/a.slice/b.scope/memory.max", "max\n"},
		{"/sys/fs/cgroup/a.slice/memory.max", "1073741824\n"},
		{"/sys/fs/cgroup/a.slice/memory.current", "4096\n"},
		{NULL, NULL},
	};
	struct gm_host host = probe_fake(v2);

	(void)state;
	assert_int_equal(host.cgroup_version, 2);
	assert_int_equal(host.cgroup_limit, GIB(1));
	assert_int_equal(host.cgroup_current, 4096);
	assert_string_equal(host.cgroup_file, "/sys/fs/cgroup/a.slice/memory.max");
}

static void a_group_of_version_1_is_found_beside_version_2(void **state)
{
	static const struct fake v1[] = {
		{"/proc/self/mountinfo",
			"29 24 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
			"31 24 0:27 /box /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"},
		{"/proc/self/cgroup", "5:hugetlb,memory:/box/inner\n4:cpu:/x\n0::/\n"},
		{"/sys/fs/cgroup/unified/cgroup.controllers", "\n"},
		{"/sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "2097152\n"},
		{"/sys/fs/cgroup/memory/inner/memory.usage_in_bytes", "8192\n"},
		{"/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"},
		{NULL, NULL},
	};
	struct gm_host host = probe_fake(v1);

	(void)state;
	assert_int_equal(host.cgroup_version, 1);
	assert_int_equal(host.cgroup_limit, MIB(2));
	assert_int_equal(host.cgroup_current, 8192);
}

/* What may be allocated: by the machine, and by the groups of these files. */
static uint64_t available_with(const struct fake *files)
{
	uint64_t bytes;

	fakes = files;
	bytes = gm_avail_bytes();
	fakes = NULL;
	return bytes;
}

#define V2_MOUNT                                                                                   \
	{                                                                                          \
		"/proc/self/mountinfo",                                                            \
			"30 24 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n"           \
	}

static void the_fullest_group_says_what_is_available(void **state)
{
	/* The parent has the larger limit, but less is left below it. */
	static const struct fake parent[] = {
		V2_MOUNT,
		{"/proc/meminfo", "MemTotal: 9000000 kB\nMemAvailable: 8000000 kB\n"},
		{"/proc/self/cgroup", "0::/a/b\n"},
		{"/sys/fs/cgroup/cgroup.controllers", "memory\n"},
		{"/sys/fs/cgroup/a/b/memory.max", "1048576\n"},
		{"/sys/fs/cgroup/a/b/memory.current", "0\n"},
		{"/sys/fs/cgroup/a/memory.max", "2097152\n"},
		{"/sys/fs/cgroup/a/memory.current", "2031616\n"},
		{NULL, NULL},
	};
	/* Nothing is set: the machine decides. */
	static const struct fake none[] = {
		V2_MOUNT,
		{"/proc/meminfo", "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n"},
		{"/proc/self/cgroup", "0::/a/b\n"},
		{"/sys/fs/cgroup/cgroup.controllers", "memory\n"},
		{"/sys/fs/cgroup/a/b/memory.max", "max\n"},
		{NULL, NULL},
	};

	(void)state;
	assert_int_equal(available_with(parent), KIB(64));
	assert_int_equal(available_with(none), 8000 * KIB(1));
}

static void pages_of_files_are_available(void **state)
{
	static const struct fake cache[] = {
		V2_MOUNT,
		{"/proc/self/cgroup", "0::/a\n"},
		{"/sys/fs/cgroup/cgroup.controllers", "memory\n"},
		{"/sys/fs/cgroup/a/memory.max", "1048576\n"},
		{"/sys/fs/cgroup/a/memory.current", "1048576\n"},
		{"/sys/fs/cgroup/a/memory.stat",
			"anon 4096\nfile 900000\nworkingset_active_file 7\n"
			"inactive_file 8192\nactive_file 4096\n"},
		{NULL, NULL},
	};
	static const struct fake more_than_used[] = {
		V2_MOUNT,
		{"/proc/self/cgroup", "0::/a\n"},
		{"/sys/fs/cgroup/cgroup.controllers", "memory\n"},
		{"/sys/fs/cgroup/a/memory.max", "1048576\n"},
		{"/sys/fs/cgroup/a/memory.current", "4096\n"},
		{"/sys/fs/cgroup/a/memory.stat", "inactive_file 8192\nactive_file 4096\n"},
		{NULL, NULL},
	};

	(void)state;
	assert_int_equal(available_with(cache), KIB(12));
	assert_int_equal(available_with(more_than_used), MIB(1));
}

static void a_limit_of_version_1_counts_beside_version_2(void **state)
{
	static const struct fake hybrid[] = {
		{"/proc/self/mountinfo",
			"29 24 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
			"31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"},
		{"/proc/self/cgroup", "5:memory:/box\n0::/box\n"},
		{"/sys/fs/cgroup/unified/cgroup.controllers", "\n"},
		{"/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "2097152\n"},
		{"/sys/fs/cgroup/memory/box/memory.usage_in_bytes", "1048576\n"},
		{"/sys/fs/cgroup/memory/box/memory.stat",
			"inactive_file 1\ntotal_inactive_file 4096\ntotal_active_file 4096\n"},
		{NULL, NULL},
	};

	(void)state;
	assert_int_equal(available_with(hybrid), MIB(1) + KIB(8));
}

static void nodes_and_pools_of_a_large_machine_are_read(void **state)
{
	static const struct fake large[] = {
		{NODES "/has_memory", "0-1,8\n"},
		{NODES "/node0/meminfo", "Node 0 MemTotal:  1024 kB\nNode 0 MemFree: 12 kB\n"},
		{NODES "/node8/meminfo", "Node 8 MemTotal:  2048 kB\nNode 8 MemFree: 13 kB\n"},
		{POOLS "/hugepages-2048kB/nr_hugepages", "7\n"},
		{POOLS "/hugepages-2048kB/free_hugepages", "6\n"},
		{POOLS "/hugepages-2048kB/resv_hugepages", "5\n"},
		{POOLS "/hugepages-2048kB/surplus_hugepages", "1\n"},
		{POOLS "/hugepages-2048kB/nr_overcommit_hugepages", "9\n"},
		{POOLS "/hugepages-16777216kB/nr_hugepages", "1\n"},
		{NODES "/node8/hugepages/hugepages-2048kB/nr_hugepages", "7\n"},
		{"/proc/sys/vm/hugetlb_optimize_vmemmap", "1\n"},
		{NULL, NULL},
	};
	struct gm_host host = probe_fake(large);

	(void)state;
	assert_int_equal(host.nr_nodes, 3);
	assert_int_equal(host.nr_nodes_online, 3);
	assert_int_equal(host.nodes[2].node, 8);
	assert_int_equal(host.nodes[2].total, MIB(2));
	assert_int_equal(host.nodes[1].total, GM_HOST_UNKNOWN);
	assert_int_equal(host.nodes[2].huge_total[0], 7);
	assert_int_equal(host.nodes[2].huge_free[0], GM_HOST_UNKNOWN);
	assert_int_equal(host.nr_pools, 2);
	assert_int_equal(host.pools[0].overcommit, 9);
	assert_int_equal(host.pools[1].page_size, GIB(16));
	assert_int_equal(host.hvo, GM_HOST_YES);
}

static void numbers_do_not_overflow(void **state)
{
	const char *end;
	uint64_t n = 1;

	(void)state;
	assert_true(gm_text_number("18446744073709551615", 10, &n, NULL));
	assert_int_equal(n, UINT64_MAX);
	assert_false(gm_text_number("18446744073709551616", 10, &n, NULL));
	assert_true(gm_text_number("ffffffffffffffff-", 16, &n, &end));
	assert_int_equal(*end, '-');
	assert_false(gm_text_number("10000000000000000", 16, &n, NULL));
	assert_false(gm_text_number("", 10, &n, NULL));
	assert_false(gm_text_number("-1", 10, &n, NULL));
	assert_false(gm_text_number("F", 16, &n, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(this_machine_is_described),
		cmocka_unit_test(settings_of_huge_pages_are_read),
		cmocka_unit_test(pools_are_read),
		cmocka_unit_test(what_root_may_do_is_found),
		cmocka_unit_test(without_privilege_it_says_so),
		cmocka_unit_test(the_size_is_checked),
		cmocka_unit_test(a_machine_without_anything_is_unknown),
		cmocka_unit_test(nonsense_is_unknown),
		cmocka_unit_test(the_smallest_limit_above_a_group_counts),
		cmocka_unit_test(a_group_of_version_1_is_found_beside_version_2),
		cmocka_unit_test(the_fullest_group_says_what_is_available),
		cmocka_unit_test(pages_of_files_are_available),
		cmocka_unit_test(a_limit_of_version_1_counts_beside_version_2),
		cmocka_unit_test(nodes_and_pools_of_a_large_machine_are_read),
		cmocka_unit_test(numbers_do_not_overflow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
