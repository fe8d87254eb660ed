/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_layout.c - bytes of a peer as a layout. Whatever is accepted gives the same bytes when it is
 * encoded again.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/layout_wire.h"

static void encode(uint8_t *out, const struct gm_wire_head *head, const struct gm_wire_file *files,
	const struct gm_wire_region *regions)
{
	gm_wire_put_head(out, head->nr_regions, head->nr_files);
	out += GM_WIRE_HEAD_SIZE;
	for (uint32_t i = 0; i < head->nr_files; i++, out += GM_WIRE_FILE_SIZE)
		gm_wire_put_file(out, &files[i]);
	for (uint32_t i = 0; i < head->nr_regions; i++, out += GM_WIRE_REGION_SIZE)
		gm_wire_put_region(out, &regions[i]);
}

/*
 * Body and tables have exactly their size on the heap, so that the sanitizer sees a step outside. A
 * body that is cut is filled up with zeros: the receiver asks for all of it before it looks.
 */
static void check_body(const struct gm_wire_head *head, const uint8_t *data, size_t size)
{
	struct gm_wire_file *files = calloc(head->nr_files + 1u, sizeof(*files));
	struct gm_wire_region *regions = calloc(head->nr_regions + 1u, sizeof(*regions));
	size_t len = GM_WIRE_HEAD_SIZE + head->body_len;
	uint8_t *body = calloc(1, head->body_len ? head->body_len : 1u);
	uint8_t *again = malloc(len);
	struct gm_wire_fault fault;

	if (!files || !regions || !again || !body)
		abort();
	size -= GM_WIRE_HEAD_SIZE;
	memcpy(body, data + GM_WIRE_HEAD_SIZE, size < head->body_len ? size : head->body_len);
	if (gm_wire_get_body(head, body, files, regions, &fault) == 0) {
		encode(again, head, files, regions);
		if (memcmp(again, data, GM_WIRE_HEAD_SIZE) != 0 ||
			memcmp(again + GM_WIRE_HEAD_SIZE, body, head->body_len) != 0)
			abort();
	} else if (!fault.field || !fault.what || fault.off >= len) {
		abort();
	}
	free(again);
	free(body);
	free(regions);
	free(files);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gm_wire_head head;
	struct gm_wire_fault fault;

	if (size >= GM_WIRE_HEAD_SIZE && gm_wire_get_head(data, &head, &fault) == 0)
		check_body(&head, data, size);
	return 0;
}
