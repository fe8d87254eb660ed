/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_mapped_ram.c - files of QEMU with mapped-ram, made and read by a script that knows nothing of the library
 * (mapped_ram.py): read, refused, rewritten where they lie, and a writer that fails or is killed at each call.
 */
#include "saved.h"

#include <guestmem/mapped_ram.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "core/bytes.h"

#define ROOM (5u << 20)

static struct gm_error err;
static uint8_t expected[ROOM];
static uint8_t bytes[ROOM];

static void script(const char *what, const char *kind, const char *file, const char *memory)
{
	char command[512];

	snprintf(command, sizeof(command), "/usr/bin/python3 -B %s/tests/mapped_ram.py %s %s %s %s",
		GM_SOURCE_ROOT, what, kind, file, memory);
	assert_int_equal(system(command), 0);
}

static size_t read_raw(const char *name, uint8_t *to)
{
	int fd = open(in_dir(name), O_RDONLY | O_CLOEXEC);
	ssize_t len = read(fd, to, ROOM);

	assert_true(len > 0 && len < (ssize_t)ROOM);
	close(fd);
	return (size_t)len;
}

/* A file "a" of a kind; what it has goes to expected. Returns its bytes of memory. */
static size_t make(const char *kind)
{
	script("make", kind, in_dir("a"), in_dir("b"));
	return read_raw("b", expected);
}

static struct gm_mapped_ram *open_it(int flags)
{
	int fd = open(in_dir("a"), flags | O_CLOEXEC);
	struct gm_mapped_ram *ram = NULL;

	assert_true(fd >= 0);
	assert_ok(gm_mapped_ram_open(fd, &ram, &err));
	close(fd);
	return ram;
}

/* By its extents, as a pager or a writer goes through it. */
static void compare(struct gm_source *source, const uint8_t *memory)
{
	uint64_t len = gm_source_len(source);
	struct gm_source_extent extent;

	for (uint64_t at = 0; at < len; at += extent.len) {
		assert_int_equal(gm_source_extent(source, at, &extent), 0);
		if (extent.kind == GM_SOURCE_ABSENT) {
			assert_fails(gm_source_read(source, at, bytes, 1, &err), ENODATA,
				"file of its own");
			continue;
		}
		memset(bytes, 1, extent.len);
		assert_ok(gm_source_read(source, at, bytes, extent.len, &err));
		assert_memory_equal(bytes, memory + at, extent.len);
		if (extent.kind == GM_SOURCE_RAW)
			assert_int_equal(pread(extent.fd, bytes, extent.len, (off_t)extent.fd_off),
				(ssize_t)extent.len);
		else
			assert_int_equal(extent.kind, GM_SOURCE_ZERO);
		assert_memory_equal(bytes, memory + at, extent.len);
	}
}

/* ---- reading ---- */

static void each_block_and_all_of_them_are_read(void **state)
{
	static const char *const kinds[] = {"plain", "shared", "large"};
	static const size_t counts[] = {3, 4, 1};
	struct rng rng = {test_seed(31)};

	(void)state;
	for (size_t k = 0; k < 3; k++) {
		size_t len = make(kinds[k]);
		struct gm_mapped_ram *ram = open_it(O_RDONLY);
		const struct gm_mapped_ram_block *blocks;
		struct gm_source *source;
		size_t nr;

		blocks = gm_mapped_ram_blocks(ram, &nr);
		assert_int_equal(nr, counts[k]);
		for (size_t i = 0; i < nr; i++) {
			assert_ok(gm_mapped_ram_source(ram, blocks[i].name, &source, &err));
			assert_int_equal(gm_source_len(source), blocks[i].len);
			compare(source, expected + blocks[i].off);
			gm_source_destroy(source);
		}
		assert_ok(gm_mapped_ram_source(ram, NULL, &source, &err));
		assert_fails(
			gm_mapped_ram_source(ram, "none", &source, &err), ENOENT, "named none");
		gm_mapped_ram_close(ram);
		assert_int_equal(gm_source_len(source), len);
		compare(source, expected);
		for (unsigned long i = 0; i < support_scale(200) && k != 1; i++) {
			uint64_t at = rng_below(&rng, len);
			uint64_t n = 1 + rng_below(&rng, len - at);

			n = n < 20000 ? n : 20000;
			assert_ok(gm_source_read(source, at, bytes, n, &err));
			assert_memory_equal(bytes, expected + at, n);
		}
		gm_source_destroy(source);
	}
}

