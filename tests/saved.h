/* SPDX-License-Identifier: BSD-3-Clause */
/* saved.h - what the tests of saved memory share: memory of all sorts of pages, and a directory. */
#ifndef GM_TESTS_SAVED_H
#define GM_TESTS_SAVED_H

#include <errno.h>
#include <fcntl.h>
#include <guestmem/snapshot.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault.h"
#include "random.h"
#include "support.h"

#define PAGE UINT64_C(4096)

enum sort { HOLE, ZEROS, TEXT, NOISE, SORTS };

static char dir[64];

static inline int make_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/gm-saved-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

/* For tests that make files durable a thousand times. */
static inline int make_fast_dir(void **state)
{
	(void)state;
	strcpy(dir, "/dev/shm/gm-saved-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static inline const char *in_dir(const char *name)
{
	static char paths[4][128];
	static unsigned int next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static inline int remove_dir(void **state)
{
	static const char *const names[] = {"a", "b", "c", ".a.part", ".b.part", ".c.part"};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlink(in_dir(names[i]));
	return rmdir(dir);
}

static inline bool is_there(const char *name)
{
	struct stat st;

	return lstat(in_dir(name), &st) == 0;
}

static inline void fill_page(uint8_t *page, enum sort sort, struct rng *rng)
{
	memset(page, 0, PAGE);
	for (size_t i = 0; i < PAGE && sort >= TEXT; i += 8) {
		uint64_t word = sort == TEXT ? rng_below(rng, 4) : rng_next(rng);

		memcpy(page + i, &word, 8);
	}
	if (sort == TEXT)
		page[0] = 1;
}

/* A memfd of @nr pages, random sorts in runs; @copy gets what is in it. */
static inline int random_memory(struct rng *rng, uint8_t *copy, size_t nr)
{
	int fd = memfd_create("memory", MFD_CLOEXEC);
	enum sort sort = HOLE;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)(nr * PAGE)), 0);
	memset(copy, 0, nr * PAGE);
	for (size_t i = 0; i < nr; i++) {
		if (rng_below(rng, 3) == 0)
			sort = (enum sort)rng_below(rng, SORTS);
		if (sort == HOLE)
			continue;
		fill_page(copy + i * PAGE, sort, rng);
		assert_int_equal(pwrite(fd, copy + i * PAGE, PAGE, (off_t)(i * PAGE)), PAGE);
	}
	return fd;
}

#define OPTS(...) GM_OPTS(gm_snapshot_opts, __VA_ARGS__)

#endif
