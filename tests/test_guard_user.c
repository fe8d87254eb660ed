/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_guard_user.c - programs and libraries with inline accesses of their own, over the shared
 * library.
 *
 * Linked as a user's program is: its exception table is its own, and that of a plug-in comes and
 * goes with it.
 */
#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <guestmem/guestmem.h>

#include "guard_plugin.h"

#define PAGE 4096

static struct gm_space *space;
static struct gm_reader *reader;
static const struct gm_view *view;

/* Guest memory of two pages on a file that has lost the second. A child gets it too. */
static int set_up(void **state)
{
	int fd = memfd_create("shrinks", MFD_CLOEXEC);
	struct gm_block_opts backing = {.size = sizeof(backing),
		.len = 2 * PAGE,
		.backing = GM_BACKING_FD,
		.fd = fd,
		.flags = GM_BLOCK_FORK};
	struct gm_region_desc desc = {.size = sizeof(desc), .backing = &backing};
	struct gm_error err;

	(void)state;
	if (fd < 0 || ftruncate(fd, 2 * PAGE))
		return -1;
	if (gm_space_build(GM_OPTS(gm_space_opts, .gpa_limit = UINT64_C(1) << 30), &desc, 1, &space,
		    &err) ||
		gm_reader_create(space, NULL, &reader, &err)) {
		print_error("%s\n", err.text);
		return -1;
	}
	view = gm_reader_enter(reader);
	return ftruncate(fd, PAGE) || close(fd);
}

static int tear_down(void **state)
{
	(void)state;
	gm_reader_leave(reader);
	gm_reader_destroy(reader);
	gm_space_destroy(space);
	return 0;
}

static void a_program_has_its_own_table(void **state)
{
	uint8_t buf[100];
	uint64_t value = 7;
	uint32_t old = 7;
	size_t done;

	(void)state;
	assert_int_equal(gm_guard_install(), 0);
	assert_int_equal(gm_guard_check(), 0);
	assert_int_equal(gm_read_u64(view, PAGE - 8, &value), 0);
	assert_int_equal(gm_read_u64(view, PAGE, &value), -EIO);
	assert_int_equal(gm_write_be16(view, PAGE + 10, 1), -EIO);
	assert_int_equal(gm_read_u32(view, PAGE - 2, &old), -EIO);
	assert_int_equal(gm_atomic_load_u32(view, PAGE, __ATOMIC_ACQUIRE, &old), -EIO);
	assert_int_equal(gm_atomic_fetch_or_u32(view, PAGE, __ATOMIC_ACQUIRE, 1, &old), -EIO);
	assert_int_equal(gm_write(view, PAGE - 30, buf, sizeof(buf), &done), -EIO);
	assert_int_equal(done, 30);
	assert_int_equal(value, 0);
	assert_int_equal(old, 7);
	assert_int_equal(gm_guard_remove(), 0);
}

/* @n bytes, known when compiling, of which @good can be reached. */
#define CONSTANT(n)                                                                                \
	for (size_t good = 0; good <= (n); good++) {                                               \
		uint64_t gpa = PAGE - good;                                                        \
		uint8_t bytes[n];                                                                  \
		uint8_t back[n];                                                                   \
		int rc = good < (n) ? -EIO : 0;                                                    \
		size_t done = 99;                                                                  \
                                                                                                   \
		for (size_t i = 0; i < (n); i++)                                                   \
			bytes[i] = (uint8_t)(1 + i + 7 * good + (n));                              \
		assert_int_equal(gm_write(view, gpa, bytes, n, &done), rc);                        \
		assert_int_equal(done, good);                                                      \
		memset(back, 0, n);                                                                \
		assert_int_equal(gm_read(view, gpa, back, n, &done), rc);                          \
		assert_int_equal(done, good);                                                      \
		assert_memory_equal(back, bytes, good);                                            \
		for (size_t i = good; i < (n); i++)                                                \
			assert_int_equal(back[i], 0);                                              \
		bytes[0] ^= 0x80;                                                                  \
		assert_int_equal(gm_write_array(view, gpa, bytes, n, 1, &done), rc);               \
		assert_int_equal(done, good / (n));                                                \
		assert_int_equal(gm_read_array(view, gpa, back, 1, n, &done), rc);                 \
		assert_int_equal(done, good);                                                      \
		assert_memory_equal(back, bytes, good);                                            \
	}

static void lengths_that_are_known_are_as_others(void **state)
{
	(void)state;
	assert_int_equal(gm_guard_install(), 0);
	CONSTANT(1)
	CONSTANT(2)
	CONSTANT(3)
	CONSTANT(4)
	CONSTANT(5)
	CONSTANT(6)
	CONSTANT(7)
	CONSTANT(8)
	CONSTANT(9)
	CONSTANT(10)
	CONSTANT(11)
	CONSTANT(12)
	CONSTANT(13)
	CONSTANT(14)
	CONSTANT(15)
	CONSTANT(16)
	CONSTANT(17)
	CONSTANT(24)
	assert_int_equal(gm_guard_remove(), 0);
}

struct plugin {
	void *lib;
	int (*read)(const struct gm_view *view, uint64_t gpa, uint64_t *ret);
	int (*install)(void);
	int (*remove)(void);
	int (*is_inline)(void);
};

static struct plugin load(void)
{
	struct plugin p = {.lib = dlopen(GM_TEST_PLUGIN, RTLD_NOW)};

	assert_non_null(p.lib);
	*(void **)&p.read = dlsym(p.lib, "plugin_read");
	*(void **)&p.install = dlsym(p.lib, "plugin_install");
	*(void **)&p.remove = dlsym(p.lib, "plugin_remove");
	*(void **)&p.is_inline = dlsym(p.lib, "plugin_is_inline");
	assert_true(p.read && p.install && p.remove && p.is_inline);
	return p;
}

/* The signal that ends a child which reads through the plug-in; 0 if it survives. */
static int signal_of_read(const struct plugin *p)
{
	uint64_t value;
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(p->read(view, PAGE, &value) == -EIO ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

static void a_plugin_hands_over_its_table(void **state)
{
	uint64_t value;

	(void)state;
	signal(SIGBUS, SIG_DFL);
	assert_int_equal(gm_guard_install(), 0);
	for (int i = 0; i < 100; i++) {
		struct plugin p = load();

		/* Neither its inline accesses nor a library that it brought are known yet. */
		if (i == 0)
			assert_int_equal(signal_of_read(&p),
				p.is_inline() || GM_TEST_OWN_LIBRARY ? SIGBUS : 0);
		assert_int_equal(p.install(), 0);
		assert_int_equal(p.install(), 0);
		assert_int_equal(p.remove(), 0);
		assert_int_equal(p.read(view, 0, &value), 0);
		assert_int_equal(p.read(view, PAGE, &value), -EIO);
		assert_int_equal(p.remove(), 0);
		dlclose(p.lib);
		/* Ours goes on without it. */
		assert_int_equal(gm_read_u64(view, PAGE, &value), -EIO);
	}
	assert_int_equal(gm_guard_remove(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_program_has_its_own_table),
		cmocka_unit_test(lengths_that_are_known_are_as_others),
		cmocka_unit_test(a_plugin_hands_over_its_table),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