static void blocks_tell_where_they_are(void **state)
{
	const struct gm_mapped_ram_block *blocks;
	struct gm_mapped_ram *ram;
	size_t nr;

	(void)state;
	make("shared");
	ram = open_it(O_RDONLY);
	blocks = gm_mapped_ram_blocks(ram, &nr);
	assert_string_equal(blocks[0].name, "mem0");
	assert_int_equal(blocks[0].flags, GM_MAPPED_RAM_PLACED | GM_MAPPED_RAM_ELSEWHERE);
	assert_string_equal(blocks[1].name, "pc.bios");
	assert_int_equal(blocks[1].gpa, 0xfffc0000);
	assert_int_equal(blocks[1].off, KIB(512));
	assert_int_equal(blocks[1].flags, GM_MAPPED_RAM_PLACED);
	assert_int_equal(strlen(blocks[3].name), 255);
	assert_int_equal(blocks[3].gpa, 0x200000000);
	gm_mapped_ram_close(ram);
	make("large");
	ram = open_it(O_RDONLY);
	blocks = gm_mapped_ram_blocks(ram, &nr);
	assert_int_equal(blocks[0].page_size, 65536);
	assert_int_equal(blocks[0].flags, 0);
	assert_true(blocks[0].present > 0 && blocks[0].present < blocks[0].len);
	assert_int_equal(blocks[0].present % 65536, 0);
	gm_mapped_ram_close(ram);
}

/* ---- what is refused ---- */

static int try_open(int fd)
{
	struct gm_mapped_ram *ram = NULL;
	int rc = gm_mapped_ram_open(fd, &ram, &err);

	gm_mapped_ram_close(ram);
	return rc;
}

/* A number of the file, big-endian, and what it is refused with. */
struct bad {
	int64_t at;
	unsigned int width;
	uint64_t value;
	int code;
	const char *word;
};

static const struct bad bad_front[] = {
	{0, 4, 0x51455649, EPROTO, "no migration stream"},
	{4, 4, 2, ENOTSUP, "another version of the stream"},
	{4, 4, 4, ENOTSUP, "another version of the stream"},
	{8, 1, 0x04, ENOTSUP, "a device comes before"},
	{8, 1, 0x02, EPROTO, "no section begins"},
	{9, 4, 0xffffffff, EPROTO, "truncated"},
	{9 + 4 + 10 + 2, 1, 'C', ENOTSUP, "is not known"},
};

