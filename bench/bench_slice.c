/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_slice.c - arrays, copies in the guest, large copies, and looking at an address, against
 * vm-memory and libc.
 *
 * usage: bench_slice [--json FILE] [--peer LIBRARY]
 *
 * vm-memory measures copies between arrays of the host and slices that it has been given (rows
 * copy_...); here the address is looked up each time. 256 regions of 1 MiB that touch.
 */
#include <guestmem/guestmem.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define KIB ((size_t)1024)
#define MIB (KIB * KIB)
#define REGIONS 256u
#define AT (3 * MIB + 8192) /* where a page is looked for */

static struct gm_space *space;
static const struct gm_view *view;
static uint8_t *raw; /* the same memory */

/* The peer gets it as well. */
struct large {
	size_t len;
	uint8_t *buffer;
};

/* Half a page off, so that the addresses differ from the guest's in the low bits. */
static uint8_t memory[16 * 1024 * 1024 + 4096] __attribute__((aligned(4096)));

static struct large array = {KIB, memory + 2048};
static struct large half = {512, memory + 2048};
static struct large sixty_four = {64 * KIB, memory + 2048};
static struct large one_mib = {MIB, memory + 2048};
static struct large sixteen_mib = {16 * MIB, memory + 2048};

/* ---- copies ---- */

static void copy_out(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;
	const struct large *large = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		if (gm_read(mine, 0, large->buffer, large->len, NULL))
			abort();
		__asm__ volatile("" ::: "memory");
	}
}

static void copy_in(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;
	const struct large *large = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		if (gm_write(mine, 0, large->buffer, large->len, NULL))
			abort();
		__asm__ volatile("" ::: "memory");
	}
}

static void elements_out(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;
	const struct large *large = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		if (gm_read_objects(
			    mine, 0, (uint16_t *)(void *)large->buffer, large->len / 2, NULL))
			abort();
	}
}

static void elements_in(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;
	const struct large *large = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		if (gm_write_objects(mine, 0, (const uint16_t *)(const void *)large->buffer,
			    large->len / 2, NULL))
			abort();
	}
}

static void libc_out(void *ctx, uint64_t iters)
{
	const struct large *large = ctx;
	void *(*volatile call)(void *, const void *, size_t) = memcpy;

	for (uint64_t i = 0; i < iters; i++)
		call(large->buffer, raw, large->len);
}

static void libc_in(void *ctx, uint64_t iters)
{
	const struct large *large = ctx;
	void *(*volatile call)(void *, const void *, size_t) = memcpy;

	for (uint64_t i = 0; i < iters; i++)
		call(raw, large->buffer, large->len);
}

#define INSIDE 10240

static void copy_inside(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;

	(void)ctx;
	for (uint64_t i = 0; i < iters; i++) {
		if (gm_copy(mine, 2 * MIB + 2048, 0, INSIDE, NULL))
			abort();
	}
}

static void libc_inside(void *ctx, uint64_t iters)
{
	void *(*volatile call)(void *, const void *, size_t) = memmove;

	(void)ctx;
	for (uint64_t i = 0; i < iters; i++)
		call(raw + 2 * MIB + 2048, raw, INSIDE);
}

/* ---- addresses ---- */

/* A round asks for the host address of the first byte of each region. */
static void find_regions(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;

	(void)ctx;
	for (uint64_t i = 0; i < iters; i++) {
		for (uint64_t gpa = 0; gpa < REGIONS * MIB; gpa += MIB) {
			uint64_t at = gpa;
			void *hva;

			BENCH_TOUCH(at);
			hva = gm_view_fast(mine, at, 1, GM_PERM_R);
			if (!hva)
				abort();
			BENCH_TOUCH(hva);
		}
	}
}

static void check_regions(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;

	(void)ctx;
	for (uint64_t i = 0; i < iters; i++) {
		for (uint64_t gpa = 0; gpa < REGIONS * MIB; gpa += MIB) {
			if (gm_view_check(mine, gpa, 1, GM_PERM_R))
				abort();
		}
	}
}

/* A round asks the space to describe each region, with its name, its block and its properties. */
static void describe_regions(void *ctx, uint64_t iters)
{
	(void)ctx;
	for (uint64_t i = 0; i < iters; i++) {
		for (uint64_t gpa = 0; gpa < REGIONS * MIB; gpa += MIB) {
			struct gm_region_info info = {.size = sizeof(info)};

			if (gm_space_next(space, gpa, &info))
				abort();
			bench_sink = info.gpa;
		}
	}
}

static void check_range(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;

	(void)ctx;
	BENCH_ROUNDS(iters, if (gm_view_check(mine, AT, 4096, GM_PERM_R)) abort();)
}

static BENCH_INLINE void host_address(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;
	uint64_t gpa = AT;

	(void)ctx;
	BENCH_ROUNDS(iters, void *hva; BENCH_TOUCH(gpa);
		     hva = gm_view_fast(mine, gpa, 1, GM_PERM_R); if (!hva) abort();
		     BENCH_TOUCH(hva);)
}

/* Back from the host's address. */
static void guest_address(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;
	uint64_t gpa = 0;

	(void)ctx;
	BENCH_ROUNDS(iters, if (gm_view_gpa(mine, raw + AT, &gpa)) abort();)
	bench_sink = gpa;
}

