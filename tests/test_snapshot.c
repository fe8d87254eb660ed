/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_snapshot.c - memory is saved and read back: all sorts of pages, of files and of spaces; differences, and what
 * they are laid on.
 */
#include "saved.h"

#include <guestmem/pager.h>
#include <guestmem/pager_run.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#define PAGES 192

static struct gm_error err;

static struct gm_snapshot *open_it(const char *name)
{
	int fd = open(in_dir(name), O_RDONLY | O_CLOEXEC);
	struct gm_snapshot *snapshot = NULL;

	assert_true(fd >= 0);
	assert_ok(gm_snapshot_open(fd, &snapshot, &err));
	close(fd);
	return snapshot;
}

/* Regions at random places of @nr pages. */
static size_t random_regions(
	struct rng *rng, struct gm_snapshot_region *regions, size_t room, uint64_t pages)
{
	uint64_t page = rng_below(rng, 4);
	uint64_t gpa = rng_below(rng, 3) * PAGE;
	size_t nr = 0;

	while (nr < room && page < pages) {
		uint64_t len = 1 + rng_below(rng, pages - page);

		regions[nr] = (struct gm_snapshot_region){.gpa = gpa,
			.len = len * PAGE,
			.off = page * PAGE,
			.page_size = 4096,
			.kind = GM_REGION_RAM};
		snprintf(regions[nr].name, sizeof(regions[nr].name), "ram %zu", nr);
		nr++;
		gpa += (len + rng_below(rng, 5)) * PAGE;
		page += len + rng_below(rng, 5);
	}
	return nr;
}

/* The source's bytes in @region are those at @copy. */
static void compare(struct gm_source *source, const struct gm_snapshot_region *region,
	const uint8_t *copy, struct rng *rng)
{
	uint8_t *bytes = malloc(region->len);
	struct gm_source_extent extent;

	assert_ok(gm_source_read(source, region->off, bytes, region->len, &err));
	assert_memory_equal(bytes, copy + region->off, region->len);
	for (int i = 0; i < 8; i++) {
		uint64_t in = rng_below(rng, region->len);
		uint64_t len = 1 + rng_below(rng, region->len - in);

		len = i < 4 && len > 5000 ? 5000 : len;
		assert_ok(gm_source_read(source, region->off + in, bytes, len, &err));
		assert_memory_equal(bytes, copy + region->off + in, len);
	}
	for (uint64_t at = 0; at < region->len; at += extent.len) {
		assert_int_equal(gm_source_extent(source, region->off + at, &extent), 0);
		extent.len = extent.len < region->len - at ? extent.len : region->len - at;
		if (extent.kind == GM_SOURCE_RAW)
			assert_int_equal(pread(extent.fd, bytes, extent.len, (off_t)extent.fd_off),
				(ssize_t)extent.len);
		else if (extent.kind == GM_SOURCE_ZERO)
			memset(bytes, 0, extent.len);
		else
			assert_ok(
				gm_source_read(source, region->off + at, bytes, extent.len, &err));
		assert_memory_equal(bytes, copy + region->off + at, extent.len);
	}
	free(bytes);
}

static void what_is_saved_is_read_back(void **state)
{
	static uint8_t copy[PAGES * PAGE];
	struct rng rng = {test_seed(61)};

	(void)state;
	for (unsigned long i = 0; i < support_scale(60); i++) {
		struct gm_snapshot_info info = {.size = sizeof(info)};
		struct gm_snapshot_info again = {.size = sizeof(again)};
		const struct gm_snapshot_region *regions;
		struct gm_snapshot_region mine[8];
		size_t nr = random_regions(&rng, mine, 1 + rng_below(&rng, 8), PAGES);
		int fd = random_memory(&rng, copy, PAGES);
		struct gm_snapshot *snapshot;
		struct gm_source *source;
		size_t found;

		assert_ok(gm_source_file(fd, 0, 0, &source, &err));
		assert_ok(gm_snapshot_write(source, mine, nr, in_dir("a"),
			OPTS(.codec = (uint32_t)rng_below(&rng, 4),
				.chunk = 4096u << rng_below(&rng, 6)),
			&info, &err));
		gm_source_destroy(source);
		snapshot = open_it("a");
		assert_int_equal(gm_snapshot_info(snapshot, &again), 0);
		assert_memory_equal(&info, &again, sizeof(info));
		regions = gm_snapshot_regions(snapshot, &found);
		assert_int_equal(found, nr);
		assert_memory_equal(regions, mine, nr * sizeof(mine[0]));
		assert_ok(gm_snapshot_verify(snapshot, NULL, NULL, NULL, &err));
		assert_ok(gm_snapshot_source(
			&snapshot, 1, i % 2 ? GM_SNAPSHOT_TRUST : 0, &source, &err));
		gm_snapshot_close(snapshot);
		assert_int_equal(gm_source_len(source), PAGES * PAGE);
		for (size_t r = 0; r < nr; r++)
			compare(source, &mine[r], copy, &rng);
		gm_source_destroy(source);
		close(fd);
	}
	assert_false(is_there(".a.part"));
}