/* Counted from the header of the first block: its name and length stand in front of it, its bitmap behind. */
#define FIRST 110
static const struct bad bad_block[] = {
	{-15 - 8, 8, 4, EPROTO, "it has no memory"},
	{-15 - 8, 8, 0x14d004 | 8, EPROTO, "does not say its size"},
	{-15 - 12, 4, 3, ENOTSUP, "another version of the section"},
	{-15 - 17, 1, 'n', ENOTSUP, "is not the memory"},
	{-15, 1, 0, EPROTO, "has no name"},
	{-14, 1, 0, EPROTO, "has no name"},
	{-8, 8, 0, EPROTO, "no number of pages"},
	{-8, 8, 300 * PAGE + 1, EPROTO, "no number of pages"},
	{-8, 8, UINT64_MAX - 4095, EPROTO, "more than there is"},
	{-8, 8, 512 * PAGE, EPROTO, "more than there is"},
	{0, 4, 0, ENOTSUP, "another version of mapped-ram"},
	{0, 4, 2, ENOTSUP, "another version of mapped-ram"},
	{4, 8, 0, EPROTO, "no size"},
	{4, 8, 2048, EPROTO, "no size"},
	{4, 8, 5000, EPROTO, "no size"},
	{4, 8, UINT64_C(1) << 63, EPROTO, "no size"},
	{12, 8, 0, EPROTO, "bitmap does not lie"},
	{12, 8, FIRST + 27, EPROTO, "bitmap does not lie"},
	{12, 8, MIB(1) - 39, EPROTO, "bitmap does not lie"},
	{12, 8, UINT64_MAX, EPROTO, "bitmap does not lie"},
	{20, 8, 0, EPROTO, "bitmap does not lie"},
	{20, 8, MIB(1) + 512, EPROTO, "do not begin at a page"},
	{20, 8, UINT64_MAX - 4095, EPROTO, "truncated"},
	{20, 8, MIB(1000), EPROTO, "truncated"},
	{28 + 36, 4, 0x000f00f0, EPROTO, "behind its end"},
};

static void refuse(int fd, int64_t first, const struct bad *bad, size_t nr)
{
	for (size_t i = 0; i < nr; i++, bad++) {
		uint8_t wrong[8];
		uint8_t old[8];

		assert_int_equal(pread(fd, old, 8, first + bad->at), 8);
		gm_put_be(wrong, bad->width, bad->value);
		assert_int_equal(pwrite(fd, wrong, bad->width, first + bad->at), bad->width);
		if (try_open(fd) != -bad->code || !strstr(err.text, bad->word))
			fail_msg("case %zu: %d: %s", i, err.code, err.text);
		assert_int_equal(pwrite(fd, old, 8, first + bad->at), 8);
		assert_int_equal(try_open(fd), 0);
	}
}

static void what_cannot_be_is_refused(void **state)
{
	const struct gm_mapped_ram_block *blocks;
	struct gm_mapped_ram *ram;
	int64_t first;
	size_t nr;
	int fd;

	(void)state;
	make("plain");
	ram = open_it(O_RDONLY);
	blocks = gm_mapped_ram_blocks(ram, &nr);
	first = (int64_t)blocks[0].header_off;
	assert_int_equal(first, FIRST);
	gm_mapped_ram_close(ram);
	fd = open(in_dir("a"), O_RDWR | O_CLOEXEC);
	refuse(fd, 0, bad_front, sizeof(bad_front) / sizeof(bad_front[0]));
	refuse(fd, first, bad_block, sizeof(bad_block) / sizeof(bad_block[0]));
	close(fd);
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_fails(try_open(fd), EPROTO, "no regular file");
	close(fd);
}

static void a_stream_without_mapped_ram_is_named(void **state)
{
	uint8_t *at;
	int fd;

	(void)state;
	make("plain");
	fd = open(in_dir("a"), O_RDWR | O_CLOEXEC);
	assert_int_equal(pread(fd, bytes, 200, 0), 200);
	at = memmem(bytes, 200, "mapped-ram", 10);
	assert_non_null(at);
	assert_int_equal(pwrite(fd, "M", 1, at - bytes), 1);
	assert_fails(try_open(fd), ENOTSUP, "written without mapped-ram");
	close(fd);
}

static void each_length_that_is_cut_is_found(void **state)
{
	off_t len;
	int fd;

	(void)state;
	make("shared");
	fd = open(in_dir("a"), O_RDWR | O_CLOEXEC);
	len = lseek(fd, 0, SEEK_END);
	/* What comes behind the last page is not looked at. */
	len -= 8 + 5 + 1 + 4 + 6 + 8 + 24 + 5 + 1;
	assert_int_equal(ftruncate(fd, len), 0);
	assert_int_equal(try_open(fd), 0);
	for (len--; len >= 0; len -= len > 700 ? 4093 : 1) {
		assert_int_equal(ftruncate(fd, len), 0);
		assert_fails(try_open(fd), EPROTO, len < 4 ? "no migration stream" : "truncated");
	}
	close(fd);
}

