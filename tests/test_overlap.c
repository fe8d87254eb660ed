/* SPDX-License-Identifier: BSD-3-Clause */
/* test_overlap.c - blocks that have bytes in common, by whatever fd, and those that have not. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "fault.h"
#include "one_block.h"

#define PAGE UINT64_C(4096)

/* Either way around. */
static void assert_overlap(const struct gm_block *a, const struct gm_block *b, int want)
{
	assert_int_equal(gm_block_overlaps(a, b), want);
	assert_int_equal(gm_block_overlaps(b, a), want);
}

static struct gm_block *of_file(int fd, uint64_t off, uint64_t len, uint32_t flags)
{
	return make(GM_OPTS(gm_block_opts, .len = len, .offset = off, .backing = GM_BACKING_FD,
		.fd = fd, .flags = flags));
}

/* All ranges in eight pages of one file. */
static void ranges_of_a_file_meet_or_do_not(void **state)
{
	int fd = make_file(8 * PAGE);

	(void)state;
	for (uint64_t from = 0; from < 8; from++) {
		for (uint64_t to = from + 1; to <= 8; to++) {
			struct gm_block *a = of_file(fd, from * PAGE, (to - from) * PAGE, 0);
			struct gm_block *b = of_file(fd, 3 * PAGE, 2 * PAGE, 0);

			assert_overlap(a, b, from < 5 && to > 3);
			gm_block_put(a);
			gm_block_put(b);
		}
	}
	close(fd);
	unlink(path);
}

static void a_file_is_known_by_any_fd_and_name(void **state)
{
	int fd = make_file(4 * PAGE);
	int other = open(path, O_RDONLY | O_CLOEXEC);
	struct gm_block *blocks[5];

	(void)state;
	assert_true(other >= 0);
	blocks[0] = of_file(fd, 0, 2 * PAGE, 0);
	blocks[1] = of_file(other, PAGE, PAGE, GM_BLOCK_READONLY);
	blocks[2] = of_file(fd, PAGE, PAGE, GM_BLOCK_PRIVATE);
	blocks[3] = of_file(fd, 0, 4 * PAGE, GM_BLOCK_UNMAPPED);
	blocks[4] = make(
		GM_OPTS(gm_block_opts, .len = 2 * PAGE, .backing = GM_BACKING_FILE, .path = path));
	for (int i = 0; i < 5; i++) {
		for (int j = 0; j < 5; j++)
			assert_int_equal(gm_block_overlaps(blocks[i], blocks[j]), 1);
	}
	for (int i = 0; i < 5; i++)
		gm_block_put(blocks[i]);
	close(other);
	close(fd);
	unlink(path);
}

static int never(
	void *ctx, uint64_t off, uint64_t len, uint32_t perms, struct gm_backend_piece *ret)
{
	(void)ctx;
	(void)off;
	(void)len;
	(void)perms;
	(void)ret;
	return -EIO;
}

static void other_memory_is_its_own(void **state)
{
	uint8_t *own =
		mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = make_file(2 * PAGE);
	struct gm_block *blocks[8];
	struct gm_block *part;

	(void)state;
	assert_true(own != MAP_FAILED);
	blocks[0] = make(GM_OPTS(gm_block_opts, .len = 2 * PAGE));
	blocks[1] =
		make(GM_OPTS(gm_block_opts, .len = 2 * PAGE, .backing = GM_BACKING_ANON_SHARED));
	blocks[2] = make(GM_OPTS(gm_block_opts, .len = 2 * PAGE, .flags = GM_BLOCK_SHARE));
	blocks[3] = make(GM_OPTS(gm_block_opts, .len = 2 * PAGE, .backing = GM_BACKING_MEMFD));
	blocks[4] = of_file(fd, 0, 2 * PAGE, 0);
	blocks[5] = make(GM_OPTS(gm_block_opts, .len = 2 * PAGE, .backing = GM_BACKING_OPS,
		.ops = GM_OPTS(gm_backend_ops, .translate = never)));
	blocks[6] = make(GM_OPTS(
		gm_block_opts, .len = 2 * PAGE, .backing = GM_BACKING_POINTER, .addr = own));
	blocks[7] = make(GM_OPTS(gm_block_opts, .len = 2 * PAGE, .backing = GM_BACKING_POINTER,
		.addr = own + 2 * PAGE));
	for (int i = 0; i < 8; i++) {
		for (int j = 0; j < 8; j++)
			assert_int_equal(gm_block_overlaps(blocks[i], blocks[j]), i == j);
	}
	part = make(GM_OPTS(
		gm_block_opts, .len = 2 * PAGE, .backing = GM_BACKING_POINTER, .addr = own + PAGE));
	assert_overlap(part, blocks[6], 1);
	assert_overlap(part, blocks[7], 1);
	assert_overlap(part, blocks[0], 0);
	gm_block_put(part);
	for (int i = 0; i < 8; i++)
		gm_block_put(blocks[i]);
	close(fd);
	unlink(path);
	munmap(own, 4 * PAGE);
}

static void what_the_kernel_answers_is_told(void **state)
{
	int fd = make_file(2 * PAGE);
	struct gm_block *a = of_file(fd, 0, 2 * PAGE, 0);
	struct gm_block *b = of_file(fd, 0, 2 * PAGE, 0);

	(void)state;
	for (unsigned long nth = 1; nth <= 2; nth++) {
		fault_set(&(struct fault_plan){
			.fn = FAULT_gm_sys_fstat, .nth = nth, .error = EOVERFLOW});
		assert_int_equal(gm_block_overlaps(a, b), -EOVERFLOW);
		assert_int_equal(fault_hits(), 1);
	}
	fault_set(NULL);
	assert_overlap(a, b, 1);
	gm_block_put(a);
	gm_block_put(b);
	close(fd);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_of_a_file_meet_or_do_not),
		cmocka_unit_test(a_file_is_known_by_any_fd_and_name),
		cmocka_unit_test(other_memory_is_its_own),
		cmocka_unit_test(what_the_kernel_answers_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
