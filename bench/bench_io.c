/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_io.c - 512 bytes from and to buffers and files, against vm-memory, libc and the bare call.
 *
 * usage: bench_io [--json FILE] [--peer LIBRARY]
 *
 * The rows against vm-memory have the names of its own measurements. A transfer here begins and ends
 * a section and pins the memory, so that it may take as long as it likes; theirs goes to a map that
 * never changes.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_places.h"

/* In its page where no place is in its own: addresses that are alike in the low bits cost time. */
static uint8_t buffer_page[4096] __attribute__((aligned(4096)));
static uint8_t *const buffer = buffer_page + 2048;
static int zero_fd;
static int null_fd;
static struct gm_stream zero;
static struct gm_stream null;

static void must(bool good)
{
	if (!good)
		abort();
}

/* ---- buffers ---- */

static void read_buffer(const struct place *place, uint64_t iters, uint32_t flags)
{
	for (uint64_t i = 0; i < iters; i++) {
		struct gm_stream stream;
		size_t done;

		gm_stream_init_source(&stream, buffer, 512);
		must(gm_stream_read(&stream, places_reader, place->gpa, place->len, flags, &done) ==
				0 &&
			done == place->len);
	}
}

static void read_some(void *ctx, uint64_t iters)
{
	read_buffer(ctx, iters, 0);
}

static void read_exact(void *ctx, uint64_t iters)
{
	read_buffer(ctx, iters, GM_STREAM_EXACT);
}

static void write_buffer(const struct place *place, uint64_t iters, uint32_t flags)
{
	for (uint64_t i = 0; i < iters; i++) {
		struct gm_stream stream;
		size_t done;

		gm_stream_init_buffer(&stream, buffer, 512);
		must(gm_stream_write(
			     &stream, places_reader, place->gpa, place->len, flags, &done) == 0 &&
			done == place->len);
	}
}

static void write_some(void *ctx, uint64_t iters)
{
	write_buffer(ctx, iters, 0);
}

static void write_exact(void *ctx, uint64_t iters)
{
	write_buffer(ctx, iters, GM_STREAM_EXACT);
}

static void libc_in(void *ctx, uint64_t iters)
{
	const struct place *place = ctx;
	void *(*volatile call)(void *, const void *, size_t) = memcpy;

	for (uint64_t i = 0; i < iters; i++)
		call(place->raw, buffer, place->len);
}

static void libc_out(void *ctx, uint64_t iters)
{
	const struct place *place = ctx;
	void *(*volatile call)(void *, const void *, size_t) = memcpy;

	for (uint64_t i = 0; i < iters; i++)
		call(buffer, place->raw, place->len);
}

/* ---- files ---- */

static void read_file(void *ctx, uint64_t iters)
{
	const struct place *place = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		size_t done;

		must(gm_stream_read(&zero, places_reader, place->gpa, place->len, 0, &done) == 0 &&
			done == place->len);
	}
}

static void write_file(void *ctx, uint64_t iters)
{
	const struct place *place = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		size_t done;

		must(gm_stream_write(&null, places_reader, place->gpa, place->len, 0, &done) == 0 &&
			done == place->len);
	}
}

/* The regions lie side by side, so one call does for a place across two as well. */
static void bare_read(void *ctx, uint64_t iters)
{
	const struct place *place = ctx;

	for (uint64_t i = 0; i < iters; i++)
		must(read(zero_fd, place->raw, place->len) == (ssize_t)place->len);
}

static void bare_write(void *ctx, uint64_t iters)
{
	const struct place *place = ctx;

	for (uint64_t i = 0; i < iters; i++)
		must(write(null_fd, place->raw, place->len) == (ssize_t)place->len);
}

/* clang-format off */
static const struct bench_row rows[] = {
	AGAINST_PEER("read_from_", 512, read_some, "peer_read_from", 1.0, 78, 96, 107, 78),
	AGAINST_PEER("read_exact_from_", 512, read_exact, "peer_read_exact_from", 1.0, 73, 96, 98, 89),
	AGAINST_PEER("write_to_", 512, write_some, "peer_write_to", 1.0, 74, 130, 115, 97),
	AGAINST_PEER("write_exact_to_", 512, write_exact, "peer_write_all_to", 1.0, 77, 110, 112, 82),
	AGAINST_PEER("read_from_file_", 512, read_file, "peer_read_from_file", 1.05, 290, 473, 682, 265),
	AGAINST_PEER("write_to_file_", 512, write_file, "peer_write_to_file", 1.05, 210, 404, 419, 228),
	AGAINST_BARE("buffer to 512 bytes at ", 512, read_some, "libc memcpy", libc_in, 0),
	AGAINST_BARE("512 bytes to buffer at ", 512, write_some, "libc memcpy", libc_out, 0),
	AGAINST_BARE("/dev/zero to 512 bytes at ", 512, read_file, "bare call", bare_read, 1.05),
	AGAINST_BARE("512 bytes to /dev/null at ", 512, write_file, "bare call", bare_write, 1.05),
};
/* clang-format on */

int main(int argc, char **argv)
{
	struct gm_error err;

	bench_begin(argc, argv);
	places_make();
	zero_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	bench_need(zero_fd >= 0 && null_fd >= 0, "/dev/zero, /dev/null", NULL);
	bench_need(gm_stream_init_fd(&zero, zero_fd, &err) == 0, "/dev/zero", err.text);
	bench_need(gm_stream_init_fd(&null, null_fd, &err) == 0, "/dev/null", err.text);
	bench_rows(rows, sizeof(rows) / sizeof(*rows));
	return bench_end();
}
