/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_control.c - a guest's request, by each of the ways that it can come, against the bare madvise in which it ends.
 *
 * usage: bench_control [--json FILE] [--pairs N]
 *
 * What an exit of a guest costs is not in it: that is the KVM's, and the same with both.
 */
#include <guestmem/control_message.h>
#include <guestmem/guestmem.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "bench.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define PAGE UINT64_C(4096)
#define LEN (UINT64_C(4) << 20)
#define PAGES (LEN / PAGE)
#define AT (UINT64_C(16) << 20)
#define BATCH 64u
#define REGISTERS (UINT64_C(1) << 32)
#define PORT UINT64_C(0x600)
#define QUEUE PAGE /* of requests of a batch, in the page behind the buffer's */

struct message {
	uint64_t code;
	uint64_t addr;
	uint64_t len;
	uint64_t arg;
};

/* Who asks, and where its registers are. */
struct door {
	struct gm_reader *reader;
	uint64_t at;
};

static struct gm_space *space;
static struct gm_space *ports;
static struct gm_control *control;
static struct message *buffer;
static struct message *queue;
static uint8_t *memory;
static struct door mmio;
static struct door port;
static uint32_t command;

static void must(bool what)
{
	if (!what)
		abort();
}

static void fill(void *ctx)
{
	(void)ctx;
	must(madvise(memory, LEN, MADV_POPULATE_WRITE) == 0);
}

/* ---- ways to ask: each for @len bytes, @iters times on its own memory ---- */

static void by_call(void *ctx, uint64_t iters)
{
	for (uint64_t i = 0; i < iters; i++) {
		struct gm_control_request req = {.code = GM_CONTROL_DONTNEED,
			.len = *(uint64_t *)ctx,
			.addr = AT + i * *(uint64_t *)ctx};
		struct gm_control_result result = {.size = sizeof(result)};

		must(gm_control_request(control, &req, &result, NULL) == 0);
	}
}

static void ask(uint64_t at, uint64_t len)
{
	*buffer = (struct message){.code = GM_CONTROL_DONTNEED, .addr = AT + at, .len = len};
}

/* The response is in the place of the request; its first word has the errno and the code that was refused. */
static void check_answer(void)
{
	must(buffer->code == 0);
}

static void by_message(void *ctx, uint64_t iters)
{
	uint64_t len = *(uint64_t *)ctx;

	for (uint64_t i = 0; i < iters; i++) {
		ask(i * len, len);
		must(gm_control_message(control, 0) == 0);
		check_answer();
	}
}

static void write_register(const struct door *door, uint64_t off, const void *value, size_t size)
{
	must(gm_write(gm_reader_enter(door->reader), door->at + off, value, size, NULL) == 0);
	gm_reader_leave(door->reader);
}

static void by_door(const struct door *door, uint64_t len, uint64_t iters)
{
	for (uint64_t i = 0; i < iters; i++) {
		ask(i * len, len);
		write_register(door, GM_CONTROL_DOOR_COMMAND, &command, sizeof(command));
		check_answer();
	}
}

static void by_mmio(void *ctx, uint64_t iters)
{
	by_door(&mmio, *(uint64_t *)ctx, iters);
}

static void by_port(void *ctx, uint64_t iters)
{
	by_door(&port, *(uint64_t *)ctx, iters);
}

/* @iters is the number of requests in it. */
static void by_batch(void *ctx, uint64_t iters)
{
	uint64_t len = *(uint64_t *)ctx;

	for (uint64_t i = 0; i < iters; i++)
		queue[i] = (struct message){
			.code = GM_CONTROL_DONTNEED, .addr = AT + i * len, .len = len};
	*buffer = (struct message){
		.code = GM_CONTROL_BATCH, .addr = QUEUE, .len = iters * sizeof(*queue)};
	write_register(&mmio, GM_CONTROL_DOOR_COMMAND, &command, sizeof(command));
	check_answer();
	must(queue[0].code == 0 && queue[iters - 1].code == 0);
}

static void bare(void *ctx, uint64_t iters)
{
	uint64_t len = *(uint64_t *)ctx;

	for (uint64_t i = 0; i < iters; i++)
		must(madvise(memory + i * len, len, MADV_DONTNEED) == 0);
}