/* ---- rewriting ---- */

static void new_memory(struct rng *rng, uint8_t *to, size_t len)
{
	for (size_t at = 0; at < len; at += PAGE)
		fill_page(to + at, (enum sort)rng_below(rng, SORTS), rng);
}

static int rewrite(const uint8_t *memory, size_t len, const struct gm_mapped_ram_opts *opts)
{
	int fd = open(in_dir("a"), O_RDWR | O_CLOEXEC);
	struct gm_mapped_ram *ram = NULL;
	struct gm_source *source = NULL;
	int rc;

	err = (struct gm_error){.code = 0};
	rc = gm_mapped_ram_open(fd, &ram, &err);
	if (!rc)
		rc = gm_source_memory(memory, len, &source, &err);
	if (!rc)
		rc = gm_mapped_ram_rewrite(ram, source, opts, &err);
	gm_source_destroy(source);
	gm_mapped_ram_close(ram);
	close(fd);
	return rc;
}

static void pages_are_rewritten_where_they_lie(void **state)
{
	static const char *const kinds[] = {"plain", "large"};
	struct rng rng = {test_seed(32)};
	uint64_t dirty[ROOM / PAGE / 64];

	(void)state;
	for (unsigned long i = 0; i < support_scale(6); i++) {
		size_t len = make(kinds[i % 2]);
		uint64_t unit = i % 2 ? 65536 : 4096;
		struct gm_mapped_ram_opts opts = {.size = sizeof(opts)};

		new_memory(&rng, bytes, len);
		if (i % 3)
			opts.dirty = dirty;
		for (size_t w = 0; w < sizeof(dirty) / 8; w++)
			dirty[w] = rng_next(&rng) & rng_next(&rng) & rng_next(&rng);
		assert_ok(rewrite(bytes, len, &opts));
		for (size_t at = 0; at < len; at += unit) {
			bool taken = !opts.dirty;

			for (size_t p = at / PAGE; p < (at + unit) / PAGE; p++)
				taken |= dirty[p / 64] >> p % 64 & 1;
			if (taken)
				memcpy(expected + at, bytes + at, unit);
		}
		script("read", "", in_dir("a"), in_dir("c"));
		assert_int_equal(read_raw("c", bytes), len);
		assert_memory_equal(bytes, expected, len);
	}
}

static int count_progress(void *ctx, uint64_t done, uint64_t total)
{
	uint64_t *last = ctx;

	assert_true(done > *last && done <= total);
	*last = done;
	return total == 32 * PAGE && done == total ? 0 : 1;
}

