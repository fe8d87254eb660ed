/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshot_show.c - saved memory in words and as JSON, progress, signals. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "json.h"
#include "snapshot.h"
#include "tool.h"

static volatile sig_atomic_t stopped;

void saved_progress(const char *what, uint64_t done, uint64_t total)
{
	static double last;
	double now = tool_now();

	if (!isatty(2) || (now - last < 0.2 && done != total))
		return;
	last = now;
	fprintf(stderr, "\r%s: %3.0f %%%s", what,
		total ? 100.0 * (double)done / (double)total : 100.0, done == total ? "\n" : "");
}

static void note_signal(int sig)
{
	stopped = sig;
}

void saved_catch_signals(void)
{
	const struct sigaction act = {.sa_handler = note_signal};

	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGHUP, &act, NULL);
}

bool saved_was_stopped(void)
{
	return stopped != 0;
}

static const char *hex(const uint8_t bytes[16], char text[33])
{
	for (size_t i = 0; i < 16; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return text;
}

static bool is_difference(const struct gm_snapshot_info *info)
{
	static const uint8_t none[16];

	return memcmp(info->base, none, 16) != 0;
}

void saved_show(const char *path, const struct gm_snapshot_info *info)
{
	char memory[TOOL_UNIT_CAP];
	char data[TOOL_UNIT_CAP];
	char stored[TOOL_UNIT_CAP];
	char file[TOOL_UNIT_CAP];
	char name[512];
	char text[33];

	printf("%s: %s of memory in %llu regions, %s of it not zero, stored as %s, file of %s\n",
		tool_escape(path, name, sizeof(name)), tool_bytes(info->len, memory),
		(unsigned long long)info->regions, tool_bytes(info->data, data),
		tool_bytes(info->stored, stored), tool_bytes(info->file_len, file));
	printf("  identity %s\n", hex(info->identity, text));
	if (is_difference(info))
		printf("  a difference from %s\n", hex(info->base, text));
	if (info->lost)
		printf("  %s could not be read when it was saved\n",
			tool_bytes(info->lost, memory));
}

json_t *saved_json(const char *path, const struct gm_snapshot_info *info)
{
	char identity[33];
	char base[33];

	return json_pack("{s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "file",
		tool_json_text(path), "identity", hex(info->identity, identity), "base",
		is_difference(info) ? json_string(hex(info->base, base)) : json_null(), "memory",
		tool_json_number(info->len), "regions", tool_json_number(info->regions), "chunks",
		tool_json_number(info->chunks), "data", tool_json_number(info->data), "stored",
		tool_json_number(info->stored), "raw", tool_json_number(info->raw), "lost",
		tool_json_number(info->lost), "length", tool_json_number(info->file_len));
}

json_t *saved_json_regions(const struct gm_memfile *memory)
{
	const struct gm_snapshot_region *regions;
	json_t *list = json_array();
	size_t nr;

	regions = gm_memfile_regions(memory, &nr);
	for (size_t i = 0; i < nr; i++)
		json_array_append_new(list, json_pack("{s:o, s:o, s:o, s:o, s:o}", "gpa",
						    tool_json_number(regions[i].gpa), "length",
						    tool_json_number(regions[i].len), "offset",
						    tool_json_number(regions[i].off), "page_size",
						    tool_json_number(regions[i].page_size), "name",
						    tool_json_text(regions[i].name)));
	return list;
}
