/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_control.c - each function a guest can ask for, on each backing: its effect as the kernel shows it,
 * that nothing beside it changes, and that it is undone.
 */
#include "one_control.h"

#include "kinds.h"

#define IN (AT + MIB(2)) /* of what is asked for */
#define IN_LEN MIB(4)

static bool is_mapped(const struct backing *b)
{
	return !b->far && b->now;
}

static void start_all(int i, uint32_t more_flags)
{
	struct backing b = backings[i];

	if (is_mapped(&b))
		b.opts.flags |= more_flags;
	start_backing(&b);
	start_control(POLICY(.allow = GM_CONTROL_ALL, .numa_nodes = 1));
}

static void stop_all(void)
{
	stop_control();
	stop_backing();
}

/* ---- giving memory back ---- */

static void check_freed(const struct backing *b, uint64_t code, bool zeros)
{
	uint64_t before;
	bool filled = zeros && b->zero == BY(FILL);

	fill_bytes(AT, 1, LEN);
	before = taken();
	if (!b->now && !zeros) {
		assert_refused(ask(code, IN, IN_LEN), ENOTSUP);
		assert_bytes(AT, 1, LEN);
		return;
	}
	assert_ok(ask(code, IN, IN_LEN));
	assert_int_equal(answer.done, IN_LEN);
	if (!filled)
		assert_int_equal(before - taken(), IN_LEN);
	assert_bytes(AT, 1, MIB(2));
	assert_bytes(IN, b->from_file && !zeros ? 'f' : 0, IN_LEN);
	assert_bytes(AT + MIB(6), 1, MIB(2));
}

static void what_is_not_needed_is_freed(void **state)
{
	(void)state;
	for (int i = 0; i < BACKINGS; i++) {
		start_all(i, 0);
		check_freed(&backings[i], GM_CONTROL_DONTNEED, false);
		check_freed(&backings[i], GM_CONTROL_REMOVE, true);
		stop_all();
	}
}

static void what_is_free_is_lazy_where_it_can_be(void **state)
{
	(void)state;
	for (int i = 0; i < BACKINGS; i++) {
		const struct backing *b = &backings[i];

		start_all(i, 0);
		if (b->lazy) {
			fill_bytes(AT, 1, LEN);
			assert_ok(ask(GM_CONTROL_FREE, IN, IN_LEN));
			/* Some wait in lists of the CPUs. */
			assert_true(support_smaps(host(IN), "LazyFree:") >
				    (long long)(IN_LEN - 256 * PAGE));
			/* Written again, it stays. */
			fill_bytes(IN, 3, IN_LEN);
			assert_int_equal(support_smaps(host(IN), "LazyFree:"), 0);
			assert_bytes(IN, 3, IN_LEN);
		} else {
			check_freed(b, GM_CONTROL_FREE, false);
		}
		stop_all();
	}
	/* Locked by the guest: now. */
	start_all(ANON, 0);
	assert_ok(ask(GM_CONTROL_MLOCK, IN, IN_LEN));
	check_freed(&backings[ANON], GM_CONTROL_FREE, false);
	stop_all();
}

static uint64_t swapped(uint64_t gpa, uint64_t len)
{
	struct gm_usage use = {.size = sizeof(use)};
	struct gm_residency *res;

	assert_ok(gm_residency_open(0, &res, &err));
	assert_ok(gm_residency_usage(res, (uintptr_t)host(gpa), len, 0, &use, &err));
	gm_residency_close(res);
	return use.swapped;
}

static void what_is_paged_out_is_not_in_memory(void **state)
{
	bool swap = kind_swap_on();

	(void)state;
	if (!swap)
		printf("skipped: no swap space can be made\n");
	for (int i = 0; i < BACKINGS; i++) {
		const struct backing *b = &backings[i];

		start_all(i, 0);
		fill_bytes(AT, 1, LEN);
		if (!b->cold) {
			assert_refused(ask(GM_CONTROL_PAGEOUT, IN, IN_LEN), ENOTSUP);
			assert_refused(ask(GM_CONTROL_COLD, IN, IN_LEN), ENOTSUP);
		} else {
			assert_ok(ask(GM_CONTROL_COLD, IN, IN_LEN));
			assert_int_equal(resident_at(host(AT), LEN), LEN);
			assert_ok(ask(GM_CONTROL_PAGEOUT, IN, IN_LEN));
			if (swap && (i == ANON || i == FILE_PRIVATE)) {
				assert_true(swapped(IN, IN_LEN) > IN_LEN / 4);
				assert_int_equal(swapped(AT, MIB(2)), 0);
				assert_ok(ask(GM_CONTROL_WILLNEED, IN, IN_LEN));
			}
		}
		assert_bytes(AT, 1, LEN);
		stop_all();
	}
}