/* ---- set-up ---- */

static uint8_t *add(uint64_t gpa, uint64_t len)
{
	struct gm_block_opts opts = {.size = sizeof(opts), .len = len};
	struct gm_region_desc desc = {.size = sizeof(desc), .gpa = gpa, .backing = &opts};
	struct gm_region_info info = {.size = sizeof(info)};
	uint64_t id;

	must(gm_space_add(space, &desc, &id, NULL) == 0);
	must(gm_space_region(space, id, &info) == 0);
	return info.hva;
}

static struct door open_door(struct gm_space *in, struct gm_control_door *control_door, uint64_t at)
{
	struct gm_device_ops ops;
	struct gm_region_desc desc = {.size = sizeof(desc),
		.gpa = at,
		.len = GM_CONTROL_DOOR_LEN,
		.kind = GM_REGION_MMIO,
		.device = &ops};
	struct door door = {.at = at};

	gm_control_door_ops(control_door, &ops);
	must(gm_space_add(in, &desc, NULL, NULL) == 0);
	must(gm_reader_create(in, "bench", &door.reader, NULL) == 0);
	return door;
}

/* As a driver does it: its buffer is at guest address 0. */
static void connect_guest(void)
{
	static const uint32_t commands[] = {
		GM_CONTROL_RESET, GM_CONTROL_REGISTER, GM_CONTROL_READY};
	uint64_t gpa = 0;

	for (uint32_t i = 0; i < 3; i++) {
		write_register(&mmio, GM_CONTROL_DOOR_BUFFER, &gpa, sizeof(gpa));
		write_register(&mmio, GM_CONTROL_DOOR_COMMAND, &commands[i], sizeof(commands[i]));
	}
	command = GM_CONTROL_FIRST_BUFFER;
}

int main(int argc, char **argv)
{
	static uint64_t page = PAGE;
	static uint64_t half = LEN / 2;
	static uint64_t part = LEN / BATCH;
	static uint64_t all = LEN;
	static const struct bench_row rows[] = {
		{"request by call, 2 MiB freed", by_call, &half, "madvise", bare, &half, 0, 1.1,
			.before = fill, .iters = 2},
		{"request by message, 2 MiB freed", by_message, &half, "madvise", bare, &half, 0,
			1.1, .before = fill, .iters = 2},
		{"request by MMIO, 2 MiB freed", by_mmio, &half, "madvise", bare, &half, 0, 1.1,
			.before = fill, .iters = 2},
		{"request by ports, 2 MiB freed", by_port, &half, "madvise", bare, &half, 0, 1.1,
			.before = fill, .iters = 2},
		{"request by message, a page freed", by_message, &page, "madvise", bare, &page, 0,
			0, .before = fill, .iters = PAGES},
		{"request by MMIO, a page freed", by_mmio, &page, "madvise", bare, &page, 0, 0,
			.before = fill, .iters = PAGES},
		{"request by ports, a page freed", by_port, &page, "madvise", bare, &page, 0, 0,
			.before = fill, .iters = PAGES},
		{"queue of 64 requests for 64 KiB each", by_batch, &part, "a madvise for each",
			bare, &part, 0, 1.1, .before = fill, .iters = BATCH},
		{"queue of 64 requests for a page each", by_batch, &page, "a madvise for each",
			bare, &page, 0, 1.1, .before = fill, .iters = BATCH},
	};
	struct gm_control_opts opts = {.size = sizeof(opts), .allow = GM_CONTROL_ALL};
	struct gm_control_door *door;
	uint8_t *system;

	bench_begin(argc, argv);
	must(gm_space_create(NULL, &space, NULL) == 0 && gm_space_create(NULL, &ports, NULL) == 0);
	system = add(0, 2 * PAGE);
	buffer = (struct message *)system;
	queue = (struct message *)(system + QUEUE);
	memory = add(AT, all);
	must(gm_control_create(space, &opts, &control, NULL) == 0);
	must(gm_control_door_create(control, 0, &door, NULL) == 0);
	mmio = open_door(space, door, REGISTERS);
	port = open_door(ports, door, PORT);
	connect_guest();
	bench_rows(rows, sizeof(rows) / sizeof(*rows));
	return bench_end();
}
