/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_snapshot.c - saving memory, against a bare loop that writes the same bytes; what is not there costs nothing.
 *
 * usage: bench_snapshot [--json FILE] [--pairs N]
 *
 * Both sides write a new file, make it durable and give it the name of the one before. The directory is in /var/tmp,
 * on a disk; the disk's own noise is in the A/A ratio.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <guestmem/guestmem.h>

#include "bench.h"

#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)
#define NOISE MIB(512)
#define FEW MIB(64)
#define PAIRS "15"

struct guest {
	struct gm_space *space;
	struct gm_reader *reader;
	uint8_t *hva;
	uint32_t codec;
};

static char dir[] = "/var/tmp/gm-bench-XXXXXX";
static char path[64];
static struct gm_error err;

static void make(struct guest *guest, uint64_t len)
{
	struct gm_region_info info = {.size = sizeof(info)};
	uint64_t id;

	bench_need(!gm_space_create(
			   GM_OPTS(gm_space_opts, .gpa_limit = GIB(128)), &guest->space, &err),
		"space", err.text);
	bench_need(!gm_space_add(guest->space,
			   GM_OPTS(gm_region_desc, .backing = GM_OPTS(gm_block_opts, .len = len,
							   .reserve = GM_RESERVE_NONE)),
			   &id, &err),
		"memory", err.text);
	bench_need(!gm_space_region(guest->space, id, &info), "region", NULL);
	guest->hva = info.hva;
}

/* Bytes that nothing makes smaller. */
static void fill(uint8_t *to, uint64_t len)
{
	uint64_t state = 88172645463325252u;

	for (uint64_t i = 0; i < len; i += 8) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		memcpy(to + i, &state, 8);
	}
}

/* Pages of a guest that has run a while: text, counters, pointers. */
static void fill_text(uint8_t *to, uint64_t len)
{
	for (uint64_t i = 0; i < len; i += 8) {
		uint64_t word = (i * 2654435761u >> 7 & 0xff) | UINT64_C(0xffff888000000000);

		memcpy(to + i, &word, 8);
	}
}

static void save(void *ctx, uint64_t iters)
{
	const struct guest *guest = ctx;

	while (iters--)
		bench_need(!gm_snapshot_save(guest->space, NULL, path,
				   GM_OPTS(gm_snapshot_opts, .codec = guest->codec), NULL, &err),
			"save", err.text);
}

static void write_bare(void *ctx, uint64_t iters)
{
	const struct guest *guest = ctx;

	while (iters--) {
		int at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		int fd = openat(at, "bare.part", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

		for (uint64_t off = 0; off < NOISE; off += MIB(4))
			bench_need(write(fd, guest->hva + off, MIB(4)) == (ssize_t)MIB(4), "write",
				NULL);
		bench_need(!fsync(fd) && !renameat(at, "bare.part", at, "bare") && !fsync(at),
			"fsync", NULL);
		close(fd);
		close(at);
	}
}

/* Neither begins while the disk is busy with what came before. */
static void settle(void *ctx)
{
	(void)ctx;
	sync();
}

static uint64_t file_len(void)
{
	struct stat st;

	bench_need(!stat(path, &st), "stat", NULL);
	return (uint64_t)st.st_size;
}

static struct gm_source *read_source;
static uint8_t *read_buf;

static void read_saved(void *ctx, uint64_t iters)
{
	(void)ctx;
	while (iters--) {
		for (uint64_t off = 0; off < FEW; off += MIB(1))
			bench_need(!gm_source_read(read_source, off, read_buf, MIB(1), &err),
				"read", err.text);
	}
}

static void read_bare(void *ctx, uint64_t iters)
{
	const int *fd = ctx;

	while (iters--) {
		for (uint64_t off = 0; off < FEW; off += MIB(1))
			bench_need(
				pread(*fd, read_buf, MIB(1), (off_t)off + 4096) == (ssize_t)MIB(1),
				"pread", NULL);
	}
}

static void open_source(int fd)
{
	struct gm_snapshot *snapshot;

	bench_need(!gm_snapshot_open(fd, &snapshot, &err), "open", err.text);
	bench_need(!gm_snapshot_source(&snapshot, 1, 0, &read_source, &err), "source", err.text);
	gm_snapshot_close(snapshot);
}

int main(int argc, char **argv)
{
	static struct guest noise;
	static struct guest raw;
	static struct guest sparse;
	static struct guest few;
	static struct guest text;
	static int fd;
	static struct bench_row rows[] = {
		{"save 512 MiB of noise, raw", save, &raw, "write + fsync + rename", write_bare,
			&noise, .goal = 1 / 0.9, .before = settle, .iters = 1},
		{"save 512 MiB of noise, best codec", save, &noise, "write + fsync + rename",
			write_bare, &noise, .goal = 1 / 0.9, .before = settle, .iters = 1},
		{"save 64 GiB with 64 MiB in it", save, &sparse, "save 64 MiB", save, &few,
			.goal = 1.25, .before = settle, .iters = 1},
	};
	static const struct bench_row read_row = {"read 64 MiB back, verified", read_saved, NULL,
		"pread", read_bare, &fd, .before = settle, .iters = 1};
	static const struct bench_row zeros_fact = {
		"64 GiB with 64 MiB in it: bytes of file for a byte", .against = "limit",
		.limit_ns = 1.01};
	static const struct bench_row text_fact = {
		"64 MiB of words: bytes of file for a byte", .against = "limit", .limit_ns = 0.5};
	char *more[16];
	int nr = 0;

	/* A sample takes seconds. */
	for (; nr < argc && nr < 13; nr++)
		more[nr] = argv[nr];
	if (argc < 3 || strcmp(argv[argc - 2], "--pairs") != 0) {
		more[nr++] = "--pairs";
		more[nr++] = PAIRS;
	}
	more[nr] = NULL;
	bench_begin(nr, more);
	/* As a monitor has it; without it memory is read by the kernel on our behalf, which costs more. */
	bench_need(!gm_guard_install(), "guard", NULL);
	bench_need(mkdtemp(dir), "directory", NULL);
	snprintf(path, sizeof(path), "%s/saved", dir);
	read_buf = malloc(MIB(1));
	bench_need(read_buf, "memory", NULL);
	make(&noise, NOISE);
	fill(noise.hva, NOISE);
	raw = noise;
	raw.codec = GM_SNAPSHOT_RAW;
	make(&sparse, GIB(64));
	/* In pieces all over it. */
	for (uint64_t i = 0; i < 64; i++)
		fill(sparse.hva + i * GIB(1), MIB(1));
	make(&few, FEW);
	fill(few.hva, FEW);
	make(&text, FEW);
	fill_text(text.hva, FEW);
	bench_rows(rows, sizeof(rows) / sizeof(*rows));
	save(&sparse, 1);
	bench_fact(&zeros_fact, (double)file_len() / (double)FEW);
	save(&text, 1);
	bench_fact(&text_fact, (double)file_len() / (double)FEW);
	save(&few, 1);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	open_source(fd);
	bench_run(&read_row);
	gm_source_destroy(read_source);
	unlink(path);
	snprintf(path, sizeof(path), "%s/bare", dir);
	unlink(path);
	rmdir(dir);
	return bench_end();
}
