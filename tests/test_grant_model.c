/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_grant_model.c - random changes of a space and of rights: after each, every page of the grant, and of
 * a grant of that, is what the space shows there cut down to the rights, and the MMU knows it.
 */
#include "one_grant.h"

#include <guestmem/access.h>
#include <guestmem/slice.h>
#include <stdio.h>

#include "random.h"

#define PAGES 96u
#define MOST 24u

static struct rng rng;
static uint64_t seed;
static struct gm_block *blocks[3];
static struct gm_reader *source_reader;
static struct gm_grant *inner;
static struct gm_reader *inner_reader;
static uint8_t rights[2][PAGES];
static uint64_t ids[MOST];
static size_t nr_ids;
static unsigned long refused;
static unsigned long done_ops;

static uint64_t below(uint64_t n)
{
	return rng_below(&rng, n);
}

/* ---- what is, and what must be ---- */

struct seen {
	uint8_t perms; /* 0: nothing is there */
	const uint8_t *host;
	uint8_t byte;
};

static void look(struct gm_reader *by, struct seen *ret)
{
	const struct gm_view *view = gm_reader_enter(by);

	for (unsigned int i = 0; i < PAGES; i++) {
		struct gm_pin pin = {0};
		struct iovec slice;

		ret[i] = (struct seen){0};
		if (gm_pin_slice(view, i * PAGE, PAGE, 0, &slice, &pin))
			continue;
		for (unsigned int bit = 1; bit < 8; bit *= 2) {
			if (gm_view_check(view, i * PAGE, PAGE, bit) == 0)
				ret[i].perms |= (uint8_t)bit;
		}
		/* A slice may end with its region, never within a page. */
		assert_int_equal(slice.iov_len, PAGE);
		/* An alias may leave a region no permission at all. */
		if (ret[i].perms) {
			ret[i].host = slice.iov_base;
			ret[i].byte = *(const volatile uint8_t *)slice.iov_base;
		}
		gm_pin_put(&pin);
	}
	gm_reader_leave(by);
}

static void compare(
	const struct seen *above, const uint8_t *allowed, const struct seen *seen, const char *who)
{
	for (unsigned int i = 0; i < PAGES; i++) {
		uint8_t want = above[i].perms & allowed[i];

		if (seen[i].perms != want)
			fail_msg("seed %llu: %s: page %u has permissions %u, not %u",
				(unsigned long long)seed, who, i, seen[i].perms, want);
		if (want && seen[i].byte != above[i].byte)
			fail_msg("seed %llu: %s: page %u shows byte %u, not %u",
				(unsigned long long)seed, who, i, seen[i].byte, above[i].byte);
	}
}

/* The protection of each page of what a space shows, by /proc/self/maps. */
static void check_mmu(const struct seen *seen)
{
	FILE *file = fopen("/proc/self/maps", "re");
	char line[512];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		unsigned long first;
		unsigned long end;
		char prot[8];

		if (sscanf(line, "%lx-%lx %7s", &first, &end, prot) != 3)
			continue;
		for (unsigned int i = 0; i < PAGES; i++) {
			uintptr_t host = (uintptr_t)seen[i].host;

			if (!host || host < first || host >= end)
				continue;
			if (prot[0] != 'r' || (prot[1] == 'w') != !!(seen[i].perms & GM_PERM_W))
				fail_msg("seed %llu: page %u of permissions %u is mapped %s",
					(unsigned long long)seed, i, seen[i].perms, prot);
		}
	}
	fclose(file);
}

static void check_all(bool mmu)
{
	static struct seen of_source[PAGES];
	static struct seen of_grant[PAGES];
	static struct seen of_inner[PAGES];

	look(source_reader, of_source);
	look(reader, of_grant);
	look(inner_reader, of_inner);
	compare(of_source, rights[0], of_grant, "grant");
	compare(of_grant, rights[1], of_inner, "inner grant");
	if (!mmu)
		return;
	assert_int_equal(grant_info().pending, 0);
	check_mmu(of_grant);
	check_mmu(of_inner);
}

/* ---- changes ---- */

static int add_region(struct gm_txn *txn)
{
	uint64_t len = 1 + below(24);
	struct gm_region_desc desc = {
		.size = sizeof(desc),
		.gpa = below(PAGES - len + 1) * PAGE,
		.len = len * PAGE,
		.kind = below(4) ? GM_REGION_RAM : GM_REGION_ROM,
		.priority = (int32_t)below(6),
		.perms = below(2) ? 0 : GM_PERM_R,
		.flags = below(5) ? 0 : GM_REGION_DISABLED,
	};
	const struct gm_block_opts private = {.size = sizeof(private), .len = len * PAGE};
	uint64_t id = 0;
	int rc;

	if (nr_ids > 0 && below(3) == 0) {
		struct gm_region_info info = {.size = sizeof(info)};
		uint64_t target = ids[below(nr_ids)];

		if (gm_space_region(source, target, &info))
			return -ENOENT;
		desc.kind = GM_REGION_ALIAS;
		desc.target = target;
		desc.len = desc.len < info.len ? desc.len : info.len;
		desc.block_off = below((info.len - desc.len) / PAGE + 1) * PAGE;
	} else if (below(12) == 0) {
		desc.backing = &private;
	} else {
		desc.block = blocks[below(3)];
		desc.block_off = below(PAGES - len + 1) * PAGE;
	}
	rc = gm_txn_add(txn, &desc, &id, &err);
	if (!rc)
		ids[nr_ids++] = id;
	return rc;
}