static void one_block_is_rewritten_and_refusals_change_nothing(void **state)
{
	uint64_t done = 0;
	uint64_t dirty[16] = {1};
	struct gm_mapped_ram_opts opts = {.size = sizeof(opts), .name = "/rom@etc/acpi/tables"};
	struct rng rng = {test_seed(33)};
	static uint8_t memory[32 * PAGE];
	size_t len = make("plain");
	struct gm_mapped_ram *ram;
	struct gm_source *source;
	struct gm_source *other;

	(void)state;
	new_memory(&rng, memory, sizeof(memory));
	assert_fails(rewrite(memory, 31 * PAGE, &opts), EINVAL, "0x1f000 bytes of 0x20000");
	opts.name = "none";
	assert_fails(rewrite(memory, sizeof(memory), &opts), ENOENT, "named none");
	opts = (struct gm_mapped_ram_opts){.size = 4};
	assert_int_equal(rewrite(memory, sizeof(memory), &opts), -EINVAL);
	ram = open_it(O_RDONLY);
	assert_ok(gm_mapped_ram_source(ram, NULL, &source, &err));
	other = source;
	assert_fails(gm_mapped_ram_rewrite(ram, source, NULL, &err), EBUSY, "in use");
	gm_mapped_ram_close(ram);
	ram = open_it(O_RDWR);
	assert_fails(gm_mapped_ram_rewrite(ram, other, NULL, &err), EINVAL, "the source reads");
	gm_mapped_ram_close(ram);
	gm_source_destroy(source);
	ram = open_it(O_RDONLY);
	assert_ok(gm_source_memory(expected, len, &source, &err));
	assert_fails(gm_mapped_ram_rewrite(ram, source, NULL, &err), EINVAL, "reading and writing");
	gm_mapped_ram_close(ram);
	ram = open_it(O_RDWR | O_APPEND);
	assert_fails(gm_mapped_ram_rewrite(ram, source, NULL, &err), EINVAL, "reading and writing");
	gm_mapped_ram_close(ram);
	gm_source_destroy(source);
	opts = (struct gm_mapped_ram_opts){.size = sizeof(opts),
		.name = "/rom@etc/acpi/tables",
		.progress = count_progress,
		.ctx = &done};
	assert_ok(rewrite(memory, sizeof(memory), &opts));
	assert_int_equal(done, sizeof(memory));
	memcpy(expected + 300 * PAGE, memory, sizeof(memory));
	ram = open_it(O_RDONLY);
	assert_ok(gm_mapped_ram_source(ram, NULL, &source, &err));
	compare(source, expected);
	gm_source_destroy(source);
	gm_mapped_ram_close(ram);
	/* Canceled, it is neither old nor new, and says so until all of it was written. */
	opts.name = "pc.ram";
	done = 0;
	assert_fails(rewrite(expected, len, &opts), ECANCELED, "canceled");
	ram = open_it(O_RDONLY);
	assert_fails(gm_mapped_ram_source(ram, "pc.ram", &source, &err), EBADMSG, "neither old");
	assert_fails(gm_mapped_ram_source(ram, NULL, &source, &err), EBADMSG, "block pc.ram");
	assert_ok(gm_mapped_ram_source(ram, "vga.vram", &source, &err));
	gm_source_destroy(source);
	gm_mapped_ram_close(ram);
	opts.progress = NULL;
	opts.dirty = dirty;
	assert_fails(rewrite(expected, len, &opts), EBADMSG, "all of it has to be written");
	opts.dirty = NULL;
	assert_ok(rewrite(expected, len, &opts));
	ram = open_it(O_RDONLY);
	assert_ok(gm_mapped_ram_source(ram, NULL, &source, &err));
	compare(source, expected);
	gm_source_destroy(source);
	gm_mapped_ram_close(ram);
}

static void what_is_elsewhere_stays_there(void **state)
{
	struct gm_mapped_ram_opts opts = {.size = sizeof(opts), .name = "mem0"};
	struct rng rng = {test_seed(34)};
	size_t len = make("shared");
	struct gm_mapped_ram *ram;
	struct gm_source *source;
	static uint8_t memory[ROOM];

	(void)state;
	new_memory(&rng, memory, len);
	assert_fails(rewrite(memory, len, &opts), ENOTSUP, "block mem0 is in a file");
	opts.name = NULL;
	assert_ok(rewrite(memory, len, &opts));
	ram = open_it(O_RDONLY);
	assert_ok(gm_mapped_ram_source(ram, NULL, &source, &err));
	compare(source, memory);
	gm_source_destroy(source);
	gm_mapped_ram_close(ram);
	script("read", "", in_dir("a"), in_dir("c"));
}

/* ---- killed, or failing, at each call ---- */

/* 0: it has what is expected; 1: something else; or an error. */
static int look(void)
{
	int fd = open(in_dir("a"), O_RDONLY | O_CLOEXEC);
	struct gm_mapped_ram *ram = NULL;
	struct gm_source *source = NULL;
	int rc = gm_mapped_ram_open(fd, &ram, &err);

	if (!rc)
		rc = gm_mapped_ram_source(ram, NULL, &source, &err);
	if (!rc)
		rc = gm_source_read(source, 0, bytes, gm_source_len(source), &err);
	if (!rc)
		rc = memcmp(bytes, expected, gm_source_len(source)) != 0;
	gm_source_destroy(source);
	gm_mapped_ram_close(ram);
	close(fd);
	return rc;
}