static void what_is_cold_is_split_off(void **state)
{
	(void)state;
	start_all(THP, 0);
	fill_bytes(AT, 1, LEN);
	assert_int_equal(support_smaps(host(AT), "AnonHugePages:"), LEN);
	/* The kernel takes a page that is cold out of its huge page. */
	assert_ok(ask(GM_CONTROL_COLD, IN + PAGE, PAGE));
	assert_int_equal(support_smaps(host(AT), "AnonHugePages:"), LEN - MIB(2));
	assert_bytes(AT, 1, LEN);
	/* And back. */
	assert_ok(ask(GM_CONTROL_COLLAPSE, IN, MIB(2)));
	assert_int_equal(answer.done, MIB(2));
	assert_int_equal(support_smaps(host(AT), "AnonHugePages:"), LEN);
	stop_all();
}

/* ---- properties ---- */

/* The flag is that of the range and of nothing beside it. */
static void assert_flag(const char *flag, bool inside, bool outside)
{
	assert_int_equal(support_vmflag(host(IN), flag), inside);
	assert_int_equal(support_vmflag(host(IN + IN_LEN - 1), flag), inside);
	assert_int_equal(support_vmflag(host(AT), flag), outside);
	assert_int_equal(support_vmflag(host(IN - 1), flag), outside);
	assert_int_equal(support_vmflag(host(IN + IN_LEN), flag), outside);
}

/* A flag that appears, stays for what has it, goes when the control goes. */
static void check_flag(uint64_t code, const char *flag, bool before)
{
	fill_bytes(AT, 1, LEN);
	assert_flag(flag, before, before);
	assert_ok(ask(code, IN, IN_LEN));
	assert_int_equal(answer.done, IN_LEN);
	assert_flag(flag, !before, before);
	assert_int_equal(told().pieces, 1);
	assert_ok(ask(code, IN, MIB(2)));
	assert_flag(flag, !before, before);
	assert_int_equal(told().pieces, 1);
	assert_bytes(AT, 1, LEN);
	stop_control();
	assert_flag(flag, before, before);
	start_control(POLICY(.allow = GM_CONTROL_ALL, .numa_nodes = 1));
}

static void dumps_leave_it_out(void **state)
{
	(void)state;
	for (int i = 0; i < BACKINGS; i++) {
		start_all(i, GM_BLOCK_DUMP);
		if (is_mapped(&backings[i]))
			check_flag(GM_CONTROL_DONTDUMP, "dd", false);
		else
			assert_refused(ask(GM_CONTROL_DONTDUMP, IN, IN_LEN), ENOTSUP);
		stop_all();
	}
}

static void equal_pages_are_merged_or_not(void **state)
{
	(void)state;
	for (int i = 0; i < BACKINGS; i++) {
		bool can = i == ANON || i == THP || i == FILE_PRIVATE || i == LOCKED;

		start_all(i, can ? GM_BLOCK_MERGE : 0);
		if (can) {
			check_flag(GM_CONTROL_UNMERGEABLE, "mg", true);
		} else {
			assert_refused(ask(GM_CONTROL_UNMERGEABLE, IN, IN_LEN), ENOTSUP);
			assert_refused(ask(GM_CONTROL_MERGEABLE, IN, IN_LEN), ENOTSUP);
		}
		stop_all();
		start_all(i, 0);
		if (can)
			check_flag(GM_CONTROL_MERGEABLE, "mg", false);
		stop_all();
	}
}

