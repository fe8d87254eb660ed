/* SPDX-License-Identifier: BSD-3-Clause */
/* test_slice_list.c - cutting lists of slices, against a list of single bytes. */
#include <errno.h>
#include <guestmem/slice.h>
#include <string.h>

#include "random.h"
#include "support.h"

#define NR 6
#define BYTES 24

static char memory[BYTES];

/* A random list over the memory, in falling order so that slices do not join; its bytes in order. */
static size_t make_list(struct rng *rng, struct iovec *slices, const char **bytes, size_t *ret_len)
{
	size_t nr = (size_t)rng_below(rng, NR + 1);
	size_t len = 0;

	for (size_t i = 0; i < nr; i++) {
		size_t n = (size_t)rng_below(rng, BYTES / NR + 1);
		char *base = memory + (NR - 1 - i) * (BYTES / NR);

		slices[i] = (struct iovec){n ? base : NULL, n};
		for (size_t j = 0; j < n; j++)
			bytes[len++] = base + j;
	}
	*ret_len = len;
	return nr;
}

/* The list is exactly these bytes. */
static void assert_bytes(
	const struct iovec *slices, size_t nr, const char *const *bytes, size_t len)
{
	size_t at = 0;

	for (size_t i = 0; i < nr; i++) {
		for (size_t j = 0; j < slices[i].iov_len; j++, at++) {
			assert_true(at < len);
			assert_ptr_equal((char *)slices[i].iov_base + j, bytes[at]);
		}
	}
	assert_int_equal(at, len);
}

static void lists_are_cut_as_bytes_are(void **state)
{
	struct rng rng = {test_seed(14)};
	const char *bytes[BYTES];

	(void)state;
	for (unsigned long n = 0; n < support_scale(20000); n++) {
		struct iovec slices[NR + 1];
		struct iovec copy[NR + 1];
		struct iovec part[NR];
		struct iovec *list = copy;
		size_t len;
		size_t nr = make_list(&rng, slices, bytes, &len);
		size_t left = nr;
		size_t off = (size_t)rng_below(&rng, BYTES + 2);
		size_t want = (size_t)rng_below(&rng, BYTES + 2);
		size_t room = (size_t)rng_below(&rng, NR + 1);
		size_t needed = 77;
		uint64_t all;
		int rc;

		assert_int_equal(gm_slices_len(slices, nr, &all), 0);
		assert_int_equal(all, len);

		memcpy(copy, slices, nr * sizeof(*slices));
		rc = gm_slices_advance(&list, &left, off);
		assert_int_equal(rc, off > len ? -ERANGE : 0);
		assert_bytes(list, left, bytes + (rc ? 0 : off), len - (rc ? 0 : off));
		if (rc)
			assert_ptr_equal(list, copy);
		else if (left)
			assert_true(list->iov_len > 0);

		rc = gm_slices_sub(slices, nr, off, want, part, room, &needed);
		if (off > len || want > len - off) {
			assert_int_equal(rc, -ERANGE);
			assert_int_equal(needed, 77);
		} else {
			assert_int_equal(rc, needed > room ? -ENOBUFS : 0);
			assert_true(needed <= nr);
			if (!rc)
				assert_bytes(part, needed, bytes + off, want);
			for (size_t i = 0; !rc && i < needed; i++)
				assert_true(part[i].iov_len > 0);
		}

		memcpy(copy, slices, nr * sizeof(*slices));
		left = nr;
		needed = 77;
		rc = gm_slices_split(copy, &left, nr + (room & 1), off, &needed);
		if (off > len) {
			assert_int_equal(rc, -ERANGE);
		} else if (!rc) {
			assert_true(left - nr <= 1);
			assert_bytes(copy, needed, bytes, off);
			assert_bytes(copy + needed, left - needed, bytes + off, len - off);
		} else {
			assert_int_equal(rc, -ENOBUFS);
			assert_int_equal(room & 1, 0);
		}
		if (rc) {
			assert_int_equal(left, nr);
			assert_int_equal(needed, 77);
			assert_bytes(copy, nr, bytes, len);
		}
	}
}

static void a_sum_that_wraps_is_refused(void **state)
{
	struct iovec slices[3] = {{memory, SIZE_MAX}, {NULL, 0}, {memory, 1}};
	struct iovec *list = slices;
	struct iovec part[3];
	size_t nr = 3;
	size_t at = 77;
	uint64_t len = 77;

	(void)state;
	assert_int_equal(gm_slices_len(slices, 3, &len), -ERANGE);
	assert_int_equal(gm_slices_advance(&list, &nr, 0), -ERANGE);
	assert_int_equal(gm_slices_sub(slices, 3, 0, 1, part, 3, &at), -ERANGE);
	assert_int_equal(gm_slices_split(slices, &nr, 3, 0, &at), -ERANGE);
	assert_int_equal(nr, 3);
	assert_int_equal(at, 77);
	assert_int_equal(len, 77);
	assert_int_equal(gm_slices_len(slices, 2, &len), 0);
	assert_int_equal(len, UINT64_MAX);
	assert_int_equal(gm_slices_sub(slices, 2, UINT64_MAX, 1, part, 3, &at), -ERANGE);
	assert_int_equal(gm_slices_sub(slices, 2, 1, UINT64_MAX, part, 3, &at), -ERANGE);
	assert_int_equal(gm_slices_sub(slices, 2, 0, UINT64_MAX, NULL, 0, &at), -ENOBUFS);
	assert_int_equal(at, 1);
	assert_int_equal(gm_slices_sub(NULL, 0, 0, 0, NULL, 0, &at), 0);
	assert_int_equal(at, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_are_cut_as_bytes_are),
		cmocka_unit_test(a_sum_that_wraps_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