static int count_kinds(struct gm_source *source, uint32_t kind, uint64_t *ret_len)
{
	struct gm_source_extent extent;
	int nr = 0;

	*ret_len = 0;
	for (uint64_t at = 0; at < gm_source_len(source); at += extent.len) {
		assert_int_equal(gm_source_extent(source, at, &extent), 0);
		nr += extent.kind == kind;
		*ret_len += extent.kind == kind ? extent.len : 0;
	}
	return nr;
}

static void raw_chunks_may_be_mapped_by_who_trusts_the_file(void **state)
{
	struct gm_snapshot_region all = {.len = 100 * PAGE, .page_size = 4096};
	struct gm_snapshot_info info = {.size = sizeof(info)};
	static uint8_t copy[100 * PAGE];
	struct rng rng = {test_seed(62)};
	struct gm_source_extent extent;
	struct gm_snapshot *snapshot;
	struct gm_source *source;
	uint64_t len;

	(void)state;
	for (size_t i = 0; i < 100; i++)
		fill_page(copy + i * PAGE, i < 50 ? NOISE : i < 60 ? ZEROS : TEXT, &rng);
	assert_ok(gm_source_memory(copy, sizeof(copy), &source, &err));
	assert_ok(
		gm_snapshot_write(source, &all, 1, in_dir("a"), OPTS(.chunk = 16384), &info, &err));
	gm_source_destroy(source);
	assert_int_equal(info.data, 90 * PAGE);
	snapshot = open_it("a");
	assert_ok(gm_snapshot_source(&snapshot, 1, GM_SNAPSHOT_TRUST, &source, &err));
	/* All of the noise is one stretch of the file, as it was in memory. */
	assert_int_equal(gm_source_extent(source, 0, &extent), 0);
	assert_int_equal(extent.kind, GM_SOURCE_RAW);
	assert_int_equal(extent.len, 50 * PAGE);
	count_kinds(source, GM_SOURCE_RAW, &len);
	assert_int_equal(len, info.raw);
	count_kinds(source, GM_SOURCE_ZERO, &len);
	assert_int_equal(len, 10 * PAGE);
	gm_source_destroy(source);
	assert_ok(gm_snapshot_source(&snapshot, 1, 0, &source, &err));
	assert_int_equal(count_kinds(source, GM_SOURCE_RAW, &len), 0);
	gm_source_destroy(source);
	gm_snapshot_close(snapshot);
	/* Zeros cost nothing, and text little where there is a codec. */
	assert_true(info.file_len <= info.stored + 5 * PAGE);
	assert_true(info.raw == info.data || info.stored < 80 * PAGE);
}

/* ---- spaces ---- */

static struct gm_space *space;
static struct gm_reader *reader;
static int file_fd;

#define DESC(...) GM_OPTS(gm_region_desc, __VA_ARGS__)
#define BLOCK(...) GM_OPTS(gm_block_opts, __VA_ARGS__)
#define SPACE_PAGES 128

static void put(uint64_t gpa, const void *bytes, size_t len)
{
	assert_int_equal(gm_write(gm_reader_enter(reader), gpa, bytes, len, NULL), 0);
	gm_reader_leave(reader);
}