static void locks_hold_and_are_counted(void **state)
{
	(void)state;
	for (int i = 0; i < BACKINGS; i++) {
		uint32_t flags = backings[i].opts.flags;

		start_all(i, 0);
		if (!is_mapped(&backings[i])) {
			assert_refused(ask(GM_CONTROL_MLOCK, IN, IN_LEN), ENOTSUP);
		} else if (flags & GM_BLOCK_LOCK) {
			assert_refused(ask(GM_CONTROL_MLOCK, IN, IN_LEN), EPERM);
			assert_refused(ask(GM_CONTROL_MUNLOCK, IN, IN_LEN), EPERM);
			if (i == LOCKED)
				assert_flag("lo", true, true);
		} else if (backings[i].page == PAGE) {
			check_flag(GM_CONTROL_MLOCK, "lo", false);
			assert_ok(ask(GM_CONTROL_DONTNEED, AT, LEN));
			assert_ok(ask(GM_CONTROL_MLOCK, IN, IN_LEN));
			/* Locked is filled. */
			assert_int_equal(resident_at(host(IN), IN_LEN), IN_LEN);
			assert_int_equal(told().locked, IN_LEN);
			assert_ok(ask(GM_CONTROL_MUNLOCK, IN + MIB(1), MIB(1)));
			assert_int_equal(told().locked, IN_LEN - MIB(1));
			assert_ok(ask(GM_CONTROL_MUNLOCK, AT, LEN));
			assert_int_equal(told().locked, 0);
			assert_flag("lo", false, false);
			assert_int_equal(told().pieces, 0);
		} else {
			/* Explicit huge pages are never swapped; what is asked for is counted. */
			assert_ok(ask(GM_CONTROL_MLOCK, IN, IN_LEN));
			assert_int_equal(told().locked, IN_LEN);
			assert_int_equal(resident_at(host(IN), IN_LEN), IN_LEN);
		}
		stop_all();
	}
}

static bool maps_has(const void *hva, const char *word)
{
	char line[512];
	bool found = false;
	FILE *f = fopen("/proc/self/maps", "re");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long long from;
		unsigned long long to;

		if (sscanf(line, "%llx-%llx", &from, &to) == 2 && (uintptr_t)hva >= from &&
			(uintptr_t)hva < to)
			found = strstr(line, word) != NULL;
	}
	fclose(f);
	return found;
}

/* In the place of the kernel, which may have been built without names. */
static struct {
	char name[80];
	const void *hva;
	size_t len;
	unsigned int fails;
} named;

int __wrap_gm_sys_name_vma(void *addr, size_t len, const char *name);

int __wrap_gm_sys_name_vma(void *addr, size_t len, const char *name)
{
	named.hva = addr;
	named.len = len;
	snprintf(named.name, sizeof(named.name), "%s", name);
	/* What the kernel takes. */
	for (const char *at = name; *at; at++)
		assert_false(*at < 0x20 || *at > 0x7e || strchr("\\`$[]", *at));
	if (named.fails == 0)
		return 0;
	named.fails--;
	return -EINVAL;
}

static void assert_named(uint64_t gpa, uint64_t len, const char *name)
{
	assert_string_equal(named.name, name);
	assert_ptr_equal(named.hva, host(gpa));
	assert_int_equal(named.len, len);
}

static void names_are_given_and_cleaned(void **state)
{
	const struct gm_control_request text = {.code = GM_CONTROL_SET_NAME,
		.addr = IN,
		.len = IN_LEN,
		.name = "a[b]\\$`\n\x80 and much more than is taken"};

	(void)state;
	for (int i = 0; i < BACKINGS; i++) {
		bool can = i == ANON || i == THP || i == LOCKED || i == ANON_SHARED;

		start_all(i, 0);
		if (!can) {
			assert_refused(ask_arg(GM_CONTROL_SET_NAME, IN, IN_LEN, 7), ENOTSUP);
			stop_all();
			continue;
		}
		assert_ok(ask_arg(GM_CONTROL_SET_NAME, IN, IN_LEN, UINT64_MAX));
		assert_named(IN, IN_LEN, "guest:18446744073709551615");
		assert_ok(gm_control_request(control, &text, &answer, &err));
		assert_named(IN, IN_LEN, "guest:a_b______ and much more ");
		assert_int_equal(told().pieces, 1);
		assert_ok(ask_arg(GM_CONTROL_SET_NAME, IN, MIB(1), 0));
		assert_named(IN, MIB(1), "guestmem:guestmem");
		/* A kernel without names: as before. */
		named.fails = 1;
		assert_int_equal(ask_arg(GM_CONTROL_SET_NAME, IN, MIB(2), 3), -ENOTSUP);
		assert_non_null(strstr(err.text, "control: name at gpa"));
		assert_non_null(strstr(err.text, "CONFIG_ANON_VMA_NAME"));
		stop_control();
		assert_named(IN + MIB(1), IN_LEN - MIB(1), "guestmem:guestmem");
		start_control(NULL);
		stop_all();
	}
}

