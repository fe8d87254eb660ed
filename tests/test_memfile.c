/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_memfile.c - memory in files of any format: seen by itself or named, with what lies on it; what is refused;
 * every call fails in turn.
 */
#include "saved.h"

#include <guestmem/memfile.h>
#include <stdlib.h>

#define PAGES 64

static struct gm_error err;
static uint8_t memory[PAGES * PAGE];
static uint8_t bytes[PAGES * PAGE];

/* A memfd of memory, sparse, in which only pages of @bits are; all of them = all that is not zero. */
static int raw_of(const uint8_t *from, uint64_t bits)
{
	int fd = memfd_create("raw", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)sizeof(memory)), 0);
	for (size_t i = 0; i < PAGES; i++) {
		if (bits >> i & 1)
			assert_int_equal(
				pwrite(fd, from + i * PAGE, PAGE, (off_t)(i * PAGE)), PAGE);
	}
	return fd;
}

static int saved_of(const uint8_t *from, const char *name, const struct gm_snapshot_opts *opts,
	struct gm_snapshot_info *info)
{
	const struct gm_snapshot_region region = {
		.gpa = 2 * PAGE, .len = sizeof(memory), .page_size = 4096, .name = "ram"};
	struct gm_source *source;
	int fd;

	assert_ok(gm_source_memory(from, sizeof(memory), &source, &err));
	assert_ok(gm_snapshot_write(source, &region, 1, in_dir(name), opts, info, &err));
	gm_source_destroy(source);
	fd = open(in_dir(name), O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static int mapped_of(const char *kind)
{
	char command[512];
	int fd;

	snprintf(command, sizeof(command),
		"/usr/bin/python3 -B %s/tests/mapped_ram.py make %s %s %s", GM_SOURCE_ROOT, kind,
		in_dir("a"), in_dir("b"));
	assert_int_equal(system(command), 0);
	fd = open(in_dir("a"), O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void fill_memory(uint8_t *to, uint64_t seed)
{
	struct rng rng = {seed};

	for (size_t i = 0; i < PAGES; i++)
		fill_page(to + i * PAGE, (enum sort)rng_below(&rng, SORTS), &rng);
}

static void assert_is(const struct gm_memfile *m, const uint8_t *expected, uint32_t format)
{
	struct gm_memfile_info info = {.size = sizeof(info)};

	assert_int_equal(gm_memfile_info(m, &info), 0);
	assert_int_equal(info.format, format);
	assert_int_equal(info.len, sizeof(memory));
	assert_ok(gm_source_read(gm_memfile_source(m), 0, bytes, sizeof(bytes), &err));
	assert_memory_equal(bytes, expected, sizeof(bytes));
}

static void raw_files_and_layers_on_them_are_seen(void **state)
{
	static uint8_t upper[sizeof(memory)];
	const struct gm_snapshot_region *regions;
	uint64_t bits = 0x00ff10301000f001;
	struct gm_memfile *m;
	size_t nr;
	int fds[3];

	(void)state;
	fill_memory(memory, test_seed(51));
	fill_memory(upper, test_seed(51) + 1);
	fds[0] = raw_of(memory, UINT64_MAX);
	fds[1] = raw_of(upper, bits);
	fds[2] = raw_of(memory, 1);
	assert_ok(gm_memfile_open(fds, 1, NULL, &m, &err));
	assert_is(m, memory, GM_MEMFILE_RAW);
	regions = gm_memfile_regions(m, &nr);
	assert_int_equal(nr, 1);
	assert_int_equal(regions[0].gpa, 0);
	assert_int_equal(regions[0].len, sizeof(memory));
	assert_string_equal(regions[0].name, "memory");
	gm_memfile_snapshots(m, &nr);
	assert_int_equal(nr, 0);
	gm_memfile_close(m);
	assert_ok(gm_memfile_open(fds, 3, NULL, &m, &err));
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	for (size_t i = 1; i < PAGES; i++) {
		if (bits >> i & 1)
			memcpy(memory + i * PAGE, upper + i * PAGE, PAGE);
	}
	assert_is(m, memory, GM_MEMFILE_RAW);
	gm_memfile_close(m);
	gm_memfile_close(NULL);
}

static void saved_memory_and_differences_are_seen(void **state)
{
	static uint8_t upper[sizeof(memory)];
	struct gm_memfile_opts part = {.size = sizeof(part), .flags = GM_MEMFILE_PART};
	struct gm_snapshot_opts on = {.size = sizeof(on)};
	struct gm_snapshot_info base = {.size = sizeof(base)};
	struct gm_snapshot_info top = {.size = sizeof(top)};
	struct gm_memfile_info info = {.size = sizeof(info)};
	const struct gm_snapshot_region *regions;
	struct gm_memfile *m;
	uint64_t dirty = 0xf0;
	size_t nr;
	int fds[2];

	(void)state;
	fill_memory(memory, test_seed(52));
	memcpy(upper, memory, sizeof(memory));
	memset(upper + 5 * PAGE, 7, PAGE);
	fds[0] = saved_of(memory, "a", NULL, &base);
	memcpy(on.base, base.identity, 16);
	on.dirty = &dirty;
	fds[1] = saved_of(upper, "b", &on, &top);
	assert_ok(gm_memfile_open(fds, 1, NULL, &m, &err));
	assert_is(m, memory, GM_MEMFILE_SAVED);
	gm_memfile_close(m);
	assert_ok(gm_memfile_open(
		fds, 2, GM_OPTS(gm_memfile_opts, .flags = GM_MEMFILE_TRUST), &m, &err));
	assert_is(m, upper, GM_MEMFILE_SAVED);
	assert_int_equal(gm_memfile_info(m, &info), 0);
	assert_memory_equal(info.identity, top.identity, 16);
	assert_memory_equal(info.base, base.base, 16);
	assert_int_equal(info.files, 2);
	regions = gm_memfile_regions(m, &nr);
	assert_int_equal(nr, 1);
	assert_int_equal(regions[0].gpa, 2 * PAGE);
	assert_non_null(gm_memfile_snapshots(m, &nr)[1]);
	assert_int_equal(nr, 2);
	gm_memfile_close(m);
	/* A difference alone is none of the memory. */
	assert_fails(gm_memfile_open(fds + 1, 1, NULL, &m, &err), ESTALE, "it is a difference");
	assert_ok(gm_memfile_open(fds + 1, 1, &part, &m, &err));
	assert_int_equal(gm_memfile_info(m, &info), 0);
	assert_memory_equal(info.base, base.identity, 16);
	assert_fails(gm_source_read(gm_memfile_source(m), 0, bytes, 1, &err), ENODATA, "");
	gm_memfile_close(m);
	assert_int_equal(gm_memfile_open((int[]){fds[1], fds[0]}, 2, &part, &m, &err), -ESTALE);
	close(fds[0]);
	close(fds[1]);
}

static void files_of_qemu_are_seen(void **state)
{
	struct gm_memfile_info info = {.size = sizeof(info)};
	const struct gm_snapshot_region *regions;
	struct gm_memfile *m;
	size_t nr;
	int fd = mapped_of("plain");

	(void)state;
	assert_ok(gm_memfile_open(&fd, 1, NULL, &m, &err));
	regions = gm_memfile_regions(m, &nr);
	assert_int_equal(nr, 3);
	assert_string_equal(regions[1].name, "/rom@etc/acpi/tables");
	assert_int_equal(regions[1].gpa, 300 * PAGE);
	assert_int_equal(regions[1].off, 300 * PAGE);
	gm_memfile_close(m);
	assert_ok(gm_memfile_open(&fd, 1, GM_OPTS(gm_memfile_opts, .block = "vga.vram"), &m, &err));
	assert_int_equal(gm_memfile_info(m, &info), 0);
	assert_int_equal(info.format, GM_MEMFILE_MAPPED_RAM);
	assert_int_equal(info.len, 65 * PAGE);
	regions = gm_memfile_regions(m, &nr);
	assert_int_equal(nr, 1);
	assert_int_equal(regions[0].off + regions[0].gpa, 0);
	gm_memfile_close(m);
	assert_fails(gm_memfile_open(&fd, 1, GM_OPTS(gm_memfile_opts, .block = "x"), &m, &err),
		ENOENT, "named x");
	assert_fails(gm_memfile_open((int[]){fd, fd}, 2, NULL, &m, &err), EINVAL,
		"file 2 of 2: mapped-ram cannot be laid on mapped-ram");
	close(fd);
	/* Addresses of blocks that are here, which rise; two are elsewhere. */
	fd = mapped_of("shared");
	assert_ok(gm_memfile_open(&fd, 1, NULL, &m, &err));
	regions = gm_memfile_regions(m, &nr);
	assert_int_equal(nr, 2);
	assert_int_equal(regions[0].gpa, 0xfffc0000);
	assert_int_equal(regions[0].off, 128 * PAGE);
	assert_int_equal(regions[1].gpa, 0x200000000);
	assert_int_equal(strlen(regions[1].name), 31);
	/* They can be saved as they are told. */
	assert_ok(gm_snapshot_write(
		gm_memfile_source(m), regions, nr, in_dir("c"), NULL, NULL, &err));
	gm_memfile_close(m);
	assert_fails(gm_memfile_open(&fd, 1, GM_OPTS(gm_memfile_opts, .block = "mem0"), &m, &err),
		ENODATA, "in files of its own");
	close(fd);
}

static void who_names_the_format_gets_no_other(void **state)
{
	struct gm_memfile_opts opts = {.size = sizeof(opts)};
	struct gm_memfile *m;
	int fds[2];

	(void)state;
	/* A guest that writes what looks like another format to its first page. */
	fill_memory(memory, test_seed(53));
	fds[0] = saved_of(memory, "a", NULL, NULL);
	assert_int_equal(pread(fds[0], memory, PAGE, 0), PAGE);
	fds[1] = raw_of(memory, UINT64_MAX);
	assert_int_equal(gm_memfile_open(fds + 1, 1, NULL, &m, &err), -EPROTO);
	opts.format = GM_MEMFILE_RAW;
	assert_ok(gm_memfile_open(fds + 1, 1, &opts, &m, &err));
	assert_is(m, memory, GM_MEMFILE_RAW);
	gm_memfile_close(m);
	opts.format = GM_MEMFILE_MAPPED_RAM;
	assert_fails(gm_memfile_open(fds, 1, &opts, &m, &err), EPROTO, "no migration stream");
	opts.format = GM_MEMFILE_SAVED;
	assert_fails(gm_memfile_open(&(int){raw_of(memory + PAGE, 2)}, 1, &opts, &m, &err), EPROTO,
		"no file of saved memory");
	opts.format = GM_MEMFILE_ANY;
	assert_fails(gm_memfile_open((int[]){fds[0], raw_of(memory + PAGE, 2)}, 2, &opts, &m, &err),
		EINVAL, "file 2 of 2: raw memory cannot be laid on saved memory");
	close(fds[0]);
	close(fds[1]);
}

static void what_cannot_be_is_refused(void **state)
{
	struct gm_memfile_opts opts = {.size = sizeof(opts), .format = GM_MEMFILE_MAPPED_RAM + 1};
	struct gm_memfile_info info = {.size = 8};
	int fds[GM_MEMFILE_FILES_MAX + 1] = {0};
	struct gm_memfile *m = NULL;
	int fd = raw_of(memory, 0);

	(void)state;
	fds[0] = fd;
	assert_fails(gm_memfile_open(fds, 0, NULL, &m, &err), EINVAL, "0 files");
	assert_fails(gm_memfile_open(fds, 65, NULL, &m, &err), EINVAL, "65 files");
	assert_fails(gm_memfile_open(&fd, 1, &opts, &m, &err), EINVAL, "format 4");
	opts = (struct gm_memfile_opts){.size = sizeof(opts), .flags = 4};
	assert_fails(gm_memfile_open(&fd, 1, &opts, &m, &err), EINVAL, "flags 0x4");
	opts = (struct gm_memfile_opts){.size = 3};
	assert_int_equal(gm_memfile_open(&fd, 1, &opts, &m, &err), -EINVAL);
	opts = (struct gm_memfile_opts){.size = sizeof(opts), .block = "ram"};
	assert_fails(gm_memfile_open(&fd, 1, &opts, &m, &err), EINVAL, "no RAM blocks");
	assert_ok(gm_memfile_open(&fd, 1, NULL, &m, &err));
	assert_int_equal(gm_memfile_info(m, &info), -EINVAL);
	gm_memfile_close(m);
	assert_int_equal(ftruncate(fd, 5000), 0);
	assert_fails(gm_memfile_open(&fd, 1, NULL, &m, &err), EINVAL, "0x1388 bytes");
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_fails(gm_memfile_open(&fd, 1, NULL, &m, &err), EINVAL, "it is empty");
	close(fd);
	assert_int_equal(gm_memfile_open(&fd, 1, NULL, &m, &err), -EBADF);
	assert_true(err.code == -EBADF && err.text[0]);
}

static uint32_t scenario_format;

static int scenario(void *ctx)
{
	struct gm_memfile_info info = {.size = sizeof(info)};
	const int *fds = ctx;
	struct gm_memfile *m = NULL;
	/* The last is alone, the others lie on each other. */
	int rc = fds[1] >= 0 ? gm_memfile_open(fds, 2, NULL, &m, &err)
			     : gm_memfile_open(fds, 1, NULL, &m, &err);

	if (!rc) {
		assert_int_equal(gm_memfile_info(m, &info), 0);
		assert_int_equal(info.format, scenario_format);
		rc = gm_source_read(gm_memfile_source(m), 0, bytes, PAGE, &err);
	}
	fault_disarm();
	gm_memfile_close(m);
	assert_true(rc == 0 || (err.code == rc && err.text[0]));
	return rc;
}

static void each_call_may_fail(void **state)
{
	static const int errnos[] = {EIO};
	const struct fault_sweep_opts opts = {.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = 1};
	int fds[2];

	(void)state;
	fill_memory(memory, test_seed(54));
	fds[0] = raw_of(memory, UINT64_MAX);
	fds[1] = raw_of(memory, 2);
	scenario_format = GM_MEMFILE_RAW;
	assert_true(fault_sweep_opts(scenario, fds, &opts) >= 2 * 12);
	close(fds[0]);
	close(fds[1]);
	fds[1] = -1;
	fds[0] = saved_of(memory, "c", NULL, NULL);
	scenario_format = GM_MEMFILE_SAVED;
	assert_true(fault_sweep_opts(scenario, fds, &opts) >= 2 * 8);
	close(fds[0]);
	fds[0] = mapped_of("plain");
	scenario_format = GM_MEMFILE_MAPPED_RAM;
	assert_true(fault_sweep_opts(scenario, fds, &opts) >= 2 * 12);
	close(fds[0]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(raw_files_and_layers_on_them_are_seen),
		TEST(saved_memory_and_differences_are_seen),
		TEST(files_of_qemu_are_seen),
		TEST(who_names_the_format_gets_no_other),
		TEST(what_cannot_be_is_refused),
		TEST(each_call_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