static int change_region(struct gm_txn *txn)
{
	struct gm_region_info info = {.size = sizeof(info)};
	uint64_t id = ids[below(nr_ids)];

	if (gm_space_region(source, id, &info))
		return -ENOENT;
	switch (below(6)) {
	case 0:
		return gm_txn_remove(txn, id, &err);
	case 1:
		return gm_txn_move(txn, id, below(PAGES) * PAGE, &err);
	case 2:
		return gm_txn_resize(txn, id, (1 + below(24)) * PAGE, &err);
	case 3:
		return gm_txn_protect(txn, id, 1 + (uint32_t)below(7), &err);
	case 4:
		return gm_txn_enable(txn, id, below(2), &err);
	default:
		return gm_txn_prioritize(txn, id, (int32_t)below(6), &err);
	}
}

static void forget_removed(void)
{
	struct gm_region_info info = {.size = sizeof(info)};
	size_t kept = 0;

	for (size_t i = 0; i < nr_ids; i++) {
		if (gm_space_region(source, ids[i], &info) == 0)
			ids[kept++] = ids[i];
	}
	nr_ids = kept;
}

static void change_source(void)
{
	struct gm_txn *txn;
	int rc;

	assert_ok(gm_txn_begin(source, &txn, &err));
	for (uint64_t i = below(3) + 1; i > 0; i--) {
		rc = nr_ids == 0 || (nr_ids < MOST - 3 && below(2)) ? add_region(txn)
								    : change_region(txn);
		done_ops += !rc;
	}
	rc = gm_txn_commit(txn, &err);
	if (rc) {
		if (rc != -ENOTSUP || !strstr(err.text, "GM_BLOCK_SHARE"))
			fail_msg("seed %llu: %d: %s", (unsigned long long)seed, rc, err.text);
		refused++;
		gm_txn_abort(txn);
	}
	forget_removed();
}

static void change_rights(void)
{
	int which = (int)below(2);
	uint64_t first = below(PAGES);
	uint64_t nr = 1 + below(below(3) ? 4 : PAGES - first);
	uint32_t perms = below(3) ? (uint32_t)below(8) : 0;
	int rc;

	if (first + nr > PAGES)
		nr = PAGES - first;
	rc = gm_grant_set(which ? inner : grant, first * PAGE, nr * PAGE, perms,
		below(4) ? 0 : GM_GRANT_NOWAIT, &err);
	if (rc == -ENOTSUP) {
		refused++;
		return;
	}
	if (rc)
		fail_msg("seed %llu: %d: %s", (unsigned long long)seed, rc, err.text);
	memset(&rights[which][first], (int)perms, nr);
}

static void make_blocks(void)
{
	for (size_t i = 0; i < 3; i++) {
		struct gm_block_info info = {.size = sizeof(info)};

		assert_ok(gm_block_create(
			BLOCK(.len = PAGES * PAGE, .flags = GM_BLOCK_SHARE), &blocks[i], &err));
		gm_block_info(blocks[i], &info);
		for (size_t page = 0; page < PAGES; page++)
			memset((uint8_t *)info.hva + page * PAGE, (int)(i * PAGES + page) % 251 + 1,
				PAGE);
	}
}

static void run(uint64_t number)
{
	const struct gm_grant_part parts[] = {
		{0, 40 * PAGE, GM_PERM_RW, 0}, {48 * PAGE, 40 * PAGE, GM_PERM_R, 0}};
	const struct gm_grant_part all = {0, PAGES * PAGE, GM_PERM_RWX, 0};

	seed = number;
	rng = (struct rng){test_seed(seed)};
	nr_ids = 0;
	memset(rights, 0, sizeof(rights));
	memset(rights[0], GM_PERM_RW, 40);
	memset(rights[0] + 48, GM_PERM_R, 40);
	memset(rights[1], GM_PERM_RWX, PAGES);
	make_blocks();
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .gpa_limit = number % 4 ? LIMIT : GM_SPACE_NO_WINDOW),
		&source, &err));
	assert_ok(gm_reader_create(source, "source", &source_reader, &err));
	make_grant(parts, 2, 0);
	assert_ok(gm_grant_create(gm_grant_space(grant),
		GM_OPTS(gm_grant_opts, .parts = &all, .nr_parts = 1), &inner, &err));
	assert_ok(gm_reader_create(gm_grant_space(inner), "inner", &inner_reader, &err));
	for (unsigned int i = 0; i < 60; i++) {
		if (below(2))
			change_source();
		else
			change_rights();
		if (i % 8 == 7) {
			assert_ok(gm_grant_wait(grant, 0, &err));
			assert_ok(gm_grant_wait(inner, 0, &err));
		}
		check_all(i % 8 == 7);
	}
	gm_reader_destroy(inner_reader);
	assert_ok(gm_grant_destroy(inner, &err));
	drop_grant();
	gm_reader_destroy(source_reader);
	gm_space_destroy(source);
	for (size_t i = 0; i < 3; i++)
		gm_block_put(blocks[i]);
}

static void a_grant_is_the_space_cut_down_to_the_rights(void **state)
{
	unsigned long runs = support_scale(40);

	(void)state;
	for (unsigned long i = 0; i < runs; i++)
		run(i);
	print_message("%lu operations, %lu refused\n", done_ops, refused);
	assert_true(done_ops > runs * 15 && refused > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_grant_is_the_space_cut_down_to_the_rights),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
