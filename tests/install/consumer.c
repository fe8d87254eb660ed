/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * consumer.c - a program of somebody else: valid C11 and C++17, knows the installed headers only.
 * scripts/check-install compiles it in every way that the package offers.
 */
#include <guestmem/guestmem.h>
#include <stdio.h>
#include <string.h>

static int fail(const char *what)
{
	printf("consumer: %s\n", what);
	return 1;
}

int main(void)
{
	static const char text[] = "across two regions";
	const uint64_t gpa = (1u << 20) - 8;
	struct gm_block_opts opts;
	struct gm_region_desc map[2];
	struct gm_space *space;
	struct gm_reader *reader;
	struct gm_error err;
	char back[sizeof(text)];

	memset(&opts, 0, sizeof(opts));
	opts.size = sizeof(opts);
	memset(map, 0, sizeof(map));
	for (int i = 0; i < 2; i++) {
		map[i].size = sizeof(map[i]);
		map[i].gpa = (uint64_t)i << 20;
		map[i].len = 1u << 20;
		map[i].backing = &opts;
	}
	if (gm_space_build(NULL, map, 2, &space, &err) ||
		gm_reader_create(space, "me", &reader, &err))
		return fail(err.text);
	const struct gm_view *view = gm_reader_enter(reader);

	if (gm_write(view, gpa, text, sizeof(text), NULL) || gm_read_object(view, gpa, &back))
		return fail("no access");
	if (memcmp(text, back, sizeof(text)) != 0)
		return fail("other bytes came back");
	if (gm_read_object(view, 2u << 20, &back) == 0)
		return fail("a hole can be read");
	gm_reader_leave(reader);
	gm_reader_destroy(reader);
	gm_space_destroy(space);
	printf("guestmem %s works\n", gm_version());
	return 0;
}
