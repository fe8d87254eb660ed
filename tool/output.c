/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * output.c - files for results.
 *
 * A result that replaces a file, or makes one, is written beside it and takes its name when it is
 * whole: whatever goes wrong before leaves the old one. What is no regular file (a pipe, a
 * device), has another name as well, is reached through a link, belongs to somebody else, or stands
 * in a directory that may not be written is written in place.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tool.h"

static bool failed_at(struct tool_output *out, int error)
{
	/* The first reason is the one that counts. */
	if (!out->failed)
		tool_error("%s: %s", out->path, strerror(error ? error : EIO));
	out->failed = true;
	return false;
}

bool tool_output_failed(struct tool_output *out, int error)
{
	if (out->file != stdout)
		return failed_at(out, error);
	tool_stdout_failed(error);
	return false;
}

/* A new file in the directory of the path; its name is in out->beside. -1 with errno. */
static int make_beside(struct tool_output *out)
{
	int fd;

	out->beside = tool_printf("%s.XXXXXX", out->path);
	fd = mkostemp(out->beside, O_CLOEXEC);
	if (fd >= 0)
		return fd;
	free(out->beside);
	out->beside = NULL;
	return -1;
}

static void drop_beside(struct tool_output *out)
{
	unlink(out->beside);
	free(out->beside);
	out->beside = NULL;
}

/* Can the result take the place of what has the name now? */
static bool can_replace(struct tool_output *out)
{
	struct stat st;
	int fd;

	if (lstat(out->path, &st) == 0) {
		if (!S_ISREG(st.st_mode) || st.st_nlink != 1 ||
			(geteuid() != 0 && st.st_uid != geteuid()))
			return false;
		fd = open(out->path, O_WRONLY | O_CLOEXEC);
		if (fd < 0)
			return false;
		close(fd);
	} else if (errno != ENOENT) {
		return false;
	}
	fd = make_beside(out);
	if (fd < 0)
		return false;
	close(fd);
	drop_beside(out);
	return true;
}

static bool open_in_place(struct tool_output *out)
{
	int fd = open(out->path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT) {
		fd = open(out->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		out->fresh = fd >= 0;
	}
	/* A link to a file that is not there. */
	if (fd < 0 && errno == EEXIST)
		fd = open(out->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	out->file = fd < 0 ? NULL : fdopen(fd, "w");
	if (out->file)
		return true;
	tool_error("%s: %s", out->path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return false;
}

bool tool_output_open(struct tool_output *out, const char *path, bool stream)
{
	bool well = true;

	*out = (struct tool_output){.path = path};
	if (strcmp(path, "-") == 0)
		out->file = stdout;
	else if (stream || !can_replace(out))
		well = open_in_place(out);
	if (!well)
		*out = (struct tool_output){0};
	return well;
}

/* Owner and rights of the file that is replaced, or those of a new one. */
static void dress(const struct tool_output *out, int fd)
{
	struct stat st;
	mode_t mask;

	if (stat(out->path, &st) == 0) {
		if (fchown(fd, st.st_uid, st.st_gid))
			st.st_mode &= 0777; /* it is ours from now on */
		fchmod(fd, st.st_mode & 07777);
		return;
	}
	mask = umask(0);
	umask(mask);
	fchmod(fd, 0666 & ~mask);
}

FILE *tool_output_begin(struct tool_output *out)
{
	if (!out->file) {
		int fd = make_beside(out);

		out->file = fd < 0 ? NULL : fdopen(fd, "w");
		if (!out->file) {
			failed_at(out, errno);
			if (fd >= 0) {
				close(fd);
				drop_beside(out);
			}
			return NULL;
		}
		dress(out, fd);
	} else if (out->file != stdout && !out->begun && ftruncate(fileno(out->file), 0)) {
		/* A pipe or a device cannot be cut, and need not be. */
		clearerr(out->file);
	}
	out->begun = true;
	return out->file;
}

bool tool_output_close(struct tool_output *out)
{
	bool well = !out->failed;

	if (out->file && out->file != stdout && fclose(out->file))
		well = failed_at(out, errno);
	if (out->beside && well && rename(out->beside, out->path))
		well = failed_at(out, errno);
	if (out->beside && !well)
		unlink(out->beside);
	if (out->fresh && (!out->begun || !well))
		unlink(out->path);
	free(out->beside);
	*out = (struct tool_output){0};
	return well;
}

/* The directory that a name stands in, and the name in it. */
static bool stat_directory(const char *path, struct stat *ret, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	char *directory =
		slash ? tool_printf("%.*s/", (int)(slash - path), path) : tool_strdup(".");
	bool well = stat(directory, ret) == 0;

	free(directory);
	*ret_name = slash ? slash + 1 : path;
	return well;
}

bool tool_outputs_clash(const char *a, const char *b)
{
	const char *name_a;
	const char *name_b;
	struct stat st_a;
	struct stat st_b;
	bool has_a = stat(a, &st_a) == 0;
	bool has_b = stat(b, &st_b) == 0;

	if (has_a != has_b || (has_a && !S_ISREG(st_a.st_mode)))
		return false;
	if (!has_a) {
		if (!stat_directory(a, &st_a, &name_a) || !stat_directory(b, &st_b, &name_b) ||
			strcmp(name_a, name_b) != 0)
			return false;
	}
	return st_a.st_dev == st_b.st_dev && st_a.st_ino == st_b.st_ino;
}