/* Anonymous memory, a memfd, a file mapped private, and a hole between. */
static void make_space(void)
{
	uint8_t page[PAGE];

	memset(page, 7, sizeof(page));
	file_fd = open(in_dir("c"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(pwrite(file_fd, page, PAGE, 3 * PAGE), PAGE);
	assert_int_equal(ftruncate(file_fd, 32 * PAGE), 0);
	assert_ok(gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)), &space, &err));
	assert_ok(gm_reader_create(space, "first", &reader, &err));
	assert_ok(gm_space_add(space,
		DESC(.gpa = 0, .name = "low", .backing = BLOCK(.len = 64 * PAGE)), NULL, &err));
	assert_ok(gm_space_add(space,
		DESC(.gpa = MIB(1), .backing = BLOCK(.name = "shared", .len = 32 * PAGE,
					    .flags = GM_BLOCK_SHARE)),
		NULL, &err));
	assert_ok(gm_space_add(space,
		DESC(.gpa = MIB(2), .backing = BLOCK(.len = 32 * PAGE, .backing = GM_BACKING_FD,
					    .fd = file_fd, .flags = GM_BLOCK_PRIVATE)),
		NULL, &err));
}

static void end_space(void)
{
	gm_reader_destroy(reader);
	gm_space_destroy(space);
	close(file_fd);
}

/* The memory of the space as its source has it. */
static void look(uint8_t *to)
{
	const struct gm_view *view = gm_reader_enter(reader);

	assert_int_equal(gm_read(view, 0, to, 64 * PAGE, NULL), 0);
	assert_int_equal(gm_read(view, MIB(1), to + 64 * PAGE, 32 * PAGE, NULL), 0);
	assert_int_equal(gm_read(view, MIB(2), to + 96 * PAGE, 32 * PAGE, NULL), 0);
	gm_reader_leave(reader);
}

static void assert_saved(struct gm_snapshot *const *snapshots, size_t nr, const uint8_t *copy)
{
	static uint8_t bytes[SPACE_PAGES * PAGE];
	struct gm_source *source;

	assert_ok(gm_snapshot_source(snapshots, nr, 0, &source, &err));
	assert_int_equal(gm_source_len(source), sizeof(bytes));
	assert_ok(gm_source_read(source, 0, bytes, sizeof(bytes), &err));
	assert_memory_equal(bytes, copy, sizeof(bytes));
	gm_source_destroy(source);
}

static void a_space_is_saved_with_its_regions(void **state)
{
	static uint8_t copy[SPACE_PAGES * PAGE];
	struct gm_snapshot_info info = {.size = sizeof(info)};
	const struct gm_snapshot_region *regions;
	struct gm_snapshot_label label = {"vcpu 0", "state", 5};
	struct gm_snapshot *snapshot;
	size_t nr;

	(void)state;
	for (int guarded = 0; guarded < 2; guarded++) {
		make_space();
		if (guarded)
			assert_int_equal(gm_guard_install(), 0);
		/* Nor over a file that is private memory of it, whatever it is called. */
		assert_int_equal(link(in_dir("c"), in_dir("b")), 0);
		assert_fails(gm_snapshot_save(space, NULL, in_dir("b"), NULL, NULL, &err), EINVAL,
			"lies in the file");
		assert_int_equal(unlink(in_dir("b")), 0);
		put(5 * PAGE + 1, "five", 4);
		put(MIB(1) + 9 * PAGE, "nine", 4);
		put(MIB(2) + 4 * PAGE, "four", 4);
		assert_ok(gm_snapshot_save(space, NULL, in_dir("a"),
			OPTS(.labels = &label, .nr_labels = 1), &info, &err));
		look(copy);
		assert_int_equal(info.data, 4 * PAGE);
		assert_int_equal(info.lost, 0);
		snapshot = open_it("a");
		regions = gm_snapshot_regions(snapshot, &nr);
		assert_int_equal(nr, 3);
		assert_int_equal(regions[1].gpa, MIB(1));
		assert_int_equal(regions[1].off, 64 * PAGE);
		assert_int_equal(regions[1].len, 32 * PAGE);
		assert_string_equal(regions[1].name, "shared");
		assert_int_equal(gm_snapshot_label(snapshot, 0, &label), 0);
		assert_string_equal(label.key, "vcpu 0");
		assert_int_equal(label.len, 5);
		assert_memory_equal(label.value, "state", 5);
		assert_int_equal(gm_snapshot_label(snapshot, 1, &label), -ENOENT);
		label = (struct gm_snapshot_label){"vcpu 0", "state", 5};
		assert_saved(&snapshot, 1, copy);
		gm_snapshot_close(snapshot);
		if (guarded)
			assert_int_equal(gm_guard_remove(), 0);
		end_space();
	}
}

