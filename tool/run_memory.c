/* SPDX-License-Identifier: BSD-3-Clause */
/* run_memory.c - see run_memory.h. */
#include "run_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../payload/abi.h"
#include "tool.h"

#define GIB (UINT64_C(1) << 30)
#define PAGE UINT64_C(4096)
#define SIZE_MAX_BYTES (UINT64_C(1) << 45)

static uint64_t round_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) / to * to;
}

/* Room for the machine's own regions behind the memory: page tables above all. */
static uint64_t room_for_tables(uint64_t size)
{
	return round_up(size / 256 + GIB, GIB) + GIB;
}

static bool open_data(const char *path, int *ret_fd, uint64_t *ret_len)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0) {
		tool_error("%s: %s", path, strerror(errno));
	} else if (!S_ISREG(st.st_mode) || st.st_size == 0) {
		tool_error("%s: %s", path, S_ISREG(st.st_mode) ? "is empty" : "is no regular file");
	} else {
		*ret_fd = fd;
		*ret_len = (uint64_t)st.st_size;
		return true;
	}
	if (fd >= 0)
		close(fd);
	return false;
}

static bool load_data(struct run_memory *m, const char *path, int fd)
{
	struct gm_load_place place = {
		.size = sizeof(place), .flags = GM_LOAD_AT, .first = m->data_gpa};
	struct gm_region_info info = {.size = sizeof(info)};
	struct gm_loaded loaded = {.len = m->data_len};
	struct gm_error err;

	if (!run_memory_add(m, m->data_gpa, round_up(m->data_len, PAGE), "run-data"))
		return false;
	place.max_len = m->data_len;
	if (fd >= 0 && gm_load_file(m->reader, fd, &place, &loaded, &err) < 0) {
		tool_error("%s: %s", path, err.text);
		return false;
	}
	m->data_len = loaded.len;
	if (gm_space_next(m->space, m->data_gpa, &info) == 0)
		m->data_hva = (uintptr_t)info.hva;
	return true;
}

bool run_memory_look(struct run_memory *m)
{
	struct gm_region_info info = {.size = sizeof(info)};

	m->info.size = sizeof(m->info);
	if (gm_space_next(m->space, m->gpa, &info) < 0 || gm_block_info(info.block, &m->info) < 0)
		return false;
	m->hva = (uintptr_t)info.hva;
	if (m->data_len && gm_space_next(m->space, m->data_gpa, &info) == 0)
		m->data_hva = (uintptr_t)info.hva;
	return true;
}

static bool add_measured(struct run_memory *m, const struct run_memory_opts *o)
{
	struct gm_block_opts backing = {
		.size = sizeof(backing),
		.len = o->size,
		.backing = o->backing.backing,
		.path = o->backing.path,
		.flags = (o->share ? GM_BLOCK_SHARE : 0) |
			 (o->populate && !o->behind ? GM_BLOCK_POPULATE : 0) |
			 (o->backing.path ? GM_BLOCK_CREATE : 0),
		.reserve = o->pages.sparse ? GM_RESERVE_NONE : GM_RESERVE_DEFAULT,
		.fd = -1,
		.name = "run-memory",
		.numa = o->numa,
	};
	struct gm_region_desc desc = {
		.size = sizeof(desc), .gpa = m->gpa, .backing = &backing, .name = "memory"};
	struct gm_error err;

	memcpy(backing.pages, o->pages.choices, sizeof(backing.pages));
	if (gm_space_add(m->space, &desc, NULL, &err) < 0) {
		tool_error("memory of %llu bytes: %s", (unsigned long long)o->size, err.text);
		return false;
	}
	return run_memory_look(m);
}

