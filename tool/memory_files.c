/* SPDX-License-Identifier: BSD-3-Clause */
/* memory_files.c - memory in files of any format, opened by their names. */
#include "snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tool.h"

bool memory_format(const char *word, uint32_t *ret)
{
	for (uint32_t format = GM_MEMFILE_SAVED; format <= GM_MEMFILE_MAPPED_RAM; format++) {
		if (strcmp(word, memory_format_name(format)) == 0) {
			*ret = format;
			return true;
		}
	}
	return false;
}

const char *memory_format_name(uint32_t format)
{
	static const char *const names[] = {
		[GM_MEMFILE_ANY] = "any",
		[GM_MEMFILE_SAVED] = "saved",
		[GM_MEMFILE_RAW] = "raw",
		[GM_MEMFILE_MAPPED_RAM] = "mapped-ram",
	};

	return names[format];
}

const char *memory_names(const char *const *paths, size_t nr, char *buf, size_t room)
{
	size_t len = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < nr && len < room; i++)
		len += (size_t)snprintf(buf + len, room - len, "%s%s", i ? ", " : "", paths[i]);
	return buf;
}

struct gm_memfile *memory_open(
	const char *const *paths, size_t nr, const struct gm_memfile_opts *opts)
{
	int fds[GM_MEMFILE_FILES_MAX] = {0};
	struct gm_memfile *memory = NULL;
	struct gm_error err;
	char names[512];
	size_t opened = 0;

	for (; opened < nr; opened++) {
		fds[opened] = open(paths[opened], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (fds[opened] < 0) {
			tool_error("%s: %s", paths[opened], strerror(errno));
			break;
		}
	}
	if (opened == nr && gm_memfile_open(fds, nr, opts, &memory, &err))
		tool_error("%s: %s", memory_names(paths, nr, names, sizeof(names)), err.text);
	while (opened--)
		close(fds[opened]);
	return memory;
}