static void what_was_never_touched_stays_so(void **state)
{
	uint64_t before;
	uint64_t after;

	(void)state;
	make_space();
	put(5 * PAGE, "five", 4);
	assert_ok(gm_space_extents(
		space, 0, 64 * PAGE, 0, NULL, NULL, GM_OPTS(gm_usage, .present = 0), &err));
	for (int i = 0; i < 2; i++) {
		struct gm_usage use = {.size = sizeof(use)};

		assert_ok(
			gm_space_extents(space, 0, MIB(1) + 32 * PAGE, 0, NULL, NULL, &use, &err));
		*(i ? &after : &before) = use.present + use.zero;
		if (!i)
			assert_ok(gm_snapshot_save(space, NULL, in_dir("a"), NULL, NULL, &err));
	}
	assert_int_equal(before, after);
	end_space();
}

static void differences_are_laid_on_their_base(void **state)
{
	static uint8_t copy[SPACE_PAGES * PAGE];
	static uint8_t zeros[PAGE];
	struct gm_snapshot_info whole = {.size = sizeof(whole)};
	struct gm_snapshot_info info = {.size = sizeof(info)};
	struct gm_snapshot_opts opts = {.size = sizeof(opts)};
	struct gm_snapshot *layers[3];
	struct gm_source *source;
	struct gm_log *log;
	uint8_t byte;

	(void)state;
	make_space();
	put(5 * PAGE, "five", 4);
	put(6 * PAGE, "six", 3);
	assert_ok(gm_log_create(space, GM_OPTS(gm_log_opts, .len = MIB(1) + 8 * PAGE), &log, &err));
	assert_ok(gm_snapshot_save(space, NULL, in_dir("a"), NULL, &whole, &err));
	put(5 * PAGE, zeros, PAGE);
	put(7 * PAGE, "seven", 5);
	put(MIB(1) + 31 * PAGE, "outside of the log", 18);
	memcpy(opts.base, whole.identity, 16);
	/* What cannot be saved is marked still. */
	assert_fails(gm_snapshot_save(space, log, "/proc/no/such", &opts, &info, &err), ENOENT,
		"/proc/no/such");
	assert_int_equal(gm_log_count(log, 0, 0), 2);
	assert_ok(gm_snapshot_save(space, log, in_dir("b"), &opts, &info, &err));
	assert_int_equal(gm_log_count(log, 0, 0), 0);
	look(copy);
	layers[0] = open_it("a");
	layers[1] = open_it("b");
	assert_saved(layers, 2, copy);
	assert_fails(gm_snapshot_source(layers + 1, 1, 1u << 5, &source, &err), EINVAL, "flags");
	layers[2] = layers[0];
	assert_fails(gm_snapshot_source(layers + 1, 2, 0, &source, &err), ESTALE, "no difference");
	assert_ok(gm_snapshot_source(layers + 1, 1, 0, &source, &err));
	assert_fails(gm_source_read(source, 6 * PAGE, &byte, 1, &err), ENODATA,
		"not in this difference");
	assert_ok(gm_source_read(source, 5 * PAGE, &byte, 1, &err));
	assert_int_equal(byte, 0);
	gm_source_destroy(source);
	/* Merged over one of them, and a difference alone is not all. */
	assert_ok(gm_snapshot_merge(layers, 2, in_dir("a"), NULL, &info, &err));
	assert_ok(gm_snapshot_merge(layers + 1, 1, in_dir("b"), NULL, NULL, &err));
	gm_snapshot_close(layers[1]);
	layers[1] = open_it("b");
	assert_saved(layers, 2, copy);
	gm_snapshot_close(layers[0]);
	gm_snapshot_close(layers[1]);
	layers[0] = open_it("a");
	assert_saved(layers, 1, copy);
	gm_snapshot_close(layers[0]);
	assert_ok(gm_log_destroy(log, &err));
	end_space();
}