/* Some advice of the library's is of names that a user of this command cannot say; a limit he can. */
void run_memory_words(char *text)
{
	static const char limit[] = "(ulimit -v)";
	char *at = text;

	while ((at = strchr(at, '('))) {
		char *end = strchr(at, ')');
		size_t len = end ? (size_t)(end + 1 - at) : strlen(at);

		if (!memmem(at, len, "GM_", 3) && !memmem(at, len, "gpa_limit", 9)) {
			at += len;
			continue;
		}
		if (memmem(at, len, "RLIMIT_AS", 9) && len >= sizeof(limit)) {
			memcpy(at, limit, sizeof(limit) - 1);
			at += sizeof(limit) - 1;
			len -= sizeof(limit) - 1;
		} else if (at > text && at[-1] == ' ') {
			at--;
			len++;
		}
		memmove(at, at + len, strlen(at + len) + 1);
	}
}

bool run_memory_space(struct run_memory *m, uint64_t size)
{
	struct gm_space_opts opts = {.size = sizeof(opts),
		.gpa_limit = m->free_gpa + room_for_tables(size),
		.name = "guestmem-run"};
	struct gm_error err;

	if (gm_space_create(&opts, &m->space, &err) < 0 ||
		gm_reader_create(m->space, "run", &m->reader, &err) < 0) {
		run_memory_words(err.text);
		tool_error("run: %s", err.text);
		return false;
	}
	return true;
}

bool run_memory_init(struct run_memory *m, const struct run_memory_opts *o)
{
	double begun = tool_now();
	int fd = -1;
	bool well;

	*m = (struct run_memory){.gpa = RUN_MEMORY_GPA, .len = o->size};
	if (o->size > SIZE_MAX_BYTES) {
		tool_error("--size: %llu is more than a guest can have (32T)",
			(unsigned long long)o->size);
		return false;
	}
	if (o->data && !open_data(o->data, &fd, &m->data_len))
		return false;
	if (!o->data)
		m->data_len = o->data_len;
	m->data_gpa = m->data_len ? m->gpa + round_up(o->size, GIB) : 0;
	m->free_gpa = m->gpa + round_up(o->size, GIB) + round_up(m->data_len, GIB);
	well = m->data_len <= SIZE_MAX_BYTES && run_memory_space(m, o->size) &&
	       add_measured(m, o) && (!m->data_len || load_data(m, o->data, fd));
	if (fd >= 0)
		close(fd);
	m->seconds = tool_now() - begun;
	return well;
}

void run_memory_fini(struct run_memory *m)
{
	gm_reader_destroy(m->reader);
	gm_space_destroy(m->space);
	*m = (struct run_memory){0};
}

bool run_memory_add(struct run_memory *m, uint64_t gpa, uint64_t len, const char *name)
{
	struct gm_block_opts backing = {.size = sizeof(backing),
		.len = len,
		.pages = {{GM_PAGE_BASE, 0}},
		.reserve = GM_RESERVE_NONE,
		.fd = -1,
		.name = name};
	struct gm_region_desc desc = {
		.size = sizeof(desc), .gpa = gpa, .backing = &backing, .name = name};
	struct gm_error err;

	if (gm_space_add(m->space, &desc, NULL, &err) == 0)
		return true;
	tool_error("%s: %s", name, err.text);
	return false;
}

bool run_memory_write(
	struct run_memory *m, uint64_t gpa, const void *from, size_t len, const char *what)
{
	const struct gm_view *view = gm_reader_enter(m->reader);
	int rc = gm_write(view, gpa, from, len, NULL);

	gm_reader_leave(m->reader);
	if (rc < 0)
		tool_error("%s at 0x%llx: %s", what, (unsigned long long)gpa, strerror(-rc));
	return rc == 0;
}

bool run_memory_read(struct run_memory *m, uint64_t gpa, void *to, size_t len, const char *what)
{
	const struct gm_view *view = gm_reader_enter(m->reader);
	int rc = gm_read(view, gpa, to, len, NULL);

	gm_reader_leave(m->reader);
	if (rc < 0)
		tool_error("%s at 0x%llx: %s", what, (unsigned long long)gpa, strerror(-rc));
	return rc == 0;
}
