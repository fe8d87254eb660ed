/* SPDX-License-Identifier: BSD-3-Clause */
/* device.c - a device gets the memory over the socket on fd 0 and serves a request in it. */
#include <guestmem/guestmem.h>
#include <stdio.h>

int main(void)
{
	uint64_t req[2]; /* address, length */
	struct gm_space *space;
	struct gm_reader *reader;
	struct gm_error err = {.text = "cannot install the fault guard"};

	if (gm_guard_install() || gm_layout_recv(0, NULL, &space, &err) ||
		gm_reader_create(space, "device", &reader, &err))
		return fprintf(stderr, "device: %s\n", err.text), 1;
	const struct gm_view *view = gm_reader_enter(reader);
	/* One copy of the request: the guest may change it meanwhile. */
	int bad = gm_read_object(view, 0x1000, &req) || gm_fill(view, req[0], 0x5a, req[1], NULL);
	gm_write_u64(view, 0x1010, bad ? 0 : req[1]);
	gm_reader_leave(reader);
	gm_reader_destroy(reader);
	gm_space_destroy(space);
	return bad;
}