static void assert_prot(uint64_t gpa, const char *shown, int read_rc, int write_rc)
{
	char private[8];
	char shared[8];
	uint8_t byte;

	snprintf(private, sizeof(private), "%sp", shown);
	snprintf(shared, sizeof(shared), "%ss", shown);
	assert_true(maps_has(host(gpa), private) || maps_has(host(gpa), shared));
	assert_int_equal(read_byte(gpa, &byte), read_rc);
	assert_int_equal(write_byte(gpa, 5), write_rc);
}

static void protection_is_an_error_not_a_death(void **state)
{
	(void)state;
	for (int i = 0; i < BACKINGS; i++) {
		start_all(i, 0);
		fill_bytes(AT, 1, LEN);
		if (!is_mapped(&backings[i])) {
			assert_refused(ask(GM_CONTROL_PROTECT_NONE, IN, IN_LEN), ENOTSUP);
			stop_all();
			continue;
		}
		assert_refused(ask(GM_CONTROL_PROTECT_NONE, IN, IN_LEN), ENOTSUP);
		assert_int_equal(gm_guard_install(), 0);
		assert_ok(ask(GM_CONTROL_PROTECT_R, IN, IN_LEN));
		assert_ok(ask(GM_CONTROL_PROTECT_NONE, IN, MIB(2)));
		assert_prot(IN, "---", -EACCES, -EACCES);
		assert_prot(IN + MIB(2) - 1, "---", -EACCES, -EACCES);
		assert_prot(IN + MIB(2), "r--", 0, -EACCES);
		assert_prot(IN + IN_LEN - 1, "r--", 0, -EACCES);
		assert_prot(IN - 1, "rw-", 0, 0);
		assert_prot(IN + IN_LEN, "rw-", 0, 0);
		assert_ok(ask(GM_CONTROL_PROTECT_W, IN, MIB(2)));
		assert_prot(IN, "-w-", 0, 0);
		assert_ok(ask(GM_CONTROL_PROTECT_RW, IN, MIB(2)));
		assert_prot(IN, "rw-", 0, 0);
		assert_int_equal(told().pieces, 1);
		stop_control();
		assert_prot(IN + MIB(2), "rw-", 0, 0);
		assert_int_equal(gm_guard_remove(), 0);
		start_control(NULL);
		stop_all();
	}
}