static void pin(void *ctx, uint64_t iters)
{
	struct gm_reader *reader = *(struct gm_reader **)ctx;

	for (uint64_t i = 0; i < iters; i++) {
		struct iovec slice;
		struct gm_pin held;
		int rc = gm_pin_slice(gm_reader_enter(reader), AT, 4096, GM_PERM_R, &slice, &held);

		gm_reader_leave(reader);
		if (rc || slice.iov_len != 4096)
			abort();
		gm_pin_put(&held);
	}
}

static struct gm_reader *pinner;

static void set_up(void)
{
	static struct gm_region_desc descs[REGIONS];
	struct gm_block_opts backing = {.size = sizeof(backing), .len = MIB};
	struct gm_region_info info = {.size = sizeof(info)};
	struct gm_reader *reader;
	struct gm_error err;

	for (uint64_t i = 0; i < REGIONS; i++)
		descs[i] = (struct gm_region_desc){
			.size = sizeof(*descs), .gpa = i * MIB, .backing = &backing};
	bench_need(gm_space_build(NULL, descs, REGIONS, &space, &err) == 0, "regions", err.text);
	bench_need(gm_reader_create(space, "bench", &reader, &err) == 0, "reader", err.text);
	bench_need(gm_reader_create(space, "pins", &pinner, &err) == 0, "reader", err.text);
	bench_need(gm_space_next(space, 0, &info) == 0 && info.placed, "region", NULL);
	bench_need(gm_guard_install() == 0, "guard", NULL);
	raw = info.hva;
	memset(raw, 1, REGIONS * MIB);
	memset(memory, 2, sizeof(memory));
	view = gm_reader_enter(reader);
}

#define PEER(text, fn, ctx, theirs, limit, v18)                                                    \
	{                                                                                          \
		.name = text, .ours = fn, .ours_ctx = ctx, .against = BENCH_VMM, .peer = theirs,   \
		.other_ctx = ctx, .goal = limit, .quoted = v18                                     \
	}
#define LIBC(text, fn, ctx, what, fn2, limit)                                                      \
	{                                                                                          \
		.name = text, .ours = fn, .ours_ctx = ctx, .against = what, .other = fn2,          \
		.other_ctx = ctx, .goal = limit                                                    \
	}

/* clang-format off */
static const struct bench_row rows[] = {
	PEER("copy_to_u8", copy_out, &array, "peer_copy_to_u8", 1.0, 25.7),
	PEER("copy_to_u16", elements_out, &half, "peer_copy_to_u16", 0.25, 313),
	PEER("copy_to_volatile_slice", copy_inside, NULL, "peer_copy_to_volatile_slice", 1.0, 224),
	PEER("copy_from_u8", copy_in, &array, "peer_copy_from_u8", 1.0, 28.4),
	PEER("copy_from_u16", elements_in, &half, "peer_copy_from_u16", 0.25, 291),
	LIBC("read 1 KiB", copy_out, &array, "libc memcpy", libc_out, 1.3),
	LIBC("write 1 KiB", copy_in, &array, "libc memcpy", libc_in, 1.3),
	LIBC("read 256 elements of 2 bytes", elements_out, &half, "libc memcpy", libc_out, 0),
	LIBC("write 256 elements of 2 bytes", elements_in, &half, "libc memcpy", libc_in, 0),
	LIBC("copy 10 KiB in the guest", copy_inside, NULL, "libc memmove", libc_inside, 1.05),
	LIBC("read 64 KiB", copy_out, &sixty_four, "libc memcpy", libc_out, 1.05),
	LIBC("write 64 KiB", copy_in, &sixty_four, "libc memcpy", libc_in, 1.05),
	LIBC("read 1 MiB", copy_out, &one_mib, "libc memcpy", libc_out, 1.05),
	LIBC("write 1 MiB", copy_in, &one_mib, "libc memcpy", libc_in, 1.05),
	LIBC("read 16 MiB", copy_out, &sixteen_mib, "libc memcpy", libc_out, 1.05),
	LIBC("write 16 MiB", copy_in, &sixteen_mib, "libc memcpy", libc_in, 1.05),
	PEER("read 64 KiB", copy_out, &sixty_four, "peer_read_large", 1.0, 0),
	PEER("write 64 KiB", copy_in, &sixty_four, "peer_write_large", 1.0, 2220),
	PEER("read 16 MiB", copy_out, &sixteen_mib, "peer_read_large", 1.0, 0),
	PEER("write 16 MiB", copy_in, &sixteen_mib, "peer_write_large", 1.0, 0),
	PEER("find_region", find_regions, NULL, "peer_find_region", 0.25, 4549),
	PEER("find_region, by gm_view_check", check_regions, NULL, "peer_find_region", 1.0, 4549),
	PEER("find_region, described by the space", describe_regions, NULL, "peer_find_region", 0, 4549),
	PEER("get_host_address", host_address, NULL, "peer_get_host_address", 0.25, 6.2),
	PEER("check_range of 4 KiB", check_range, NULL, "peer_check_range", 1.0, 11),
	PEER("get_slice of 4 KiB, with the hold on it", pin, &pinner, "peer_get_slice", 0, 0),
	{.name = "guest address of a host address", .ours = guest_address, .against = "limit", .limit_ns = 50},
};
/* clang-format on */

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	set_up();
	bench_rows(rows, sizeof(rows) / sizeof(*rows));
	return bench_end();
}