/* What has not arrived is no zeros. */
static void memory_that_a_pager_brings_has_to_be_there(void **state)
{
	static uint8_t bytes[64 * PAGE];
	static uint8_t copy[SPACE_PAGES * PAGE];
	struct gm_snapshot_info info = {.size = sizeof(info)};
	struct gm_snapshot *snapshot;
	struct gm_source *source;
	struct gm_pager *pager;

	(void)state;
	make_space();
	memset(bytes, 5, sizeof(bytes));
	assert_ok(gm_source_memory(bytes, sizeof(bytes), &source, &err));
	assert_ok(gm_pager_create(NULL, &pager, &err));
	assert_ok(gm_pager_add_space(pager, space, 0, sizeof(bytes),
		GM_OPTS(gm_pager_area_opts, .source = source), NULL, &err));
	assert_fails(gm_snapshot_save(space, NULL, in_dir("a"), NULL, &info, &err), EBUSY,
		"0x40000 bytes are absent yet");
	assert_false(is_there("a"));
	assert_ok(gm_pager_stop(pager, GM_PAGER_COMPLETE, 10000, &err));
	assert_ok(gm_snapshot_save(space, NULL, in_dir("a"), NULL, &info, &err));
	assert_ok(gm_pager_destroy(pager, &err));
	look(copy);
	assert_memory_equal(copy, bytes, sizeof(bytes));
	snapshot = open_it("a");
	assert_saved(&snapshot, 1, copy);
	gm_snapshot_close(snapshot);
	gm_source_destroy(source);
	end_space();
}

static void memory_that_the_host_lost_is_recorded(void **state)
{
	struct gm_snapshot_info info = {.size = sizeof(info)};
	struct gm_snapshot_info again = {.size = sizeof(again)};
	struct gm_block_info block = {.size = sizeof(block)};
	struct gm_region_info region = {.size = sizeof(region)};
	struct gm_snapshot *snapshot;
	struct gm_source *source;
	uint8_t bytes[2 * PAGE];

	(void)state;
	make_space();
	put(MIB(2) + 31 * PAGE, "x", 1);
	put(MIB(2) + 3 * PAGE, "y", 1);
	assert_int_equal(gm_space_next(space, MIB(2), &region), 0);
	assert_int_equal(gm_block_info(region.block, &block), 0);
	for (int guarded = 0; guarded < 2; guarded++) {
		if (guarded)
			assert_int_equal(gm_guard_install(), 0);
		assert_int_equal(ftruncate(file_fd, 30 * PAGE), 0);
		assert_ok(gm_snapshot_save(space, NULL, in_dir("a"), NULL, &info, &err));
		assert_int_equal(info.lost, 2 * PAGE);
		if (guarded)
			assert_int_equal(gm_guard_remove(), 0);
	}
	snapshot = open_it("a");
	assert_ok(gm_snapshot_source(&snapshot, 1, 0, &source, &err));
	assert_ok(gm_source_read(source, (96 + 29) * PAGE, bytes, PAGE, &err));
	assert_fails(gm_source_read(source, (96 + 29) * PAGE, bytes, 2 * PAGE, &err), EHWPOISON,
		"when it was saved");
	assert_ok(gm_source_read(source, (96 + 3) * PAGE, bytes, PAGE, &err));
	assert_int_equal(bytes[0], 'y');
	gm_source_destroy(source);
	/* It stays lost. */
	assert_ok(gm_snapshot_merge(&snapshot, 1, in_dir("b"), NULL, &again, &err));
	assert_int_equal(again.lost, 2 * PAGE);
	gm_snapshot_close(snapshot);
	end_space();
}

/* ---- threads ---- */

static struct gm_source *shared;
static uint8_t shared_copy[PAGES * PAGE];

static void *read_all(void *arg)
{
	struct rng rng = {test_seed(70 + (uint64_t)(uintptr_t)arg)};
	uint8_t bytes[3 * PAGE];

	for (int i = 0; i < 500; i++) {
		uint64_t at = rng_below(&rng, sizeof(shared_copy) - sizeof(bytes));

		if (gm_source_read(shared, at, bytes, sizeof(bytes), NULL) ||
			memcmp(bytes, shared_copy + at, sizeof(bytes)))
			return "wrong";
	}
	return NULL;
}

