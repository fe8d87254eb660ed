/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_bytes.c - copies of 512 bytes, against vm-memory and libc.
 *
 * usage: bench_bytes [--json FILE] [--peer LIBRARY]
 *
 * The rows against vm-memory have the names of its own measurements. Where it has two functions, one
 * that tells how much was copied and one that insists on all, there is one here that does both.
 */
#include <stdlib.h>
#include <string.h>

#include "bench_places.h"

/* In its page where no place is in its own: addresses that are alike in the low bits cost time. */
static uint8_t buffer_page[4096] __attribute__((aligned(4096)));
static uint8_t *const buffer = buffer_page + 2048;

/* All of it, or an error. */
static BENCH_INLINE void read_all(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = places_view;
	const struct place *place = ctx;

	BENCH_ROUNDS(iters, if (gm_read(mine, place->gpa, buffer, place->len, NULL)) abort();
		     __asm__ volatile("" ::
					      : "memory");)
}

static BENCH_INLINE void write_all(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = places_view;
	const struct place *place = ctx;

	BENCH_ROUNDS(iters, if (gm_write(mine, place->gpa, buffer, place->len, NULL)) abort();
		     __asm__ volatile("" ::
					      : "memory");)
}

/* As much as there is. */
static BENCH_INLINE void read_some(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = places_view;
	const struct place *place = ctx;

	BENCH_ROUNDS(iters, size_t done;

		     (void)gm_read(mine, place->gpa, buffer, place->len, &done);
		     if (done != place->len) abort(); __asm__ volatile("" ::
									       : "memory");)
}

static BENCH_INLINE void write_some(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = places_view;
	const struct place *place = ctx;

	BENCH_ROUNDS(iters, size_t done;

		     (void)gm_write(mine, place->gpa, buffer, place->len, &done);
		     if (done != place->len) abort(); __asm__ volatile("" ::
									       : "memory");)
}

/* Not inlined. */
static void write_many(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = places_view;
	const struct place *place = ctx;

	BENCH_ROUNDS(iters, if (gm_write(mine, place->gpa, buffer, place->len, NULL)) abort();
		     __asm__ volatile("" ::
					      : "memory");)
}

static void libc_read(void *ctx, uint64_t iters)
{
	const struct place *place = ctx;
	void *(*volatile call)(void *, const void *, size_t) = memcpy;

	BENCH_ROUNDS(iters, call(buffer, place->raw, place->len);)
}

static void libc_write(void *ctx, uint64_t iters)
{
	const struct place *place = ctx;
	void *(*volatile call)(void *, const void *, size_t) = memcpy;

	BENCH_ROUNDS(iters, call(place->raw, buffer, place->len);)
}

/* clang-format off */
static const struct bench_row rows[] = {
	AGAINST_PEER("read_entire_slice_from_", 512, read_all, "peer_read_slice", 1.0, 72, 105, 101, 86),
	AGAINST_PEER("read_slice_from_", 512, read_some, "peer_read", 1.0, 72, 109, 97, 72),
	AGAINST_PEER("write_entire_slice_to_", 512, write_all, "peer_write_slice", 1.0, 72, 105, 100, 74),
	AGAINST_PEER("write_slice_to_", 512, write_some, "peer_write", 1.0, 74, 99, 100, 97),
	AGAINST_PEER("write_slice_to, in many places: ", 512, write_many, "peer_write", 1.0, 0, 0, 0, 0),
	AGAINST_BARE("512 bytes, read at ", 512, read_all, "libc memcpy", libc_read, 1.3),
	AGAINST_BARE("512 bytes, write at ", 512, write_all, "libc memcpy", libc_write, 1.3),
};
/* clang-format on */

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	places_make();
	bench_rows(rows, sizeof(rows) / sizeof(*rows));
	return bench_end();
}
