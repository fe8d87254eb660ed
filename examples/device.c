/* SPDX-License-Identifier: BSD-3-Clause */
/* device.c - a device gets the memory over the socket on fd 0 and serves a request in it. */
#include <guestmem/guestmem.h>
#include <stdio.h>

struct request {
	uint64_t addr;
	uint32_t len, done;
};

int main(void)
{
	struct gm_space *space;
	struct gm_reader *reader;
	struct gm_error err = {.text = "cannot install the fault guard"};
	struct request req;

	if (gm_guard_install() || gm_layout_recv(0, NULL, &space, &err) ||
		gm_reader_create(space, "device", &reader, &err))
		return fprintf(stderr, "device: %s\n", err.text), 1;
	const struct gm_view *view = gm_reader_enter(reader);
	int rc = gm_read_obj(view, 0x1000, &req); /* one copy: the guest may change it meanwhile */
	size_t done = 0;

	if (!rc)
		rc = gm_fill(view, req.addr, 0x5a, req.len, &done);
	gm_write_le32(view, 0x1000 + offsetof(struct request, done), (uint32_t)done);
	gm_reader_leave(reader);
	gm_reader_destroy(reader);
	gm_space_destroy(space);
	return rc != 0;
}