static void sizes_of_pages_are_asked_for(void **state)
{
	(void)state;
	assert_true(support_knob("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "never"));
	assert_true(support_knob("/sys/kernel/mm/transparent_hugepage/enabled", "madvise"));
	for (int i = 0; i < BACKINGS; i++) {
		bool anon = i == ANON || i == THP || i == LOCKED;

		start_all(i, 0);
		if (!is_mapped(&backings[i]) || backings[i].page != PAGE) {
			assert_refused(ask(GM_CONTROL_HUGE, IN, IN_LEN), ENOTSUP);
			assert_refused(ask(GM_CONTROL_NOHUGE, IN, IN_LEN), ENOTSUP);
			stop_all();
			continue;
		}
		assert_ok(ask(GM_CONTROL_NOHUGE, IN, IN_LEN));
		assert_true(support_vmflag(host(IN), "nh"));
		if (anon) {
			assert_ok(ask(GM_CONTROL_HUGE, IN, IN_LEN));
			assert_true(support_vmflag(host(IN), "hg"));
			if (i != LOCKED) {
				fill_bytes(AT, 1, LEN);
				assert_int_equal(support_smaps(host(IN), "AnonHugePages:") >=
							 (long long)IN_LEN,
					1);
			}
		} else {
			/* shmem_enabled, or a file system without them. */
			assert_refused(ask(GM_CONTROL_HUGE, IN, IN_LEN), ENOTSUP);
			assert_true(support_vmflag(host(IN), "nh"));
		}
		stop_all();
	}
}

static void memory_is_filled_and_collapsed_and_told(void **state)
{
	(void)state;
	for (int i = 0; i < BACKINGS; i++) {
		const struct backing *b = &backings[i];

		start_all(i, 0);
		if (!is_mapped(b)) {
			assert_refused(ask(GM_CONTROL_POPULATE, IN, IN_LEN), ENOTSUP);
			assert_refused(ask(GM_CONTROL_QUERY, IN, IN_LEN), ENOTSUP);
			stop_all();
			continue;
		}
		if (i != LOCKED && i != MEMFD_LOCKED) {
			assert_ok(ask(GM_CONTROL_QUERY, AT, LEN));
			assert_int_equal(answer.arg0, 0);
		}
		assert_ok(ask(GM_CONTROL_POPULATE, IN, IN_LEN));
		assert_int_equal(answer.done, IN_LEN);
		assert_int_equal(resident_at(host(IN), IN_LEN), IN_LEN);
		if (i != LOCKED && i != MEMFD_LOCKED)
			assert_int_equal(resident_at(host(AT), LEN), IN_LEN);
		assert_ok(ask(GM_CONTROL_QUERY, IN, IN_LEN));
		assert_int_equal(answer.value, b->page);
		assert_int_equal(answer.arg0, IN_LEN);
		assert_int_equal(answer.arg1, i == THP || b->page > PAGE ? IN_LEN : 0);
		if (i == MEMFD || i == ANON_SHARED) {
			assert_ok(ask(GM_CONTROL_COLLAPSE, IN, IN_LEN));
			assert_int_equal(answer.done, IN_LEN);
			assert_ok(ask(GM_CONTROL_QUERY, IN, IN_LEN));
			assert_int_equal(answer.arg1, IN_LEN);
		} else if (b->page > PAGE) {
			assert_refused(ask(GM_CONTROL_COLLAPSE, IN, IN_LEN), ENOTSUP);
			assert_refused(ask(GM_CONTROL_WILLNEED, IN, IN_LEN), ENOTSUP);
		}
		stop_all();
	}
}

static void nodes_are_named(void **state)
{
	(void)state;
	for (int i = 0; i < BACKINGS; i++) {
		int mode = -1;
		unsigned long nodes = 0;

		start_all(i, 0);
		assert_refused(ask_arg(GM_CONTROL_NUMA_BIND, IN, IN_LEN, 1), EPERM);
		assert_refused(ask_arg(GM_CONTROL_NUMA_BIND, IN, IN_LEN, 64), EPERM);
		if (!is_mapped(&backings[i])) {
			assert_refused(ask_arg(GM_CONTROL_NUMA_BIND, IN, IN_LEN, 0), ENOTSUP);
			stop_all();
			continue;
		}
		assert_ok(ask_arg(GM_CONTROL_NUMA_BIND, IN, IN_LEN, 0));
		/* MPOL_F_ADDR */
		assert_int_equal(syscall(SYS_get_mempolicy, &mode, &nodes, 64L, host(IN), 2L), 0);
		assert_int_equal(mode, 2);
		assert_int_equal(nodes, 1);
		assert_ok(ask_arg(GM_CONTROL_NUMA_PREFER, IN, IN_LEN, 0));
		assert_int_equal(syscall(SYS_get_mempolicy, &mode, &nodes, 64L, host(IN), 2L), 0);
		assert_int_equal(mode, 1);
		assert_int_equal(syscall(SYS_get_mempolicy, &mode, &nodes, 64L, host(AT), 2L), 0);
		assert_int_equal(mode, 0);
		stop_control();
		assert_int_equal(syscall(SYS_get_mempolicy, &mode, &nodes, 64L, host(IN), 2L), 0);
		assert_int_equal(mode, 0);
		start_control(NULL);
		stop_all();
	}

	start_all(ANON, 0);
	stop_control();
	start_control(POLICY(.allow = GM_CONTROL_ALL, .numa_nodes = UINT64_MAX));
	assert_int_equal(ask_arg(GM_CONTROL_NUMA_BIND, IN, IN_LEN, 63), -EINVAL);
	assert_non_null(strstr(err.text, "control: NUMA node 63 at gpa"));
	assert_non_null(strstr(err.text, "no such node"));
	stop_all();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_not_needed_is_freed),
		cmocka_unit_test(what_is_free_is_lazy_where_it_can_be),
		cmocka_unit_test(what_is_paged_out_is_not_in_memory),
		cmocka_unit_test(what_is_cold_is_split_off),
		cmocka_unit_test(dumps_leave_it_out),
		cmocka_unit_test(equal_pages_are_merged_or_not),
		cmocka_unit_test(locks_hold_and_are_counted),
		cmocka_unit_test(names_are_given_and_cleaned),
		cmocka_unit_test(protection_is_an_error_not_a_death),
		cmocka_unit_test(sizes_of_pages_are_asked_for),
		cmocka_unit_test(memory_is_filled_and_collapsed_and_told),
		cmocka_unit_test(nodes_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
