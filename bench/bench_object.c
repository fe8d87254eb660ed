/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_object.c - structures of 8 and of 96 bytes, against vm-memory and a raw pointer.
 *
 * usage: bench_object [--json FILE] [--peer LIBRARY]
 *
 * The rows against vm-memory have the names of its own measurements.
 */
#include <stdlib.h>
#include <string.h>

#include "bench_places.h"

struct small {
	uint32_t words[2];
};

struct big {
	uint64_t words[12];
};

/* On the stack, as a device's copy is. */
#define DEFINE_OBJECT(name)                                                                        \
	static BENCH_INLINE void read_##name(void *ctx, uint64_t iters)                            \
	{                                                                                          \
		const struct gm_view *mine = places_view;                                          \
		uint64_t gpa = ((const struct place *)ctx)->gpa;                                   \
		struct name object;                                                                \
		struct name *seen = &object;                                                       \
                                                                                                   \
		BENCH_ROUNDS(iters, BENCH_TOUCH(gpa);                                              \
			     if (gm_read_object(mine, gpa, seen)) abort(); BENCH_TOUCH(seen);)     \
	}                                                                                          \
                                                                                                   \
	static BENCH_INLINE void write_##name(void *ctx, uint64_t iters)                           \
	{                                                                                          \
		const struct gm_view *mine = places_view;                                          \
		uint64_t gpa = ((const struct place *)ctx)->gpa;                                   \
		struct name object = {{1, 2}};                                                     \
		struct name *given = &object;                                                      \
                                                                                                   \
		BENCH_ROUNDS(iters, BENCH_TOUCH(gpa);                                              \
			     if (gm_write_object(mine, gpa, given)) abort(); BENCH_TOUCH(given);)  \
	}                                                                                          \
                                                                                                   \
	static void raw_read_##name(void *ctx, uint64_t iters)                                     \
	{                                                                                          \
		const uint8_t *at = ((const struct place *)ctx)->raw;                              \
		struct name object;                                                                \
		struct name *seen = &object;                                                       \
                                                                                                   \
		BENCH_ROUNDS(iters, BENCH_TOUCH(at); memcpy(seen, at, sizeof(*seen));              \
			     BENCH_TOUCH(seen);)                                                   \
	}                                                                                          \
                                                                                                   \
	static void raw_write_##name(void *ctx, uint64_t iters)                                    \
	{                                                                                          \
		uint8_t *at = ((const struct place *)ctx)->raw;                                    \
		struct name object = {{1, 2}};                                                     \
		struct name *given = &object;                                                      \
                                                                                                   \
		BENCH_ROUNDS(iters, BENCH_TOUCH(at); memcpy(at, given, sizeof(*given));            \
			     BENCH_TOUCH(given);)                                                  \
	}

DEFINE_OBJECT(small)
DEFINE_OBJECT(big)

/* Not inlined. */
static void write_small_many(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = places_view;
	uint64_t gpa = ((const struct place *)ctx)->gpa;
	struct small object = {{1, 2}};
	struct small *given = &object;

	BENCH_ROUNDS(iters, BENCH_TOUCH(gpa); if (gm_write_object(mine, gpa, given)) abort();
		     BENCH_TOUCH(given);)
}

/* clang-format off */
static const struct bench_row rows[] = {
	AGAINST_PEER("read_small_obj_from_", 8, read_small, "peer_read_small_obj", 0.25, 61, 100, 95, 86),
	AGAINST_PEER("read_big_obj_from_", 96, read_big, "peer_read_big_obj", 0.25, 69, 104, 117, 71),
	AGAINST_PEER("write_small_obj_to_", 8, write_small, "peer_write_small_obj", 0.25, 72, 95, 93, 70),
	AGAINST_PEER("write_big_obj_to_", 96, write_big, "peer_write_big_obj", 0.25, 67, 116, 103, 68),
	AGAINST_PEER("write_small_obj_to, in many places: ", 8, write_small_many, "peer_write_small_obj", 0.25, 0, 0, 0, 0),
	AGAINST_BARE("object of 8 bytes, read at ", 8, read_small, "raw pointer", raw_read_small, 0),
	AGAINST_BARE("object of 96 bytes, read at ", 96, read_big, "raw pointer", raw_read_big, 0),
	AGAINST_BARE("object of 8 bytes, write at ", 8, write_small, "raw pointer", raw_write_small, 0),
	AGAINST_BARE("object of 96 bytes, write at ", 96, write_big, "raw pointer", raw_write_big, 0),
};
/* clang-format on */

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	places_make();
	bench_rows(rows, sizeof(rows) / sizeof(*rows));
	return bench_end();
}