static void any_number_of_threads_reads(void **state)
{
	struct gm_snapshot_region all = {.len = PAGES * PAGE, .page_size = 4096};
	struct rng rng = {test_seed(69)};
	struct gm_snapshot *snapshot;
	struct gm_source *source;
	pthread_t threads[3];
	void *what;
	int fd = random_memory(&rng, shared_copy, PAGES);

	(void)state;
	assert_ok(gm_source_file(fd, 0, 0, &source, &err));
	assert_ok(gm_snapshot_write(source, &all, 1, in_dir("a"), NULL, NULL, &err));
	gm_source_destroy(source);
	snapshot = open_it("a");
	assert_ok(gm_snapshot_source(&snapshot, 1, 0, &shared, &err));
	gm_snapshot_close(snapshot);
	for (uintptr_t i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_all, (void *)i), 0);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(pthread_join(threads[i], &what), 0);
		assert_null(what);
	}
	gm_source_destroy(shared);
	close(fd);
}

/* ---- refusals ---- */

static int cancel(void *ctx, uint64_t done, uint64_t total)
{
	(void)ctx;
	assert_true(done <= total);
	return 1;
}

static void what_cannot_be_saved_is_refused(void **state)
{
	struct gm_snapshot_region all = {.len = 4 * PAGE, .page_size = 4096};
	struct gm_snapshot_region two[2] = {all, all};
	struct gm_snapshot_label label = {"", "", 0};
	uint64_t dirty = 1;
	struct gm_source *source;
	int fd = open(in_dir("a"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char page[PAGE];

	(void)state;
	memset(page, 1, sizeof(page));
	assert_int_equal(pwrite(fd, page, PAGE, 0), PAGE);
	assert_int_equal(ftruncate(fd, 4 * PAGE), 0);
	assert_int_equal(link(in_dir("a"), in_dir("b")), 0);
	assert_ok(gm_source_file(fd, 0, 0, &source, &err));
#define WRITE(regions, nr, name, opts)                                                             \
	gm_snapshot_write(source, regions, nr, in_dir(name), opts, NULL, &err)
	assert_fails(WRITE(&all, 1, "a", NULL), EINVAL, "the file that the memory lies in");
	assert_fails(WRITE(&all, 1, "b", NULL), EINVAL, "the file that the memory lies in");
	assert_fails(WRITE(&all, 0, "c", NULL), EINVAL, "none");
	assert_fails(WRITE(two, 2, "c", NULL), EINVAL, "overlap");
	all.off = PAGE;
	assert_fails(WRITE(&all, 1, "c", NULL), ERANGE, "do not lie in the source");
	all.off = 0;
	all.page_size = 4095;
	assert_fails(WRITE(&all, 1, "c", NULL), EINVAL, "no size of pages");
	all.page_size = 4096;
	assert_fails(WRITE(&all, 1, "c", OPTS(.flags = 2)), EINVAL, "flags");
	assert_fails(WRITE(&all, 1, "c", OPTS(.chunk = 4097)), EINVAL, "chunk");
	assert_fails(WRITE(&all, 1, "c", OPTS(.chunk = 8u << 20)), EINVAL, "chunk");
	assert_fails(WRITE(&all, 1, "c", OPTS(.codec = 9)), EINVAL, "codec");
	assert_fails(
		WRITE(&all, 1, "c", OPTS(.labels = &label, .nr_labels = 1)), EINVAL, "label 0");
	assert_fails(WRITE(&all, 1, "c", OPTS(.dirty = &dirty)), EINVAL, "base");
	assert_fails(WRITE(&all, 1, "c", OPTS(.progress = cancel)), ECANCELED, "canceled");
	assert_fails(WRITE(&all, 1, "no/c", NULL), ENOENT, "its directory");
	assert_fails(WRITE(&all, 1, "", NULL), EISDIR, "no name of a file");
	assert_false(is_there("c") || is_there(".c.part"));
	assert_int_equal(mkdir(in_dir("c"), 0700), 0);
	assert_fails(WRITE(&all, 1, "c", NULL), EISDIR, "no name of a file");
	assert_int_equal(rmdir(in_dir("c")), 0);
	gm_source_destroy(source);
	close(fd);
}

static void assert_kept(const char *path, mode_t type, const char *text)
{
	struct gm_snapshot_region all = {0, PAGE, 0, PAGE, GM_REGION_RAM, "all"};
	static const uint8_t page[PAGE] = {1};
	struct gm_source *source;
	struct stat before;
	struct stat after;

	assert_ok(gm_source_memory(page, PAGE, &source, &err));
	assert_int_equal(lstat(path, &before), 0);
	assert_int_equal(before.st_mode & S_IFMT, type);
	assert_fails(gm_snapshot_write(source, &all, 1, path, NULL, NULL, &err), EEXIST, text);
	assert_int_equal(lstat(path, &after), 0);
	assert_int_equal(after.st_mode, before.st_mode);
	assert_int_equal(after.st_ino, before.st_ino);
	gm_source_destroy(source);
}

/* Root could rename a file over /dev/null. */
static void what_is_no_file_is_not_replaced(void **state)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	assert_int_equal(mkfifo(in_dir("c"), 0600), 0);
	assert_kept(in_dir("c"), S_IFIFO, "it is a pipe");
	unlink(in_dir("c"));
	snprintf(name.sun_path, sizeof(name.sun_path), "%s", in_dir("c"));
	assert_int_equal(bind(sock, (struct sockaddr *)&name, sizeof(name)), 0);
	close(sock);
	assert_kept(in_dir("c"), S_IFSOCK, "it is a socket");
	unlink(in_dir("c"));
	if (mknod(in_dir("c"), S_IFCHR | 0600, makedev(1, 3)) == 0)
		assert_kept(in_dir("c"), S_IFCHR, "it is a device");
	unlink(in_dir("c"));
	assert_false(is_there(".c.part"));
}

/* ---- calls that fail ---- */

static struct gm_log *swept_log;

/* Saves a difference; if that fails the log is as before. */
static int save_scenario(void *ctx)
{
	struct gm_snapshot_opts opts = {.size = sizeof(opts), .base = {1}};
	uint64_t marked;
	int rc;

	(void)ctx;
	gm_log_mark(swept_log, 5 * PAGE, 1);
	marked = gm_log_count(swept_log, 0, 0);
	err = (struct gm_error){.code = 0};
	rc = gm_snapshot_save(space, swept_log, in_dir("a"), &opts, NULL, &err);
	fault_disarm();
	assert_true(err.code == rc && (rc == 0 || err.text[0]));
	assert_int_equal(gm_log_count(swept_log, 0, 0), rc ? marked : 0);
	assert_false(is_there(".a.part"));
	assert_true(rc || is_there("a"));
	unlink(in_dir("a"));
	return rc;
}

static void each_call_of_saving_a_space_may_fail(void **state)
{
	static const int errnos[] = {ENOMEM, EINVAL};
	const struct fault_sweep_opts opts = {.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = 2};
	unsigned long nr;

	(void)state;
	make_space();
	put(5 * PAGE, "five", 4);
	put(MIB(1), "shared", 6);
	assert_ok(gm_log_create(space, GM_OPTS(gm_log_opts, .len = MIB(1)), &swept_log, &err));
	nr = fault_sweep_opts(save_scenario, NULL, &opts);
	print_message("%lu injections into saving a space\n", nr);
	assert_true(nr >= 2 * 2 * 25);
	assert_ok(gm_log_destroy(swept_log, &err));
	end_space();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_saved_is_read_back),
		TEST(raw_chunks_may_be_mapped_by_who_trusts_the_file),
		TEST(a_space_is_saved_with_its_regions),
		TEST(what_was_never_touched_stays_so),
		TEST(differences_are_laid_on_their_base),
		TEST(memory_that_a_pager_brings_has_to_be_there),
		TEST(memory_that_the_host_lost_is_recorded),
		TEST(any_number_of_threads_reads),
		TEST(what_cannot_be_saved_is_refused),
		TEST(what_is_no_file_is_not_replaced),
		TEST(each_call_of_saving_a_space_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
