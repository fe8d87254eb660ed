/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * newfile.h - a file that appears under its name whole, or not at all.
 *
 * It is written beside its target under a name of its own, locked, made durable, and then takes the target's place. A
 * process that is killed leaves at most that other file, which the next one to write there removes as nobody
 * locks it.
 */
#ifndef GM_SERVICES_NEWFILE_H
#define GM_SERVICES_NEWFILE_H

#include <guestmem/error.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

struct gm_newfile {
	int dir;
	int fd;
	uint64_t limit; /* RLIMIT_FSIZE */
	bool direct;    /* past the page cache */
	const char *path;
	char name[NAME_MAX + 1];
	char temp[NAME_MAX + 1];
};

/*
 * Begins, with @path borrowed. 0, -EBUSY (another one writes there), -EISDIR, -EEXIST (what is there is neither file
 * nor link), -ENAMETOOLONG, or what a system call failed with.
 */
int gm_newfile_begin(struct gm_newfile *file, const char *path, struct gm_error *err);
/*
 * From here on what is written goes past the page cache where the file system can, as long as it is whole pages from
 * memory that is aligned to them; the first that is not ends it.
 */
void gm_newfile_direct(struct gm_newfile *file);
/* All of it, or an error. */
int gm_newfile_write(
	struct gm_newfile *file, const void *bytes, size_t len, uint64_t at, struct gm_error *err);
/* Makes it durable and gives it its name; in either case it has ended. */
int gm_newfile_publish(struct gm_newfile *file, struct gm_error *err);
/* Is what @path names now the file of @fd? False also if it cannot be looked at. */
bool gm_newfile_is(const char *path, int fd);
/* Removes it. */
void gm_newfile_drop(struct gm_newfile *file);

#endif
