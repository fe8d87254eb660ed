/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_loader_fault.c - each call of loading fails in turn, falls short, is interrupted; files that end
 * too early; guest memory that the host cannot provide.
 */
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "fault.h"
#include "loader_guest.h"

#define PLACE(...) GM_OPTS(gm_load_place, __VA_ARGS__)

static struct gm_loaded loaded;

/* Loads the image and, as if it were one, a RAM disk; all is as it should be if it went well. */
static int scenario(void *ctx)
{
	int fd = image_fd(&image);
	int rc;

	(void)ctx;
	memset(&err, 0, sizeof(err));
	memset(&kernel, 0, sizeof(kernel));
	kernel.size = sizeof(kernel);
	rc = gm_load_kernel(reader, fd, NULL, &kernel, &err);
	if (!rc)
		rc = gm_load_initrd(reader, fd, &kernel, 0, &loaded, &err);
	fault_disarm();
	assert_int_equal(err.code, rc);
	assert_true(rc == 0 || err.text[0]);
	if (rc == 0)
		assert_loaded(loaded.gpa, 0, image.len);
	if (rc == 0 && kernel.format == GM_KERNEL_ELF) {
		assert_loaded(ELF_TEXT, ELF_TEXT_OFF, ELF_TEXT_LEN);
		assert_loaded(ELF_DATA, ELF_DATA_OFF, ELF_DATA_LEN);
		assert_zero(ELF_DATA + ELF_DATA_LEN, ELF_DATA_MEM - ELF_DATA_LEN);
	} else if (rc == 0) {
		assert_loaded(BZ_PREFERRED, BZ_SETUP, BZ_LEN);
	}
	fill(ELF_TEXT, 0xcc, KIB(64));
	fill(BZ_PREFERRED, 0xcc, KIB(64));
	close(fd);
	return rc;
}

static void each_call_of_loading_may_fail(void **state)
{
	static const int errnos[] = {ENOMEM, EIO, EISDIR};
	const struct fault_sweep_opts opts = {.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = 3};
	const struct fault_sweep_opts storm = {.fn = FAULT_ANY, .eintr = 3};
	unsigned long nr;

	(void)state;
	image_elf(&image, 64, EM_X86_64, ET_EXEC);
	nr = fault_sweep_opts(scenario, NULL, &opts);
	print_message("%lu injections into ELF\n", nr);
	assert_true(nr >= 2 * 3 * 13);
	assert_true(fault_sweep_opts(scenario, NULL, &storm) >= nr);
	image_bzimage(&image);
	nr = fault_sweep_opts(scenario, NULL, &opts);
	print_message("%lu injections into bzImage\n", nr);
	assert_true(nr >= 2 * 3 * 5);
	assert_true(fault_sweep_opts(scenario, NULL, &storm) >= nr);
}

static void loading_goes_on_after_short_counts(void **state)
{
	static struct fault_state before;

	(void)state;
	fault_set(NULL);
	fault_state_take(&before);
	for (size_t len = 1; len < 5000; len += len < 20 ? 1 : 997) {
		image_elf(&image, 64, EM_X86_64, ET_EXEC);
		fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_pread,
			.nth = 1,
			.forever = true,
			.short_len = len,
			.eintr = 1});
		assert_int_equal(scenario(NULL), 0);
		assert_true(fault_hits() >= image.len / len);
		image_bzimage(&image);
		fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_pread,
			.nth = 1,
			.forever = true,
			.short_len = len,
			.eintr = 2});
		assert_int_equal(scenario(NULL), 0);
		assert_true(fault_hits() >= image.len / len);
	}
	fault_set(NULL);
	assert_true(fault_state_same(&before));
}

/* As one that shrinks: sysfs says that a file has a page, of which a few bytes are there. */
static void a_file_that_ends_too_early_is_an_error(void **state)
{
	int fd = open("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	assert_fails(
		gm_load_file(reader, fd, PLACE(.flags = GM_LOAD_AT, .first = 0), &loaded, &err),
		EIO, "the file ends at byte 0x");
	kernel.size = sizeof(kernel);
	assert_fails(gm_load_kernel(reader, fd, NULL, &kernel, &err), EIO, "it had 0x1000");
	close(fd);
	fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	assert_fails(
		gm_load_file(reader, fd, PLACE(.flags = GM_LOAD_AT, .first = 0), &loaded, &err),
		ENODATA, "nothing to load");
	close(fd);
}

/* A file below guest memory that has become shorter: the kernel cannot write to what was there. */
static void memory_that_the_host_cannot_provide_is_an_error(void **state)
{
	int memory = memfd_create("memory", MFD_CLOEXEC);
	int fd;

	(void)state;
	assert_int_equal(ftruncate(memory, (off_t)MIB(1)), 0);
	assert_ok(gm_space_add(space,
		DESC(.gpa = GIB(1),
			.backing = BLOCK(.backing = GM_BACKING_FD, .fd = memory, .len = MIB(1))),
		NULL, &err));
	assert_int_equal(ftruncate(memory, 8192), 0);
	image_bzimage(&image);
	fd = image_fd(&image);
	assert_ok(gm_load_file(
		reader, fd, PLACE(.flags = GM_LOAD_AT, .first = GIB(1)), &loaded, &err));
	assert_fails(gm_load_file(reader, fd, PLACE(.flags = GM_LOAD_AT, .first = GIB(1) + 4096),
			     &loaded, &err),
		EIO, "at 0x40002000");
	assert_int_equal(err.gpa, GIB(1) + 8192);
	close(fd);
	/* What is zeroed is reached by the guard. */
	assert_int_equal(gm_guard_install(), 0);
	image_elf(&image, 64, EM_AARCH64, ET_DYN);
	assert_fails(load(GM_OPTS(gm_load_opts, .flags = GM_LOAD_AT, .addr = GIB(1))), EIO,
		"at 0x40002000");
	assert_int_equal(gm_guard_remove(), 0);
	close(memory);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, guest_start, guest_stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_call_of_loading_may_fail),
		TEST(loading_goes_on_after_short_counts),
		TEST(a_file_that_ends_too_early_is_an_error),
		TEST(memory_that_the_host_cannot_provide_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