static void who_is_killed_leaves_old_new_or_a_mark(void **state)
{
	static uint8_t old[ROOM];
	static uint8_t new[ROOM];
	struct rng rng = {test_seed(35)};
	size_t len = make("plain");
	unsigned long marked = 0;
	unsigned long points = 0;
	int status = 0;

	(void)state;
	memcpy(old, expected, len);
	new_memory(&rng, new, len);
	for (unsigned long nth = 1; nth == 1 || WIFSIGNALED(status); nth++) {
		pid_t pid = fork();
		int rc;

		assert_true(pid >= 0);
		if (pid == 0) {
			fault_set(&(struct fault_plan){
				.fn = FAULT_ANY, .nth = nth, .error = FAULT_KILL});
			_exit(rewrite(new, len, NULL) ? 2 : 0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		memcpy(expected, new, len);
		rc = look();
		if (rc == 1) {
			memcpy(expected, old, len);
			rc = look();
		}
		if (rc && rc != -EBADMSG)
			fail_msg("killed at call %lu: %d: %s", nth, rc, err.text);
		marked += rc != 0;
		points += WIFSIGNALED(status);
		assert_int_equal(rewrite(old, len, NULL), 0);
		memcpy(expected, old, len);
		assert_int_equal(look(), 0);
	}
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_true(marked > 20 && marked < points);
	printf("figure: mapped-ram-kill-points %lu\n", points);
}

static uint8_t scenario_memory[ROOM];

static int rewrite_scenario(void *ctx)
{
	const size_t *len = ctx;
	int rc = rewrite(scenario_memory, *len, NULL);

	assert_true(err.code == rc && (rc == 0 || err.text[0]));
	fault_disarm();
	memcpy(expected, scenario_memory, *len);
	if (!rc)
		assert_int_equal(look(), 0);
	/* What was there is back before the next one. */
	scenario_memory[0] ^= 1;
	assert_int_equal(rewrite(scenario_memory, *len, NULL), 0);
	return rc;
}

static int look_scenario(void *ctx)
{
	int rc = look();

	(void)ctx;
	fault_disarm();
	assert_true(rc <= 0 && (rc == 0 || (err.code == rc && err.text[0])));
	return rc;
}

static void each_call_may_fail(void **state)
{
	static const int errnos[] = {EIO};
	const struct fault_sweep_opts opts = {.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = 1};
	const struct fault_sweep_opts storm = {
		.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = 1, .eintr = 3};
	size_t len = make("large");
	unsigned long nr;

	(void)state;
	memcpy(scenario_memory, expected, len);
	scenario_memory[KIB(320)] ^= 1;
	nr = fault_sweep_opts(rewrite_scenario, &len, &opts);
	assert_true(nr >= 2 * 12);
	memcpy(expected, scenario_memory, len);
	assert_true(fault_sweep_opts(look_scenario, NULL, &storm) >= 2 * 8);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_pwrite,
		.nth = 1,
		.forever = true,
		.short_len = 1000,
		.eintr = 1});
	assert_ok(rewrite(scenario_memory, len, NULL));
	assert_true(fault_hits() > 10);
	fault_set(NULL);
	memcpy(expected, scenario_memory, len);
	assert_int_equal(look(), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_fast_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_block_and_all_of_them_are_read),
		TEST(blocks_tell_where_they_are),
		TEST(what_cannot_be_is_refused),
		TEST(a_stream_without_mapped_ram_is_named),
		TEST(each_length_that_is_cut_is_found),
		TEST(pages_are_rewritten_where_they_lie),
		TEST(one_block_is_rewritten_and_refusals_change_nothing),
		TEST(what_is_elsewhere_stays_there),
		TEST(who_is_killed_leaves_old_new_or_a_mark),
		TEST(each_call_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
